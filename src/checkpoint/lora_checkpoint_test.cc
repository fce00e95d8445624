#include "checkpoint/lora_checkpoint.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"
#include "checkpoint/lora_config.h"
#include "checkpoint/testing/tiny_models.h"
#include "tests/support/read_tensors.h"

namespace sluice::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using tests::Reading;
using tests::ReadTensors;
using tests::TempDir;
using tests::TestTensor;

constexpr char kPlain[] = R"({"peft_type":"LORA","r":4,"lora_alpha":6})";

std::vector<float> Decode(std::string_view dtype, const std::vector<uint8_t>& bytes) {
  const quant::Encoding encoding = quant::EncodingByName(dtype);
  std::vector<float> values(bytes.size() / encoding->block_bytes * encoding->block_elements);
  encoding->decode(bytes.data(), values.size(), values.data());
  return values;
}

// W + scale * B A in f64, and what its terms add up to in size. A [rank, in], B [out, rank].
struct Sum {
  double value, size;
};
Sum Exact(double weight, const std::vector<float>& a, const std::vector<float>& b, uint64_t in, uint64_t rank,
          uint64_t out_row, uint64_t in_column, double scale) {
  Sum sum{weight, std::fabs(weight)};
  for (uint64_t j = 0; j < rank; ++j) {
    const double term = scale * static_cast<double>(b[out_row * rank + j]) * static_cast<double>(a[j * in + in_column]);
    sum.value += term;
    sum.size += std::fabs(term);
  }
  return sum;
}

// Half a step of a plain float at a value: its rounding.
double HalfStep(std::string_view dtype, double value) {
  const int bits = quant::EncodingByName(dtype)->significand_bits;
  return std::ldexp(std::max(std::fabs(value), 6e-5), -bits);  // 6e-5: F16's smallest normal number
}

// docs/lora.md: (rank + 3) roundings of f32, the result's own, and the scale's.
double Bound(std::string_view dtype, uint64_t rank, const Sum& sum) {
  const double in_f32 = static_cast<double>(rank + 4) * 0x1p-24 * sum.size;
  return in_f32 + (dtype == "F32" ? 0 : HalfStep(dtype, std::fabs(sum.value) + in_f32) * 1.0001);
}

std::string WriteAdapter(const TempDir& dir, const std::vector<TestTensor>& tensors,
                         const std::string& config = kPlain) {
  std::filesystem::create_directories(dir / "lora");
  tests::WriteSafetensors(dir / "lora/adapter_model.safetensors", tensors);
  tests::WriteText(dir / "lora/adapter_config.json", config);
  return dir / "lora";
}

TestTensor Factor(const std::string& name, uint64_t rows, uint64_t columns, uint64_t seed,
                  const std::string& dtype = "F32") {
  return tests::RandomTensor("base_model.model." + name, dtype, {rows, columns}, seed, 0.3f);
}

std::shared_ptr<const Checkpoint> Open(const std::string& ref) {
  auto opened = OpenCheckpoint(ref, {});
  EXPECT_TRUE(opened) << opened.error().ToString();
  return opened ? *opened : nullptr;
}

std::string ErrorOf(const std::string& ref, ErrorCode code) {
  const auto opened = OpenCheckpoint(ref, {});
  EXPECT_FALSE(opened) << ref;
  if (opened) return "";
  EXPECT_EQ(opened.error().code, code) << opened.error().ToString();
  return opened.error().ToString();
}

std::string Messages(const Checkpoint& model) {
  std::string all;
  for (const Problem& problem : model.problems()) {
    all += problem.severity == Problem::Severity::kNote ? "note: " : "warning: ";
    all += problem.file + ": " + problem.message + "\n";
  }
  return all;
}

struct Shape {
  uint64_t rows, columns, rank;
};

class LoraArithmetic : public testing::TestWithParam<std::tuple<Shape, bool, const char*, const char*>> {};

