#include "infer/total_variation_sink.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/units.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/reordered_rows.h"
#include "checkpoint/testing/tiny_models.h"
#include "infer/testing/kept_logits.h"
#include "tests/support/tiny_llama_gguf.h"

namespace sluice::infer {
namespace {

using checkpoint::Checkpoint;
using kernels::kTileTokens;
using CheckpointPtr = std::shared_ptr<const Checkpoint>;

// What total_variation_sink.h allows.
constexpr double kTolerance = 2e-6;

CheckpointPtr OpenModel(const std::string& ref) {
  auto model = checkpoint::OpenCheckpoint(ref, {});
  EXPECT_TRUE(model) << model.error().ToString();
  return model ? *model : nullptr;
}

std::vector<std::vector<uint32_t>> RandomSequences(std::vector<uint64_t> lengths, uint32_t vocab) {
  std::mt19937 random(5);
  std::vector<std::vector<uint32_t>> sequences;
  for (const uint64_t length : lengths) {
    sequences.emplace_back(length);
    for (uint32_t& id : sequences.back()) id = random() % vocab;
  }
  return sequences;
}

struct Challenge {
  std::vector<std::vector<uint32_t>> sequences;
  uint64_t shared_ids;
  std::vector<uint32_t> first_scored;
};

std::vector<double> ScoresOf(const Checkpoint& a, const Checkpoint& b, const Challenge& challenge,
                             PassOptions options = {.num_threads = 2}, uint64_t budget_bytes = kGiB) {
  MemoryBudget budget(ResidentBytes() + budget_bytes);
  options.budget = &budget;
  options.head_runs = 2;
  TokenBatch batch(challenge.sequences);
  std::vector<uint64_t> tiles = TotalVariationSink::WantedTiles(batch, challenge.first_scored);
  const auto pass = ForwardPass::Open({&a, &b}, std::move(batch), std::move(tiles), options);
  EXPECT_TRUE(pass) << pass.error().ToString();
  if (!pass) return {};
  TotalVariationSink sink((*pass)->batch(), challenge.shared_ids, challenge.first_scored);
  const auto run = (*pass)->Run(&sink);
  EXPECT_TRUE(run) << run.error().ToString();
  std::vector<double> scores;
  for (size_t i = 0; run && i < challenge.sequences.size(); ++i) {
    const auto score = sink.Score(i);
    EXPECT_TRUE(score) << score.error().ToString();
    scores.push_back(score.value_or(-1));
  }
  return scores;
}

// The formula in f64, from all logits of a pass that was made for them.
std::vector<double> ExpectedScores(const Checkpoint& a, const Checkpoint& b, const Challenge& challenge) {
  MemoryBudget budget(ResidentBytes() + kGiB);
  TokenBatch batch(challenge.sequences);
  std::vector<uint64_t> tiles = tests::AllTiles(batch);
  const auto pass = ForwardPass::Open({&a, &b}, std::move(batch), std::move(tiles), {.budget = &budget});
  EXPECT_TRUE(pass) << pass.error().ToString();
  tests::KeptLogits kept(**pass);
  EXPECT_TRUE((*pass)->Run(&kept));
  std::vector<double> scores;
  for (size_t i = 0; i < challenge.sequences.size(); ++i) {
    const auto distribution = [&](size_t model, uint64_t position) {
      const uint64_t vocab = (*pass)->spec(model).vocab;
      const float* logits = kept.logits(model, i).data() + position * vocab;
      std::vector<double> p(vocab);
      double sum = 0;
      for (uint64_t id = 0; id < vocab; ++id) sum += p[id] = std::exp(static_cast<double>(logits[id]));
      for (double& one : p) one /= sum;
      return p;
    };
    const uint64_t first = challenge.first_scored[i], length = challenge.sequences[i].size();
    double sum = 0;
    for (uint64_t position = first; position < length; ++position) {
      const std::vector<double> p = distribution(0, position), q = distribution(1, position);
      for (uint64_t id = 0; id < std::max(p.size(), q.size()); ++id) {
        const double of_a = id < p.size() ? p[id] : 0, of_b = id < q.size() ? q[id] : 0;
        sum += (id < challenge.shared_ids ? std::abs(of_a - of_b) : of_a + of_b) / 2;
      }
    }
    scores.push_back(sum / static_cast<double>(length - first));
  }
  return scores;
}

void ExpectNear(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], kTolerance) << i;
}

// Larger weights than usual, so that distributions have peaks and scores are far from 0.
tests::TinyLlama Sizes(uint64_t vocab, uint64_t update_seed = 0) {
  return {.vocab = vocab, .update_seed = update_seed, .update_scale = 0.02f};
}

