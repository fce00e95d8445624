// TorchGenerator: the words that torch's CPU generator draws: MT19937 seeded by init_genrand, one 32-bit word after the
// other, from any place of the stream on.
//
// Sources: Matsumoto and Nishimura, "Mersenne twister", ACM TOMACS 8 (1998): the generator, and its characteristic
// polynomial (appendix A). Haramoto, Matsumoto, Nishimura, Panneton and L'Ecuyer, "Efficient jump ahead for F2-linear
// random number generators", INFORMS Journal on Computing 20 (2008): x^J modulo that polynomial says which of the
// states 0 to 19936 to add up for the state J words later.
#pragma once

#include <array>
#include <cstdint>

namespace sluice::arithmetic {

class TorchGenerator {
 public:
  explicit TorchGenerator(uint32_t seed);
  // Where `position` words of the stream have been drawn. Anywhere, in a few milliseconds at most.
  static TorchGenerator At(uint32_t seed, uint64_t position);

  uint64_t position() const { return position_; }
  void Fill(uint32_t* words, uint64_t count);
  // As Fill without the words: some 0.25 ns each. Jump pays from some ten million on.
  void Skip(uint64_t count);
  void Jump(uint64_t count);

 private:
  static constexpr uint32_t kWords = 624;
  void Refill();

  std::array<uint32_t, kWords> state_;  // the next ones, those before used_ given out; untempered
  uint32_t used_ = 0;
  uint64_t position_ = 0;
};

}  // namespace sluice::arithmetic
