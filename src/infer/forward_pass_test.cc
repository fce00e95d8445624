#include "infer/forward_pass.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include <fmt/format.h>

#include "base/units.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "formats/safetensors.h"
#include "infer/ids_file.h"
#include "infer/testing/kept_logits.h"
#include "infer/testing/recorded_model.h"

namespace sluice::infer {
namespace {

using checkpoint::Checkpoint;
using tests::AllTiles;
using tests::KeptLogits;
using tests::RecordedModel;

const std::filesystem::path kModels = SLUICE_SOURCE_DIR "/tests/goldens/inference/models";

std::shared_ptr<const Checkpoint> OpenModel(const std::string& path, const checkpoint::OpenOptions& options = {}) {
  auto model = checkpoint::OpenCheckpoint(path, options);
  EXPECT_TRUE(model) << model.error().ToString();
  return model ? *model : nullptr;
}

// A model's folder with another config in it.
std::string WithConfig(const std::filesystem::path& folder, const std::string& config, const tests::TempDir& dir) {
  const std::filesystem::path copy = dir / (folder.filename().string() + config);
  std::filesystem::create_directories(copy);
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("model")) std::filesystem::create_symlink(entry.path(), copy / name);
  }
  std::filesystem::copy_file(folder / config, copy / "config.json");
  return copy;
}

struct Settings {
  int num_threads = 2;
  uint64_t max_chunk_tiles = 32;
  uint64_t max_round_tiles = UINT64_MAX;
  uint64_t max_kept_bytes = UINT64_MAX;
  Spill spill = Spill::kIfForced;
  uint64_t budget_bytes = kGiB;
};

// [model][sequence] logits of all tokens.
using Logits = std::vector<std::vector<std::vector<float>>>;

Result<Logits> TryRun(const std::vector<const Checkpoint*>& models, std::vector<std::vector<uint32_t>> sequences,
                      const Settings& settings) {
  MemoryBudget budget(ResidentBytes() + settings.budget_bytes);
  PassOptions options;
  options.num_threads = settings.num_threads;
  options.budget = &budget;
  options.max_chunk_tiles = settings.max_chunk_tiles;
  options.max_round_tiles = settings.max_round_tiles;
  options.max_kept_bytes = settings.max_kept_bytes;
  options.spill = settings.spill;
  TokenBatch batch(std::move(sequences));
  std::vector<uint64_t> tiles = AllTiles(batch);
  SLUICE_ASSIGN(const auto pass, ForwardPass::Open(models, std::move(batch), std::move(tiles), options));
  EXPECT_EQ(pass->plan().spilled, settings.spill == Spill::kAlways);
  KeptLogits kept(*pass);
  SLUICE_TRY(pass->Run(&kept));
  Logits logits(models.size());
  for (size_t model = 0; model < models.size(); ++model) {
    for (size_t i = 0; i < pass->batch().sequences().size(); ++i) logits[model].push_back(kept.logits(model, i));
  }
  return logits;
}

