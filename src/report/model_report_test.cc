#include "report/model_report.h"

#include <gtest/gtest.h>

#include "kernels/sha256.h"

namespace sluice::report {
namespace {

TEST(ModelReportTest, AManifestThatAgrees) {
  verify::ManifestCheck check;
  check.manifest = "m.json";
  check.same_root = check.same_weights = check.same_config = check.same_tokenizer = true;
  EXPECT_EQ(ManifestCheckText(check), "m.json: the same\n");
  EXPECT_EQ(ManifestCheckJson(check)["same"], true);
}

TEST(ModelReportTest, AManifestTellsWhatDiffersInEachTensor) {
  verify::ManifestCheck check;
  check.manifest = "m.json";
  check.same_tokenizer = true;
  check.differences = {{"a", verify::ManifestChange::kChanged, "", "its bytes differ"},
                       {"d", verify::ManifestChange::kRenamed, "c", "c in the manifest"}};
  const std::string text = ManifestCheckText(check);
  for (const char* words : {"m.json: DIFFERENT", "the config is another", "its bytes differ", "c in the manifest"}) {
    EXPECT_NE(text.find(words), std::string::npos) << words;
  }
  EXPECT_EQ(text.find("tokenizer"), std::string::npos);
  const auto json = ManifestCheckJson(check);
  EXPECT_EQ(json["same"], false);
  EXPECT_EQ(json["differences"][1].dump(),
            R"({"name":"d","class":"renamed","what":"c in the manifest","other_name":"c"})");
  EXPECT_FALSE(json["differences"][0].contains("other_name"));
}

// What `digest -o` writes is what `digest --check` reads.
TEST(ModelReportTest, AManifestIsReadAgain) {
  checkpoint::ModelDigest digest{};
  digest.tensors = {{"a", "BF16", {2, 3}, kernels::HashText("a"), 12}};
  digest.size_bytes = 12;
  digest.weights_root = kernels::MerkleRoot(std::vector{checkpoint::TensorLeaf(digest.tensors[0])});
  kernels::Sha256 hash;
  for (const auto& part : {digest.weights_root, digest.config_hash, digest.tokenizer_hash}) hash.Update(part);
  digest.model_root = hash.Finish();
  nlohmann::ordered_json json;
  json["schema"] = "sluice/digest/v1";
  json.update(DigestJson({.ref = "m", .digest = digest, .seconds = 0, .bytes_read = 0}));
  const auto read = verify::ParseDigestManifest(json.dump(), "m.json");
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_TRUE(verify::CompareWithManifest(digest, *read, "m.json").same());
}

}  // namespace
}  // namespace sluice::report
