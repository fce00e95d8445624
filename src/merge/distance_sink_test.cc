#include "merge/distance_sink.h"

#include <cmath>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "arithmetic/testing/node_runner.h"
#include "base/check.h"
#include "base/memory_budget.h"
#include "checkpoint/testing/tiny_models.h"
#include "kernels/convert.h"
#include "stream/checkpoint_groups.h"

namespace sluice::merge {
namespace {

using testing::SizeIs;

// Sums of n rounded products in any order are within n roundings of each other.
constexpr double kTolerance = 192'000 * 0x1p-53;
constexpr uint64_t kVocab = 3000;  // times 64: three blocks

struct Pass {
  std::vector<TensorDistances> distances;
  uint64_t payload_bytes = 0;

  const TensorDistances& Of(const std::string& name) const {
    const auto found = std::ranges::find(distances, name, &TensorDistances::name);
    SLUICE_CHECK(found != distances.end());
    return *found;
  }
};

class DistanceSinkTest : public testing::Test {
 protected:
  std::string Llama(const std::string& name, tests::TinyLlama options) {
    options.vocab = kVocab;
    return tests::MakeTinyLlama(dir_ / name, options);
  }
  std::shared_ptr<const RecipeCheckpoint> Open(const std::string& text) {
    tests::WriteText(dir_ / "r.yml", text);
    auto recipe = ReadRecipe(dir_ / "r.yml");
    SLUICE_CHECK(recipe.has_value());
    auto opened = OpenRecipe(std::move(*recipe), {});
    if (!opened) ADD_FAILURE() << opened.error().ToString();
    return opened ? *opened : nullptr;
  }
  static std::vector<uint32_t> AllOf(const RecipeCheckpoint& recipe) {
    std::vector<uint32_t> order(recipe.tensors().size());
    for (uint32_t i = 0; i < order.size(); ++i) order[i] = static_cast<uint32_t>(order.size()) - 1 - i;
    return order;
  }
  static Pass Run(const RecipeCheckpoint& recipe, int num_threads, uint64_t tile_bytes) {
    DistanceSink sink(recipe, num_threads);
    const auto groups = sink.Follow(AllOf(recipe));
    stream::Sink* const sinks[] = {&sink};
    const uint64_t payload_bytes = Pump(*groups, sinks, num_threads, tile_bytes);
    return {sink.Distances(), payload_bytes};
  }
  // Bytes read.
  static uint64_t Pump(const stream::GroupSource& groups, std::span<stream::Sink* const> sinks, int num_threads,
                       uint64_t tile_bytes) {
    MemoryBudget budget(uint64_t{1} << 30);
    stream::StreamOptions options;
    options.num_threads = num_threads;
    options.budget = &budget;
    options.wants = stream::Together(sinks);
    options.max_tile_bytes = tile_bytes;
    auto stream = stream::Stream::Open(groups, options);
    SLUICE_CHECK(stream.has_value());
    SLUICE_CHECK(stream::Pump(**stream, sinks).has_value());
    return (*stream)->stats().payload_bytes;
  }
  std::vector<float> Floats(const checkpoint::Checkpoint& checkpoint, const std::string& name) {
    graph::Graph graph;
    const graph::Node* node = checkpoint.MakeNode(*checkpoint.tensors().Find(name), &graph);
    return tests::NodeRunner().RunF32(graph.AddCast(node, quant::F32()));
  }
  std::vector<float> Floats(const std::string& folder, const std::string& name) {
    return Floats(**checkpoint::OpenCheckpoint(dir_ / folder, {}), name);
  }

  static void ExpectSums(const DistanceSums& sums, const std::vector<float>& x, const std::vector<float>& b) {
    double difference = 0, own = 0, base = 0, product = 0;
    for (size_t i = 0; i < b.size(); ++i) {
      difference += (double{x[i]} - b[i]) * (double{x[i]} - b[i]);
      own += double{x[i]} * x[i];
      base += double{b[i]} * b[i];
      product += double{x[i]} * b[i];
    }
    EXPECT_NEAR(*sums.RelativeL2(), std::sqrt(difference / base), kTolerance * std::sqrt(difference / base));
    EXPECT_NEAR(*sums.Cosine(), product / std::sqrt(own * base), kTolerance);
    EXPECT_EQ(sums.elements, b.size());
  }

