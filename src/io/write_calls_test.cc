#include "io/write_calls.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/units.h"
#include "checkpoint/testing/tiny_models.h"
#include "io/testing/disk_faults.h"

namespace sluice::io {
namespace {

using ::testing::HasSubstr;
using tests::DiskFault;

TEST(WriteCalls, AFullDiskIsToldBeforeTheWork) {
  tests::TempDir dir;
  EXPECT_TRUE(CheckFreeSpace(dir.path(), 4096));
  auto too_much = CheckFreeSpace(dir.path(), uint64_t{1} << 62);
  ASSERT_FALSE(too_much);
  EXPECT_EQ(too_much.error().code, ErrorCode::kWrite);

  DiskFault fault({.nth = 0, .free_bytes = 3'100'000'000});
  EXPECT_TRUE(CheckFreeSpace(dir.path(), 3'100'000'000));
  auto result = CheckFreeSpace(dir.path(), 14'200'000'000);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("needs 14.2 GB, 3.10 GB free"));
  EXPECT_THAT(result.error().message, HasSubstr(dir.path()));
}

TEST(WriteCalls, SpaceIsReserved) {
  tests::TempDir dir;
  ASSERT_TRUE(CreateAllocated(dir / "x", 3 * kMiB));
  struct stat status;
  ASSERT_EQ(stat((dir / "x").c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 3 * static_cast<int64_t>(kMiB));
  if (status.st_blocks == 0) GTEST_SKIP() << "this file system does not reserve";
  EXPECT_GE(status.st_blocks * 512, 3 * static_cast<int64_t>(kMiB));
}

TEST(WriteCalls, WhereTheFileSystemCannotReserveTheFileIsMadeAnyway) {
  tests::TempDir dir;
  DiskFault fault({.call = WriteCall::kAllocate, .error_number = EOPNOTSUPP});
  ASSERT_TRUE(CreateAllocated(dir / "x", 3 * kMiB));
  EXPECT_TRUE(fault.happened());
  EXPECT_TRUE(std::filesystem::exists(dir / "x"));
}

TEST(WriteCalls, ReservingOnAFullDiskSaysWhatIsNeededAndFree) {
  tests::TempDir dir;
  DiskFault fault({.call = WriteCall::kAllocate, .error_number = ENOSPC, .free_bytes = 1'000'000});
  auto result = CreateAllocated(dir / "x", 5'000'000'000);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kWrite);
  EXPECT_THAT(result.error().message, HasSubstr("needs 5.00 GB, 1.00 MB free"));
}

TEST(WriteCalls, ErrorsNameThePathAndSayWhatToDo) {
  EXPECT_THAT(WriteError("/a/b", "writing", EROFS).message, HasSubstr("/a/b: writing: Read-only file system: choose"));
  EXPECT_THAT(WriteError("/a/b", "writing", ENOSPC).message, HasSubstr("free some space"));
  auto result = OpenToWrite("/proc/no/such/file", O_WRONLY | O_CREAT);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kWrite);
  EXPECT_THAT(result.error().message, HasSubstr("/proc/no/such/file"));
}

TEST(WriteCalls, ANewFileDoesNotReplaceAnOldOne) {
  tests::TempDir dir;
  ASSERT_TRUE(CreateFile(dir / "x", "one"));
  EXPECT_FALSE(CreateFile(dir / "x", "two"));
  EXPECT_EQ(tests::ReadText(dir / "x"), "one");
}

TEST(WriteCalls, SwapsTwoFolders) {
  tests::TempDir dir;
  std::filesystem::create_directory(dir / "a");
  std::filesystem::create_directory(dir / "b");
  tests::WriteText(dir / "a/x", "in a");
  auto result = Exchange(dir / "a", dir / "b");
  if (!result && result.error().code == ErrorCode::kUnsupported) GTEST_SKIP() << result.error().message;
  ASSERT_TRUE(result);
  EXPECT_EQ(tests::ReadText(dir / "b/x"), "in a");
}

}  // namespace
}  // namespace sluice::io
