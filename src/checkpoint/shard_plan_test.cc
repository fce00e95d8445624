#include "checkpoint/shard_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sluice::checkpoint {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Tensor {
  std::string name, dtype;
  std::vector<uint64_t> shape;
};

Catalogue MakeCatalogue(const std::vector<Tensor>& tensors) {
  Catalogue catalogue;
  for (const Tensor& tensor : tensors) {
    uint64_t num_elements = 1;
    for (const uint64_t dim : tensor.shape) num_elements *= dim;
    catalogue.Add(tensor.name, quant::EncodingByName(tensor.dtype), tensor.shape, num_elements);
  }
  catalogue.Sort();
  return catalogue;
}

std::string Emitted(const std::function<Result<void>(const Emit&)>& emit) {
  std::string text;
  EXPECT_TRUE(emit([&](std::string_view piece) -> Result<void> {
    text += piece;
    return {};
  }));
  return text;
}

std::string Header(const Catalogue& catalogue, const ShardPlan& plan, size_t shard) {
  return HeaderText(catalogue, plan, shard).value();
}

std::vector<std::string> NamesOf(const Catalogue& catalogue, const ShardPlan& plan, size_t shard) {
  std::vector<std::string> names;
  for (uint32_t place = plan.shards[shard].begin; place < plan.shards[shard].end; ++place) {
    names.emplace_back(catalogue[plan.order[place]].name);
  }
  return names;
}

TEST(ShardPlan, DealsByNameAndNeverExceedsTheSize) {
  const Catalogue catalogue = MakeCatalogue({{"e", "U8", {40}},
                                             {"a", "U8", {60}},
                                             {"b", "U8", {40}},
                                             {"c", "U8", {1}},
                                             {"d", "U8", {99}},
                                             {"f", "U8", {60}}});
  const auto plan = PlanShards(catalogue, 100);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->shards.size(), 3u);
  EXPECT_THAT(NamesOf(catalogue, *plan, 0), ElementsAre("a", "b"));
  EXPECT_THAT(NamesOf(catalogue, *plan, 1), ElementsAre("c", "d"));
  EXPECT_THAT(NamesOf(catalogue, *plan, 2), ElementsAre("e", "f"));
  EXPECT_EQ(plan->shards[0].file_name, "model-00001-of-00003.safetensors");
  EXPECT_EQ(plan->shards[2].file_name, "model-00003-of-00003.safetensors");
  EXPECT_TRUE(plan->has_index());
  EXPECT_EQ(plan->tensor_bytes, 300u);
  EXPECT_EQ(plan->total_elements, 300u);
  EXPECT_EQ(plan->file_bytes(), 3 * 4096u + 300);
}

TEST(ShardPlan, ATensorOverTheSizeStandsAlone) {
  const Catalogue catalogue =
      MakeCatalogue({{"a", "U8", {10}}, {"b", "U8", {500}}, {"c", "U8", {10}}, {"d", "U8", {0}}});
  const auto plan = PlanShards(catalogue, 100);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->shards.size(), 3u);
  EXPECT_THAT(NamesOf(catalogue, *plan, 1), ElementsAre("b"));
  EXPECT_THAT(NamesOf(catalogue, *plan, 2), ElementsAre("c", "d"));
}

TEST(ShardPlan, WhatFitsIsOneFileWithoutAnIndex) {
  const Catalogue catalogue = MakeCatalogue({{"a", "U8", {50}}, {"b", "U8", {50}}});
  const auto plan = PlanShards(catalogue, 100);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->shards.size(), 1u);
  EXPECT_EQ(plan->shards[0].file_name, "model.safetensors");
  EXPECT_FALSE(plan->has_index());
  const auto one = PlanOneFile(catalogue, "x.safetensors");
  ASSERT_TRUE(one);
  EXPECT_EQ(one->shards[0].file_name, "x.safetensors");
}

TEST(ShardPlan, WithinAFileTheWidestDtypeComesFirstThenTheName) {
  const Catalogue catalogue = MakeCatalogue({{"a", "U8", {3}},
                                             {"b", "F32", {1}},
                                             {"c", "BF16", {1}},
                                             {"d", "I64", {1}},
                                             {"e", "F32", {1}},
                                             {"f", "F16", {1}},
                                             {"g", "BOOL", {1}}});
  const auto plan = PlanShards(catalogue, kDefaultShardBytes);
  ASSERT_TRUE(plan);
  EXPECT_THAT(NamesOf(catalogue, *plan, 0), ElementsAre("d", "b", "e", "c", "f", "a", "g"));
}