  tests::TempDir dir_;
};

constexpr char kThree[] =
    "merge_method: ties\nbase_model: base\nmodels:\n"
    "  - {model: one, parameters: {weight: 0.5, density: 0.5}}\n"
    "  - {model: two, parameters: {weight: [0.25, 0.75], density: 0.5}}\n"
    "  - {model: three, parameters: {weight: 0.125, density: 0.25}}\n";

TEST_F(DistanceSinkTest, FindsWhatThePlainFormulasSay) {
  Llama("base", {.seed = 1});
  for (const uint64_t tune : {2, 3, 4}) {
    Llama(std::vector<std::string>{"one", "two", "three"}[tune - 2], {.seed = 1, .update_seed = tune});
  }
  const auto recipe = Open(kThree);
  ASSERT_NE(recipe, nullptr);
  const Pass pass = Run(*recipe, 2, 1u << 20);
  EXPECT_THAT(pass.distances, SizeIs(recipe->tensors().size()));
  for (const std::string name :
       {"model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight", "model.norm.weight"}) {
    const TensorDistances& found = pass.Of(name);
    const std::vector<float> b = Floats("base", name), result = Floats(*recipe, name);
    const std::vector<std::vector<float>> parents = {Floats("one", name), Floats("two", name), Floats("three", name)};
    EXPECT_EQ(recipe->parents()[found.reference].reference, "base");
    ExpectSums(found.result, result, b);
    ASSERT_EQ(found.parents.size(), 3u);
    uint64_t changed = 0, same = 0, all = 0;
    for (size_t i = 0; i < b.size(); ++i) {
      changed += result[i] != b[i] ? 1 : 0;
      for (size_t j = 0; j < 3; ++j) {
        for (size_t k = 0; k < j; ++k) {
          const float dj = parents[j][i] - b[i], dk = parents[k][i] - b[i];
          all += dj != 0 && dk != 0 ? 1 : 0;
          same += dj * dk > 0 || (dj > 0 && dk > 0) || (dj < 0 && dk < 0) ? 1 : 0;
        }
      }
    }
    EXPECT_EQ(found.result.changed, changed) << name;
    EXPECT_EQ(found.signs.same, same) << name;
    EXPECT_EQ(found.signs.all, all) << name;
    for (size_t k = 0; k < 3; ++k) ExpectSums(found.parents[k].sums, parents[k], b);
  }
  // Parameters as they were for the tensor: the gradient's two ends.
  EXPECT_EQ(pass.Of("model.layers.0.mlp.up_proj.weight").parents[1].values[recipe->recipe().method->Index("weight")],
            0.25);
  EXPECT_EQ(pass.Of("model.layers.1.mlp.up_proj.weight").parents[1].values[recipe->recipe().method->Index("weight")],
            0.75);
}

TEST_F(DistanceSinkTest, ThreadsAndTilesDoNotMatterAndNothingMoreIsRead) {
  Llama("base", {.seed = 1});
  for (const std::string name : {"one", "two", "three"})
    Llama(name, {.seed = 1, .update_seed = name.size(), .shards = 2});
  const auto recipe = Open(kThree);
  ASSERT_NE(recipe, nullptr);
  const Pass one = Run(*recipe, 1, 1u << 20), other = Run(*recipe, 3, 256u << 10);
  ASSERT_EQ(one.distances.size(), other.distances.size());
  for (size_t i = 0; i < one.distances.size(); ++i) {
    const DistanceSums &a = one.distances[i].result, &b = other.distances[i].result;
    EXPECT_EQ(one.distances[i].name, other.distances[i].name);
    EXPECT_EQ(a.difference_squared, b.difference_squared);
    EXPECT_EQ(a.own_squared, b.own_squared);
    EXPECT_EQ(a.base_squared, b.base_squared);
    EXPECT_EQ(a.product, b.product);
    for (size_t k = 0; k < 3; ++k) {
      EXPECT_EQ(one.distances[i].parents[k].sums.product, other.distances[i].parents[k].sums.product);
    }
  }
  const stream::CheckpointGroups alone(*recipe, AllOf(*recipe));
  EXPECT_EQ(one.payload_bytes, Pump(alone, {}, 1, 1u << 20));
}

TEST_F(DistanceSinkTest, WithoutABaseTheFirstModelIsComparedWith) {
  Llama("one", {.seed = 1});
  Llama("two", {.seed = 1, .update_seed = 2});
  const auto recipe = Open(
      "merge_method: linear\nmodels:\n  - {model: one, parameters: {weight: 1}}\n"
      "  - {model: two, parameters: {weight: 1}}\n");
  ASSERT_NE(recipe, nullptr);
  const Pass pass = Run(*recipe, 1, 1u << 20);
  const TensorDistances& found = pass.Of("lm_head.weight");
  EXPECT_EQ(recipe->parents()[found.reference].reference, "one");
  EXPECT_FALSE(recipe->parents()[found.reference].is_base);
  ASSERT_EQ(found.parents.size(), 1u);
  EXPECT_EQ(recipe->parents()[found.parents[0].parent].reference, "two");
  ExpectSums(found.parents[0].sums, Floats("two", "lm_head.weight"), Floats("one", "lm_head.weight"));
  EXPECT_EQ(found.signs.Agreement(), std::nullopt);
}

// The base in F32 and the result in BF16: rounding alone changes nearly all numbers, and is not what was kept.
TEST_F(DistanceSinkTest, ARoundingIsNoChange) {
  Llama("base", {.seed = 1, .dtype = "F32"});
  Llama("one", {.seed = 1, .update_seed = 2, .dtype = "F32"});
  const auto recipe = Open(
      "merge_method: task_arithmetic\nbase_model: base\nmodels: [{model: one, parameters: {weight: 1.0e-12}}]\n"
      "dtype: bfloat16\n");
  ASSERT_NE(recipe, nullptr);
  const Pass pass = Run(*recipe, 1, 1u << 20);
  const TensorDistances& found = pass.Of("lm_head.weight");
  EXPECT_GT(*found.result.RelativeL2(), 1e-4);
  EXPECT_LT(*found.result.Changed(), 1e-3);
  EXPECT_GT(*found.parents[0].sums.Changed(), 0.9);
}

// A merge that is gone on with: the groups of the rest come instead of all.
TEST_F(DistanceSinkTest, OnlyTheLastPassCounts) {
  Llama("base", {.seed = 1});
  Llama("one", {.seed = 1, .update_seed = 2});
  const auto recipe =
      Open("merge_method: task_arithmetic\nbase_model: base\nmodels: [{model: one, parameters: {weight: 0.5}}]\n");
  ASSERT_NE(recipe, nullptr);
  DistanceSink sink(*recipe, 1);
  sink.Follow(AllOf(*recipe));
  const auto rest = sink.Follow({3});
  stream::Sink* const sinks[] = {&sink};
  Pump(*rest, sinks, 1, 1u << 20);
  ASSERT_THAT(sink.Distances(), SizeIs(1));
  EXPECT_EQ(sink.Distances()[0].name, recipe->tensors()[3].name);
}

TEST_F(DistanceSinkTest, ZeroLengthsAndNoElementsHaveNoFigures) {
  const DistanceSums nothing;
  EXPECT_EQ(nothing.RelativeL2(), std::nullopt);
  EXPECT_EQ(nothing.Cosine(), std::nullopt);
  EXPECT_EQ(nothing.Changed(), std::nullopt);
  EXPECT_EQ(SignPairs().Agreement(), std::nullopt);
}

}  // namespace
}  // namespace sluice::merge
