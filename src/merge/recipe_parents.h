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
  std::vector<checkpoint::SideFile> side_files;              // its own; of a GGUF also the tokenizer in it
};

struct Parents {
  std::vector<Parent> all;
  // Indices into `all`; kNone where it could not be found, or is not given.
  std::vector<std::vector<size_t>> of_source;  // of each slice's sources
  std::vector<size_t> base_of_slice;           // its own base_model
  size_t base = kNone;                         // base_model
  size_t tokenizer = kNone;                    // the model whose tokenizer the recipe names
  std::vector<size_t> of_token;                // of each of the tokenizer's rules
  static constexpr size_t kNone = static_cast<size_t>(-1);
};

// What a reference within a recipe stands for.
struct FoundReference {
  std::string path;      // to open it by
  std::string identity;  // equal for two spellings of one model
};
// The name of another document of the recipe's file is that document. Relative paths: in the recipe's folder, else in
// the working directory; kRecipe where both exist and differ, or none does and the reference has no other meaning. Of
// model+adapter each part is found alone. Of @revision only models of the hub cache have one.
Result<FoundReference> FindReference(const std::string& reference, const Recipe& recipe);

// Adds an error at the model's place for each that cannot be opened, a warning where a tokenizer cannot be read.
Parents OpenParents(Recipe* recipe, const checkpoint::OpenOptions& options);

// A path with links and dots resolved, or as it stands where that fails.
std::string CanonicalPath(const std::string& path);

}  // namespace sluice::merge
