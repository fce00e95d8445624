#include "arithmetic/magnitude_fact.h"

#include <malloc.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <thread>

#include <gtest/gtest.h>

#include "base/counter_rng.h"
#include "kernels/convert.h"
#include "kernels/select.h"
#include "kernels/task_vectors.h"

namespace sluice::arithmetic {
namespace {

using graph::kBlockElements;

uint32_t Word(uint64_t i, uint32_t seed) { return Philox4x32({static_cast<uint32_t>(i), 0, 0, 0}, {seed, 1})[0]; }
float Uniform(uint64_t i, uint32_t seed) { return static_cast<float>(Word(i, seed)) * 0x1p-32f; }
// Symmetric, with a peak at zero: the product of two uniforms, about.
float Peaked(uint64_t i, uint32_t seed) { return (Uniform(i, seed) - 0.5f) * Uniform(i, seed + 1) * 0.02f; }
float Bf16(float value) { return kernels::reference::Bf16ToF32(kernels::reference::F32ToBf16(value)); }

struct Deltas {
  std::vector<float> x, base;
  void Add(float x_value, float base_value) {
    x.push_back(x_value);
    base.push_back(base_value);
  }
};

struct Expected {
  std::vector<bool> kept;
};

// By sorting: larger magnitudes first, then smaller indices.
Expected BySorting(const Deltas& deltas, uint64_t k) {
  const size_t n = deltas.x.size();
  std::vector<uint32_t> bits(n), order(n);
  for (size_t i = 0; i < n; ++i) bits[i] = kernels::reference::MagnitudeBits(deltas.x[i], deltas.base[i]);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return bits[a] > bits[b]; });
  Expected expected{std::vector<bool>(n)};
  for (size_t i = 0; i < k; ++i) expected.kept[order[i]] = true;
  return expected;
}

struct Outcome {
  graph::FactValue value;
  int passes = 0;
  uint64_t blocks = 0;
};

Outcome RunFold(const Deltas& deltas, uint64_t k, const MagnitudeLimits& limits, int threads = 1,
                bool backwards = false, bool with_sums = false) {
  const uint64_t n = deltas.x.size(), num_blocks = (n + kBlockElements - 1) / kBlockElements;
  const auto fold = MakeMagnitudeFold(n, k, with_sums, threads, limits);
  Outcome outcome;
  do {
    EXPECT_LT(outcome.passes, 12);
    ++outcome.passes;
    std::vector<uint64_t> wanted;
    for (uint64_t block = 0; block < num_blocks; ++block) {
      if (fold->Wants(block)) wanted.push_back(block);
    }
    if (backwards) std::reverse(wanted.begin(), wanted.end());
    outcome.blocks += wanted.size();
    const auto work = [&](int worker) {
      for (size_t i = worker; i < wanted.size(); i += threads) {
        const uint64_t end = std::min((wanted[i] + 1) * kBlockElements, n);
        for (uint64_t begin = wanted[i] * kBlockElements; begin < end; begin += graph::kPieceElements) {
          const graph::Range piece{begin, std::min(begin + graph::kPieceElements, end)};
          const graph::View views[] = {{reinterpret_cast<const uint8_t*>(deltas.x.data() + begin), piece},
                                       {reinterpret_cast<const uint8_t*>(deltas.base.data() + begin), piece}};
          fold->Add(worker, piece, views);
        }
      }
    };
    std::vector<std::thread> workers;
    for (int worker = 1; worker < threads; ++worker) workers.emplace_back(work, worker);
    work(0);
    for (std::thread& worker : workers) worker.join();
  } while (!fold->Finish(&outcome.value) && outcome.passes < 12);
  return outcome;
}

// The kept set is the sorted one, but that of zeros any may be kept: they add nothing.
void ExpectKept(const Deltas& deltas, uint64_t k, const Expected& expected, const graph::FactValue& value) {
  ASSERT_GE(value.size(), 2u);
  const auto threshold = static_cast<uint32_t>(value[0]);
  const auto last_tie = static_cast<uint64_t>(value[1]);
  uint64_t kept = 0, wrong = 0;
  for (size_t i = 0; i < deltas.x.size(); ++i) {
    const uint32_t bits = kernels::reference::MagnitudeBits(deltas.x[i], deltas.base[i]);
    const bool keeps = bits > threshold || (bits == threshold && i <= last_tie);
    kept += keeps;
    wrong += keeps != expected.kept[i] && bits != 0;
  }
  EXPECT_EQ(wrong, 0u);
  if (threshold != 0) EXPECT_EQ(kept, k);
}

