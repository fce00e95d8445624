// ChangeSummary: what the changed tensors of two models have in common: parts, layers, and whether they are a LoRA.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "kernels/unit_distance.h"
#include "verify/model_parts.h"
#include "verify/tensor_diff.h"

namespace sluice::verify {

struct PartChange {
  Part part = Part::kOther;
  uint64_t tensors = 0, changed = 0;  // that both sides have in one shape
  std::vector<uint64_t> layers;       // in which one changed, sorted
  std::vector<std::string> kinds;     // of changed ones: "q_proj", "v_proj"; sorted
};

struct ChangeSummary {
  std::vector<PartChange> parts;  // those that the model has, in the order of Part
  uint64_t layers = 0;            // of the model, by its tensors' names

  // Of changed matrices, those of which a sketch was made, by what was found.
  uint64_t sketched = 0, low = 0, sparse = 0, full = 0, within_rounding = 0;
  uint64_t lowest_rank = 0, highest_rank = 0;  // of those of low rank
  // One sentence about the changes as a whole, or empty: "the changes are of rank 8 on q_proj, v_proj of layers 0-31:
  // a LoRA of rank 8 merged in".
  std::string sentence;

  // Of all tensors together, where they are compared in one encoding; empty where there are several.
  std::string unit_encoding;
  kernels::UnitDistances units;
  uint64_t units_changed = 0;  // changed elements of these tensors
};

// `tensors`: those of A that B has too count for parts; `unequal`: as ComparisonSink gives them.
ChangeSummary SummariseChanges(const checkpoint::Checkpoint& a, const std::vector<TensorDiff>& unequal);

// The first of a name's components that is a number, and the last that is not "weight", "bias" or a number.
std::optional<uint64_t> LayerOf(std::string_view tensor);
std::string KindOfName(std::string_view tensor);
// "0-3, 7, 9-31"; sorted numbers.
std::string RangesText(const std::vector<uint64_t>& numbers);

}  // namespace sluice::verify
