#include "base/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(Units, SizesAsPeopleWriteThem) {
  const std::pair<const char*, uint64_t> cases[] = {
      {"0", 0},
      {"4096", 4096},
      {"4GB", 4'000'000'000},
      {"4GiB", 4ull << 30},
      {"4gib", 4ull << 30},
      {"9k", 9'000},
      {"64M", 64'000'000},
      {"2G", 2'000'000'000},
      {"2.5GiB", 2'684'354'560},
      {"2.5 GiB", 2'684'354'560},
      {".5k", 500},
      {"1.5TB", 1'500'000'000'000},
      {"7B", 7},
      {"0.1GB", 100'000'000},                                 // not 99,999,999 or 100,000,001
      {"18446744073709551615", 18'446'744'073'709'551'615u},  // 2^64 - 1
  };
  for (const auto& [text, bytes] : cases) {
    const Result<uint64_t> size = ParseSize(text);
    ASSERT_TRUE(size.has_value()) << text << ": " << size.error().ToString();
    EXPECT_EQ(*size, bytes) << text;
  }
}

TEST(Units, ShardSizesCountBillions) {
  EXPECT_EQ(ParseShardSize("5B").value(), 5'000'000'000u);
  EXPECT_EQ(ParseShardSize("0.5b").value(), 500'000'000u);
  EXPECT_EQ(ParseShardSize("5GB").value(), 5'000'000'000u);
  EXPECT_EQ(ParseShardSize("9k").value(), 9'000u);
}

TEST(Units, WhatIsNoSizeIsNamed) {
  for (const char* text : {"", "GB", "-1", "+1", "1.2.3", "4 gigs", "4GBs", "1e9", "0x10", "nan", "4G B", " 4G", ".",
                           "18446744073709551616", "17200000000GiB", "1234567890123456789012345"}) {
    const Result<uint64_t> size = ParseSize(text);
    ASSERT_FALSE(size.has_value()) << text;
    EXPECT_EQ(size.error().code, ErrorCode::kUsage);
    EXPECT_THAT(size.error().message, testing::HasSubstr("'" + std::string(text) + "' is not a size"));
  }
}

TEST(Units, Bytes) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(1'000), "1.00 kB");
  EXPECT_EQ(FormatBytes(1'500'000'000), "1.50 GB");
  EXPECT_EQ(FormatBytes(15'040'000'000), "15.0 GB");
  EXPECT_EQ(FormatBytes(150'400'000'000), "150 GB");
  EXPECT_EQ(FormatBytes(9'996'000), "10.0 MB");
  EXPECT_EQ(FormatBytes(999'400), "999 kB");
  EXPECT_EQ(FormatBytes(999'600), "1.00 MB");
  EXPECT_EQ(FormatBytes(UINT64_MAX), "18.4 EB");
}

TEST(Units, Memory) {
  EXPECT_EQ(FormatMemory(0), "0 B");
  EXPECT_EQ(FormatMemory(256 * kMiB), "256 MiB");
  EXPECT_EQ(FormatMemory(4 * kGiB), "4 GiB");
  EXPECT_EQ(FormatMemory(kGiB + kGiB / 2), "1.50 GiB");
  EXPECT_EQ(FormatMemory(1023 * kKiB), "1023 KiB");
  EXPECT_EQ(FormatMemory(kMiB - 1), "1.00 MiB");
  EXPECT_EQ(FormatMemory(kMiB + kMiB / 4 + 1), "1.25 MiB");
}

TEST(Units, RatesAndTimes) {
  EXPECT_EQ(FormatRate(1.62e9), "1.62 GB/s");
  EXPECT_EQ(FormatRate(0), "0 B/s");
  EXPECT_EQ(FormatRate(1.0 / 0.0), "unknown");
  EXPECT_EQ(FormatSeconds(0.42), "0.42 s");
  EXPECT_EQ(FormatSeconds(0.999), "1.0 s");
  EXPECT_EQ(FormatSeconds(9.96), "10 s");
  EXPECT_EQ(FormatSeconds(12.3), "12 s");
  EXPECT_EQ(FormatSeconds(59.6), "1 min 00 s");
  EXPECT_EQ(FormatSeconds(200), "3 min 20 s");
  EXPECT_EQ(FormatSeconds(7500), "2 h 05 min");
  EXPECT_EQ(FormatSeconds(7199), "2 h 00 min");
  EXPECT_EQ(FormatSeconds(-1), "unknown");
}

TEST(Units, Counts) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1'000), "1,000");
  EXPECT_EQ(FormatCount(34'388'917'248), "34,388,917,248");
}

TEST(Units, ProductsThatDoNotFitAreCorrupt) {
  EXPECT_EQ(CheckedMultiply(1ull << 32, (1ull << 32) - 1, "x").value(), 0xFFFFFFFF00000000u);
  const auto product = CheckedMultiply(1ull << 32, 1ull << 32, "tensor w: shape");
  ASSERT_FALSE(product.has_value());
  EXPECT_EQ(product.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(product.error().message, testing::HasSubstr("tensor w: shape"));
}

TEST(Units, Rounding) {
  static_assert(RoundUp(0, 32) == 0 && RoundUp(1, 32) == 32 && RoundUp(32, 32) == 32);
  static_assert(RoundDown(31, 32) == 0 && RoundDown(63, 32) == 32);
  static_assert(CeilDiv(0, 32) == 0 && CeilDiv(33, 32) == 2);
}

}  // namespace
}  // namespace sluice