// Rows of many pieces, pieces of many rows, tiles within a row, factors that are longer than a window.
TEST_P(LoraArithmetic, IsTheProductInF64WithinItsBound) {
  const auto& [shape, transposed, dtype, factor_dtype] = GetParam();
  const auto [rows, columns, rank] = shape;
  const uint64_t in = transposed ? rows : columns, out = transposed ? columns : rows;
  TempDir dir;
  const TestTensor weight = tests::RandomTensor("x.weight", dtype, {rows, columns}, 1, 0.5f);
  const TestTensor other = tests::RandomTensor("y.weight", dtype, {3, 5}, 9);
  const TestTensor a = Factor("x.lora_A.weight", rank, in, 2, factor_dtype);
  const TestTensor b = Factor("x.lora_B.weight", out, rank, 3, factor_dtype);
  std::filesystem::create_directories(dir / "base");
  tests::WriteShards(dir / "base", {weight, other}, 1);
  const std::string adapter = WriteAdapter(
      dir, {a, b}, R"({"peft_type":"LORA","lora_alpha":7,"fan_in_fan_out":true,"r":)" + std::to_string(rank) + "}");
  // The flag decides for a square weight of an unknown model only.
  const auto model = Open(dir / "base+" + adapter);
  ASSERT_NE(model, nullptr);
  const auto tensors = ReadTensors(*model);
  EXPECT_EQ(tensors.at("y.weight"), other.bytes);
  const std::vector<float> got = Decode(dtype, tensors.at("x.weight")), before = Decode(dtype, weight.bytes);
  const std::vector<float> a_values = Decode(factor_dtype, a.bytes), b_values = Decode(factor_dtype, b.bytes);
  ASSERT_EQ(got.size(), rows * columns);
  double worst = 0;
  for (uint64_t i = 0; i<got.size(); i += rows * columns> 100000 ? 37 : 1) {
    const uint64_t row = i / columns, column = i % columns;
    const Sum sum = Exact(before[i], a_values, b_values, in, rank, transposed ? column : row, transposed ? row : column,
                          7.0 / static_cast<double>(rank));
    worst = std::max(worst, std::fabs(got[i] - sum.value) / Bound(dtype, rank, sum));
  }
  EXPECT_LE(worst, 1);
  EXPECT_GT(worst, 0.01);  // the bound means something

  // The same bits, however it is cut.
  for (const Reading& reading :
       {Reading{.threads = 1}, Reading{.threads = 3, .tile_bytes = 256 * kKiB}, Reading{.tile_bytes = 4 * kMiB}}) {
    EXPECT_TRUE(ReadTensors(*model, reading) == tensors);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LoraArithmetic,
                         testing::Combine(testing::Values(Shape{48, 32, 4}, Shape{5, 7, 11}, Shape{1, 300, 1},
                                                          Shape{300, 1, 3}, Shape{700, 1029, 16}, Shape{3, 200003, 5},
                                                          Shape{40001, 9, 8}),
                                          testing::Bool(), testing::Values("BF16", "F32"), testing::Values("F32")));
INSTANTIATE_TEST_SUITE_P(Dtypes, LoraArithmetic,
                         testing::Combine(testing::Values(Shape{129, 257, 9}), testing::Bool(),
                                          testing::Values("BF16", "F16", "F32"), testing::Values("BF16", "F16")));

// 48 MiB of weights through far less memory than that.
TEST(LoraCheckpoint, StreamsInASmallBudget) {
  constexpr uint64_t kRows = 12288, kColumns = 2048, kRank = 8;
  TempDir dir;
  std::filesystem::create_directories(dir / "base");
  std::vector<TestTensor> factors;
  {
    TestTensor weight{"x.weight", "BF16", {kRows, kColumns}, std::vector<uint8_t>(kRows * kColumns * 2)};
    for (size_t i = 0; i < weight.bytes.size(); i += 2) weight.bytes[i + 1] = static_cast<uint8_t>(0x3C + i % 5);
    tests::WriteShards(dir / "base", {weight}, 1);
    WriteAdapter(dir, {Factor("x.lora_A.weight", kRank, kColumns, 1), Factor("x.lora_B.weight", kRows, kRank, 2)},
                 R"({"peft_type":"LORA","r":8})");
  }
  const auto model = Open(dir / "base+" + (dir / "lora"));
  ASSERT_NE(model, nullptr);
  MemoryBudget budget(ResidentBytes() + 24 * kMiB);
  const stream::CheckpointGroups groups(*model);
  stream::StreamOptions options;
  options.num_threads = 2;
  options.budget = &budget;
  auto stream = stream::Stream::Open(groups, options);
  ASSERT_TRUE(stream) << stream.error().ToString();
  (*stream)->EnqueueAll();
  uint64_t elements = 0;
  for (;;) {
    auto lease = (*stream)->Next();
    ASSERT_TRUE(lease) << lease.error().ToString();
    if (!*lease) break;
    for (const stream::Piece& piece : lease->pieces()) elements += piece.range.size();
  }
  EXPECT_EQ(elements, kRows * kColumns);
}

// A model whose every kind of tensor an adapter can change.
class LoraModel : public testing::Test {
 protected:
  LoraModel() { tests::MakeTinyLlama(dir_ / "base", {.dtype = "F32"}); }
  std::string With(const std::vector<TestTensor>& tensors, const std::string& config = kPlain) {
    return dir_ / "base+" + WriteAdapter(dir_, tensors, config);
  }
  static constexpr char kQ[] = "model.layers.0.self_attn.q_proj";
  std::vector<TestTensor> Pair(const std::string& module = kQ, const std::string& name = "", uint64_t in = 64,
                               uint64_t out = 64, uint64_t rank = 4) {
    return {Factor(module + ".lora_A" + name + ".weight", rank, in, 1),
            Factor(module + ".lora_B" + name + ".weight", out, rank, 2)};
  }
  TempDir dir_;
};

TEST_F(LoraModel, OnlyWhatTheAdapterNamesChanges) {
  const auto base = Open(dir_ / "base"), model = Open(With(Pair()));
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->ref(), dir_ / "base+" + (dir_ / "lora"));
  EXPECT_EQ(model->kind(), "safetensors");
  EXPECT_EQ(model->files().size(), 2u);
  EXPECT_EQ(model->side_files().size(), base->side_files().size());
  EXPECT_EQ(model->config()->json(), base->config()->json());
  const auto before = ReadTensors(*base), after = ReadTensors(*model);
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [name, bytes] : before)
    EXPECT_EQ(after.at(name) != bytes, name == std::string(kQ) + ".weight") << name;
}

