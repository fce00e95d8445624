#include "kernels/sha1.h"

#include <string_view>

#include <gtest/gtest.h>

namespace sluice::kernels {
namespace {

std::span<const uint8_t> BytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string GitHash(std::string_view content) {
  Sha1 hash;
  hash.Update(BytesOf(GitBlobHeader(content.size())));
  hash.Update(BytesOf(content.substr(0, content.size() / 2)));
  hash.Update(BytesOf(content.substr(content.size() / 2)));
  return ToHex(hash.Finish());
}

TEST(Sha1, Fips180Vectors) {
  Sha1 abc;
  abc.Update(BytesOf("abc"));
  EXPECT_EQ(ToHex(abc.Finish()), "a9993e364706816aba3e25717850c26c9cd0d89d");
  Sha1 empty;
  EXPECT_EQ(ToHex(empty.Finish()), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
}

// `git hash-object` says the same.
TEST(Sha1, OfGitsBlobs) {
  EXPECT_EQ(GitHash(""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
  EXPECT_EQ(GitHash("hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
}

}  // namespace
}  // namespace sluice::kernels
