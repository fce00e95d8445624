#include "io/output_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdlib>
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

// The working directory, until the end of the test.
class WorkingFolder {
 public:
  explicit WorkingFolder(const std::string& path) : before_(fs::current_path()) { fs::current_path(path); }
  ~WorkingFolder() { fs::current_path(before_); }

 private:
  fs::path before_;
};

TEST(OutputFolder, AppearsWhole) {
  tests::TempDir dir;
  auto folder = OutputFolder::Create(dir / "a/out/", false);
  ASSERT_TRUE(folder) << folder.error().ToString();
  ASSERT_TRUE(folder->WriteFile("config.json", "{}"));
  EXPECT_THAT(Names(dir / "a"), ElementsAre(".out.sluice-partial"));
  ASSERT_TRUE(folder->Commit());
  EXPECT_THAT(Names(dir / "a"), ElementsAre("out"));
  EXPECT_EQ(tests::ReadText(dir / "a/out/config.json"), "{}");
}

TEST(OutputFolder, WithoutCommitNothingIsLeftNorTheParents) {
  tests::TempDir dir;
  {
    auto folder = OutputFolder::Create(dir / "a/b/out", false);
    ASSERT_TRUE(folder);
    ASSERT_TRUE(folder->WriteFile("x", "x"));
  }
  EXPECT_THAT(Names(dir.path()), IsEmpty());
}

TEST(OutputFolder, AnEmptyFolderIsTakenAndAFullOneRefused) {
  tests::TempDir dir;
  fs::create_directory(dir / "empty");
  auto empty = OutputFolder::Create(dir / "empty", false);
  ASSERT_TRUE(empty);
  ASSERT_TRUE(empty->WriteFile("x", "x"));
  EXPECT_THAT(Names(dir / "empty"), IsEmpty());
  ASSERT_TRUE(empty->Commit());
  EXPECT_THAT(Names(dir / "empty"), ElementsAre("x"));

  auto full = OutputFolder::Create(dir / "empty", false);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, ErrorCode::kOutputExists);
  EXPECT_THAT(full.error().message, HasSubstr("not empty"));
  EXPECT_THAT(full.error().message, HasSubstr("--force"));

  tests::WriteText(dir / "file", "x");
  for (bool force : {false, true}) {
    auto file = OutputFolder::Create(dir / "file", force);
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().code, ErrorCode::kOutputExists);
  }
  EXPECT_THAT(Names(dir.path()), ElementsAre("empty", "file"));
}

TEST(OutputFolder, CopiesFilesOfAnySize) {
  tests::TempDir dir;
  std::string text(2 * 1024 * 1024 + 17, 'x');
  for (size_t i = 0; i < text.size(); i += 1001) text[i] = static_cast<char>(i);
  tests::WriteText(dir / "tokenizer.json", text);
  tests::WriteText(dir / "empty", "");
  auto folder = OutputFolder::Create(dir / "out", false);
  ASSERT_TRUE(folder);
  EXPECT_EQ(folder->CopyFile("tokenizer.json", dir / "tokenizer.json").value(), text.size());
  EXPECT_EQ(folder->CopyFile("none", dir / "empty").value(), 0u);
  EXPECT_FALSE(folder->CopyFile("missing", dir / "missing"));
  ASSERT_TRUE(folder->Commit());
  EXPECT_EQ(tests::ReadText(dir / "out/tokenizer.json"), text);
  EXPECT_THAT(Names(dir / "out"), ElementsAre("none", "tokenizer.json"));
}

TEST(OutputFolder, ForceReplacesAllOfIt) {
  tests::TempDir dir;
  fs::create_directories(dir / "out/deep");
  tests::WriteText(dir / "out/old", "old");
  auto folder = OutputFolder::Create(dir / "out", true);
  ASSERT_TRUE(folder);
  ASSERT_TRUE(folder->WriteFile("new", "new"));
  EXPECT_THAT(Names(dir / "out"), ElementsAre("deep", "old"));
  ASSERT_TRUE(folder->Commit());
  EXPECT_THAT(Names(dir / "out"), ElementsAre("new"));
  EXPECT_THAT(Names(dir.path()), ElementsAre("out"));
}

