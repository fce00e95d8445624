// The models that a recipe names, found and opened, each once however often and in whatever spelling it is named.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_ref.h"
#include "merge/recipe.h"

namespace sluice::merge {

struct Parent {
  std::string reference;  // as the recipe writes it, the first time
  std::string path;       // what it was opened by
  Mark mark;
  std::shared_ptr<const checkpoint::Checkpoint> checkpoint;  // null where it could not be opened: an error says why
};

struct Parents {
  std::vector<Parent> all;
  std::vector<size_t> of_model;  // index into `all` of each of the recipe's models; kNone where it could not be found
  size_t base = kNone;           // index of base_model
  static constexpr size_t kNone = static_cast<size_t>(-1);
};

// What a reference within a recipe stands for.
struct FoundReference {
  std::string path;        // to open it by
  std::string identity;    // equal for two spellings of one model
  std::string model_path;  // of model+adapter the model's alone, else `path`
};
// Relative paths: in the recipe's folder, else in the working directory; kRecipe where both exist and differ, or none
// does and the reference has no other meaning. Of model+adapter each part is found alone. kUnsupported for @revision.
Result<FoundReference> FindReference(const std::string& reference, const std::string& recipe_path);

// Adds an error at the model's place for each that cannot be opened. `chain`: recipes that are being opened, this one
// last.
Parents OpenParents(Recipe* recipe, const checkpoint::OpenOptions& options, const std::vector<std::string>& chain);

// A path with links and dots resolved, or as it stands where that fails.
std::string CanonicalPath(const std::string& path);

}  // namespace sluice::merge
