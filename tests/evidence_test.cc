// The evidence that one idea holds: any source flows into any sink, a recipe is a checkpoint, a node never reads. (That
// digests, merges and verifications agree for every method, budget, thread count and sharding: evidence_roots_test.py.)

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "base/units.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "io/recording_source.h"
#include "kernels/sha256.h"
#include "merge/recipe_checkpoint.h"
#include "stream/checkpoint_groups.h"
#include "stream/sink.h"
#include "support/gguf_builder.h"

namespace sluice {
namespace {

using checkpoint::Checkpoint;
using checkpoint::OpenOptions;
using stream::Lease;
using stream::Piece;

constexpr uint64_t kBudgetBytes = 256 * kMiB;

std::shared_ptr<const Checkpoint> Open(const std::string& ref, OpenOptions options = {}) {
  options.openers.push_back(merge::OpenRecipeReference);
  auto opened = checkpoint::OpenCheckpoint(ref, options);
  EXPECT_TRUE(opened) << (opened ? "" : opened.error().ToString());
  return opened ? *opened : nullptr;
}

std::unique_ptr<stream::Stream> OpenStream(const stream::GroupSource& groups, MemoryBudget* budget, uint64_t tile_bytes,
                                           uint64_t held_bytes = 0) {
  stream::StreamOptions options;
  options.budget = budget;
  options.num_threads = 2;
  options.max_tile_bytes = tile_bytes;
  options.wants.held_bytes = held_bytes;
  auto opened = stream::Stream::Open(groups, options);
  EXPECT_TRUE(opened) << (opened ? "" : opened.error().ToString());
  return opened ? std::move(*opened) : nullptr;
}

// ---------------------------------------------------------------------------------------------------------------------
// Evidence 2: a sink of forty lines runs on whatever there is.

class SumSink final : public stream::Sink {
 public:
  explicit SumSink(const Checkpoint& model) : model_(model) {}
  Result<void> Take(const Lease& lease, stream::Stream&) override {
    for (const Piece& piece : lease.pieces()) {
      const quant::Encoding encoding = model_.tensors()[piece.group].encoding;
      std::vector<float> values(piece.range.size());
      encoding->decode(piece.views[0].data, piece.range.size(), values.data());
      for (const float value : values) sum_ += static_cast<double>(value);
      count_ += piece.range.size();
    }
    return {};
  }
  Result<void> End() override { return {}; }
  double sum() const { return sum_; }
  uint64_t count() const { return count_; }