Deltas Make(const std::string& kind, size_t n) {
  Deltas deltas;
  for (size_t i = 0; i < n; ++i) {
    if (kind == "f32") {
      deltas.Add(Peaked(i, 1) + Peaked(i, 5), Peaked(i, 5));
    } else if (kind == "bf16") {  // differences of bf16 numbers: few, with many elements each
      const float base = Bf16(Peaked(i, 7) * 4);
      deltas.Add(Bf16(base + Peaked(i, 9) * 0.02f), base);
    } else if (kind == "equal") {
      deltas.Add(1.5f, Word(i, 3) & 1 ? 1.0f : 2.0f);
    } else if (kind == "zeros") {
      deltas.Add(Word(i, 3) % 10 < 6 ? 1.0f : 1.0f + Uniform(i, 4), 1.0f);
    } else if (kind == "blocks") {  // each block of another scale, so that a sample is wrong
      deltas.Add(Uniform(i, 2) * std::ldexp(1.0f, static_cast<int>(i / kBlockElements) * 3), 0.0f);
    } else if (kind == "narrow") {  // four coarse bins, so that a sample's bracket is narrow
      deltas.Add(1 + Uniform(i, 2) / 32, 0.0f);
    } else if (kind == "odd") {  // the sampled blocks are nothing like the others
      deltas.Add((i / kBlockElements % 2 == 1 ? 1.0f : 1.125f) + Uniform(i, 2) / 32, 0.0f);
    } else {
      ADD_FAILURE() << kind;
    }
  }
  return deltas;
}

constexpr size_t kElements = 4 * kBlockElements + 12345;
constexpr MagnitudeLimits kSmall = {
    .all_blocks = 0, .sample_above_blocks = 2, .sample_step = 2, .max_candidates = 2000};
constexpr MagnitudeLimits kUnsampled = {
    .all_blocks = 0, .sample_above_blocks = 64, .sample_step = 32, .max_candidates = 2000};
constexpr MagnitudeLimits kRoomy = {
    .all_blocks = 0, .sample_above_blocks = 2, .sample_step = 2, .max_candidates = 1 << 20};

TEST(MagnitudeFact, FindsTheKLargestByEveryWay) {
  for (const char* kind : {"f32", "bf16", "equal", "zeros", "blocks", "narrow", "odd"}) {
    const Deltas deltas = Make(kind, kElements);
    for (const uint64_t k : {uint64_t{1}, uint64_t{1000}, uint64_t{kElements * 3 / 10}, uint64_t{kElements * 3 / 5},
                             uint64_t{kElements - 1}}) {
      const Expected expected = BySorting(deltas, k);
      for (const MagnitudeLimits& limits : {kSmall, kUnsampled, kRoomy, MagnitudeLimits{.all_blocks = 100}}) {
        SCOPED_TRACE(testing::Message() << kind << " k " << k << " candidates " << limits.max_candidates << " all "
                                        << limits.all_blocks << " sample above " << limits.sample_above_blocks);
        ExpectKept(deltas, k, expected, RunFold(deltas, k, limits).value);
      }
    }
  }
}

TEST(MagnitudeFact, DoesNotDependOnWorkersOrOrder) {
  for (const char* kind : {"f32", "bf16"}) {
    const Deltas deltas = Make(kind, kElements);
    const uint64_t k = kElements / 3;
    const graph::FactValue value = RunFold(deltas, k, kSmall, 1, false, true).value;
    ASSERT_EQ(value.size(), 4u);
    for (const MagnitudeLimits& limits : {kSmall, kUnsampled, kRoomy, MagnitudeLimits{.all_blocks = 100}}) {
      EXPECT_EQ(RunFold(deltas, k, limits, 3, false, true).value, value);
      EXPECT_EQ(RunFold(deltas, k, limits, 2, true, true).value, value);
    }
  }
}

TEST(MagnitudeFact, TakesAFewPasses) {
  const uint64_t k = kElements / 2;
  const auto passes = [&](const char* kind, const MagnitudeLimits& limits) {
    return RunFold(Make(kind, kElements), k, limits).passes;
  };
  EXPECT_EQ(passes("f32", {.all_blocks = 100}), 1);
  EXPECT_EQ(passes("f32", kUnsampled), 2);   // counts, collect: one key of many, few elements share a value
  EXPECT_EQ(passes("f32", kRoomy), 2);       // sample, collect: there is room for the bracket
  EXPECT_EQ(passes("f32", kSmall), 4);       // sample, fine, collect without room, collect of one bucket
  EXPECT_EQ(passes("blocks", kRoomy), 2);    // a wide bracket is no trouble where there is room
  EXPECT_EQ(passes("bf16", kUnsampled), 2);  // counts, ties: the key is one value
  EXPECT_EQ(passes("bf16", kSmall), 3);      // sample, collect (a value that many share), block
  EXPECT_EQ(passes("equal", kSmall), 3);     // sample, collect, block
  EXPECT_EQ(passes("odd", kRoomy), 4);       // sample, collect: missed; counts, collect
  // A sample reads 2 of the 5 blocks here, and one block is read for the last tie.
  EXPECT_EQ(RunFold(Make("equal", kElements), k, kSmall).blocks, 2u + 5u + 1u);
}

