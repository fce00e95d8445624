#include "io/file_stamp.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <utime.h>

#include <filesystem>

#include "checkpoint/testing/tiny_models.h"

namespace sluice::io {
namespace {

// Until the clock that stamps files has moved on.
void WaitForTheClock(const std::string& folder) {
  tests::WriteText(folder + "/clock", "");
  const auto before = StampOf(folder + "/clock")->changed_nanoseconds;
  do {
    usleep(1000);
    tests::WriteText(folder + "/clock", "");
  } while (StampOf(folder + "/clock")->changed_nanoseconds == before);
}

TEST(FileStamp, FindsWhatWasWrittenIntoEvenWithItsTimePutBack) {
  tests::TempDir dir;
  const utimbuf times{1'700'000'000, 1'700'000'000};
  tests::WriteText(dir / "x", "abc");
  ASSERT_EQ(utime((dir / "x").c_str(), &times), 0);
  const FileStamp before = StampOf(dir / "x").value();
  EXPECT_EQ(before.size_bytes, 3u);
  EXPECT_EQ(before.modified_nanoseconds, 1'700'000'000'000'000'000);
  EXPECT_EQ(StampOf(dir / "x").value(), before);
  tests::ReadText(dir / "x");
  EXPECT_EQ(StampOf(dir / "x").value(), before) << "reading is no change";
  std::filesystem::create_symlink(dir / "x", dir / "link");
  EXPECT_EQ(StampOf(dir / "link").value(), before);

  WaitForTheClock(dir.path());
  tests::WriteText(dir / "x", "abd");
  ASSERT_EQ(utime((dir / "x").c_str(), &times), 0);
  const FileStamp after = StampOf(dir / "x").value();
  EXPECT_EQ(after.size_bytes, before.size_bytes);
  EXPECT_EQ(after.modified_nanoseconds, before.modified_nanoseconds);
  EXPECT_NE(after, before);
  EXPECT_NE(after.ToString(), before.ToString());
}

TEST(FileStamp, TellsWhatIsNotThere) {
  const auto stamp = StampOf("/no/such/file");
  ASSERT_FALSE(stamp);
  EXPECT_EQ(stamp.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace sluice::io
