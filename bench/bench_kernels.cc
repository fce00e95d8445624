// bench_kernels: what each kernel does on one core, its data in the caches, beside the rate at which the same core
// reads memory in the same run.
//
//   bench_kernels          a table
//   bench_kernels --json   the same figures as one JSON object
//
// A figure is the median of 15 runs of 10 ms or more, by the thread's CPU time. M elements/s are those of the output
// (for what makes none: of one input); GB/s are all bytes that the kernel reads and writes, 10^9 a second. The goal is
// what a prototype reached on a Zen 3 core.
#include <sys/mman.h>

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

#include "kernels/compare.h"
#include "kernels/convert.h"
#include "kernels/select.h"
#include "kernels/sha256.h"
#include "kernels/task_vectors.h"

namespace {

using namespace sluice::kernels;

constexpr uint64_t kElements = 8192;  // of an array, as the executor's pieces have
constexpr int kModels = 7;

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Seconds of one call.
double Measure(const std::function<void()>& call) {
  call();
  uint64_t calls = 1;
  const auto time = [&] {
    const double start = CpuSeconds();
    for (uint64_t i = 0; i < calls; ++i) call();
    return CpuSeconds() - start;
  };
  while (time() < 0.01) calls *= 2;
  std::vector<double> seconds(15);
  for (double& s : seconds) s = time() / static_cast<double>(calls);
  std::nth_element(seconds.begin(), seconds.begin() + 7, seconds.end());
  return seconds[7];
}

// A value that the compiler must think is used.
template <class T>
void Use(const T& value) {
  asm volatile("" : : "r"(&value) : "memory");
}

double MemoryReadBytesPerSecond() {
  constexpr uint64_t kBytes = uint64_t{256} << 20;
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::fprintf(stderr, "bench_kernels: no 256 MiB of memory to read\n");
    std::exit(1);
  }
  madvise(memory, kBytes, MADV_HUGEPAGE);
  std::memset(memory, 1, kBytes);
  using Vector = uint64_t __attribute__((vector_size(16)));
  const Vector* vectors = static_cast<const Vector*>(memory);
  const double seconds = Measure([&] {
    Vector sums[4] = {};
    for (uint64_t i = 0; i < kBytes / sizeof(Vector); i += 4) {
      sums[0] ^= vectors[i];
      sums[1] ^= vectors[i + 1];
      sums[2] ^= vectors[i + 2];
      sums[3] ^= vectors[i + 3];
    }
    Use(sums);
  });
  munmap(memory, kBytes);
  return static_cast<double>(kBytes) / seconds;
}

struct Figure {
  std::string name;
  double elements_per_second, bytes_per_second;
  double goal;  // M elements/s, 0 where there is none
};

