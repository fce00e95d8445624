#include "verify/sketch_pool.h"

#include <algorithm>
#include <limits>

namespace sluice::verify {

void SketchPool::Want(const SketchShape& shape, bool is_large) {
  uint64_t& most = is_large ? large_bytes_ : small_bytes_;
  most = std::max(most, shape.MemoryBytes());
  columns_ = std::max(columns_, shape.columns);
}

void SketchPool::Lease(int num_workers, MemoryBudget* budget) {
  if (columns_ == 0) return;
  const uint64_t room = budget == nullptr ? std::numeric_limits<uint64_t>::max() : budget->free_bytes() / 2;
  const uint64_t small = small_bytes_ * static_cast<uint64_t>(num_workers);
  uint64_t bytes = columns_ * sizeof(uint32_t), num_large = 0;
  const auto add_large = [&] {
    if (large_bytes_ == 0 || bytes + large_bytes_ > room) return false;
    bytes += large_bytes_;
    ++num_large;
    return true;
  };
  add_large();
  has_small_ = small > 0 && bytes + small <= room;
  if (has_small_) bytes += small;
  while (num_large > 0 && num_large < kMostLarge && add_large()) {
  }
  if (num_large == 0 && !has_small_) return;
  if (budget != nullptr) {
    Result<MemoryLease> lease = budget->Lease(bytes, "sketches of what changed");
    if (!lease) {
      has_small_ = false;
      return;
    }
    lease_ = std::move(*lease);
  }
  signs_ = ColumnSigns(columns_);
  for (uint64_t i = 0; i < num_large; ++i) {
    all_.push_back(std::make_unique<RankSketch>());
    free_.push_back(all_.back().get());
  }
}

RankSketch* SketchPool::Take() {
  std::unique_lock lock(mutex_);
  returned_.wait(lock, [&] { return !free_.empty(); });
  RankSketch* const sketch = free_.back();
  free_.pop_back();
  return sketch;
}

bool SketchPool::WouldWait() {
  const std::lock_guard lock(mutex_);
  return free_.empty();
}

void SketchPool::Return(RankSketch* sketch) {
  const std::lock_guard lock(mutex_);
  free_.push_back(sketch);
  returned_.notify_one();
}

}  // namespace sluice::verify
