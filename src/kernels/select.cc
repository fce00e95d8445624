// Magnitudes of deltas: counted by their high bits, and those within a bracket collected.
//
// Problem: TIES wants the exact k-th largest of |x - b| over a tensor that does not fit in memory, and which of the
// equal ones are the last to be kept. Sorting needs it all at hand.
//
// Idea: a magnitude's bits order like the number, so counts of the upper 15 bits find a small bracket of the k-th, and
// its members are few enough to be kept. Differences of bf16 numbers are few, each shared by many elements, and have no
// low bits: a 16th bit, whether there are low bits, tells them from their neighbours, so that they are counted and
// never collected. Vectors make the keys, 256 at a time, and scalar code counts them; the search for members looks at
// whole vectors and stops only where there is one.
#include "kernels/select.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/select.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

#include "kernels/magnitude_bits-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using namespace magnitude_bits;  // NOLINT: vectors and BitsAt

void Magnitudes(const float* x, const float* base, uint64_t count, float* magnitudes) {
  const DF df;
  const uint64_t lanes = hn::Lanes(df);
  uint64_t at = 0;
  for (; at + lanes <= count; at += lanes) {
    hn::StoreU(hn::BitCast(df, BitsAt(x + at, base + at)), df, magnitudes + at);
  }
  reference::Magnitudes(x + at, base + at, count - at, magnitudes + at);
}

template <bool kWrite>
HWY_INLINE void CountKeys(const float* x, const float* base, uint64_t count, uint32_t* counts, float* magnitudes) {
  const DF df;
  const DI di;
  const uint64_t lanes = hn::Lanes(di);
  constexpr uint64_t kChunk = 256;
  HWY_ALIGN int32_t keys[kChunk];
  const VI low_bits = hn::Set(di, 0xFFFF);
  uint64_t at = 0;
  for (; at + kChunk <= count; at += kChunk) {
    for (uint64_t i = 0; i < kChunk; i += lanes) {
      const VI bits = BitsAt(x + at + i, base + at + i);
      if constexpr (kWrite) hn::StoreU(hn::BitCast(df, bits), df, magnitudes + at + i);
      // The top bits, and once more what they are after rounding up: 2 top, and 1 if there were low bits.
      hn::Store(hn::Add(hn::ShiftRight<16>(bits), hn::ShiftRight<16>(hn::Add(bits, low_bits))), di, keys + i);
    }
    for (uint64_t i = 0; i < kChunk; ++i) ++counts[keys[i]];
  }
  reference::MagnitudeKeyCounts(x + at, base + at, count - at, counts, kWrite ? magnitudes + at : nullptr);
}

void MagnitudeKeyCounts(const float* x, const float* base, uint64_t count, uint32_t* counts, float* magnitudes) {
  if (magnitudes != nullptr) return CountKeys<true>(x, base, count, counts, magnitudes);
  CountKeys<false>(x, base, count, counts, nullptr);
}

// With places for kCommon common magnitudes, those beyond num_common being none's.
template <size_t kCommon>
HWY_INLINE uint64_t Collect(const float* x, const float* base, uint64_t count, const MagnitudeBracket& bracket,
                            uint32_t first_index, Candidate* candidates, BracketCounts* counts) {
  const DI di;
  const uint64_t lanes = hn::Lanes(di);
  const VI below = hn::Set(di, static_cast<int32_t>(bracket.low) - 1);
  const VI highest = hn::Set(di, static_cast<int32_t>(bracket.high));
  VI common[kCommon + 1], found[kCommon + 1];
  HWY_UNROLL(8)
  for (size_t c = 0; c < kCommon; ++c) {
    common[c] = hn::Set(di, c < bracket.num_common ? static_cast<int32_t>(bracket.common[c]) : -1);
    found[c] = hn::Zero(di);
  }
  VI above = hn::Zero(di);
  uint64_t num_candidates = 0;
  for (uint64_t at = 0; at < count; at += lanes) {
    const VI bits = BitsAt(x + at, base + at);
    const auto is_above = hn::Gt(bits, highest);
    above = hn::Sub(above, hn::VecFromMask(di, is_above));
    auto is_candidate = hn::AndNot(is_above, hn::Gt(bits, below));
    HWY_UNROLL(8)
    for (size_t c = 0; c < kCommon; ++c) {
      const auto is_common = hn::Eq(bits, common[c]);
      found[c] = hn::Sub(found[c], hn::VecFromMask(di, is_common));
      is_candidate = hn::AndNot(is_common, is_candidate);
    }
    if (HWY_LIKELY(hn::AllFalse(di, is_candidate))) continue;
    HWY_ALIGN int32_t all[kMaxVectorBytes / 4], chosen[kMaxVectorBytes / 4];
    hn::Store(bits, di, all);
    hn::Store(hn::VecFromMask(di, is_candidate), di, chosen);
    for (uint64_t i = 0; i < lanes; ++i) {
      candidates[num_candidates] = {static_cast<uint32_t>(all[i]), static_cast<uint16_t>(first_index + at + i)};
      num_candidates += chosen[i] != 0;  // without a branch, which would be mispredicted
    }
  }
  const auto sum = [&](VI v) HWY_ATTR { return static_cast<uint32_t>(hn::GetLane(hn::SumOfLanes(di, v))); };
  counts->above += sum(above);
  for (size_t c = 0; c < bracket.num_common; ++c) counts->common[c] += sum(found[c]);
  return num_candidates;
}