TEST_F(LoraModel, NamesWithAndWithoutTheAdaptersAndThePrefix) {
  const std::vector<TestTensor> pair = Pair();
  const auto expected = ReadTensors(*Open(With(pair)));
  const std::string prefix = "base_model.model.", q(kQ);
  for (const auto& [a, b] : std::vector<std::pair<std::string, std::string>>{
           {prefix + q + ".lora_A.default.weight", prefix + q + ".lora_B.default.weight"},
           {prefix + q + ".lora_A.my_adapter.weight", prefix + q + ".lora_B.my_adapter.weight"},
           {q + ".lora_A.weight", q + ".lora_B.weight"},
           // A model's own files may lack the first part of PEFT's names.
           {prefix + "transformer." + q + ".lora_A.weight", prefix + "transformer." + q + ".lora_B.weight"}}) {
    std::vector<TestTensor> renamed = pair;
    renamed[0].name = a;
    renamed[1].name = b;
    const auto model = Open(With(renamed));
    ASSERT_NE(model, nullptr) << a;
    EXPECT_TRUE(ReadTensors(*model) == expected) << a;
  }
}

TEST_F(LoraModel, WholeTensorsReplaceTheBases) {
  const std::vector<std::string> forms = {"lm_head.weight", "lm_head.modules_to_save.weight",
                                          "lm_head.modules_to_save.default.weight", "lm_head.base_layer.weight"};
  for (const std::string& form : forms) {
    std::vector<TestTensor> tensors = Pair();
    tensors.push_back(Factor(form, 96, 64, 5));
    const auto model = Open(With(tensors));
    ASSERT_NE(model, nullptr) << form;
    EXPECT_EQ(ReadTensors(*model).at("lm_head.weight"), tensors.back().bytes);
  }
  // In the base's dtype, and with a factor on top.
  std::vector<TestTensor> tensors = Pair("lm_head", "", 64, 96);
  tensors.push_back(Factor("lm_head.base_layer.weight", 96, 64, 5, "BF16"));
  const auto model = Open(With(tensors));
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->tensors()[*model->tensors().Find("lm_head.weight")].encoding.name(), "F32");
  const std::vector<float> got = Decode("F32", ReadTensors(*model).at("lm_head.weight"));
  const std::vector<float> before = Decode("BF16", tensors[2].bytes);
  const std::vector<float> a = Decode("F32", tensors[0].bytes), b = Decode("F32", tensors[1].bytes);
  for (uint64_t i = 0; i < got.size(); ++i) {
    const Sum sum = Exact(before[i], a, b, 64, 4, i / 64, i % 64, 1.5);
    ASSERT_LE(std::fabs(got[i] - sum.value), Bound("F32", 4, sum));
  }
}

