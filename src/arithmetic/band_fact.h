// BandFact: breadcrumbs' two thresholds. Of |x - base|, ordered from the largest and equal ones by index: the last of
// the `drop` largest and the last of the `keep` that follow.
//
// Value: {drop's bits, drop's last tie, keep's bits, keep's last tie} (as MagnitudeFact; zeros where nothing is to be
// found: drop = 0, or nothing left to drop at the bottom); with `with_sums` also {sum |d|, sum |masked d|}, one pass
// more.
#pragma once

#include "arithmetic/fold_memory.h"
#include "arithmetic/sparse_masks.h"
#include "graph/node.h"

namespace sluice::arithmetic {

struct Band {
  uint64_t drop = 0, keep = 0;  // keep >= 1, drop + keep <= num_elements
};

class BandFact final : public graph::Fact {
 public:
  BandFact(const graph::Node* x, const graph::Node* base, const Band& band, bool with_sums);
  int max_passes() const override;
  double expected_passes() const override;
  uint64_t StateBytes(int num_workers) const override;
  double NanosecondsPerElement() const override { return 2.4; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override;

 private:
  Band band_;
  bool with_sums_;
  std::shared_ptr<FoldMemory> memory_ = FoldMemory::Shared();  // so that parts last from one fold to the next
};

constexpr size_t kBandSums = 4;  // where the sums stand in the value
BandMask BandMaskOf(const Band& band, uint64_t num_elements, const graph::FactValue& value);

}  // namespace sluice::arithmetic