TEST(OutputFolder, ForceWithoutAnythingThereIsNoForce) {
  tests::TempDir dir;
  fs::create_directory(dir / "empty");
  for (const char* name : {"empty", "missing"}) {
    auto folder = OutputFolder::Create(dir / name, true);
    ASSERT_TRUE(folder);
    ASSERT_TRUE(folder->WriteFile("new", "new"));
    ASSERT_TRUE(folder->Commit());
    EXPECT_THAT(Names(dir / name), ElementsAre("new"));
  }
}

TEST(OutputFolder, WhereNamesCannotBeSwappedForceTakesTwoSteps) {
  tests::TempDir dir;
  fs::create_directory(dir / "out");
  tests::WriteText(dir / "out/old", "old");
  {
    auto folder = OutputFolder::Create(dir / "out", true);
    ASSERT_TRUE(folder);
    ASSERT_TRUE(folder->WriteFile("new", "new"));
    DiskFault fault({.call = WriteCall::kRename, .error_number = EINVAL, .once = true});
    ASSERT_TRUE(folder->Commit());
    EXPECT_TRUE(fault.happened());
  }
  EXPECT_THAT(Names(dir / "out"), ElementsAre("new"));
  EXPECT_THAT(Names(dir.path()), ElementsAre("out"));
}

// Passes the first rename (with `first` as its result) and fails the third: the one that gives the name in two steps.
class SecondStepFails final : public WriteFaults {
 public:
  SecondStepFails() { SetWriteFaults(this); }
  ~SecondStepFails() override { SetWriteFaults(nullptr); }
  int Before(WriteCall call, const std::string&) override {
    if (call != WriteCall::kRename) return 0;
    ++renames_;
    return renames_ == 1 ? EINVAL : renames_ == 3 ? EIO : 0;
  }

 private:
  int renames_ = 0;
};

TEST(OutputFolder, WhereTheSecondStepFailsTheOldFolderIsBack) {
  tests::TempDir dir;
  fs::create_directory(dir / "out");
  tests::WriteText(dir / "out/old", "old");
  {
    auto folder = OutputFolder::Create(dir / "out", true);
    ASSERT_TRUE(folder);
    SecondStepFails faults;
    EXPECT_FALSE(folder->Commit());
  }
  EXPECT_THAT(Names(dir / "out"), ElementsAre("old"));
  EXPECT_THAT(Names(dir.path()), ElementsAre("out"));
}

TEST(OutputFolder, EveryFailureLeavesWhatWasThereAndNothingElse) {
  for (WriteCall call :
       {WriteCall::kMakeFolder, WriteCall::kOpen, WriteCall::kWrite, WriteCall::kSync, WriteCall::kRename}) {
    for (bool there : {false, true}) {
      tests::TempDir dir;
      if (there) {
        fs::create_directory(dir / "out");
        tests::WriteText(dir / "out/old", "old");
      }
      DiskFault fault({.call = call, .error_number = EIO});
      const Result<void> result = [&]() -> Result<void> {
        SLUICE_ASSIGN(OutputFolder folder, OutputFolder::Create(dir / "out", true));
        SLUICE_TRY(folder.WriteFile("new", "new"));
        return folder.Commit();
      }();
      ASSERT_FALSE(result);
      EXPECT_TRUE(fault.happened());
      EXPECT_EQ(result.error().code, ErrorCode::kWrite);
      EXPECT_THAT(result.error().message, HasSubstr("out"));
      if (there) {
        EXPECT_THAT(Names(dir.path()), ElementsAre("out"));
        EXPECT_THAT(Names(dir / "out"), ElementsAre("old"));
      } else {
        EXPECT_THAT(Names(dir.path()), IsEmpty());
      }
    }
  }
}

