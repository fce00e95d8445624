// One document of a recipe's file, from YAML to a Recipe.
#pragma once

#include "merge/recipe.h"
#include "merge/yaml.h"

namespace sluice::merge {

// Fills all that the document says; what is wrong goes into recipe->diagnostics.
void ReadRecipeDocument(const YamlNode& root, Recipe* recipe);

}  // namespace sluice::merge
