#include "kernels/task_vectors.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/mask_words.h"
#include "kernels/select.h"
#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr PhiloxKey kKey = {0x12345678, 0x9abcdef0};

// Every length up to 200, and some longer ones about the sizes of chunks and pieces.
std::vector<uint64_t> Counts() {
  std::vector<uint64_t> counts;
  for (uint64_t count = 0; count <= 200; ++count) counts.push_back(count);
  for (const uint64_t count : {255, 256, 257, 511, 513, 1000, 8191, 8192}) counts.push_back(count);
  return counts;
}

// ---- the reference against numbers worked out by hand

float SumOfOne(TaskVectorArgs args, float base) {
  float out = 0;
  args.base = &base;
  args.out = &out;
  args.count = 1;
  std::vector<float> scratch(TaskVectorScratchFloats(args.models.size()));
  args.scratch = scratch.data();
  reference::TaskVectorSum(args);
  float vector_out = 0;
  args.out = &vector_out;
  TaskVectorSum(args);
  EXPECT_EQ(std::bit_cast<uint32_t>(out), std::bit_cast<uint32_t>(vector_out));
  return out;
}

TEST(TaskVectors, FormulaByHand) {
  const float x[] = {3, 0, 2.5};  // deltas of base 1: 2, -1, 1.5
  std::vector<TaskVector> models = {{.x = &x[0], .weight = 0.5f}, {.x = &x[1], .weight = 2}, {.x = &x[2], .weight = 1}};
  TaskVectorArgs args = {.models = models};
  // Products 1, -2, 1.5.
  EXPECT_EQ(SumOfOne(args, 1), 1 + 0.5f);
  args.lambda = 2;
  EXPECT_EQ(SumOfOne(args, 1), 1 + 2 * 0.5f);
  args.normalize = true;
  EXPECT_EQ(SumOfOne(args, 1), 1 + 2 * (0.5f / 3.5f));
  args.consensus = true;  // the sum is positive: the second is left out
  EXPECT_EQ(SumOfOne(args, 1), 1 + 2 * (2.5f / 1.5f));
  args.normalize = false;
  EXPECT_EQ(SumOfOne(args, 1), 1 + 2 * 2.5f);
  models[1].scale = 2;  // products 1, -4, 1.5: now the first and third are
  args.lambda = 1;
  EXPECT_EQ(SumOfOne(args, 1), 1 - 4.0f);
}

TEST(TaskVectors, DivisorsOfNearlyNothingBecomeOne) {
  const float x[] = {2, 3};
  std::vector<TaskVector> models = {{.x = &x[0], .weight = 1}, {.x = &x[1], .weight = -1}};
  TaskVectorArgs args = {.models = models, .normalize = true};
  EXPECT_EQ(SumOfOne(args, 1), 1 - 1.0f);  // weights sum to 0
  models[1].weight = -1 + 0x1p-24f;
  EXPECT_NE(SumOfOne(args, 1), 1 + (1 + 2 * models[1].weight));  // 6e-8 is no longer nothing
  args.consensus = true;
  models[0].weight = models[1].weight = 0;  // products of 0 agree with nobody
  EXPECT_EQ(SumOfOne(args, 1), 1.0f);
}

TEST(TaskVectors, NaNVotesForNothingAndIsCanonical) {
  const float x[] = {kNaN, -2, 3};
  std::vector<TaskVector> models = {{.x = &x[0], .weight = 1}, {.x = &x[1], .weight = 1}, {.x = &x[2], .weight = 1}};
  TaskVectorArgs args = {.models = models};
  EXPECT_EQ(std::bit_cast<uint32_t>(SumOfOne(args, 0)), 0x7FC00000u);
  EXPECT_EQ(std::bit_cast<uint32_t>(SumOfOne(args, std::bit_cast<float>(0xFFC00123u))), 0x7FC00000u);
  EXPECT_EQ(std::bit_cast<uint32_t>(SumOfOne(args, kInfinity)), 0x7FC00000u);
  args.consensus = true;  // the sum is NaN, so the sign is -1, with which only the second agrees
  EXPECT_EQ(SumOfOne(args, 0), -2.0f);
}

