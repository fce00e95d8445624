// Masks by magnitude, several elements at a time.
//
// Problem: "this large, or just as large and not after that element" is two comparisons and an index for each side of a
// band, and chance would mispredict every branch of it.
//
// Idea: patterns of magnitudes are integers. Up to the last tie an element is before a place where it is larger than
// bits - 1, after it where it is larger than bits: but for the words that hold a last tie the bound is a constant.
// Words are compared unsigned, with bounds as the last word on their near side, since 2^32 does not fit.
#include "kernels/mask_words.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "kernels/select.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/mask_words.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

#include "kernels/magnitude_bits-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using namespace magnitude_bits;  // NOLINT: vectors and BitsAt
using DU = hn::Rebind<uint32_t, DF>;

void BandMaskBits(const MagnitudePlace* top, const MagnitudePlace* bottom, uint64_t first_element, uint64_t count,
                  const float* x, const float* base, uint32_t* bits) {
  const DI di;
  const uint64_t lanes = hn::Lanes(di);
  // Elements of [0, count) up to a place's last tie.
  const auto ties = [&](const MagnitudePlace* place) {
    if (place == nullptr || place->last_tie < first_element) return uint64_t{0};
    return place->last_tie - first_element + 1;
  };
  const auto bound = [](const MagnitudePlace* place, bool is_tie, int32_t none) {
    return place == nullptr ? none : static_cast<int32_t>(place->bits) - (is_tie ? 1 : 0);
  };
  const uint64_t top_ties = ties(top), bottom_ties = ties(bottom);
  for (uint64_t at = 0; at < count; at += 32) {
    const auto cuts = [&](uint64_t of_ties) { return of_ties > at && of_ties < at + 32; };
    if (at + 32 > count || cuts(top_ties) || cuts(bottom_ties)) {
      reference::BandMaskBits(top, bottom, first_element + at, std::min<uint64_t>(32, count - at), x + at, base + at,
                              bits + at / 32);
      continue;
    }
    // Dropped where the magnitude is larger than `above`, or not larger than `least`.
    const VI above = hn::Set(di, bound(top, at < top_ties, 0x7FFFFFFF));
    const VI least = hn::Set(di, bound(bottom, at < bottom_ties, -1));
    uint32_t word = 0;
    for (uint64_t i = 0; i < 32; i += lanes) {
      const VI magnitudes = BitsAt(x + at + i, base + at + i);
      uint8_t of_lanes[8] = {};
      hn::StoreMaskBits(di, hn::And(hn::Gt(magnitudes, least), hn::Not(hn::Gt(magnitudes, above))), of_lanes);
      word |= uint32_t{of_lanes[0]} << i;
    }
    bits[at / 32] = word;
  }
}

// The two bounds that a random word is held against.
class WordBounds {
 public:
  HWY_INLINE WordBounds(uint64_t low, uint64_t high)
      : low_last_(hn::Set(DU(), static_cast<uint32_t>(low - 1))),
        high_last_(hn::Set(DU(), static_cast<uint32_t>(high - 1))),
        has_low_(hn::Set(DI(), low > 0 ? -1 : 0)),
        has_high_(hn::Set(DI(), high > 0 ? -1 : 0)) {}
  // What becomes of the words at `words` where the magnitudes are `bits`, and those that they are compared with
  // `other`; a tie that is kept is as a smaller other.
  HWY_INLINE void Apply(VI bits, VI other, uint32_t* words) const {
    const DI di;
    const DU du;
    const auto word = hn::LoadU(du, words);
    // word <= last, as min(word, last) == word
    const VI below_low = hn::BitCast(di, hn::VecFromMask(du, hn::Eq(hn::Min(word, low_last_), word)));
    const VI below_high = hn::BitCast(di, hn::VecFromMask(du, hn::Eq(hn::Min(word, high_last_), word)));
    const VI larger = hn::VecFromMask(di, hn::Gt(bits, other));
    const VI kept = hn::Or(hn::And(has_low_, below_low), hn::And(hn::And(has_high_, below_high), larger));
    hn::StoreU(hn::BitCast(du, hn::Add(kept, hn::Set(di, 1))), du, words);
  }

 private:
  hn::Vec<DU> low_last_, high_last_;
  VI has_low_, has_high_;
};

void RankMaskWords(uint64_t low, uint64_t high, bool keeps_ties, uint64_t count, const float* x, const float* base,
                   const float* others, uint32_t* words) {
  const DI di;
  const uint64_t lanes = hn::Lanes(di);
  const WordBounds bounds(low, high);
  const VI tie = hn::Set(di, keeps_ties ? 1 : 0);
  uint64_t at = 0;
  for (; at + lanes <= count; at += lanes) {
    const VI other = hn::Sub(hn::BitCast(di, hn::LoadU(DF(), others + at)), tie);
    bounds.Apply(BitsAt(x + at, base + at), other, words + at);
  }
  reference::RankMaskWords(low, high, keeps_ties, count - at, x + at, base + at, others + at, words + at);
}

