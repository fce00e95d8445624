#include "merge/diagnostics.h"

#include <array>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::merge {
namespace {

TEST(NearestName, FindsWhatIsMeant) {
  constexpr std::array<std::string_view, 6> kKnown = {"density", "weight", "normalize", "dtype", "out_dtype", "t"};
  EXPECT_EQ(NearestName("densty", kKnown), "density");
  EXPECT_EQ(NearestName("desnity", kKnown), "density");
  EXPECT_EQ(NearestName("normalise", kKnown), "normalize");
  EXPECT_EQ(NearestName("dtyp", kKnown), "dtype");
  EXPECT_EQ(NearestName("weights", kKnown), "weight");
  EXPECT_EQ(NearestName("temperature", kKnown), "");
  EXPECT_EQ(NearestName("x", kKnown), "");
  EXPECT_EQ(NearestName("", kKnown), "");
  EXPECT_EQ(NearestName(std::string(100000, 'd'), kKnown), "");
  EXPECT_EQ(DidYouMean("dtyp", kKnown), ": did you mean 'dtype'?");
  EXPECT_EQ(DidYouMean("zzzz", kKnown), "");
}

TEST(Diagnostics, TellsAllErrorsInOrder) {
  Diagnostics diagnostics("r.yml");
  diagnostics.AddError({7, 3}, "third");
  diagnostics.AddNote({1, 1}, "a note");
  diagnostics.AddError({2, 9}, "second");
  diagnostics.AddError({}, "first");
  diagnostics.AddWarning({2, 1}, "a warning");
  const Error error = diagnostics.ToError();
  EXPECT_EQ(error.code, ErrorCode::kRecipe);
  EXPECT_EQ(error.message, "3 errors in r.yml");
  EXPECT_THAT(error.context, testing::ElementsAre("r.yml: first", "r.yml:2:9: second", "r.yml:7:3: third"));
}

TEST(Diagnostics, ErrorsOfInputsAloneKeepTheirCode) {
  Diagnostics diagnostics("r.yml");
  diagnostics.AddWarning({1, 1}, "a warning");
  EXPECT_FALSE(diagnostics.has_errors());
  diagnostics.AddError({2, 1}, "x.safetensors: truncated", ErrorCode::kCorrupt);
  EXPECT_EQ(diagnostics.ToError().ToString(), "r.yml:2:1: x.safetensors: truncated");
  EXPECT_EQ(diagnostics.ToError().code, ErrorCode::kCorrupt);
  diagnostics.AddError({3, 1}, "y", ErrorCode::kRead);
  EXPECT_EQ(diagnostics.ToError().ToString(), "r.yml:2:1: x.safetensors: truncated; r.yml:3:1: y");
  diagnostics.AddError({4, 1}, "z");
  EXPECT_EQ(diagnostics.ToError().code, ErrorCode::kRecipe);
  EXPECT_EQ(diagnostics.ToError().context.size(), 3u);
}

TEST(Diagnostics, MessagesAreFitForATerminal) {
  Diagnostics diagnostics("r.yml");
  diagnostics.AddError({1, 1}, "a\x1b[31m\nb" + std::string(5000, 'x'));
  const std::string line = diagnostics.ToError().context[0];
  EXPECT_TRUE(line.starts_with("r.yml:1:1: a?[31m?bxxx"));
  EXPECT_LT(line.size(), 2100u);
  for (int i = 0; i < 1000; ++i) diagnostics.AddError({1, 1}, "x");
  EXPECT_EQ(diagnostics.ToError().context.size(), 101u);
  EXPECT_EQ(diagnostics.ToError().context.back(), "and 901 more");
}

}  // namespace
}  // namespace sluice::merge