 private:
  const Checkpoint& model_;
  double sum_ = 0;
  uint64_t count_ = 0;
};

double SumOf(const std::shared_ptr<const Checkpoint>& model) {
  const stream::CheckpointGroups groups(*model);
  MemoryBudget budget(ResidentBytes() + kBudgetBytes);
  auto stream = OpenStream(groups, &budget, kMiB);
  SumSink sum(*model);
  stream::Sink* sinks[] = {&sum};
  const auto pumped = stream::Pump(*stream, sinks);
  EXPECT_TRUE(pumped) << (pumped ? "" : pumped.error().ToString());
  EXPECT_EQ(sum.count(), model->tensors().total_elements());
  return sum.sum();
}

// A llama of `tensors` (F32, Hugging Face's names) as a GGUF file. Which rows stand where does not matter to a sum.
std::string AsGguf(const std::vector<tests::TestTensor>& tensors, const tests::TinyLlama& shape) {
  tests::GgufBuilder gguf;
  const auto u32 = [](uint64_t n) { return static_cast<uint32_t>(n); };
  gguf.String("general.architecture", "llama")
      .U32("llama.context_length", 64)
      .U32("llama.embedding_length", u32(shape.hidden))
      .U32("llama.block_count", u32(shape.layers))
      .U32("llama.feed_forward_length", u32(shape.ffn))
      .U32("llama.attention.head_count", u32(shape.heads))
      .U32("llama.attention.head_count_kv", u32(shape.kv_heads))
      .U32("llama.vocab_size", u32(shape.vocab))
      .F32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .F32("llama.rope.freq_base", 10000.0f);
  const std::map<std::string, std::string> names = {{"self_attn.q_proj", "attn_q"},
                                                    {"self_attn.k_proj", "attn_k"},
                                                    {"self_attn.v_proj", "attn_v"},
                                                    {"self_attn.o_proj", "attn_output"},
                                                    {"mlp.gate_proj", "ffn_gate"},
                                                    {"mlp.up_proj", "ffn_up"},
                                                    {"mlp.down_proj", "ffn_down"},
                                                    {"input_layernorm", "attn_norm"},
                                                    {"post_attention_layernorm", "ffn_norm"},
                                                    {"model.embed_tokens", "token_embd"},
                                                    {"model.norm", "output_norm"},
                                                    {"lm_head", "output"},
                                                    {"model.layers.", "blk."}};
  for (const tests::TestTensor& tensor : tensors) {
    std::string name = tensor.name;
    for (const auto& [from, to] : names) {
      if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
    }
    const std::vector<uint64_t> dims(tensor.shape.rbegin(), tensor.shape.rend());
    gguf.Tensor(name, 0, dims, {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()});
  }
  return gguf.Build();
}

TEST(Evidence2, ASinkOfFortyLinesRunsOnAStoredModelAGgufACastAndARecipe) {
  const tests::TempDir dir;
  const tests::TinyLlama shape{.seed = 3, .dtype = "F32"};
  const std::string stored = tests::MakeTinyLlama(dir / "stored", shape);
  double expected = 0, magnitudes = 0;
  uint64_t count = 0;
  for (const tests::TestTensor& tensor : tests::TinyLlamaTensors(shape)) {
    for (size_t i = 0; i < tensor.bytes.size(); i += 4, ++count) {
      float value;
      std::memcpy(&value, &tensor.bytes[i], 4);
      expected += static_cast<double>(value);
      magnitudes += std::abs(static_cast<double>(value));
    }
  }
  // f64 sums of n numbers in another order differ by at most n eps sum|x|.
  const double bound = static_cast<double>(count) * 0x1p-53 * magnitudes;
  EXPECT_NEAR(SumOf(Open(stored)), expected, bound);

  tests::WriteText(dir / "model.gguf", AsGguf(tests::TinyLlamaTensors(shape), shape));
  EXPECT_NEAR(SumOf(Open(dir / "model.gguf")), expected, bound);

  auto cast = checkpoint::CastTo(Open(stored), quant::BF16());
  ASSERT_TRUE(cast);
  EXPECT_NEAR(SumOf(*cast), expected, bound + 0x1p-8 * magnitudes);  // half a unit of 8 bits for each number
  EXPECT_NE(SumOf(*cast), expected);

  tests::MakeTinyLlama(dir / "copy", shape);  // a model is listed once
  tests::WriteText(dir / "recipe.yml",
                   "merge_method: linear\ndtype: float32\nmodels:\n"
                   "  - {model: stored, parameters: {weight: 1}}\n  - {model: copy, parameters: {weight: 3}}\n");
  EXPECT_NEAR(SumOf(Open(dir / "recipe.yml")), expected, bound + 0x1p-22 * magnitudes);  // (x + 3x) / 4: two roundings
}

// ---------------------------------------------------------------------------------------------------------------------
// The parents of evidence 3 and 4: a base and two fine-tunes in several shards, every read of them recorded.

class Parents {
 public:
  Parents() {
    tests::TinyLlama shape{.layers = 6, .hidden = 256, .heads = 8, .kv_heads = 4, .ffn = 640, .vocab = 512, .seed = 5};
    tests::MakeTinyLlama(dir_ / "base", shape);
    shape.shards = 3;
    shape.update_seed = 11;
    tests::MakeTinyLlama(dir_ / "a", shape);
    shape.update_seed = 12;
    tests::MakeTinyLlama(dir_ / "b", shape);
  }

