// L1Fact: sum |d| and sum |masked d| of d = x - base over a whole tensor, for `rescale: true`.
//
// Which elements the mask keeps may be another input.
//
// Value: {sum |d|, sum |masked d|}, f64, of blocks of 65,536 elements (kernels::AccumulateL1's lanes, added in their
// fixed order), added in the blocks' order: the same at any partition.
#pragma once

#include <string>
#include <vector>

#include "arithmetic/sparse_masks.h"
#include "base/check.h"
#include "graph/node.h"
#include "kernels/task_vectors.h"

namespace sluice::arithmetic {

// The slots of one such sum; Add as graph::Fold has it.
class L1Sums {
 public:
  L1Sums(uint64_t num_blocks, int num_workers);
  void Add(int worker, graph::Range piece, std::span<const graph::View> in, const kernels::DeltaMask& mask,
           uint64_t num_elements);
  // The same, the piece's elements added to the lanes by accumulate(&lanes).
  template <class Accumulate>
  void AddBy(int worker, graph::Range piece, uint64_t num_elements, const Accumulate& accumulate) {
    Worker& state = workers_[static_cast<size_t>(worker)];
    if (piece.begin % graph::kBlockElements == 0) {
      state.lanes = {};
      state.next = piece.begin;
    }
    SLUICE_CHECK(state.next == piece.begin);
    state.next = piece.end;
    accumulate(&state.lanes);
    if (piece.end % graph::kBlockElements == 0 || piece.end == num_elements) {
      slots_[piece.begin / graph::kBlockElements] = {kernels::SumLanes(state.lanes.all),
                                                     kernels::SumLanes(state.lanes.kept)};
    }
  }
  void Finish(double* all, double* kept) const;
  static uint64_t StateBytes(uint64_t num_blocks, int num_workers);

 private:
  struct Slot {
    double all = 0, kept = 0;
  };
  struct Worker {
    alignas(64) kernels::L1Lanes lanes;
    uint64_t next = 0;  // the element that must come
  };
  std::vector<Slot> slots_;
  std::vector<Worker> workers_;
};

class L1Fact final : public graph::Fact {
 public:
  // Inputs: x and base, F32. `mask` is kAll or kRandom.
  L1Fact(const graph::Node* x, const graph::Node* base, const kernels::DeltaMask& mask);
  // The same of a mask that is computed: a node of MaskEncoding.
  L1Fact(const graph::Node* x, const graph::Node* base, const graph::Node* mask);
  uint64_t StateBytes(int num_workers) const override;
  double NanosecondsPerElement() const override { return 1.4; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override;

 private:
  kernels::DeltaMask mask_;
};

// What `rescale: true` multiplies by: sum |d| / sum |masked d|, or 1 where either is under 1e-7.
float L1Scale(double all, double kept);

// A description of the mask that tells it from any other, but for a threshold that a fact finds.
std::string MaskDescription(const kernels::DeltaMask& mask);

}  // namespace sluice::arithmetic
