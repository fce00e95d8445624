#include "arithmetic/combination_node.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "arithmetic/float_views.h"
#include "base/check.h"
#include "kernels/combination.h"

namespace sluice::arithmetic {
namespace {

std::vector<const graph::Node*> WithBase(const graph::Node* base, std::vector<const graph::Node*> x) {
  if (base != nullptr) x.insert(x.begin(), base);
  return x;
}

}  // namespace

CombinationNode::CombinationNode(const graph::Node* base, const std::vector<const graph::Node*>& x,
                                 const Vectors& vectors, const Combination& combination)
    : Node(fmt::format("combination {} {} {} {}", base != nullptr, static_cast<int>(vectors.kind), vectors.columns,
                       combination.description),
           quant::F32(), x.at(0)->num_elements(), WithBase(base, x)),
      has_base_(base != nullptr),
      num_models_(x.size()),
      vectors_(vectors) {
  AddFact(std::make_unique<GramFact>(base, x, vectors, combination));
}

// Copies of the inputs and of the result, pointers to arrays and to factors.
uint64_t CombinationNode::ScratchBytes() const {
  return (inputs().size() + 1) * kCopyElements * sizeof(float) + 2 * inputs().size() * sizeof(void*);
}

void CombinationNode::Compute(const graph::ComputeArgs& args) const {
  const size_t num_inputs = inputs().size(), first_model = has_base_ ? 1 : 0;
  auto* const arrays = reinterpret_cast<const float**>(args.scratch);
  auto* const of_models = reinterpret_cast<const double**>(arrays + num_inputs);
  auto* const copies = reinterpret_cast<float*>(of_models + num_inputs);
  float* const out_copy = copies + num_inputs * kCopyElements;
  const double* factors = args.facts[0]->data();
  const uint64_t num_vectors = vectors_.Count(num_elements());
  const bool out_aligned = IsFloatAligned(args.out);
  const uint64_t most = out_aligned && AreFloatAligned(args.in) ? args.range.size() : kCopyElements;
  for (uint64_t at = args.range.begin; at < args.range.end;) {
    const uint64_t row = at / vectors_.columns, column = at % vectors_.columns;
    const uint64_t count = std::min({args.range.end - at, vectors_.columns - column, most});
    const uint64_t first = at - args.range.begin;
    for (size_t i = 0; i < num_inputs; ++i) {
      arrays[i] = FloatsAt(args.in[i], first, count, copies + i * kCopyElements);
    }
    const uint64_t vector = vectors_.kind == Vectors::Kind::kColumns ? column : num_vectors == 1 ? 0 : row;
    for (size_t m = 0; m < num_models_; ++m) of_models[m] = factors + m * num_vectors + vector;
    uint8_t* const place = args.out + first * sizeof(float);
    kernels::Combine(has_base_ ? arrays[0] : nullptr, {arrays + first_model, num_models_}, of_models,
                     vectors_.kind == Vectors::Kind::kColumns, count,
                     out_aligned ? reinterpret_cast<float*>(place) : out_copy);
    if (!out_aligned) std::memcpy(place, out_copy, count * sizeof(float));
    at += count;
  }
}

}  // namespace sluice::arithmetic
