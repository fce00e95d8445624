#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <mutex>
#include <set>

namespace sluice {
namespace {

TEST(ThreadPool, EachWorkerRunsOnceOnAThreadOfItsOwn) {
  std::mutex mutex;
  std::multiset<int> workers;
  std::set<std::thread::id> threads;
  {
    ThreadPool pool(5, [&](int worker) {
      const std::lock_guard lock(mutex);
      workers.insert(worker);
      threads.insert(std::this_thread::get_id());
    });
    EXPECT_EQ(pool.num_threads(), 5);
  }
  EXPECT_EQ(workers, (std::multiset<int>{0, 1, 2, 3, 4}));
  EXPECT_EQ(threads.count(std::this_thread::get_id()), 0u);
}

TEST(ThreadPool, TheDestructorWaits) {
  std::atomic<bool> stop = false;
  std::atomic<int> ended = 0;
  std::thread stopper;
  {
    ThreadPool pool(2, [&](int) {
      while (!stop) std::this_thread::yield();
      ++ended;
    });
    stopper = std::thread([&] { stop = true; });
  }
  EXPECT_EQ(ended, 2);
  stopper.join();
}

TEST(ThreadPool, DefaultFollowsTheAffinityMask) {
  EXPECT_GE(DefaultThreads(), 1);
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(DefaultThreads(), 1);
  ASSERT_EQ(sched_setaffinity(0, sizeof(before), &before), 0);
}

}  // namespace
}  // namespace sluice
