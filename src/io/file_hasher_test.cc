#include "io/file_hasher.h"

#include <filesystem>
#include <fstream>
#include <random>

#include <gtest/gtest.h>

#include "base/units.h"
#include "checkpoint/testing/tiny_models.h"

namespace sluice::io {
namespace {

using tests::TempDir;

std::string Bytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::vector<kernels::Hash256> DigestsOf(const std::vector<PieceHashes>& hashes) {
  std::vector<kernels::Hash256> digests;
  for (const PieceHashes& piece : hashes) digests.push_back(piece.digest);
  return digests;
}

struct Files {
  TempDir dir;
  std::vector<FilePiece> pieces;
  std::vector<kernels::Hash256> hashes;  // of all bytes

  void Add(size_t size) {
    const std::string path = dir / ("f" + std::to_string(pieces.size())), bytes = Bytes(size, 7 + pieces.size());
    std::ofstream(path, std::ios::binary) << bytes;
    pieces.push_back({path, 0, size});
    hashes.push_back(kernels::HashText(bytes));
  }
};

TEST(FileHasherTest, FilesOfAllSizesOnAnyThreadsInAnyMemory) {
  Files files;
  for (const size_t size : {0, 1, 63, 64, 4095, 4096, 4097, 65536, 1 << 20, (1 << 20) + 1, 5 << 20, (9 << 20) - 77}) {
    files.Add(size);
  }
  for (const int threads : {1, 2, 5, 64}) {
    for (const uint64_t limit : {uint64_t{600} * kKiB, uint64_t{5} * kMiB, uint64_t{1} * kGiB}) {
      MemoryBudget budget(limit);
      std::atomic<uint64_t> told = 0;
      const auto hashes = HashFiles(
          files.pieces, {.num_threads = threads, .budget = &budget, .progress = [&](uint64_t bytes) { told = bytes; }});
      ASSERT_TRUE(hashes) << hashes.error().ToString();
      EXPECT_EQ(DigestsOf(*hashes), files.hashes) << threads << " threads, " << limit;
      EXPECT_GT(told, 0u);
      EXPECT_EQ(budget.used_bytes(), 0u);
      EXPECT_LE(budget.peak_bytes(), limit);
    }
  }
}

TEST(FileHasherTest, PiecesOfAFileThatBeginAnywhere) {
  TempDir dir;
  const std::string bytes = Bytes(3'000'000, 1), path = dir / "f";
  std::ofstream(path, std::ios::binary) << bytes;
  std::vector<FilePiece> pieces;
  std::vector<kernels::Hash256> expected;
  for (const uint64_t size : {1'000'000, 999'999, 4096}) {
    for (uint64_t at = 0; at < bytes.size(); at += size) {
      const uint64_t end = std::min<uint64_t>(at + size, bytes.size());
      pieces.push_back({path, at, end});
      expected.push_back(kernels::HashText(std::string_view(bytes).substr(at, end - at)));
    }
  }
  const auto hashes = HashFiles(pieces, {.num_threads = 2});
  ASSERT_TRUE(hashes);
  EXPECT_EQ(DigestsOf(*hashes), expected);
}

TEST(FileHasherTest, LeavesOfTheSameRead) {
  TempDir dir;
  std::vector<FilePiece> pieces;
  std::vector<std::vector<kernels::Hash256>> expected;
  std::mt19937 random(3);
  for (int file = 0; file < 5; ++file) {
    const std::string bytes = Bytes(4'000'000 + random() % 1000, random()), path = dir / std::to_string(file);
    std::ofstream(path, std::ios::binary) << bytes;
    FilePiece piece{path, 0, bytes.size()};
    expected.emplace_back();
    // As in a safetensors file: a header, then chunks of up to 1 MiB, some of them small, sometimes a gap.
    for (uint64_t at = random() % 200; at < bytes.size();) {
      const uint64_t longest = random() % 2 == 0 ? kMiB : 1 + random() % 5000;
      const uint64_t end = std::min<uint64_t>(at + longest, bytes.size());
      piece.leaves.push_back({at, end});
      const std::string_view leaf = std::string_view(bytes).substr(at, end - at);
      expected.back().push_back(kernels::HashLeaf({reinterpret_cast<const uint8_t*>(leaf.data()), leaf.size()}));
      at = end + (random() % 4 == 0 ? random() % 100 : 0);
    }
    pieces.push_back(std::move(piece));
  }
  for (const int threads : {1, 2, 8}) {
    for (const uint64_t limit : {uint64_t{600} * kKiB, uint64_t{1} * kGiB}) {
      MemoryBudget budget(limit);
      const auto hashes = HashFiles(pieces, {.num_threads = threads, .budget = &budget});
      ASSERT_TRUE(hashes) << hashes.error().ToString();
      for (size_t i = 0; i < pieces.size(); ++i) {
        EXPECT_EQ((*hashes)[i].leaves, expected[i]) << i << ", " << threads << " threads, " << limit;
        const auto whole = HashFiles(std::vector<FilePiece>{{pieces[i].path, 0, pieces[i].end}}, {});
        EXPECT_EQ((*hashes)[i].digest, whole->front().digest);
      }
    }
  }
}

TEST(FileHasherTest, NoFilesNoHashes) {
  const auto hashes = HashFiles({}, {.num_threads = 2});
  ASSERT_TRUE(hashes);
  EXPECT_TRUE(hashes->empty());
}

TEST(FileHasherTest, Errors) {
  Files files;
  for (int i = 0; i < 4; ++i) files.Add(100'000);
  files.pieces[2].end += 1;
  auto hashes = HashFiles(files.pieces, {.num_threads = 2});
  ASSERT_FALSE(hashes);
  EXPECT_EQ(hashes.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(hashes.error().ToString().find("f2: ends at byte"), std::string::npos) << hashes.error().ToString();

  files.pieces[2].path += "x";
  hashes = HashFiles(files.pieces, {.num_threads = 2});
  ASSERT_FALSE(hashes);
  EXPECT_EQ(hashes.error().code, ErrorCode::kNotFound);

  MemoryBudget budget(100'000);
  hashes = HashFiles(files.pieces, {.num_threads = 2, .budget = &budget});
  ASSERT_FALSE(hashes);
  EXPECT_EQ(hashes.error().code, ErrorCode::kBudget);

  const std::atomic<bool> cancelled = true;
  hashes = HashFiles(files.pieces, {.num_threads = 2, .cancelled = &cancelled});
  ASSERT_FALSE(hashes);
  EXPECT_EQ(hashes.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace sluice::io
