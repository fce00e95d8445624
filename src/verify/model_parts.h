// The parts of a model that its tensors belong to: by the steps of its architecture where that is known, else by what
// the names of Hugging Face's models have in common.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>

#include "checkpoint/architecture.h"

namespace sluice::verify {

enum class Part { kEmbedding, kAttention, kMlp, kExperts, kNorms, kHead, kOther };
inline constexpr std::array<Part, 7> kParts = {Part::kEmbedding, Part::kAttention, Part::kMlp,  Part::kExperts,
                                               Part::kNorms,     Part::kHead,      Part::kOther};
std::string_view PartName(Part part);  // "embedding", "attention", "mlp", "experts", "norms", "head", "other"

// The name with "*" in place of its first component that is a number: of the layer.
std::string LayerPattern(std::string_view name);

class ModelParts {
 public:
  explicit ModelParts(const checkpoint::Architecture* architecture);  // null: by names alone
  Part Of(std::string_view tensor) const;

 private:
  std::map<std::string, Part, std::less<>> rules_;  // "*" in place of the layer's number
};

}  // namespace sluice::verify
