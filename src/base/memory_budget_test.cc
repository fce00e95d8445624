#include "base/memory_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "base/testing/sanitizers.h"
#include "base/units.h"

namespace sluice {
namespace {

TEST(MemoryBudget, LeasesAreTakenAndGivenBack) {
  MemoryBudget budget(100);
  {
    Result<MemoryLease> a = budget.Lease(60, "a");
    ASSERT_TRUE(a.has_value());
    EXPECT_EQ(a->size_bytes(), 60u);
    EXPECT_EQ(budget.free_bytes(), 40u);
    EXPECT_TRUE(budget.Lease(40, "b").has_value());
    EXPECT_FALSE(budget.Lease(41, "c").has_value());
  }
  EXPECT_EQ(budget.free_bytes(), 100u);
  EXPECT_EQ(budget.peak_bytes(), 100u);
}

TEST(MemoryBudget, AMovedLeaseIsGivenBackOnce) {
  MemoryBudget budget(100);
  MemoryLease kept;
  {
    MemoryLease a = std::move(*budget.Lease(30, "a"));
    kept = std::move(a);
    EXPECT_EQ(a.size_bytes(), 0u);  // NOLINT(bugprone-use-after-move): what is promised of a moved lease
  }
  EXPECT_EQ(budget.free_bytes(), 70u);
  kept = std::move(*budget.Lease(50, "b"));
  EXPECT_EQ(budget.free_bytes(), 50u);
  kept = MemoryLease();
  EXPECT_EQ(budget.free_bytes(), 100u);
}

TEST(MemoryBudget, TheErrorNamesTheSmallestLimitThatWouldDo) {
  MemoryBudget budget(64 * kMiB);
  Result<MemoryLease> held = budget.Lease(60 * kMiB, "arena");
  Result<MemoryLease> lease = budget.Lease(5 * kMiB + 1, "scratch of 2 threads");
  ASSERT_FALSE(lease.has_value());
  EXPECT_EQ(lease.error().code, ErrorCode::kBudget);
  EXPECT_THAT(lease.error().message, testing::StartsWith("scratch of 2 threads needs 5.00 MiB"));
  EXPECT_THAT(lease.error().message, testing::HasSubstr("4 MiB of the 64 MiB"));
  EXPECT_THAT(lease.error().message, testing::HasSubstr("is 67MiB"));

  MemoryBudget larger(ParseSize("67MiB").value());
  Result<MemoryLease> held_again = larger.Lease(60 * kMiB, "arena");
  EXPECT_TRUE(larger.Lease(5 * kMiB + 1, "scratch of 2 threads").has_value());
}

TEST(MemoryBudget, ALeaseBeyond64BitsIsRefused) {
  MemoryBudget budget(64 * kMiB);
  Result<MemoryLease> held = budget.Lease(kMiB, "a");
  EXPECT_FALSE(budget.Lease(UINT64_MAX, "b").has_value());
  EXPECT_EQ(budget.free_bytes(), 63 * kMiB);
}

TEST(MemoryBudget, TheChargeIsWhatIsResidentAndNotLeased) {
  if (tests::kShadowBytes > 0) GTEST_SKIP() << "a sanitizer's shadow of the buffer is resident too";
  MemoryBudget budget(64 * kGiB);
  budget.ChargeResident();
  const uint64_t charge = budget.limit_bytes() - budget.free_bytes();
  const uint64_t resident = ResidentBytes();
  EXPECT_GE(charge + kMiB, resident + MemoryBudget::kMarginBytes);
  EXPECT_LE(charge, resident + MemoryBudget::kMarginBytes + kMiB);
  EXPECT_EQ(budget.peak_bytes(), charge);

  // Memory that was leased and touched is not counted twice.
  constexpr uint64_t kSize = 32 * kMiB;
  Result<MemoryLease> lease = budget.Lease(kSize, "buffer");
  // Volatile, or a compiler may find that nobody reads it and leave it out.
  const auto buffer = std::make_unique<volatile char[]>(kSize);
  for (uint64_t i = 0; i < kSize; i += 4096) buffer[i] = 1;
  budget.ChargeResident(kSize);
  EXPECT_NEAR(static_cast<double>(budget.limit_bytes() - budget.free_bytes()), static_cast<double>(charge + kSize),
              4.0 * kMiB);
}

TEST(MemoryBudget, AChargeBeyondTheLimitLeavesNothing) {
  MemoryBudget budget(kMiB);
  budget.ChargeResident();
  EXPECT_EQ(budget.free_bytes(), 0u);
  EXPECT_FALSE(budget.Lease(1, "a byte").has_value());
}

TEST(MemoryBudget, ThreadsShareIt) {
  MemoryBudget budget(1000);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        Result<MemoryLease> lease = budget.Lease(400, "x");
        if (lease.has_value()) {
          EXPECT_LE(budget.free_bytes(), 600u);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget.free_bytes(), 1000u);
  EXPECT_LE(budget.peak_bytes(), 1000u);
}

TEST(MemoryBudget, TheKernelsCounts) {
  EXPECT_GT(ResidentBytes(), kMiB);
  EXPECT_GE(PeakResidentBytes(), ResidentBytes());
  EXPECT_GT(AvailableMemoryBytes(), kMiB);
}

}  // namespace
}  // namespace sluice
