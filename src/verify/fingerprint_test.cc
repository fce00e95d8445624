#include "verify/fingerprint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

using testing::HasSubstr;

// Two tensors with numbers, one without, one empty.
Fingerprint Make() {
  std::vector<float> values(2048 * 9 + 100);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 89) / 89 - 0.3f;
  values[5] = NAN;
  const auto model =
      tests::MakeMemoryCheckpoint("some model",
                                  {tests::EncodedTensor("a.weight", "BF16", {values.size()}, values),
                                   tests::EncodedTensor("b.weight", "F32", {64}, std::vector<float>(64, 0.1f)),
                                   {"ids", "I64", {3}, std::vector<uint8_t>(24, 7)},
                                   {"nothing", "F32", {0}, {}}},
                                  R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64})");
  Fingerprint fingerprint = *BeginFingerprint(*model, *ParseNonce("00112233445566778899aabbccddeeff"), {.detect = 0.5});
  for (size_t i = 0; i < fingerprint.tensors.size(); ++i) {
    const checkpoint::TensorInfo tensor = fingerprint.tensors[i];
    for (size_t j = 0; j < fingerprint.prints[i].size(); ++j) {
      const uint64_t block = fingerprint.sample.strata[i].blocks[j];
      const uint64_t elements = std::min<uint64_t>(2048, tensor.num_elements - block * 2048);
      // Any bytes will do.
      const std::vector<uint8_t> bytes(tensor.encoding.BytesOf(elements), static_cast<uint8_t>(60 + block));
      fingerprint.prints[i][j] = PrintBlock(tensor.encoding, bytes.data(), elements);
    }
  }
  return fingerprint;
}

std::string Replaced(std::string text, const std::string& what, const std::string& with) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), with);
}

TEST(FingerprintTest, ReadsWhatItWrites) {
  const Fingerprint made = Make();
  const std::string text = FingerprintFileText(made);
  const auto read = ParseFingerprint(text, "f.json");
  ASSERT_TRUE(read.has_value()) << read.error().ToString();
  EXPECT_EQ(read->model, "some model");
  EXPECT_EQ(read->nonce, made.nonce);
  EXPECT_EQ(read->architecture, "LlamaForCausalLM");
  EXPECT_EQ(read->headers().config_hash, made.headers().config_hash);
  EXPECT_EQ(read->tensors.size(), 4u);
  EXPECT_EQ(read->sample.num_drawn, made.sample.num_drawn);
  for (size_t i = 0; i < made.prints.size(); ++i) {
    ASSERT_EQ(read->prints[i].size(), made.prints[i].size());
    for (size_t j = 0; j < made.prints[i].size(); ++j) {
      EXPECT_EQ(read->prints[i][j].stored, made.prints[i][j].stored);
      EXPECT_EQ(read->prints[i][j].values, made.prints[i][j].values);
      EXPECT_EQ(read->prints[i][j].moments, made.prints[i][j].moments);
    }
  }
  EXPECT_EQ(FingerprintFileText(*read), text);
}

TEST(FingerprintTest, TamperingIsFoundAndWhere) {
  const std::string text = FingerprintFileText(Make());
  const auto broken = [&](const std::string& what, const std::string& with) {
    const auto read = ParseFingerprint(Replaced(text, what, with), "f.json");
    EXPECT_FALSE(read.has_value()) << what;
    if (read.has_value()) return std::string();
    EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
    return read.error().ToString();
  };
  EXPECT_THAT(broken("some model", "other model"), HasSubstr("its header"));
  EXPECT_THAT(broken("00112233", "10112233"), HasSubstr("its header"));
  EXPECT_THAT(broken("\"detectable_fraction\": 0.5", "\"detectable_fraction\": 0.6"), HasSubstr("its header"));
  EXPECT_THAT(broken("LlamaForCausalLM", "MistralForCausalLM"), HasSubstr("its header"));
  // A digit of a hash, of a sum, a shape; each names its tensor.
  const size_t stored = text.find("\"stored\":\"", text.find("\"b.weight\"")) + 10;
  std::string changed = text;
  changed[stored] = changed[stored] == '0' ? '1' : '0';
  EXPECT_THAT(ParseFingerprint(changed, "f.json").error().ToString(), HasSubstr("tensor b.weight"));
  EXPECT_THAT(ParseFingerprint(changed, "f.json").error().ToString(), testing::Not(HasSubstr("tensor a.weight")));
  const size_t sums = text.find("\"sums\":[[", text.find("\"a.weight\"")) + 9;
  changed = text;
  changed.insert(sums, "1");
  EXPECT_THAT(ParseFingerprint(changed, "f.json").error().ToString(), HasSubstr("tensor a.weight"));
  EXPECT_THAT(broken("\"shape\":[64]", "\"shape\":[32]"), HasSubstr("tensor b.weight"));
  EXPECT_THAT(broken("\"b.weight\"", "\"b.heights\""), HasSubstr("tensor b.heights"));
  const size_t digest = text.rfind("\"digest\": \"") + 11;
  changed = text;
  changed[digest] = changed[digest] == '0' ? '1' : '0';
  EXPECT_THAT(ParseFingerprint(changed, "f.json").error().ToString(), HasSubstr("its list of tensors, or its digest"));
}

TEST(FingerprintTest, WhatIsNoFingerprintIsRefusedByName) {
  const std::string text = FingerprintFileText(Make());
  const auto error = [](const std::string& bad) {
    const auto read = ParseFingerprint(bad, "f.json");
    EXPECT_FALSE(read.has_value());
    return read.has_value() ? std::string() : read.error().ToString();
  };
  EXPECT_THAT(error(""), HasSubstr("f.json"));
  EXPECT_THAT(error(text.substr(0, text.size() / 2)), HasSubstr("f.json"));
  EXPECT_THAT(error("[]"), HasSubstr("no object"));
  EXPECT_THAT(error("{\"schema\": \"sluice/digest/v1\"}"), HasSubstr("no fingerprint"));
  EXPECT_THAT(error(Replaced(text, "fingerprint-file/v1", "fingerprint-file/v2")), HasSubstr("newer sluice"));
  EXPECT_THAT(error(Replaced(text, "\"block_elements\": 2048", "\"block_elements\": 1024")), HasSubstr("2048"));
  EXPECT_THAT(error(Replaced(text, "\"encoding\":\"F32\"", "\"encoding\":\"F33\"")), HasSubstr("F33"));
  EXPECT_THAT(error(Replaced(text, "\"shape\":[64]", "\"shape\":[18446744073709551615,3]")), HasSubstr("b.weight"));
  EXPECT_THAT(error(Replaced(text, "\"shape\":[64]", "\"shape\":[-64]")), HasSubstr("no such shape"));
  EXPECT_THAT(error(Replaced(text, "\"name\":\"b.weight\"", "\"name\":\"a.weight\"")), HasSubstr("not behind"));
  // A forged aim must not make us draw for ever; its header gives it away.
  EXPECT_THAT(error(Replaced(text, "\"detectable_fraction\": 0.5", "\"detectable_fraction\": 1e-300")),
              HasSubstr("header"));
}

}  // namespace
}  // namespace sluice::verify
