// Masks by magnitude as words, 0 where an element is kept and 1 where it is dropped, and masks as the bits that
// DeltaMask::kGiven (task_vectors.h) takes. |d| = |x - base| as select.h orders it. Dispatched, same results on each
// target; thread-safe; arrays may stand anywhere.
#pragma once

#include <cstdint>

namespace sluice::kernels {

// A place in the order of the magnitudes from the largest, equal ones by index: after the element of flat index
// last_tie and magnitude `bits`. Elements before it: |d| > bits, or |d| == bits up to last_tie.
struct MagnitudePlace {
  uint32_t bits = 0;
  uint64_t last_tie = 0;
};

// Bit i % 32 of bits[i / 32] is set where element i stands after `top` (null: from the first on) and before `bottom`
// (null: to the last); the last word's bits past `count` are 0. Element 0 has the flat index first_element.
void BandMaskBits(const MagnitudePlace* top, const MagnitudePlace* bottom, uint64_t first_element, uint64_t count,
                  const float* x, const float* base, uint32_t* bits);

// Keeps where words[i] < low; else, where words[i] < high and |d| > others[i], or |d| == others[i] and keeps_ties.
// words: random ones in, the mask's out. others: magnitudes. low <= high <= 2^32.
void RankMaskWords(uint64_t low, uint64_t high, bool keeps_ties, uint64_t count, const float* x, const float* base,
                   const float* others, uint32_t* words);

// With what each element of a row is compared: columns go in units of `unit` (a power of two, at most kMostRowUnit),
// units rotate by unit_shift (less than num_units) and the elements within each by shift (less than unit).
constexpr uint64_t kMostRowUnit = 256;
struct RowTurn {
  uint64_t unit, num_units, unit_shift, shift;
};
// RankMaskWords of a whole row of unit num_units elements. Of equal magnitudes the one that stands later is the larger.
void RankRowWords(uint64_t low, uint64_t high, const RowTurn& turn, const float* x, const float* base, uint32_t* words);

// Bit i % 32 of bits[i / 32] is set where words[i] < below; the last word's bits past `count` are 0. below <= 2^32.
void MaskBits(const uint32_t* words, uint64_t below, uint64_t count, uint32_t* bits);

namespace reference {
void BandMaskBits(const MagnitudePlace* top, const MagnitudePlace* bottom, uint64_t first_element, uint64_t count,
                  const float* x, const float* base, uint32_t* bits);
void RankMaskWords(uint64_t low, uint64_t high, bool keeps_ties, uint64_t count, const float* x, const float* base,
                   const float* others, uint32_t* words);
void RankRowWords(uint64_t low, uint64_t high, const RowTurn& turn, const float* x, const float* base, uint32_t* words);
void MaskBits(const uint32_t* words, uint64_t below, uint64_t count, uint32_t* bits);
}  // namespace reference

}  // namespace sluice::kernels