TEST_F(LoraModel, EmbeddingsLieTheOtherWay) {
  for (const std::string& name : {std::string(), std::string(".default")}) {
    const std::vector<TestTensor> tensors = {Factor("model.embed_tokens.lora_embedding_A" + name, 4, 96, 1),
                                             Factor("model.embed_tokens.lora_embedding_B" + name, 64, 4, 2)};
    const auto base = Open(dir_ / "base"), model = Open(With(tensors));
    ASSERT_NE(model, nullptr);
    const std::vector<float> before = Decode("F32", ReadTensors(*base).at("model.embed_tokens.weight"));
    const std::vector<float> got = Decode("F32", ReadTensors(*model).at("model.embed_tokens.weight"));
    const std::vector<float> a = Decode("F32", tensors[0].bytes), b = Decode("F32", tensors[1].bytes);
    for (uint64_t i = 0; i < got.size(); ++i) {
      const Sum sum = Exact(before[i], a, b, 96, 4, i % 64, i / 64, 1.5);
      ASSERT_LE(std::fabs(got[i] - sum.value), Bound("F32", 4, sum));
    }
  }
}

// A square weight fits both ways: PEFT goes by the layer's class.
TEST_F(LoraModel, SquareWeightsFollowTheLayersClass) {
  const auto with_type = [&](const std::string& type, bool flag) {
    const std::string config = type.empty() ? std::string("{}") : R"({"model_type":")" + type + "\"}";
    tests::WriteText(dir_ / "base/config.json", config);
    return ReadTensors(*Open(With(Pair(), std::string(R"({"peft_type":"LORA","r":4,"lora_alpha":6,"fan_in_fan_out":)") +
                                              (flag ? "true}" : "false}"))))
        .at(std::string(kQ) + ".weight");
  };
  const auto straight = with_type("llama", false), transposed = with_type("gpt2", true);
  EXPECT_NE(straight, transposed);
  EXPECT_EQ(with_type("llama", true), straight);  // PEFT sets it right, with a warning
  EXPECT_EQ(with_type("gpt2", false), transposed);
  EXPECT_EQ(with_type("", false), straight);
  EXPECT_EQ(with_type("", true), transposed);
}

TEST_F(LoraModel, AdaptersStack) {
  const std::string once = With(Pair());
  std::filesystem::create_directories(dir_ / "second");
  for (const char* file : {"/adapter_model.safetensors", "/adapter_config.json"}) {
    std::filesystem::copy(dir_ / "lora" + file, dir_ / "second" + file);
  }
  const auto model = Open(once + "+" + (dir_ / "second"));
  ASSERT_NE(model, nullptr);
  const std::string name = std::string(kQ) + ".weight";
  const std::vector<float> zero = Decode("F32", ReadTensors(*Open(dir_ / "base")).at(name));
  const std::vector<float> one = Decode("F32", ReadTensors(*Open(once)).at(name)),
                           two = Decode("F32", ReadTensors(*model).at(name));
  for (size_t i = 0; i < zero.size(); ++i) {
    ASSERT_NEAR(two[i] - one[i], one[i] - zero[i], 1e-5 * (1 + std::fabs(two[i])));
  }
}

TEST_F(LoraModel, RemarksOnWhatIsOdd) {
  const auto model = Open(With(
      Pair(), R"({"peft_type":"LORA","r":4,"target_modules":["k_proj"],"base_model_name_or_path":"org/other-7b"})"));
  ASSERT_NE(model, nullptr);
  EXPECT_THAT(Messages(*model),
              AllOf(HasSubstr("warning: lora/adapter_config.json: target_modules does not name model."
                              "layers.0.self_attn.q_proj"),
                    HasSubstr("note: lora/adapter_config.json: the adapter was trained on org/other-7b")));
  const auto same = Open(With(Pair(), R"({"peft_type":"LORA","r":4,"base_model_name_or_path":"/far/away/base/"})"));
  EXPECT_THAT(Messages(*same), testing::Not(HasSubstr("was trained on")));
}

