// KeyCounts: how many elements of a tensor, or of a sample of it, have each key of their magnitudes (kernels/select.h).
// Counted by several workers at once, in groups; then added up, then asked.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "arithmetic/fold_memory.h"
#include "kernels/select.h"

namespace sluice::arithmetic {

class KeyCounts {
 public:
  static constexpr size_t kMostGroups = 4;
  // A group's counters have 32 bits; once one may be full they are added up early.
  static constexpr uint64_t kMostCounted = uint64_t{1} << 31;

  KeyCounts(size_t num_groups, std::shared_ptr<FoldMemory> memory, uint64_t most_counted = kMostCounted);
  // Counts |x - base|, and writes it to `magnitudes` where there are any. A group is one lock and one set of counters.
  // Thread-safe.
  void Count(size_t group, const float* x, const float* base, uint64_t count, float* magnitudes = nullptr);
  // After the last Count, before what follows.
  void AddUp();
  // Frees what VarianceOfShares looks at.
  void FreeGroups();

  uint64_t total() const { return total_; }
  uint64_t operator[](uint32_t key) const { return runs_[key / kRun] > 0 ? At(key) : 0; }
  uint64_t Above(uint32_t key) const;  // elements with larger keys
  // The key of the element that is `rank`-th (from 1) by magnitude, from the largest; rank <= total().
  uint32_t KeyOfRank(uint64_t rank) const;
  // Of the mean of the groups' shares of elements with this key or a larger one: how far it may be off, squared.
  double VarianceOfShares(uint32_t key) const;

  static uint64_t StateBytes(size_t num_groups);

 private:
  static constexpr uint32_t kRun = 256;  // keys that are summed up together: most runs of them nothing has
  struct Group {
    std::mutex mutex;
    uint64_t counted = 0;  // that `counts` has
    FoldNumbers<uint32_t> counts;
  };
  static constexpr uint32_t kPartKeys = FoldNumbers<uint64_t>::kCount;
  static_assert(FoldNumbers<uint32_t>::kCount == kernels::kNumKeys);

  void AddGroup(const Group& group);
  uint64_t& At(uint32_t key) const { return counts_[key / kPartKeys][key % kPartKeys]; }

  const std::shared_ptr<FoldMemory> memory_;
  const uint64_t most_counted_;
  std::vector<std::unique_ptr<Group>> groups_;
  std::mutex mutex_;  // of what follows, while elements are counted
  uint64_t total_ = 0;
  FoldNumbers<uint64_t> counts_[kernels::kNumKeys / kPartKeys];  // all groups', of runs that have any
  std::vector<uint64_t> runs_;
};

}  // namespace sluice::arithmetic
