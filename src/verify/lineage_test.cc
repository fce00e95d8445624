// The pass of `lineage` from checkpoints in memory to the answer.
#include "verify/lineage.h"

#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "base/memory_budget.h"
#include "stream/sink.h"
#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

using checkpoint::Checkpoint;
using tests::EncodedTensor;
using tests::MakeMemoryCheckpoint;
using tests::MemoryTensor;

struct Values {
  std::string name;
  std::vector<uint64_t> shape;
  std::vector<float> values;
};

std::vector<float> Normal(uint64_t count, uint32_t seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// Two matrices of a layer each, more than two tiles of them in the first, and a small one outside.
std::vector<Values> MakeBase() {
  return {{"layers.0.a", {1100, 1000}, Normal(1'100'000, 1, 0.02f)},
          {"layers.1.a", {100, 100}, Normal(10'000, 2, 0.02f)},
          {"norm", {100}, Normal(100, 3, 1.0f)}};
}

// base + sum of weights x updates of these seeds
std::vector<Values> Update(std::vector<Values> base, const std::vector<std::pair<uint32_t, float>>& updates) {
  for (size_t t = 0; t < base.size(); ++t) {
    const float scale = base[t].name == "norm" ? 0.01f : 0.0002f;
    for (const auto& [seed, weight] : updates) {
      const auto noise = Normal(base[t].values.size(), 100 * seed + static_cast<uint32_t>(t), scale);
      for (size_t i = 0; i < noise.size(); ++i) base[t].values[i] += weight * noise[i];
    }
  }
  return base;
}

std::shared_ptr<const Checkpoint> Model(const std::string& ref, const std::vector<Values>& values,
                                        const std::string& encoding = "F32") {
  std::vector<MemoryTensor> tensors;
  for (const Values& tensor : values) {
    tensors.push_back(EncodedTensor(tensor.name, encoding, tensor.shape, tensor.values));
  }
  return MakeMemoryCheckpoint(ref, tensors);
}

struct How {
  int threads = 2;
  uint64_t max_tile_bytes = 1 << 20;
};

Lineage Trace(const Checkpoint& model, const Checkpoint& base, const std::vector<const Checkpoint*>& candidates,
              How how = {}) {
  const LineagePlan plan = PlanLineage(model, base, candidates);
  const LineageGroups groups(plan);
  MemoryBudget budget(ResidentBytes() + (uint64_t{1} << 30));
  LineageSink sink(plan, how.threads, &budget);
  stream::StreamOptions options;
  options.num_threads = how.threads;
  options.wants = sink.wants();
  options.budget = &budget;
  options.max_tile_bytes = how.max_tile_bytes;
  auto stream = stream::Stream::Open(groups, options);
  EXPECT_TRUE(stream.has_value()) << stream.error().ToString();
  stream::Sink* const sinks[] = {&sink};
  EXPECT_TRUE(stream::Pump(**stream, sinks));
  return MakeLineage(plan, sink, how.threads);
}

TEST(LineageTest, WeightsComeBackWhereNothingIsRounded) {
  const auto base = MakeBase();
  const auto model = Model("model", Update(base, {{1, 0.5f}, {2, -0.25f}})), b = Model("base", base),
             one = Model("one", Update(base, {{1, 1.0f}})), two = Model("two", Update(base, {{2, 1.0f}})),
             other = Model("other", Update(base, {{3, 1.0f}}));
  const Lineage lineage = Trace(*model, *b, {one.get(), two.get(), other.get()});
  // Sums and differences in f32 of numbers around 0.02 (0.5 in the norm), of differences of a hundredth: 1e-5 each.
  EXPECT_NEAR(lineage.overall.coefficients[0].value, 0.5, 1e-5);
  EXPECT_NEAR(lineage.overall.coefficients[1].value, -0.25, 1e-5);
  EXPECT_NEAR(lineage.overall.coefficients[2].value, 0, 1e-5);
  EXPECT_GT(*lineage.overall.r_squared(), 1 - 1e-8);
  EXPECT_EQ(lineage.layers.size(), 3u);
  EXPECT_EQ(lineage.layers[0].number, 0u);
  EXPECT_FALSE(lineage.layers[2].number);
  EXPECT_EQ(lineage.tensors.size(), 3u);
  EXPECT_EQ(lineage.tensors[1].name, "layers.1.a");
  EXPECT_EQ(lineage.elements, 1'110'100u);
  EXPECT_EQ(lineage.kind.name(), "linear or task_arithmetic");
  EXPECT_EQ(lineage.kind.candidates, (std::vector<size_t>{0, 1}));
}

TEST(LineageTest, TheSameNumbersAtAnyThreadsAndTiles) {
  const auto base = MakeBase();
  const auto model = Model("model", Update(base, {{1, 0.5f}, {2, 0.3f}}), "BF16"), b = Model("base", base, "F16"),
             one = Model("one", Update(base, {{1, 1.0f}}), "BF16"), two = Model("two", Update(base, {{2, 1.0f}}));
  const Lineage wanted = Trace(*model, *b, {one.get(), two.get()}, {.threads = 1});
  for (const How& how : {How{3, 1 << 20}, How{2, 1 << 18}, How{4, 1 << 22}}) {
    const Lineage lineage = Trace(*model, *b, {one.get(), two.get()}, how);
    for (size_t k = 0; k < 3; ++k) {
      EXPECT_EQ(lineage.overall.coefficients[k].value, wanted.overall.coefficients[k].value);
      EXPECT_EQ(lineage.overall.coefficients[k].error, wanted.overall.coefficients[k].error);
    }
    EXPECT_EQ(lineage.overall.residual_squared, wanted.overall.residual_squared);
    EXPECT_EQ(lineage.equal_to_base, wanted.equal_to_base);
    ASSERT_EQ(lineage.kind.fits.size(), wanted.kind.fits.size());
    EXPECT_EQ(lineage.kind.fits[0].weights, wanted.kind.fits[0].weights);
  }
}

TEST(LineageTest, RoundingThatShrinksCoefficientsIsTakenOut) {
  // Differences of about a step of bf16: small products are lost, and the plain regression says too little.
  const auto rounded = [](std::vector<Values> values) {
    for (Values& tensor : values) {
      std::vector<uint8_t> bytes(2 * tensor.values.size());
      quant::BF16()->encode(tensor.values.data(), tensor.values.size(), bytes.data());
      quant::BF16()->decode(bytes.data(), tensor.values.size(), tensor.values.data());
    }
    return values;
  };
  const auto base = rounded(MakeBase()), one = rounded(Update(base, {{1, 1.0f}})),
             two = rounded(Update(base, {{2, 1.0f}}));
  auto merged = base;
  for (size_t t = 0; t < base.size(); ++t) {
    for (size_t i = 0; i < base[t].values.size(); ++i) {
      const float b = base[t].values[i];
      merged[t].values[i] = b + 0.137f * (one[t].values[i] - b) + 0.229f * (two[t].values[i] - b);
    }
  }
  const auto b = Model("base", base, "BF16"), first = Model("one", one, "BF16"), second = Model("two", two, "BF16"),
             model = Model("model", merged, "BF16");
  const Lineage lineage = Trace(*model, *b, {first.get(), second.get()});
  const Coefficient* coefficients = lineage.overall.coefficients.data();
  EXPECT_LT(coefficients[0].rounding_bias, -3 * *coefficients[0].error);
  EXPECT_NEAR(coefficients[0].value, 0.137, 4.5 * *coefficients[0].error);
  EXPECT_NEAR(coefficients[1].value, 0.229, 4.5 * *coefficients[1].error);
  EXPECT_LT(*coefficients[1].error, 0.01);
  ASSERT_EQ(lineage.kind.name(), "linear or task_arithmetic");
  EXPECT_NEAR(lineage.kind.fits[0].weights[0], 0.137, 1e-3);
  EXPECT_NEAR(lineage.kind.fits[0].weights[1], 0.229, 1e-3);
  EXPECT_GT(*lineage.rounding_share, 0.1);
}

TEST(LineageTest, GapsAreToldByName) {
  auto base = MakeBase();
  base.push_back({"only_rows", {40, 100}, Normal(4000, 4, 0.02f)});
  base.push_back({"wide", {40, 100}, Normal(4000, 5, 0.02f)});
  base.push_back({"without_base", {4}, {1, 2, 3, 4}});
  const auto model = Model("model", Update(base, {{1, 0.5f}}));
  auto one = Update(base, {{1, 1.0f}});
  one[3].shape[0] = 43;
  one[3].values.resize(4300);
  one[4].shape = {80, 50};
  one[1].values[77] = std::numeric_limits<float>::infinity();
  base.pop_back();
  const auto b = Model("base", base), candidate = Model("one", one);
  const Lineage lineage = Trace(*model, *b, {candidate.get()});
  std::vector<std::pair<std::string, int64_t>> gaps;
  for (const LineageGap& gap : lineage.gaps) gaps.emplace_back(gap.tensor, gap.candidate);
  EXPECT_EQ(gaps, (std::vector<std::pair<std::string, int64_t>>{
                      {"layers.1.a", -1}, {"only_rows", -1}, {"wide", 0}, {"without_base", -1}}));
  EXPECT_NE(lineage.gaps[0].reason.find("infinities in one"), std::string::npos) << lineage.gaps[0].reason;
  EXPECT_NE(lineage.gaps[1].reason.find("first 40 rows"), std::string::npos) << lineage.gaps[1].reason;
  EXPECT_NEAR(lineage.overall.coefficients[0].value, 0.5, 1e-5);
}

TEST(LineageTest, LayersOfNames) {
  EXPECT_EQ(LayerOfName("model.layers.12.mlp.up_proj.weight"), 12u);
  EXPECT_EQ(LayerOfName("h.3"), 3u);
  EXPECT_FALSE(LayerOfName("model.norm.weight"));
  EXPECT_FALSE(LayerOfName("w1.x2"));
  EXPECT_FALSE(LayerOfName(""));
}

TEST(LineageTest, TheSampleIsSpreadOverTensorsBySize) {
  const auto base = MakeBase();
  const auto model = Model("model", base);
  const LineagePlan plan = PlanLineage(*model, *model, {model.get()});
  const auto runs = DrawLineageRuns(plan);
  EXPECT_EQ(runs.size(), LineageSample::kMostUnits * LineageSample::kRunsPerUnit);
  for (size_t i = 0; i < runs.size(); ++i) {
    EXPECT_EQ(runs[i].begin % LineageSample::kRunElements, 0u);
    EXPECT_LE(runs[i].begin + LineageSample::kRunElements, plan.tensors[runs[i].tensor].num_elements);
    if (i > 0 && runs[i].tensor == runs[i - 1].tensor) EXPECT_GT(runs[i].begin, runs[i - 1].begin);
  }
}

}  // namespace
}  // namespace sluice::verify
