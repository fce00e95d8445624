// GGUF files as this program writes them, beside those of llama.cpp's own converter (tests/goldens/gguf) of the same
// folders (tests/goldens/inference/models), and there and back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include <fmt/format.h>

#include "checkpoint/canonical_config.h"
#include "checkpoint/gguf_export.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "checkpoint/wrapped_checkpoint.h"
#include "formats/gguf.h"
#include "io/memory_source.h"
#include "tests/support/read_tensors.h"

namespace sluice {
namespace {

using checkpoint::Checkpoint;
using checkpoint::GgufExport;
using ::testing::HasSubstr;
using tests::ReadTensors;

const std::string kGoldens = std::string(SLUICE_SOURCE_DIR) + "/tests/goldens/";

std::shared_ptr<const Checkpoint> Open(const std::string& path) {
  auto opened = checkpoint::OpenCheckpoint(path, {});
  EXPECT_TRUE(opened) << opened.error().ToString();
  return opened ? *opened : nullptr;
}

// The tensors of an export, as the file holds them or as they are read back.
class View final : public Checkpoint {
 public:
  View(const GgufExport& gguf, bool stored) : Checkpoint(gguf.as_read()), gguf_(gguf), stored_(stored) {}
  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override {
    return stored_ ? gguf_.MakeStoredNode(i, graph) : gguf_.MakeReadNode(i, graph);
  }

