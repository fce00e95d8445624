// Every encoding runs: a model's logits are those of the same model decoded to f32 beforehand, bit for bit, since a
// product widens weights to f32 whatever they are stored in.
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/units.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "infer/forward_pass.h"
#include "infer/testing/kept_logits.h"
#include "tests/support/tiny_llama_gguf.h"

namespace sluice::infer {
namespace {

using tests::TempDir;
using tests::TestTensor;

// Rows of one and of two blocks of 256.
constexpr tests::TinyLlama kSizes = {.layers = 2, .hidden = 256, .heads = 8, .kv_heads = 2, .ffn = 512};

std::vector<float> LogitsOf(const std::string& ref) {
  const auto model = checkpoint::OpenCheckpoint(ref, {});
  EXPECT_TRUE(model) << model.error().ToString();
  if (!model) return {};
  MemoryBudget budget(ResidentBytes() + kGiB);
  PassOptions options;
  options.num_threads = 2;
  options.budget = &budget;
  std::vector<uint32_t> ids(21);
  for (uint32_t i = 0; i < ids.size(); ++i) ids[i] = i * 37 % 96;
  TokenBatch batch({ids});
  std::vector<uint64_t> tiles = tests::AllTiles(batch);
  const auto pass = ForwardPass::Open({model->get()}, std::move(batch), std::move(tiles), options);
  EXPECT_TRUE(pass) << pass.error().ToString();
  if (!pass) return {};
  tests::KeptLogits kept(**pass);
  const auto run = (*pass)->Run(&kept);
  EXPECT_TRUE(run) << run.error().ToString();
  return run ? kept.logits(0, 0) : std::vector<float>();
}

void ExpectSameBits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), 21u * 96u);
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
  for (const float logit : a) ASSERT_EQ(logit, logit);
  EXPECT_NE(a[0], a[1]);
}

// Any bytes in which every f16 is small, so that all numbers are finite whatever is a scale.
std::vector<uint8_t> RandomBytes(uint64_t count, const std::string& name) {
  std::mt19937 random(static_cast<uint32_t>(std::hash<std::string>()(name)));
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random()) & 0x8F;
  return bytes;
}

TEST(Encodings, EachRunsAsItsNumbersDo) {
  size_t num_kinds = 0;
  for (const quant::Encoding encoding : quant::AllEncodings()) {
    if (encoding->ggml_type < 0 || !encoding.is_block()) continue;
    ++num_kinds;
    SCOPED_TRACE(encoding.name());
    TempDir dir;
    tests::GgufBuilder in_blocks = tests::TinyLlamaGgufKeys(kSizes), decoded = in_blocks;
    for (const TestTensor& tensor : tests::TinyLlamaTensors(kSizes)) {
      const std::string name = tests::GgufNameOf(tensor.name);
      const std::vector<uint64_t> dims(tensor.shape.rbegin(), tensor.shape.rend());
      uint64_t count = 1;
      for (const uint64_t size : dims) count *= size;
      std::vector<float> values(count, 1.0f);  // norms
      std::string stored;
      if (dims.size() == 2) {
        const std::vector<uint8_t> blocks = RandomBytes(encoding.BytesOf(count), name);
        encoding->decode(blocks.data(), count, values.data());
        stored.assign(blocks.begin(), blocks.end());
      }
      const std::string floats(reinterpret_cast<const char*>(values.data()), count * sizeof(float));
      in_blocks.Tensor(name, stored.empty() ? 0 : static_cast<uint32_t>(encoding->ggml_type), dims,
                       stored.empty() ? floats : stored);
      decoded.Tensor(name, 0, dims, floats);
    }
    tests::WriteText(dir / "blocks.gguf", in_blocks.Build());
    tests::WriteText(dir / "decoded.gguf", decoded.Build());
    ExpectSameBits(LogitsOf(dir / "blocks.gguf"), LogitsOf(dir / "decoded.gguf"));
  }
  EXPECT_EQ(num_kinds, 12u);
}

TEST(Encodings, ScaledFp8RunsAsTheModelThatItStandsFor) {
  TempDir dir;
  std::vector<TestTensor> fp8, plain;
  for (const TestTensor& tensor : tests::TinyLlamaTensors(kSizes)) {
    if (tensor.name.find("_proj.") == std::string::npos) {
      fp8.push_back(tensor);
      plain.push_back(tensor);
      continue;
    }
    const uint64_t rows = tensor.shape[0], columns = tensor.shape[1], per_row = columns / 128;
    TestTensor weight{tensor.name, "F8_E4M3", tensor.shape, RandomBytes(rows * columns, tensor.name)};
    std::vector<float> scales((rows + 127) / 128 * per_row), values(rows * columns);
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = 0.5f + 0.037f * static_cast<float>(i % 11);
    quant::EncodingByName("F8_E4M3")->decode(weight.bytes.data(), values.size(), values.data());
    for (uint64_t i = 0; i < values.size(); ++i) values[i] *= scales[i / columns / 128 * per_row + i % columns / 128];
    plain.push_back(tests::FloatTensor(tensor.name, "BF16", tensor.shape, values));
    fp8.push_back(std::move(weight));
    fp8.push_back(tests::FloatTensor(tensor.name + "_scale_inv", "F32", {(rows + 127) / 128, per_row}, scales));
  }
  std::string config = tests::TinyLlamaConfig(kSizes);
  tests::WriteShards(dir / "plain", plain, 1);
  tests::WriteText(dir / "plain/config.json", config);
  config.insert(config.find('{') + 1, R"("quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]},)");
  tests::WriteShards(dir / "fp8", fp8, 2);
  tests::WriteText(dir / "fp8/config.json", config);
  ExpectSameBits(LogitsOf(dir / "fp8"), LogitsOf(dir / "plain"));
}

}  // namespace
}  // namespace sluice::infer
