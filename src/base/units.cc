#include "base/units.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <iterator>
#include <span>

namespace sluice {
namespace {

struct Unit {
  std::string_view name;  // lower case
  uint64_t bytes;
};
constexpr uint64_t kKilo = 1000, kMega = 1000 * kKilo, kGiga = 1000 * kMega, kTera = 1000 * kGiga;
constexpr auto kUnits = std::to_array<Unit>({{"", 1},
                                             {"b", 1},
                                             {"k", kKilo},
                                             {"kb", kKilo},
                                             {"kib", kKiB},
                                             {"m", kMega},
                                             {"mb", kMega},
                                             {"mib", kMiB},
                                             {"g", kGiga},
                                             {"gb", kGiga},
                                             {"gib", kGiB},
                                             {"t", kTera},
                                             {"tb", kTera},
                                             {"tib", 1024 * kGiB}});

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

Result<uint64_t> Parse(std::string_view text, uint64_t bytes_of_b) {
  const auto refuse = [&](std::string_view why) {
    return Fail(
        ErrorCode::kUsage,
        fmt::format("'{}' is not a size: {}; write a number and a unit, such as 4GiB, 2.5GB or 64M", text, why));
  };
  // The number is taken as a decimal fraction, digits / denominator, so that no size is off by a rounding.
  unsigned __int128 digits = 0;
  uint64_t denominator = 1;
  size_t at = 0, num_digits = 0;
  bool in_fraction = false;
  for (; at < text.size() && (IsDigit(text[at]) || (text[at] == '.' && !in_fraction)); ++at) {
    if (text[at] == '.') {
      in_fraction = true;
      continue;
    }
    if (++num_digits > 24) return refuse("too many digits");
    digits = digits * 10 + static_cast<unsigned>(text[at] - '0');
    if (in_fraction) {
      if (denominator > UINT64_MAX / 10) return refuse("too many digits");
      denominator *= 10;
    }
  }
  if (num_digits == 0) return refuse("it does not begin with a number");
  while (at < text.size() && text[at] == ' ') ++at;
  const std::string unit_name = Lower(text.substr(at));
  for (const Unit& unit : kUnits) {
    if (unit.name != unit_name) continue;
    // 24 digits are under 2^80 and the largest unit is 2^40: the product fits in 128 bits.
    const unsigned __int128 bytes = digits * (unit.name == "b" ? bytes_of_b : unit.bytes) / denominator;
    if (bytes > UINT64_MAX) return refuse("more than 64 bits of bytes");
    return static_cast<uint64_t>(bytes);
  }
  return refuse(fmt::format("unknown unit '{}'", text.substr(at)));
}

// Three significant digits and the first unit in which they are below `step`, after rounding.
std::string Scaled(double value, double step, std::span<const char* const> units) {
  size_t unit = 0;
  while (unit + 1 < units.size() && value >= step) {
    value /= step;
    ++unit;
  }
  const auto digits_after_point = [](double v) { return v < 9.995 ? 2 : v < 99.95 ? 1 : 0; };
  // 999.7 MB is 1.00 GB, not 1000 MB. In binary 1000 to 1023 stay as they are.
  if (unit + 1 < units.size() && std::round(value) >= step) {
    value /= step;
    ++unit;
  }
  if (unit == 0) return fmt::format("{:.0f} {}", value, units[0]);
  return fmt::format("{:.{}f} {}", value, digits_after_point(value), units[unit]);
}

constexpr const char* kDecimal[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
constexpr const char* kBinary[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};

}  // namespace

Result<uint64_t> ParseSize(std::string_view text) { return Parse(text, 1); }
Result<uint64_t> ParseShardSize(std::string_view text) { return Parse(text, kGiga); }

std::string FormatBytes(uint64_t bytes) { return Scaled(static_cast<double>(bytes), 1000, kDecimal); }

std::string FormatMemory(uint64_t bytes) {
  // A whole number of units, as limits usually are, is said exactly: 256 MiB, not 256.0.
  for (size_t unit = std::size(kBinary); unit-- > 0;) {
    const uint64_t size = uint64_t{1} << (10 * unit);
    if (bytes >= size && bytes % size == 0 && bytes / size < 1024)
      return fmt::format("{} {}", bytes / size, kBinary[unit]);
  }
  return Scaled(static_cast<double>(bytes), 1024, kBinary);
}

std::string FormatRate(double bytes_per_second) {
  if (!std::isfinite(bytes_per_second) || bytes_per_second < 0) return "unknown";
  return Scaled(bytes_per_second, 1000, kDecimal) + "/s";
}

std::string FormatSeconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "unknown";
  if (seconds < 0.995) return fmt::format("{:.2f} s", seconds);
  if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
  if (seconds > 1e15) return "unknown";
  const uint64_t whole = static_cast<uint64_t>(std::llround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  const uint64_t minutes = (whole + 30) / 60;
  return fmt::format("{} h {:02} min", minutes / 60, minutes % 60);
}

std::string FormatCount(uint64_t n) {
  std::string text = std::to_string(n);
  for (size_t at = text.size(); at > 3;) {
    at -= 3;
    text.insert(at, 1, ',');
  }
  return text;
}

Result<uint64_t> CheckedMultiply(uint64_t a, uint64_t b, std::string_view what) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) {
    return Fail(ErrorCode::kCorrupt, fmt::format("{}: {} x {} does not fit in 64 bits", what, a, b));
  }
  return product;
}

}  // namespace sluice
