#include "report/model_report.h"

#include <gtest/gtest.h>

#include "kernels/sha256.h"

namespace sluice::report {
namespace {

kernels::Hash256 Hash(uint8_t value) {
  kernels::Hash256 hash{};
  hash[0] = value;
  return hash;
}

checkpoint::ModelDigest TwoTensors() {
  checkpoint::ModelDigest digest{};
  digest.model_root = Hash(1);
  digest.weights_root = Hash(2);
  digest.tensors = {{"a", "BF16", {2, 3}, Hash(3), 12}, {"b", "F32", {}, Hash(4), 4}};
  digest.size_bytes = 16;
  return digest;
}

std::string Manifest(const checkpoint::ModelDigest& digest) {
  nlohmann::ordered_json json;
  json["schema"] = "sluice/digest/v1";
  json.update(DigestJson({.ref = "m", .digest = digest, .seconds = 0, .bytes_read = 0}));
  return json.dump();
}

TEST(ModelReportTest, AManifestAgreesWithItself) {
  const auto check = CheckManifest(TwoTensors(), "m.json", Manifest(TwoTensors()));
  ASSERT_TRUE(check.has_value());
  EXPECT_TRUE(check->same());
  EXPECT_EQ(ManifestCheckText(*check), "m.json: the same\n");
}

TEST(ModelReportTest, AManifestTellsWhatDiffersInEachTensor) {
  checkpoint::ModelDigest now = TwoTensors();
  now.model_root = now.weights_root = Hash(9);
  now.tensors[0].root = Hash(9);
  now.tensors[1].name = "c";
  const auto check = CheckManifest(now, "m.json", Manifest(TwoTensors()));
  ASSERT_TRUE(check.has_value());
  EXPECT_FALSE(check->same());
  ASSERT_EQ(check->differences.size(), 3u);
  EXPECT_EQ(check->differences[0].name + ": " + check->differences[0].what, "a: its bytes differ");
  EXPECT_EQ(check->differences[1].name + ": " + check->differences[1].what, "c: not in the manifest");
  EXPECT_EQ(check->differences[2].name + ": " + check->differences[2].what, "b: only in the manifest");

  now = TwoTensors();
  now.tensors[0].shape = {3, 2};
  now.tensors[1].encoding = "F16";
  const auto other = CheckManifest(now, "m.json", Manifest(TwoTensors()));
  ASSERT_EQ(other->differences.size(), 2u);
  EXPECT_NE(other->differences[0].what.find("[3, 2]"), std::string::npos);
  EXPECT_NE(other->differences[1].what.find("F16"), std::string::npos);
}

TEST(ModelReportTest, AnotherConfigAloneIsADifferenceWithoutTensors) {
  checkpoint::ModelDigest now = TwoTensors();
  now.model_root = Hash(9);
  const auto check = CheckManifest(now, "m.json", Manifest(TwoTensors()));
  ASSERT_TRUE(check.has_value());
  EXPECT_FALSE(check->same());
  EXPECT_TRUE(check->differences.empty());
  EXPECT_NE(ManifestCheckText(*check).find("config or the tokenizer"), std::string::npos);
}

TEST(ModelReportTest, WhatIsNoManifestIsRefused) {
  for (const char* text : {"", "[]", "{}", "nonsense", R"({"schema":"sluice/inspect/v1"})",
                           R"({"schema":"sluice/digest/v1","root":1,"weights_root":"","tensors":[]})",
                           R"({"schema":"sluice/digest/v1","root":"","weights_root":"","tensors":[{"name":"a"}]})",
                           R"({"schema":"sluice/digest/v1","root":"","weights_root":"","tensors":[1]})"}) {
    const auto check = CheckManifest(TwoTensors(), "m.json", text);
    ASSERT_FALSE(check.has_value()) << text;
    EXPECT_EQ(check.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(check.error().message.find("m.json"), std::string::npos);
  }
  std::string twice = Manifest(TwoTensors());
  twice.replace(twice.find("\"b\""), 3, "\"a\"");
  EXPECT_FALSE(CheckManifest(TwoTensors(), "m.json", twice).has_value());
}

}  // namespace
}  // namespace sluice::report