TEST(TaskVectors, MagnitudeMaskKeepsTiesByIndex) {
  const float x[] = {1, -2, 2, 3, -2, 0, std::bit_cast<float>(0x7FC12345u), kInfinity};
  const std::vector<float> base(8, 0.0f);
  const auto kept = [&](float threshold, uint64_t last_tie) {
    std::string text;
    for (int i = 0; i < 8; ++i) {
      const DeltaMask mask = {.kind = DeltaMask::Kind::kMagnitude, .threshold = threshold, .last_tie = last_tie};
      TaskVector model = {.x = &x[i], .weight = 1, .mask = mask};
      // Shift each element to its own place by beginning there; only multiples of 32 may, so scale the tie likewise.
      model.mask.last_tie = last_tie * 32;
      const TaskVectorArgs args = {.models = {&model, 1}, .first_element = static_cast<uint64_t>(i) * 32};
      text += SumOfOne(args, 0) == 0.0f ? '0' : '1';
    }
    return text;
  };
  EXPECT_EQ(kept(2, 8), "01111011");
  EXPECT_EQ(kept(2, 1), "01010011");
  EXPECT_EQ(kept(2, 0), "00010011");
  EXPECT_EQ(kept(kInfinity, 6), "00000010");
  EXPECT_EQ(kept(kInfinity, 7), "00000011");
  EXPECT_EQ(kept(kNaN, 5), "00000000");
  EXPECT_EQ(kept(kNaN, 6), "00000010");
  EXPECT_EQ(kept(0, 0), "11111011");  // the zero is a tie after the last one kept; 0 either way
}

// ---- the vector forms against the reference

struct Case {
  std::string name = {};
  DeltaMask::Kind kind = DeltaMask::Kind::kAll;
  uint64_t keep_below = 0;
  float scale = 1;
  bool consensus = false, normalize = false, specials = false;
  uint64_t first_element = 0;
  size_t num_models = 3;
};

// As many words as `count` bits take, and no more.
std::vector<uint32_t> RandomBits(PhiloxKey key, uint64_t below, uint64_t count) {
  std::vector<uint32_t> words((count + 31) / 32 * 32), bits((count + 31) / 32);
  RandomMaskWords(key, 0, count, words.data());
  reference::MaskBits(words.data(), below, count, bits.data());
  return bits;
}

