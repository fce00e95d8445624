#include "arithmetic/in_order_fold.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/units.h"

namespace sluice::arithmetic {

using graph::kBlockElements;

InOrderFold::InOrderFold(uint64_t num_elements, uint64_t max_rows, int num_workers)
    : num_elements_(num_elements),
      num_blocks_(CeilDiv(num_elements, kBlockElements)),
      blocks_(static_cast<size_t>(num_workers)) {
  SLUICE_CHECK(max_rows > 0);
}

// Blocks that wait, one that is taken, and one of each worker.
uint64_t InOrderFold::StateBytes(uint64_t num_elements, uint64_t max_rows, int num_workers) {
  const uint64_t at_once = kMostWaiting + 1 + static_cast<uint64_t>(num_workers);
  const uint64_t blocks = std::min(CeilDiv(num_elements, kBlockElements), at_once);
  return sizeof(InOrderFold) + blocks * (max_rows * std::min(num_elements, kBlockElements) * sizeof(float) + 128) +
         static_cast<uint64_t>(num_workers) * sizeof(std::vector<float>);
}

// A pass takes at least the first block that is missing and those that can wait for it.
int InOrderFold::MaxPasses(uint64_t num_elements, uint64_t num_steps) {
  const uint64_t of_step = std::max<uint64_t>(CeilDiv(CeilDiv(num_elements, kBlockElements), kMostWaiting + 1), 1);
  constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int>::max());
  return static_cast<int>(num_steps > kMost / of_step ? kMost : of_step * num_steps);
}

void InOrderFold::Add(int worker, graph::Range piece, std::span<const graph::View> in) {
  const uint64_t block = piece.begin / kBlockElements, begin = block * kBlockElements;
  const uint64_t count = std::min(kBlockElements, num_elements_ - begin);
  std::vector<float>& numbers = blocks_[static_cast<size_t>(worker)];
  if (piece.begin == begin) numbers.assign(num_rows() * count, 0);
  std::vector<float*> rows;
  for (uint64_t r = 0; r < num_rows(); ++r) rows.push_back(numbers.data() + r * count + (piece.begin - begin));
  Compute(piece, in, rows.data());
  if (piece.end == begin + count) Deliver(block, std::move(numbers));
}

void InOrderFold::Deliver(uint64_t block, std::vector<float> numbers) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (!taking_ && block == next_) {
      TakeFrom(block, std::move(numbers), &lock);
      return;
    }
    if (waiting_.size() < kMostWaiting) {
      waiting_.emplace(block, std::move(numbers));
      return;
    }
    if (!taking_) break;
    room_.wait(lock);  // whoever takes blocks goes on by itself
  }
  // The next one has yet to come, perhaps from this worker: nobody may wait for it.
  const auto last = std::prev(waiting_.end());
  if (last->first < block) return;
  waiting_.erase(last);
  waiting_.emplace(block, std::move(numbers));
}

void InOrderFold::TakeFrom(uint64_t block, std::vector<float> numbers, std::unique_lock<std::mutex>* lock) {
  taking_ = true;
  for (;;) {
    lock->unlock();
    const uint64_t begin = block * kBlockElements, count = std::min(kBlockElements, num_elements_ - begin);
    std::vector<const float*> rows;
    for (uint64_t r = 0; r < num_rows(); ++r) rows.push_back(numbers.data() + r * count);
    Take(begin, count, rows.data());
    lock->lock();
    block = ++next_;
    const auto found = waiting_.find(block);
    if (found == waiting_.end()) break;
    numbers = std::move(found->second);
    waiting_.erase(found);
    room_.notify_all();
  }
  taking_ = false;
  room_.notify_all();
}

bool InOrderFold::Finish(graph::FactValue* value) {
  SLUICE_CHECK(!taking_);
  waiting_.clear();
  if (next_ < num_blocks_) {
    first_wanted_ = next_;
    return false;
  }
  do {
    if (EndStep(value)) return true;
  } while (num_blocks_ == 0);
  next_ = first_wanted_ = 0;
  return false;
}

}  // namespace sluice::arithmetic
