// Exact selection of the k-th largest |x - b| of a tensor that passes by in pieces: the kernels under TIES' threshold.
//
// |d| as f32 bits without the sign (31 bits) orders like the number. Its top 15 bits are the coarse bin, the low 16 the
// fine part. Every NaN counts as 0x7FC00000, larger than infinity. Dispatched, same results on each target;
// thread-safe.
#pragma once

#include <cstdint>
#include <vector>

namespace sluice::kernels {

constexpr uint32_t kCoarseBins = 1u << 15;

// Adds to histogram[bits(|x - base|) >> 16] (kCoarseBins counters).
void MagnitudeHistogram(const float* x, const float* base, uint64_t count, uint64_t* histogram);

// An element in the bracket, by its magnitude and its place in its block of 65,536.
struct Candidate {
  uint32_t bits;  // all 31 bits of the magnitude
  uint16_t index_in_block;
};

// Appends the elements with lo_bin <= bin <= hi_bin, in order, and returns how many lie above hi_bin.
// index_in_block of element 0 is first_index.
uint64_t CollectCandidates(const float* x, const float* base, uint64_t count, uint32_t lo_bin, uint32_t hi_bin,
                           uint32_t first_index, std::vector<Candidate>* candidates);

namespace reference {
uint32_t MagnitudeBits(float x, float base);
void MagnitudeHistogram(const float* x, const float* base, uint64_t count, uint64_t* histogram);
uint64_t CollectCandidates(const float* x, const float* base, uint64_t count, uint32_t lo_bin, uint32_t hi_bin,
                           uint32_t first_index, std::vector<Candidate>* candidates);
}  // namespace reference

}  // namespace sluice::kernels
