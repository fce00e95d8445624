// GGUF files that llama.cpp's own converter made (tests/goldens/gguf/make_architectures.py) beside the folders that it
// made them of: the same tensors under the same names, and a config that makes the same forward pass.

#include <gtest/gtest.h>

#include <cmath>

#include <fmt/format.h>

#include "base/units.h"
#include "checkpoint/model_ref.h"
#include "infer/model_spec.h"
#include "tests/support/read_tensors.h"

namespace sluice {
namespace {

using checkpoint::Checkpoint;
using nlohmann::ordered_json;
using tests::ReadTensors;

const std::string kGoldens = SLUICE_SOURCE_DIR "/tests/goldens/";

std::shared_ptr<const Checkpoint> Open(const std::string& path) {
  auto opened = checkpoint::OpenCheckpoint(path, {});
  EXPECT_TRUE(opened) << opened.error().ToString();
  return opened ? *opened : nullptr;
}

// All tensors as f32, by name.
std::map<std::string, std::vector<float>> ValuesOf(const Checkpoint& model) {
  std::map<std::string, std::vector<float>> values;
  for (const auto& [name, bytes] : ReadTensors(model)) {
    const checkpoint::TensorInfo tensor = model.tensors()[*model.tensors().Find(name)];
    values[name].resize(tensor.num_elements);
    tensor.encoding->decode(bytes.data(), tensor.num_elements, values[name].data());
  }
  return values;
}

class GgufArchitecture : public testing::TestWithParam<std::string> {};

TEST_P(GgufArchitecture, HasTheTensorsOfTheFolder) {
  const auto folder = Open(kGoldens + "inference/models/" + GetParam());
  const auto gguf = Open(kGoldens + "gguf/" + GetParam() + ".gguf");
  ASSERT_TRUE(folder && gguf);
  for (const checkpoint::Problem& problem : gguf->problems()) {
    EXPECT_EQ(problem.severity, checkpoint::Problem::Severity::kNote) << problem.message;
  }
  const auto expected = ValuesOf(*folder), values = ValuesOf(*gguf);
  ASSERT_EQ(values.size(), expected.size());
  for (const auto& [name, theirs] : expected) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(values.contains(name));
    const std::vector<float>& ours = values.at(name);
    ASSERT_EQ(ours.size(), theirs.size());
    // A norm to which the converter added 1, in f32, was rounded to a multiple of 2^-23.
    const double tolerance = name.find("norm") == std::string::npos ? 0 : std::exp2(-24);
    for (size_t i = 0; i < ours.size(); ++i) {
      ASSERT_NEAR(ours[i], theirs[i], GetParam().starts_with("gemma") ? tolerance : 0) << i;
    }
  }
}

TEST_P(GgufArchitecture, MakesTheForwardPassOfTheFolder) {
  const auto folder = Open(kGoldens + "inference/models/" + GetParam());
  const auto gguf = Open(kGoldens + "gguf/" + GetParam() + ".gguf");
  ASSERT_TRUE(folder && gguf);
  // What the tiny models have and no GGUF file can say: llama.cpp knows these two by the size of the model.
  ordered_json config = folder->config()->json();
  if (GetParam() == "gemma2") config["query_pre_attn_scalar"] = config["head_dim"];
  if (GetParam() == "gemma3_text")
    config["layer_types"] = {"sliding_attention", "sliding_attention", "sliding_attention"};
  const auto expected = infer::SpecOf(*checkpoint::ModelConfig::FromJson(config));
  auto spec = infer::SpecOf(*gguf->config());
  ASSERT_TRUE(expected) << expected.error().ToString();
  ASSERT_TRUE(spec) << spec.error().ToString();
  for (size_t rope = 0; rope < spec->ropes.size() && rope < expected->ropes.size(); ++rope) {
    // Factors are f32 in the file.
    infer::RopeSpec& ours = spec->ropes[rope];
    const infer::RopeSpec& theirs = expected->ropes[rope];
    ASSERT_EQ(ours.long_factor.size(), theirs.long_factor.size());
    for (size_t i = 0; i < theirs.long_factor.size(); ++i) {
      EXPECT_FLOAT_EQ(static_cast<float>(ours.long_factor[i]), static_cast<float>(theirs.long_factor[i]));
      EXPECT_FLOAT_EQ(static_cast<float>(ours.short_factor[i]), static_cast<float>(theirs.short_factor[i]));
    }
    ours.long_factor = theirs.long_factor;
    ours.short_factor = theirs.short_factor;
    // Any original length between two wavelengths is the same scaling (gguf_rope.cc).
    if (GetParam() == "llama_rope_llama3") ours.original_max_positions = theirs.original_max_positions;
  }
  EXPECT_EQ(spec->ropes, expected->ropes);
  EXPECT_EQ(*spec, *expected) << gguf->config()->Pretty();
}

INSTANTIATE_TEST_SUITE_P(Goldens, GgufArchitecture,
                         testing::Values("gemma2", "gemma3_text", "llama_bias", "llama_rope_llama3", "llama_rope_yarn",
                                         "phi3", "phi3_longrope", "qwen2", "qwen3"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sluice
