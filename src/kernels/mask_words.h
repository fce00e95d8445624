// Masks by magnitude as words for DeltaMask::kGiven (task_vectors.h): 0 where an element is kept, 1 where it is
// dropped. |d| = |x - base| as select.h orders it. Dispatched, same results on each target; thread-safe; arrays may
// stand anywhere.
#pragma once

#include <cstdint>

namespace sluice::kernels {

// A place in the order of the magnitudes from the largest, equal ones by index: after the element of flat index
// last_tie and magnitude `bits`. Elements before it: |d| > bits, or |d| == bits up to last_tie.
struct MagnitudePlace {
  uint32_t bits = 0;
  uint64_t last_tie = 0;
};

// Keeps what stands after `top` (null: from the first on) and before `bottom` (null: to the last). Element 0 has the
// flat index first_element.
void BandMaskWords(const MagnitudePlace* top, const MagnitudePlace* bottom, uint64_t first_element, uint64_t count,
                   const float* x, const float* base, uint32_t* words);

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

namespace reference {
void BandMaskWords(const MagnitudePlace* top, const MagnitudePlace* bottom, uint64_t first_element, uint64_t count,
                   const float* x, const float* base, uint32_t* words);
void RankMaskWords(uint64_t low, uint64_t high, bool keeps_ties, uint64_t count, const float* x, const float* base,
                   const float* others, uint32_t* words);
void RankRowWords(uint64_t low, uint64_t high, const RowTurn& turn, const float* x, const float* base, uint32_t* words);
}  // namespace reference

}  // namespace sluice::kernels
