#include "io/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "checkpoint/testing/tiny_models.h"
#include "io/testing/disk_faults.h"

namespace sluice::io {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using tests::DiskFault;

std::vector<std::string> Names(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(AtomicFile, AppearsWholeAndLeavesNothingBeside) {
  tests::TempDir dir;
  {
    auto file = AtomicFile::Create(dir / "out.bin", false);
    ASSERT_TRUE(file) << file.error().ToString();
    EXPECT_THAT(Names(dir.path()), ElementsAre(".out.bin.sluice-partial"));
    tests::WriteText(file->partial_path(), "whole");
    ASSERT_TRUE(file->Commit());
    EXPECT_THAT(Names(dir.path()), ElementsAre("out.bin"));
  }
  EXPECT_EQ(tests::ReadText(dir / "out.bin"), "whole");
}

TEST(AtomicFile, WithoutCommitNothingIsLeftNorTheParents) {
  tests::TempDir dir;
  {
    auto file = AtomicFile::Create(dir / "a/b/out.bin", false);
    ASSERT_TRUE(file);
    EXPECT_TRUE(fs::exists(dir / "a/b"));
  }
  EXPECT_THAT(Names(dir.path()), IsEmpty());
}

TEST(AtomicFile, MakesParents) {
  tests::TempDir dir;
  auto file = AtomicFile::Create(dir / "a/b/out.bin", false);
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->Commit());
  EXPECT_TRUE(fs::exists(dir / "a/b/out.bin"));
}

TEST(AtomicFile, WhatIsThereIsReplacedOnlyByForce) {
  tests::TempDir dir;
  tests::WriteText(dir / "out.bin", "old");
  auto refused = AtomicFile::Create(dir / "out.bin", false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOutputExists);
  EXPECT_THAT(refused.error().message, HasSubstr("--force"));
  EXPECT_THAT(Names(dir.path()), ElementsAre("out.bin"));

  auto file = AtomicFile::Create(dir / "out.bin", true);
  ASSERT_TRUE(file);
  tests::WriteText(file->partial_path(), "new");
  EXPECT_EQ(tests::ReadText(dir / "out.bin"), "old");
  ASSERT_TRUE(file->Commit());
  EXPECT_EQ(tests::ReadText(dir / "out.bin"), "new");
}

TEST(AtomicFile, AnEmptyFileIsNoObstacleAndAFolderIs) {
  tests::TempDir dir;
  tests::WriteText(dir / "empty", "");
  EXPECT_TRUE(AtomicFile::Create(dir / "empty", false));
  fs::create_directory(dir / "folder");
  auto folder = AtomicFile::Create(dir / "folder", true);
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().code, ErrorCode::kOutputExists);
}

TEST(AtomicFile, FollowsALinkAndRefusesALinkToNothing) {
  tests::TempDir dir;
  fs::create_directory(dir / "real");
  tests::WriteText(dir / "real/file", "old");
  fs::create_symlink(dir / "real/file", dir / "link");
  fs::create_symlink(dir / "nowhere", dir / "dangling");
  ASSERT_TRUE(WriteFileAtomically(dir / "link", "new"));
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(tests::ReadText(dir / "real/file"), "new");
  auto dangling = WriteFileAtomically(dir / "dangling", "new");
  ASSERT_FALSE(dangling);
  EXPECT_THAT(dangling.error().message, HasSubstr("link to nothing"));
}

TEST(AtomicFile, TwoRunsCannotShareAName) {
  tests::TempDir dir;
  {
    auto first = AtomicFile::Create(dir / "out.bin", false);
    ASSERT_TRUE(first);
    auto second = AtomicFile::Create(dir / "out.bin", false);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::kWrite);
    EXPECT_THAT(second.error().message, HasSubstr("another run is writing it"));
    EXPECT_TRUE(fs::exists(first->partial_path()));  // the loser did not remove the winner's
  }
  EXPECT_TRUE(AtomicFile::Create(dir / "out.bin", false));
}

TEST(AtomicFile, WhatADeadRunLeftIsTakenOver) {
  tests::TempDir dir;
  tests::WriteText(dir / ".out.bin.sluice-partial", "half of somethi");
  auto file = AtomicFile::Create(dir / "out.bin", false);
  ASSERT_TRUE(file);
  EXPECT_EQ(tests::ReadText(file->partial_path()), "");
}

TEST(AtomicFile, EveryFailureLeavesTheOldFileAndNothingElse) {
  for (WriteCall call : {WriteCall::kOpen, WriteCall::kWrite, WriteCall::kSync, WriteCall::kRename}) {
    tests::TempDir dir;
    tests::WriteText(dir / "out.json", "old");
    DiskFault fault({.call = call, .error_number = EIO});
    auto result = WriteFileAtomically(dir / "out.json", "new");
    ASSERT_FALSE(result);
    EXPECT_TRUE(fault.happened());
    EXPECT_EQ(result.error().code, ErrorCode::kWrite);
    EXPECT_THAT(Names(dir.path()), ElementsAre("out.json"));
    EXPECT_EQ(tests::ReadText(dir / "out.json"), "old");
  }
}

TEST(AtomicFile, WritesIntoWhatIsNoRegularFile) {
  EXPECT_TRUE(WriteFileAtomically("/dev/null", "text"));
  EXPECT_FALSE(fs::exists("/dev/.null.sluice-partial"));
}

TEST(AtomicFile, NamesThatCannotBe) {
  for (const char* path : {"", "/"}) {
    auto result = AtomicFile::Create(path, false);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kUsage);
  }
  auto unwritable = AtomicFile::Create("/proc/no/such/place/x", false);
  ASSERT_FALSE(unwritable);
  EXPECT_EQ(unwritable.error().code, ErrorCode::kWrite);
  EXPECT_THAT(unwritable.error().message, HasSubstr("/proc/no"));
}

}  // namespace
}  // namespace sluice::io