class RecordedCalls final : public WriteFaults {
 public:
  RecordedCalls() { SetWriteFaults(this); }
  ~RecordedCalls() override { SetWriteFaults(nullptr); }
  int Before(WriteCall call, const std::string& path) override {
    if (call == WriteCall::kSync) calls.push_back("sync " + fs::path(path).filename().string());
    if (call == WriteCall::kRename) calls.push_back("rename to " + fs::path(path).filename().string());
    return 0;
  }
  std::vector<std::string> calls;
};

TEST(OutputFolder, TheNameIsGivenWhenAllIsOnTheDisk) {
  tests::TempDir dir;
  fs::create_directory(dir / "in");
  RecordedCalls recorded;
  auto folder = OutputFolder::Create(dir / "in/out", false);
  ASSERT_TRUE(folder);
  ASSERT_TRUE(folder->WriteFile("x", "x"));
  ASSERT_TRUE(folder->Commit());
  EXPECT_THAT(recorded.calls, ElementsAre("sync x", "sync .out.sluice-partial", "rename to out", "sync in"));
}

TEST(OutputFolder, AReadOnlyPlaceIsNamed) {
  tests::TempDir dir;
  DiskFault fault({.call = WriteCall::kMakeFolder, .error_number = EROFS});
  auto folder = OutputFolder::Create(dir / "out", false);
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().code, ErrorCode::kWrite);
  EXPECT_THAT(folder.error().message, HasSubstr(dir / ".out"));
  EXPECT_THAT(folder.error().message, HasSubstr("Read-only"));
}

TEST(OutputFolder, TwoRunsCannotShareAName) {
  tests::TempDir dir;
  auto first = OutputFolder::Create(dir / "out", false);
  ASSERT_TRUE(first);
  ASSERT_TRUE(first->WriteFile("x", "x"));
  auto second = OutputFolder::Create(dir / "out", false);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kWrite);
  EXPECT_THAT(second.error().message, HasSubstr("another run is writing it"));
  ASSERT_TRUE(first->Commit());
  EXPECT_EQ(tests::ReadText(dir / "out/x"), "x");
}

TEST(OutputFolder, WhatADeadRunLeftIsRemoved) {
  tests::TempDir dir;
  fs::create_directories(dir / ".out.sluice-partial/deep");
  tests::WriteText(dir / ".out.sluice-partial/model.safetensors", "half");
  auto folder = OutputFolder::Create(dir / "out", false);
  ASSERT_TRUE(folder);
  ASSERT_TRUE(folder->WriteFile("x", "x"));
  ASSERT_TRUE(folder->Commit());
  EXPECT_THAT(Names(dir / "out"), ElementsAre("x"));
  EXPECT_THAT(Names(dir.path()), ElementsAre("out"));
}

TEST(OutputFolder, WhatAppearsUnderTheNameMeanwhileStays) {
  tests::TempDir dir;
  {
    auto folder = OutputFolder::Create(dir / "out", false);
    ASSERT_TRUE(folder);
    fs::create_directory(dir / "out");
    tests::WriteText(dir / "out/mine", "mine");
    auto result = folder->Commit();
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kOutputExists);
  }
  EXPECT_THAT(Names(dir / "out"), ElementsAre("mine"));
  EXPECT_THAT(Names(dir.path()), ElementsAre("out"));
}

TEST(OutputFolder, TheWorkingDirectoryIsFilledFromInside) {
  tests::TempDir dir;
  fs::create_directory(dir / "here");
  WorkingFolder working(dir / "here");
  {
    auto folder = OutputFolder::Create(".", false);
    ASSERT_TRUE(folder) << folder.error().ToString();
    ASSERT_TRUE(folder->WriteFile("x", "x"));
    EXPECT_THAT(Names("."), ElementsAre(".sluice-partial"));
  }
  EXPECT_THAT(Names("."), IsEmpty());
  fs::create_directory(".sluice-partial");  // of a dead run
  tests::WriteText(".sluice-partial/half", "half");
  auto folder = OutputFolder::Create(".", false);
  ASSERT_TRUE(folder);
  for (const char* name : {"model.safetensors.index.json", "model-00001-of-00002.safetensors", "config.json"}) {
    ASSERT_TRUE(folder->WriteFile(name, name));
  }
  ASSERT_TRUE(folder->Commit());
  EXPECT_THAT(Names(dir / "here"),
              ElementsAre("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"));
}

