// BlockSample: which blocks of a checkpoint are looked at where not all of them are, and what follows from finding them
// equal. Pure: names, sizes and a nonce in, positions out. docs/fingerprint.md proves the bounds.
//
// A block is kSampleBlockElements consecutive elements of a tensor in element order, the last of a tensor mostly
// shorter. So a position means the same in every sharding, container and encoding.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::verify {

// A multiple of every encoding's block (256 at most), and 4 KiB of bf16: what a disk reads at once.
constexpr uint64_t kSampleBlockElements = 2048;

// What a sample is to notice: were `detect` of all blocks different, with a probability of `confidence` at least.
struct SampleAim {
  double detect = 0.001;
  double confidence = 0.99;
};
Result<void> CheckAim(const SampleAim& aim);  // kUsage unless both lie between 0 and 1, ends excluded

// A secret until the other side has committed itself: 16 or 32 bytes.
using Nonce = std::vector<uint8_t>;
Result<Nonce> ParseNonce(std::string_view hex);  // kUsage: not 32 or 64 hexadecimal digits
Result<Nonce> RandomNonce();                     // 16 bytes of the system's randomness
std::string NonceText(const Nonce& nonce);       // lower-case hexadecimal digits

struct Stratum {
  std::string name;  // of the tensor, canonical
  uint64_t num_elements = 0;
};

// Blocks of a tensor of so many elements.
uint64_t CountBlocks(uint64_t num_elements);

// s = ceil(ln(1 - confidence) / ln(1 - detect)), 2^62 at most.
uint64_t DrawsFor(const SampleAim& aim);

struct BlockSample {
  struct Drawn {
    uint64_t num_blocks = 0;       // N_h: of the stratum
    std::vector<uint64_t> blocks;  // ascending; min(N_h, ceil(s N_h / N)) of them
  };
  std::vector<Drawn> strata;  // in the order given
  uint64_t num_draws = 0;     // s
  uint64_t num_blocks = 0;    // N
  uint64_t num_drawn = 0;

  bool IsCensus() const { return num_drawn == num_blocks; }
};

// Each stratum's blocks hang on the nonce, its own name and the counts alone: not on the order of strata.
BlockSample DrawBlocks(std::span<const Stratum> strata, const Nonce& nonce, const SampleAim& aim);

// Words of the keyed generator: SHA-256(HMAC-SHA-256(nonce, domain | 0 | name) | u64 counter), four to a hash.
class KeyedStream {
 public:
  KeyedStream(const Nonce& nonce, std::string_view domain, std::string_view name);
  uint64_t Next();
  uint64_t Below(uint64_t limit);  // uniform over [0, limit), limit > 0; without bias

 private:
  uint8_t key_and_counter_[40];
  uint64_t words_[4];
  int used_ = 4;
  uint64_t counter_ = 0;
};

}  // namespace sluice::verify
