// Which tensor of which parent goes into which tensor of a merge, and what stands in the way.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "merge/diagnostics.h"
#include "merge/method.h"

namespace sluice::merge {

struct MergedModel {
  std::string reference;
  Mark mark;
  std::shared_ptr<const checkpoint::Checkpoint> checkpoint;
  ParameterValues parameters;
};

struct TensorMatch {
  static constexpr uint32_t kCarried = static_cast<uint32_t>(-1);

  checkpoint::Catalogue catalogue;  // of the result, sorted by name
  // [catalogue.size(), 1 + models]: the tensor's index in the owner, then in each model (kCarried: taken from the owner
  // as it is stored).
  std::vector<uint32_t> places;
};

// `owner`'s catalogue (the base's, or the first model's where there is none) is the result's:
//   - a float tensor must be in every model, of the same shape; of the encoding `output`, or the owner's where that is
//   invalid
//   - other tensors, and rotary buffers, are carried from the owner
//   - tensors that the owner lacks are left out, with a warning
//   - a tied model's head is its embedding; an owner whose head is tied has none of its own
// Adds an error at the model's place for what does not fit, a few tensors of each kind by name. Memory: 4 bytes for
// each tensor and model. `models` may contain the owner.
TensorMatch MatchTensors(const MergedModel& owner, std::span<const MergedModel> models, const Method& method,
                         quant::Encoding output, Diagnostics* diagnostics);

}  // namespace sluice::merge
