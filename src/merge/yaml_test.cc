#include "merge/yaml.h"

#include <cmath>

#include <gtest/gtest.h>

namespace sluice::merge {
namespace {

using Kind = YamlNode::Kind;

YamlNode::Pointer Parse(std::string_view text) {
  const YamlStream stream = ParseYaml(text);
  EXPECT_TRUE(stream.problems.empty()) << stream.problems.front().message;
  EXPECT_EQ(stream.documents.size(), 1u);
  return stream.documents.empty() ? nullptr : stream.documents[0];
}

YamlProblem ProblemOf(std::string_view text) {
  const YamlStream stream = ParseYaml(text);
  EXPECT_EQ(stream.problems.size(), 1u);
  return stream.problems.empty() ? YamlProblem{} : stream.problems[0];
}

// What PyYAML 6.0's safe_load makes of each plain scalar.
TEST(YamlScalar, ResolvesAsPyYamlDoes) {
  struct Case {
    const char* text;
    Kind kind;
    double number;
  };
  const Case cases[] = {{"0.5", Kind::kFloat, 0.5},       {"1e-3", Kind::kString, 0},
                        {"1.0e-3", Kind::kFloat, 1e-3},   {"1.5e3", Kind::kString, 0},
                        {"1.5e+3", Kind::kFloat, 1500},   {".5", Kind::kFloat, 0.5},
                        {"-.5", Kind::kString, 0},        {"-0.5", Kind::kFloat, -0.5},
                        {"+1.", Kind::kFloat, 1},         {"1_000.5", Kind::kFloat, 1000.5},
                        {".inf", Kind::kFloat, INFINITY}, {"-.INF", Kind::kFloat, -INFINITY},
                        {"1", Kind::kInteger, 1},         {"-12", Kind::kInteger, -12},
                        {"010", Kind::kInteger, 8},       {"08", Kind::kString, 0},
                        {"0x1F", Kind::kInteger, 31},     {"0b101", Kind::kInteger, 5},
                        {"1_000", Kind::kInteger, 1000},  {"1:30", Kind::kInteger, 90},
                        {"0:30", Kind::kString, 0},       {"1:30.5", Kind::kFloat, 90.5},
                        {"1:60", Kind::kString, 0},       {"190:20:30", Kind::kInteger, 685230},
                        {"yes", Kind::kBool, 1},          {"On", Kind::kBool, 1},
                        {"TRUE", Kind::kBool, 1},         {"no", Kind::kBool, 0},
                        {"off", Kind::kBool, 0},          {"False", Kind::kBool, 0},
                        {"y", Kind::kString, 0},          {"~", Kind::kNull, 0},
                        {"null", Kind::kNull, 0},         {"nUll", Kind::kString, 0},
                        {"1.2.3", Kind::kString, 0},      {"2024-01-01", Kind::kString, 0},
                        {"-", Kind::kString, 0},          {".", Kind::kString, 0},
                        {"1e5", Kind::kString, 0},        {"99999999999999999999", Kind::kInteger, 1e20}};
  for (const Case& c : cases) {
    YamlNode node;
    node.text = c.text;
    ResolvePlainScalar(&node);
    EXPECT_EQ(node.kind, c.kind) << c.text;
    if (c.kind == Kind::kBool) {
      EXPECT_EQ(node.boolean, c.number != 0) << c.text;
    } else if (c.kind != Kind::kString) {
      EXPECT_EQ(node.number, c.number) << c.text;
    }
  }
  YamlNode nan;
  nan.text = ".nan";
  ResolvePlainScalar(&nan);
  EXPECT_TRUE(std::isnan(nan.number));
}

TEST(YamlScalar, KeepsIntegersOf64BitsExactly) {
  EXPECT_EQ(Parse("18446744073709551615")->integer, 18446744073709551615u);
  EXPECT_EQ(Parse("18446744073709551616")->integer, std::nullopt);
  EXPECT_EQ(Parse("-1")->integer, std::nullopt);
  EXPECT_EQ(Parse("0")->integer, 0u);
}

TEST(Yaml, QuotedScalarsStayText) {
  const auto root = Parse("{a: '0.5', b: \"yes\", c: !!str 5, d: !!float 3}");
  EXPECT_EQ(root->Find("a")->kind, Kind::kString);
  EXPECT_EQ(root->Find("b")->kind, Kind::kString);
  EXPECT_EQ(root->Find("c")->kind, Kind::kString);
  EXPECT_EQ(root->Find("d")->kind, Kind::kFloat);
  EXPECT_EQ(root->Find("d")->number, 3);
}

TEST(Yaml, MarksCountFromOne) {
  const auto root = Parse("# head\na:\n  - b: 1\n    c: two\n");
  EXPECT_EQ(root->mark, (Mark{2, 1}));
  const YamlNode& item = *root->Find("a")->items[0];
  EXPECT_EQ(item.mark, (Mark{3, 5}));
  EXPECT_EQ(item.entries[1].key->mark, (Mark{4, 5}));
  EXPECT_EQ(item.Find("c")->mark, (Mark{4, 8}));
}

TEST(Yaml, ColumnsAreCharacters) { EXPECT_EQ(Parse("{ä: 1, b: 2}")->entries[1].value->mark, (Mark{1, 11})); }

TEST(Yaml, AliasesStandForTheirAnchors) {
  const auto root = Parse("a: &x {p: 1}\nb: *x\nc: [*x, *x]\n");
  EXPECT_EQ(root->Find("b"), root->Find("a"));
  EXPECT_EQ(root->Find("c")->items.size(), 2u);
}

TEST(Yaml, MergeKeysGiveWhatIsNotThere) {
  const auto root = Parse(
      "one: &one {a: 1, b: 1}\ntwo: &two {b: 2, c: 2}\n"
      "x: {<<: *one, a: 0}\ny: {<<: [*one, *two], c: 3}\nz: {'<<': 1}\n");
  const YamlNode& x = *root->Find("x");
  ASSERT_EQ(x.entries.size(), 2u);
  EXPECT_EQ(x.Find("a")->number, 0);
  EXPECT_EQ(x.Find("b")->number, 1);
  const YamlNode& y = *root->Find("y");
  ASSERT_EQ(y.entries.size(), 3u);
  EXPECT_EQ(y.Find("a")->number, 1);
  EXPECT_EQ(y.Find("b")->number, 1);  // of the first
  EXPECT_EQ(y.Find("c")->number, 3);
  EXPECT_NE(root->Find("z")->Find("<<"), nullptr);  // quoted: a key like any other
}

TEST(Yaml, RefusesWhatIsAmbiguous) {
  const YamlProblem twice = ProblemOf("a: 1\nb: 2\na: 3\n");
  EXPECT_EQ(twice.mark, (Mark{3, 1}));
  EXPECT_EQ(twice.message, "'a' is written twice: first on line 1, column 1");
  EXPECT_EQ(ProblemOf("? [a, b]\n: 1\n").message, "a key must be a word, not a list");
  EXPECT_EQ(ProblemOf("x: {<<: 5}\n").message, "<< wants a mapping or a list of them, not a number");
  EXPECT_EQ(ProblemOf("a: *nowhere\n").message, "*nowhere names no anchor above it");
  EXPECT_EQ(ProblemOf("a: &a [*a]\n").message, "*a stands within what it names");
  EXPECT_EQ(ProblemOf("a: !!python/object:os.system x\n").message,
            "the tag tag:yaml.org,2002:python/object:os.system is not one that a recipe may have");
  EXPECT_EQ(ProblemOf("a: !!int x\n").message, "'x' is not what its tag !!int says");
}

TEST(Yaml, TellsAllRepeatedKeys) { EXPECT_EQ(ParseYaml("{a: 1, a: 2, b: {c: 1, c: 2}}").problems.size(), 2u); }

TEST(Yaml, SyntaxErrorsHaveTheirPlace) {
  const YamlProblem tab = ProblemOf("a:\n\t- b\n");
  EXPECT_EQ(tab.mark.line, 2u);
  EXPECT_EQ(tab.mark.column, 1u);
  EXPECT_EQ(ProblemOf("a: [1, 2\nb: 3\n").mark.line, 2u);
  EXPECT_TRUE(ProblemOf("a: \xff\xfe\n").message.starts_with("not YAML: "));
}

TEST(Yaml, BoundsDepthAndSize) {
  const std::string deep = std::string(kMaxYamlDepth, '[') + std::string(kMaxYamlDepth, ']');
  EXPECT_EQ(ParseYaml(deep).documents.at(0)->depth, kMaxYamlDepth);
  EXPECT_EQ(ProblemOf("[" + deep + "]").message, "nested deeper than 64 levels");
  // Ten levels of ten aliases: 10^10 values if they were written out.
  std::string laughs = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 10; ++i) {
    laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) laughs += (j ? ", *a" : "*a") + std::to_string(i - 1);
    laughs += "]\n";
  }
  EXPECT_EQ(ProblemOf(laughs).message, "more than 100000 values, counting what aliases repeat");
  // Depth through aliases counts too.
  std::string chain = "a0: &a0 [1]\n";
  for (int i = 1; i < 80; ++i) {
    chain += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
  }
  EXPECT_EQ(ProblemOf(chain).message, "nested deeper than 64 levels");
}