uint64_t CollectCandidates(const float* x, const float* base, uint64_t count, const MagnitudeBracket& bracket,
                           uint32_t first_index, Candidate* candidates, BracketCounts* counts) {
  const uint64_t lanes = hn::Lanes(DI());
  constexpr uint64_t kMost = uint64_t{1} << 30;  // that counters of 32 bits hold
  uint64_t found = 0;
  for (uint64_t at = 0; at + lanes <= count;) {
    const uint64_t part = std::min(kMost, (count - at) / lanes * lanes);
    const auto index = static_cast<uint32_t>(first_index + at);
    const float *of_x = x + at, *of_base = base + at;
    Candidate* next = candidates + found;
    found += bracket.num_common == 0   ? Collect<0>(of_x, of_base, part, bracket, index, next, counts)
             : bracket.num_common == 1 ? Collect<1>(of_x, of_base, part, bracket, index, next, counts)
             : bracket.num_common <= 3 ? Collect<3>(of_x, of_base, part, bracket, index, next, counts)
                                       : Collect<8>(of_x, of_base, part, bracket, index, next, counts);
    at += part;
  }
  const uint64_t at = count / lanes * lanes;
  return found + reference::CollectCandidates(x + at, base + at, count - at, bracket,
                                              static_cast<uint32_t>(first_index + at), candidates + found, counts);
}

// The lower bits of a vector's lanes that are marked.
HWY_INLINE void CountLanes(hn::Mask<DI> marked, const float* magnitudes, uint32_t* counts) {
  uint8_t of_lanes[8] = {};
  hn::StoreMaskBits(DI(), marked, of_lanes);
  for (uint32_t left = of_lanes[0]; left != 0; left &= left - 1) {
    ++counts[std::bit_cast<uint32_t>(magnitudes[std::countr_zero(left)]) & 0xFFFF];
  }
}

// Few vectors have any.
void CountLowerBits(const float* magnitudes, uint64_t count, std::span<const uint32_t> uppers,
                    uint32_t* const* counts) {
  const DI di;
  const uint64_t lanes = hn::Lanes(di);
  if (uppers.empty()) return;
  VI wanted[kMostUppers];
  for (size_t u = 0; u < kMostUppers; ++u) {
    wanted[u] = hn::Set(di, static_cast<int32_t>(uppers[u < uppers.size() ? u : 0]));
  }
  uint64_t at = 0;
  for (; at + 2 * lanes <= count; at += 2 * lanes) {
    const VI first = hn::ShiftRight<16>(hn::BitCast(di, hn::LoadU(DF(), magnitudes + at)));
    const VI second = hn::ShiftRight<16>(hn::BitCast(di, hn::LoadU(DF(), magnitudes + at + lanes)));
    auto found = hn::Or(hn::Eq(first, wanted[0]), hn::Eq(second, wanted[0]));
    for (size_t u = 1; u < kMostUppers; ++u) {
      found = hn::Or(found, hn::Or(hn::Eq(first, wanted[u]), hn::Eq(second, wanted[u])));
    }
    if (hn::AllFalse(di, found)) continue;
    for (size_t u = 0; u < uppers.size(); ++u) {
      CountLanes(hn::Eq(first, wanted[u]), magnitudes + at, counts[u]);
      CountLanes(hn::Eq(second, wanted[u]), magnitudes + at + lanes, counts[u]);
    }
  }
  reference::CountLowerBits(magnitudes + at, count - at, uppers, counts);
}

