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

TEST(TableTest, IsNarrowedWhereItIsWiderThanTheTerminal) {
  Table table({"tensor", ">bytes"});
  table.AddRow({"model.layers.12.self_attn.q_proj.weight", "1,234"});
  table.AddRow({"a", "5"});
  EXPECT_EQ(table.ToString("", 30),
            "tensor                   bytes\n"
            "model.layer…proj.weight  1,234\n"
            "a                            5\n");
  EXPECT_EQ(table.ToString("", 1000), table.ToString());
  // No column is made useless; numbers are never cut.
  EXPECT_EQ(table.ToString("", 5), "tensor        bytes\nmodel…weight  1,234\na                 5\n");
}

TEST(TableTest, ShortensByCodePoints) {
  EXPECT_EQ(Shorten("abcdef", 6), "abcdef");
  EXPECT_EQ(Shorten("abcdef", 5), "ab…ef");
  EXPECT_EQ(Shorten("äöüßéà", 4), "ä…éà");
  EXPECT_EQ(Shorten("abc", 1), "…");
}

}  // namespace
}  // namespace sluice::report