TEST(OutputFolder, FilledFromInsideTheIndexComesLastAndAFailureLeavesNothing) {
  tests::TempDir dir;
  WorkingFolder working(dir.path());
  {
    auto folder = OutputFolder::Create(".", false);
    ASSERT_TRUE(folder);
    for (const char* name : {"a.index.json", "b", "c"}) ASSERT_TRUE(folder->WriteFile(name, name));
    DiskFault fault({.call = WriteCall::kRename, .nth = 3, .error_number = EIO});
    auto result = folder->Commit();
    ASSERT_FALSE(result);
    EXPECT_THAT(result.error().message, HasSubstr("a.index.json"));
  }
  EXPECT_THAT(Names("."), IsEmpty());
}

OutputFolder::Options Journaled() { return {.journal = "journal"}; }

// What a run that was killed leaves: no destructor has run.
void LeaveUnfinished(const std::string& path) {
  auto folder = OutputFolder::Create(path, Journaled());
  ASSERT_TRUE(folder);
  for (const char* name : {"journal", "a", "b.index.json"}) ASSERT_TRUE(folder->WriteFile(name, name));
  ASSERT_TRUE(folder->SyncEntries());
  folder->Keep(true);
}

TEST(OutputFolder, WithItsJournalAnUnfinishedFolderIsKept) {
  tests::TempDir dir;
  LeaveUnfinished(dir / "out");
  {
    auto folder = OutputFolder::Create(dir / "out", Journaled());
    ASSERT_TRUE(folder);
    EXPECT_TRUE(folder->has_leftover());
    EXPECT_THAT(Names(folder->partial_path()), ElementsAre("a", "b.index.json", "journal"));
  }
  EXPECT_THAT(Names(dir.path()), ElementsAre(".out.sluice-partial"));
  {
    auto folder = OutputFolder::Create(dir / "out", Journaled());
    ASSERT_TRUE(folder);
    ASSERT_TRUE(folder->Clear());
    EXPECT_FALSE(folder->has_leftover());
    EXPECT_THAT(Names(folder->partial_path()), IsEmpty());
  }
  EXPECT_THAT(Names(dir.path()), IsEmpty());
  LeaveUnfinished(dir / "out");
  auto folder = OutputFolder::Create(dir / "out", Journaled());
  ASSERT_TRUE(folder);
  ASSERT_TRUE(folder->Commit());
  EXPECT_THAT(Names(dir / "out"), ElementsAre("a", "b.index.json"));
  EXPECT_THAT(Names(dir.path()), ElementsAre("out"));
}

TEST(OutputFolder, AFinishedFolderWithItsJournalIsTakenBack) {
  tests::TempDir dir;
  fs::create_directory(dir / "out");
  for (const char* name : {"journal", "a"}) tests::WriteText(dir / "out/" + name, name);
  EXPECT_FALSE(OutputFolder::Create(dir / "out", Journaled()));  // it is full
  fs::create_directory(dir / ".out.sluice-partial");             // what it had replaced
  tests::WriteText(dir / ".out.sluice-partial/old", "old");
  OutputFolder::Options options = Journaled();
  options.take_back = true;
  auto folder = OutputFolder::Create(dir / "out", options);
  ASSERT_TRUE(folder) << folder.error().ToString();
  EXPECT_TRUE(folder->has_leftover());
  EXPECT_FALSE(fs::exists(dir / "out"));
  ASSERT_TRUE(folder->Commit());
  EXPECT_THAT(Names(dir / "out"), ElementsAre("a"));
  EXPECT_THAT(Names(dir.path()), ElementsAre("out"));
}

