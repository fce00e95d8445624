#include "infer/perplexity_stats.h"

#include <cmath>
#include <cstring>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace sluice::infer {
namespace {

using enum PerplexityConvention;
using ::testing::ElementsAre;

std::vector<Window> Windows(uint64_t num_tokens, const WindowOptions& options) {
  auto windows = PlanWindows(num_tokens, options);
  EXPECT_TRUE(windows) << windows.error().ToString();
  return windows ? *windows : std::vector<Window>();
}

std::string ErrorOf(uint64_t num_tokens, const WindowOptions& options) {
  const auto windows = PlanWindows(num_tokens, options);
  EXPECT_FALSE(windows);
  if (windows) return "";
  EXPECT_EQ(windows.error().code, ErrorCode::kUsage);
  return windows.error().ToString();
}

// Counts of a real text of 7,033 tokens, from llama.cpp and transformers.
TEST(PerplexityWindows, CountsOfPublishedPrograms) {
  const auto llama = Windows(7033, {.convention = kLlama512});
  EXPECT_EQ(llama.size(), 13u);
  EXPECT_EQ(NumScored(llama), 13u * 255);
  EXPECT_EQ(llama[0], (Window{0, 512, 257, false}));
  EXPECT_EQ(llama[12], (Window{6144, 6656, 6401, false}));
  EXPECT_EQ(NumScored(Windows(7033, {.convention = kHfStride})), 7032u);
  const auto exl2 = Windows(7033, {.convention = kExl2});
  EXPECT_EQ(exl2.size(), 3u);
  EXPECT_EQ(NumScored(exl2), 6141u);
  EXPECT_EQ(exl2[1], (Window{2048, 4096, 2049, false}));
}

TEST(PerplexityWindows, BosStandsInForAWindowsFirstToken) {
  for (const Window& window : Windows(2048, {.convention = kLlama512, .adds_bos = true})) {
    EXPECT_TRUE(window.bos_replaced);
  }
  EXPECT_FALSE(Windows(2048, {.convention = kExl2, .adds_bos = true})[0].bos_replaced);
  EXPECT_FALSE(Windows(2048, {.convention = kHfStride, .adds_bos = true})[0].bos_replaced);
}

TEST(PerplexityWindows, LlamaWithAnotherContext) {
  EXPECT_THAT(Windows(16, {.convention = kLlama512, .context = 7}),
              ElementsAre(Window{0, 7, 4, false}, Window{7, 14, 11, false}));
  EXPECT_THAT(Windows(16, {.convention = kLlama512, .context = 7, .max_windows = 1}),
              ElementsAre(Window{0, 7, 4, false}));
  EXPECT_THAT(Windows(8, {.convention = kLlama512, .context = 8}), ElementsAre(Window{0, 8, 5, false}));
}

TEST(PerplexityWindows, StrideScoresEachTokenOnce) {
  EXPECT_THAT(
      Windows(11, {.convention = kHfStride, .context = 6, .stride = 2}),
      ElementsAre(Window{0, 6, 1, false}, Window{2, 8, 6, false}, Window{4, 10, 8, false}, Window{6, 11, 10, false}));
  EXPECT_THAT(Windows(5, {.convention = kHfStride}), ElementsAre(Window{0, 5, 1, false}));
  // Windows that do not overlap: the first token of each has nothing before it.
  EXPECT_THAT(Windows(7, {.convention = kHfStride, .context = 3}),
              ElementsAre(Window{0, 3, 1, false}, Window{3, 6, 4, false}));
  EXPECT_THAT(Windows(11, {.convention = kHfStride, .context = 6, .stride = 2, .max_windows = 2}),
              ElementsAre(Window{0, 6, 1, false}, Window{2, 8, 6, false}));
  for (uint64_t tokens = 2; tokens < 40; ++tokens) {
    for (uint64_t stride = 1; stride < 8; ++stride) {
      uint64_t next = 1;
      for (const Window& window : Windows(tokens, {.convention = kHfStride, .context = 8, .stride = stride})) {
        EXPECT_EQ(window.first_scored, next);
        EXPECT_LE(window.end - window.begin, 8u);
        next = window.end;
      }
      EXPECT_EQ(next, tokens);
    }
  }
}

TEST(PerplexityWindows, PositionsCountWhatStandsBefore) {
  EXPECT_THAT(PositionsOf(Windows(11, {.convention = kHfStride, .context = 6, .stride = 2})),
              ElementsAre(1, 2, 3, 4, 5, 4, 5, 4, 5, 4));
}

TEST(PerplexityWindows, WhatCannotBeScored) {
  for (const auto convention : {kLlama512, kHfStride, kExl2}) {
    EXPECT_EQ(ErrorOf(0, {.convention = convention}), "the text has no tokens: there is nothing to score");
  }
  EXPECT_EQ(ErrorOf(511, {.convention = kLlama512}),
            "the text has 511 tokens, llama512 needs 512 for one window: give a longer text or --context 511");
  EXPECT_EQ(ErrorOf(2000, {.convention = kExl2}),
            "the text has 2,000 tokens, exl2 needs 2,048 for one window: give a longer text or --context 2000");
  EXPECT_EQ(ErrorOf(1, {.convention = kHfStride}), "the text has 1 token, hf-stride needs 2: give a longer text");
  EXPECT_EQ(ErrorOf(1, {.convention = kExl2}),
            "the text has 1 token, exl2 needs 2,048 for one window: give a longer text");
  EXPECT_EQ(ErrorOf(100, {.convention = kLlama512, .context = 2}),
            "--context 2 scores nothing: llama512 needs 3 tokens or more in a window");
  EXPECT_EQ(ErrorOf(100, {.convention = kHfStride, .context = 4, .stride = 5}),
            "a stride of 5 leaves out tokens between windows of --context 4");
}

TEST(PerplexityWindows, Names) {
  for (const auto convention : {kLlama512, kHfStride, kExl2}) {
    EXPECT_EQ(ConventionByName(ConventionName(convention)), convention);
  }
  EXPECT_EQ(ConventionByName("llama"), std::nullopt);
}

TEST(Statistics, MeanAndItsError) {
  const Estimate one = MeanOf(std::vector<double>{3});
  EXPECT_EQ(one.mean, 3);
  EXPECT_TRUE(std::isnan(one.error));
  // var = 2/3 about the mean 2; sqrt(2/3 / 2).
  const Estimate three = MeanOf(std::vector<double>{1, 2, 3});
  EXPECT_EQ(three.mean, 2);
  EXPECT_DOUBLE_EQ(three.error, std::sqrt(1.0 / 3));
  // A large mean takes nothing from the error.
  EXPECT_DOUBLE_EQ(MeanOf(std::vector<double>{1e8 + 1, 1e8 + 2, 1e8 + 3}).error, std::sqrt(1.0 / 3));
}

TEST(Statistics, PercentilesAreNumpys) {
  std::vector<double> values(101);
  for (int i = 0; i <= 100; ++i) values[i] = (i * 37) % 101;  // 0 to 100 in disorder
  const Spread spread = SpreadOf(values);
  EXPECT_EQ(spread.max, 100);
  EXPECT_EQ(spread.min, 0);
  const std::array<double, 8> wanted = {99.9, 99, 95, 90, 50, 10, 5, 1};
  for (int i = 0; i < 8; ++i) EXPECT_NEAR(spread.percentiles[i], wanted[i], 1e-12);
  EXPECT_EQ(SpreadOf({4}).percentiles[0], 4);
  EXPECT_DOUBLE_EQ(SpreadOf({1, 2}).percentiles[4], 1.5);  // between the two
}

TEST(Stats, OfOneModel) {
  const std::vector<Window> windows = {{0, 5, 1, false}};
  const std::vector<ModelScores> models = {{"m", {1, 2, 3, 2}, {0, 0, 0, 0}}};
  const PerplexityStats stats = StatsOf(windows, models, {});
  EXPECT_EQ(stats.num_scored, 4u);
  EXPECT_EQ(stats.models[0].ref, "m");
  EXPECT_DOUBLE_EQ(stats.models[0].ppl, std::exp(2.0));
  EXPECT_DOUBLE_EQ(stats.models[0].ppl_error, std::exp(2.0) * std::sqrt(0.5 / 3));
  EXPECT_TRUE(stats.pairs.empty());
  ASSERT_EQ(stats.by_position.size(), 4u);  // positions 1, 2, 3, 4 of a width of one
  EXPECT_EQ(stats.by_position[2].begin, 3u);
  EXPECT_EQ(stats.by_position[2].end, 4u);
  EXPECT_EQ(stats.by_position[2].nll[0].mean, 3);
}

TEST(Stats, OfPairs) {
  const std::vector<Window> windows = {{0, 3, 1, false}, {3, 6, 4, false}};
  const std::vector<ModelScores> models = {{"a", {1, 2, 3, 4}, {7, 8, 9, 1}}, {"b", {1.5, 2, 2.5, 5}, {7, 8, 0, 2}}};
  const std::vector<PairScores> pairs = {{0, 1, {0.5, 0, 0.25, 1.25}}};
  const PerplexityStats stats = StatsOf(windows, models, pairs);
  const PairedPerplexity& pair = stats.pairs.at(0);
  // Differences 0.5, 0, -0.5, 1: mean 0.25, squares about it 0.0625 + 0.0625 + 0.5625 + 0.5625 = 1.25.
  EXPECT_DOUBLE_EQ(pair.delta_ln_ppl.mean, 0.25);
  EXPECT_DOUBLE_EQ(pair.delta_ln_ppl.error, std::sqrt(1.25 / 4 / 3));
  EXPECT_DOUBLE_EQ(pair.delta_ln_ppl.mean, std::log(stats.models[1].ppl / stats.models[0].ppl));
  EXPECT_DOUBLE_EQ(pair.kl.mean, 0.5);
  EXPECT_EQ(pair.kl_spread.max, 1.25);
  EXPECT_DOUBLE_EQ(pair.same_top.mean, 0.5);
  EXPECT_DOUBLE_EQ(pair.same_top.error, std::sqrt(0.25 / 3));
  const double p[4] = {std::exp(-1.5) - std::exp(-1), 0, std::exp(-2.5) - std::exp(-3), std::exp(-5) - std::exp(-4)};
  EXPECT_DOUBLE_EQ(pair.delta_p.mean, (p[0] + p[1] + p[2] + p[3]) / 4);
  EXPECT_DOUBLE_EQ(pair.delta_p_rms, std::sqrt((p[0] * p[0] + p[2] * p[2] + p[3] * p[3]) / 4));
  EXPECT_EQ(pair.delta_p_spread.min, p[0]);

  // Positions are 1 and 2 in both windows.
  ASSERT_EQ(stats.by_position.size(), 2u);
  EXPECT_EQ(stats.by_position[0].num_tokens, 2u);
  EXPECT_EQ(stats.by_position[0].nll[1].mean, 2.0);
  EXPECT_EQ(stats.by_position[0].pairs[0].delta_ln_ppl.mean, 0.0);
  EXPECT_EQ(stats.by_position[1].pairs[0].delta_ln_ppl.mean, 0.5);
  EXPECT_EQ(stats.by_position[1].pairs[0].mean_kl, 0.625);
  EXPECT_EQ(stats.by_position[1].pairs[0].same_top, 0.5);
}

// A model beside itself: nothing differs, and nothing is unsure.
TEST(Stats, OfAModelAndItself) {
  const std::vector<Window> windows = {{0, 4, 1, false}};
  const ModelScores model = {"m", {0.3, 0.7, 9}, {1, 2, 3}};
  const PerplexityStats stats =
      StatsOf(windows, std::vector<ModelScores>{model, model}, std::vector<PairScores>{{0, 1, {0, 0, 0}}});
  EXPECT_EQ(stats.pairs[0].delta_ln_ppl.mean, 0);
  EXPECT_EQ(stats.pairs[0].delta_ln_ppl.error, 0);
  EXPECT_EQ(stats.pairs[0].same_top.mean, 1);
  EXPECT_EQ(stats.pairs[0].same_top.error, 0);
  EXPECT_EQ(stats.pairs[0].delta_p_rms, 0);
}

// Scores of SmolLM2 by llama.cpp and by transformers on one text, and what those who made them computed from them, in
// f64 before the scores were rounded to f32: a mean is off by less than 2^-24 of a nat or so.
TEST(Stats, OfPublishedProgramsOnARealText) {
  const std::string folder = SLUICE_SOURCE_DIR "/tests/goldens/inference/smollm2/";
  for (const std::string text : {"prose", "code", "multilingual"}) {
    std::ifstream stream(folder + "nll-" + text + ".safetensors", std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
    uint64_t header_bytes = 0;
    ASSERT_GT(bytes.size(), sizeof header_bytes);
    std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
    const auto header = nlohmann::json::parse(bytes.substr(8, header_bytes));
    const auto scores = [&](const char* name) {
      const uint64_t begin = header.at(name).at("data_offsets")[0], end = header.at(name).at("data_offsets")[1];
      std::vector<float> values((end - begin) / 4);
      std::memcpy(values.data(), bytes.data() + 8 + header_bytes + begin, end - begin);
      return ModelScores{name, {values.begin(), values.end()}, std::vector<uint32_t>(values.size())};
    };
    std::ifstream expected_stream(folder + "ppl-" + text + ".json");
    const auto expected = nlohmann::json::parse(expected_stream);
    const auto windows = Windows(expected.at("tokens"), {.convention = kLlama512});
    ASSERT_EQ(NumScored(windows), expected.at("scored"));
    const std::vector<ModelScores> models = {scores("transformers_f32"), scores("llama_cpp_f16kv")};
    const std::vector<PairScores> pairs = {{0, 1, std::vector<double>(models[0].nll.size())}};
    const PerplexityStats stats = StatsOf(windows, models, pairs);
    for (const ModelPerplexity& model : stats.models) {
      const auto& figures = expected.at("results").at(model.ref);
      EXPECT_NEAR(model.nll.mean, figures.at("mean_nll").get<double>(), 1e-7);
      EXPECT_NEAR(model.ppl, figures.at("ppl").get<double>(), 2e-6);
      EXPECT_NEAR(model.ppl_error, figures.at("ppl_error").get<double>(), 1e-6);
    }
    const auto& paired = expected.at("against_transformers_f32").at("llama_cpp_f16kv");
    EXPECT_NEAR(stats.pairs[0].delta_ln_ppl.mean, paired.at("delta_ln_ppl").get<double>(), 1e-7);
    EXPECT_NEAR(stats.pairs[0].delta_ln_ppl.error, paired.at("paired_se").get<double>(), 1e-7);
  }
}

TEST(Stats, BucketsAreOfEqualWidthAndHoldEverything) {
  const auto windows = Windows(5000, {.convention = kExl2});
  const uint64_t scored = NumScored(windows);
  const std::vector<ModelScores> models = {{"m", std::vector<double>(scored, 1), std::vector<uint32_t>(scored)}};
  const PerplexityStats stats = StatsOf(windows, models, {});
  ASSERT_EQ(stats.by_position.size(), 16u);
  uint64_t total = 0;
  for (const PositionBucket& bucket : stats.by_position) {
    EXPECT_EQ(bucket.end - bucket.begin, 128u);
    total += bucket.num_tokens;
  }
  EXPECT_EQ(total, scored);
  EXPECT_EQ(stats.by_position[0].num_tokens, 2u * 127);
  // llama512 scores the second half alone.
  const auto llama = Windows(1024, {.convention = kLlama512});
  const std::vector<ModelScores> half = {{"m", std::vector<double>(510, 1), std::vector<uint32_t>(510)}};
  EXPECT_EQ(StatsOf(llama, half, {}).by_position[0].begin, 256u);
}

}  // namespace
}  // namespace sluice::infer
