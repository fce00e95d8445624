#include "io/block_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "io/recording_source.h"

namespace sluice::io {
namespace {

struct Free {
  void operator()(uint8_t* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<uint8_t, Free>;

Buffer AlignedBuffer(uint64_t size_bytes) {
  return Buffer(static_cast<uint8_t*>(std::aligned_alloc(kBlockBytes, size_bytes)));
}

class BlockReaderTest : public testing::TestWithParam<ReaderKind> {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("sluice_block_reader_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    std::mt19937 random(1);
    for (char& byte : content_) byte = static_cast<char>(random());
    std::ofstream(path()) << content_;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ / "file"; }
  void DropFromCache() const {
    const int fd = open(path().c_str(), O_RDONLY);
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
  }

  std::unique_ptr<BlockReader> Reader() const {
    auto reader = MakeBlockReader(GetParam());
    if (!reader) return nullptr;  // io_uring may be refused to this process
    return std::move(*reader);
  }

  std::filesystem::path folder_;
  std::string content_ = std::string(40 * kBlockBytes + 1234, '\0');
};

TEST_P(BlockReaderTest, ReadsManyWindowsWarmAndColdUpToTheEndOfTheFile) {
  auto reader = Reader();
  if (reader == nullptr) GTEST_SKIP() << "no io_uring here";
  for (const bool cold : {false, true}) {
    if (cold) DropFromCache();
    auto source = OpenFile(path());
    ASSERT_TRUE(source);
    constexpr uint64_t kWindow = 2 * kBlockBytes;
    std::vector<Buffer> buffers;
    for (uint64_t begin = 0; begin < content_.size(); begin += kWindow) {
      buffers.push_back(AlignedBuffer(kWindow));
      const uint64_t needed = std::min(kWindow, content_.size() - begin);
      reader->Submit({source->get(), begin, kWindow, needed, buffers.back().get(), buffers.size() - 1});
    }
    std::vector<ReadCompletion> done;
    while (reader->in_flight() > 0) reader->Wait(true, &done);
    EXPECT_EQ(done.size(), buffers.size());
    for (const ReadCompletion& completion : done) {
      ASSERT_TRUE(completion.result) << completion.result.error().ToString();
      const uint64_t begin = completion.tag * kWindow, size = std::min(kWindow, content_.size() - begin);
      EXPECT_EQ(std::string_view(reinterpret_cast<char*>(buffers[completion.tag].get()), size),
                std::string_view(content_).substr(begin, size));
    }
  }
}

TEST_P(BlockReaderTest, AFileThatWasCutIsCorruptAndSaysWhere) {
  auto reader = Reader();
  if (reader == nullptr) GTEST_SKIP() << "no io_uring here";
  for (const bool cold : {false, true}) {
    SetUp();
    auto source = OpenFile(path());
    ASSERT_TRUE(source);
    if (cold) DropFromCache();
    std::filesystem::resize_file(path(), 5 * kBlockBytes + 100);
    const Buffer buffer = AlignedBuffer(2 * kBlockBytes);
    reader->Submit({source->get(), 4 * kBlockBytes, 2 * kBlockBytes, 2 * kBlockBytes, buffer.get(), 7});
    std::vector<ReadCompletion> done;
    while (reader->in_flight() > 0) reader->Wait(true, &done);
    ASSERT_EQ(done.size(), 1u);
    ASSERT_FALSE(done[0].result);
    EXPECT_EQ(done[0].result.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(done[0].result.error().ToString().find("ends at byte 20580"), std::string::npos)
        << done[0].result.error().ToString();
  }
}

TEST_P(BlockReaderTest, ASourceWithoutDescriptorIsReadThroughItsOwnRead) {
  auto reader = Reader();
  if (reader == nullptr) GTEST_SKIP() << "no io_uring here";
  auto file = OpenFile(path());
  ASSERT_TRUE(file);
  const RecordingSource source(*file);
  const Buffer buffer = AlignedBuffer(2 * kBlockBytes);
  reader->Submit({&source, kBlockBytes, 2 * kBlockBytes, 5000, buffer.get(), 1});
  std::vector<ReadCompletion> done;
  while (reader->in_flight() > 0) reader->Wait(true, &done);
  ASSERT_EQ(done.size(), 1u);
  ASSERT_TRUE(done[0].result);
  ASSERT_EQ(source.reads().size(), 1u);
  EXPECT_EQ(source.reads()[0].offset, kBlockBytes);
  EXPECT_EQ(source.reads()[0].size_bytes, 5000u);
}

INSTANTIATE_TEST_SUITE_P(Kinds, BlockReaderTest, testing::Values(ReaderKind::kIoUring, ReaderKind::kThreads),
                         [](const auto& info) { return info.param == ReaderKind::kIoUring ? "uring" : "threads"; });

TEST(ByteSource, NamesWhatIsMissing) {
  const auto missing = OpenFile("/nonexistent/model.safetensors");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find("/nonexistent/model.safetensors"), std::string::npos);
  const auto folder = OpenFile("/tmp");
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().code, ErrorCode::kRead);
}

TEST(RecordingSource, CountsHowOftenEachByteWasRead) {
  const std::string path = std::filesystem::temp_directory_path() / ("sluice_recording_" + std::to_string(getpid()));
  std::ofstream(path) << std::string(100, 'x');
  auto file = OpenFile(path);
  ASSERT_TRUE(file);
  const RecordingSource source(*file);
  uint8_t buffer[100];
  ASSERT_TRUE(source.Read(0, {buffer, 50}));
  ASSERT_TRUE(source.Read(40, {buffer, 20}));
  using Times = std::vector<std::pair<int, uint64_t>>;
  EXPECT_EQ(source.TimesRead(0, 100), (Times{{0, 40}, {1, 50}, {2, 10}}));
  EXPECT_EQ(source.TimesRead(45, 55), (Times{{1, 5}, {2, 5}}));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace sluice::io
