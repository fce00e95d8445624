// Sinks that see logits more than once: the same bits each time, whatever stays in memory; and what is read for it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/units.h"
#include "infer/forward_pass.h"
#include "infer/testing/kept_logits.h"
#include "infer/testing/recorded_model.h"
#include "kernels/logit_panels.h"

namespace sluice::infer {
namespace {

using checkpoint::Checkpoint;
using tests::AllTiles;
using tests::KeptLogits;
using tests::RecordedModel;

std::vector<std::vector<uint32_t>> RandomSequences(uint32_t count, uint64_t length, uint32_t vocab) {
  std::vector<std::vector<uint32_t>> sequences;
  for (uint32_t i = 0; i < count; ++i) {
    std::mt19937 random(i);
    sequences.emplace_back(length);
    for (uint32_t& id : sequences.back()) id = random() % vocab;
  }
  return sequences;
}

// Each run's logits; a tile's panels must come in order, run after run.
class RunsKept final : public LogitSink {
 public:
  RunsKept(const ForwardPass& pass, int runs) : next_id_(pass.batch().num_tiles()), runs_of_(next_id_.size()) {
    for (int i = 0; i < runs; ++i) runs_.emplace_back(pass);
  }
  void Take(const Panel& panel) override {
    if (panel.first_id == 0) {
      EXPECT_EQ(panel.run, runs_of_[panel.tile]++);
      next_id_[panel.tile] = 0;
    }
    EXPECT_EQ(panel.run, runs_of_[panel.tile] - 1);
    EXPECT_EQ(panel.first_id, next_id_[panel.tile]);
    next_id_[panel.tile] += kernels::kLogitPanelRows;
    runs_[static_cast<size_t>(panel.run)].Take(panel);
  }
  const std::vector<float>& logits(size_t run, size_t model, size_t sequence) const {
    return runs_[run].logits(model, sequence);
  }
  bool every_tile_had(int runs) const {
    return std::ranges::all_of(runs_of_, [&](int of_tile) { return of_tile == runs; });
  }

