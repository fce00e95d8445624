#include "verify/digest_manifest.h"

#include <functional>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace sluice::verify {
namespace {

using checkpoint::ModelDigest;
using checkpoint::TensorDigest;
using nlohmann::ordered_json;

// Roots that follow from the tensors, as digest_tree.cc makes them.
void Seal(ModelDigest* digest) {
  std::ranges::sort(digest->tensors, {}, &TensorDigest::name);
  std::vector<kernels::Hash256> leaves;
  digest->size_bytes = 0;
  for (const TensorDigest& tensor : digest->tensors) {
    digest->size_bytes += tensor.size_bytes;
    if (std::ranges::find(digest->tied, tensor.name) == digest->tied.end()) leaves.push_back(TensorLeaf(tensor));
  }
  digest->weights_root = kernels::MerkleRoot(leaves);
  kernels::Sha256 hash;
  hash.Update(digest->weights_root);
  hash.Update(digest->config_hash);
  hash.Update(digest->tokenizer_hash);
  digest->model_root = hash.Finish();
}

ModelDigest Model() {
  ModelDigest digest{};
  digest.config_hash = kernels::HashText("config");
  digest.tokenizer_hash = kernels::HashText("tokenizer");
  digest.tensors = {{"a", "BF16", {2, 3}, kernels::HashText("a"), 12},
                    {"b", "F32", {}, kernels::HashText("b"), 4},
                    {"c", "F32", {4}, kernels::HashText("c"), 16},
                    {"lm_head.weight", "F32", {4}, kernels::HashText("head"), 16}};
  digest.tied = {"lm_head.weight"};
  Seal(&digest);
  return digest;
}

ordered_json Json(const ModelDigest& digest) {
  ordered_json json;
  json["schema"] = "sluice/digest/v1";
  json["ref"] = "m";
  json["root"] = kernels::ToHex(digest.model_root);
  json["weights_root"] = kernels::ToHex(digest.weights_root);
  json["config_hash"] = kernels::ToHex(digest.config_hash);
  json["tokenizer_hash"] = kernels::ToHex(digest.tokenizer_hash);
  json["bytes"] = digest.size_bytes;
  json["tied"] = digest.tied;
  json["tensors"] = ordered_json::array();
  for (const TensorDigest& tensor : digest.tensors) {
    json["tensors"].push_back({{"name", tensor.name},
                               {"encoding", tensor.encoding},
                               {"shape", tensor.shape},
                               {"digest", kernels::ToHex(tensor.root)}});
  }
  return json;
}

TEST(DigestManifestTest, ReadsWhatDigestWrites) {
  const ModelDigest model = Model();
  const auto read = ParseDigestManifest(Json(model).dump(2), "m.json");
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->model_root, model.model_root);
  EXPECT_EQ(read->tied, model.tied);
  const ManifestCheck check = CompareWithManifest(model, *read, "m.json");
  EXPECT_TRUE(check.same());
  EXPECT_TRUE(check.same_config && check.same_tokenizer);
}

TEST(DigestManifestTest, WhatWasChangedInAManifestIsFoundAndNamed) {
  const std::string zeros(64, '0');
  const std::pair<std::function<void(ordered_json&)>, const char*> cases[] = {
      {[&](ordered_json& j) { j["tensors"][1]["digest"] = zeros; }, "tensors[] or tied[]"},
      {[&](ordered_json& j) { j["tensors"][1]["name"] = "bb"; }, "tensors[] or tied[]"},
      {[&](ordered_json& j) {
         j["tensors"][0]["shape"] = {3, 2};
       },
       "tensors[] or tied[]"},
      {[&](ordered_json& j) { j["tensors"][1]["encoding"] = "F16"; }, "tensors[] or tied[]"},
      {[&](ordered_json& j) { j["tensors"].erase(2); }, "tensors[] or tied[]"},
      {[&](ordered_json& j) { j["tied"] = ordered_json::array(); }, "tensors[] or tied[]"},
      {[&](ordered_json& j) { j["weights_root"] = zeros; }, "weights_root: tensors[] and root agree"},
      {[&](ordered_json& j) { j["root"] = zeros; }, "root, config_hash or tokenizer_hash"},
      {[&](ordered_json& j) { j["config_hash"] = zeros; }, "root, config_hash or tokenizer_hash"},
      {[&](ordered_json& j) { j["root"] = j["weights_root"] = zeros; }, "more than one part"},
      {[&](ordered_json& j) { j["bytes"] = 7; }, "bytes: 7, where the tensors have 48"},
  };
  for (const auto& [change, words] : cases) {
    ordered_json json = Json(Model());
    change(json);
    const auto read = ParseDigestManifest(json.dump(), "m.json");
    ASSERT_FALSE(read) << words;
    EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(read.error().ToString().find("m.json: the manifest contradicts itself"), std::string::npos);
    EXPECT_NE(read.error().ToString().find(words), std::string::npos) << read.error().ToString();
  }
}