 private:
  const GgufExport& gguf_;
  const bool stored_;
};

// The file that an export makes.
std::string FileOf(const GgufExport& gguf) {
  const checkpoint::ShardPlan plan = gguf.Plan("x.gguf");
  auto tensors = ReadTensors(View(gguf, true));
  std::string file = *plan.header;
  for (const uint32_t i : plan.order) {
    const std::vector<uint8_t>& bytes = tensors[std::string(gguf.as_read().tensors()[i].name)];
    file.append(bytes.begin(), bytes.end());
    file.resize(RoundUp(file.size(), plan.alignment));
  }
  EXPECT_EQ(file.size(), plan.file_bytes());
  return file;
}

std::shared_ptr<const Checkpoint> OpenBytes(const std::string& file) {
  checkpoint::OpenOptions options;
  options.open_source = [&](const std::string& path) -> Result<std::shared_ptr<const io::ByteSource>> {
    return std::make_shared<io::MemorySource>(path, file);
  };
  auto opened = checkpoint::OpenGguf("x.gguf", options);
  EXPECT_TRUE(opened) << opened.error().ToString();
  return opened ? *opened : nullptr;
}

class GgufExportOf : public testing::TestWithParam<std::string> {};

TEST_P(GgufExportOf, HasTheTensorsOfLlamaCppsFile) {
  const auto folder = Open(kGoldens + "inference/models/" + GetParam());
  const std::string theirs_path = kGoldens + "gguf/" + GetParam() + ".gguf";
  ASSERT_TRUE(folder);
  const auto gguf = GgufExport::Make(folder, {}, {});
  ASSERT_TRUE(gguf) << gguf.error().ToString();
  const std::string bytes = FileOf(**gguf);
  const auto ours = formats::GgufFile::Open(std::make_shared<io::MemorySource>("x.gguf", bytes));
  ASSERT_TRUE(ours) << ours.error().ToString();
  const auto source = io::OpenFile(theirs_path);
  ASSERT_TRUE(source);
  const auto theirs = formats::GgufFile::Open(*source);
  ASSERT_TRUE(theirs);
  EXPECT_EQ((*ours)->unused_bytes(), 0u);
  ASSERT_EQ((*ours)->tensors().size(), (*theirs)->tensors().size());
  for (const formats::GgufTensor& wanted : (*theirs)->tensors()) {
    SCOPED_TRACE(wanted.name);
    const auto tensor = std::ranges::find((*ours)->tensors(), wanted.name, &formats::GgufTensor::name);
    ASSERT_NE(tensor, (*ours)->tensors().end());
    EXPECT_EQ(tensor->encoding, wanted.encoding);
    EXPECT_EQ(tensor->dims, wanted.dims);
    std::vector<uint8_t> expected(wanted.size_bytes());
    ASSERT_TRUE((*source)->Read(wanted.offset, expected));
    const auto* data = reinterpret_cast<const uint8_t*>(bytes.data()) + tensor->offset;
    // Factors of frequencies are computed in another order of operations.
    if (wanted.name == "rope_freqs.weight") {
      for (size_t i = 0; i < wanted.num_elements; ++i) {
        float a, b;
        std::memcpy(&a, data + 4 * i, 4);
        std::memcpy(&b, expected.data() + 4 * i, 4);
        EXPECT_NEAR(a, b, 1e-6 * static_cast<double>(b)) << i;
      }
    } else {
      EXPECT_TRUE(std::ranges::equal(std::span(data, expected.size()), expected));
    }
  }
}

TEST_P(GgufExportOf, SaysOfTheModelWhatLlamaCppsFileSays) {
  const auto folder = Open(kGoldens + "inference/models/" + GetParam());
  const auto theirs = Open(kGoldens + "gguf/" + GetParam() + ".gguf");
  ASSERT_TRUE(folder && theirs);
  const auto gguf = GgufExport::Make(folder, {}, {});
  ASSERT_TRUE(gguf) << gguf.error().ToString();
  auto ours_config = (*gguf)->as_read().config()->json(), theirs_config = theirs->config()->json();
  for (const char* of_the_tokenizer : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    ours_config.erase(of_the_tokenizer);
    theirs_config.erase(of_the_tokenizer);
  }
  EXPECT_EQ(checkpoint::CanonicalConfig(ours_config), checkpoint::CanonicalConfig(theirs_config));
}

TEST_P(GgufExportOf, ComesBackAsItWas) {
  const auto folder = Open(kGoldens + "inference/models/" + GetParam());
  ASSERT_TRUE(folder);
  const auto gguf = GgufExport::Make(folder, {}, {});
  ASSERT_TRUE(gguf) << gguf.error().ToString();
  const auto back = OpenBytes(FileOf(**gguf));
  ASSERT_TRUE(back);
  const auto said = ReadTensors(View(**gguf, false)), read = ReadTensors(*back), given = ReadTensors(*folder);
  EXPECT_TRUE(said == read);
  for (const auto& [name, bytes] : read) {
    const checkpoint::TensorInfo tensor = back->tensors()[*back->tensors().Find(name)];
    ASSERT_TRUE(given.contains(name)) << name;
    const checkpoint::TensorInfo original = folder->tensors()[*folder->tensors().Find(name)];
    std::vector<float> a(tensor.num_elements), b(tensor.num_elements);
    tensor.encoding->decode(bytes.data(), a.size(), a.data());
    original.encoding->decode(given.at(name).data(), b.size(), b.data());
    // 1 + w of a norm in f32 is rounded to a multiple of 2^-23.
    const float tolerance = GetParam().starts_with("gemma") && name.find("norm") != std::string::npos ? 0x1p-24f : 0;
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << name << " " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(All, GgufExportOf,
                         testing::Values("llama_bias", "llama_rope_llama3", "llama_rope_yarn", "qwen2", "qwen3",
                                         "gemma2", "gemma3_text", "phi3", "phi3_longrope"),
                         [](const auto& param) { return param.param; });

TEST(GgufExport, EveryEncodingOfMatrices) {
  const auto folder = Open(kGoldens + "inference/models/llama_gqa");
  ASSERT_TRUE(folder);
  const auto given = ReadTensors(*folder);
  for (const char* name : {"F32", "F16", "BF16", "Q8_0"}) {
    SCOPED_TRACE(name);
    const quant::Encoding encoding = quant::EncodingByName(name);
    const auto gguf = GgufExport::Make(folder, encoding, {});
    ASSERT_TRUE(gguf) << gguf.error().ToString();
    const auto back = OpenBytes(FileOf(**gguf));
    ASSERT_TRUE(back);
    for (const auto& [tensor_name, bytes] : ReadTensors(*back)) {
      const checkpoint::TensorInfo tensor = back->tensors()[*back->tensors().Find(tensor_name)];
      EXPECT_EQ(tensor.encoding, tensor.shape.size() == 1 ? quant::F32() : encoding) << tensor_name;
      const checkpoint::TensorInfo original = folder->tensors()[*folder->tensors().Find(tensor_name)];
      std::vector<float> values(tensor.num_elements);
      original.encoding->decode(given.at(tensor_name).data(), values.size(), values.data());
      std::vector<uint8_t> expected(tensor.size_bytes());
      if (tensor.encoding == quant::F32()) {
        std::memcpy(expected.data(), values.data(), expected.size());
      } else {
        tensor.encoding->encode(values.data(), values.size(), expected.data());
      }
      EXPECT_EQ(bytes, expected) << tensor_name;
    }
  }
}

// What GGUF cannot hold is refused, by name.
TEST(GgufExport, Refuses) {
  const auto folder = Open(kGoldens + "inference/models/llama_gqa");
  ASSERT_TRUE(folder);
  class With final : public checkpoint::WrappedCheckpoint {
   public:
    With(std::shared_ptr<const Checkpoint> inner, nlohmann::ordered_json config, const char* added)
        : WrappedCheckpoint(std::move(inner)) {
      tensors_ = inner_->tensors();
      if (added != nullptr) tensors_.Add(added, quant::F32(), std::vector<uint64_t>{1}, 1);
      tensors_.Sort();
      config_ = config.is_null() ? nullptr : checkpoint::ModelConfig::FromJson(std::move(config));
    }
    const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override { return inner_->MakeNode(i, graph); }
  };
  const nlohmann::ordered_json config = folder->config()->json();
  const auto refusal = [&](nlohmann::ordered_json changed, const char* added = nullptr) {
    const auto gguf = GgufExport::Make(std::make_shared<With>(folder, std::move(changed), added), {}, {});
    EXPECT_FALSE(gguf);
    return gguf ? "" : gguf.error().ToString();
  };
  EXPECT_THAT(refusal(nullptr), HasSubstr("has no config.json"));
  auto changed = config;
  changed["architectures"] = {"MambaForCausalLM"};
  EXPECT_THAT(refusal(changed), HasSubstr("MambaForCausalLM cannot be written as GGUF yet"));
  changed = config;
  changed["rope_parameters"] = {{"rope_type", "dynamic"}, {"factor", 2.0}};
  EXPECT_THAT(refusal(changed), HasSubstr("rope_parameters.rope_type: is \"dynamic\", which GGUF has no keys for"));
  changed = config;
  changed["num_hidden_layers"] = 4;
  EXPECT_THAT(refusal(changed), HasSubstr("is missing"));
  changed["num_hidden_layers"] = 1'000'000'000;
  EXPECT_THAT(refusal(changed), HasSubstr("more than there are tensors"));
  EXPECT_THAT(refusal(config, "model.layers.0.extra.weight"),
              HasSubstr("model.layers.0.extra.weight: is no tensor of"));
}

}  // namespace
}  // namespace sluice
