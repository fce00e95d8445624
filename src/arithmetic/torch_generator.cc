#include "arithmetic/torch_generator.h"

#include <algorithm>
#include <bit>
#include <vector>

namespace sluice::arithmetic {
namespace {

constexpr uint32_t kWords = 624, kMiddle = 397;
constexpr uint32_t kTwist = 0x9908B0DF, kHighBit = 0x80000000;

uint32_t Twisted(uint32_t high, uint32_t low) {
  const uint32_t y = (high & kHighBit) | (low & ~kHighBit);
  return (y >> 1) ^ (-(y & 1) & kTwist);
}

uint32_t Tempered(uint32_t y) {
  y ^= y >> 11;
  y ^= (y << 7) & 0x9D2C5680;
  y ^= (y << 15) & 0xEFC60000;
  return y ^ (y >> 18);
}

void Temper(const uint32_t* from, uint64_t count, uint32_t* __restrict to) {
  uint64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (uint64_t k = 0; k < 16; ++k) to[i + k] = Tempered(from[i + k]);
  }
  for (; i < count; ++i) to[i] = Tempered(from[i]);
}

// Polynomials over GF(2), bit i the coefficient of x^i.
constexpr uint32_t kDegree = 19937;
using Polynomial = std::vector<uint64_t>;

void Flip(Polynomial* p, uint64_t bit) { (*p)[bit / 64] ^= uint64_t{1} << bit % 64; }

// Exponents below kDegree of the characteristic polynomial, all at most kDegree - 227:
//   (x^624 + x^397) sum_{i=0}^{30} a_i u^(30-i) + a_31 + (x^624 + x^397) u^31,   u = x^623 + x^396, a the twist's bits
std::vector<uint32_t> MakeTerms() {
  constexpr uint32_t kPower = 31;
  Polynomial all(kDegree / 64 + 1, 0);
  for (uint32_t power = 0; power <= kPower; ++power) {
    if (power < kPower && (kTwist >> (kPower - 1 - power) & 1) == 0) continue;
    for (uint32_t chosen = 0; chosen <= power; ++chosen) {
      if ((chosen & ~power) != 0) continue;  // the binomial coefficient is even
      const uint32_t exponent = 396 * power + 227 * chosen;
      Flip(&all, exponent + kWords);
      Flip(&all, exponent + kMiddle);
    }
  }
  if (kTwist >> kPower & 1) Flip(&all, 0);
  std::vector<uint32_t> terms;
  for (uint32_t i = 0; i < kDegree; ++i) {
    if (all[i / 64] >> i % 64 & 1) terms.push_back(i);
  }
  return terms;
}

// Adds 64 coefficients at an exponent.
void AddAt(Polynomial* p, uint64_t exponent, uint64_t bits) {
  (*p)[exponent / 64] ^= bits << exponent % 64;
  if (exponent % 64 != 0) (*p)[exponent / 64 + 1] ^= bits >> (64 - exponent % 64);
}

// p modulo the characteristic polynomial: 64 coefficients at a time from the top down. The largest exponent of `terms`
// is 227 below the degree, so that what is added never reaches what is being removed.
void Reduce(Polynomial* p, const std::vector<uint32_t>& terms) {
  for (uint64_t over = (p->size() * 64 - kDegree) / 64 * 64 + 64; over > 0;) {
    over -= 64;
    const uint64_t at = kDegree + over;
    if (at / 64 >= p->size()) continue;
    uint64_t bits = (*p)[at / 64] >> at % 64;
    if (at % 64 != 0 && at / 64 + 1 < p->size()) bits |= (*p)[at / 64 + 1] << (64 - at % 64);
    if (bits == 0) continue;
    for (const uint32_t term : terms) AddAt(p, term + over, bits);
    (*p)[at / 64] ^= bits << at % 64;
    if (at % 64 != 0 && at / 64 + 1 < p->size()) (*p)[at / 64 + 1] ^= bits >> (64 - at % 64);
  }
}

// Bit i of the low half goes to bit 2i.
uint64_t Spread(uint64_t x) {
  x &= 0xFFFFFFFF;
  x = (x | x << 16) & 0x0000FFFF0000FFFF;
  x = (x | x << 8) & 0x00FF00FF00FF00FF;
  x = (x | x << 4) & 0x0F0F0F0F0F0F0F0F;
  x = (x | x << 2) & 0x3333333333333333;
  return (x | x << 1) & 0x5555555555555555;
}

// x^exponent modulo the characteristic polynomial, by squaring.
Polynomial PowerOfX(uint64_t exponent) {
  static const std::vector<uint32_t> terms = MakeTerms();
  constexpr uint64_t kSize = kDegree / 64 + 1;
  Polynomial power(kSize, 0), square(2 * kSize + 2, 0);
  power[0] = 1;
  for (int bit = 64 - std::countl_zero(exponent); bit-- > 0;) {
    std::fill(square.begin(), square.end(), 0);
    const uint64_t shift = exponent >> bit & 1;
    for (uint64_t i = 0; i < kSize; ++i) {
      AddAt(&square, 128 * i + shift, Spread(power[i]));
      AddAt(&square, 128 * i + 64 + shift, Spread(power[i] >> 32));
    }
    Reduce(&square, terms);
    std::copy_n(square.begin(), kSize, power.begin());
  }
  return power;
}

}  // namespace

