#include "arithmetic/fold_memory.h"

#include <gtest/gtest.h>

#include <thread>

namespace sluice::arithmetic {
namespace {

TEST(FoldMemory, PartsAreUsedAgain) {
  const auto memory = std::make_shared<FoldMemory>();
  const std::byte* first_place = nullptr;
  {
    const FoldMemory::Part first = memory->Take(), second = memory->Take();
    EXPECT_NE(first.get(), second.get());
    first_place = first.get();
  }
  const FoldMemory::Part again = memory->Take(), other = memory->Take(), third = memory->Take();
  EXPECT_TRUE(again.get() == first_place || other.get() == first_place);
  EXPECT_NE(third.get(), first_place);
  memory->Trim();  // what is taken stays
  std::memset(again.get(), 1, FoldMemory::kPartBytes);
}

TEST(FoldMemory, IsSharedWhileSomebodyHasIt) {
  const auto one = FoldMemory::Shared();
  EXPECT_EQ(FoldMemory::Shared(), one);
  const std::weak_ptr<FoldMemory> gone = std::make_shared<FoldMemory>();
  EXPECT_TRUE(gone.expired());
  FoldMemory::Part part = std::make_shared<FoldMemory>()->Take();  // its memory lives as long as the part
  std::memset(part.get(), 1, FoldMemory::kPartBytes);
}

TEST(FoldMemory, NumbersOfSeveralThreadsAreTheirOwn) {
  const auto memory = std::make_shared<FoldMemory>();
  bool is_own[4] = {};
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      is_own[t] = true;
      for (int i = 0; i < 200; ++i) {
        FoldNumbers<uint32_t> numbers(memory.get());
        numbers.Clear();
        numbers[7] += t;
        std::this_thread::yield();
        is_own[t] = is_own[t] && numbers[7] == t && numbers[8] == 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const bool own : is_own) EXPECT_TRUE(own);
}

}  // namespace
}  // namespace sluice::arithmetic