void RankRowWords(uint64_t low, uint64_t high, const RowTurn& turn, const float* x, const float* base,
                  uint32_t* words) {
  const DI di;
  const uint64_t lanes = hn::Lanes(di), unit = turn.unit;
  if (unit < lanes) return reference::RankRowWords(low, high, turn, x, base, words);
  const WordBounds bounds(low, high);
  // The unit that one is compared with, twice: so that what is rotated lies together. Where units rotate, that one is
  // before or after it; else its own elements are, up to where they come round.
  HWY_ALIGN int32_t others[2 * kMostRowUnit];
  for (uint64_t u = 0; u < turn.num_units; ++u) {
    const bool comes_round = u + turn.unit_shift >= turn.num_units;
    const uint64_t other = (u + turn.unit_shift - (comes_round ? turn.num_units : 0)) * unit;
    const VI tie = hn::Set(di, turn.unit_shift > 0 && comes_round ? 1 : 0);
    const VI second_tie = hn::Set(di, turn.unit_shift == 0 || comes_round ? 1 : 0);
    for (uint64_t i = 0; i < unit; i += lanes) {
      const VI bits = BitsAt(x + other + i, base + other + i);
      hn::Store(hn::Sub(bits, tie), di, others + i);
      hn::Store(hn::Sub(bits, second_tie), di, others + unit + i);
    }
    for (uint64_t i = 0; i < unit; i += lanes) {
      const uint64_t at = u * unit + i;
      bounds.Apply(BitsAt(x + at, base + at), hn::LoadU(di, others + turn.shift + i), words + at);
    }
  }
}

void MaskBits(const uint32_t* words, uint64_t below, uint64_t count, uint32_t* bits) {
  if (below == 0) return reference::MaskBits(words, below, count, bits);
  const DU du;
  const uint64_t lanes = hn::Lanes(du);
  const auto last = hn::Set(du, static_cast<uint32_t>(below - 1));
  uint64_t at = 0;
  for (; at + 32 <= count; at += 32) {
    uint32_t word = 0;
    for (uint64_t i = 0; i < 32; i += lanes) {
      const auto values = hn::LoadU(du, words + at + i);
      uint8_t of_lanes[8] = {};
      hn::StoreMaskBits(du, hn::Eq(hn::Min(values, last), values), of_lanes);  // value <= last
      word |= uint32_t{of_lanes[0]} << i;
    }
    bits[at / 32] = word;
  }
  reference::MaskBits(words + at, below, count - at, bits + at / 32);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(BandMaskBits);
HWY_EXPORT(RankMaskWords);
HWY_EXPORT(RankRowWords);
HWY_EXPORT(MaskBits);

void BandMaskBits(const MagnitudePlace* top, const MagnitudePlace* bottom, uint64_t first_element, uint64_t count,
                  const float* x, const float* base, uint32_t* bits) {
  HWY_DYNAMIC_DISPATCH(BandMaskBits)(top, bottom, first_element, count, x, base, bits);
}

void RankMaskWords(uint64_t low, uint64_t high, bool keeps_ties, uint64_t count, const float* x, const float* base,
                   const float* others, uint32_t* words) {
  SLUICE_CHECK(low <= high && high <= uint64_t{1} << 32);
  HWY_DYNAMIC_DISPATCH(RankMaskWords)(low, high, keeps_ties, count, x, base, others, words);
}

void RankRowWords(uint64_t low, uint64_t high, const RowTurn& turn, const float* x, const float* base,
                  uint32_t* words) {
  SLUICE_CHECK(low <= high && high <= uint64_t{1} << 32);
  SLUICE_CHECK(std::has_single_bit(turn.unit) && turn.unit <= kMostRowUnit && turn.unit_shift < turn.num_units &&
               turn.shift < turn.unit);
  HWY_DYNAMIC_DISPATCH(RankRowWords)(low, high, turn, x, base, words);
}

void MaskBits(const uint32_t* words, uint64_t below, uint64_t count, uint32_t* bits) {
  SLUICE_CHECK(below <= uint64_t{1} << 32);
  HWY_DYNAMIC_DISPATCH(MaskBits)(words, below, count, bits);
}

namespace reference {

void BandMaskBits(const MagnitudePlace* top, const MagnitudePlace* bottom, uint64_t first_element, uint64_t count,
                  const float* x, const float* base, uint32_t* bits) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint32_t magnitude = MagnitudeBits(x[i], base[i]);
    const auto is_before = [&](const MagnitudePlace& place) {
      return magnitude > place.bits || (magnitude == place.bits && first_element + i <= place.last_tie);
    };
    const bool is_kept = (top == nullptr || !is_before(*top)) && (bottom == nullptr || is_before(*bottom));
    if (i % 32 == 0) bits[i / 32] = 0;
    bits[i / 32] |= uint32_t{is_kept} << i % 32;
  }
}

void RankMaskWords(uint64_t low, uint64_t high, bool keeps_ties, uint64_t count, const float* x, const float* base,
                   const float* others, uint32_t* words) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint32_t bits = MagnitudeBits(x[i], base[i]), other = std::bit_cast<uint32_t>(others[i]);
    const bool is_larger = bits > other || (bits == other && keeps_ties);
    words[i] = words[i] < low || (words[i] < high && is_larger) ? 0 : 1;
  }
}

void RankRowWords(uint64_t low, uint64_t high, const RowTurn& turn, const float* x, const float* base,
                  uint32_t* words) {
  for (uint64_t i = 0; i < turn.unit * turn.num_units; ++i) {
    const uint64_t unit = (i / turn.unit + turn.unit_shift) % turn.num_units;
    const uint64_t place = unit * turn.unit + (i + turn.shift) % turn.unit;
    const auto other = std::bit_cast<float>(MagnitudeBits(x[place], base[place]));
    RankMaskWords(low, high, place < i, 1, x + i, base + i, &other, words + i);
  }
}

void MaskBits(const uint32_t* words, uint64_t below, uint64_t count, uint32_t* bits) {
  for (uint64_t i = 0; i < count; ++i) {
    if (i % 32 == 0) bits[i / 32] = 0;
    bits[i / 32] |= uint32_t{words[i] < below} << i % 32;
  }
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