TEST_F(LoraModel, WhatDoesNotFitIsToldByFileAndTensor) {
  const std::string file = dir_ / "lora/adapter_model.safetensors";
  // No place in the model.
  std::vector<TestTensor> tensors = Pair();
  tensors.push_back(Factor("model.layers.7.mlp.up_proj.lora_A.weight", 4, 64, 1));
  EXPECT_THAT(
      ErrorOf(With(tensors, R"({"peft_type":"LORA","r":4,"base_model_name_or_path":"org/big"})"), ErrorCode::kCorrupt),
      AllOf(HasSubstr(file), HasSubstr("1 of the adapter's 3 tensors have no place"),
            HasSubstr("model.layers.7.mlp.up_proj.lora_A.weight"), HasSubstr("its config names org/big")));
  // Shapes, rank, halves, twice.
  EXPECT_THAT(ErrorOf(With(Pair(kQ, "", 65, 64)), ErrorCode::kCorrupt),
              AllOf(HasSubstr(file), HasSubstr("q_proj.lora_A.weight"), HasSubstr("[4, 65] and [64, 4] do not fit"),
                    HasSubstr("[64, 64]")));
  EXPECT_THAT(ErrorOf(With(Pair("model.layers.0.mlp.up_proj", "", 160, 64)), ErrorCode::kCorrupt),
              HasSubstr("do not fit"));  // turned, which no layer of Llama's is
  EXPECT_THAT(ErrorOf(With(Pair(kQ, "", 64, 64, 5)), ErrorCode::kCorrupt),
              HasSubstr("has rank 5, and adapter_config.json says 4"));
  EXPECT_THAT(ErrorOf(With({Pair()[1]}), ErrorCode::kCorrupt),
              HasSubstr("its other factor (lora_A and lora_B) is missing"));
  tensors = Pair();
  tensors.push_back(Pair(kQ, ".default")[0]);
  EXPECT_THAT(ErrorOf(With(tensors), ErrorCode::kCorrupt), HasSubstr("there are two adapters in the file"));
  tensors = Pair();
  tensors[0].shape = {4 * 64};
  EXPECT_THAT(ErrorOf(With(tensors), ErrorCode::kCorrupt), HasSubstr("[256], which is no factor of a matrix"));
  EXPECT_THAT(ErrorOf(With(Pair("model.layers.0.input_layernorm", "", 1, 64)), ErrorCode::kUnsupported),
              HasSubstr("LoRA of anything but a matrix"));
  tensors = Pair();
  tensors.push_back(Factor("lm_head.weight", 97, 64, 1));
  EXPECT_THAT(ErrorOf(With(tensors), ErrorCode::kCorrupt), AllOf(HasSubstr("[97, 64]"), HasSubstr("resize")));
  tensors = Pair();
  tensors.push_back(
      {"base_model.model." + std::string(kQ) + ".lora_magnitude_vector", "F32", {64}, std::vector<uint8_t>(256)});
  EXPECT_THAT(ErrorOf(With(tensors), ErrorCode::kUnsupported), HasSubstr("a tensor of DoRA"));
  tensors.back().name = "base_model.model." + std::string(kQ) + ".lora_B.bias";
  EXPECT_THAT(ErrorOf(With(tensors), ErrorCode::kUnsupported), HasSubstr("a kind of LoRA that is not known"));
  tensors = Pair();
  tensors[0].dtype = "I32";
  EXPECT_THAT(ErrorOf(With(tensors), ErrorCode::kUnsupported), HasSubstr("arithmetic on I32"));
  EXPECT_THAT(ErrorOf(With({}), ErrorCode::kCorrupt), HasSubstr("there are no tensors"));

  tests::MakeTinyLlama(dir_ / "tied", {.tied = true});
  WriteAdapter(dir_, Pair("lm_head", "", 64, 96));
  EXPECT_THAT(ErrorOf(dir_ / "tied+" + (dir_ / "lora"), ErrorCode::kUnsupported), HasSubstr("its head is tied"));
}

