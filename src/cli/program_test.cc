#include "cli/program.h"

#include <gtest/gtest.h>

#include <set>

#include "cli/command.h"

namespace sluice::cli {
namespace {

TEST(ProgramTest, CommandsAreSortedNamedAndExplained) {
  const std::vector<const Command*> all = AllCommands();
  ASSERT_GE(all.size(), 5u);
  std::set<std::string_view> names;
  for (const Command* command : all) {
    EXPECT_TRUE(names.insert(command->name).second) << command->name;
    EXPECT_TRUE(names.empty() || *names.rbegin() == command->name) << "not sorted";
    EXPECT_TRUE(command->synopsis.starts_with(command->name)) << command->name;
    EXPECT_FALSE(command->summary.empty() || command->summary.ends_with('.')) << command->name;
    EXPECT_NE(command->details.find("Examples:"), std::string_view::npos) << command->name;
    EXPECT_FALSE(IsPlannedCommand(command->name)) << command->name << " is refused by name although it is here";
  }
}

TEST(ProgramTest, ExitStatusOfRequestsThatNeedNoModel) {
  const std::atomic<bool> cancelled{false};
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  EXPECT_EQ(RunProgram({"--version"}, cancelled), 0);
  EXPECT_EQ(RunProgram({"verify", "--help"}, cancelled), 0);
  EXPECT_EQ(RunProgram({}, cancelled), 2);
  EXPECT_EQ(RunProgram({"generate"}, cancelled), 2);
  EXPECT_EQ(RunProgram({"digest", "--no-such-option", "x"}, cancelled), 2);
  EXPECT_EQ(RunProgram({"digest", "x", "--threads", "-3"}, cancelled), 2);
  const std::string out = testing::internal::GetCapturedStdout(), err = testing::internal::GetCapturedStderr();
  EXPECT_EQ(out.find("sluice: error"), std::string::npos);
  EXPECT_NE(err.find("generate"), std::string::npos);
}

TEST(ProgramTest, ErrorsOfARecipeAreToldOneALine) {
  testing::internal::CaptureStderr();
  TellError({ErrorCode::kRecipe, "2 errors in r.yml", {"r.yml:3:1: first", "r.yml:9:2: second"}}, false);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "sluice: error: 2 errors in r.yml\n  r.yml:3:1: first\n  r.yml:9:2: second\n");
  testing::internal::CaptureStderr();
  TellError({ErrorCode::kCorrupt, "too short", {"model.safetensors", "w"}}, false);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "sluice: error: model.safetensors: w: too short\n");
}

}  // namespace
}  // namespace sluice::cli
