#include "verify/known_digest.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "checkpoint/testing/tiny_models.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;
using tests::TempDir;
using tests::WriteText;

// Of "hello\n", by sha256sum and git hash-object.
constexpr const char* kSha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
constexpr const char* kGitSha1 = "ce013625030ba8dba906f756967f9e9ca394464a";

TEST(KnownDigestTest, OfABlobAndOfADownload) {
  TempDir dir;
  fs::create_directories(dir / "blobs");
  fs::create_directories(dir / "snapshots/c");
  fs::create_symlink(std::string("../../blobs/") + kSha256, dir / "snapshots/c/w");
  fs::create_symlink(std::string("../../other/") + kSha256, dir / "snapshots/c/v");
  fs::create_symlink("../../blobs/etag-of-somebody", dir / "snapshots/c/u");
  const auto blob = FindKnownDigest(dir / "snapshots/c", "w");
  ASSERT_TRUE(blob);
  EXPECT_EQ(blob->kind, KnownDigest::Kind::kSha256);
  EXPECT_EQ(blob->hex, kSha256);
  EXPECT_FALSE(FindKnownDigest(dir / "snapshots/c", "v"));
  EXPECT_FALSE(FindKnownDigest(dir / "snapshots/c", "u"));

  fs::create_directories(dir / "m/.cache/huggingface/download");
  WriteText(dir / "m/a.json", "hello\n");
  WriteText(dir / "m/.cache/huggingface/download/a.json.metadata", std::string("abc\n") + kGitSha1 + "\n1.0\n");
  WriteText(dir / "m/.cache/huggingface/download/b.json.metadata", "abc");
  const auto download = FindKnownDigest(dir / "m", "a.json");
  ASSERT_TRUE(download);
  EXPECT_EQ(download->kind, KnownDigest::Kind::kGitSha1);
  EXPECT_EQ(download->commit, "abc");
  EXPECT_FALSE(FindKnownDigest(dir / "m", "b.json"));
  EXPECT_FALSE(FindKnownDigest(dir / "m", "c.json"));
}

TEST(KnownDigestTest, DigestsOfAFileOfMoreThanOneBuffer) {
  TempDir dir;
  std::atomic<bool> cancelled = false;
  WriteText(dir / "a", "hello\n");
  const auto small = *io::OpenFile(dir / "a");
  EXPECT_EQ(*DigestOfFile(*small, KnownDigest::Kind::kSha256, cancelled), kSha256);
  EXPECT_EQ(*DigestOfFile(*small, KnownDigest::Kind::kGitSha1, cancelled), kGitSha1);
  WriteText(dir / "b", std::string(3'000'000, 'a'));
  const auto large = *io::OpenFile(dir / "b");
  // head -c 3000000 /dev/zero | tr '\0' a | sha256sum; the same through git hash-object
  EXPECT_EQ(*DigestOfFile(*large, KnownDigest::Kind::kSha256, cancelled),
            "2a152c894398719c0570f83fac34ac03a0f6e8e474b995c2403aa5434f7b9dd4");
  EXPECT_EQ(*DigestOfFile(*large, KnownDigest::Kind::kGitSha1, cancelled), "ae9ea2ccdaed325e1d5cdc54eb010d6908b9ffe6");
  cancelled = true;
  EXPECT_EQ(DigestOfFile(*large, KnownDigest::Kind::kSha256, cancelled).error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace sluice::verify