TEST(OutputFolder, BetweenTheTwoStepsOfAReplacementTheOldOneComesBack) {
  tests::TempDir dir;
  fs::create_directory(dir / ".out.sluice-old");
  tests::WriteText(dir / ".out.sluice-old/old", "old");
  LeaveUnfinished(dir / "new");
  fs::rename(dir / ".new.sluice-partial", dir / ".out.sluice-partial");
  EXPECT_FALSE(OutputFolder::Create(dir / "out", Journaled()));
  EXPECT_THAT(Names(dir / "out"), ElementsAre("old"));
  OutputFolder::Options options = Journaled();
  options.force = true;
  auto folder = OutputFolder::Create(dir / "out", options);
  ASSERT_TRUE(folder);
  EXPECT_TRUE(folder->has_leftover());
  ASSERT_TRUE(folder->Commit());
  EXPECT_THAT(Names(dir / "out"), ElementsAre("a", "b.index.json"));
  EXPECT_THAT(Names(dir.path()), ElementsAre("out"));
}

TEST(OutputFolder, FilledFromInsideWhatHadMovedUpIsReclaimed) {
  tests::TempDir dir;
  WorkingFolder working(dir.path());
  LeaveUnfinished(".");
  fs::rename(".sluice-partial/a", "a");  // it ended while it moved its files up
  EXPECT_FALSE(OutputFolder::Create(".", Journaled()));
  OutputFolder::Options options = Journaled();
  options.resume = true;
  auto folder = OutputFolder::Create(".", options);
  ASSERT_TRUE(folder) << folder.error().ToString();
  EXPECT_TRUE(folder->has_leftover());
  ASSERT_TRUE(folder->Reclaim("a"));
  ASSERT_TRUE(folder->Reclaim("b.index.json"));
  EXPECT_THAT(Names("."), ElementsAre(".sluice-partial"));
  ASSERT_TRUE(folder->Commit());
  EXPECT_THAT(Names("."), ElementsAre("a", "b.index.json"));
}

TEST(OutputFolder, ForceSparesWhatNobodyMeansToReplace) {
  tests::TempDir dir;
  fs::create_directories(dir / "home/desk");
  tests::WriteText(dir / "home/desk/x", "x");
  WorkingFolder working(dir / "home/desk");
  for (const std::string& path : {std::string("."), dir / "home", dir / "home/desk"}) {
    auto folder = OutputFolder::Create(path, true);
    ASSERT_FALSE(folder) << path;
    EXPECT_EQ(folder.error().code, ErrorCode::kOutputExists);
  }
  fs::current_path("/");
  const char* home = std::getenv("HOME");
  const std::string before = home == nullptr ? "" : home;
  setenv("HOME", (dir / "home").c_str(), 1);
  auto folder = OutputFolder::Create(dir / "home", true);
  setenv("HOME", before.c_str(), 1);
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().code, ErrorCode::kOutputExists);
}

TEST(OutputFolder, AnEmptyMountPointIsFilledFromInside) {
  tests::TempDir dir;
  fs::create_directory(dir / "volume");
  if (mount("tmpfs", (dir / "volume").c_str(), "tmpfs", 0, "size=1m") != 0) GTEST_SKIP() << "may not mount";
  fs::create_directory(dir / "volume/lost+found");
  {
    auto folder = OutputFolder::Create(dir / "volume", false);
    EXPECT_TRUE(folder);
    if (folder) {
      EXPECT_TRUE(folder->WriteFile("x", "x"));
      EXPECT_TRUE(folder->Commit());
    }
  }
  EXPECT_THAT(Names(dir / "volume"), ElementsAre("lost+found", "x"));
  umount((dir / "volume").c_str());
}

}  // namespace
}  // namespace sluice::io
