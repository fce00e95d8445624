// bench_decode: every encoding that has a decoder, decoded on one core, beside memcpy of as many floats on the same
// core in the same run.
//
//   bench_decode          a table
//   bench_decode --json   the same figures as one JSON object
//
// Two sizes: 8192 numbers, as the executor's pieces have, which stay in the caches; and 16 Mi numbers (64 MiB of
// floats), which go to memory. A figure is the median of 15 runs of 10 ms or more, by the thread's CPU time, each
// beside a run of memcpy: the share is the median of their quotients (1: as fast as copying the output). Goal: 0.5.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "quant/encoding.h"

namespace {

using sluice::quant::Encoding;

constexpr uint64_t kInCache = 8192, kInMemory = uint64_t{16} << 20;
constexpr int kRuns = 15;

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + kRuns / 2, values.end());
  return values[kRuns / 2];
}

// Seconds of `calls` calls.
double Time(uint64_t calls, const std::function<void()>& call) {
  const double start = CpuSeconds();
  for (uint64_t i = 0; i < calls; ++i) call();
  return CpuSeconds() - start;
}

uint64_t CallsFor10Ms(const std::function<void()>& call) {
  call();
  uint64_t calls = 1;
  while (Time(calls, call) < 0.01) calls *= 2;
  return calls;
}

struct Rate {
  double elements_per_second, of_copy;
};

class Bench {
 public:
  explicit Bench(uint64_t count) : count_(count), stored_(4 * count), floats_(2 * count + kGap, 1.0f) {}

  Rate Decode(Encoding encoding) {
    // Bytes of no meaning but without infinities: the top bit of every other exponent is off.
    std::mt19937 random(1);
    std::vector<uint8_t> pattern(std::min<uint64_t>(stored_.size(), 1 << 16));
    for (uint8_t& byte : pattern) byte = static_cast<uint8_t>(random()) & 0xBF;
    for (uint64_t at = 0; at < stored_.size(); at += pattern.size()) {
      std::copy_n(pattern.begin(), std::min<uint64_t>(pattern.size(), stored_.size() - at),
                  stored_.begin() + static_cast<int64_t>(at));
    }
    const auto decode = [&] {
      encoding->decode(stored_.data(), count_, out());
      asm volatile("" : : "r"(out()) : "memory");
    };
    const auto copy = [&] {
      std::memcpy(out(), floats_.data(), count_ * sizeof(float));
      asm volatile("" : : "r"(out()) : "memory");
    };
    const uint64_t decode_calls = CallsFor10Ms(decode), copy_calls = CallsFor10Ms(copy);
    std::vector<double> seconds, shares;
    for (int run = 0; run < kRuns; ++run) {
      const double copying = Time(copy_calls, copy) / static_cast<double>(copy_calls);
      const double decoding = Time(decode_calls, decode) / static_cast<double>(decode_calls);
      copies_.push_back(copying);
      seconds.push_back(decoding);
      shares.push_back(copying / decoding);
    }
    return {static_cast<double>(count_) / Median(seconds), Median(shares)};
  }

  double copied_elements_per_second() const {
    std::vector<double> copies = copies_;
    std::nth_element(copies.begin(), copies.begin() + static_cast<int64_t>(copies.size() / 2), copies.end());
    return static_cast<double>(count_) / copies[copies.size() / 2];
  }

 private:
  // Between what is copied and the copy: at a few bytes past a multiple of 4 KiB apart, loads wait for stores that they
  // seem to overlap.
  static constexpr uint64_t kGap = 512;

  float* out() { return floats_.data() + count_ + kGap; }

  uint64_t count_;
  std::vector<uint8_t> stored_;
  std::vector<float> floats_;
  std::vector<double> copies_;
};

struct Figure {
  std::string_view name;
  Rate cache, memory;
};

void PrintTable(const Bench& cache, const Bench& memory, const std::vector<Figure>& figures) {
  std::printf("memcpy of floats, one core: %.0f M/s (%llu numbers), %.0f M/s (%llu numbers)\n\n",
              cache.copied_elements_per_second() / 1e6, static_cast<unsigned long long>(kInCache),
              memory.copied_elements_per_second() / 1e6, static_cast<unsigned long long>(kInMemory));
  std::printf("%-12s %14s %9s %14s %9s\n", "encoding", "in cache, M/s", "of copy", "in memory, M/s", "of copy");
  for (const Figure& f : figures) {
    std::printf("%-12.*s %14.0f %9.2f %14.0f %9.2f\n", static_cast<int>(f.name.size()), f.name.data(),
                f.cache.elements_per_second / 1e6, f.cache.of_copy, f.memory.elements_per_second / 1e6,
                f.memory.of_copy);
  }
}

void PrintJson(const Bench& cache, const Bench& memory, const std::vector<Figure>& figures) {
  std::printf(
      "{\"schema\":\"sluice/bench_decode/v1\",\"cache_elements\":%llu,\"memory_elements\":%llu,"
      "\"copied_in_cache_per_second\":%.0f,\"copied_in_memory_per_second\":%.0f,\"encodings\":[",
      static_cast<unsigned long long>(kInCache), static_cast<unsigned long long>(kInMemory),
      cache.copied_elements_per_second(), memory.copied_elements_per_second());
  for (size_t i = 0; i < figures.size(); ++i) {
    const Figure& f = figures[i];
    std::printf(
        "%s{\"name\":\"%.*s\",\"in_cache_per_second\":%.0f,\"in_cache_of_copy\":%.3f,\"in_memory_per_second\":%.0f,"
        "\"in_memory_of_copy\":%.3f}",
        i == 0 ? "" : ",", static_cast<int>(f.name.size()), f.name.data(), f.cache.elements_per_second, f.cache.of_copy,
        f.memory.elements_per_second, f.memory.of_copy);
  }
  std::printf("]}\n");
}

}  // namespace

int main(int argc, char** argv) {
  const bool json = argc == 2 && std::string_view(argv[1]) == "--json";
  if (argc > 1 && !json) {
    std::fprintf(stderr, "usage: bench_decode [--json]\n");
    return 2;
  }
  Bench cache(kInCache), memory(kInMemory);
  std::vector<Figure> figures;
  for (const Encoding encoding : sluice::quant::AllEncodings()) {
    if (encoding->decode != nullptr)
      figures.push_back({encoding.name(), cache.Decode(encoding), memory.Decode(encoding)});
  }
  json ? PrintJson(cache, memory, figures) : PrintTable(cache, memory, figures);
  return 0;
}
