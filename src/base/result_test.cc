#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "base/check.h"

namespace sluice {
namespace {

constexpr ErrorCode kAllCodes[] = {
    ErrorCode::kUsage,   ErrorCode::kRecipe, ErrorCode::kOutputExists, ErrorCode::kUnsupported, ErrorCode::kNotFound,
    ErrorCode::kCorrupt, ErrorCode::kRead,   ErrorCode::kBudget,       ErrorCode::kWrite,       ErrorCode::kCancelled};

TEST(Result, CodesHaveNamesOfTheirOwn) {
  std::set<std::string> names;
  for (const ErrorCode code : kAllCodes) names.insert(CodeName(code));
  EXPECT_EQ(names.size(), std::size(kAllCodes));
}

TEST(Result, ExitStatusOfEachCode) {
  const int expected[] = {2, 2, 2, 2, 3, 3, 3, 4, 6, 130};
  for (size_t i = 0; i < std::size(kAllCodes); ++i)
    EXPECT_EQ(ExitStatus(kAllCodes[i]), expected[i]) << CodeName(kAllCodes[i]);
}

Result<int> Half(int n) {
  if (n % 2 != 0) return Fail(ErrorCode::kUsage, "odd");
  return n / 2;
}

Result<int> Quarter(int n) {
  SLUICE_ASSIGN(const int half, Half(n));
  SLUICE_TRY_IN("second", Half(half));
  return half / 2;
}

Result<void> Check(int n) {
  SLUICE_TRY(Quarter(n));
  return {};
}

TEST(Result, MacrosPassValuesAndErrorsOn) {
  EXPECT_EQ(Quarter(8).value(), 2);
  EXPECT_EQ(Quarter(3).error().ToString(), "odd");
  EXPECT_EQ(Quarter(6).error().ToString(), "second: odd");
  EXPECT_TRUE(Check(8).has_value());
  EXPECT_EQ(Check(6).error().code, ErrorCode::kUsage);
}

TEST(Result, AssignMovesTheValue) {
  const auto make = []() -> Result<std::unique_ptr<int>> { return std::make_unique<int>(7); };
  const auto take = [&]() -> Result<int> {
    SLUICE_ASSIGN(std::unique_ptr<int> value, make());
    return *value;
  };
  EXPECT_EQ(take().value(), 7);
}

TEST(Result, ContextGoesOutermostFirst) {
  const Error error = Error{ErrorCode::kCorrupt, "byte 8 is wrong", {}}.In("tensor w").In("a.safetensors");
  EXPECT_EQ(error.ToString(), "a.safetensors: tensor w: byte 8 is wrong");
}

TEST(CheckDeathTest, AFailedCheckNamesItsPlace) {
  EXPECT_DEATH(SLUICE_CHECK(1 + 1 == 3), "result_test.cc:[0-9]+: 1 \\+ 1 == 3");
}

}  // namespace
}  // namespace sluice
