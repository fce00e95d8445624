#include "arithmetic/mergekit_arcee_fusion.h"

#include <bit>
#include <cmath>

#include <gtest/gtest.h>

#include "arithmetic/testing/node_runner.h"
#include "arithmetic/testing/torch_numbers.h"

namespace sluice::arithmetic {
namespace {

using tests::kTorchTypes;
using tests::TorchDigest;
using tests::TorchModel;

// Of tools/goldens/torch_tables.py divergence.
struct DivergenceCase {
  uint64_t count;
  uint32_t divergences[3];
};
constexpr DivergenceCase kDivergences[] = {
    {1, {0x00000000, 0x00000000, 0x00000000}},   {7, {0x363f1c00, 0xba2f0000, 0x39126000}},
    {32, {0x38187d38, 0x3a370000, 0xb8af2000}},  {88, {0x37e40460, 0x3a370000, 0x382b4000}},
    {100, {0x3852da1b, 0x39370000, 0x389d8000}}, {4096, {0x37e23c65, 0x39f40000, 0x38b0c000}},
};

// What mergekit 0.1.4 makes after seed 42, by tools/goldens/torch_tables.py arcee_fusion. The last two have more than a
// million elements: their quantiles are those of a random million.
struct Case {
  std::vector<uint64_t> shape;
  const char* digests[3];
};
const Case kCases[] = {
    {{1000}, {"1a3020c2aa0d917a", "246694bc12784e65", "44b69c3c749001c8"}},
    {{97, 88}, {"2363dd4cb0e1fb79", "5e414ed9990ecb8c", "6b1da0d8adb6a866"}},
    {{33, 5000}, {"aefe4e7422a7cb71", "db43f00f4a7f7083", "f003393c977b09af"}},
    {{2, 3, 50}, {"0bdc06f5e684b945", "f24a7c98a087d038", "a71a6d1478e548de"}},
    {{70001}, {"c5ac5f379c1cf863", "c5487baf11ca9d1a", "1ac908883e4605b3"}},
    {{40, 1}, {"a1dc96a3d7812187", "ae5a62ccc42b86b4", "c6c3262c46bbf35d"}},
    {{1024, 1024}, {"21e93dd1a654ac13", "66006d9262dbeb97", "5424373a8bf50f58"}},
    {{100, 10007}, {"a6eadbd486f4b90f", "8abb1ab2ca828767", "279955d009be42d5"}},
};

// torch's f32 logarithm is the nearest number or its neighbour: of p log(p / q), rounded once more, that is 2^-22 of it
// at most. Both sums have one tree, in which a number is rounded 85 times at most up to 2^19 rows of 32 lanes (four
// levels of 16 additions, the levels, four partials, 8 lanes, and what is left over), each time by 2^-24 of what all
// magnitudes add up to.
double DivergenceBound(std::span<const float> base, std::span<const float> x) {
  double most_x = x[0], most_base = base[0], sum_x = 0, sum_base = 0, terms = 0;
  for (const float value : x) most_x = std::max(most_x, static_cast<double>(value));
  for (const float value : base) most_base = std::max(most_base, static_cast<double>(value));
  for (const float value : x) sum_x += std::exp(static_cast<double>(value) - most_x);
  for (const float value : base) sum_base += std::exp(static_cast<double>(value) - most_base);
  for (size_t i = 0; i < x.size(); ++i) {
    const double p = std::exp(static_cast<double>(x[i]) - most_x) / sum_x;
    const double q = std::exp(static_cast<double>(base[i]) - most_base) / sum_base;
    terms += p * std::abs(std::log(p / q));
  }
  return (0x1p-22 + 2 * 85 * 0x1p-24) * terms;
}

TEST(MergekitDivergence, OfHalvesIsTorchsAndOfF32WithinItsBound) {
  for (const DivergenceCase& of : kDivergences) {
    for (int t = 0; t < 3; ++t) {
      const std::vector<float> base = TorchModel(kTorchTypes[t], of.count, 0),
                               x = TorchModel(kTorchTypes[t], of.count, 1);
      const float ours = MergekitDivergence(kTorchTypes[t], base, x);
      const float theirs = std::bit_cast<float>(of.divergences[t]);
      const double bound = kTorchTypes[t] == WorkingType::kF32 ? DivergenceBound(base, x) : 0;
      EXPECT_LE(std::abs(static_cast<double>(ours) - static_cast<double>(theirs)), bound)
          << of.count << " numbers of type " << t;
    }
  }
}

TEST(MergekitArceeFusion, HasMergekitsBits) {
  for (const Case& of : kCases) {
    const uint64_t count = tests::NumElements(of.shape);
    for (int t = 0; t < 3; ++t) {
      const std::vector<float> base = TorchModel(kTorchTypes[t], count, 0), x = TorchModel(kTorchTypes[t], count, 1);
      for (const tests::RunOptions& way : tests::kTorchWays) {
        if (count > 1'000'000 && way.threads > 1) continue;  // slow enough once
        graph::Graph graph;
        const graph::Node* merged =
            AddMergekitArceeFusion(&graph, kTorchTypes[t], of.shape.back(), {.seed = 42, .first_draw = 0},
                                   tests::AddFloats(&graph, base), tests::AddFloats(&graph, x));
        EXPECT_EQ(TorchDigest(tests::NodeRunner(way).RunF32(merged)), of.digests[t]) << count << " of type " << t;
      }
    }
  }
}

// The base, or the base and the whole difference, rounded to f32 in any type.
TEST(MergekitArceeFusion, TakesWholeDifferences) {
  for (const WorkingType type : kTorchTypes) {
    const std::vector<float> base = TorchModel(type, 8536, 0), x = TorchModel(type, 8536, 1);
    graph::Graph graph;
    const graph::Node* merged =
        AddMergekitArceeFusion(&graph, type, 88, {}, tests::AddFloats(&graph, base), tests::AddFloats(&graph, x));
    const std::vector<float> out = tests::NodeRunner().RunF32(merged);
    size_t taken = 0;
    for (size_t i = 0; i < out.size(); ++i) {
      const float whole = base[i] + RoundTo(type, x[i] - base[i]);
      EXPECT_TRUE(out[i] == base[i] || out[i] == whole) << i;
      taken += out[i] != base[i] ? 1 : 0;
    }
    EXPECT_GT(taken, 0u);
    EXPECT_LT(taken, out.size() / 2);
  }
}

TEST(MergekitFusionDraws, AreOfTwoPermutationsBeyondAMillion) {
  EXPECT_EQ(MergekitFusionDraws(1000000), 0u);
  EXPECT_EQ(MergekitFusionDraws(1000001), 2000000u);
}

}  // namespace
}  // namespace sluice::arithmetic
