#include "io/block_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "base/units.h"
#include "checkpoint/testing/tiny_models.h"
#include "io/testing/disk_faults.h"

namespace sluice::io {
namespace {

using ::testing::HasSubstr;
using tests::DiskFault;

constexpr uint64_t kSmall = 64 * kKiB;

std::string Noise(uint64_t size_bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::string noise(size_bytes, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  return noise;
}

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// In pieces of a seeded random size up to `most`.
Result<void> AppendInPieces(BlockWriter* writer, std::string_view text, uint64_t most, uint32_t seed) {
  std::mt19937 random(seed);
  while (!text.empty()) {
    const uint64_t n = std::min<uint64_t>(text.size(), 1 + random() % most);
    SLUICE_TRY(writer->Append(Bytes(text.substr(0, n))));
    text.remove_prefix(n);
  }
  return {};
}

class BlockWriterModes : public ::testing::TestWithParam<bool> {};

TEST_P(BlockWriterModes, WritesEverySizeAsItIs) {
  tests::TempDir dir;
  BlockWriter writer({.buffer_bytes = kSmall, .allow_direct = GetParam()});
  const std::vector<uint64_t> sizes = {0,      1,          4095,       4096,           4097,       kSmall - 1,
                                       kSmall, kSmall + 1, 3 * kSmall, 3 * kSmall + 1, 4 * kSmall, 7 * kSmall + 4099};
  uint64_t total = 0;
  for (uint64_t size : sizes) {
    ASSERT_TRUE(writer.Begin(dir / std::to_string(size)));
    ASSERT_TRUE(AppendInPieces(&writer, Noise(size, static_cast<uint32_t>(size)), 3 * kSmall, 7));
    ASSERT_TRUE(writer.End());
    total += size;
  }
  ASSERT_TRUE(writer.Finish());
  for (uint64_t size : sizes) {
    EXPECT_EQ(tests::ReadText(dir / std::to_string(size)), Noise(size, static_cast<uint32_t>(size))) << size;
  }
  EXPECT_EQ(writer.stats().written_bytes, total);
  EXPECT_EQ(writer.stats().files, sizes.size());
  if (!GetParam()) {
    EXPECT_FALSE(writer.stats().direct);
  }
}

TEST_P(BlockWriterModes, AReservedFileGetsItsOwnSize) {
  tests::TempDir dir;
  ASSERT_TRUE(CreateAllocated(dir / "x", 10 * kSmall));
  const std::string text = Noise(2 * kSmall + 5, 1);
  BlockWriter writer({.buffer_bytes = kSmall, .allow_direct = GetParam()});
  ASSERT_TRUE(writer.Begin(dir / "x"));
  ASSERT_TRUE(writer.Append(Bytes(text)));
  ASSERT_TRUE(writer.End());
  ASSERT_TRUE(writer.Finish());
  EXPECT_EQ(tests::ReadText(dir / "x"), text);
}

TEST_P(BlockWriterModes, GoesOnInTheMiddleOfAFile) {
  tests::TempDir dir;
  const std::string text = Noise(5 * kSmall + 77, 1), other = Noise(5 * kSmall + 77, 2);
  for (const uint64_t at :
       {uint64_t{0}, uint64_t{1}, uint64_t{4095}, uint64_t{4096}, kSmall, 3 * kSmall + 5000, text.size()}) {
    tests::WriteText(dir / "x", text + std::string(9000, 'x'));
    BlockWriter writer({.buffer_bytes = kSmall, .allow_direct = GetParam()});
    ASSERT_TRUE(writer.Begin(dir / "x", at));
    ASSERT_TRUE(AppendInPieces(&writer, std::string_view(other).substr(at), 30'000, 1));
    ASSERT_TRUE(writer.End());
    ASSERT_TRUE(writer.Finish());
    EXPECT_EQ(tests::ReadText(dir / "x"), text.substr(0, at) + other.substr(at)) << at;
  }
}

// SyncWritten never tells of more than is there, and of all in the end.
TEST_P(BlockWriterModes, TellsHowFarItIsOnTheDisk) {
  tests::TempDir dir;
  const std::string text = Noise(kSmall, 1);
  BlockWriter writer({.buffer_bytes = kSmall, .allow_direct = GetParam()});
  SyncedUpTo last;
  const auto check = [&](uint64_t file, uint64_t offset) {
    auto synced = writer.SyncWritten();
    ASSERT_TRUE(synced);
    EXPECT_LE(std::pair(synced->file, synced->offset_bytes), std::pair(file, offset));
    EXPECT_GE(std::pair(synced->file, synced->offset_bytes), std::pair(last.file, last.offset_bytes));
    last = *synced;
    if (last.offset_bytes > 0) {
      const std::string there = tests::ReadText(dir / std::to_string(last.file));
      ASSERT_GE(there.size(), last.offset_bytes);
      for (uint64_t at = 0; at < last.offset_bytes; at += kSmall) EXPECT_EQ(there.substr(at, kSmall), text);
    }
  };
  for (uint64_t file = 0; file < 4; ++file) {
    ASSERT_TRUE(writer.Begin(dir / std::to_string(file)));
    for (uint64_t i = 1; i <= 10; ++i) {
      ASSERT_TRUE(writer.Append(Bytes(text)));
      check(file, i * kSmall);
    }
    ASSERT_TRUE(writer.End());
    check(file + 1, 0);
  }
  ASSERT_TRUE(writer.Finish());
  check(4, 0);
  EXPECT_EQ(last.file, 4u);
}

// Keeps the first file from being closed for as long as it lives.
class SlowClose final : public WriteFaults {
 public:
  SlowClose() { SetWriteFaults(this); }
  ~SlowClose() override { SetWriteFaults(nullptr); }
  int Before(WriteCall call, const std::string& path) override {
    if (call == WriteCall::kTruncate && path.ends_with("/0")) {
      while (!released) std::this_thread::yield();
    }
    if (call == WriteCall::kSync && path.ends_with("/1")) ++closed;
    return 0;
  }
  std::atomic<bool> released = false;
  std::atomic<int> closed = 0;
};

// Two threads close files: the second may be done before the first.
TEST_P(BlockWriterModes, AFileIsNotPassedOverForOneThatIsClosedBeforeIt) {
  tests::TempDir dir;
  SlowClose slow;
  BlockWriter writer({.buffer_bytes = kSmall, .allow_direct = GetParam()});
  for (const char* name : {"0", "1", "2"}) {
    ASSERT_TRUE(writer.Begin(dir / name));
    ASSERT_TRUE(writer.Append(Bytes(Noise(1000, 1))));
    ASSERT_TRUE(writer.End());
  }
  while (slow.closed == 0) std::this_thread::yield();
  for (int i = 0; i < 20; ++i) {  // the second is out of the list a moment after its sync
    const auto synced = writer.SyncWritten();
    ASSERT_TRUE(synced);
    EXPECT_EQ(synced->file, 0u);
    EXPECT_LE(synced->offset_bytes, 1000u);
    usleep(1000);
  }
  slow.released = true;
  ASSERT_TRUE(writer.Finish());
  EXPECT_EQ(writer.SyncWritten()->file, 3u);
}

TEST_P(BlockWriterModes, AfterAFailedWriteWhatCameBeforeIsKept) {
  tests::TempDir dir;
  DiskFault fault({.nth = 4, .error_number = ENOSPC});
  BlockWriter writer({.buffer_bytes = kSmall, .allow_direct = GetParam()});
  ASSERT_TRUE(writer.Begin(dir / "x"));
  Result<void> result;
  for (int i = 0; i < 100 && result; ++i) result = writer.Append(Bytes(Noise(kSmall, 1)));
  ASSERT_FALSE(result);
  auto synced = writer.SyncWritten();
  ASSERT_TRUE(synced);
  EXPECT_EQ(synced->file, 0u);
  EXPECT_LE(synced->offset_bytes, 4 * kSmall);
  // The fourth call is the third write, behind the file's opening; the second may be under way beside it.
  EXPECT_GE(synced->offset_bytes, kSmall);
}

// The kernel may drop what it could not write and call the next sync good.
TEST_P(BlockWriterModes, AfterAFailedSyncNothingIsKnown) {
  tests::TempDir dir;
  BlockWriter writer({.buffer_bytes = kSmall, .allow_direct = GetParam()});
  ASSERT_TRUE(writer.Begin(dir / "x"));
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(writer.Append(Bytes(Noise(kSmall, 1))));
  {
    DiskFault fault({.call = WriteCall::kSync, .error_number = EIO});
    EXPECT_FALSE(writer.SyncWritten());
  }
  EXPECT_FALSE(writer.SyncWritten());
  EXPECT_FALSE(writer.End());
  EXPECT_FALSE(writer.Finish());
}

TEST_P(BlockWriterModes, AFullDiskEndsItForGood) {
  tests::TempDir dir;
  DiskFault fault({.nth = 3, .error_number = ENOSPC});
  BlockWriter writer({.buffer_bytes = kSmall, .allow_direct = GetParam()});
  ASSERT_TRUE(writer.Begin(dir / "x"));
  const std::string text = Noise(kSmall, 1);
  Result<void> result;
  int appended = 0;
  for (; appended < 1000 && result; ++appended) result = writer.Append(Bytes(text));
  ASSERT_FALSE(result);
  // Told while writing: at most the buffers' worth after the write that failed.
  EXPECT_LE(appended, 3 + BlockWriter::kNumBuffers + 1);
  EXPECT_EQ(result.error().code, ErrorCode::kWrite);
  EXPECT_THAT(result.error().message, HasSubstr((dir / "x") + ": writing at byte "));
  EXPECT_THAT(result.error().message, HasSubstr("No space left"));
  EXPECT_FALSE(writer.Append(Bytes(Noise(kSmall * 8, 1))));
  EXPECT_FALSE(writer.End());
  EXPECT_FALSE(writer.Finish());
  EXPECT_FALSE(writer.Begin(dir / "y"));
}

TEST_P(BlockWriterModes, FailuresAtTheEndOfAFileAreTold) {
  for (WriteCall call : {WriteCall::kOpen, WriteCall::kTruncate, WriteCall::kSync}) {
    tests::TempDir dir;
    DiskFault fault({.call = call, .error_number = EIO});
    BlockWriter writer({.buffer_bytes = kSmall, .allow_direct = GetParam()});
    const Result<void> result = [&]() -> Result<void> {
      SLUICE_TRY(writer.Begin(dir / "x"));
      SLUICE_TRY(writer.Append(Bytes("abc")));
      SLUICE_TRY(writer.End());
      return writer.Finish();
    }();
    ASSERT_FALSE(result) << static_cast<int>(call);
    EXPECT_THAT(result.error().message, HasSubstr(dir / "x"));
  }
}

INSTANTIATE_TEST_SUITE_P(DirectAndBuffered, BlockWriterModes, ::testing::Bool());

TEST(BlockWriter, GoesThroughThePageCacheWhereTheDiskRefusesDirectWrites) {
  tests::TempDir dir;
  DiskFault fault({.nth = 1, .error_number = EINVAL, .once = true});
  const std::string text = Noise(3 * kSmall + 17, 1);
  BlockWriter writer({.buffer_bytes = kSmall});
  ASSERT_TRUE(writer.Begin(dir / "x"));
  ASSERT_TRUE(writer.Append(Bytes(text)));
  ASSERT_TRUE(writer.End());
  auto finished = writer.Finish();
  EXPECT_TRUE(fault.happened());
  if (!finished) GTEST_SKIP() << "this file system takes no O_DIRECT at all, so the fault hit the buffered write";
  EXPECT_EQ(tests::ReadText(dir / "x"), text);
  EXPECT_FALSE(writer.stats().direct);
}

TEST(BlockWriter, CanBeAbandonedAtAnyTime) {
  tests::TempDir dir;
  for (int blocks : {0, 1, 2, 5}) {
    BlockWriter writer({.buffer_bytes = kSmall});
    ASSERT_TRUE(writer.Begin(dir / "x"));
    for (int i = 0; i < blocks; ++i) ASSERT_TRUE(writer.Append(Bytes(Noise(kSmall, 1))));
  }
}

TEST(BlockWriter, SaysWhatItHolds) {
  EXPECT_EQ(BlockWriter().memory_bytes(), 8 * kMiB);
  EXPECT_EQ(BlockWriter({.buffer_bytes = kSmall}).memory_bytes(), BlockWriter::kNumBuffers * kSmall);
}

}  // namespace
}  // namespace sluice::io
