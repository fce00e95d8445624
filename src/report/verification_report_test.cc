#include "report/verification_report.h"

#include <gtest/gtest.h>

#include <limits>

namespace sluice::report {
namespace {

verify::TensorDiff Changed(std::string name, double relative_l2) {
  verify::TensorDiff diff;
  diff.name = std::move(name);
  diff.tensor_class = verify::TensorClass::kChanged;
  diff.encoding_a = diff.encoding_b = "BF16";
  diff.shape_a = diff.shape_b = {10};
  diff.num_elements = 10;
  diff.stats = verify::DifferenceStats{};
  diff.stats->elements = 10;
  diff.stats->changed = 3;
  diff.stats->relative_l2 = relative_l2;
  diff.first_changed = 4;
  return diff;
}

verify::Verification Different() {
  verify::Verification result;
  result.ref_a = "a/";
  result.ref_b = "b/";
  result.level = verify::Level::kTensors;
  result.verdict = verify::Verdict::kSameArchitectureDifferentWeights;
  for (int i = 0; i < 30; ++i) result.unequal.push_back(Changed("t" + std::to_string(100 + i), i));
  result.summary = verify::Summarise(result.unequal, 5, 50);
  return result;
}

TEST(VerificationReportTest, TextBeginsWithTheVerdictAndShowsTheLargestChangesFirst) {
  const std::string text = VerificationText(Different());
  EXPECT_TRUE(text.starts_with("SAME_ARCHITECTURE_DIFFERENT_WEIGHTS  (level tensors)\n")) << text;
  EXPECT_LT(text.find("t129"), text.find("t128"));
  EXPECT_EQ(text.find("t100"), std::string::npos);  // the smallest of 30; 20 are shown
  EXPECT_NE(text.find("and 10 more"), std::string::npos);
  EXPECT_NE(text.find("3 (30%)"), std::string::npos);
}

TEST(VerificationReportTest, JsonHasAllTensorsAndThePromisedKeysInOrder) {
  const nlohmann::ordered_json json = VerificationJson(Different());
  std::vector<std::string> keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  EXPECT_EQ(keys, (std::vector<std::string>{"verdict", "level", "proves", "does_not_prove", "config", "summary",
                                            "tensors", "memory", "seconds", "bytes_read"}));
  EXPECT_EQ(json["tensors"].size(), 30u);
  EXPECT_EQ(json["summary"]["changed"], 30);
  EXPECT_EQ(json["summary"]["identical"], 5);
  EXPECT_EQ(json["tensors"][0]["first_changed"], 4);
}

TEST(VerificationReportTest, AnInfiniteRatioIsNullInJson) {
  verify::Verification result = Different();
  result.unequal[0].stats->relative_l2 = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(VerificationJson(result)["tensors"][0]["relative_l2"].is_null());
  EXPECT_NO_THROW(VerificationJson(result).dump());
}

TEST(VerificationReportTest, AnEarlyStopShowsNoRootsAndNoDigests) {
  verify::Verification result = Different();
  result.summary->stopped_early = true;
  const nlohmann::ordered_json json = VerificationJson(result);
  EXPECT_FALSE(json["summary"]["a"].contains("root"));
  EXPECT_FALSE(json["tensors"][0]["a"].contains("digest"));
  EXPECT_EQ(VerificationText(result).find("root "), std::string::npos);
}

TEST(VerificationReportTest, TheConfigLevelSaysThatNoTensorWasRead) {
  verify::Verification result;
  result.level = verify::Level::kConfig;
  result.verdict = verify::Verdict::kSameConfig;
  EXPECT_NE(VerificationText(result).find("not read"), std::string::npos);
  EXPECT_FALSE(VerificationJson(result)["summary"].contains("tensors"));
}

TEST(VerificationReportTest, AStatementThatHoldsSaysWhatItDoesNotProve) {
  verify::StatementCheck check;
  verify::DecideStatement(&check);
  EXPECT_EQ(check.verdict, verify::Verdict::kIdentical);
  EXPECT_NE(StatementCheckText(check).find("that the statement is true"), std::string::npos);
  check.root[0] = 1;
  verify::DecideStatement(&check);
  EXPECT_EQ(check.verdict, verify::Verdict::kSameWeights);
  check.weights_root[0] = 1;
  verify::DecideStatement(&check);
  EXPECT_EQ(check.verdict, verify::Verdict::kSameArchitectureDifferentWeights);
  check.missing = {"w"};
  verify::DecideStatement(&check);
  EXPECT_EQ(check.verdict, verify::Verdict::kDifferentArchitecture);
  EXPECT_EQ(StatementCheckJson(check)["tensors"][0]["class"], "only_in_statement");
}

}  // namespace
}  // namespace sluice::report