TEST(TotalVariationSink, IsTheFormula) {
  const tests::TempDir dir;
  const CheckpointPtr a = OpenModel(tests::MakeTinyLlama(dir / "a", Sizes(2500)));
  const CheckpointPtr b = OpenModel(tests::MakeTinyLlama(dir / "b", Sizes(2500, 7)));
  Challenge challenge{RandomSequences({64, 5, 33, 16}, 2500), 2500, {0, 0, 20, 15}};
  for (const uint64_t shared : {uint64_t{2500}, uint64_t{1100}, uint64_t{0}, uint64_t{9999}}) {
    SCOPED_TRACE(shared);
    challenge.shared_ids = shared;
    const std::vector<double> scores = ScoresOf(*a, *b, challenge);
    ExpectNear(scores, ExpectedScores(*a, *b, challenge));
    for (const double score : scores) EXPECT_GT(score, shared == 0 ? 0.99 : 0.01);
    ExpectNear(scores, ScoresOf(*b, *a, challenge));
  }
}

TEST(TotalVariationSink, VocabulariesOfTwoSizes) {
  const tests::TempDir dir;
  const CheckpointPtr a = OpenModel(tests::MakeTinyLlama(dir / "a", Sizes(2500)));
  for (const uint64_t vocab : {900, 2100, 4200}) {
    const CheckpointPtr b = OpenModel(tests::MakeTinyLlama(dir / std::to_string(vocab), Sizes(vocab)));
    for (const uint64_t shared : {700, 2050}) {
      SCOPED_TRACE(testing::Message() << vocab << " " << shared);
      const Challenge challenge{RandomSequences({40, 9}, 700), shared, {0, 3}};
      ExpectNear(ScoresOf(*a, *b, challenge), ExpectedScores(*a, *b, challenge));
    }
  }
}

// Exactly 0 against itself: under other threads, chunks, rounds, memory, shards, containers; and two models' scores are
// the same bits under all of them.
TEST(TotalVariationSink, TheSameModelIsExactlyNothingApart) {
  const tests::TempDir dir;
  tests::TinyLlama sizes = Sizes(2500);
  sizes.hidden = 256;
  sizes.heads = 8;
  const CheckpointPtr a = OpenModel(tests::MakeTinyLlama(dir / "a", sizes));
  sizes.shards = 3;
  const CheckpointPtr shards = OpenModel(tests::MakeTinyLlama(dir / "shards", sizes));
  sizes.update_seed = 7;
  const CheckpointPtr other = OpenModel(tests::MakeTinyLlama(dir / "other", sizes));
  auto wider = checkpoint::CastTo(a, quant::F32());
  ASSERT_TRUE(wider);
  const Challenge challenge{RandomSequences({64, 64, 7, 64}, 2500), 2500, {0, 0, 2, 0}};
  const std::vector<double> nothing(4, 0.0), apart = ScoresOf(*a, *other, challenge);
  for (const PassOptions& options :
       {PassOptions{.num_threads = 1}, PassOptions{.num_threads = 5, .max_chunk_tiles = 1},
        PassOptions{.max_round_tiles = 4}, PassOptions{.max_round_tiles = 1, .max_kept_bytes = 0},
        PassOptions{.max_kept_bytes = 0}, PassOptions{.num_threads = 3, .spill = Spill::kAlways},
        PassOptions{.max_kept_bytes = 0, .spill = Spill::kAlways}}) {
    EXPECT_EQ(ScoresOf(*a, *shards, challenge, options), nothing);
    EXPECT_EQ(ScoresOf(*a, *a, challenge, options), nothing);
    EXPECT_EQ(ScoresOf(**wider, *shards, challenge, options), nothing);
    EXPECT_EQ(ScoresOf(*a, *other, challenge, options), apart);
  }
  for (const uint64_t mib : {48, 80, 200}) EXPECT_EQ(ScoresOf(*a, *other, challenge, {}, mib * kMiB), apart) << mib;
  for (const double score : apart) EXPECT_GT(score, 0.01);
}

// The order of ids shuffled, with the tokens renamed alike: what it computes stays, so nothing is between the two.
TEST(TotalVariationSink, ReorderedRowsTakeRenamedTokens) {
  const tests::TempDir dir;
  for (const bool tied : {false, true}) {
    tests::TinyLlama sizes = Sizes(1500);
    sizes.tied = tied;
    const CheckpointPtr a = OpenModel(tests::MakeTinyLlama(dir / (tied ? "tied" : "untied"), sizes));
    sizes.update_seed = 7;
    const CheckpointPtr b = OpenModel(tests::MakeTinyLlama(dir / (tied ? "tied_b" : "untied_b"), sizes));
    std::vector<uint32_t> order(1500), place(1500);
    for (uint32_t i = 0; i < 1500; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), std::mt19937(3));
    for (uint32_t i = 0; i < 1500; ++i) place[order[i]] = i;
    const auto moved = checkpoint::ReorderRows(a, order), moved_back = checkpoint::ReorderRows(*moved, place);
    const auto moved_b = checkpoint::ReorderRows(b, order);
    ASSERT_TRUE(moved && moved_back && moved_b);
    const Challenge challenge{RandomSequences({64, 20}, 1500), 1500, {0, 0}};
    Challenge renamed = challenge;
    for (auto& sequence : renamed.sequences) {
      for (uint32_t& id : sequence) id = place[id];
    }
    EXPECT_EQ(ScoresOf(*a, **moved_back, challenge), (std::vector<double>{0, 0}));
    EXPECT_GT(ScoresOf(*a, **moved, challenge)[0], 0.01);
    // The same terms, summed in another order.
    const std::vector<double> expected = ScoresOf(*a, *b, challenge), scores = ScoresOf(**moved, **moved_b, renamed);
    ASSERT_EQ(scores.size(), 2u);
    EXPECT_GT(expected[0], 0.01);
    ExpectNear(scores, expected);
  }
}

