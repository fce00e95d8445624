#include "merge/recipe.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "io/byte_source.h"
#include "merge/recipe_reader.h"
#include "merge/yaml.h"

namespace sluice::merge {
namespace {

// What a document calls itself, or empty.
std::string NameOf(const YamlNode::Pointer& root) {
  const YamlNode* name = root && root->kind == YamlNode::Kind::kMapping ? root->Find("name") : nullptr;
  return name && name->kind == YamlNode::Kind::kString ? name->text : std::string();
}

// The document that the recipe is of; where none is asked for by name, the one without a name, else the last. Null, and
// an error, where there is none or more than one.
YamlNode::Pointer Choose(const std::vector<YamlNode::Pointer>& documents, Recipe* recipe) {
  YamlNode::Pointer chosen;
  std::vector<std::string>& names = recipe->document_names;
  for (const YamlNode::Pointer& root : documents) {
    const std::string name = NameOf(root);
    if (!name.empty()) {
      if (std::ranges::find(names, name) != names.end()) {
        recipe->diagnostics.AddError(root->mark, fmt::format("a second document is called '{}'", name));
        return nullptr;
      }
      names.push_back(name);
    }
    if (name != recipe->document) continue;
    if (chosen) {
      recipe->diagnostics.AddError(root->mark,
                                   "a second document without a name begins here: give all but one of them a name");
      return nullptr;
    }
    chosen = root;
  }
  if (chosen) return chosen;
  if (recipe->document.empty()) return documents.back();
  recipe->diagnostics.AddError({}, names.empty()
                                       ? fmt::format("no document is called '{}'", recipe->document)
                                       : fmt::format("no document is called '{}'; there {} {}", recipe->document,
                                                     names.size() == 1 ? "is" : "are", fmt::join(names, ", ")));
  return nullptr;
}

}  // namespace

Recipe ParseRecipe(std::string text, std::string path, std::span<const std::string> overrides, std::string name) {
  Recipe recipe(std::move(path));
  recipe.text = std::move(text);
  recipe.overrides.assign(overrides.begin(), overrides.end());
  recipe.document = std::move(name);
  if (recipe.text.size() > kMaxRecipeBytes) {
    recipe.diagnostics.AddError({}, fmt::format("larger than {} bytes: not a recipe", kMaxRecipeBytes));
    return recipe;
  }
  const YamlStream stream = ParseYaml(recipe.text);
  for (const YamlProblem& problem : stream.problems) recipe.diagnostics.AddError(problem.mark, problem.message);
  std::vector<YamlNode::Pointer> documents;
  for (const YamlNode::Pointer& root : stream.documents) {
    if (root->kind != YamlNode::Kind::kNull) documents.push_back(root);
  }
  if (documents.empty()) {
    if (stream.problems.empty()) recipe.diagnostics.AddError({1, 1}, "the recipe is empty");
    return recipe;
  }
  YamlNode::Pointer root = Choose(documents, &recipe);
  if (!root) return recipe;
  for (const std::string& assignment : recipe.overrides) {
    const size_t equals = assignment.find('=');
    std::string message = "want key=value, parameters.density=0.5 for instance";
    YamlNode::Pointer changed;
    if (equals != std::string::npos) {
      changed = WithOverride(root, assignment.substr(0, equals), assignment.substr(equals + 1), &message);
    }
    if (changed) {
      root = std::move(changed);
    } else {
      recipe.diagnostics.AddError({}, fmt::format("--set {}: {}", assignment, message));
    }
  }
  ReadRecipeDocument(*root, &recipe);
  return recipe;
}

RecipeReference SplitDocument(const std::string& reference) {
  std::error_code error;
  const size_t hash = reference.rfind('#');
  if (hash == std::string::npos || std::filesystem::exists(reference, error)) return {reference, {}};
  return {reference.substr(0, hash), reference.substr(hash + 1)};
}

Result<Recipe> ReadRecipe(const std::string& path, std::span<const std::string> overrides, std::string document) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    return Fail(ErrorCode::kNotFound, fmt::format("{}: no such recipe", path));
  }
  if (std::filesystem::is_directory(status)) {
    return Fail(
        ErrorCode::kRecipe,
        fmt::format("{} is a folder, not a recipe: a merge is described by a .yml file that names its models", path));
  }
  if (path.ends_with(".safetensors") || path.ends_with(".gguf") || path.ends_with(".safetensors.index.json")) {
    return Fail(
        ErrorCode::kRecipe,
        fmt::format("{} is a model, not a recipe: a merge is described by a .yml file that names its models", path));
  }
  const uint64_t size_bytes = std::filesystem::file_size(path, error);
  if (!error && size_bytes > kMaxRecipeBytes) {
    return Fail(ErrorCode::kRecipe, fmt::format("{} has {} bytes: too large for a recipe, which may have {}", path,
                                                size_bytes, kMaxRecipeBytes));
  }
  SLUICE_ASSIGN(std::string text, io::ReadWholeFile(path, kMaxRecipeBytes));
  return ParseRecipe(std::move(text), path, overrides, std::move(document));
}

}  // namespace sluice::merge
