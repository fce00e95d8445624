#include "verify/comparison_sink.h"

#include <cmath>
#include <cstring>
#include <random>

#include <gtest/gtest.h>

#include "base/memory_budget.h"
#include "base/units.h"
#include "kernels/sha256.h"
#include "stream/checkpoint_groups.h"
#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

using tests::EncodedTensor;
using tests::MakeMemoryCheckpoint;
using tests::MemoryTensor;

struct Outcome {
  std::vector<TensorDiff> unequal;
  std::vector<checkpoint::TensorDigest> digests_a, digests_b;
  uint64_t identical = 0, identical_elements = 0;
  bool stopped_early = false;
  uint64_t bytes_read = 0;
};

struct How {
  ComparisonOptions options = {};
  uint64_t max_tile_bytes = 1 << 20;
};

Outcome Compare(const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b, How how = {}) {
  const Alignment alignment = Align(a.tensors(), b.tensors());
  const stream::LockstepGroups groups(alignment.Members(a, b));
  MemoryBudget budget(ResidentBytes() + (uint64_t{1} << 30));
  how.options.budget = &budget;
  ComparisonSink sink(a, b, alignment, how.options);
  stream::StreamOptions options;
  options.num_threads = how.options.num_threads;
  options.wants = sink.wants();
  options.budget = &budget;
  options.max_tile_bytes = how.max_tile_bytes;
  auto stream = stream::Stream::Open(groups, options);
  EXPECT_TRUE(stream.has_value()) << stream.error().ToString();
  if (!stream) return {};
  stream::Sink* const sinks[] = {&sink};
  const Result<void> pumped = stream::Pump(**stream, sinks);
  Outcome run;
  run.stopped_early = sink.stopped_early();
  run.bytes_read = sink.bytes_read();
  EXPECT_EQ(pumped.has_value(), !run.stopped_early);
  run.unequal = sink.Unequal();
  run.identical = sink.identical_tensors();
  run.identical_elements = sink.identical_elements();
  if (!run.stopped_early) {
    run.digests_a = sink.DigestsOfA();
    run.digests_b = sink.DigestsOfB();
  }
  return run;
}

std::vector<float> Normal(uint64_t count, uint32_t seed, float scale = 0.02f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

MemoryTensor RandomBytes(std::string name, std::string encoding, std::vector<uint64_t> shape, uint64_t size,
                         uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return {std::move(name), std::move(encoding), std::move(shape), std::move(bytes)};
}

// The definition, written plainly.
kernels::Hash256 PlainRoot(const std::vector<uint8_t>& bytes) {
  std::vector<kernels::Hash256> leaves;
  for (size_t at = 0; at < bytes.size(); at += kMiB) {
    leaves.push_back(kernels::HashLeaf({bytes.data() + at, std::min<size_t>(kMiB, bytes.size() - at)}));
  }
  return kernels::MerkleRoot(leaves);
}

DifferenceStats PlainStats(const std::vector<float>& a, const std::vector<float>& b) {
  DifferenceStats stats{.elements = a.size()};
  double aa = 0, bb = 0, ab = 0, dd = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = a[i], y = b[i];
    if (x != y) ++stats.changed;
    stats.max_abs = std::max(stats.max_abs, std::abs(x - y));
    aa += x * x, bb += y * y, ab += x * y, dd += (x - y) * (x - y);
  }
  stats.relative_l2 = std::sqrt(dd / aa);
  stats.cosine = ab / std::sqrt(aa) / std::sqrt(bb);
  return stats;
}

// More than two tiles of bf16, with a last block that is not whole.
constexpr uint64_t kLarge = 1'300'001;