TEST_F(LoraModel, FoldersThatAreNoAdapters) {
  const std::string base = dir_ / "base";
  EXPECT_THAT(ErrorOf(base + "+" + base, ErrorCode::kNotFound),
              HasSubstr("there is no adapter_config.json in the folder"));
  EXPECT_THAT(ErrorOf(base + "+" + base + "/config.json", ErrorCode::kNotFound), HasSubstr("is named by its folder"));
  EXPECT_THAT(ErrorOf(base + "+" + (dir_ / "absent"), ErrorCode::kNotFound),
              HasSubstr("no folder " + (dir_ / "absent")));
  With(Pair());
  std::filesystem::remove(dir_ / "lora/adapter_model.safetensors");
  EXPECT_THAT(ErrorOf(base + "+" + (dir_ / "lora"), ErrorCode::kNotFound), HasSubstr("fetch the adapter's weights"));
  EXPECT_THAT(ErrorOf(dir_ / "absent+" + (dir_ / "lora"), ErrorCode::kNotFound), HasSubstr(dir_ / "absent"));
  // And the other way round.
  With(Pair());
  EXPECT_THAT(ErrorOf(dir_ / "lora", ErrorCode::kUnsupported), HasSubstr("is an adapter, not a model"));
  std::filesystem::remove(dir_ / "lora/adapter_config.json");
  EXPECT_THAT(ErrorOf(dir_ / "lora", ErrorCode::kUnsupported), HasSubstr("MODEL+" + (dir_ / "lora")));
}

TEST_F(LoraModel, APathWithAPlusIsAPath) {
  const std::string adapter = WriteAdapter(dir_, Pair());
  std::filesystem::copy(dir_ / "base", dir_ / "a+b");
  std::filesystem::copy(dir_ / "lora", dir_ / "lora+2");
  EXPECT_TRUE(Open(dir_ / "a+b"));
  EXPECT_EQ(SplitLoraReference(dir_ / "a+b+" + adapter)->base, dir_ / "a+b");
  EXPECT_EQ(SplitLoraReference(dir_ / "a+b+" + (dir_ / "lora+2"))->adapter, dir_ / "lora+2");
  EXPECT_EQ(SplitLoraReference("a+b+c")->base, "a+b");
  for (const char* none : {"ab", "+a", "a+", "+", ""}) EXPECT_FALSE(SplitLoraReference(none)) << none;
  EXPECT_TRUE(ReadTensors(*Open(dir_ / "a+b+" + (dir_ / "lora+2"))) == ReadTensors(*Open(dir_ / "base+" + adapter)));
}

// Blocks decode, and the result is what config.json's dtype says.
TEST(LoraCheckpoint, WeightsInBlocksBecomePlain) {
  const std::string gguf = std::string(SLUICE_SOURCE_DIR) + "/tests/goldens/gguf/tiny_llama.gguf";
  const auto base = Open(gguf);
  ASSERT_NE(base, nullptr);
  size_t changed = base->tensors().size();
  for (size_t i = 0; i < base->tensors().size(); ++i) {
    if (base->tensors()[i].encoding.is_block() && base->tensors()[i].shape.size() == 2) changed = i;
  }
  ASSERT_LT(changed, base->tensors().size());
  const TensorInfo weight = base->tensors()[changed];
  const std::string name(weight.name), module = name.substr(0, name.size() - std::string(".weight").size());
  const uint64_t rows = weight.shape[0], columns = weight.shape[1];
  TempDir dir;
  const TestTensor a = Factor(module + ".lora_A.weight", 4, columns, 1),
                   b = Factor(module + ".lora_B.weight", rows, 4, 2);
  const auto model = Open(gguf + "+" + WriteAdapter(dir, {a, b}));
  ASSERT_NE(model, nullptr);
  const quant::Encoding encoding = model->tensors()[changed].encoding;
  EXPECT_TRUE(encoding == quant::BF16() || encoding == quant::F16() || encoding == quant::F32()) << encoding.name();
  const std::vector<float> before = Decode(weight.encoding.name(), ReadTensors(*base).at(name));
  const std::vector<float> got = Decode(encoding.name(), ReadTensors(*model).at(name));
  const std::vector<float> a_values = Decode("F32", a.bytes), b_values = Decode("F32", b.bytes);
  for (uint64_t i = 0; i < got.size(); ++i) {
    const Sum sum = Exact(before[i], a_values, b_values, columns, 4, i / columns, i % columns, 1.5);
    ASSERT_LE(std::fabs(got[i] - sum.value), Bound(encoding.name(), 4, sum)) << i;
  }
}

