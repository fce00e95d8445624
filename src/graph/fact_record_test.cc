#include "graph/fact_record.h"

#include <gtest/gtest.h>

#include <limits>

namespace sluice::graph {
namespace {

// A number for each row or tie would make a record as large as models: it is told by its hash.
TEST(FactRecord, HasLongValuesByTheirHash) {
  FactValue value(FactRecord::kMostNumbers, 0.5);
  EXPECT_EQ(RecordOf(value), (FactRecord{value, ""}));
  EXPECT_TRUE(RecordOf(value).has_value());
  value.push_back(0.0);
  const FactRecord record = RecordOf(value);
  EXPECT_FALSE(record.has_value());
  EXPECT_TRUE(record.numbers.empty());
  EXPECT_EQ(record.hash.size(), 64u);
  EXPECT_EQ(RecordOf(value), record);
  value.back() = -0.0;
  EXPECT_FALSE(RecordOf(value) == record);
}

TEST(FactRecord, IsComparedByBits) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(RecordOf({nan}), RecordOf({nan}));
  EXPECT_FALSE(RecordOf({0.0}) == RecordOf({-0.0}));
  EXPECT_FALSE(RecordOf({1.0}) == RecordOf({1.0, 1.0}));
}

}  // namespace
}  // namespace sluice::graph