TEST(ComparisonSinkTest, IdenticalSidesHaveTheRootsOfTheDefinition) {
  const MemoryTensor large = EncodedTensor("large", "BF16", {kLarge}, Normal(kLarge, 1));
  // 34-byte blocks: no chunk of 1 MiB ends where a tile does.
  const MemoryTensor blocks = RandomBytes("blocks", "Q8_0", {32, 3000}, 34 * 3000, 2);
  const MemoryTensor long_blocks = RandomBytes("long_blocks", "Q8_0", {100, 32 * 1000}, 34 * 1000 * 100, 3);
  const MemoryTensor small = EncodedTensor("small", "F32", {3}, {1, -2, 3});
  const MemoryTensor empty = {"empty", "F32", {0, 7}, {}};
  const std::vector<MemoryTensor> tensors = {large, blocks, long_blocks, small, empty};
  const auto a = MakeMemoryCheckpoint("a", tensors), b = MakeMemoryCheckpoint("b", tensors);
  for (const int threads : {1, 3}) {
    const Outcome run = Compare(*a, *b, {.options = {.num_threads = threads}});
    EXPECT_TRUE(run.unequal.empty());
    EXPECT_EQ(run.identical, 5u);
    EXPECT_EQ(run.identical_elements, kLarge + 32 * 3000 + 32 * 100'000 + 3);
    ASSERT_EQ(run.digests_a.size(), 5u);
    for (size_t i = 0; i < run.digests_a.size(); ++i) {
      EXPECT_EQ(run.digests_a[i].root, run.digests_b[i].root);
      for (const MemoryTensor& tensor : tensors) {
        if (tensor.name == run.digests_a[i].name) {
          EXPECT_EQ(run.digests_a[i].root, PlainRoot(tensor.bytes)) << tensor.name;
        }
      }
    }
  }
}

TEST(ComparisonSinkTest, AChangeIsMeasuredAndBothSidesAreDigested) {
  std::vector<float> x = Normal(kLarge, 4);
  std::vector<float> y = x;
  const std::vector<float> noise = Normal(kLarge, 5, 0.001f);
  for (size_t i = 700'000; i < kLarge; i += 3) y[i] += noise[i];
  const MemoryTensor a_tensor = EncodedTensor("w", "F32", {kLarge}, x),
                     b_tensor = EncodedTensor("w", "F32", {kLarge}, y);
  const auto a = MakeMemoryCheckpoint("a", {a_tensor}), b = MakeMemoryCheckpoint("b", {b_tensor});
  const Outcome run = Compare(*a, *b, {.options = {.num_threads = 2}});
  ASSERT_EQ(run.unequal.size(), 1u);
  const TensorDiff& diff = run.unequal[0];
  EXPECT_EQ(diff.tensor_class, TensorClass::kChanged);
  EXPECT_EQ(diff.digest_a, PlainRoot(a_tensor.bytes));
  EXPECT_EQ(diff.digest_b, PlainRoot(b_tensor.bytes));
  ASSERT_TRUE(diff.stats.has_value());
  const DifferenceStats plain = PlainStats(x, y);
  EXPECT_EQ(diff.stats->elements, kLarge);
  EXPECT_EQ(diff.stats->changed, plain.changed);
  EXPECT_EQ(diff.stats->max_abs, plain.max_abs);
  // Two orders of summation of n f64 terms of one sign differ by at most n eps, relatively.
  const double bound = 2 * static_cast<double>(kLarge) * 0x1p-53;
  EXPECT_NEAR(diff.stats->relative_l2, plain.relative_l2, plain.relative_l2 * bound);
  EXPECT_NEAR(diff.stats->cosine, plain.cosine, bound);
  EXPECT_EQ(diff.first_changed, 700'000u);
}

TEST(ComparisonSinkTest, StatisticsDependNeitherOnThreadsNorOnTiles) {
  const auto a = MakeMemoryCheckpoint("a", {EncodedTensor("w", "BF16", {kLarge}, Normal(kLarge, 6))});
  const auto b = MakeMemoryCheckpoint("b", {EncodedTensor("w", "F16", {kLarge}, Normal(kLarge, 7))});
  const Outcome first = Compare(*a, *b);
  ASSERT_EQ(first.unequal.size(), 1u);
  for (const int threads : {1, 2, 5}) {
    for (const uint64_t tile : {uint64_t{1} << 18, uint64_t{1} << 20, uint64_t{1} << 22}) {
      const Outcome run = Compare(*a, *b, {.options = {.num_threads = threads}, .max_tile_bytes = tile});
      ASSERT_EQ(run.unequal.size(), 1u);
      EXPECT_EQ(run.unequal[0].stats->relative_l2, first.unequal[0].stats->relative_l2);
      EXPECT_EQ(run.unequal[0].stats->cosine, first.unequal[0].stats->cosine);
      EXPECT_EQ(run.unequal[0].stats->changed, first.unequal[0].stats->changed);
      EXPECT_EQ(run.unequal[0].digest_a, first.unequal[0].digest_a);
      EXPECT_EQ(run.unequal[0].digest_b, first.unequal[0].digest_b);
    }
  }
}

// Compares one tensor stored in two ways.
TensorDiff CompareOne(const MemoryTensor& a, const MemoryTensor& b, const ComparisonOptions& options = {}) {
  const Outcome run = Compare(*MakeMemoryCheckpoint("a", {a}), *MakeMemoryCheckpoint("b", {b}), {.options = options});
  EXPECT_EQ(run.unequal.size(), 1u);
  return run.unequal.empty() ? TensorDiff{} : run.unequal[0];
}

TEST(ComparisonSinkTest, ACastThatLosesNothingIsEqual) {
  std::vector<float> values = Normal(1000, 8);
  values[3] = std::nanf("");
  values[4] = INFINITY;
  values[5] = -0.0f;
  const MemoryTensor bf16 = EncodedTensor("w", "BF16", {1000}, values);
  std::vector<float> back(1000);
  quant::BF16()->decode(bf16.bytes.data(), 1000, back.data());
  const MemoryTensor f32 = EncodedTensor("w", "F32", {1000}, back);
  EXPECT_EQ(CompareOne(bf16, f32).tensor_class, TensorClass::kEqualAfterCast);
  EXPECT_EQ(CompareOne(f32, bf16).tensor_class, TensorClass::kEqualAfterCast);
  // A zero's sign is a number's too, where a cast is to be blamed.
  back[5] = 0.0f;
  EXPECT_NE(CompareOne(bf16, EncodedTensor("w", "F32", {1000}, back)).tensor_class, TensorClass::kEqualAfterCast);
}

TEST(ComparisonSinkTest, RoundingIsFoundEitherWay) {
  std::vector<float> values = Normal(kLarge, 9);
  values[10] = std::nanf("");
  const MemoryTensor f32 = EncodedTensor("w", "F32", {kLarge}, values);
  const MemoryTensor bf16 = EncodedTensor("w", "BF16", {kLarge}, values);
  const TensorDiff b_rounded = CompareOne(f32, bf16);
  EXPECT_EQ(b_rounded.tensor_class, TensorClass::kRounded);
  EXPECT_EQ(b_rounded.rounded, RoundedSide::kB);
  EXPECT_EQ(b_rounded.stats->nan_a, 1u);
  EXPECT_EQ(b_rounded.stats->nan_b, 1u);
  const TensorDiff a_rounded = CompareOne(bf16, f32);
  EXPECT_EQ(a_rounded.tensor_class, TensorClass::kRounded);
  EXPECT_EQ(a_rounded.rounded, RoundedSide::kA);
  // One element that is off by a bit is no rounding any more.
  MemoryTensor off = bf16;
  off.bytes[2 * (kLarge - 1)] ^= 1;
  EXPECT_EQ(CompareOne(f32, off).tensor_class, TensorClass::kChanged);
  // Truncation is not rounding to nearest even.
  MemoryTensor cut = bf16;
  for (uint64_t i = 0; i < kLarge; ++i) std::memcpy(&cut.bytes[2 * i], &f32.bytes[4 * i + 2], 2);
  EXPECT_EQ(CompareOne(f32, cut).tensor_class, TensorClass::kChanged);
}

TEST(ComparisonSinkTest, ABlockEncodingRoundedToBf16IsFound) {
  // Finite scales: f16 0x2000 is 2^-7.
  MemoryTensor blocks = RandomBytes("w", "Q8_0", {64, 320}, 64 * 10 * 34, 10);
  for (size_t block = 0; block < 640; ++block) {
    blocks.bytes[block * 34] = 0x35;
    blocks.bytes[block * 34 + 1] = 0x20;
  }
  std::vector<float> values(64 * 320);
  quant::EncodingByName("Q8_0")->decode(blocks.bytes.data(), values.size(), values.data());
  const TensorDiff diff = CompareOne(blocks, EncodedTensor("w", "BF16", {64, 320}, values));
  EXPECT_EQ(diff.tensor_class, TensorClass::kRounded);
  EXPECT_EQ(diff.rounded, RoundedSide::kB);
  EXPECT_EQ(CompareOne(blocks, EncodedTensor("w", "F32", {64, 320}, values)).tensor_class,
            TensorClass::kEqualAfterCast);
}

TEST(ComparisonSinkTest, ToleranceIsOfEachElement) {
  std::vector<float> x = {1.0f, 100.0f, 0.0f}, y = {1.001f, 100.1f, 0.0005f};
  const MemoryTensor a = EncodedTensor("w", "F32", {3}, x), b = EncodedTensor("w", "F32", {3}, y);
  EXPECT_EQ(CompareOne(a, b, {.atol = 0.001, .rtol = 0.001}).tensor_class, TensorClass::kWithinTolerance);
  EXPECT_EQ(CompareOne(a, b, {.atol = 0.0001, .rtol = 0.001}).tensor_class, TensorClass::kChanged);
  EXPECT_EQ(CompareOne(a, b, {.rtol = 0.01}).tensor_class,
            TensorClass::kChanged);  // the last: nothing is relative to 0
  y[1] = std::nanf("");
  EXPECT_EQ(CompareOne(a, EncodedTensor("w", "F32", {3}, y), {.atol = 1000}).tensor_class, TensorClass::kChanged);
  y[1] = INFINITY;
  EXPECT_EQ(CompareOne(a, EncodedTensor("w", "F32", {3}, y), {.atol = 1000, .rtol = 1}).tensor_class,
            TensorClass::kChanged);
}

TEST(ComparisonSinkTest, WhatIsNoNumberIsComparedByBytes) {
  const MemoryTensor a = RandomBytes("ids", "I64", {400'000}, 8 * 400'000, 11);
  MemoryTensor b = a;
  b.bytes[8 * 250'000 + 3] ^= 1;
  const TensorDiff diff = CompareOne(a, b);
  EXPECT_EQ(diff.tensor_class, TensorClass::kChanged);
  EXPECT_FALSE(diff.stats.has_value());
  EXPECT_EQ(diff.first_changed, 250'000u);
  EXPECT_EQ(diff.digest_b, PlainRoot(b.bytes));
  const MemoryTensor narrow = RandomBytes("ids", "I32", {400'000}, 4 * 400'000, 12);
  EXPECT_EQ(CompareOne(a, narrow).tensor_class, TensorClass::kNotComparable);
}

// F64 is carried, not decoded: beside F32 nothing can be said of it, and a pass that looks for a difference goes on.
TEST(ComparisonSinkTest, EncodingsWithoutNumbersInCommonAreNotComparable) {
  const MemoryTensor wide = RandomBytes("w", "F64", {300'000}, 8 * 300'000, 12);
  const MemoryTensor plain = EncodedTensor("w", "F32", {300'000}, Normal(300'000, 3));
  for (const bool first_difference : {false, true}) {
    for (const auto& [a, b] : {std::pair{wide, plain}, {plain, wide}}) {
      const Outcome run = Compare(*MakeMemoryCheckpoint("a", {a}), *MakeMemoryCheckpoint("b", {b}),
                                  {.options = {.num_threads = 2, .first_difference = first_difference}});
      EXPECT_FALSE(run.stopped_early);
      ASSERT_EQ(run.unequal.size(), 1u);
      EXPECT_EQ(run.unequal[0].tensor_class, TensorClass::kNotComparable);
      EXPECT_FALSE(run.unequal[0].stats || run.unequal[0].first_changed);
      EXPECT_EQ(run.unequal[0].digest_a, PlainRoot(a.bytes));
    }
  }
}

TEST(ComparisonSinkTest, WhatOneSideHasAloneIsDigestedInTheSamePass) {
  const MemoryTensor both = EncodedTensor("both", "F32", {2}, {1, 2});
  const MemoryTensor only_a = EncodedTensor("only_a", "BF16", {kLarge}, Normal(kLarge, 13));
  const MemoryTensor only_b = EncodedTensor("only_b", "F16", {70'000}, Normal(70'000, 14));
  const MemoryTensor wide_a = EncodedTensor("wide", "F32", {4}, {1, 2, 3, 4});
  const MemoryTensor wide_b = EncodedTensor("wide", "F32", {2, 2}, {1, 2, 3, 4});
  const Outcome run = Compare(*MakeMemoryCheckpoint("a", {both, only_a, wide_a}),
                              *MakeMemoryCheckpoint("b", {both, only_b, wide_b}), {.options = {.num_threads = 2}});
  ASSERT_EQ(run.unequal.size(), 3u);
  EXPECT_EQ(run.unequal[0].tensor_class, TensorClass::kOnlyInA);
  EXPECT_EQ(run.unequal[0].digest_a, PlainRoot(only_a.bytes));
  EXPECT_EQ(run.unequal[1].tensor_class, TensorClass::kOnlyInB);
  EXPECT_EQ(run.unequal[1].digest_b, PlainRoot(only_b.bytes));
  EXPECT_EQ(run.unequal[2].tensor_class, TensorClass::kShapeDiffers);
  EXPECT_EQ(run.unequal[2].shape_a, std::vector<uint64_t>({4}));
  EXPECT_EQ(run.unequal[2].shape_b, std::vector<uint64_t>({2, 2}));
  EXPECT_EQ(run.unequal[2].digest_b, PlainRoot(wide_b.bytes));
  EXPECT_EQ(run.identical, 1u);
  EXPECT_EQ(run.digests_a.size(), 3u);
  EXPECT_EQ(run.digests_b.size(), 3u);
}

TEST(ComparisonSinkTest, EmptyTensorsOfTwoEncodingsAreEqualAfterACast) {
  EXPECT_EQ(CompareOne({"w", "F32", {0}, {}}, {"w", "BF16", {0}, {}}).tensor_class, TensorClass::kEqualAfterCast);
}

TEST(ComparisonSinkTest, FirstDifferenceIsTheFirstAtAnyNumberOfThreads) {
  std::vector<MemoryTensor> a, b;
  for (int i = 0; i < 40; ++i) {
    a.push_back(EncodedTensor("t" + std::to_string(100 + i), "BF16", {kLarge}, Normal(kLarge, 100)));
    b.push_back(a.back());
    if (i == 3 || i == 4) b.back().bytes[2 * 900'000] ^= 1;
    if (i == 4) b.back().bytes[0] ^= 1;
  }
  const auto left = MakeMemoryCheckpoint("a", std::move(a)), right = MakeMemoryCheckpoint("b", std::move(b));
  for (const int threads : {1, 2, 4}) {
    const Outcome run = Compare(*left, *right, {.options = {.num_threads = threads, .first_difference = true}});
    EXPECT_TRUE(run.stopped_early);
    ASSERT_EQ(run.unequal.size(), 1u);
    EXPECT_EQ(run.unequal[0].name, "t103");
    EXPECT_EQ(run.unequal[0].first_changed, 900'000u);
    EXPECT_EQ(run.unequal[0].tensor_class, TensorClass::kChanged);
    // It is in the fourth of forty; 32 MiB are read ahead.
    EXPECT_GT(run.bytes_read, 3 * 2 * 2 * kLarge);
    EXPECT_LT(run.bytes_read, 5 * 2 * 2 * kLarge + 40 * kMiB);
    EXPECT_LT(run.bytes_read, 40 * 2 * 2 * kLarge / 2);
    ASSERT_TRUE(run.unequal[0].place_b.has_value());
    EXPECT_EQ(run.unequal[0].place_b->byte, 2 * 900'000u);
  }
  // A chunk that waits for another to be hashed with comes before the small tensor behind it.
  constexpr uint64_t kThreeChunks = 3 * kMiB / 2;
  MemoryTensor long_a = EncodedTensor("a", "BF16", {kThreeChunks}, Normal(kThreeChunks, 1)), long_b = long_a;
  MemoryTensor short_a = EncodedTensor("b", "BF16", {2}, {1, 2}), short_b = EncodedTensor("b", "BF16", {2}, {1, 3});
  long_b.bytes.back() ^= 1;
  const auto waiting_a = MakeMemoryCheckpoint("a", {long_a, short_a}),
             waiting_b = MakeMemoryCheckpoint("b", {long_b, short_b});
  for (int i = 0; i < 20; ++i) {
    const Outcome run = Compare(*waiting_a, *waiting_b, {.options = {.num_threads = 2, .first_difference = true}});
    ASSERT_EQ(run.unequal.size(), 1u);
    EXPECT_EQ(run.unequal[0].name, "a");
    EXPECT_EQ(run.unequal[0].first_changed, kThreeChunks - 1);
  }
  // Nothing differs: it reads to the end, and says all that the whole comparison says.
  const Outcome same = Compare(*left, *left, {.options = {.num_threads = 2, .first_difference = true}});
  EXPECT_FALSE(same.stopped_early);
  EXPECT_EQ(same.identical, 40u);
  // A cast and a rounding are no differences to stop at.
  const std::vector<float> values = Normal(1000, 1);
  const Outcome cast = Compare(*MakeMemoryCheckpoint("a", {EncodedTensor("w", "F32", {1000}, values)}),
                               *MakeMemoryCheckpoint("b", {EncodedTensor("w", "BF16", {1000}, values)}),
                               {.options = {.first_difference = true}});
  EXPECT_FALSE(cast.stopped_early);
}

}  // namespace
}  // namespace sluice::verify