TorchGenerator::TorchGenerator(uint32_t seed) {
  state_[0] = seed;
  for (uint32_t i = 1; i < kWords; ++i) state_[i] = 1812433253 * (state_[i - 1] ^ state_[i - 1] >> 30) + i;
  Refill();
}

TorchGenerator TorchGenerator::At(uint32_t seed, uint64_t position) {
  constexpr uint64_t kJumpPays = 12 << 20;
  TorchGenerator generator(seed);
  if (position < kJumpPays) {
    generator.Skip(position);
  } else {
    generator.Jump(position);
  }
  return generator;
}

// Loops of whole vectors, what is left over apart: compilers then make vectors of them.
void TorchGenerator::Refill() {
  uint32_t* const s = state_.data();
  constexpr uint32_t kFirst = kWords - kMiddle;  // 227
  for (uint32_t i = 0; i < 224; ++i) s[i] = s[i + kMiddle] ^ Twisted(s[i], s[i + 1]);
  for (uint32_t i = 224; i < kFirst; ++i) s[i] = s[i + kMiddle] ^ Twisted(s[i], s[i + 1]);
  for (uint32_t i = 0; i < 392; ++i) s[i + kFirst] = s[i] ^ Twisted(s[i + kFirst], s[i + kFirst + 1]);
  for (uint32_t i = 392 + kFirst; i < kWords - 1; ++i) s[i] = s[i - kFirst] ^ Twisted(s[i], s[i + 1]);
  s[kWords - 1] = s[kMiddle - 1] ^ Twisted(s[kWords - 1], s[0]);
  used_ = 0;
}

void TorchGenerator::Fill(uint32_t* words, uint64_t count) {
  position_ += count;
  while (count > 0) {
    if (used_ == kWords) Refill();
    const uint64_t part = std::min<uint64_t>(count, kWords - used_);
    Temper(state_.data() + used_, part, words);
    used_ += static_cast<uint32_t>(part);
    words += part;
    count -= part;
  }
}

void TorchGenerator::Skip(uint64_t count) {
  position_ += count;
  while (count > kWords - used_) {
    count -= kWords - used_;
    Refill();
  }
  used_ += static_cast<uint32_t>(count);
}

void TorchGenerator::Jump(uint64_t count) {
  if (count == 0) return;
  // The stream of untempered words from here on, long enough for every state that may be added.
  std::vector<uint32_t> words(kDegree + kWords);
  TorchGenerator ahead = *this;
  for (uint64_t at = 0; at < words.size();) {
    if (ahead.used_ == kWords) ahead.Refill();
    const uint64_t part = std::min<uint64_t>(words.size() - at, kWords - ahead.used_);
    std::copy_n(ahead.state_.begin() + ahead.used_, part, words.begin() + static_cast<int64_t>(at));
    ahead.used_ += static_cast<uint32_t>(part);
    at += part;
  }
  // Words 1 to 623 of a state are exact. Of word 0 its highest bit alone is part of the state that the polynomial is
  // of, and it is given out: so the state one word earlier is made, and what it gives out next is exact again.
  const Polynomial power = PowerOfX(count - 1);
  std::array<uint32_t, kWords> sum{};
  for (uint64_t i = 0; i < kDegree; ++i) {
    if ((power[i / 64] >> i % 64 & 1) == 0) continue;
    const uint32_t* const __restrict from = words.data() + i;
    uint32_t* const __restrict to = sum.data();
    for (uint32_t k = 0; k < kWords; ++k) to[k] ^= from[k];
  }
  // sum: words count - 1 to count + 622; word count + 623 follows from it.
  std::copy(sum.begin() + 1, sum.end(), state_.begin());
  state_[kWords - 1] = sum[kMiddle] ^ Twisted(sum[0], sum[1]);
  used_ = 0;
  position_ += count;
}

}  // namespace sluice::arithmetic
