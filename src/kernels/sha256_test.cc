#include "kernels/sha256.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>
#include <vector>

#include "kernels/sha256_ni.h"

namespace sluice::kernels {
namespace {

std::vector<uint8_t> RandomBytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

// FIPS 180-4's examples, as NIST publishes them.
TEST(Sha256, NistExamples) {
  EXPECT_EQ(ToHex(HashText("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(ToHex(HashText("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(ToHex(HashText("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(ToHex(HashText("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmn"
                           "opqrsmnopqrstnopqrstu")),
            "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(ToHex(HashText(std::string(1'000'000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, StreamingIsTheSameAtAnyCut) {
  const std::vector<uint8_t> bytes = RandomBytes(300, 1);
  const Hash256 expected = HashBytes(bytes);
  Sha256 sha;
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    sha.Update(std::span(bytes).first(cut));
    sha.Update(std::span(bytes).subspan(cut));
    ASSERT_EQ(sha.Finish(), expected);  // and it starts anew
  }
  Sha256 moved = std::move(sha);
  moved.Update(std::span(bytes));
  EXPECT_EQ(moved.Finish(), expected);
}

TEST(Sha256, PrefixesAreLittleEndianLengths) {
  Sha256 sha;
  sha.UpdateLengthPrefixed("abc");
  sha.UpdateU64(0x0102030405060708);
  sha.Update(uint8_t{9});
  const Hash256 expected =
      HashText(std::string("\x03\0\0\0\0\0\0\0abc\x08\x07\x06\x05\x04\x03\x02\x01\x09", 8 + 3 + 8 + 1));
  EXPECT_EQ(sha.Finish(), expected);
}

TEST(Sha256, LeavesAndNodesHavePrefixesOfTheirOwn) {
  const std::vector<uint8_t> bytes = RandomBytes(100, 2);
  std::vector<uint8_t> prefixed = bytes;
  prefixed.insert(prefixed.begin(), 0x00);
  EXPECT_EQ(HashLeaf(bytes), HashBytes(prefixed));
  const Hash256 left = HashText("left"), right = HashText("right");
  std::vector<uint8_t> node = {0x01};
  node.insert(node.end(), left.begin(), left.end());
  node.insert(node.end(), right.begin(), right.end());
  EXPECT_EQ(HashNode(left, right), HashBytes(node));
}

// Each way in which a message can end in its last blocks, unaligned, and the size of a digest's chunk.
TEST(Sha256, PairsEqualTwoLeaves) {
  std::vector<size_t> sizes;
  for (size_t size = 0; size <= 330; ++size) sizes.push_back(size);
  for (const size_t size : {4095, 4096, 65536 - 1, 65536, 1 << 20, (1 << 20) + 55}) sizes.push_back(size);
  const std::vector<uint8_t> a = RandomBytes((1 << 20) + 100, 3), b = RandomBytes((1 << 20) + 100, 4);
  for (const size_t size : sizes) {
    const auto in_a = std::span(a).subspan(size % 17, size), in_b = std::span(b).subspan(size % 5, size);
    Hash256 hash_a, hash_b;
    HashLeafPair(in_a, in_b, &hash_a, &hash_b);
    ASSERT_EQ(hash_a, HashLeaf(in_a)) << size;
    ASSERT_EQ(hash_b, HashLeaf(in_b)) << size;
  }
  for (const auto& [size_a, size_b] : {std::pair<size_t, size_t>{62, 63},
                                       {63, 62},
                                       {63, 64 * 5 + 63},
                                       {700, 699},
                                       {4096, 118},
                                       {118, 119},
                                       {119, 118},
                                       {65536, 1 << 20},
                                       {1 << 20, 0}}) {
    const auto in_a = std::span(a).first(size_a), in_b = std::span(b).first(size_b);
    Hash256 hash_a, hash_b;
    HashLeafPair(in_a, in_b, &hash_a, &hash_b);
    ASSERT_EQ(hash_a, HashLeaf(in_a)) << size_a << " " << size_b;
    ASSERT_EQ(hash_b, HashLeaf(in_b)) << size_a << " " << size_b;
  }
  if (!HasShaInstructions()) GTEST_SKIP() << "no SHA instructions here: pairs were two calls of libcrypto";
}

// The tree of the examples that come with Certificate Transparency's reference implementation, by number of leaves.
TEST(Sha256, Rfc9162Roots) {
  const std::vector<std::vector<uint8_t>> entries = {
      {},
      {0x00},
      {0x10},
      {0x20, 0x21},
      {0x30, 0x31},
      {0x40, 0x41, 0x42, 0x43},
      {0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57},
      {0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f}};
  const char* const roots[] = {"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                               "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                               "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
                               "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
                               "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
                               "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
                               "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
                               "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
                               "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"};
  std::vector<Hash256> leaves;
  EXPECT_EQ(ToHex(MerkleRoot(leaves)), roots[0]);
  for (size_t i = 0; i < entries.size(); ++i) {
    leaves.push_back(HashLeaf(entries[i]));
    EXPECT_EQ(ToHex(MerkleRoot(leaves)), roots[i + 1]) << i + 1 << " leaves";
  }
}

// RFC 9162's definition as it stands, for every number of leaves up to 130.
Hash256 DefinedRoot(std::span<const Hash256> leaves) {
  if (leaves.size() == 1) return leaves[0];
  size_t split = 1;
  while (split * 2 < leaves.size()) split *= 2;
  return HashNode(DefinedRoot(leaves.first(split)), DefinedRoot(leaves.subspan(split)));
}

TEST(Sha256, RootsFollowTheDefinition) {
  std::vector<Hash256> leaves;
  for (int i = 0; i < 130; ++i) {
    leaves.push_back(HashText(std::to_string(i)));
    ASSERT_EQ(MerkleRoot(leaves), DefinedRoot(leaves)) << leaves.size();
  }
}

TEST(Sha256, Hex) {
  const Hash256 hash = HashText("abc");
  Hash256 parsed;
  ASSERT_TRUE(FromHex("BA7816BF8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", &parsed));
  EXPECT_EQ(parsed, hash);
  EXPECT_FALSE(FromHex(ToHex(hash).substr(1), &parsed));
  EXPECT_FALSE(FromHex(ToHex(hash) + "0", &parsed));
  EXPECT_FALSE(FromHex("x" + ToHex(hash).substr(1), &parsed));
  EXPECT_EQ(parsed, hash);
}

TEST(Sha256, ThreadsHashAtOnce) {
  std::vector<std::thread> threads;
  std::vector<Hash256> roots(4);
  for (size_t t = 0; t < roots.size(); ++t) {
    threads.emplace_back([&, t] {
      std::vector<Hash256> leaves(33);
      for (size_t i = 0; i < leaves.size(); ++i) leaves[i] = HashText(std::to_string(i));
      roots[t] = MerkleRoot(leaves);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Hash256& root : roots) EXPECT_EQ(root, roots[0]);
}

}  // namespace
}  // namespace sluice::kernels