// Quantised rows move as they are stored.
TEST(TotalVariationSink, ReorderedRowsOfAGguf) {
  const tests::TempDir dir;
  const tests::TinyLlama sizes{.layers = 2, .hidden = 256, .heads = 8, .kv_heads = 2, .ffn = 512};
  tests::GgufBuilder file = tests::TinyLlamaGgufKeys(sizes);
  std::mt19937 random(1);
  for (const tests::TestTensor& tensor : tests::TinyLlamaTensors(sizes)) {
    std::string bytes(tensor.bytes.begin(), tensor.bytes.end());
    const bool in_blocks = tensor.shape.size() == 2;
    if (in_blocks) {  // any whose f16 scales are small
      bytes.resize(quant::EncodingByName("Q8_0").BytesOf(tensor.shape[0] * tensor.shape[1]));
      for (char& byte : bytes) byte = static_cast<char>(random() & 0x8F);
    }
    constexpr uint32_t kQ8_0 = 8, kBf16 = 30;
    file.Tensor(tests::GgufNameOf(tensor.name), in_blocks ? kQ8_0 : kBf16, {tensor.shape.rbegin(), tensor.shape.rend()},
                bytes);
  }
  tests::WriteText(dir / "a.gguf", file.Build());
  const CheckpointPtr a = OpenModel(dir / "a.gguf");
  std::vector<uint32_t> order(96), place(96);
  for (uint32_t i = 0; i < 96; ++i) order[i] = i * 7 % 96, place[order[i]] = i;
  const auto moved = checkpoint::ReorderRows(a, order);
  ASSERT_TRUE(moved) << moved.error().ToString();
  const auto back = checkpoint::ReorderRows(*moved, place);
  ASSERT_TRUE(back) << back.error().ToString();
  const Challenge challenge{RandomSequences({40}, 96), 96, {0}};
  EXPECT_EQ(ScoresOf(*a, **back, challenge), std::vector<double>{0});
  EXPECT_GT(ScoresOf(*a, **moved, challenge)[0], 0);
}

// Logits by hand: what is no distribution is named, where it is scored.
TEST(TotalVariationSink, WhatIsNoDistributionIsNamed) {
  const TokenBatch batch({{1, 2, 3}, {4, 5}});
  const float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> fine(8 * kTileTokens, 1.0f);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (const size_t model : {0, 1}) {
      std::vector<float> broken = fine;
      for (size_t row = 0; row < (bad < 0 ? 8 : 1); ++row) broken[row * kTileTokens + 1] = bad;
      TotalVariationSink sink(batch, 8, {0, 0});
      const LogitSink::Panel::Logits models[2] = {{(model == 0 ? broken : fine).data(), 8},
                                                  {(model == 1 ? broken : fine).data(), 8}};
      const LogitSink::Panel::Logits sound[2] = {{fine.data(), 8}, {fine.data(), 8}};
      for (const int run : {0, 1}) {
        sink.Take({0, 0, sound, run});
        sink.Take({1, 0, models, run});
      }
      EXPECT_EQ(*sink.Score(0), 0);
      const auto score = sink.Score(1);
      ASSERT_FALSE(score);
      EXPECT_EQ(score.error().code, ErrorCode::kCorrupt);
      const std::string expected = "model " + std::to_string(model) + " at position 1 of sequence 1";
      EXPECT_NE(score.error().ToString().find(expected), std::string::npos) << score.error().ToString();
    }
  }
}

TEST(TotalVariationSink, TilesThatAreScored) {
  const TokenBatch batch({std::vector<uint32_t>(40), std::vector<uint32_t>(16), std::vector<uint32_t>(5)});
  EXPECT_EQ(TotalVariationSink::WantedTiles(batch, {0, 0, 0}), (std::vector<uint64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(TotalVariationSink::WantedTiles(batch, {16, 16, 4}), (std::vector<uint64_t>{1, 2, 4}));
  EXPECT_EQ(TotalVariationSink::WantedTiles(batch, {39, 15, 5}), (std::vector<uint64_t>{2, 3}));
}

}  // namespace
}  // namespace sluice::infer
