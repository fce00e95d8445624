// ThreadPool: a fixed set of persistent workers that run one function with their index until it returns.
//
// The stream's scheduler lives in its own queue; this is the plain pool below it and for other parallel loops.
#pragma once

#include <functional>
#include <thread>
#include <vector>

namespace sluice {

class ThreadPool {
 public:
  // Starts num_threads threads, each running body(worker) once; body is expected to loop until told to stop.
  ThreadPool(int num_threads, std::function<void(int worker)> body);
  ~ThreadPool();  // joins
  ThreadPool(const ThreadPool&) = delete;
  int num_threads() const { return static_cast<int>(threads_.size()); }

 private:
  std::vector<std::thread> threads_;
};

// Cores that this process may run on (affinity mask and cgroup quota), at least 1.
int DefaultThreads();

}  // namespace sluice