Logits RunPass(const std::vector<const Checkpoint*>& models, std::vector<std::vector<uint32_t>> sequences,
               const Settings& settings = {}) {
  auto logits = TryRun(models, std::move(sequences), settings);
  EXPECT_TRUE(logits) << logits.error().ToString();
  return logits ? *logits : Logits(models.size());
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && !a.empty() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<uint32_t> RandomIds(uint64_t count, uint32_t vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint32_t> ids(count);
  for (uint32_t& id : ids) id = random() % vocab;
  return ids;
}

std::vector<float> ReadFloats(const std::string& path, std::string_view name) {
  const auto source = io::OpenFile(path);
  const auto header = formats::ReadSafetensorsHeader(**source);
  for (size_t i = 0; i < header->size(); ++i) {
    if ((*header)[i].name != name) continue;
    std::vector<float> values((*header)[i].num_elements);
    EXPECT_TRUE((*source)->Read((*header)[i].begin, {reinterpret_cast<uint8_t*>(values.data()), values.size() * 4}));
    return values;
  }
  ADD_FAILURE() << name << " is not in " << path;
  return {};
}

class EveryArchitecture : public testing::TestWithParam<std::string> {};

// Against transformers' eager attention in f32. The tolerance is 1e-3 of the logits' spread; a wrong theta, scaling,
// window, cap or bias moves them by 0.4 at least, and the models in f64 differ from f32 by 3e-5 at most
// (tests/goldens/inference/README.md).
TEST_P(EveryArchitecture, GivesTransformersLogits) {
  const std::filesystem::path folder = kModels / GetParam();
  const std::string golden = folder / "golden.safetensors";
  const std::vector<float> expected = ReadFloats(golden, "logits");
  const auto ids = ReadIdsFile(golden);
  ASSERT_TRUE(ids) << ids.error().ToString();
  const tests::TempDir dir;
  for (const char* config : {"config.json", "config.v4.json"}) {
    const auto model = OpenModel(WithConfig(folder, config, dir));
    ASSERT_NE(model, nullptr);
    const Logits logits = RunPass({model.get()}, *ids);
    std::vector<float> all;
    for (const std::vector<float>& sequence : logits[0]) all.insert(all.end(), sequence.begin(), sequence.end());
    ASSERT_EQ(all.size(), expected.size());
    const auto [least, most] = std::ranges::minmax(expected);
    double worst = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      ASSERT_FALSE(std::isnan(all[i])) << i;
      worst = std::max(worst, std::abs(static_cast<double>(all[i]) - expected[i]));
    }
    EXPECT_LT(worst, 1e-3 * (most - least)) << config;
    RecordProperty("worst_difference", fmt::format("{:.3g}", worst));
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, EveryArchitecture,
                         testing::Values("gemma2", "gemma3_text", "llama_bias", "llama_gqa", "llama_rope_dynamic",
                                         "llama_rope_linear", "llama_rope_llama3", "llama_rope_yarn", "llama_tied",
                                         "llama_yi", "mistral_window", "phi3", "phi3_longrope", "qwen2", "qwen3"),
                         [](const auto& info) { return info.param; });

// The same bits with any number of threads, in any chunks, in one round or several, with weights kept for the next
// round, some kept, or none, in memory or spilled.
TEST_P(EveryArchitecture, GivesTheSameBitsHoweverItIsRun) {
  const auto model = OpenModel(kModels / GetParam());
  ASSERT_NE(model, nullptr);
  const std::vector<std::vector<uint32_t>> sequences = {RandomIds(71, 160, 1), RandomIds(3, 160, 2),
                                                        RandomIds(40, 160, 3)};
  const Logits expected = RunPass({model.get()}, sequences);
  for (const Settings& settings : {Settings{.num_threads = 1}, Settings{.num_threads = 5, .max_chunk_tiles = 2},
                                   Settings{.num_threads = 1, .max_chunk_tiles = 1, .spill = Spill::kAlways},
                                   Settings{.num_threads = 3, .spill = Spill::kAlways}, Settings{.max_round_tiles = 1},
                                   Settings{.max_round_tiles = 6, .max_kept_bytes = 0},
                                   Settings{.max_round_tiles = 1, .max_kept_bytes = 40'000}}) {
    const Logits logits = RunPass({model.get()}, sequences, settings);
    for (size_t i = 0; i < sequences.size(); ++i) {
      EXPECT_TRUE(SameBits(logits[0][i], expected[0][i])) << settings.num_threads << " " << settings.max_chunk_tiles;
    }
  }
  // Each alone, as it was among others.
  for (size_t i = 0; i < sequences.size(); ++i) {
    EXPECT_TRUE(SameBits(RunPass({model.get()}, {sequences[i]})[0][0], expected[0][i])) << i;
  }
}

// Sequences that make fuller chunks in their round than among all others; more keys at once than in any chunk of all.
TEST(ForwardPass, RoundsChunkTheirSequencesAnew) {
  const auto model = OpenModel(kModels / "llama_gqa");
  ASSERT_NE(model, nullptr);
  std::vector<std::vector<uint32_t>> sequences;
  for (const uint64_t tiles : {1, 2, 2, 1, 2, 1, 2, 1, 2}) {
    sequences.push_back(RandomIds(16 * tiles, 160, static_cast<uint32_t>(sequences.size())));
  }
  const Logits expected = RunPass({model.get()}, sequences);
  for (uint64_t round_tiles = 1; round_tiles <= 12; ++round_tiles) {
    for (const uint64_t chunk_tiles : {1, 2, 3, 4, 5}) {
      const Logits logits =
          RunPass({model.get()}, sequences, {.max_chunk_tiles = chunk_tiles, .max_round_tiles = round_tiles});
      for (size_t i = 0; i < sequences.size(); ++i) {
        EXPECT_TRUE(SameBits(logits[0][i], expected[0][i])) << round_tiles << " " << chunk_tiles << " " << i;
      }
    }
  }
}

// Every budget that the plan accepts holds what the pass keeps, of many small layers and panels too; the weights of
// eight models stay where they fit.
TEST(ForwardPass, WhatIsKeptIsWhatWasPlanned) {
  const tests::TempDir dir;
  const auto model = OpenModel(tests::MakeTinyLlama(dir / "model", {.layers = 9, .vocab = 5000}));
  ASSERT_NE(model, nullptr);
  const std::vector<const Checkpoint*> models(8, model.get());
  std::vector<std::vector<uint32_t>> sequences;
  for (uint32_t i = 0; i < 6; ++i) sequences.push_back(RandomIds(40, 5000, i));
  bool some_kept = false, all_kept = false;
  for (uint64_t mib = 24; mib <= 384; mib += 24) {
    MemoryBudget budget(ResidentBytes() + mib * kMiB);
    PassOptions options;
    options.budget = &budget;
    options.max_round_tiles = 3;
    options.spill = Spill::kIfForced;
    TokenBatch batch(sequences);
    std::vector<uint64_t> last = {2, 5, 8, 11, 14, 17};
    const auto pass = ForwardPass::Open(models, std::move(batch), std::move(last), options);
    if (!pass) {
      EXPECT_EQ(pass.error().code, ErrorCode::kBudget) << pass.error().ToString();
      continue;
    }
    KeptLogits kept(**pass);
    const auto stats = (*pass)->Run(&kept);
    EXPECT_TRUE(stats) << mib << " MiB, kept " << (*pass)->plan().kept_bytes << ": " << stats.error().ToString();
    EXPECT_LE(budget.peak_bytes(), budget.limit_bytes());
    some_kept |= (*pass)->plan().kept_bytes > 0;
    all_kept |= stats && stats->bytes_read < 2 * 8 * model->tensors().total_bytes();
  }
  EXPECT_TRUE(some_kept);
  EXPECT_TRUE(all_kept);
}

// What comes later does not change what came before.
TEST(ForwardPass, IsCausal) {
  const auto model = OpenModel(kModels / "llama_gqa");
  ASSERT_NE(model, nullptr);
  std::vector<uint32_t> ids = RandomIds(40, 160, 1);
  const std::vector<float> before = RunPass({model.get()}, {ids})[0][0];
  ids[33] = (ids[33] + 1) % 160;
  const std::vector<float> after = RunPass({model.get()}, {ids})[0][0];
  EXPECT_EQ(std::memcmp(before.data(), after.data(), 33 * 160 * sizeof(float)), 0);
  EXPECT_NE(std::memcmp(before.data() + 33 * 160, after.data() + 33 * 160, 160 * sizeof(float)), 0);
}

TEST(ForwardPass, ModelsSideBySideGiveWhatEachGivesAlone) {
  const auto gemma = OpenModel(kModels / "gemma2"), yi = OpenModel(kModels / "llama_yi"),
             tied = OpenModel(kModels / "llama_tied");
  const std::vector<std::vector<uint32_t>> sequences = {RandomIds(50, 160, 1), RandomIds(20, 160, 2)};
  const std::vector<const Checkpoint*> models = {gemma.get(), yi.get(), tied.get()};
  const Logits together = RunPass(models, sequences);
  for (size_t model = 0; model < models.size(); ++model) {
    const Logits alone = RunPass({models[model]}, sequences);
    for (size_t i = 0; i < sequences.size(); ++i) EXPECT_TRUE(SameBits(together[model][i], alone[0][i])) << model << i;
  }
}

struct RunResult {
  PassPlan plan;
  PassStats stats;
};
RunResult RunMany(const RecordedModel& recorded, PassOptions options) {
  std::vector<std::vector<uint32_t>> sequences;
  for (uint32_t i = 0; i < 20; ++i) sequences.push_back(RandomIds(40, 2048, i));  // nearly every row of the embedding
  MemoryBudget budget(ResidentBytes() + kGiB);
  options.budget = &budget;
  options.spill = Spill::kIfForced;
  TokenBatch batch(sequences);
  auto tiles = AllTiles(batch);
  const auto pass = ForwardPass::Open({recorded.model.get()}, std::move(batch), tiles, options);
  EXPECT_TRUE(pass) << pass.error().ToString();
  KeptLogits kept(**pass);
  const auto stats = (*pass)->Run(&kept);
  EXPECT_TRUE(stats) << stats.error().ToString();
  return {(*pass)->plan(), *stats};
}

// Each byte of the weights once, however many sequences go through them.
TEST(ForwardPass, ReadsEachWeightOnce) {
  const RecordedModel recorded;
  const RunResult run = RunMany(recorded, {});
  EXPECT_EQ(run.plan.num_rounds, 1u);
  EXPECT_EQ(run.stats.bytes_read, recorded.model->tensors().total_bytes());
  EXPECT_EQ(run.plan.stream.read_bytes, run.stats.bytes_read);
  uint64_t once = 0, total = 0;
  for (const auto& [times, bytes] : recorded.weights->TimesRead(0, recorded.weights->size_bytes())) {
    total += bytes;
    if (times == 1) once = bytes;  // pages at the edges of tiles, and of small tensors, are read with each
  }
  EXPECT_GT(once, total * 95 / 100);
}

// In several rounds (five of four sequences) too, where the weights fit beside the hidden states; only rows of the
// embedding come again.
TEST(ForwardPass, WeightsThatFitStayFromRoundToRound) {
  const RecordedModel recorded;
  const RunResult run = RunMany(recorded, {.max_round_tiles = 12});
  EXPECT_EQ(run.plan.num_rounds, 5u);
  const uint64_t all = recorded.model->tensors().total_bytes(), embedding = recorded.bytes_of("embed_tokens");
  EXPECT_GT(run.stats.bytes_read, all);
  EXPECT_LE(run.stats.bytes_read, all + 4 * embedding);
  EXPECT_NEAR(static_cast<double>(run.plan.stream.read_bytes), static_cast<double>(run.stats.bytes_read), 0.01 * all);
}

// And what does not fit is read again, once a round.
TEST(ForwardPass, WeightsThatDoNotFitComeAgainWithEachRound) {
  const RecordedModel recorded;
  const uint64_t all = recorded.model->tensors().total_bytes(), embedding = recorded.bytes_of("embed_tokens");
  const uint64_t first_layer = recorded.bytes_of("layers.0.");
  const RunResult none = RunMany(recorded, {.max_round_tiles = 12, .max_kept_bytes = 0});
  EXPECT_EQ(none.plan.num_rounds, 5u);
  EXPECT_EQ(none.plan.kept_bytes, 0u);
  EXPECT_GE(none.stats.bytes_read, 5 * (all - embedding));
  EXPECT_LE(none.stats.bytes_read, 5 * all);
  // A layer takes 1.7 times its bytes: slots are a MiB.
  const RunResult one = RunMany(recorded, {.max_round_tiles = 12, .max_kept_bytes = first_layer * 5 / 2});
  EXPECT_EQ(one.stats.bytes_read, none.stats.bytes_read - 4 * first_layer);
}

TEST(ForwardPass, AnIdBeyondTheVocabularyIsNamed) {
  const auto model = OpenModel(kModels / "llama_gqa");
  const auto run = TryRun({model.get()}, {{1, 2}, {3, 160, 5}}, {});
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().code, ErrorCode::kUsage);
  EXPECT_NE(run.error().ToString().find("token 1 of sequence 1 is id 160"), std::string::npos)
      << run.error().ToString();
}

TEST(ForwardPass, ABudgetThatIsTooSmallNamesOneThatWouldDo) {
  const auto model = OpenModel(kModels / "llama_gqa");
  const auto run = TryRun({model.get()}, {RandomIds(40, 160, 1)}, {.budget_bytes = kMiB});
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().code, ErrorCode::kBudget);
  EXPECT_NE(run.error().ToString().find("--max-memory"), std::string::npos) << run.error().ToString();
}

// The step and the tensor, wherever it is.
TEST(ForwardPass, ANaNIsFoundInItsStepAndTensor) {
  const std::pair<const char*, const char*> places[] = {
      {"model.layers.1.mlp.up_proj.weight", "layer 1"},
      {"model.layers.2.input_layernorm.weight", "layer 2"},
      {"model.norm.weight", "final norm"},
      {"lm_head.weight", "head"},
      {"model.embed_tokens.weight", "embedding"},
  };
  for (const auto& [name, step] : places) {
    SCOPED_TRACE(name);
    const tests::TempDir dir;
    const tests::TinyLlama options{.layers = 3, .dtype = "F32", .tied = false};
    tests::MakeTinyLlama(dir / "model", options);
    std::vector<tests::TestTensor> tensors = tests::TinyLlamaTensors(options);
    for (tests::TestTensor& tensor : tensors) {
      if (tensor.name != name) continue;
      const float nan = std::numeric_limits<float>::quiet_NaN();
      const uint64_t row_bytes = tensor.shape.size() == 2 ? tensor.shape[1] * sizeof(float) : 0;
      std::memcpy(tensor.bytes.data() + 2 * row_bytes, &nan, sizeof(nan));  // row 2: a token's that is given
    }
    tests::WriteShards(dir / "model", tensors, 1);
    const auto model = OpenModel(dir / "model");
    ASSERT_NE(model, nullptr);
    const auto run = TryRun({model.get()}, {{1, 2, 3}}, {});
    ASSERT_FALSE(run);
    EXPECT_EQ(run.error().code, ErrorCode::kCorrupt);
    const std::string text = run.error().ToString();
    EXPECT_NE(text.find(step), std::string::npos) << text;
    EXPECT_NE(text.find(name), std::string::npos) << text;
  }
}

TEST(ForwardPass, ATensorThatTheConfigWantsAndTheFileLacksIsNamed) {
  const tests::TempDir dir;
  const tests::TinyLlama options;
  tests::MakeTinyLlama(dir / "model", options);
  std::vector<tests::TestTensor> tensors = tests::TinyLlamaTensors(options);
  std::erase_if(tensors, [](const auto& tensor) { return tensor.name == "model.layers.0.self_attn.k_proj.weight"; });
  tests::WriteShards(dir / "model", tensors, 1);
  const auto model = OpenModel(dir / "model");
  ASSERT_NE(model, nullptr);
  const auto run = TryRun({model.get()}, {{1, 2, 3}}, {});
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(run.error().ToString().find("model.layers.0.self_attn.k_proj.weight"), std::string::npos);
}

}  // namespace
}  // namespace sluice::infer
