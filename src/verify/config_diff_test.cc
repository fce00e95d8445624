#include "verify/config_diff.h"

#include <gtest/gtest.h>

#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

using tests::EncodedTensor;
using tests::MakeMemoryCheckpoint;
using tests::MakeTinyLlama;

TEST(ConfigDiffTest, JsonDifferencesAreByNestedKey) {
  const auto differences =
      DiffJson(R"({"rope_scaling":{"factor":2,"type":"linear"},"hidden_size":64,"bos_token_id":1})",
               R"({"rope_scaling":{"factor":4,"type":"linear"},"hidden_size":64,"pad_token_id":0})");
  ASSERT_EQ(differences.size(), 3u);
  EXPECT_EQ(differences[0].key, "bos_token_id");
  EXPECT_EQ(differences[0].a, "1");
  EXPECT_EQ(differences[0].b, "");
  EXPECT_EQ(differences[1].key, "pad_token_id");
  EXPECT_EQ(differences[1].a, "");
  EXPECT_EQ(differences[2].key, "rope_scaling.factor");
}

TEST(ConfigDiffTest, ArchitecturalKeysAreFoundByTheirFirstPart) {
  for (const char* key :
       {"architectures", "hidden_size", "rope_scaling.type", "rope_theta", "vocab_size", "head_dim"}) {
    EXPECT_TRUE(IsArchitectural(key)) << key;
  }
  for (const char* key : {"bos_token_id", "torch_dtype", "rope", "hidden", "use_cache", ""}) {
    EXPECT_FALSE(IsArchitectural(key)) << key;
  }
}

TEST(ConfigDiffTest, TensorSetsAreComparedByNameAndShape) {
  const auto a = MakeMemoryCheckpoint(
      "a", {EncodedTensor("lm_head.weight", "BF16", {2, 2}, {1, 2, 3, 4}),
            EncodedTensor("model.embed_tokens.weight", "BF16", {2, 2}, {1, 2, 3, 4}),
            EncodedTensor("extra", "F32", {1}, {1}), EncodedTensor("w", "F32", {4}, {1, 2, 3, 4})});
  const auto b = MakeMemoryCheckpoint("b", {EncodedTensor("model.embed_tokens.weight", "F32", {2, 2}, {1, 2, 3, 4}),
                                            EncodedTensor("w", "F32", {2, 2}, {1, 2, 3, 4})});
  const Result<ConfigDiff> diff = DiffConfigs(*a, *b);
  ASSERT_TRUE(diff.has_value());
  EXPECT_EQ(diff->only_in_a, std::vector<std::string>{"extra"});
  EXPECT_TRUE(diff->only_in_b.empty());
  EXPECT_EQ(diff->possibly_tied, std::vector<std::string>{"lm_head.weight"});
  ASSERT_EQ(diff->shapes.size(), 1u);
  EXPECT_EQ(diff->shapes[0].name, "w");
  EXPECT_EQ(diff->encodings.at({"BF16", "F32"}), 1u);
  EXPECT_EQ(diff->encodings.at({"F32", "F32"}), 1u);
  EXPECT_FALSE(diff->SameArchitecture());
  EXPECT_FALSE(diff->SameEncodings());
  EXPECT_EQ(diff->parameters_a, 13u);
}

TEST(ConfigDiffTest, AHeadOfAnotherShapeOrEncodingIsNotTied) {
  const auto a = MakeMemoryCheckpoint("a", {EncodedTensor("lm_head.weight", "F32", {2, 2}, {1, 2, 3, 4}),
                                            EncodedTensor("model.embed_tokens.weight", "BF16", {2, 2}, {1, 2, 3, 4})});
  const auto b = MakeMemoryCheckpoint("b", {EncodedTensor("model.embed_tokens.weight", "BF16", {2, 2}, {1, 2, 3, 4})});
  const Result<ConfigDiff> diff = DiffConfigs(*a, *b);
  ASSERT_TRUE(diff.has_value());
  EXPECT_EQ(diff->only_in_a, std::vector<std::string>{"lm_head.weight"});
  EXPECT_TRUE(diff->possibly_tied.empty());
}

TEST(ConfigDiffTest, SameModelInOtherShardsIsTheSame) {
  tests::TempDir dir;
  const auto a = checkpoint::OpenCheckpoint(MakeTinyLlama(dir / "one"), {});
  const auto b = checkpoint::OpenCheckpoint(MakeTinyLlama(dir / "three", {.shards = 3}), {});
  ASSERT_TRUE(a && b);
  const Result<ConfigDiff> diff = DiffConfigs(**a, **b);
  ASSERT_TRUE(diff.has_value());
  EXPECT_TRUE(diff->SameConfig());
  EXPECT_TRUE(diff->SameTokenizer());
  EXPECT_TRUE(diff->SameArchitecture());
  EXPECT_TRUE(diff->SameEncodings());
  EXPECT_TRUE(diff->side_files.empty());
}

TEST(ConfigDiffTest, RopeThetaAndTokenizerDifferencesAreNamed) {
  tests::TempDir dir;
  const std::string one = MakeTinyLlama(dir / "one"), two = MakeTinyLlama(dir / "two");
  std::string config = tests::ReadText(two + "/config.json");
  const size_t at = config.find("\"rope_theta\"");
  ASSERT_NE(at, std::string::npos);
  config.replace(at, config.find_first_of(",\n}", at) - at, "\"rope_theta\": 5000001.0");
  tests::WriteText(two + "/config.json", config);
  tests::WriteText(two + "/tokenizer.json", "{}");
  const auto a = checkpoint::OpenCheckpoint(one, {}), b = checkpoint::OpenCheckpoint(two, {});
  ASSERT_TRUE(a && b);
  const Result<ConfigDiff> diff = DiffConfigs(**a, **b);
  ASSERT_TRUE(diff.has_value());
  ASSERT_EQ(diff->keys.size(), 1u);
  EXPECT_TRUE(diff->keys[0].key.starts_with("rope")) << diff->keys[0].key;
  EXPECT_TRUE(diff->keys[0].architectural);
  EXPECT_FALSE(diff->SameConfig());
  EXPECT_FALSE(diff->SameTokenizer());
  ASSERT_EQ(diff->side_files.size(), 1u);
  EXPECT_EQ(diff->side_files[0].name, "tokenizer.json");
  EXPECT_TRUE(diff->side_files[0].in_a && diff->side_files[0].in_b && diff->side_files[0].tokenizer);
}

}  // namespace
}  // namespace sluice::verify
