// SHA-256 by libcrypto, and the RFC 9162 tree hashes made of it. No files, no allocation per call beyond libcrypto's
// own.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace sluice::kernels {

using Hash256 = std::array<uint8_t, 32>;

// Streaming. Not thread-safe; move-only.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void Update(std::span<const uint8_t> bytes);
  void Update(std::string_view text);
  void Update(uint8_t byte);
  // u64, little-endian, then the bytes: the length-prefixed form used in keys and leaves.
  void UpdateLengthPrefixed(std::string_view text);
  void UpdateU64(uint64_t value);  // little-endian
  Hash256 Finish();                // and starts anew

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

Hash256 HashBytes(std::span<const uint8_t> bytes);
Hash256 HashText(std::string_view text);
// SHA-256(0x00 | bytes): a leaf of RFC 9162, section 2.1.1. The stream's hot loop.
Hash256 HashLeaf(std::span<const uint8_t> bytes);
// The same of two equally long chunks at once, where the processor gains by it.
void HashLeafPair(std::span<const uint8_t> a, std::span<const uint8_t> b, Hash256* hash_a, Hash256* hash_b);
// SHA-256(0x01 | left | right).
Hash256 HashNode(const Hash256& left, const Hash256& right);
// RFC 9162 root over leaf hashes; SHA-256 of nothing for no leaves.
Hash256 MerkleRoot(std::span<const Hash256> leaves);

std::string ToHex(const Hash256& hash);
bool FromHex(std::string_view hex, Hash256* hash);

}  // namespace sluice::kernels
