// The parts of a model that its tensors belong to: by its architecture where that is known, else by what the names of
// Hugging Face's models have in common.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/architecture.h"
#include "checkpoint/catalogue.h"

namespace sluice::verify {

using checkpoint::Part;
std::string_view PartName(Part part);  // "embedding", "attention", "mixer", "mlp", "experts", "norms", "head", "other"

// Layers of a model of which the names are all that is known: the first number in a name is its layer's. Of several
// stacks (a vision tower beside a text model) that with the most parameters; nullopt where no name has a number.
std::optional<uint64_t> LayersByNames(const checkpoint::Catalogue& tensors);

class ModelParts {
 public:
  explicit ModelParts(const checkpoint::Architecture* architecture);  // null: by names alone
  Part Of(std::string_view tensor) const;

 private:
  const checkpoint::Architecture* architecture_;
  std::map<std::string, Part, std::less<>> rules_;  // "*" in place of numbers
};

}  // namespace sluice::verify
