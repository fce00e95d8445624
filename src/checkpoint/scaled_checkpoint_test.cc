#include "checkpoint/scaled_checkpoint.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "stream/checkpoint_groups.h"
#include "stream/digest_sink.h"
#include "stream/sink.h"
#include "tests/support/read_tensors.h"

namespace sluice::checkpoint {
namespace {

using ::testing::HasSubstr;
using tests::ReadTensors;
using tests::TempDir;
using tests::TestTensor;

constexpr char kDeepSeek[] =
    R"("quantization_config":{"quant_method":"fp8","fmt":"e4m3","activation_scheme":"dynamic","weight_block_size":[128,128]})";

std::string Config(const std::string& more, const std::string& dtype = "bfloat16") {
  return R"({"torch_dtype":")" + dtype + "\"" + (more.empty() ? "" : "," + more) + "}";
}

// Codes of no meaning, none a NaN.
TestTensor Fp8(const std::string& name, std::vector<uint64_t> shape, const std::string& dtype = "F8_E4M3") {
  uint64_t count = 1;
  for (const uint64_t size : shape) count *= size;
  TestTensor tensor{name, dtype, std::move(shape), std::vector<uint8_t>(count)};
  for (uint64_t i = 0; i < count; ++i) {
    const auto code = static_cast<uint8_t>((i * 2654435761u) >> 13);
    tensor.bytes[i] = (code & 0x7F) > (dtype == "F8_E5M2" ? 0x7B : 0x7E) ? 0x55 : code;
  }
  return tensor;
}

// E4M3 and E5M2 from their definitions, in f64.
double ValueOf(uint8_t code, bool e5m2) {
  const int digit_bits = e5m2 ? 2 : 3, bias = e5m2 ? 15 : 7;
  const int exponent = (code & 0x7F) >> digit_bits, digits = code & ((1 << digit_bits) - 1);
  const double magnitude = exponent == 0 ? std::ldexp(digits, 1 - bias - digit_bits)
                                         : std::ldexp(digits + (1 << digit_bits), exponent - bias - digit_bits);
  return code >> 7 != 0 ? -magnitude : magnitude;
}

// What a matrix is to be: every number times the scale at [row / b][column / c].
std::vector<float> Expected(const TestTensor& weight, const std::vector<float>& scales, uint64_t b, uint64_t c) {
  const uint64_t rows = weight.shape[0], columns = weight.shape[1], per_row = (columns + c - 1) / c;
  std::vector<float> values(rows * columns);
  for (uint64_t i = 0; i < values.size(); ++i) {
    const double number = ValueOf(weight.bytes[i], weight.dtype == "F8_E5M2");
    const float scale = scales[i / columns / b * per_row + i % columns / c];
    values[i] = static_cast<float>(number * static_cast<double>(scale));  // exact in f64: one rounding
  }
  return values;
}

std::vector<float> RandomScales(uint64_t count) {
  std::vector<float> scales(count);
  for (uint64_t i = 0; i < count; ++i) scales[i] = 1e-4f + 1.7e-5f * static_cast<float>((i * 7919) % 101);
  return scales;
}

Result<std::shared_ptr<const Checkpoint>> TryOpen(const TempDir& dir, const std::vector<TestTensor>& tensors,
                                                  const std::string& config) {
  tests::WriteSafetensors(dir / "model.safetensors", tensors);
  if (!config.empty()) tests::WriteText(dir / "config.json", config);
  return OpenFolder(dir.path(), {});
}

std::shared_ptr<const Checkpoint> Open(const TempDir& dir, const std::vector<TestTensor>& tensors,
                                       const std::string& config) {
  auto opened = TryOpen(dir, tensors, config);
  EXPECT_TRUE(opened) << opened.error().ToString();
  return opened ? *opened : nullptr;
}

stream::StreamOptions StreamOf(MemoryBudget* budget, int threads, uint64_t tile_bytes = 1 << 20) {
  stream::StreamOptions options;
  options.num_threads = threads;
  options.budget = budget;
  options.max_tile_bytes = tile_bytes;
  return options;
}

std::vector<std::string> NamesOf(const Checkpoint& model) {
  std::vector<std::string> names;
  for (size_t i = 0; i < model.tensors().size(); ++i) names.emplace_back(model.tensors()[i].name);
  return names;
}

std::string Messages(const Checkpoint& model) {
  std::string all;
  for (const Problem& problem : model.problems()) {
    all += problem.severity == Problem::Severity::kNote ? "note: " : "warning: ";
    all += problem.message + "\n";
  }
  return all;
}

TEST(ScaledCheckpoint, BlocksAsDeepSeekHasThem) {
  // Whole blocks; both ends ragged; narrower than a block; many tiles of the stream.
  for (const auto& [rows, columns] :
       std::vector<std::pair<uint64_t, uint64_t>>{{256, 384}, {200, 300}, {5, 7}, {129, 1}, {1000, 1029}}) {
    TempDir dir;
    const TestTensor weight = Fp8("a.weight", {rows, columns});
    const std::vector<uint64_t> grid = {(rows + 127) / 128, (columns + 127) / 128};
    const std::vector<float> scales = RandomScales(grid[0] * grid[1]);
    const auto model = Open(dir,
                            {tests::FloatTensor("a.weight_scale_inv", "F32", grid, scales),
                             tests::RandomTensor("norm.weight", "BF16", {16}, 1), weight},
                            Config(kDeepSeek));
    ASSERT_TRUE(model);
    EXPECT_EQ(NamesOf(*model), (std::vector<std::string>{"a.weight", "norm.weight"}));
    EXPECT_EQ(model->tensors()[0].encoding, quant::BF16());
    EXPECT_EQ(ReadTensors(*model)["a.weight"],
              tests::FloatTensor("", "BF16", {rows, columns}, Expected(weight, scales, 128, 128)).bytes)
        << rows << " by " << columns;
    EXPECT_EQ(ReadTensors(*model)["norm.weight"], tests::RandomTensor("norm.weight", "BF16", {16}, 1).bytes);
    EXPECT_EQ(model->config()->json().dump(), R"({"torch_dtype":"bfloat16"})");
    EXPECT_EQ(Messages(*model),
              "note: 1 weights in FP8 are decoded with their scales to BF16; quantization_config is left out\n");
  }
}

TEST(ScaledCheckpoint, OneScaleOrOneARow) {
  const TestTensor weight = Fp8("a.weight", {70, 130}, "F8_E5M2");
  const std::string method = R"("quantization_config":{"quant_method":"compressed-tensors"})";
  const std::vector<float> rows = RandomScales(70);
  for (const std::string dtype : {"F32", "BF16"}) {
    for (const std::vector<uint64_t>& shape : std::vector<std::vector<uint64_t>>{{}, {1}, {1, 1}, {70}, {70, 1}}) {
      TempDir dir;
      uint64_t count = 1;
      for (const uint64_t size : shape) count *= size;
      std::vector<float> values(rows.begin(), rows.begin() + static_cast<int64_t>(count));
      for (float& value : values) value = std::ldexp(std::round(value * 1e5f), -20);  // up to 200 units: bf16 has them
      const TestTensor scales = tests::FloatTensor("a.weight_scale", dtype, shape, values);
      const auto model = Open(dir,
                              {weight,
                               scales,
                               tests::FloatTensor("a.input_scale", "F32", {1}, {2}),
                               {"ids", "I64", {1}, std::vector<uint8_t>(8)}},
                              Config(method, "float16"));
      ASSERT_TRUE(model);
      EXPECT_EQ(NamesOf(*model), (std::vector<std::string>{"a.weight", "ids"}));
      const std::vector<float> expected =
          count == 1 ? Expected(weight, values, 70, 130) : Expected(weight, values, 1, 130);
      EXPECT_EQ(ReadTensors(*model)["a.weight"], tests::FloatTensor("", "F16", {70, 130}, expected).bytes);
      EXPECT_THAT(Messages(*model), HasSubstr("to F16; quantization_config and 1 scales of activations are left out"));
    }
  }
}

TEST(ScaledCheckpoint, BlocksOfTheConfigsSize) {
  const TestTensor weight = Fp8("a.weight", {33, 100});
  const std::vector<float> scales = RandomScales(9 * 4);
  for (
      const std::string config :
      {R"("quantization_config":{"quant_method":"fp8","weight_block_size":[4,32]})",
       R"("quantization_config":{"quant_method":"compressed-tensors","config_groups":{"group_0":{"weights":{"block_structure":[4,32]}}}})"}) {
    TempDir dir;
    const auto model = Open(dir, {weight, tests::FloatTensor("a.weight_scale", "F32", {9, 4}, scales)},
                            Config(config, "float8_e4m3fn"));
    ASSERT_TRUE(model);
    EXPECT_EQ(ReadTensors(*model)["a.weight"],
              tests::FloatTensor("", "BF16", {33, 100}, Expected(weight, scales, 4, 32)).bytes);
    EXPECT_EQ(model->config()->GetString("torch_dtype"), "bfloat16");
  }
}

TEST(ScaledCheckpoint, GroupsWithinARow) {
  const TestTensor weight = Fp8("experts.down_proj", {6, 80});
  TempDir dir;
  TestTensor scales{"experts.down_proj_scale", "F8_E8M0", {6, 3}, {}};
  std::vector<float> values(18);
  for (size_t i = 0; i < values.size(); ++i) {
    scales.bytes.push_back(static_cast<uint8_t>(120 + i % 13));
    values[i] = std::ldexp(1.0f, static_cast<int>(i % 13) - 7);
  }
  const auto model = Open(
      dir, {weight, scales},
      Config(
          R"("quantization_config":{"quant_method":"compressed-tensors","config_groups":{"g":{"weights":{"group_size":32,"block_structure":null}}}})"));
  ASSERT_TRUE(model);
  EXPECT_EQ(ReadTensors(*model)["experts.down_proj"],
            tests::FloatTensor("", "BF16", {6, 80}, Expected(weight, values, 1, 32)).bytes);
}

// ModelOpt's NVFP4: scales that are FP8 themselves are no weights without scales.
TEST(ScaledCheckpoint, ScalesInFp8AreNoWeights) {
  TempDir dir;
  const auto model = Open(dir, {{"a.weight", "U8", {2, 8}, std::vector<uint8_t>(16)}, Fp8("a.weight_scale", {2, 1})},
                          Config(R"("quantization_config":{"quant_method":"modelopt","quant_algo":"NVFP4"})"));
  ASSERT_TRUE(model);
  EXPECT_EQ(NamesOf(*model), (std::vector<std::string>{"a.weight", "a.weight_scale"}));
  EXPECT_THAT(Messages(*model), HasSubstr("warning: quantization_config names modelopt: weights in this form"));
}

TEST(ScaledCheckpoint, MatricesOfManyExperts) {
  TempDir dir;
  const TestTensor flat = Fp8("w", {3 * 130, 140}), weight{"a.weight", "F8_E4M3", {3, 130, 140}, flat.bytes};
  const std::vector<float> scales = RandomScales(3 * 2 * 2);
  const auto model =
      Open(dir, {weight, tests::FloatTensor("a.weight_scale_inv", "F32", {3, 2, 2}, scales)}, Config(kDeepSeek));
  ASSERT_TRUE(model);
  std::vector<float> expected;
  for (uint64_t expert = 0; expert < 3; ++expert) {
    TestTensor one{"w", "F8_E4M3", {130, 140}, {}};
    one.bytes.assign(flat.bytes.begin() + static_cast<int64_t>(expert * 130 * 140),
                     flat.bytes.begin() + static_cast<int64_t>((expert + 1) * 130 * 140));
    const std::vector<float> part = Expected(
        one, {scales.begin() + static_cast<int64_t>(4 * expert), scales.begin() + static_cast<int64_t>(4 * expert + 4)},
        128, 128);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  EXPECT_EQ(ReadTensors(*model)["a.weight"], tests::FloatTensor("", "BF16", {3, 130, 140}, expected).bytes);
}

TEST(ScaledCheckpoint, PowersOfTwoAsScalesAndOddNumbers) {
  TempDir dir;
  TestTensor weight = Fp8("a.weight", {2, 4});
  weight.bytes = {0x7F, 0xFF, 0x00, 0x38, 0x80, 0x38, 0xB8, 0x7E};           // NaNs, 0, 1, | -0, 1, -1, 448
  const TestTensor scales{"a.weight_scale", "F8_E8M0", {2, 1}, {126, 255}};  // 1/2, NaN
  const auto model = Open(dir, {weight, scales}, Config("", "float32"));
  ASSERT_TRUE(model);
  const std::vector<uint8_t> bytes = ReadTensors(*model)["a.weight"];
  std::vector<uint32_t> bits(8);
  ASSERT_EQ(bytes.size(), 32u);
  std::memcpy(bits.data(), bytes.data(), 32);
  EXPECT_EQ(bits, (std::vector<uint32_t>{0x7FC00000, 0xFFC00000, 0, 0x3F000000, 0x7FC00000, 0x7FC00000, 0x7FC00000,
                                         0x7FC00000}));
}

TEST(ScaledCheckpoint, AWeightWithoutElements) {
  TempDir dir;
  const auto model =
      Open(dir, {{"a.weight", "F8_E4M3", {0, 4}, {}}, tests::FloatTensor("a.weight_scale_inv", "F32", {1}, {1})},
           Config(kDeepSeek));
  ASSERT_TRUE(model);
  EXPECT_EQ(model->tensors()[0].encoding, quant::BF16());
  EXPECT_TRUE(ReadTensors(*model)["a.weight"].empty());
}

TEST(ScaledCheckpoint, AnyBudgetAndThreadsGiveOneDigest) {
  TempDir dir;
  const TestTensor weight = Fp8("a.weight", {1500, 1300}), other = Fp8("b.weight", {300, 70});
  const std::vector<float> scales = RandomScales(12 * 11);
  const auto model = Open(dir,
                          {weight, tests::FloatTensor("a.weight_scale_inv", "F32", {12, 11}, scales), other,
                           tests::FloatTensor("b.weight_scale_inv", "F32", {3, 1}, RandomScales(3))},
                          Config(kDeepSeek));
  ASSERT_TRUE(model);
  const auto plain_dir = TempDir();
  const auto plain =
      Open(plain_dir,
           {tests::FloatTensor("a.weight", "BF16", {1500, 1300}, Expected(weight, scales, 128, 128)),
            tests::FloatTensor("b.weight", "BF16", {300, 70}, Expected(other, RandomScales(3), 128, 128))},
           Config(""));
  const auto root = [](const Checkpoint& checkpoint, uint64_t budget_bytes, int threads, uint64_t tile_bytes) {
    MemoryBudget budget(ResidentBytes() + budget_bytes);
    const stream::CheckpointGroups groups(checkpoint);
    auto stream = stream::Stream::Open(groups, StreamOf(&budget, threads, tile_bytes));
    EXPECT_TRUE(stream) << stream.error().ToString();
    stream::DigestSink digests(checkpoint.tensors());
    stream::Sink* sinks[] = {&digests};
    EXPECT_TRUE(stream::Pump(**stream, sinks));
    auto digest = MakeModelDigest(digests.Digests(), checkpoint);
    EXPECT_TRUE(digest);
    return digest->model_root;
  };
  const auto expected = root(*plain, 256 * kMiB, 1, 1 << 20);
  for (const uint64_t budget_bytes : {16 * kMiB, 64 * kMiB, 256 * kMiB}) {
    for (const int threads : {1, 3}) {
      for (const uint64_t tile_bytes : {uint64_t{1} << 18, uint64_t{1} << 20}) {
        EXPECT_EQ(root(*model, budget_bytes, threads, tile_bytes), expected) << budget_bytes << " " << threads;
      }
    }
  }
}

TEST(ScaledCheckpoint, OtherFormsStayAsTheyAreStored) {
  TempDir dir;
  const auto model = Open(dir, {{"a.qweight", "I32", {1}, {1, 2, 3, 4}}},
                          Config(R"("quantization_config":{"quant_method":"gptq","bits":4})"));
  ASSERT_TRUE(model);
  EXPECT_EQ(NamesOf(*model), std::vector<std::string>{"a.qweight"});
  EXPECT_EQ(ReadTensors(*model)["a.qweight"], (std::vector<uint8_t>{1, 2, 3, 4}));
  EXPECT_TRUE(model->config()->json().contains("quantization_config"));
  EXPECT_EQ(Messages(*model),
            "warning: quantization_config names gptq: weights in this form are not decoded; they are seen as they are "
            "stored, and are not the model's numbers\n");

  // FP8 by a method that nobody here knows: perhaps its scales mean something else.
  const auto unknown = Open(dir, {Fp8("a.weight", {2, 2}), tests::FloatTensor("a.weight_scale", "F32", {1}, {1})},
                            Config(R"("quantization_config":{"quant_method":"\u001bnew"})"));
  ASSERT_TRUE(unknown);
  EXPECT_EQ(unknown->tensors()[0].encoding.name(), "F8_E4M3");
  EXPECT_EQ(unknown->tensors().size(), 2u);
  EXPECT_EQ(Messages(*unknown).find('\x1b'), std::string::npos);

  // FP8 in part.
  const auto mixed = Open(dir,
                          {Fp8("a.weight", {2, 2}),
                           tests::FloatTensor("a.weight_scale", "F32", {1}, {1}),
                           {"b.weight", "U8", {2, 1}, {1, 2}},
                           {"b.weight_scale", "F8_E4M3", {2, 1}, {1, 2}}},
                          Config(R"("quantization_config":{"quant_method":"modelopt"})"));
  ASSERT_TRUE(mixed);
  EXPECT_EQ(mixed->tensors()[0].encoding, quant::BF16());
  EXPECT_EQ(NamesOf(*mixed), (std::vector<std::string>{"a.weight", "b.weight", "b.weight_scale"}));
  EXPECT_TRUE(mixed->config()->json().contains("quantization_config"));
  EXPECT_THAT(Messages(*mixed), HasSubstr("warning: quantization_config (modelopt) has weights in a form that is not"));
}

TEST(ScaledCheckpoint, WhatIsNotQuantisedIsLeftAlone) {
  TempDir dir;
  const auto model = Open(dir, {Fp8("a.weight", {2, 2})}, Config(""));
  ASSERT_TRUE(model);
  EXPECT_EQ(model->tensors()[0].encoding.name(), "F8_E4M3");
  EXPECT_EQ(Messages(*model), "");
}

TEST(ScaledCheckpoint, RefusesScalesThatDoNotFit) {
  const auto error = [](const std::vector<TestTensor>& tensors, const std::string& config) {
    TempDir dir;
    const auto opened = TryOpen(dir, tensors, config);
    EXPECT_FALSE(opened);
    if (opened) return std::string();
    EXPECT_EQ(opened.error().code, ErrorCode::kCorrupt);
    std::string text = opened.error().ToString();
    if (const size_t at = text.find(dir.path()); at == 0)
      text = text.substr(text.find_first_not_of(":/ ", dir.path().size()));
    return text;
  };
  const TestTensor weight = Fp8("a.weight", {200, 300});
  for (const std::vector<uint64_t>& shape :
       std::vector<std::vector<uint64_t>>{{3, 2}, {2, 2}, {1, 300}, {300}, {2}, {0}, {2, 3, 1}, {1, 2, 3}}) {
    uint64_t count = 1;
    for (const uint64_t size : shape) count *= size;
    EXPECT_EQ(
        error({weight, tests::FloatTensor("a.weight_scale_inv", "F32", shape, RandomScales(count))}, Config(kDeepSeek)),
        "model.safetensors: a.weight_scale_inv: scales of shape " + ShapeText(shape) +
            " fit no way of scaling a weight of [200, 300]: one number, one a row, or one a block of 128 by 128; "
            "the files are of two versions, or quantization_config is another model's: fetch them again");
  }
  EXPECT_EQ(error({weight}, Config(kDeepSeek)),
            "model.safetensors: a.weight: is F8_E4M3 and has no scales beside it (weight_scale_inv or weight_scale), "
            "without which its numbers mean nothing: fetch all files of the model again");
  EXPECT_EQ(error({weight, {"a.weight_scale", "I32", {1}, {1, 2, 3, 4}}}, Config(kDeepSeek)),
            "model.safetensors: a.weight_scale: scales are stored as I32, which is no float that a weight could be "
            "multiplied by");
  for (const char* size : {"[128]", "[0,128]", "[128,-1]", "\"128\"", "[1.5,2]"}) {
    EXPECT_EQ(
        error({weight, tests::FloatTensor("a.weight_scale", "F32", {1}, {1})},
              Config(std::string(R"("quantization_config":{"quant_method":"fp8","weight_block_size":)") + size + "}")),
        "config.json: quantization_config: the size of a block of scales is not two whole numbers over 0");
  }
}

// Scales may be in another shard: opened alone, a weight without them stays as it is stored.
TEST(ScaledCheckpoint, AShardAlone) {
  TempDir dir;
  const TestTensor first = Fp8("a.weight", {4, 4}), second = Fp8("b.weight", {4, 4});
  tests::WriteShards(dir.path(),
                     {first, second, tests::FloatTensor("a.weight_scale_inv", "F32", {1, 1}, {2}),
                      tests::FloatTensor("b.weight_scale_inv", "F32", {1, 1}, {2})},
                     2);
  tests::WriteText(dir / "config.json", Config(kDeepSeek));
  const auto whole = OpenFolder(dir.path(), {});
  ASSERT_TRUE(whole) << whole.error().ToString();
  EXPECT_EQ((*whole)->tensors().size(), 2u);
  EXPECT_EQ(ReadTensors(**whole)["b.weight"],
            tests::FloatTensor("", "BF16", {4, 4}, Expected(second, {2}, 128, 128)).bytes);
  const auto alone = OpenSafetensorsFile(dir / "model-00001-of-00002.safetensors", {});
  ASSERT_TRUE(alone) << alone.error().ToString();
  EXPECT_EQ((*alone)->tensors()[0].encoding.name(), "F8_E4M3");
  EXPECT_THAT(Messages(**alone), HasSubstr("quantization_config names fp8: weights in this form are not decoded"));
}

// Held against config.json as what it stands for.
TEST(ScaledCheckpoint, IsComparedWithConfigJson) {
  TempDir dir;
  std::vector<TestTensor> tensors;
  for (const TestTensor& tensor : tests::TinyLlamaTensors({})) {
    if (tensor.shape.size() != 2 || tensor.name.find("proj") == std::string::npos) {
      tensors.push_back(tensor);
      continue;
    }
    tensors.push_back(Fp8(tensor.name, tensor.shape));
    tensors.push_back(tests::FloatTensor(
        tensor.name + "_scale_inv", "F32", {(tensor.shape[0] + 127) / 128, (tensor.shape[1] + 127) / 128},
        RandomScales((tensor.shape[0] + 127) / 128 * ((tensor.shape[1] + 127) / 128))));
  }
  std::string config = tests::TinyLlamaConfig({});
  config.insert(config.find('{') + 1, std::string(kDeepSeek) + ",");
  const auto model = Open(dir, tensors, config);
  ASSERT_TRUE(model);
  EXPECT_EQ(Messages(*model),
            "note: 14 weights in FP8 are decoded with their scales to BF16; quantization_config is left out\n");
  EXPECT_EQ(model->tensors().size(), tests::TinyLlamaTensors({}).size());

  tensors.erase(tensors.begin());  // the embedding
  EXPECT_THAT(Messages(*Open(dir, tensors, config)), HasSubstr("1 tensors that config.json predicts are missing"));
}

}  // namespace
}  // namespace sluice::checkpoint