  std::shared_ptr<const Checkpoint> Recipe(const std::string& name, const std::string& method,
                                           const std::string& density) {
    tests::WriteText(dir_ / name, "merge_method: " + method + "\nbase_model: base\ndtype: bfloat16\nmodels:\n" +
                                      "  - {model: a, parameters: {weight: 0.6, density: " + density + "}}\n" +
                                      "  - {model: b, parameters: {weight: 0.4, density: " + density + "}}\n");
    OpenOptions options;
    options.open_source = [this](const std::string& path) -> Result<std::shared_ptr<const io::ByteSource>> {
      auto& source = sources_[path];
      if (source == nullptr) {
        SLUICE_ASSIGN(auto file, io::OpenFile(path));
        source = std::make_shared<io::RecordingSource>(std::move(file));
      }
      return std::shared_ptr<const io::ByteSource>(source);
    };
    return Open(dir_ / name, options);
  }

  void Forget() {
    for (auto& [path, source] : sources_) source->Clear();
  }
  // Bytes of weights by the times they were read, over all shards. A page at the edge of a tile belongs to two windows.
  std::map<int, uint64_t> TimesRead() const {
    std::map<int, uint64_t> total;
    for (const auto& [path, source] : sources_) {
      uint64_t header = 0;
      EXPECT_TRUE(source->Read(0, {reinterpret_cast<uint8_t*>(&header), 8}));
      for (const auto& [times, bytes] : source->TimesRead(8 + header, source->size_bytes())) total[times] += bytes;
    }
    return total;
  }
  size_t num_files() const { return sources_.size(); }

 private:
  tests::TempDir dir_;
  std::map<std::string, std::shared_ptr<io::RecordingSource>> sources_;
};

// All but the pages at edges (of files, and of tiles of 512 KiB) must have been read `times` times.
void ExpectRead(const Parents& parents, int times) {
  uint64_t total = 0, as_wanted = 0;
  for (const auto& [n, bytes] : parents.TimesRead()) {
    total += bytes;
    if (n == times) as_wanted += bytes;
    EXPECT_GE(n, times) << bytes << " bytes were read less than " << times << " times";
  }
  EXPECT_GT(as_wanted, total * 95 / 100);
  EXPECT_GT(total, 10 * kMiB);
}

// ---------------------------------------------------------------------------------------------------------------------
// Evidence 3: a reader that holds one layer and asks for the next ahead, as a transformer would.

class LayerReader {
 public:
  LayerReader(const Checkpoint& model, stream::Stream* stream) : stream_(*stream) {
    std::map<int, std::vector<uint32_t>> layers;  // -1: before the layers, 1000: behind them
    for (uint32_t i = 0; i < model.tensors().size(); ++i) {
      const std::string name(model.tensors()[i].name);
      const size_t at = name.find("layers.");
      layers[at != std::string::npos                   ? std::stoi(name.substr(at + 7))
             : name.find("embed") != std::string::npos ? -1
                                                       : 1000]
          .push_back(i);
    }
    for (auto& [layer, tensors] : layers) layers_.push_back(std::move(tensors));
  }
  size_t num_layers() const { return layers_.size(); }
  void Ask(size_t layer) { stream_.Enqueue(layers_[layer]); }

  // Takes one layer that was asked for; the layer before it is let go only now.
  void Load(size_t layer) {
    std::vector<Lease> arriving;
    for (size_t done = 0; done < layers_[layer].size();) {
      auto lease = stream_.Next();
      ASSERT_TRUE(lease) << lease.error().ToString();
      ASSERT_TRUE(*lease);
      for (const Piece& piece : lease->pieces()) done += piece.last ? 1 : 0;
      arriving.push_back(std::move(*lease));
    }
    held_ = std::move(arriving);
  }
  // Uses the layer where it lies: a hash of each tensor, by group.
  void Use(const Checkpoint& model, std::map<uint32_t, std::string>* hashes) {
    std::map<uint32_t, kernels::Sha256> open;
    for (const Lease& lease : held_) {
      for (const Piece& piece : lease.pieces()) {
        const uint64_t size = model.tensors()[piece.group].encoding.BytesOf(piece.range.size());
        open[piece.group].Update(std::span(piece.views[0].data, size));
      }
    }
    for (auto& [group, sha] : open) (*hashes)[group] = kernels::ToHex(sha.Finish());
  }

