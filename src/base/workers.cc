#include "base/workers.h"

#include "base/check.h"

namespace sluice {
namespace {

constexpr int kSpins = 2000;  // some 20 microseconds: longer than the gap between two loops, shorter than a sleep costs

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns when `value` is no longer `old`.
template <class T>
void AwaitChange(const std::atomic<T>& value, T old) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (value.load(std::memory_order_acquire) != old) return;
    Pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

Workers::Workers(int num_threads) {
  SLUICE_CHECK(num_threads >= 1);
  threads_.reserve(num_threads - 1);
  for (int worker = 1; worker < num_threads; ++worker) threads_.emplace_back([this, worker] { Loop(worker); });
}

Workers::~Workers() {
  stopping_ = true;
  ++round_;
  round_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::Loop(int worker) {
  for (uint32_t seen = 0;;) {
    AwaitChange(round_, seen);
    ++seen;  // a round ends only when every worker has left it: none is skipped
    if (stopping_) return;
    TakeTurns(worker);
    if (still_running_.fetch_sub(1, std::memory_order_acq_rel) == 1) still_running_.notify_one();
  }
}

void Workers::TakeTurns(int worker) {
  for (;;) {
    const uint64_t index = next_.fetch_add(1, std::memory_order_relaxed);
    if (index >= count_) return;
    (*body_)(index, worker);
  }
}

void Workers::ParallelFor(uint64_t count, const std::function<void(uint64_t, int)>& body) {
  if (threads_.empty() || count <= 1) {
    for (uint64_t index = 0; index < count; ++index) body(index, 0);
    return;
  }
  body_ = &body;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  still_running_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  TakeTurns(0);
  for (int running = still_running_.load(std::memory_order_acquire); running > 0;
       running = still_running_.load(std::memory_order_acquire)) {
    AwaitChange(still_running_, running);
  }
}

}  // namespace sluice
