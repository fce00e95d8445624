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
      TextOf(ChangeLines(result)),
      "  units           99.8% of the changed elements differ by one unit in the last place (BF16), 1 changes sign\n");
  result.changes->units_changed = 10'000;
  EXPECT_EQ(TextOf(ChangeLines(result)), "");
  result.changes->units.counts[0] = 9'999'999;
  result.changes->units_changed = 10'000'000;
  EXPECT_NE(TextOf(ChangeLines(result)).find("over 99.99% of"), std::string::npos);  // never "100%" of what is not all
}

TEST(ChangeReportTest, RowsAreToldAsRangesAndNotWhereAllChanged) {
  verify::Verification result = Result();
  result.unequal.push_back(Changed("embed"));
  verify::RowChanges& rows = result.unequal[0].details.rows.emplace();
  rows = {.rows = 100, .changed = 12, .ranges = {{0, 0}, {2, 3}}, .num_ranges = 2};
  EXPECT_EQ(TextOf(ChangeLines(result)), "  rows            12 of 100 rows of embed changed: 0, 2-3\n");
  rows.ranges.assign(20, {5, 6});
  rows.num_ranges = 30;
  EXPECT_NE(TextOf(ChangeLines(result)).find("5-6 and 22 more ranges"), std::string::npos);
  rows.changed = 100;
  EXPECT_EQ(TextOf(ChangeLines(result)), "");
}

TEST(ChangeReportTest, EverySideThatIsDequantisedIsWarnedOf) {
  verify::Verification result = Result();
  EXPECT_TRUE(GridWarnings(result).empty());
  result.grids_b.looked_at = 45;
  result.grids_b.on[0] = 42;
  ASSERT_EQ(GridWarnings(result).size(), 1u);
  const std::string text = GridWarnings(result)[0];
  EXPECT_NE(text.find("B (b/) was dequantised: of its 45 matrices in plain floats, 42 lie"), std::string::npos) << text;
  EXPECT_NE(text.find("42 on that of Q4_0"), std::string::npos) << text;
  const Table table = GridTable(result);
  ASSERT_EQ(table.rows().size(), 2u);
  EXPECT_EQ(table.rows()[0], (std::vector<std::string>{"A", "a/", "0", "-", "-", "-", "-", "-"}));
  EXPECT_EQ(table.rows()[1], (std::vector<std::string>{"B", "b/", "45", "42", "-", "-", "-", "-"}));
}

TEST(ChangeReportTest, RanksAreCountedByKind) {
  verify::Verification result = Result();
  EXPECT_TRUE(RankTable(result).empty());
  for (const auto& [name, kind, rank] : {std::tuple{"layers.0.q_proj.weight", verify::RankKind::kLow, 8},
                                         {"layers.1.q_proj.weight", verify::RankKind::kLow, 7},
                                         {"layers.2.q_proj.weight", verify::RankKind::kWithinRounding, 0},
                                         {"layers.0.up_proj.weight", verify::RankKind::kFull, 3}}) {
    result.unequal.push_back(Changed(name));
    verify::EffectiveRank& found = result.unequal.back().details.rank.emplace();
    found.kind = kind;
    found.rank = static_cast<uint64_t>(rank);
  }
  const Table table = RankTable(result);
  ASSERT_EQ(table.rows().size(), 2u);
  EXPECT_EQ(table.rows()[0], (std::vector<std::string>{"q", "3", "2", "7 to 8", "-", "1", "-"}));
  EXPECT_EQ(table.rows()[1], (std::vector<std::string>{"up", "1", "-", "-", "1", "-", "-"}));
  result.unequal.back().details.rank->kind = verify::RankKind::kNotSketched;
  EXPECT_EQ(RankTable(result).rows()[1].back(), "1");
}

TEST(ChangeReportTest, BucketsOfUnitsAreTheirDistances) {
  EXPECT_EQ(UnitBucketText(0), "1");
  EXPECT_EQ(UnitBucketText(1), "2");
  EXPECT_EQ(UnitBucketText(2), "3 to 4");
  EXPECT_EQ(UnitBucketText(11), "1,025 to 2,048");
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
  EXPECT_EQ(TextOf(FirstDifferenceLines(tensor)),
            "  first           w, element 19 (row 2, column 3)\n                  B: b/x.safetensors, byte 138\n");
}

}  // namespace
}  // namespace sluice::report