TEST(DigestManifestTest, WhatIsNoManifestIsRefused) {
  const std::pair<std::function<void(ordered_json&)>, const char*> cases[] = {
      {[](ordered_json& j) { j = 7; }, "no manifest"},
      {[](ordered_json& j) { j["schema"] = "sluice/inspect/v1"; }, "no manifest"},
      {[](ordered_json& j) { j["root"] = 1; }, "root: missing"},
      {[](ordered_json& j) { j.erase("config_hash"); }, "config_hash: missing"},
      {[](ordered_json& j) { j["bytes"] = -1; }, "bytes: missing"},
      {[](ordered_json& j) { j["tied"] = "lm_head.weight"; }, "tied: missing"},
      {[](ordered_json& j) { j["tied"] = {1}; }, "tied: not a list of names"},
      {[](ordered_json& j) { j["tensors"] = 1; }, "tensors: missing"},
      {[](ordered_json& j) { j["tensors"][0] = 1; }, "tensors[0]: has no name"},
      {[](ordered_json& j) { j["tensors"][0].erase("encoding"); }, "a: has no encoding"},
      {[](ordered_json& j) { j["tensors"][0]["encoding"] = "F99"; }, "a: has the encoding 'F99'"},
      {[](ordered_json& j) { j["tensors"][0]["shape"] = {1.5}; }, "a: has a shape that is none"},
      {[](ordered_json& j) {
         j["tensors"][0]["shape"] = {UINT64_MAX, 3};
       },
       "m.json: a"},
      {[](ordered_json& j) { j["tensors"][0]["digest"] = "00"; }, "a: digest: missing"},
      {[](ordered_json& j) { j["tensors"][1]["name"] = "a"; }, "a is listed twice"},
  };
  for (const auto& [change, words] : cases) {
    ordered_json json = Json(Model());
    change(json);
    const auto read = ParseDigestManifest(json.dump(), "m.json");
    ASSERT_FALSE(read) << words;
    EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(read.error().ToString().find(words), std::string::npos) << read.error().ToString();
  }
  EXPECT_FALSE(ParseDigestManifest("", "m.json"));
  EXPECT_FALSE(ParseDigestManifest("{\"schema\":", "m.json"));
}

TEST(DigestManifestTest, TensorsThatDifferAreToldApart) {
  ModelDigest now = Model();
  now.tensors = {{"a", "BF16", {3, 2}, kernels::HashText("a"), 12},
                 {"b", "F32", {}, kernels::HashText("other"), 4},
                 {"d", "F32", {4}, kernels::HashText("c"), 16},
                 {"e", "F32", {4}, kernels::HashText("e"), 16},
                 {"lm_head.weight", "F16", {4}, kernels::HashText("head"), 8}};
  Seal(&now);
  const ManifestCheck check = CompareWithManifest(now, Model(), "m.json");
  EXPECT_FALSE(check.same());
  EXPECT_FALSE(check.same_weights);
  EXPECT_TRUE(check.same_config);
  std::vector<std::string> told;
  for (const ManifestDifference& difference : check.differences) {
    told.push_back(difference.name + " " + ManifestChangeName(difference.change) + ": " + difference.what);
  }
  EXPECT_EQ(told, (std::vector<std::string>{"a shape_differs: shape [3, 2], [2, 3] in the manifest",
                                            "b changed: its bytes differ", "d renamed: c in the manifest",
                                            "e extra: not in the manifest",
                                            "lm_head.weight encoding_differs: F16, F32 in the manifest"}));
  now = Model();
  now.tensors.erase(now.tensors.begin() + 1);
  const ManifestCheck shorter = CompareWithManifest(now, Model(), "m.json");
  ASSERT_EQ(shorter.differences.size(), 1u);
  EXPECT_EQ(shorter.differences[0].change, ManifestChange::kMissing);
}

TEST(DigestManifestTest, EachRenamedTensorMeetsOne) {
  ModelDigest stated{}, now{};
  for (const char* name : {"x", "y"}) stated.tensors.push_back({name, "F32", {1}, kernels::HashText("one"), 4});
  for (const char* name : {"p", "q", "r"}) now.tensors.push_back({name, "F32", {1}, kernels::HashText("one"), 4});
  const ManifestCheck check = CompareWithManifest(now, stated, "m.json");
  ASSERT_EQ(check.differences.size(), 3u);
  EXPECT_EQ(check.differences[0].other_name, "x");
  EXPECT_EQ(check.differences[1].other_name, "y");
  EXPECT_EQ(check.differences[2].change, ManifestChange::kExtra);
}

TEST(DigestManifestTest, AnotherConfigOrTokenizerIsNamed) {
  ModelDigest now = Model();
  now.tokenizer_hash = kernels::HashText("other");
  Seal(&now);
  const ManifestCheck check = CompareWithManifest(now, Model(), "m.json");
  EXPECT_FALSE(check.same());
  EXPECT_TRUE(check.same_weights && check.same_config);
  EXPECT_FALSE(check.same_tokenizer);
  EXPECT_TRUE(check.differences.empty());
}

}  // namespace
}  // namespace sluice::verify
