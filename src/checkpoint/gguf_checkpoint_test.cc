#include "checkpoint/gguf_checkpoint.h"
#include "checkpoint/gguf_nodes.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/gguf_config.h"
#include "io/memory_source.h"
#include "tests/support/tiny_llama_gguf.h"

namespace sluice::checkpoint {
namespace {

using graph::Range;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using tests::GgufBuilder;
using tests::TinyLlama;

constexpr uint32_t kF32 = 0, kQ4_1 = 3;

Result<std::shared_ptr<const Checkpoint>> OpenBytes(std::string bytes) {
  OpenOptions options;
  options.open_source = [&](const std::string& path) -> Result<std::shared_ptr<const io::ByteSource>> {
    return std::make_shared<io::MemorySource>(path, std::move(bytes));
  };
  return OpenGguf("dir/x.gguf", options);
}

std::shared_ptr<const Checkpoint> MustOpen(std::string bytes) {
  auto opened = OpenBytes(std::move(bytes));
  EXPECT_TRUE(opened) << opened.error().ToString();
  return opened ? *opened : nullptr;
}

void ExpectError(std::string bytes, ErrorCode code, std::string_view text) {
  const auto opened = OpenBytes(std::move(bytes));
  ASSERT_FALSE(opened) << "opened, where this was due: " << text;
  EXPECT_EQ(CodeName(opened.error().code), std::string(CodeName(code)));
  EXPECT_EQ(opened.error().ToString(), text);
}

// What a node makes of `range`, without a planner: everything is read when it is needed.
std::vector<uint8_t> Evaluate(const graph::Node& node, Range range) {
  std::vector<uint8_t> out(node.encoding().BytesOf(range.size()));
  if (const auto* stored = dynamic_cast<const graph::StoredNode*>(&node)) {
    EXPECT_TRUE(stored->source().Read(stored->BytesOf(range).begin, out));
    return out;
  }
  for (uint64_t begin = range.begin; begin < range.end; begin += graph::kPieceElements) {
    const Range piece{begin, std::min(range.end, begin + graph::kPieceElements)};
    graph::NeedList needs;
    node.Needs(piece, &needs);
    std::vector<std::vector<uint8_t>> bytes;
    std::vector<graph::View> views;
    for (const graph::Need& need : needs.needs()) bytes.push_back(Evaluate(*node.inputs()[need.input], need.range));
    for (size_t i = 0; i < bytes.size(); ++i) views.push_back({bytes[i].data(), needs.needs()[i].range});
    std::vector<uint64_t> scratch(node.ScratchBytes() / 8 + 1);
    node.Compute({.range = piece,
                  .in = views,
                  .facts = {},
                  .scratch = reinterpret_cast<uint8_t*>(scratch.data()),
                  .out = out.data() + node.encoding().BytesOf(begin - range.begin)});
  }
  return out;
}

std::vector<uint8_t> BytesOf(const Checkpoint& model, std::string_view name) {
  const auto i = model.tensors().Find(name);
  EXPECT_TRUE(i) << name;
  if (!i) return {};
  graph::Graph graph;
  const graph::Node* node = model.MakeNode(*i, &graph);
  EXPECT_EQ(node->encoding(), model.tensors()[*i].encoding);
  return Evaluate(*node, {0, model.tensors()[*i].num_elements});
}

std::string ReadGolden(const std::string& name) {
  std::ifstream file(SLUICE_SOURCE_DIR "/tests/goldens/gguf/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TEST(LlamaHeadRows, UndoesTheConvertersPermutation) {
  // One head of 8: the converter writes rows 0 4 1 5 2 6 3 7, so row 4 is found at 1, row 1 at 2.
  const LlamaHeadRows one(1, 8);
  std::vector<uint64_t> rows;
  for (uint64_t row = 0; row < one.num_rows(); ++row) rows.push_back(one.SourceRow(row));
  EXPECT_THAT(rows, ElementsAre(0, 2, 4, 6, 1, 3, 5, 7));

  const LlamaHeadRows three(3, 4);
  rows.clear();
  for (uint64_t row = 0; row < three.num_rows(); ++row) rows.push_back(three.SourceRow(row));
  EXPECT_THAT(rows, ElementsAre(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11));
}

// Each kind of blocks in a place whose rows are permuted and in one whose rows are not.
TEST(GgufCheckpoint, OpensEveryKindAndDecodesIt) {
  size_t num_kinds = 0;
  for (const quant::Encoding encoding : quant::AllEncodings()) {
    if (encoding->ggml_type < 0 || encoding->decode == nullptr) continue;
    ++num_kinds;
    SCOPED_TRACE(encoding.name());
    TinyLlama options{.layers = 1, .hidden = 256, .heads = 8, .kv_heads = 2, .ffn = 512, .tokenizer = false};
    GgufBuilder builder = tests::TinyLlamaGgufKeys(options);
    std::map<std::string, std::string> stored;
    for (const tests::TestTensor& tensor : tests::TinyLlamaTensors(options)) {
      const std::string name = tests::GgufNameOf(tensor.name);
      const bool is_matrix = tensor.shape.size() == 2;
      uint64_t count = 1;
      for (const uint64_t size : tensor.shape) count *= size;
      std::string bytes(is_matrix ? encoding.BytesOf(count) : 4 * count, '\0');
      for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>((i * 2654435761u) >> 17 & 0x3B);
      stored[tensor.name] = bytes;
      builder.Tensor(name, is_matrix ? static_cast<uint32_t>(encoding->ggml_type) : kF32,
                     {tensor.shape.rbegin(), tensor.shape.rend()}, bytes);
    }
    const auto model = MustOpen(builder.Build());
    ASSERT_TRUE(model);
    const auto decoded = [&](std::string_view bytes, uint64_t count) {
      std::vector<float> values(count);
      encoding->decode(reinterpret_cast<const uint8_t*>(bytes.data()), count, values.data());
      return std::string(reinterpret_cast<const char*>(values.data()), 4 * count);
    };
    for (const std::string name : {"model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.q_proj.weight"}) {
      const TensorInfo tensor = model->tensors()[*model->tensors().Find(name)];
      EXPECT_EQ(tensor.encoding, encoding);
      graph::Graph graph;
      const graph::Node* node = graph.AddCast(model->MakeNode(*model->tensors().Find(name), &graph), quant::F32());
      const std::vector<uint8_t> values = Evaluate(*node, {0, tensor.num_elements});
      std::string expected = decoded(stored[name], tensor.num_elements);
      if (name.find("q_proj") != std::string::npos) {
        const std::string rows = expected;
        const LlamaHeadRows map(options.heads, options.hidden / options.heads);
        for (uint64_t row = 0; row < map.num_rows(); ++row) {
          expected.replace(row * 1024, 1024, rows, map.SourceRow(row) * 1024, 1024);
        }
      }
      EXPECT_TRUE(std::equal(values.begin(), values.end(), expected.begin(), expected.end(), [](uint8_t a, char b) {
        return a == static_cast<uint8_t>(b);
      })) << name;
    }
  }
  EXPECT_EQ(num_kinds, 15u);
}

// A file by PyPI's gguf, with blocks, biases and a head of its own: names, order of rows and numbers.
TEST(GgufCheckpoint, ReadsWhatPyPisGgufWrote) {
  const auto model = MustOpen(ReadGolden("tiny_llama.gguf"));
  ASSERT_TRUE(model);
  EXPECT_EQ(model->kind(), "gguf");
  EXPECT_EQ(model->ref(), "dir/x.gguf");
  ASSERT_THAT(model->files(), SizeIs(1));
  EXPECT_EQ(model->files()[0].name, "x.gguf");
  EXPECT_EQ(model->files()[0].path, "dir/x.gguf");
  EXPECT_EQ(model->files()[0].size_bytes, ReadGolden("tiny_llama.gguf").size());
  EXPECT_THAT(model->side_files(), IsEmpty());
  EXPECT_THAT(model->problems(), IsEmpty());

  const std::string expected = ReadGolden("tiny_llama.f32");
  const std::string layer = "model.layers.0.";
  // In the order of make.py's TENSORS.
  const std::vector<std::pair<std::string, std::string>> names = {{"model.embed_tokens.weight", "Q8_0"},
                                                                  {"lm_head.weight", "F16"},
                                                                  {"model.norm.weight", "F32"},
                                                                  {layer + "input_layernorm.weight", "F32"},
                                                                  {layer + "self_attn.q_proj.weight", "Q4_1"},
                                                                  {layer + "self_attn.q_proj.bias", "F32"},
                                                                  {layer + "self_attn.k_proj.weight", "Q4_0"},
                                                                  {layer + "self_attn.k_proj.bias", "F16"},
                                                                  {layer + "self_attn.v_proj.weight", "F16"},
                                                                  {layer + "self_attn.v_proj.bias", "F32"},
                                                                  {layer + "self_attn.o_proj.weight", "Q4_1"},
                                                                  {layer + "self_attn.o_proj.bias", "F32"},
                                                                  {layer + "post_attention_layernorm.weight", "F32"},
                                                                  {layer + "mlp.gate_proj.weight", "Q4_1"},
                                                                  {layer + "mlp.up_proj.weight", "Q4_1"},
                                                                  {layer + "mlp.down_proj.weight", "Q4_1"}};
  ASSERT_EQ(model->tensors().size(), names.size());
  uint64_t at = 0;
  for (const auto& [name, encoding] : names) {
    SCOPED_TRACE(name);
    const auto i = model->tensors().Find(name);
    ASSERT_TRUE(i);
    const TensorInfo tensor = model->tensors()[*i];
    EXPECT_EQ(tensor.encoding.name(), encoding);
    graph::Graph graph;
    const graph::Node* values = graph.AddCast(model->MakeNode(*i, &graph), quant::F32());
    const std::vector<uint8_t> bytes = Evaluate(*values, {0, tensor.num_elements});
    ASSERT_LE(at + bytes.size(), expected.size());
    EXPECT_EQ(std::memcmp(bytes.data(), expected.data() + at, bytes.size()), 0);
    at += bytes.size();
  }
  EXPECT_EQ(at, expected.size());
  EXPECT_THAT(model->tensors()[*model->tensors().Find("lm_head.weight")].shape, ElementsAre(5, 32));

  EXPECT_EQ(model->config()->json().dump(),
            R"({"architectures":["LlamaForCausalLM"],"attention_bias":true,"bos_token_id":3,"eos_token_id":4,)"
            R"("hidden_act":"silu","hidden_size":32,"intermediate_size":32,"max_position_embeddings":256,)"
            R"("model_type":"llama","num_attention_heads":4,"num_hidden_layers":1,"num_key_value_heads":2,)"
            R"("rms_norm_eps":1e-05,"rope_theta":500000.0,"tie_word_embeddings":false,"vocab_size":5})");
}

TEST(GgufCheckpoint, HasTheBytesOfTheSameModelInSafetensors) {
  for (const char* dtype : {"BF16", "F16", "F32"}) {
    const TinyLlama options{.layers = 11, .dtype = dtype, .tied = true};
    const auto model = MustOpen(tests::TinyLlamaGguf(options));
    ASSERT_TRUE(model);
    EXPECT_THAT(model->problems(), IsEmpty());
    const std::vector<tests::TestTensor> tensors = tests::TinyLlamaTensors(options);
    ASSERT_EQ(model->tensors().size(), tensors.size());
    for (const tests::TestTensor& tensor : tensors) {
      SCOPED_TRACE(tensor.name);
      EXPECT_EQ(BytesOf(*model, tensor.name), tensor.bytes);
      const TensorInfo info = model->tensors()[*model->tensors().Find(tensor.name)];
      EXPECT_EQ(std::vector<uint64_t>(info.shape.begin(), info.shape.end()), tensor.shape);
      EXPECT_EQ(info.encoding.name(), dtype);
    }
    // What both configs say, they say alike.
    const auto theirs = nlohmann::ordered_json::parse(tests::TinyLlamaConfig(options));
    for (const auto& [key, value] : model->config()->json().items()) {
      ASSERT_TRUE(theirs.contains(key)) << key;
      EXPECT_EQ(value.dump(), theirs[key].dump()) << key;
    }
  }
}

TEST(GgufCheckpoint, KeepsTheTokenizersKeysReachable) {
  const auto model = MustOpen(tests::TinyLlamaGguf({.layers = 1, .vocab = 3}));
  ASSERT_TRUE(model);
  const auto text = [](std::string_view key, uint32_t type) {
    return GgufBuilder::Text(key) + GgufBuilder::Bytes(type);
  };
  const auto one = [](uint64_t n) {
    return GgufBuilder::Bytes<uint32_t>(GgufBuilder::kString) + GgufBuilder::Bytes(n);
  };
  // By key in byte order, though the file has them in another.
  EXPECT_EQ(model->embedded_tokenizer(),
            text("tokenizer.ggml.bos_token_id", GgufBuilder::kU32) + GgufBuilder::Bytes<uint32_t>(1) +
                text("tokenizer.ggml.eos_token_id", GgufBuilder::kU32) + GgufBuilder::Bytes<uint32_t>(2) +
                text("tokenizer.ggml.merges", GgufBuilder::kArray) + one(1) + GgufBuilder::Text("t 1") +
                text("tokenizer.ggml.model", GgufBuilder::kString) + GgufBuilder::Text("gpt2") +
                text("tokenizer.ggml.tokens", GgufBuilder::kArray) + one(3) + GgufBuilder::Text("t0") +
                GgufBuilder::Text("t1") + GgufBuilder::Text("t2"));
  const auto& gguf = dynamic_cast<const GgufCheckpoint&>(*model);
  const auto tokens = gguf.file().ReadStrings(*gguf.file().FindKey("tokenizer.ggml.tokens"));
  ASSERT_TRUE(tokens);
  EXPECT_EQ((*tokens)[2], "t2");

  EXPECT_EQ(MustOpen(tests::TinyLlamaGguf({.layers = 1, .tokenizer = false}))->embedded_tokenizer(), "");
}

// The keys of TinyLlamaGgufKeys by name, to leave one out or to say another.
class Keys {
 public:
  explicit Keys(const TinyLlama& options = {.layers = 1, .tokenizer = false}) : options_(options) {}
  Keys& Drop(const std::string& name) {
    dropped_.insert(name);
    return *this;
  }
  template <class Add>
  Keys& Set(const std::string& name, Add add) {
    add(extra_, name);
    return Drop(name);
  }
  Keys& U32(const std::string& name, uint32_t value) {
    return Set(name, [&](GgufBuilder& b, const std::string& n) { b.U32(n, value); });
  }
  Keys& F32(const std::string& name, float value) {
    return Set(name, [&](GgufBuilder& b, const std::string& n) { b.F32(n, value); });
  }
  Keys& String(const std::string& name, const std::string& value) {
    return Set(name, [&](GgufBuilder& b, const std::string& n) { b.String(n, value); });
  }
  // The tensors of TinyLlamaGguf, in F32 of zeros, but for those dropped by name; then those of `more`.
  std::string Build(const std::function<void(GgufBuilder&)>& more = {}) {
    GgufBuilder builder = extra_;
    CopyKeys(&builder);
    for (const tests::TestTensor& tensor : tests::TinyLlamaTensors(options_)) {
      const std::string name = tests::GgufNameOf(tensor.name);
      if (dropped_.contains(name)) continue;
      builder.Tensor(name, kF32, {tensor.shape.rbegin(), tensor.shape.rend()},
                     std::string(tensor.bytes.size() * (options_.dtype == "F32" ? 1 : 2), '\0'));
    }
    if (more) more(builder);
    return builder.Build();
  }

 private:
  void CopyKeys(GgufBuilder* to) const {
    const std::string bytes = tests::TinyLlamaGgufKeys(options_).Build();
    const auto file = formats::GgufFile::Open(std::make_shared<io::MemorySource>("keys", bytes));
    for (const formats::GgufKey& key : (*file)->keys()) {
      if (dropped_.contains(key.name)) continue;
      to->Key(key.name, static_cast<uint32_t>(key.type), std::string_view(bytes).substr(key.offset, key.size_bytes));
    }
  }
  TinyLlama options_;
  std::set<std::string> dropped_;
  GgufBuilder extra_;
};

std::vector<std::string> Messages(const Checkpoint& model) {
  std::vector<std::string> messages;
  for (const Problem& problem : model.problems()) messages.push_back(problem.message);
  return messages;
}

TEST(GgufConfig, TiedWithoutAHeadOfItsOwn) {
  EXPECT_TRUE(MustOpen(tests::TinyLlamaGguf({.layers = 1, .tied = true}))->config()->TiedEmbeddings());
  EXPECT_FALSE(MustOpen(tests::TinyLlamaGguf({.layers = 1, .tied = false}))->config()->TiedEmbeddings());
}

TEST(GgufConfig, SaysThatRopeThetaWasAssumed) {
  const auto model = MustOpen(Keys().Drop("llama.rope.freq_base").Build());
  ASSERT_TRUE(model);
  EXPECT_EQ(model->config()->json()["rope_theta"].dump(), "10000.0");
  ASSERT_THAT(model->problems(), SizeIs(1));
  EXPECT_EQ(model->problems()[0].severity, Problem::Severity::kWarning);
  EXPECT_EQ(model->problems()[0].file, "x.gguf");
  EXPECT_EQ(
      model->problems()[0].message,
      "llama.rope.freq_base is missing; taken as 10000, as llama.cpp does: where the original's rope_theta is another, "
      "this file computes something else");
}

TEST(GgufConfig, RopeScaling) {
  const auto scaling = [](Keys keys) {
    const auto model = MustOpen(keys.Build());
    EXPECT_THAT(Messages(*model), IsEmpty());
    return model->config()->json().value("rope_scaling", nlohmann::ordered_json()).dump();
  };
  const std::string type = "llama.rope.scaling.type", factor = "llama.rope.scaling.factor";
  EXPECT_EQ(scaling(Keys()), "null");
  EXPECT_EQ(scaling(Keys().String(type, "none").F32(factor, 4)), "null");
  EXPECT_EQ(scaling(Keys().String(type, "linear").F32(factor, 1)), "null");
  EXPECT_EQ(scaling(Keys().String(type, "linear").F32(factor, 4)), R"({"factor":4.0,"rope_type":"linear"})");
  EXPECT_EQ(scaling(Keys().F32("llama.rope.scale_linear", 2)), R"({"factor":2.0,"rope_type":"linear"})");
  EXPECT_EQ(scaling(Keys()
                        .String(type, "yarn")
                        .F32(factor, 8)
                        .U32("llama.rope.scaling.original_context_length", 4096)
                        .F32("llama.rope.scaling.yarn_beta_fast", 32)),
            R"({"beta_fast":32.0,"factor":8.0,"original_max_position_embeddings":4096,"rope_type":"yarn"})");
  ExpectError(Keys().String(type, "yarn").F32(factor, 8).Build(), ErrorCode::kCorrupt,
              "dir/x.gguf: llama.rope.scaling.original_context_length: the key is missing, and nothing can stand for "
              "it; convert "
              "the model again");
  ExpectError(Keys().String(type, "longrope").Build(), ErrorCode::kUnsupported,
              "dir/x.gguf: llama.rope.scaling.type: is a way of scaling other than none, linear and yarn, which is not "
              "supported "
              "yet");
  ExpectError(Keys()
                  .String(type, "yarn")
                  .F32(factor, 8)
                  .U32("llama.rope.scaling.original_context_length", 4096)
                  .F32("llama.rope.scaling.attn_factor", 1.5f)
                  .Build(),
              ErrorCode::kUnsupported,
              "dir/x.gguf: llama.rope.scaling.attn_factor: is 1.5; other than 1 is not supported yet");
}

TEST(GgufConfig, HeadsOfTheirOwnSize) {
  Keys keys({.layers = 1, .hidden = 64, .heads = 4, .kv_heads = 4, .tokenizer = false});
  keys.U32("llama.attention.key_length", 32)
      .U32("llama.attention.value_length", 32)
      .U32("llama.rope.dimension_count", 32);
  for (const char* part : {"attn_q", "attn_k", "attn_v", "attn_output"})
    keys.Drop(fmt::format("blk.0.{}.weight", part));
  const auto model = MustOpen(keys.Build([](GgufBuilder& builder) {
    for (const char* part : {"attn_q", "attn_k", "attn_v"}) {
      builder.Tensor(fmt::format("blk.0.{}.weight", part), kF32, {64, 128}, std::string(64 * 128 * 4, '\0'));
    }
    builder.Tensor("blk.0.attn_output.weight", kF32, {128, 64}, std::string(64 * 128 * 4, '\0'));
  }));
  ASSERT_TRUE(model);
  EXPECT_EQ(model->config()->json()["head_dim"], 32);
  EXPECT_FALSE(MustOpen(Keys().Build())->config()->json().contains("head_dim"));
}

TEST(GgufConfig, SizesPerLayer) {
  const auto sizes = [](std::vector<int32_t> values) {
    return Keys()
        .Set("llama.attention.head_count_kv",
             [&](GgufBuilder& b, const std::string& n) { b.Array<int32_t>(n, GgufBuilder::kI32, values); })
        .Build();
  };
  EXPECT_EQ(MustOpen(sizes({2, 2}))->config()->json()["num_key_value_heads"], 2);
  ExpectError(sizes({2, 4}), ErrorCode::kUnsupported,
              "dir/x.gguf: llama.attention.head_count_kv: differs from layer to layer, which is not supported yet");
  ExpectError(sizes({}), ErrorCode::kCorrupt,
              "dir/x.gguf: llama.attention.head_count_kv: is an empty array; convert the model again");
  ExpectError(sizes({-2, -2}), ErrorCode::kCorrupt,
              "dir/x.gguf: llama.attention.head_count_kv: is 0, not 1 to 2^32 - 1; convert the model again");
}

TEST(GgufConfig, WithoutOptionalKeys) {
  TinyLlama options{.layers = 1, .kv_heads = 4, .tokenizer = false};
  const auto model = MustOpen(Keys(options)
                                  .Drop("llama.attention.head_count_kv")
                                  .Drop("llama.rope.dimension_count")
                                  .Drop("llama.vocab_size")
                                  .Drop("general.quantization_version")
                                  .Build());
  ASSERT_TRUE(model);
  EXPECT_THAT(Messages(*model), IsEmpty());
  EXPECT_EQ(model->config()->json()["num_key_value_heads"], 4);
  EXPECT_EQ(model->config()->json()["vocab_size"], 96);
  EXPECT_FALSE(model->config()->json().contains("bos_token_id"));
}

TEST(GgufConfig, ReportsWhatDoesNotFit) {
  EXPECT_THAT(Messages(*MustOpen(Keys().U32("llama.vocab_size", 100).Build())),
              ElementsAre("llama.vocab_size is 100, but the embedding has 96 rows; the rows count"));
  EXPECT_THAT(Messages(*MustOpen(Keys()
                                     .Set("tokenizer.ggml.tokens",
                                          [](GgufBuilder& b, const std::string& n) {
                                            b.Strings(n, {"a", "b"});
                                          })
                                     .Build())),
              ElementsAre("tokenizer.ggml.tokens has 2 tokens for a vocabulary of 96"));
  EXPECT_THAT(
      Messages(*MustOpen(Keys().F32("llama.attention.clamp_kqv", 8).Build())),
      ElementsAre("the key llama.attention.clamp_kqv is not known here and left out of config.json; it may change what "
                  "the model computes"));
  const auto missing = MustOpen(Keys().Drop("blk.0.ffn_up.weight").Drop("output_norm.weight").Build());
  ASSERT_THAT(missing->problems(), SizeIs(1));
  EXPECT_EQ(missing->problems()[0].severity, Problem::Severity::kError);
  EXPECT_EQ(missing->problems()[0].tensor, "output_norm.weight");
  EXPECT_EQ(missing->problems()[0].message, "2 tensors that the keys ask for are missing, this one first");
  EXPECT_THAT(Messages(*MustOpen(Keys().Build() + std::string(64, 'x'))),
              ElementsAre("64 bytes belong to no tensor and are not padding"));
}

TEST(GgufConfig, RefusesOtherArchitectures) {
  ExpectError(Keys().String("general.architecture", "mamba").Build(), ErrorCode::kUnsupported,
              "dir/x.gguf: general.architecture: the architecture 'mamba' is not supported yet; of GGUF files these "
              "are: llama, "
              "qwen2, qwen3, gemma2, gemma3, phi3");
  ExpectError(Keys().String("general.architecture", "\x1b[2J\xff").Build(), ErrorCode::kUnsupported,
              "dir/x.gguf: general.architecture: the architecture '?' is not supported yet; of GGUF files these are: "
              "llama, qwen2, qwen3, gemma2, gemma3, phi3");
  ExpectError(
      Keys().Drop("general.architecture").Build(), ErrorCode::kCorrupt,
      "dir/x.gguf: general.architecture: the key is missing, so it is not known what the tensors are for; convert the "
      "model again");
  ExpectError(Keys().U32("llama.expert_count", 8).Build(), ErrorCode::kUnsupported,
              "dir/x.gguf: llama.expert_count: is 8: mixtures of experts are not supported yet");
}

TEST(GgufConfig, RefusesKeysThatMakeNoSense) {
  const std::string file = "dir/x.gguf: llama.";
  for (const char* name : {"block_count", "context_length", "embedding_length", "feed_forward_length",
                           "attention.head_count", "attention.layer_norm_rms_epsilon"}) {
    ExpectError(Keys().Drop(std::string("llama.") + name).Build(), ErrorCode::kCorrupt,
                file + name + ": the key is missing, and nothing can stand for it; convert the model again");
  }
  ExpectError(Keys().U32("llama.embedding_length", 0).Build(), ErrorCode::kCorrupt,
              file + "embedding_length: is 0, not 1 to 2^32 - 1; convert the model again");
  ExpectError(Keys().U32("llama.attention.head_count", 5).Build(), ErrorCode::kCorrupt,
              file + "attention.head_count: is 5, which does not divide embedding_length 64; convert the model again");
  ExpectError(Keys().U32("llama.attention.head_count_kv", 3).Build(), ErrorCode::kCorrupt,
              file + "attention.head_count_kv: is 3, which does not divide head_count 4; convert the model again");
  ExpectError(
      Keys().U32("llama.attention.head_count", 64).U32("llama.attention.head_count_kv", 64).Build(),
      ErrorCode::kCorrupt,
      file +
          "attention.head_count: makes heads of 1 numbers, but rotary embedding needs an even number; convert the "
          "model again");
  ExpectError(
      Keys().U32("llama.rope.dimension_count", 8).Build(), ErrorCode::kUnsupported,
      file + "rope.dimension_count: is 8, but heads have 16 numbers; rotating a part of them is not supported yet");
  ExpectError(Keys().U32("llama.attention.value_length", 8).Build(), ErrorCode::kUnsupported,
              file + "attention.value_length: is 8, but keys have 16; heads of two sizes are not supported yet");
  ExpectError(Keys().U32("llama.block_count", 4'000'000'000).Build(), ErrorCode::kCorrupt,
              file + "block_count: is 4000000000, but the file has 12 tensors");
  ExpectError(Keys().F32("llama.rope.freq_base", std::numeric_limits<float>::infinity()).Build(), ErrorCode::kCorrupt,
              file + "rope.freq_base: is inf, not a finite number from 0 on; convert the model again");
  ExpectError(Keys().F32("llama.rope.freq_base", 0).Build(), ErrorCode::kCorrupt,
              file + "rope.freq_base: is 0; convert the model again");
  const auto wrong = OpenBytes(Keys().F32("llama.embedding_length", 64).Build());
  EXPECT_THAT(wrong.error().ToString(), HasSubstr("embedding_length: the value at byte"));
  EXPECT_THAT(wrong.error().ToString(), HasSubstr("is of type f32, not an integer"));
}

// A model in parts: the keys in the first, layers here and there.
struct Parts {
  std::map<std::string, std::string> files;

  Parts() {
    const TinyLlama options{.layers = 3, .dtype = "F32", .tokenizer = false};
    std::vector<GgufBuilder> builders(3);
    builders[0] = tests::TinyLlamaGgufKeys(options);
    const std::vector<tests::TestTensor> tensors = tests::TinyLlamaTensors(options);
    for (uint16_t part = 0; part < 3; ++part) {
      builders[part].Key("split.no", GgufBuilder::kU16, GgufBuilder::Bytes<uint16_t>(part));
      builders[part].Key("split.count", GgufBuilder::kU16, GgufBuilder::Bytes<uint16_t>(3));
      builders[part].Key("split.tensors.count", GgufBuilder::kI32,
                         GgufBuilder::Bytes<int32_t>(static_cast<int32_t>(tensors.size())));
    }
    for (size_t i = 0; i < tensors.size(); ++i) {
      builders[i * 3 / tensors.size()].Tensor(tests::GgufNameOf(tensors[i].name), kF32,
                                              {tensors[i].shape.rbegin(), tensors[i].shape.rend()},
                                              std::string(tensors[i].bytes.begin(), tensors[i].bytes.end()));
    }
    for (size_t part = 0; part < 3; ++part) {
      files[fmt::format("m/x-{:05}-of-00003.gguf", part + 1)] = builders[part].Build();
    }
  }
  Result<std::shared_ptr<const Checkpoint>> Open(const std::string& path) const {
    OpenOptions options;
    options.open_source = [&](const std::string& name) -> Result<std::shared_ptr<const io::ByteSource>> {
      const auto file = files.find(name);
      if (file == files.end()) return Fail(Error{ErrorCode::kNotFound, "is not there", {name}});
      return std::make_shared<io::MemorySource>(name, file->second);
    };
    return OpenGguf(path, options);
  }
  std::string Refusal(const std::string& path = "m/x-00001-of-00003.gguf") const {
    const auto opened = Open(path);
    EXPECT_FALSE(opened);
    return opened ? "" : opened.error().ToString();
  }
};

TEST(GgufParts, AreOneModel) {
  const Parts parts;
  const std::vector<tests::TestTensor> tensors = tests::TinyLlamaTensors({.layers = 3, .dtype = "F32"});
  for (const char* given : {"m/x-00001-of-00003.gguf", "m/x-00003-of-00003.gguf"}) {
    const auto model = parts.Open(given);
    ASSERT_TRUE(model) << model.error().ToString();
    EXPECT_THAT((*model)->problems(), IsEmpty());
    ASSERT_THAT((*model)->files(), SizeIs(3));
    EXPECT_EQ((*model)->files()[1].name, "x-00002-of-00003.gguf");
    EXPECT_EQ((*model)->tensors().size(), tensors.size());
    for (const tests::TestTensor& tensor : tensors) {
      if (tensor.name.find("q_proj") != std::string::npos || tensor.name.find("k_proj") != std::string::npos) continue;
      EXPECT_EQ(BytesOf(**model, tensor.name), tensor.bytes) << tensor.name;
    }
  }
}

TEST(GgufParts, ThatAreMissingOrOfAnotherModelAreNamed) {
  Parts missing;
  missing.files.erase("m/x-00002-of-00003.gguf");
  EXPECT_EQ(missing.Refusal(),
            "m/x-00001-of-00003.gguf: 1 of the model's 3 parts are not there: m/x-00002-of-00003.gguf; fetch them");
  Parts swapped;
  std::swap(swapped.files["m/x-00002-of-00003.gguf"], swapped.files["m/x-00003-of-00003.gguf"]);
  EXPECT_THAT(swapped.Refusal(), HasSubstr("should be part 2 of 3 by its name, and its keys say part 3 of 3"));
  Parts renamed;
  renamed.files["m/model.gguf"] = renamed.files["m/x-00001-of-00003.gguf"];
  EXPECT_THAT(renamed.Refusal("m/model.gguf"), HasSubstr("its name does not end in -NNNNN-of-00003.gguf"));
  Parts fewer;
  fewer.files["m/x-00003-of-00003.gguf"] = GgufBuilder()
                                               .Key("split.no", GgufBuilder::kU16, GgufBuilder::Bytes<uint16_t>(2))
                                               .Key("split.count", GgufBuilder::kU16, GgufBuilder::Bytes<uint16_t>(3))
                                               .Build();
  EXPECT_THAT(fewer.Refusal(), HasSubstr("split.tensors.count: is "));
}

// The divisors of Llama 3.1 with theta 10000, and one of them otherwise.
TEST(GgufConfig, RopeFactorsAreLlama3sOrRefused) {
  const auto with = [](const std::vector<float>& divisors) {
    return Keys().Build([&](GgufBuilder& builder) {
      builder.Tensor("rope_freqs.weight", kF32, {8},
                     std::string(reinterpret_cast<const char*>(divisors.data()), divisors.size() * sizeof(float)));
    });
  };
  // Wavelengths 2 pi 10000^(i/8): 6.28, 19.9, 62.8, 199, 628, 1987, 6283, 19869. Of length 2048 those from 512 to 2048
  // are in between: smooth = (2048 / 628.3 - 1) / 3 = 0.75318, and (2048 / 1986.9 - 1) / 3 = 0.010253.
  const auto between = [](double smooth) { return static_cast<float>(1 / ((1 - smooth) / 8 + smooth)); };
  const double length = 2048, pi = 3.14159265358979;
  std::vector<float> divisors = {
      1, 1, 1, 1, between((length / (200 * pi) - 1) / 3), between((length / (200 * pi * std::sqrt(10.0)) - 1) / 3),
      8, 8};
  const auto model = MustOpen(with(divisors));
  ASSERT_TRUE(model);
  EXPECT_EQ(model->config()->json()["rope_scaling"].dump(),
            R"({"factor":8.0,"high_freq_factor":4.0,"low_freq_factor":1.0,)"
            R"("original_max_position_embeddings":2048,"rope_type":"llama3"})");
  divisors[5] = 5;
  const auto refused = OpenBytes(with(divisors));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(refused.error().ToString(), HasSubstr("rope_freqs.weight: number 5 is 5"));
}

TEST(GgufCheckpoint, RefusesTensorsThatItDoesNotKnow) {
  const auto with = [](std::string_view name, std::vector<uint64_t> dims = {64}, uint32_t type = kF32) {
    return Keys().Build([&](GgufBuilder& builder) { builder.Tensor(name, type, dims, std::string(65536, '\0')); });
  };
  const std::string unknown =
      ": is not a tensor of the llama architecture as it is known here, and leaving it out would change "
      "the model";
  for (const char* name :
       {"blk.0.ffn_gate_inp.weight", "blk.01.attn_q.weight", "blk.+1.attn_q.weight", "blk..attn_q.weight",
        "blk.0.attn_norm.bias", "output.bias", "attn_q.weight", "blk.0.output.weight", "blk.0.attn_q.scale",
        "blk.99999999999999999999.attn_q.weight", "blk.0attn_q.weight", "weight", ".weight"}) {
    ExpectError(with(name), ErrorCode::kUnsupported, std::string("dir/x.gguf: ") + name + unknown);
  }
  ExpectError(with("rope_freqs.weight"), ErrorCode::kCorrupt,
              "dir/x.gguf: rope_freqs.weight: should be 8 numbers of type F32, one for each pair that rotary embedding "
              "turns, and is 64 of F32; the file is damaged: fetch it again");
  ExpectError(with("blk.1.attn_q.weight", {64, 64}), ErrorCode::kCorrupt,
              "dir/x.gguf: blk.1.attn_q.weight: is of layer 1, but llama.block_count is 1; the file is damaged: fetch "
              "it again");
  ExpectError(with("blk.0.attn_q.bias", {32}), ErrorCode::kCorrupt,
              "dir/x.gguf: blk.0.attn_q.bias: has shape [32] (rows first), but the file's keys make it [64]; the file "
              "is damaged or "
              "was converted by a program that this version does not know");
  ExpectError(with("blk.0.attn_q.bias", {64}, 26), ErrorCode::kCorrupt,
              "dir/x.gguf: blk.0.attn_q.bias: is of type I32, which no weight of a llama model has; the file is "
              "damaged: fetch "
              "it again");
  ExpectError(with("blk.0.attn_q.bias", {64}, kQ4_1), ErrorCode::kUnsupported,
              "dir/x.gguf: blk.0.attn_q.bias: is a permuted bias in blocks (Q4_1), which is not supported yet");
  ExpectError(
      Keys().Drop("blk.0.ffn_down.weight").Build([](GgufBuilder& b) {
        b.Tensor("blk.0.ffn_down.weight", kF32, {64, 160}, std::string(40960, '\0'));
      }),
      ErrorCode::kCorrupt,
      "dir/x.gguf: blk.0.ffn_down.weight: has shape [160, 64] (rows first), but the file's keys make it [64, 160]; the "
      "file is damaged or was converted by a program that this version does not know");
}

TEST(GgufCheckpoint, RefusesBlocksOfAnOlderVersion) {
  const auto version = [](uint32_t number) {
    return Keys().U32("general.quantization_version", number).Drop("blk.0.attn_v.weight").Build([](GgufBuilder& b) {
      b.Tensor("blk.0.attn_v.weight", kQ4_1, {64, 32}, std::string(1280, '\0'));
    });
  };
  EXPECT_TRUE(OpenBytes(version(2)));
  ExpectError(version(1), ErrorCode::kUnsupported,
              "dir/x.gguf: general.quantization_version: is 1, but blocks are decoded as of version 2; quantise the "
              "model again");
}

TEST(GgufCheckpoint, PassesOnWhatTheSourceSays) {
  OpenOptions options;
  options.open_source = [](const std::string& path) -> Result<std::shared_ptr<const io::ByteSource>> {
    return Fail(ErrorCode::kNotFound, path + ": no such file");
  };
  const auto opened = OpenGguf("absent.gguf", options);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace sluice::checkpoint
