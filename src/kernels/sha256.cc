#include "kernels/sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "kernels/sha256_ni.h"

namespace sluice::kernels {
namespace {

// Looking an algorithm up takes locks and longer than hashing a node: once for the process.
const EVP_MD* Algorithm() {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  SLUICE_CHECK(algorithm != nullptr);
  return algorithm;
}

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using ContextPointer = std::unique_ptr<EVP_MD_CTX, FreeContext>;

void Start(EVP_MD_CTX* context) { SLUICE_CHECK(EVP_DigestInit_ex2(context, Algorithm(), nullptr) == 1); }

ContextPointer NewContext() {
  ContextPointer context(EVP_MD_CTX_new());
  SLUICE_CHECK(context != nullptr);
  Start(context.get());
  return context;
}

// SHA-256 of up to three parts, one after the other.
Hash256 HashParts(std::span<const uint8_t> a, std::span<const uint8_t> b = {}, std::span<const uint8_t> c = {}) {
  thread_local const ContextPointer context = NewContext();
  Start(context.get());
  for (const std::span<const uint8_t> part : {a, b, c}) {
    if (!part.empty()) SLUICE_CHECK(EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1);
  }
  Hash256 hash;
  SLUICE_CHECK(EVP_DigestFinal_ex(context.get(), hash.data(), nullptr) == 1);
  return hash;
}

constexpr uint8_t kLeafPrefix[1] = {0x00}, kNodePrefix[1] = {0x01};  // RFC 9162, section 2.1.1

std::span<const uint8_t> BytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// A leaf's message is 0x00 | bytes, so a block of it begins a byte before a multiple of 64 of the bytes: all blocks but
// the first and the last one or two are read where they lie. Fills `blocks` with the last ones, and returns how many
// they are.
uint64_t LastBlocks(std::span<const uint8_t> rest, uint64_t message_bytes, uint8_t blocks[128]) {
  const uint64_t count = rest.size() + 9 <= 64 ? 1 : 2;
  std::memset(blocks, 0, 128);
  std::copy(rest.begin(), rest.end(), blocks);
  blocks[rest.size()] = 0x80;
  const uint64_t bits = message_bytes * 8;
  for (int i = 0; i < 8; ++i) blocks[64 * count - 1 - i] = static_cast<uint8_t>(bits >> (8 * i));
  return count;
}

void StoreBigEndian(const uint32_t state[8], Hash256* hash) {
  for (int i = 0; i < 32; ++i) (*hash)[i] = static_cast<uint8_t>(state[i / 4] >> (24 - 8 * (i % 4)));
}

constexpr uint64_t kFirstBytes = 63;  // of a leaf in the first block of its message

// A leaf of kFirstBytes or more as the blocks of its message.
struct Leaf {
  // FIPS 180-4, 5.3.3.
  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  uint8_t first[64] = {kLeafPrefix[0]};
  const uint8_t* whole;
  uint64_t whole_blocks, last_blocks;
  uint8_t last[128];

  explicit Leaf(std::span<const uint8_t> bytes)
      : whole(bytes.data() + kFirstBytes), whole_blocks((bytes.size() - kFirstBytes) / 64) {
    std::copy_n(bytes.begin(), kFirstBytes, first + 1);
    last_blocks = LastBlocks(bytes.subspan(kFirstBytes + 64 * whole_blocks), bytes.size() + 1, last);
  }
};

}  // namespace

struct Sha256::Context {
  ContextPointer context = NewContext();
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::Update(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return;
  SLUICE_CHECK(EVP_DigestUpdate(context_->context.get(), bytes.data(), bytes.size()) == 1);
}
void Sha256::Update(std::string_view text) { Update(BytesOf(text)); }
void Sha256::Update(uint8_t byte) { Update(std::span<const uint8_t>(&byte, 1)); }

void Sha256::UpdateU64(uint64_t value) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));
  Update(bytes);
}

void Sha256::UpdateLengthPrefixed(std::string_view text) {
  UpdateU64(text.size());
  Update(text);
}

Hash256 Sha256::Finish() {
  Hash256 hash;
  SLUICE_CHECK(EVP_DigestFinal_ex(context_->context.get(), hash.data(), nullptr) == 1);
  Start(context_->context.get());
  return hash;
}

Hash256 HashBytes(std::span<const uint8_t> bytes) { return HashParts(bytes); }
Hash256 HashText(std::string_view text) { return HashParts(BytesOf(text)); }
Hash256 HashLeaf(std::span<const uint8_t> bytes) { return HashParts(kLeafPrefix, bytes); }
Hash256 HashNode(const Hash256& left, const Hash256& right) { return HashParts(kNodePrefix, left, right); }

void HashLeafPair(std::span<const uint8_t> a, std::span<const uint8_t> b, Hash256* hash_a, Hash256* hash_b) {
  if (!HasShaInstructions() || std::min(a.size(), b.size()) < kFirstBytes) {
    *hash_a = HashLeaf(a);
    *hash_b = HashLeaf(b);
    return;
  }
  Leaf leaf_a(a), leaf_b(b);
  CompressPair(leaf_a.state, leaf_a.first, leaf_b.state, leaf_b.first, 1);
  const uint64_t together = std::min(leaf_a.whole_blocks, leaf_b.whole_blocks);
  CompressPair(leaf_a.state, leaf_a.whole, leaf_b.state, leaf_b.whole, together);
  for (Leaf* leaf : {&leaf_a, &leaf_b}) {
    Compress(leaf->state, leaf->whole + 64 * together, leaf->whole_blocks - together);
    Compress(leaf->state, leaf->last, leaf->last_blocks);
  }
  StoreBigEndian(leaf_a.state, hash_a);
  StoreBigEndian(leaf_b.state, hash_b);
}

Hash256 MerkleRoot(std::span<const Hash256> leaves) {
  if (leaves.empty()) return HashBytes({});
  // RFC 9162 splits at the largest power of two below n. From the left that is a binary counter of complete subtrees:
  // complete[i] is one over 2^i leaves, there where bit i of the number of leaves so far is 1.
  Hash256 complete[64];
  for (uint64_t i = 0; i < leaves.size(); ++i) {
    Hash256 root = leaves[i];
    int level = 0;
    for (; (i >> level & 1) != 0; ++level) root = HashNode(complete[level], root);
    complete[level] = root;
  }
  const uint64_t n = leaves.size();
  int level = 0;
  while ((n >> level & 1) == 0) ++level;
  Hash256 root = complete[level];
  for (++level; n >> level != 0; ++level) {
    if ((n >> level & 1) != 0) root = HashNode(complete[level], root);
  }
  return root;
}

std::string ToHex(const Hash256& hash) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(64);
  for (const uint8_t byte : hash) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

bool FromHex(std::string_view hex, Hash256* hash) {
  if (hex.size() != 64) return false;
  Hash256 parsed;
  for (size_t i = 0; i < 64; ++i) {
    const char c = hex[i];
    int digit;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    } else {
      return false;
    }
    parsed[i / 2] = static_cast<uint8_t>(i % 2 == 0 ? digit << 4 : parsed[i / 2] | digit);
  }
  *hash = parsed;
  return true;
}

}  // namespace sluice::kernels