class Bench {
 public:
  Bench() : out_(kElements), scratch_(TaskVectorScratchFloats(kModels)), bytes_(4 * kElements) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0f, 0.02f);
    arrays_.resize(kModels + 1);
    for (std::vector<float>& array : arrays_) {
      array.resize(kElements);
      for (float& value : array) value = normal(random);
    }
    F32ToBf16(arrays_[0].data(), kElements, bytes_.data());
    for (const std::vector<float>& array : arrays_) pointers_.push_back(array.data());
  }

  std::vector<Figure> Run() {
    Merges();
    Facts();
    Casts();
    Hashes();
    return std::move(figures_);
  }

 private:
  void Add(const std::string& name, uint64_t elements, double bytes_per_element, double goal,
           const std::function<void()>& call) {
    const double rate = static_cast<double>(elements) / Measure(call);
    figures_.push_back({name, rate, rate * bytes_per_element, goal});
  }

  void Merges() {
    const double bytes = 4 * (kModels + 2);
    const auto sum = [&](DeltaMask mask, float scale, bool consensus) {
      std::vector<TaskVector> models;
      for (int m = 0; m < kModels; ++m) {
        mask.key.k0 = static_cast<uint32_t>(m);
        models.push_back({arrays_[m + 1].data(), 0.3f + 0.1f * static_cast<float>(m), scale, mask});
      }
      return [this, models, consensus] {
        TaskVectorSum({.base = arrays_[0].data(),
                       .models = models,
                       .consensus = consensus,
                       .normalize = consensus,
                       .lambda = 0.9f,
                       .first_element = 0,
                       .count = kElements,
                       .out = out_.data(),
                       .scratch = scratch_.data()});
      };
    };
    const DeltaMask magnitude = {.kind = DeltaMask::Kind::kMagnitude, .threshold = 0.02f};
    const DeltaMask random = {.kind = DeltaMask::Kind::kRandom, .key = {1, 2}, .keep_below = 0x80000000};
    const std::string models = ", base + " + std::to_string(kModels);
    Add("linear" + models, kElements, bytes, 0, [&] {
      const std::vector<float> weights(kModels + 1, 0.125f);
      WeightedSum(pointers_, weights, 1, kElements, out_.data());
    });
    Add("task_arithmetic" + models, kElements, bytes, 0, sum({}, 1, false));
    Add("ties" + models, kElements, bytes, 350, sum(magnitude, 1, true));
    Add("dare_linear" + models, kElements, bytes, 0, sum(random, 2, false));
    Add("dare_ties" + models, kElements, bytes, 125, sum(random, 2, true));
  }

  void Facts() {
    const float *x = arrays_[1].data(), *base = arrays_[0].data();
    words_.resize(kElements);
    Add("random words (Philox4x32-10)", kElements, 4, 1360, [&] {
      RandomMaskWords({1, 2}, 0, kElements, words_.data());
    });
    const DeltaMask random = {.kind = DeltaMask::Kind::kRandom, .key = {1, 2}, .keep_below = 0x80000000};
    Add("L1 of all and masked, random mask", kElements, 8, 0, [&] {
      L1Lanes lanes;
      AccumulateL1(x, base, random, 0, kElements, &lanes);
      Use(lanes);
    });
    Add("L1 of all and masked, by magnitude", kElements, 8, 0, [&] {
      L1Lanes lanes;
      AccumulateL1(x, base, {.kind = DeltaMask::Kind::kMagnitude, .threshold = 0.02f}, 0, kElements, &lanes);
      Use(lanes);
    });
    key_counts_.resize(kNumKeys);
    Add("magnitudes' keys counted", kElements, 8, 0,
        [&] { MagnitudeKeyCounts(x, base, kElements, key_counts_.data()); });
    Add("magnitudes' keys counted, nothing changed", kElements, 8, 0,
        [&] { MagnitudeKeyCounts(x, x, kElements, key_counts_.data()); });
    candidates_.resize(kElements);
    Add("magnitudes of one key in a hundred", kElements, 8, 0, [&] {
      BracketCounts counts;
      Use(CollectCandidates(x, base, kElements, {.low = 0x3CC00000, .high = 0x3CC1FFFF}, 0, candidates_.data(),
                            &counts));
    });
    Add("difference of two", kElements, 8, 0, [&] {
      DifferenceLanes lanes;
      AccumulateDifference(x, base, kElements, &lanes);
      Use(lanes);
    });
    Add("difference of an array and itself", kElements, 4, 0, [&] {
      DifferenceLanes lanes;
      AccumulateDifference(x, x, kElements, &lanes);
      Use(lanes);
    });
    Add("count of NaNs", kElements, 4, 0, [&] { Use(CountNans(x, kElements)); });
  }

  void Casts() {
    Add("bf16 to f32", kElements, 6, 0, [&] { Bf16ToF32(bytes_.data(), kElements, out_.data()); });
    Add("f16 to f32", kElements, 6, 0, [&] { F16ToF32(bytes_.data(), kElements, out_.data()); });
    Add("f32 to bf16", kElements, 6, 0, [&] { F32ToBf16(arrays_[1].data(), kElements, bytes_.data()); });
    Add("f32 to f16", kElements, 6, 0, [&] { F32ToF16(arrays_[1].data(), kElements, bytes_.data()); });
  }

  void Hashes() {
    constexpr uint64_t kChunk = 1 << 20;
    const std::vector<uint8_t> a(kChunk, 1), b(kChunk, 2);
    Hash256 hash_a, hash_b;
    Add("sha256", 2 * kChunk, 1, 2770, [&] { HashLeafPair(a, b, &hash_a, &hash_b); });
    Add("sha256, a chunk at a time", kChunk, 1, 1550, [&] { hash_a = HashLeaf(a); });
    Use(hash_a);
  }

  std::vector<std::vector<float>> arrays_;
  std::vector<const float*> pointers_;
  std::vector<float> out_, scratch_;
  std::vector<uint8_t> bytes_;
  std::vector<uint32_t> words_;
  std::vector<uint32_t> key_counts_;
  std::vector<Candidate> candidates_;
  std::vector<Figure> figures_;
};

void PrintTable(double memory, const std::vector<Figure>& figures) {
  std::printf("one core reads memory at %.1f GB/s (256 MiB)\n\n", memory / 1e9);
  std::printf("%-38s %12s %9s %10s %9s\n", "kernel", "M elements/s", "GB/s", "of memory", "goal, M/s");
  for (const Figure& f : figures) {
    std::printf("%-38s %12.0f %9.1f %10.2f", f.name.c_str(), f.elements_per_second / 1e6, f.bytes_per_second / 1e9,
                f.bytes_per_second / memory);
    if (f.goal > 0) {
      std::printf(" %9.0f\n", f.goal);
    } else {
      std::printf(" %9s\n", "");
    }
  }
}

void PrintJson(double memory, const std::vector<Figure>& figures) {
  std::printf("{\"schema\":\"sluice/bench_kernels/v1\",\"memory_read_bytes_per_second\":%.0f,\"kernels\":[", memory);
  for (size_t i = 0; i < figures.size(); ++i) {
    std::printf("%s{\"name\":\"%s\",\"elements_per_second\":%.0f,\"bytes_per_second\":%.0f,\"goal\":%.0f}",
                i == 0 ? "" : ",", figures[i].name.c_str(), figures[i].elements_per_second, figures[i].bytes_per_second,
                figures[i].goal * 1e6);
  }
  std::printf("]}\n");
}

}  // namespace

int main(int argc, char** argv) {
  const bool json = argc == 2 && std::string_view(argv[1]) == "--json";
  if (argc > 1 && !json) {
    std::fprintf(stderr, "usage: bench_kernels [--json]\n");
    return 2;
  }
  const double memory = MemoryReadBytesPerSecond();
  const std::vector<Figure> figures = Bench().Run();
  json ? PrintJson(memory, figures) : PrintTable(memory, figures);
  return 0;
}
