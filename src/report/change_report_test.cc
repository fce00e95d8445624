#include "report/change_report.h"

#include <gtest/gtest.h>

namespace sluice::report {
namespace {

verify::TensorDiff Changed(std::string name) {
  verify::TensorDiff diff;
  diff.name = std::move(name);
  diff.tensor_class = verify::TensorClass::kChanged;
  diff.encoding_a = diff.encoding_b = "BF16";
  diff.shape_a = diff.shape_b = {100, 8};
  diff.stats.emplace().changed = 1;
  return diff;
}

verify::Verification Result() {
  verify::Verification result;
  result.ref_a = "a/";
  result.ref_b = "b/";
  result.changes.emplace();
  return result;
}

TEST(ChangeReportTest, UnitsAreToldOnlyWhereMostAreOne) {
  verify::Verification result = Result();
  result.changes->unit_encoding = "BF16";
  result.changes->units.counts[0] = 998;
  result.changes->units.counts[3] = 2;
  result.changes->units.sign_changes = 1;
  result.changes->units_changed = 1000;
  EXPECT_EQ(
      ChangesText(result),
      "  units           99.8% of the changed elements differ by one unit in the last place (BF16), 1 changes sign\n");
  result.changes->units_changed = 10'000;
  EXPECT_EQ(ChangesText(result), "");
  result.changes->units.counts[0] = 9'999'999;
  result.changes->units_changed = 10'000'000;
  EXPECT_NE(ChangesText(result).find("over 99.99% of"), std::string::npos);  // never "100%" of what is not all
}

TEST(ChangeReportTest, RowsAreToldAsRangesAndNotWhereAllChanged) {
  verify::Verification result = Result();
  result.unequal.push_back(Changed("embed"));
  verify::RowChanges& rows = result.unequal[0].details.rows.emplace();
  rows = {.rows = 100, .changed = 12, .ranges = {{0, 0}, {2, 3}}, .num_ranges = 2};
  EXPECT_EQ(ChangesText(result), "  rows            12 of 100 rows of embed changed: 0, 2-3\n");
  rows.ranges.assign(20, {5, 6});
  rows.num_ranges = 30;
  EXPECT_NE(ChangesText(result).find("5-6 and 22 more ranges"), std::string::npos);
  rows.changed = 100;
  EXPECT_EQ(ChangesText(result), "");
}

TEST(ChangeReportTest, EverySideThatIsDequantisedIsWarnedOf) {
  verify::Verification result = Result();
  EXPECT_EQ(GridWarnings(result), "");
  result.grids_b.looked_at = 45;
  result.grids_b.on[0] = 42;
  const std::string text = GridWarnings(result);
  EXPECT_NE(text.find("B (b/) was dequantised: of its 45 matrices in plain floats, 42 lie"), std::string::npos) << text;
  EXPECT_NE(text.find("42 on that of Q4_0"), std::string::npos) << text;
  EXPECT_EQ(text.find("A (a/)"), std::string::npos);
}

TEST(ChangeReportTest, ARankIsToldByItsKind) {
  verify::TensorDiff tensor = Changed("w");
  EXPECT_EQ(RankText(tensor), "");
  verify::EffectiveRank& rank = tensor.details.rank.emplace();
  rank.reason = "no room";
  EXPECT_EQ(RankText(tensor), "-");
  nlohmann::ordered_json json;
  AddDetailsJson(tensor, &json);
  EXPECT_EQ(json["rank"].dump(), R"({"kind":"not_sketched","reason":"no room"})");
  rank.kind = verify::RankKind::kLow;
  rank.rank = 8;
  EXPECT_EQ(RankText(tensor), "8");
  rank.kind = verify::RankKind::kFull;
  EXPECT_EQ(RankText(tensor), "full");
  rank.kind = verify::RankKind::kWithinRounding;
  EXPECT_EQ(RankText(tensor), "noise");
}

TEST(ChangeReportTest, TheFirstDifferenceHasItsRowAndItsBytes) {
  verify::TensorDiff tensor = Changed("w");
  tensor.first_changed = 19;
  tensor.place_b = verify::FilePlace{"b/x.safetensors", 138};
  EXPECT_EQ(FirstDifferenceText(tensor),
            "  first           w, element 19 (row 2, column 3)\n                  B: b/x.safetensors, byte 138\n");
}

}  // namespace
}  // namespace sluice::report