 private:
  stream::Stream& stream_;
  std::vector<std::vector<uint32_t>> layers_;
  std::vector<Lease> held_;
};

TEST(Evidence3, ARecipeIsReadInLayerOrderTwiceByAReaderThatAsksAhead) {
  Parents parents;
  const auto recipe = parents.Recipe("recipe.yml", "dare_ties", "0.5");
  ASSERT_NE(recipe, nullptr);
  const stream::CheckpointGroups groups(*recipe);
  MemoryBudget budget(ResidentBytes() + kBudgetBytes);
  constexpr uint64_t kLayerBytes = 3 * kMiB;  // of 1.7 MB and less, with the slots' ends
  auto stream = OpenStream(groups, &budget, 512 * kKiB, 2 * kLayerBytes);
  ASSERT_NE(stream, nullptr);
  LayerReader reader(*recipe, stream.get());
  EXPECT_EQ(reader.num_layers(), 8u);

  std::map<uint32_t, std::string> passes[2];
  parents.Forget();
  reader.Ask(0);
  for (int pass = 0; pass < 2; ++pass) {
    for (size_t layer = 0; layer < reader.num_layers(); ++layer) {
      const size_t next = (layer + 1) % reader.num_layers();
      if (pass == 0 || next != 0) reader.Ask(next);  // ahead, also across the end of the pass
      reader.Load(layer);
      reader.Use(*recipe, &passes[pass]);
    }
    // Small tensors are folded and computed from one read; with the facts known, the second pass reads all just once
    // more.
    ExpectRead(parents, pass + 1);
  }
  EXPECT_EQ(passes[0].size(), recipe->tensors().size());
  EXPECT_EQ(passes[0], passes[1]);
}

// ---------------------------------------------------------------------------------------------------------------------
// Evidence 4: two recipes over the same parents, side by side.

TEST(Evidence4, TwoRecipesInLockstepReadEachParentByteOnce) {
  Parents parents;
  const auto sparse = parents.Recipe("sparse.yml", "dare_ties", "0.3"),
             dense = parents.Recipe("dense.yml", "ties", "0.7");
  ASSERT_NE(sparse, nullptr);
  ASSERT_NE(dense, nullptr);
  EXPECT_EQ(parents.num_files(), 7u);
  std::vector<std::vector<stream::LockstepGroups::Member>> members;
  for (uint32_t i = 0; i < sparse->tensors().size(); ++i) {
    members.push_back({{sparse.get(), i}, {dense.get(), i}});
  }
  const stream::LockstepGroups groups(members);
  MemoryBudget budget(ResidentBytes() + kBudgetBytes);
  auto stream = OpenStream(groups, &budget, kMiB);
  ASSERT_NE(stream, nullptr);
  EXPECT_EQ(stream->plan().payload_bytes, 3 * sparse->tensors().total_bytes());

  parents.Forget();
  stream->EnqueueAll();
  uint64_t equal = 0, elements = 0;
  for (;;) {
    auto lease = stream->Next();
    ASSERT_TRUE(lease) << lease.error().ToString();
    if (!*lease) break;
    for (const Piece& piece : lease->pieces()) {
      ASSERT_EQ(piece.views.size(), 2u);
      elements += piece.range.size();
      for (uint64_t i = 0; i < 2 * piece.range.size(); i += 2) {
        equal += std::memcmp(piece.views[0].data + i, piece.views[1].data + i, 2) == 0;
      }
    }
  }
  EXPECT_EQ(elements, sparse->tensors().total_elements());
  EXPECT_LT(equal, elements);  // two merges, not one twice
  ExpectRead(parents, 1);
}

}  // namespace
}  // namespace sluice