void ExpectTaskVectorSumIsTheReference(const Case& test, const std::vector<uint64_t>& counts) {
  constexpr uint64_t kMost = 8192;
  const float weights[] = {0.5f, 1.25f, 0.3f, -0.7f, 0.0f, 2.0f, 0.1f};
  const std::vector<float> base = test.specials ? OddFloats(kMost + 1, 1, true) : CoarseFloats(kMost + 1, 1);
  std::vector<std::vector<float>> x;
  for (uint32_t m = 0; m < test.num_models; ++m) {
    x.push_back(test.specials ? OddFloats(kMost + 1, 2 + m, true) : CoarseFloats(kMost + 1, 2 + m));
  }
  for (const uint64_t count : counts) {
    SCOPED_TRACE(test.name + ", count " + std::to_string(count));
    std::vector<TaskVector> models;
    std::vector<std::vector<uint32_t>> bits;  // kGiven
    for (uint32_t m = 0; m < test.num_models; ++m) {
      // Arrays begin at an odd place; exact allocations would hide an overlapping write, so guards follow instead.
      TaskVector model = {.x = x[m].data() + 1, .weight = weights[m % 7], .scale = test.scale};
      model.mask.kind = test.kind;
      model.mask.key = {kKey.k0 + m, kKey.k1};
      model.mask.keep_below = test.keep_below;
      if (test.kind == DeltaMask::Kind::kGiven) {
        bits.push_back(RandomBits(model.mask.key, test.keep_below, count));
        model.mask.bits = bits.back().data();
      }
      if (test.kind == DeltaMask::Kind::kMagnitude && count > 0) {
        // A magnitude that occurs, and a last tie anywhere, also where it cuts a vector, or before and behind it all.
        const uint64_t at = (7 * count + m) % count;
        model.mask.threshold = std::fabs(model.x[at] - base[1 + at]);
        const uint64_t ties[] = {test.first_element + at, test.first_element + count / 2, 0, UINT64_MAX};
        model.mask.last_tie = ties[(count + m) % 4];
      }
      models.push_back(model);
    }
    std::vector<float> scratch(TaskVectorScratchFloats(models.size()) + 1, 42.0f);
    std::vector<float> expected(count + 1, 42.0f);
    TaskVectorArgs args = {.base = base.data() + 1,
                           .models = models,
                           .consensus = test.consensus,
                           .normalize = test.normalize,
                           .lambda = 0.9f,
                           .first_element = test.first_element,
                           .count = count,
                           .out = expected.data(),
                           .scratch = scratch.data()};
    reference::TaskVectorSum(args);
    ForEachTarget([&] {
      std::vector<float> out(count + 1, 42.0f);
      args.out = out.data();
      TaskVectorSum(args);
      ASSERT_TRUE(SameBits(out, expected));
      ASSERT_EQ(scratch.back(), 42.0f);
    });
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(TaskVectors, EveryMaskAndVoteAtEveryTarget) {
  for (const bool consensus : {false, true}) {
    for (const bool normalize : {false, true}) {
      for (const bool specials : {false, true}) {
        const std::string flags = std::string(consensus ? " consensus" : "") + (normalize ? " normalize" : "") +
                                  (specials ? " specials" : "");
        const Case common = {.consensus = consensus, .normalize = normalize, .specials = specials};
        Case test = common;
        test.name = "all" + flags;
        ExpectTaskVectorSumIsTheReference(test, Counts());
        test.kind = DeltaMask::Kind::kMagnitude;
        test.name = "magnitude" + flags;
        ExpectTaskVectorSumIsTheReference(test, Counts());
        test.kind = DeltaMask::Kind::kRandom;
        test.keep_below = 0x9999999A;
        test.scale = 1.0f / 0.6f;
        test.name = "random" + flags;
        ExpectTaskVectorSumIsTheReference(test, {0, 1, 7, 8, 31, 32, 33, 63, 64, 65, 96, 199, 256, 300, 8192});
        test.kind = DeltaMask::Kind::kGiven;
        test.name = "given" + flags;
        ExpectTaskVectorSumIsTheReference(test, {0, 1, 7, 8, 31, 32, 33, 63, 64, 65, 96, 199, 256, 300, 8192});
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(TaskVectors, DensitiesAtTheEdges) {
  for (const uint64_t keep_below : {uint64_t{0}, uint64_t{1}, (uint64_t{1} << 32) - 1, uint64_t{1} << 32}) {
    ExpectTaskVectorSumIsTheReference({.name = "keep below " + std::to_string(keep_below),
                                       .kind = DeltaMask::Kind::kRandom,
                                       .keep_below = keep_below,
                                       .scale = 3,
                                       .consensus = true},
                                      {100, 256});
  }
  // And what they mean: nothing, or everything.
  const std::vector<float> base(64, 1.0f), x(64, 2.0f);
  for (const bool all : {false, true}) {
    TaskVector model = {.x = x.data(), .weight = 1};
    model.mask = {.kind = DeltaMask::Kind::kRandom, .key = kKey, .keep_below = all ? uint64_t{1} << 32 : 0};
    std::vector<float> out(64), scratch(TaskVectorScratchFloats(1));
    TaskVectorSum(
        {.base = base.data(), .models = {&model, 1}, .count = 64, .out = out.data(), .scratch = scratch.data()});
    EXPECT_EQ(out, all ? x : base);
  }
}

// Where the high word of the counters changes, at 2^34 elements, and far behind it.
TEST(TaskVectors, TensorsOfBillionsOfElements) {
  const uint64_t edge = uint64_t{1} << 34;
  for (const uint64_t first : {edge - 512, edge - 96, edge - 32, edge, 5 * edge + 32, UINT64_MAX - 8191 - 8192}) {
    ExpectTaskVectorSumIsTheReference({.name = "from element " + std::to_string(first),
                                       .kind = DeltaMask::Kind::kRandom,
                                       .keep_below = 0x80000000,
                                       .consensus = true,
                                       .first_element = first / 32 * 32},
                                      {90, 128, 600});
    ExpectTaskVectorSumIsTheReference({.name = "magnitude, from element " + std::to_string(first),
                                       .kind = DeltaMask::Kind::kMagnitude,
                                       .first_element = first / 32 * 32},
                                      {90, 128, 600});
  }
}

TEST(TaskVectors, NoModelOneModelManyModels) {
  for (const size_t num_models : {0, 1, 2, 7, 65}) {
    for (const bool consensus : {false, true}) {
      ExpectTaskVectorSumIsTheReference({.name = std::to_string(num_models) + " models",
                                         .kind = DeltaMask::Kind::kRandom,
                                         .keep_below = 0x80000000,
                                         .consensus = consensus,
                                         .normalize = true,
                                         .num_models = num_models},
                                        {1, 77, 256, 320});
    }
  }
}

TEST(TaskVectors, TheOutputMayBeAnInput) {
  const std::vector<float> base = OddFloats(300, 1, false), x = OddFloats(300, 2, false), y = OddFloats(300, 3, false);
  ForEachTarget([&] {
    std::vector<float> expected, scratch(TaskVectorScratchFloats(2));
    for (const int in_place : {0, 1, 2}) {  // none, base, the second model
      std::vector<float> b = base, m = y, out(300);
      const TaskVector models[] = {{.x = x.data(), .weight = 0.5f}, {.x = m.data(), .weight = 0.25f}};
      std::vector<float>& to = in_place == 0 ? out : in_place == 1 ? b : m;
      TaskVectorSum({.base = b.data(),
                     .models = models,
                     .consensus = true,
                     .normalize = true,
                     .count = 300,
                     .out = to.data(),
                     .scratch = scratch.data()});
      if (in_place == 0) expected = out;
      ASSERT_TRUE(SameBits(to, expected)) << in_place;
    }
  });
}

TEST(TaskVectors, PiecesEqualTheWhole) {
  const std::vector<float> base = OddFloats(2000, 1, false), x = OddFloats(2000, 2, false);
  TaskVector model = {.x = x.data(), .weight = 1, .scale = 2};
  model.mask = {.kind = DeltaMask::Kind::kRandom, .key = kKey, .keep_below = 0x80000000};
  std::vector<float> whole(2000), pieces(2000), scratch(TaskVectorScratchFloats(1));
  TaskVectorArgs args = {.base = base.data(), .models = {&model, 1}, .count = 2000, .scratch = scratch.data()};
  args.out = whole.data();
  TaskVectorSum(args);
  uint64_t size = 32;
  for (uint64_t at = 0; at < 2000; at += size, size += 32) {
    size = std::min(size, 2000 - at);
    model.x = x.data() + at;
    args.base = base.data() + at;
    args.first_element = at;
    args.count = size;
    args.out = pieces.data() + at;
    TaskVectorSum(args);
    size = (size + 31) / 32 * 32;
  }
  EXPECT_TRUE(SameBits(whole, pieces));
}

TEST(TaskVectors, RandomWordsAreTheDefinition) {
  // Element 32b + 8j + i takes word j of counter 8b + i: 71 = 32 * 2 + 8 * 0 + 7, 95 = 32 * 2 + 8 * 3 + 7.
  EXPECT_EQ(RandomMaskWord(kKey, 71), Philox4x32({23, 0, 0, 0}, kKey)[0]);
  EXPECT_EQ(RandomMaskWord(kKey, 95), Philox4x32({23, 0, 0, 0}, kKey)[3]);
  EXPECT_EQ(RandomMaskWord(kKey, 64 + 16), Philox4x32({16, 0, 0, 0}, kKey)[2]);
  EXPECT_EQ(RandomMaskWord(kKey, uint64_t{1} << 34), Philox4x32({0, 1, 0, 0}, kKey)[0]);
  const uint64_t edge = uint64_t{1} << 34;
  ForEachTarget([&] {
    for (const PhiloxKey key : {kKey, PhiloxKey{0, 0}, PhiloxKey{0xFFFFFFFF, 0xFFFFFFFF}}) {
      for (const uint64_t first : {uint64_t{0}, uint64_t{32}, edge - 64, 3 * edge - 32}) {
        for (const uint64_t count : {0, 1, 31, 32, 33, 64, 500}) {
          std::vector<uint32_t> words((count + 31) / 32 * 32 + 1, 42), expected = words;
          RandomMaskWords(key, first, count, words.data());
          reference::RandomMaskWords(key, first, count, expected.data());
          ASSERT_EQ(words, expected) << first << " " << count;
        }
      }
    }
  });
}

void ExpectL1IsTheReference(const DeltaMask& mask, uint64_t first_element, bool specials,
                            const std::vector<uint64_t>& counts) {
  const std::vector<float> x = OddFloats(8193, 1, specials), base = OddFloats(8193, 2, specials);
  for (const uint64_t count : counts) {
    L1Lanes expected;
    for (int i = 0; i < 16; ++i) expected.all[i] = expected.kept[i] = i;
    const L1Lanes start = expected;
    reference::AccumulateL1(x.data() + 1, base.data() + 1, mask, first_element, count, &expected);
    ForEachTarget([&] {
      L1Lanes lanes = start;
      AccumulateL1(x.data() + 1, base.data() + 1, mask, first_element, count, &lanes);
      ASSERT_EQ(std::memcmp(&lanes, &expected, sizeof(lanes)), 0) << count;
      // In pieces, the same.
      lanes = start;
      const uint64_t first = count / 2 / 32 * 32;
      AccumulateL1(x.data() + 1, base.data() + 1, mask, first_element, first, &lanes);
      DeltaMask rest = mask;
      if (rest.bits != nullptr) rest.bits += first / 32;
      AccumulateL1(x.data() + 1 + first, base.data() + 1 + first, rest, first_element + first, count - first, &lanes);
      ASSERT_EQ(std::memcmp(&lanes, &expected, sizeof(lanes)), 0) << count;
    });
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(TaskVectors, L1AtEveryTarget) {
  const DeltaMask random = {.kind = DeltaMask::Kind::kRandom, .key = kKey, .keep_below = 0x40000000};
  const DeltaMask large = {.kind = DeltaMask::Kind::kMagnitude, .threshold = 0.03f, .last_tie = 50};
  for (const bool specials : {false, true}) {
    ExpectL1IsTheReference({}, 0, specials, Counts());
    ExpectL1IsTheReference(large, 0, specials, Counts());
    ExpectL1IsTheReference(random, 0, specials, {0, 1, 15, 16, 17, 32, 100, 256, 300, 8192});
    ExpectL1IsTheReference(random, (uint64_t{1} << 34) - 64, specials, {300});
    const std::vector<uint32_t> bits = RandomBits(kKey, 0x40000000, 8192);
    const DeltaMask given = {.kind = DeltaMask::Kind::kGiven, .bits = bits.data()};
    ExpectL1IsTheReference(given, 64, specials, {0, 1, 15, 16, 17, 32, 100, 256, 300, 8192});
  }
}

TEST(TaskVectors, L1ByHand) {
  const std::vector<float> x = {1, 2, 3, 4}, base = {0, 4, 3, 1};
  L1Lanes lanes;
  AccumulateL1(x.data(), base.data(), {.kind = DeltaMask::Kind::kMagnitude, .threshold = 2, .last_tie = 1}, 0, 4,
               &lanes);
  EXPECT_EQ(lanes.all[0], 1.0);
  EXPECT_EQ(lanes.all[1], 2.0);
  EXPECT_EQ(lanes.all[3], 3.0);
  EXPECT_EQ(SumLanes(lanes.all), 6.0);
  EXPECT_EQ(SumLanes(lanes.kept), 5.0);
  // The order is fixed: pairs at distance 8 first, so that these two cancel before the small one comes.
  double order[16] = {1e17, 1, 0, 0, 0, 0, 0, 0, -1e17};
  EXPECT_EQ(SumLanes(order), 1.0);
}

TEST(TaskVectors, WeightedSumAtEveryTarget) {
  for (const size_t num_models : {0, 1, 2, 3, 8}) {
    std::vector<std::vector<float>> arrays;
    std::vector<const float*> x;
    std::vector<float> weights;
    for (uint32_t m = 0; m < num_models; ++m) {
      arrays.push_back(OddFloats(8193, m, m % 2 == 1));
      x.push_back(arrays[m].data() + 1);
      weights.push_back(0.3f + static_cast<float>(m));
    }
    for (const float divisor : {1.0f, 1.7f}) {
      for (const uint64_t count : Counts()) {
        std::vector<float> expected(count + 1, 42.0f);
        reference::WeightedSum(x, weights, divisor, count, expected.data());
        ForEachTarget([&] {
          std::vector<float> out(count + 1, 42.0f);
          WeightedSum(x, weights, divisor, count, out.data());
          ASSERT_TRUE(SameBits(out, expected)) << num_models << " models, count " << count;
        });
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(TaskVectors, AModelAloneWithWeightOneIsItself) {
  const std::vector<float> x = {1.5f, -0.0f, 0.0f, -kInfinity, 1e-45f, -3e38f};
  const float* const pointers[] = {x.data()};
  const float weights[] = {1};
  ForEachTarget([&] {
    std::vector<float> out(x.size());
    WeightedSum(pointers, weights, 1, x.size(), out.data());
    ASSERT_TRUE(SameBits(out, x));
  });
}

}  // namespace
}  // namespace sluice::kernels