TEST(Yaml, CountsDocuments) {
  EXPECT_EQ(ParseYaml("").documents.size(), 0u);
  EXPECT_EQ(ParseYaml("# only a remark\n").documents.size(), 0u);
  const YamlStream several = ParseYaml("a: 1\n---\na: 2\n---\na: 3\n");
  EXPECT_EQ(several.documents.size(), 3u);
  EXPECT_EQ(several.documents[0]->Find("a")->number, 1);
}

TEST(YamlOverride, ReplacesAndAdds) {
  const auto root = Parse("models: [{model: a}, {model: b}]\nparameters: {density: 0.5}\nempty:\n");
  std::string message;
  const auto replaced = WithOverride(root, "parameters.density", "0.25", &message);
  ASSERT_TRUE(replaced);
  EXPECT_EQ(replaced->Find("parameters")->Find("density")->number, 0.25);
  EXPECT_EQ(root->Find("parameters")->Find("density")->number, 0.5);
  EXPECT_EQ(replaced->Find("parameters")->Find("density")->mark, Mark{});
  const auto item = WithOverride(root, "models.1.parameters.weight", "2", &message);
  ASSERT_TRUE(item);
  EXPECT_EQ(item->Find("models")->items[1]->Find("parameters")->Find("weight")->number, 2);
  EXPECT_EQ(item->Find("models")->items[0]->Find("parameters"), nullptr);
  ASSERT_TRUE(WithOverride(root, "empty.x", "1", &message));
  EXPECT_FALSE(WithOverride(root, "models.2.model", "c", &message));
  EXPECT_EQ(message, "'2' is not an item of a list of 2, counted from 0");
  EXPECT_FALSE(WithOverride(root, "parameters.density.x", "1", &message));
  EXPECT_EQ(message, "'x' is looked for in a number");
  EXPECT_FALSE(WithOverride(root, "a..b", "1", &message));
  EXPECT_FALSE(WithOverride(root, "a", "[", &message));
}

}  // namespace
}  // namespace sluice::merge