 private:
  std::vector<uint32_t> next_id_;  // by tile
  std::vector<int> runs_of_;
  std::vector<KeptLogits> runs_;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Outcome {
  PassPlan plan;
  PassStats stats;
  std::vector<std::vector<float>> logits;  // model after model
};

Outcome RunPass(const std::vector<const Checkpoint*>& models, const std::vector<std::vector<uint32_t>>& sequences,
                PassOptions options, uint64_t budget_bytes = kGiB) {
  MemoryBudget budget(ResidentBytes() + budget_bytes);
  options.budget = &budget;
  TokenBatch batch(sequences);
  std::vector<uint64_t> tiles = AllTiles(batch);
  const auto pass = ForwardPass::Open(models, std::move(batch), std::move(tiles), options);
  EXPECT_TRUE(pass) << pass.error().ToString();
  if (!pass) return {};
  RunsKept kept(**pass, options.head_runs);
  const auto stats = (*pass)->Run(&kept);
  EXPECT_TRUE(stats) << stats.error().ToString();
  EXPECT_LE(budget.peak_bytes(), budget.limit_bytes());
  EXPECT_TRUE(kept.every_tile_had(options.head_runs));
  Outcome outcome{(*pass)->plan(), stats.value_or(PassStats{}), {}};
  for (size_t model = 0; model < models.size(); ++model) {
    for (size_t i = 0; i < sequences.size(); ++i) {
      outcome.logits.push_back(kept.logits(0, model, i));
      for (int run = 1; run < options.head_runs; ++run) {
        EXPECT_TRUE(SameBits(kept.logits(static_cast<size_t>(run), model, i), outcome.logits.back())) << run;
      }
    }
  }
  return outcome;
}

// Vocabularies of one panel and of five, in memory, in rounds, spilled; heads kept, kept in part, and read twice.
TEST(HeadRuns, GiveTheSameBitsHoweverTheyAreMade) {
  const tests::TempDir dir;
  const auto open = [](const std::string& path) { return *checkpoint::OpenCheckpoint(path, {}); };
  const auto large = open(tests::MakeTinyLlama(dir / "large", {.vocab = 5000}));
  const auto small = open(tests::MakeTinyLlama(dir / "small", {.vocab = 1000, .seed = 2, .tied = true}));
  const std::vector<const Checkpoint*> models = {large.get(), small.get()};
  auto sequences = RandomSequences(5, 40, 1000);
  sequences[1].resize(3);
  sequences[3].resize(17);
  const Outcome expected = RunPass(models, sequences, {.num_threads = 2});
  EXPECT_FALSE(expected.plan.heads_kept);
  for (const uint64_t kept : {uint64_t{0}, uint64_t{3'000'000}, UINT64_MAX}) {
    for (const Spill spill : {Spill::kIfForced, Spill::kAlways}) {
      for (const uint64_t round_tiles : {uint64_t{1}, UINT64_MAX}) {
        for (const uint64_t chunk_tiles : {1, 32}) {
          SCOPED_TRACE(testing::Message()
                       << kept << " " << static_cast<int>(spill) << " " << round_tiles << " " << chunk_tiles);
          const Outcome outcome = RunPass(models, sequences,
                                          {.num_threads = 3,
                                           .head_runs = chunk_tiles == 1 ? 3 : 2,
                                           .max_chunk_tiles = chunk_tiles,
                                           .max_round_tiles = round_tiles,
                                           .max_kept_bytes = kept,
                                           .spill = spill});
          ASSERT_EQ(outcome.logits.size(), expected.logits.size());
          for (size_t i = 0; i < expected.logits.size(); ++i) {
            EXPECT_TRUE(SameBits(outcome.logits[i], expected.logits[i])) << i;
          }
          EXPECT_EQ(outcome.plan.heads_kept, kept == UINT64_MAX);
          EXPECT_EQ(outcome.plan.stream.read_bytes, outcome.stats.bytes_read);
        }
      }
    }
  }
}

// Each byte of both models once where the heads stay, and the heads twice where they may not, whatever the number of
// sequences; the plan knows to the byte.
TEST(HeadRuns, ReadWeightsOnceAndHeadsTwiceAtMost) {
  const RecordedModel a, b(7);
  const uint64_t all = a.model->tensors().total_bytes() + b.model->tensors().total_bytes();
  const uint64_t heads = a.bytes_of("lm_head") + b.bytes_of("lm_head");
  for (const uint32_t count : {16, 48}) {  // nearly every row of the embedding
    for (const bool kept : {true, false}) {
      SCOPED_TRACE(testing::Message() << count << " " << kept);
      a.weights->Clear();
      const Outcome outcome = RunPass({a.model.get(), b.model.get()}, RandomSequences(count, 40, 2048),
                                      {.head_runs = 2, .max_kept_bytes = kept ? UINT64_MAX : 0});
      EXPECT_EQ(outcome.plan.num_rounds, 1u);
      EXPECT_EQ(outcome.plan.heads_kept, kept);
      EXPECT_EQ(outcome.stats.bytes_read, kept ? all : all + heads);
      EXPECT_EQ(outcome.plan.stream.read_bytes, outcome.stats.bytes_read);
      // The source itself saw it: pages at the edges of tiles and small tensors are read with each, the rest once.
      uint64_t once = 0, total = 0;
      for (const auto& [times, bytes] : a.weights->TimesRead(0, a.weights->size_bytes())) {
        total += bytes;
        if (times == 1) once = bytes;
      }
      EXPECT_GT(once, (total - (kept ? 0 : heads / 2)) * 95 / 100);
    }
  }
}

// Two models in little memory: every budget that is accepted holds, from heads read twice, in rounds, to all kept, and
// gives the same bits.
TEST(HeadRuns, EveryBudgetThatIsAcceptedHolds) {
  const RecordedModel a, b(7);
  const std::vector<const Checkpoint*> models = {a.model.get(), b.model.get()};
  const auto sequences = RandomSequences(12, 64, 2048);
  const Outcome expected = RunPass(models, sequences, {});
  bool some_refused = false, read_again = false, some_kept = false;
  for (uint64_t mib = 2; mib <= 32; mib += 3) {
    SCOPED_TRACE(mib);
    MemoryBudget budget(ResidentBytes() + mib * kMiB);
    const PassOptions options{.num_threads = 2, .budget = &budget, .head_runs = 2};
    TokenBatch batch(sequences);
    std::vector<uint64_t> tiles = AllTiles(batch);
    const auto pass = ForwardPass::Open(models, std::move(batch), std::move(tiles), options);
    if (!pass) {
      EXPECT_EQ(pass.error().code, ErrorCode::kBudget) << pass.error().ToString();
      some_refused = true;
      continue;
    }
    RunsKept kept(**pass, 2);
    const auto stats = (*pass)->Run(&kept);
    ASSERT_TRUE(stats) << stats.error().ToString();
    EXPECT_LE(budget.peak_bytes(), budget.limit_bytes());
    EXPECT_EQ((*pass)->plan().stream.read_bytes, stats->bytes_read);
    read_again |= !(*pass)->plan().heads_kept;
    some_kept |= (*pass)->plan().heads_kept;
    for (size_t i = 0; i < sequences.size(); ++i) {
      EXPECT_TRUE(SameBits(kept.logits(1, 0, i), expected.logits[i]));
      EXPECT_TRUE(SameBits(kept.logits(1, 1, i), expected.logits[sequences.size() + i]));
    }
  }
  EXPECT_TRUE(some_refused);
  EXPECT_TRUE(read_again);
  EXPECT_TRUE(some_kept);
}

}  // namespace
}  // namespace sluice::infer
