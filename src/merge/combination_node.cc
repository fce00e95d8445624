#include "merge/combination_node.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "merge/float_views.h"

namespace sluice::merge {
namespace {

std::vector<const graph::Node*> WithBase(const graph::Node* base, std::vector<const graph::Node*> x) {
  if (base != nullptr) x.insert(x.begin(), base);
  return x;
}

// sums += c x, or c (x - b); `factors` one for each element, or one for all.
template <bool kPerElement>
void AddModel(const float* x, const float* base, const double* factors, uint64_t count, double* sums) {
  if (base == nullptr) {
    ForEachOfPart(count, [=](uint64_t i) { sums[i] += factors[kPerElement ? i : 0] * static_cast<double>(x[i]); });
  } else {
    ForEachOfPart(count, [=](uint64_t i) {
      sums[i] += factors[kPerElement ? i : 0] * (static_cast<double>(x[i]) - static_cast<double>(base[i]));
    });
  }
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

// Sums, copies of the base and a model, copy of the result.
uint64_t CombinationNode::ScratchBytes() const { return kCopyElements * (sizeof(double) + 3 * sizeof(float)); }

void CombinationNode::Compute(const graph::ComputeArgs& args) const {
  auto* sums = reinterpret_cast<double*>(args.scratch);
  auto* base_copy = reinterpret_cast<float*>(sums + kCopyElements);
  float *x_copy = base_copy + kCopyElements, *out_copy = x_copy + kCopyElements;
  const double* factors = args.facts[0]->data();
  const uint64_t num_vectors = vectors_.Count(num_elements());
  for (uint64_t at = args.range.begin; at < args.range.end;) {
    const uint64_t column = at % vectors_.columns;
    const uint64_t count = std::min({args.range.end - at, vectors_.columns - column, kCopyElements});
    const uint64_t first = at - args.range.begin;
    const float* base = has_base_ ? FloatsAt(args.in[0], first, count, base_copy) : nullptr;
    for (uint64_t i = 0; i < count; ++i) sums[i] = base == nullptr ? -0.0 : static_cast<double>(base[i]);
    for (size_t m = 0; m < num_models_; ++m) {
      const float* x = FloatsAt(args.in[m + (has_base_ ? 1 : 0)], first, count, x_copy);
      const double* of_model = factors + m * num_vectors;
      if (vectors_.kind == Vectors::Kind::kColumns) {
        AddModel<true>(x, base, of_model + column, count, sums);
      } else {
        AddModel<false>(x, base, of_model + (num_vectors == 1 ? 0 : at / vectors_.columns), count, sums);
      }
    }
    for (uint64_t i = 0; i < count; ++i) {
      out_copy[i] = std::isnan(sums[i]) ? std::bit_cast<float>(0x7FC00000u) : static_cast<float>(sums[i]);
    }
    std::memcpy(args.out + first * sizeof(float), out_copy, count * sizeof(float));
    at += count;
  }
}

}  // namespace sluice::merge
