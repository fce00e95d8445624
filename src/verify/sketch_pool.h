// SketchPool: the RankSketches of a pass, leased together from what the stream leaves of the budget.
//
// Large tensors, whose pieces come one after the other, take a sketch for as long as they pass by; small ones are done
// by one worker at once, in a sketch that each worker has.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/memory_budget.h"
#include "verify/rank_sketch.h"

namespace sluice::verify {

class SketchPool {
 public:
  // Adds a tensor that will want a sketch. Before Lease.
  void Want(const SketchShape& shape, bool is_large);
  // Takes what fits into half of the budget's free bytes (null: all): one for large tensors, then one for each worker,
  // then up to kMostLarge for large ones, so that one need not wait for the one before. Once.
  void Lease(int num_workers, MemoryBudget* budget);

  bool has_large() const { return !all_.empty(); }
  bool has_small() const { return has_small_; }  // each worker may use one of its own
  std::span<const uint32_t> signs() const { return signs_; }

  // For the consumer's thread alone: waits until one is there, has_large() given.
  RankSketch* Take();
  bool WouldWait();
  void Return(RankSketch* sketch);  // from any thread

 private:
  static constexpr uint64_t kMostLarge = 4;

  uint64_t large_bytes_ = 0, small_bytes_ = 0, columns_ = 0;  // of the largest
  bool has_small_ = false;
  MemoryLease lease_;
  std::vector<uint32_t> signs_;
  std::vector<std::unique_ptr<RankSketch>> all_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<RankSketch*> free_;
};

}  // namespace sluice::verify