TEST(MagnitudeFact, KeepsTiesInIndexOrder) {
  Deltas deltas;
  for (const float d : {1.f, -2.f, 2.f, 3.f, -2.f, 2.f, 0.5f}) deltas.Add(d, 0);
  EXPECT_EQ(RunFold(deltas, 3, {}).value, (graph::FactValue{std::bit_cast<uint32_t>(2.f), 2}));
  EXPECT_EQ(RunFold(deltas, 1, {}).value, (graph::FactValue{std::bit_cast<uint32_t>(3.f), 6}));
  EXPECT_EQ(RunFold(deltas, 5, {}).value, (graph::FactValue{std::bit_cast<uint32_t>(2.f), 6}));
}

TEST(MagnitudeFact, NansAreLargest) {
  Deltas deltas;
  for (const float d : {1.f, std::nanf(""), INFINITY, std::nanf("1"), 2.f}) deltas.Add(d, 0);
  EXPECT_EQ(RunFold(deltas, 1, {}).value, (graph::FactValue{0x7FC00000, 1}));
  EXPECT_EQ(RunFold(deltas, 2, {}).value, (graph::FactValue{0x7FC00000, 4}));
  EXPECT_EQ(RunFold(deltas, 3, {}).value, (graph::FactValue{0x7F800000, 4}));
  EXPECT_EQ(RunFold(deltas, 4, {}).value, (graph::FactValue{std::bit_cast<uint32_t>(2.f), 4}));
}

TEST(MagnitudeFact, SumsWhatIsKept) {
  const Deltas deltas = Make("bf16", kElements);
  const uint64_t k = kElements / 4;
  const Outcome outcome = RunFold(deltas, k, kSmall, 1, false, true);
  const Expected expected = BySorting(deltas, k);
  double all = 0, kept = 0;
  for (size_t i = 0; i < deltas.x.size(); ++i) {
    const double magnitude = std::fabs(deltas.x[i] - deltas.base[i]);
    all += magnitude;
    if (expected.kept[i]) kept += magnitude;
  }
  // n additions in f64, in another order: a relative error below n 2^-53 on each side.
  const double bound = 2 * static_cast<double>(kElements) * 0x1p-53;
  ASSERT_EQ(outcome.value.size(), 4u);
  EXPECT_NEAR(outcome.value[2], all, all * bound);
  EXPECT_NEAR(outcome.value[3], kept, kept * bound);
  EXPECT_LT(kept, all);
}

class NoNode final : public graph::Node {
 public:
  explicit NoNode(uint64_t n) : Node("test", quant::F32(), n, {}) {}
  void Compute(const graph::ComputeArgs&) const override {}
  double NanosecondsPerElement() const override { return 0; }
};

// What the allocator gives out while a fold is under way stays within StateBytes, in the worst cases.
TEST(MagnitudeFact, StateBytesAreHonest) {
  if (mallinfo2().uordblks == 0) GTEST_SKIP() << "no mallinfo2 with this allocator";
  for (const char* kind : {"bf16", "equal", "f32"}) {
    for (const size_t num_blocks : {2, 9, 20, 66}) {
      const size_t n = num_blocks * kBlockElements;
      Deltas deltas = Make(kind, n);
      const NoNode x(n), base(n);
      const MagnitudeFact fact(&x, &base, n / 3, true);
      const auto used = [] {
        const struct mallinfo2 info = mallinfo2();
        return info.uordblks + info.hblkhd;
      };
      const size_t before = used();
      size_t peak = 0;
      {
        const auto fold = fact.Begin(2);
        graph::FactValue value;
        int passes = 0;
        do {
          ++passes;
          for (uint64_t block = 0; block < num_blocks; ++block) {
            if (!fold->Wants(block)) continue;
            for (uint64_t i = 0; i < kBlockElements; i += graph::kPieceElements) {
              const graph::Range piece{block * kBlockElements + i, block * kBlockElements + i + graph::kPieceElements};
              const graph::View views[] = {{reinterpret_cast<const uint8_t*>(deltas.x.data() + piece.begin), piece},
                                           {reinterpret_cast<const uint8_t*>(deltas.base.data() + piece.begin), piece}};
              fold->Add(static_cast<int>(block % 2), piece, views);
            }
            peak = std::max(peak, used());
          }
        } while (!fold->Finish(&value));
        EXPECT_LE(passes, fact.max_passes());
      }
      EXPECT_LE(peak - before, fact.StateBytes(2)) << kind << " " << num_blocks;
      EXPECT_GE((peak - before) * 8, fact.StateBytes(2)) << "far too much is asked for: " << kind << " " << num_blocks;
    }
  }
}

}  // namespace
}  // namespace sluice::arithmetic