// What PEFT itself makes of adapters that it saved (tests/goldens/lora/make.py). Both are within Bound of the sum in
// f64, so within twice that of each other.
class LoraGolden : public testing::TestWithParam<const char*> {};

TEST_P(LoraGolden, IsWhatPeftMakes) {
  const std::string folder = std::string(SLUICE_SOURCE_DIR) + "/tests/goldens/lora/" + GetParam();
  const auto base = Open(folder + "/base"), merged = Open(folder + "/merged.safetensors");
  const auto model = Open(folder + "/base+" + folder + "/adapter");
  ASSERT_TRUE(base && merged && model);
  const bool is_bin = std::filesystem::exists(folder + "/adapter/adapter_model.bin");
  const auto adapter = Open(folder + "/adapter/adapter_model." + (is_bin ? "bin" : "safetensors"));
  ASSERT_NE(adapter, nullptr);
  const auto before = ReadTensors(*base), wanted = ReadTensors(*merged), got = ReadTensors(*model),
             factors = ReadTensors(*adapter);
  const auto config =
      LoraConfig::Parse(tests::ReadText(folder + "/adapter/adapter_config.json"), "adapter_config.json");
  ASSERT_TRUE(config);

  uint64_t compared = 0, equal = 0;
  for (const auto& [name, bytes] : got) {
    const TensorInfo tensor = model->tensors()[*model->tensors().Find(name)];
    if (wanted.count(name) == 0) {
      EXPECT_EQ(bytes, before.at(name)) << name;  // PEFT changes nothing
      continue;
    }
    const std::string module = name.substr(0, name.rfind('.')), prefix = "base_model.model." + module;
    const bool is_embedding = factors.count(prefix + ".lora_embedding_A") > 0;
    const std::string a_name = prefix + (is_embedding ? ".lora_embedding_A" : ".lora_A.weight");
    if (factors.count(a_name) == 0 || name.ends_with(".bias")) {
      EXPECT_EQ(bytes, wanted.at(name)) << name;  // replaced
      continue;
    }
    const std::string b_name = prefix + (is_embedding ? ".lora_embedding_B" : ".lora_B.weight");
    const TensorInfo a_info = adapter->tensors()[*adapter->tensors().Find(a_name)];
    const std::vector<float> a = Decode(a_info.encoding.name(), factors.at(a_name));
    const std::vector<float> b = Decode(a_info.encoding.name(), factors.at(b_name));
    const std::string_view dtype = tensor.encoding.name();
    const std::vector<float> ours = Decode(dtype, bytes), theirs = Decode(dtype, wanted.at(name));
    const std::vector<float> weight = Decode(dtype, before.at(name));
    const uint64_t rank = a_info.shape[0], in = a_info.shape[1], columns = tensor.shape[1];
    const bool transposed = is_embedding || std::string(GetParam()) == "gpt2";
    double worst = 0;
    for (uint64_t i = 0; i < ours.size(); ++i) {
      const uint64_t row = i / columns, column = i % columns;
      const Sum sum =
          Exact(weight[i], a, b, in, rank, transposed ? column : row, transposed ? row : column, config->Scale(module));
      double bound = 2 * Bound(dtype, rank, sum);
      // Of an embedding PEFT rounds the update to the weight's dtype first.
      if (is_embedding && dtype != "F32") bound += 1.0001 * HalfStep(dtype, sum.value - weight[i]);
      worst = std::max(worst, std::fabs(ours[i] - theirs[i]) / bound);
      equal += ours[i] == theirs[i] ? 1 : 0;
    }
    compared += ours.size();
    EXPECT_LE(worst, 1) << name;
  }
  ASSERT_GT(compared, 0u);
  RecordProperty("equal_per_mille", static_cast<int>(1000 * equal / compared));
  EXPECT_GT(static_cast<double>(equal) / static_cast<double>(compared), 0.5);
}

INSTANTIATE_TEST_SUITE_P(Peft, LoraGolden,
                         testing::Values("plain", "bf16", "bf16_factors", "patterns", "embedding", "tied", "saved",
                                         "biases", "gpt2"));

}  // namespace
}  // namespace sluice::checkpoint