TEST(ShardPlan, AHeaderToTheByte) {
  const Catalogue catalogue = MakeCatalogue({{"w", "BF16", {2, 3}}, {"s", "F32", {}}, {"none", "F32", {0, 4}}});
  const auto plan = PlanShards(catalogue, kDefaultShardBytes);
  ASSERT_TRUE(plan);
  std::string expected(8, '\0');
  expected[0] = static_cast<char>((4096 - 8) & 0xff);
  expected[1] = static_cast<char>((4096 - 8) >> 8);
  expected +=
      R"({"__metadata__":{"format":"pt"},"none":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},)"
      R"("s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]}})";
  expected.resize(4096, ' ');
  EXPECT_EQ(Header(catalogue, *plan, 0), expected);
  EXPECT_EQ(plan->shards[0].header_bytes, 4096u);
  EXPECT_EQ(plan->shards[0].data_bytes, 16u);
}

TEST(ShardPlan, AnIndexToTheByte) {
  const Catalogue catalogue = MakeCatalogue({{"b", "F32", {2}}, {"a", "U8", {7}}});
  const auto plan = PlanShards(catalogue, 10);
  ASSERT_TRUE(plan);
  EXPECT_EQ(Emitted([&](const Emit& emit) { return EmitIndex(catalogue, *plan, emit); }), R"({
  "metadata": {
    "total_parameters": 9,
    "total_size": 15
  },
  "weight_map": {
    "a": "model-00001-of-00002.safetensors",
    "b": "model-00002-of-00002.safetensors"
  }
}
)");
}

// Lengths around a multiple of 4 KiB: the padding is none, or almost a page.
TEST(ShardPlan, DataStartsAtAPageWhateverTheHeadersLength) {
  for (size_t length = 3950; length < 4050; ++length) {
    const Catalogue catalogue = MakeCatalogue({{std::string(length, 'x'), "U8", {1}}});
    const auto plan = PlanShards(catalogue, kDefaultShardBytes);
    ASSERT_TRUE(plan);
    const std::string header = Header(catalogue, *plan, 0);
    EXPECT_EQ(header.size() % 4096, 0u);
    EXPECT_EQ(header.size(), plan->shards[0].header_bytes);
    EXPECT_TRUE(nlohmann::json::accept(header.substr(8)));
  }
}

TEST(ShardPlan, NamesAreEscaped) {
  const std::string name = "a\"b\\c\nd\x01é";
  const Catalogue catalogue = MakeCatalogue({{name, "U8", {1}}, {"z", "U8", {1}}});
  const auto plan = PlanShards(catalogue, 1);
  ASSERT_TRUE(plan);
  EXPECT_TRUE(nlohmann::json::parse(Header(catalogue, *plan, 0).substr(8)).contains(name));
  const std::string index = Emitted([&](const Emit& emit) { return EmitIndex(catalogue, *plan, emit); });
  EXPECT_EQ(nlohmann::json::parse(index)["weight_map"][name], "model-00001-of-00002.safetensors");
}

TEST(ShardPlan, NoTensorsAtAll) {
  const Catalogue catalogue = MakeCatalogue({});
  const auto plan = PlanShards(catalogue, 100);
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->shards.size(), 1u);
  EXPECT_EQ(nlohmann::json::parse(Header(catalogue, *plan, 0).substr(8)).size(), 1u);
}

TEST(ShardPlan, AnEncodingThatSafetensorsDoesNotKnow) {
  const Catalogue catalogue = MakeCatalogue({{"w", "Q8_0", {32}}});
  const auto plan = PlanShards(catalogue, 100);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(plan.error().ToString(), HasSubstr("model.safetensors: w: safetensors has no dtype for Q8_0"));
}

TEST(ShardPlan, AnErrorOfTheTakerEndsTheEmitting) {
  const Catalogue catalogue = MakeCatalogue({{"a", "U8", {1}}, {"b", "U8", {1}}});
  const auto plan = PlanShards(catalogue, 100);
  ASSERT_TRUE(plan);
  int pieces = 0;
  const auto result = EmitIndex(catalogue, *plan, [&](std::string_view) -> Result<void> {
    ++pieces;
    return Fail(ErrorCode::kWrite, "full");
  });
  EXPECT_FALSE(result);
  EXPECT_EQ(pieces, 1);
}

}  // namespace
}  // namespace sluice::checkpoint
