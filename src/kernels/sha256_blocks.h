// Sha256Blocks: SHA-256 of a long message that arrives in pieces, two messages at once where the processor gains by it
// (sha256_ni.h). For whole files, of which each is one message: no tree can share one out over cores.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kernels/sha256.h"

namespace sluice::kernels {

// Move-only, some hundred bytes. Not thread-safe.
class Sha256Blocks {
 public:
  Sha256Blocks();
  void Update(std::span<const uint8_t> bytes);
  // As a->Update(bytes_a) and b->Update(bytes_b), in little more than the time of the longer. The two are
  // different.
  static void UpdatePair(Sha256Blocks* a, std::span<const uint8_t> bytes_a, Sha256Blocks* b,
                         std::span<const uint8_t> bytes_b);
  Hash256 Finish();  // and starts anew

 private:
  // Fills the block that is not whole yet; returns what is left of `bytes`.
  std::span<const uint8_t> FillRest(std::span<const uint8_t> bytes);

  std::optional<Sha256> library_;  // where the processor has no instructions for it
  uint32_t state_[8];
  uint64_t size_bytes_ = 0;
  uint8_t rest_[64] = {};  // of a block that is not whole yet: size_bytes_ % 64 of it
};

}  // namespace sluice::kernels