void EqualMagnitudes(const float* x, const float* base, uint64_t count, uint32_t bits, uint32_t* words) {
  const DI di;
  const uint64_t lanes = hn::Lanes(di);
  const VI wanted = hn::Set(di, static_cast<int32_t>(bits));
  uint64_t at = 0;
  for (; at + 32 <= count; at += 32) {
    uint32_t word = 0;
    for (uint64_t i = 0; i < 32; i += lanes) {
      uint8_t of_lanes[8] = {};
      hn::StoreMaskBits(di, hn::Eq(BitsAt(x + at + i, base + at + i), wanted), of_lanes);
      word |= uint32_t{of_lanes[0]} << i;
    }
    words[at / 32] = word;
  }
  reference::EqualMagnitudes(x + at, base + at, count - at, bits, words + at / 32);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(Magnitudes);
HWY_EXPORT(MagnitudeKeyCounts);
HWY_EXPORT(CollectCandidates);
HWY_EXPORT(CountLowerBits);
HWY_EXPORT(EqualMagnitudes);

void Magnitudes(const float* x, const float* base, uint64_t count, float* magnitudes) {
  HWY_DYNAMIC_DISPATCH(Magnitudes)(x, base, count, magnitudes);
}

void MagnitudeKeyCounts(const float* x, const float* base, uint64_t count, uint32_t* counts, float* magnitudes) {
  HWY_DYNAMIC_DISPATCH(MagnitudeKeyCounts)(x, base, count, counts, magnitudes);
}

uint64_t CollectCandidates(const float* x, const float* base, uint64_t count, const MagnitudeBracket& bracket,
                           uint32_t first_index, Candidate* candidates, BracketCounts* counts) {
  SLUICE_CHECK(bracket.num_common <= MagnitudeBracket::kMaxCommon);
  return HWY_DYNAMIC_DISPATCH(CollectCandidates)(x, base, count, bracket, first_index, candidates, counts);
}

void CountLowerBits(const float* magnitudes, uint64_t count, std::span<const uint32_t> uppers,
                    uint32_t* const* counts) {
  SLUICE_CHECK(uppers.size() <= kMostUppers);
  HWY_DYNAMIC_DISPATCH(CountLowerBits)(magnitudes, count, uppers, counts);
}

void EqualMagnitudes(const float* x, const float* base, uint64_t count, uint32_t bits, uint32_t* words) {
  HWY_DYNAMIC_DISPATCH(EqualMagnitudes)(x, base, count, bits, words);
}

namespace reference {

uint32_t MagnitudeBits(float x, float base) {
  const uint32_t bits = std::bit_cast<uint32_t>(x - base) & 0x7FFFFFFF;
  return bits > 0x7F800000 ? 0x7FC00000 : bits;
}

uint32_t MagnitudeKey(uint32_t bits) { return bits >> 16 << 1 | ((bits & 0xFFFF) != 0 ? 1 : 0); }

void Magnitudes(const float* x, const float* base, uint64_t count, float* magnitudes) {
  for (uint64_t i = 0; i < count; ++i) magnitudes[i] = std::bit_cast<float>(MagnitudeBits(x[i], base[i]));
}

void MagnitudeKeyCounts(const float* x, const float* base, uint64_t count, uint32_t* counts, float* magnitudes) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint32_t bits = MagnitudeBits(x[i], base[i]);
    ++counts[MagnitudeKey(bits)];
    if (magnitudes != nullptr) magnitudes[i] = std::bit_cast<float>(bits);
  }
}

uint64_t CollectCandidates(const float* x, const float* base, uint64_t count, const MagnitudeBracket& bracket,
                           uint32_t first_index, Candidate* candidates, BracketCounts* counts) {
  uint64_t found = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const uint32_t bits = MagnitudeBits(x[i], base[i]);
    const uint32_t* const end = bracket.common + bracket.num_common;
    const uint32_t* const common = std::find(bracket.common, end, bits);
    if (bits > bracket.high) {
      ++counts->above;
    } else if (common != end) {
      ++counts->common[common - bracket.common];
    } else if (bits >= bracket.low) {
      candidates[found++] = {bits, static_cast<uint16_t>(first_index + i)};
    }
  }
  return found;
}

void CountLowerBits(const float* magnitudes, uint64_t count, std::span<const uint32_t> uppers,
                    uint32_t* const* counts) {
  for (uint64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<uint32_t>(magnitudes[i]);
    for (size_t u = 0; u < uppers.size(); ++u) {
      if (bits >> 16 == uppers[u]) ++counts[u][bits & 0xFFFF];
    }
  }
}

void EqualMagnitudes(const float* x, const float* base, uint64_t count, uint32_t bits, uint32_t* words) {
  for (uint64_t i = 0; i < count; ++i) {
    if (i % 32 == 0) words[i / 32] = 0;
    words[i / 32] |= uint32_t{MagnitudeBits(x[i], base[i]) == bits} << i % 32;
  }
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
