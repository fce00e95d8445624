// MagnitudeFact: which elements of d = x - base are the k largest by magnitude: the k-th magnitude and, of the elements
// that equal it, the last one kept. Ties are kept in index order, so that exactly k elements are kept.
//
// Value: {bits of the k-th |d| as f32, index of the last tie kept}; with `with_sums` also {sum |d|, sum |masked d|}.
// Bits and not the number, so that a NaN (larger than infinity here) can be recorded.
//
// A tensor passes by several times, in bounded memory (StateBytes, 2 to 5 MiB), one step a pass:
//   all      up to 14 blocks: every magnitude is kept, and keys are counted; done
//   counts   counts by key (exponent, 7 bits of the significand, and whether there are more; kernels/select.h). More
//            than 64 blocks: of 1 block in 32, which brackets the k-th; of all where that bracket missed
//   fine     a sample's bracket that holds too much: counts its values in 1 block in 32, to narrow it and to find those
//            that many elements share
//   collect  counts what is above the bracket, and the bracket in buckets; counts by block what many share; collects
//            the rest while there is room. Where there was none, the k-th's bucket is the next bracket
//   ties     the k-th magnitude is known (a key that one magnitude has, as differences of bf16 numbers do; or no room):
//            marks what equals it, or counts it by block where that would be too many marks
//   block    where the last tie's block is known and no more: one block
//   sums     with_sums: as L1Fact
// A large tensor takes 1.06 passes where all goes well, one or two more where there was no room or the sample missed.
#pragma once

#include <memory>
#include <span>

#include "arithmetic/fold_memory.h"
#include "arithmetic/magnitude_search.h"
#include "graph/node.h"

namespace sluice::arithmetic {

class MagnitudeFact final : public graph::Fact {
 public:
  // Inputs: x and base, F32; 1 <= k < num_elements.
  MagnitudeFact(const graph::Node* x, const graph::Node* base, uint64_t k, bool with_sums);
  int max_passes() const override;
  double expected_passes() const override;
  uint64_t StateBytes(int num_workers) const override;
  double NanosecondsPerElement() const override { return 0.6; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override;

 private:
  uint64_t k_;
  bool with_sums_;
  std::shared_ptr<FoldMemory> memory_ = FoldMemory::Shared();  // so that parts last from one fold to the next
};

// The fold behind the fact; 1 <= k <= num_elements.
std::unique_ptr<graph::Fold> MakeMagnitudeFold(uint64_t num_elements, uint64_t k, bool with_sums, int num_workers,
                                               const MagnitudeLimits& limits = {});

}  // namespace sluice::arithmetic
