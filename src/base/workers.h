// Workers: threads that share the turns of a loop. For arithmetic in many short loops, one after the other; the
// caller's thread takes part, and a waiting worker spins for a moment before it sleeps.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace sluice {

class Workers {
 public:
  explicit Workers(int num_threads);  // at least 1; starts num_threads - 1
  ~Workers();
  Workers(const Workers&) = delete;
  int num_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // body(index, worker) for each index < count, in any order and on any worker (0 <= worker < num_threads()); returns
  // when all have run. For one caller at a time; body must not call it again.
  void ParallelFor(uint64_t count, const std::function<void(uint64_t index, int worker)>& body);

 private:
  void Loop(int worker);
  void TakeTurns(int worker);

  const std::function<void(uint64_t, int)>* body_ = nullptr;
  uint64_t count_ = 0;
  std::atomic<uint64_t> next_{0};
  std::atomic<uint32_t> round_{0};     // a new loop to take part in
  std::atomic<int> still_running_{0};  // workers that have not left the loop
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

}  // namespace sluice
