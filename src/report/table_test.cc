#include "report/table.h"

#include <gtest/gtest.h>

namespace sluice::report {
namespace {

TEST(TableTest, AlignsColumnsAndCutsTrailingSpaces) {
  Table table({"name", ">bytes", "note"});
  table.AddRow({"a", "1,000", "first"});
  table.AddRow({"longer", "7"});
  EXPECT_EQ(table.ToString("  "),
            "  name    bytes  note\n"
            "  a       1,000  first\n"
            "  longer      7\n");
}

TEST(TableTest, WithoutHeadingsPrintsNoHeadingLine) {
  Table table({"", ""});
  table.AddRow({"a", "b"});
  EXPECT_EQ(table.ToString(), "a  b\n");
}

TEST(TableTest, CountsCodePointsNotBytes) {
  EXPECT_EQ(DisplayWidth("häß…"), 4u);
  Table table({"", ""});
  table.AddRow({"ä", "x"});
  table.AddRow({"bb", "y"});
  EXPECT_EQ(table.ToString(), "ä   x\nbb  y\n");
}

}  // namespace
}  // namespace sluice::report
