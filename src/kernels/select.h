// Exact selection of the k-th largest |x - b| of a tensor that passes by in pieces: the kernels under TIES' threshold.
//
// |d| as f32 bits without the sign (31 bits) orders like the number. Its key is the top 15 bits and whether any of the
// low 16 is set: keys order like the numbers too, and an even key is one magnitude alone. Such are nearly all
// differences of bf16 numbers. Every NaN counts as 0x7FC00000, larger than infinity. Dispatched, same results on each
// target; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice::kernels {

constexpr uint32_t kNumKeys = 1u << 16;
constexpr uint32_t LowestOfKey(uint32_t key) { return key >> 1 << 16 | (key & 1); }
constexpr uint32_t HighestOfKey(uint32_t key) { return key >> 1 << 16 | (key & 1) * 0xFFFF; }

// |x - base|, every NaN the canonical one.
void Magnitudes(const float* x, const float* base, uint64_t count, float* magnitudes);
// Adds to counts[key] (kNumKeys counters). Writes the magnitudes too, unless null.
void MagnitudeKeyCounts(const float* x, const float* base, uint64_t count, uint32_t* counts,
                        float* magnitudes = nullptr);

// An element in the bracket, by its magnitude and its place in its block of 65,536.
struct Candidate {
  uint32_t bits;  // all 31 bits of the magnitude
  uint16_t index_in_block;
};

// Magnitudes low to high, both of them included (none where high < low). Those in `common` are counted, not collected.
struct MagnitudeBracket {
  static constexpr size_t kMaxCommon = 8;
  uint32_t low = 0, high = 0;
  uint32_t common[kMaxCommon] = {};  // within the bracket, each once
  size_t num_common = 0;
};
struct BracketCounts {
  uint64_t above = 0;  // larger than `high`
  uint64_t common[MagnitudeBracket::kMaxCommon] = {};
};
// Writes the elements in the bracket to candidates (room for `count`), in order, and returns how many; adds to counts.
// index_in_block of element 0 is first_index.
uint64_t CollectCandidates(const float* x, const float* base, uint64_t count, const MagnitudeBracket& bracket,
                           uint32_t first_index, Candidate* candidates, BracketCounts* counts);

// Of the magnitudes whose upper 16 bits are uppers[u], adds to counts[u][lower 16 bits] (65,536 counters). Each upper
// once; kMostUppers at most.
constexpr size_t kMostUppers = 4;
void CountLowerBits(const float* magnitudes, uint64_t count, std::span<const uint32_t> uppers, uint32_t* const* counts);

// Bit i % 32 of words[i / 32] says whether element i's magnitude has these bits; what is beyond `count` is 0.
void EqualMagnitudes(const float* x, const float* base, uint64_t count, uint32_t bits, uint32_t* words);

namespace reference {
uint32_t MagnitudeBits(float x, float base);
uint32_t MagnitudeKey(uint32_t bits);
void Magnitudes(const float* x, const float* base, uint64_t count, float* magnitudes);
void MagnitudeKeyCounts(const float* x, const float* base, uint64_t count, uint32_t* counts, float* magnitudes);
uint64_t CollectCandidates(const float* x, const float* base, uint64_t count, const MagnitudeBracket& bracket,
                           uint32_t first_index, Candidate* candidates, BracketCounts* counts);
void CountLowerBits(const float* magnitudes, uint64_t count, std::span<const uint32_t> uppers, uint32_t* const* counts);
void EqualMagnitudes(const float* x, const float* base, uint64_t count, uint32_t bits, uint32_t* words);
}  // namespace reference

}  // namespace sluice::kernels
