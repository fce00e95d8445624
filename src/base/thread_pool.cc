#include "base/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/cgroup.h"
#include "base/check.h"

namespace sluice {

ThreadPool::ThreadPool(int num_threads, std::function<void(int worker)> body) {
  SLUICE_CHECK(num_threads > 0);
  threads_.reserve(static_cast<size_t>(num_threads));
  for (int worker = 0; worker < num_threads; ++worker) {
    try {
      threads_.emplace_back(body, worker);
    } catch (const std::system_error&) {
      // The system refuses more threads (ulimit -u, pids.max): the work goes on with those that there are.
      SLUICE_CHECK(!threads_.empty());
      break;
    }
  }
}

ThreadPool::~ThreadPool() {
  for (std::thread& thread : threads_) thread.join();
}

int DefaultThreads() {
  int processors = 0;
  // The mask must have room for all of the machine's processors, or the call fails with EINVAL.
  for (int capacity = 1024; capacity <= 1 << 18 && processors == 0; capacity *= 4) {
    cpu_set_t* set = CPU_ALLOC(capacity);
    if (set == nullptr) break;
    const size_t size = CPU_ALLOC_SIZE(capacity);
    if (sched_getaffinity(0, size, set) == 0) processors = CPU_COUNT_S(size, set);
    CPU_FREE(set);
  }
  if (processors == 0) processors = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  return std::max(1, std::min(processors, CgroupProcessors().value_or(processors)));
}

}  // namespace sluice
