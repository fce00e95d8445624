#include "arithmetic/weighted_sum_node.h"

#include <bit>

#include <fmt/format.h>

#include "arithmetic/float_views.h"
#include "base/check.h"
#include "base/units.h"
#include "kernels/task_vectors.h"

namespace sluice::arithmetic {
namespace {

std::string Description(const std::vector<float>& weights, float divisor) {
  std::string text = fmt::format("weighted sum / {:08x}", std::bit_cast<uint32_t>(divisor));
  for (const float weight : weights) text += fmt::format(" {:08x}", std::bit_cast<uint32_t>(weight));
  return text;
}

uint64_t CopiesAt(uint64_t num_inputs) { return RoundUp(num_inputs * sizeof(const float*), 64); }

}  // namespace

WeightedSumNode::WeightedSumNode(std::vector<float> weights, float divisor, std::vector<const graph::Node*> inputs)
    : Node(Description(weights, divisor), quant::F32(), inputs.at(0)->num_elements(), inputs),
      weights_(std::move(weights)),
      divisor_(divisor) {
  SLUICE_CHECK(inputs.size() == weights_.size());
}

uint64_t WeightedSumNode::ScratchBytes() const {
  return CopiesAt(weights_.size()) + (weights_.size() + 1) * kCopyElements * sizeof(float);
}

void WeightedSumNode::Compute(const graph::ComputeArgs& args) const {
  auto** x = reinterpret_cast<const float**>(args.scratch);
  auto* copies = reinterpret_cast<float*>(args.scratch + CopiesAt(weights_.size()));
  float* result_copy = copies + weights_.size() * kCopyElements;
  const bool out_aligned = IsFloatAligned(args.out);
  ForAlignedParts(args.range.size(), out_aligned && AreFloatAligned(args.in), [&](uint64_t first, uint64_t count) {
    for (size_t m = 0; m < weights_.size(); ++m) x[m] = FloatsAt(args.in[m], first, count, copies + m * kCopyElements);
    uint8_t* out = args.out + first * sizeof(float);
    kernels::WeightedSum({x, weights_.size()}, weights_, divisor_, count,
                         out_aligned ? reinterpret_cast<float*>(out) : result_copy);
    if (!out_aligned) std::memcpy(out, result_copy, count * sizeof(float));
  });
}

}  // namespace sluice::arithmetic
