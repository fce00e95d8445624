// Sizes, rates and times as people write and read them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice {

constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;

// "4GB" decimal, "4GiB" binary, "9k" "64M" "2G" decimal (mergekit's), a bare number is bytes; fractions allowed
// ("2.5GiB"). Case of the unit does not matter. Error kUsage names the text.
Result<uint64_t> ParseSize(std::string_view text);
// The same, where billions are a unit too: "5B" is 5 GB (--out-shard-size).
Result<uint64_t> ParseShardSize(std::string_view text);

std::string FormatBytes(uint64_t bytes);          // "1.50 GB", decimal, three digits
std::string FormatMemory(uint64_t bytes);         // "256 MiB", binary
std::string FormatRate(double bytes_per_second);  // "1.62 GB/s"
std::string FormatSeconds(double seconds);        // "0.42 s", "12 s", "3 min 20 s", "2 h 05 min"
std::string FormatCount(uint64_t n);              // "34,388,917,248"

// a * b, or kCorrupt naming `what`, where the product does not fit in 64 bits.
Result<uint64_t> CheckedMultiply(uint64_t a, uint64_t b, std::string_view what);

constexpr uint64_t RoundUp(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }
constexpr uint64_t RoundDown(uint64_t n, uint64_t to) { return n / to * to; }
constexpr uint64_t CeilDiv(uint64_t n, uint64_t by) { return (n + by - 1) / by; }

}  // namespace sluice
