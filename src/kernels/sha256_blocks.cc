#include "kernels/sha256_blocks.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/sha256_ni.h"

namespace sluice::kernels {
namespace {

constexpr uint64_t kBlock = 64;
// FIPS 180-4, 5.3.3.
constexpr uint32_t kStart[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

}  // namespace

Sha256Blocks::Sha256Blocks() {
  if (!HasShaInstructions()) library_.emplace();
  std::copy(std::begin(kStart), std::end(kStart), state_);
}

std::span<const uint8_t> Sha256Blocks::FillRest(std::span<const uint8_t> bytes) {
  const uint64_t had = size_bytes_ % kBlock;
  if (had == 0) return bytes;
  const uint64_t taken = std::min<uint64_t>(kBlock - had, bytes.size());
  std::copy_n(bytes.begin(), taken, rest_ + had);
  size_bytes_ += taken;
  if (had + taken == kBlock) Compress(state_, rest_, 1);
  return bytes.subspan(taken);
}

void Sha256Blocks::Update(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return;
  if (library_) return library_->Update(bytes);
  bytes = FillRest(bytes);
  const uint64_t blocks = bytes.size() / kBlock;
  Compress(state_, bytes.data(), blocks);
  const std::span<const uint8_t> left = bytes.subspan(blocks * kBlock);
  // Nothing is left where FillRest has taken all of it.
  if (!left.empty()) std::copy(left.begin(), left.end(), rest_);
  size_bytes_ += bytes.size();
}

void Sha256Blocks::UpdatePair(Sha256Blocks* a, std::span<const uint8_t> bytes_a, Sha256Blocks* b,
                              std::span<const uint8_t> bytes_b) {
  SLUICE_CHECK(a != b);
  if (!a->library_) {
    bytes_a = a->FillRest(bytes_a);
    bytes_b = b->FillRest(bytes_b);
    // Where a block is still not whole, nothing of its message is left.
    const uint64_t blocks = std::min(bytes_a.size(), bytes_b.size()) / kBlock;
    CompressPair(a->state_, bytes_a.data(), b->state_, bytes_b.data(), blocks);
    a->size_bytes_ += blocks * kBlock;
    b->size_bytes_ += blocks * kBlock;
    bytes_a = bytes_a.subspan(blocks * kBlock);
    bytes_b = bytes_b.subspan(blocks * kBlock);
  }
  a->Update(bytes_a);
  b->Update(bytes_b);
}

Hash256 Sha256Blocks::Finish() {
  if (library_) return library_->Finish();
  const uint64_t rest = size_bytes_ % kBlock, bits = size_bytes_ * 8;
  uint8_t last[2 * kBlock] = {};
  std::copy_n(rest_, rest, last);
  last[rest] = 0x80;
  const uint64_t blocks = rest + 9 <= kBlock ? 1 : 2;
  for (int i = 0; i < 8; ++i) last[kBlock * blocks - 1 - i] = static_cast<uint8_t>(bits >> (8 * i));
  Compress(state_, last, blocks);
  Hash256 hash;
  for (int i = 0; i < 32; ++i) hash[i] = static_cast<uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
  *this = Sha256Blocks();
  return hash;
}

}  // namespace sluice::kernels
