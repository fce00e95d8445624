// Distances in units in the last place, and their histogram.
//
// Problem: a histogram by scattered increments takes longer than all else that is done with a changed element.
//
// Idea: 2,048 distances at a time in the first cache, then how many are above 1, above 2, above 4, ... until none is:
// rounds of compare and count, whole vectors at a time.
#include "kernels/unit_distance.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/unit_distance.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR

void CountUnitDistances(const uint8_t* a, const uint8_t* b, uint64_t count, int code_bytes, uint32_t special,
                        UnitDistances* distances) {
  reference::CountUnitDistances(a, b, count, code_bytes, special, distances);
}

#else

constexpr uint64_t kChunk = 2048;

// Returns how many were done: all but those that do not fill a vector.
template <class T>
HWY_INLINE uint64_t CountVectors(const uint8_t* a, const uint8_t* b, uint64_t count, T special,
                                 UnitDistances* distances) {
  using I = hwy::MakeSigned<T>;
  const hn::CappedTag<T, kMaxVectorBytes / sizeof(T)> du;
  const hn::Repartition<uint8_t, decltype(du)> du8;
  const hn::RebindToSigned<decltype(du)> di;
  constexpr int kBits = 8 * sizeof(T);
  const uint64_t lanes = hn::Lanes(du);
  const auto magnitudes = hn::Set(du, static_cast<T>(static_cast<T>(~T{0}) >> 1));
  const auto specials = hn::Set(di, static_cast<I>(special));
  const auto zero = hn::Zero(di);
  // Distances take all bits; less half of the range they can be compared as signed numbers.
  const auto biased = [](T distance) { return static_cast<I>(distance ^ T{1} << (kBits - 1)); };
  const auto bias = hn::Set(di, biased(0));
  const uint64_t in_vectors = count / lanes * lanes;
  HWY_ALIGN I chunk[kChunk];
  HWY_ALIGN I partial[kMaxVectorBytes / sizeof(I)];
  const auto total = [&](hn::Vec<decltype(di)> negative) HWY_ATTR {
    hn::Store(negative, di, partial);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < lanes; ++i) sum += static_cast<uint64_t>(-int64_t{partial[i]});
    return sum;
  };
  for (uint64_t begin = 0; begin < in_vectors; begin += kChunk) {
    const uint64_t n = std::min(kChunk, in_vectors - begin);
    auto others = zero, crossings = zero;  // -1 for each
    for (uint64_t i = 0; i < n; i += lanes) {
      const auto of_a = hn::BitCast(du, hn::LoadU(du8, a + (begin + i) * sizeof(T)));
      const auto of_b = hn::BitCast(du, hn::LoadU(du8, b + (begin + i) * sizeof(T)));
      // Below half of the type's range, where signed comparisons do.
      const auto size_a = hn::BitCast(di, hn::And(of_a, magnitudes));
      const auto size_b = hn::BitCast(di, hn::And(of_b, magnitudes));
      const auto finite = hn::And(hn::Lt(size_a, specials), hn::Lt(size_b, specials));
      const auto other_sign = hn::Lt(hn::BitCast(di, hn::Xor(of_a, of_b)), zero);
      const auto apart = hn::Sub(hn::Max(size_a, size_b), hn::Min(size_a, size_b));
      const auto distance = hn::IfThenElseZero(finite, hn::IfThenElse(other_sign, hn::Add(size_a, size_b), apart));
      hn::Store(hn::Xor(distance, bias), di, chunk + i);
      others = hn::Add(others, hn::VecFromMask(di, hn::Ne(distance, zero)));
      const auto crosses = hn::And(hn::And(finite, other_sign), hn::Gt(hn::Min(size_a, size_b), zero));
      crossings = hn::Add(crossings, hn::VecFromMask(di, crosses));
    }
    distances->sign_changes += total(crossings);
    uint64_t above = total(others);  // the threshold; begins at 0
    // Two thresholds at a time; beyond the type's range nothing is above.
    for (int bucket = 0; above > 0; bucket += 2) {
      uint64_t next[2] = {};
      if (bucket < kBits) {
        const auto low = hn::Set(di, biased(static_cast<T>(T{1} << bucket)));
        const auto high = hn::Set(di, biased(static_cast<T>(T{1} << (bucket + 1))));
        auto above_low = zero, above_high = zero;
        for (uint64_t i = 0; i < n; i += lanes) {
          const auto distance = hn::Load(di, chunk + i);
          above_low = hn::Add(above_low, hn::VecFromMask(di, hn::Gt(distance, low)));
          above_high = hn::Add(above_high, hn::VecFromMask(di, hn::Gt(distance, high)));
        }
        next[0] = total(above_low);
        next[1] = total(above_high);
      }
      distances->counts[bucket] += above - next[0];
      if (next[0] > 0) distances->counts[bucket + 1] += next[0] - next[1];
      above = next[1];
    }
  }
  return in_vectors;
}

void CountUnitDistances(const uint8_t* a, const uint8_t* b, uint64_t count, int code_bytes, uint32_t special,
                        UnitDistances* distances) {
  uint64_t done = 0;
  if (code_bytes == 2) done = CountVectors<uint16_t>(a, b, count, static_cast<uint16_t>(special), distances);
  if (code_bytes == 4) done = CountVectors<uint32_t>(a, b, count, special, distances);
  const uint64_t bytes = done * static_cast<uint64_t>(code_bytes);
  reference::CountUnitDistances(a + bytes, b + bytes, count - done, code_bytes, special, distances);
}

#endif  // HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(CountUnitDistances);

void CountUnitDistances(const uint8_t* a, const uint8_t* b, uint64_t count, int code_bytes, uint32_t special,
                        UnitDistances* distances) {
  HWY_DYNAMIC_DISPATCH(CountUnitDistances)(a, b, count, code_bytes, special, distances);
}

namespace reference {

void CountUnitDistances(const uint8_t* a, const uint8_t* b, uint64_t count, int code_bytes, uint32_t special,
                        UnitDistances* distances) {
  const uint32_t sign = uint32_t{1} << (8 * code_bytes - 1);
  for (uint64_t i = 0; i < count; ++i) {
    uint32_t x = 0, y = 0;  // little-endian
    std::memcpy(&x, a + i * static_cast<uint64_t>(code_bytes), static_cast<size_t>(code_bytes));
    std::memcpy(&y, b + i * static_cast<uint64_t>(code_bytes), static_cast<size_t>(code_bytes));
    const uint32_t size_x = x & (sign - 1), size_y = y & (sign - 1);
    if (size_x >= special || size_y >= special) continue;
    const bool other_sign = ((x ^ y) & sign) != 0;
    const uint32_t distance = other_sign ? size_x + size_y : std::max(size_x, size_y) - std::min(size_x, size_y);
    if (distance == 0) continue;
    ++distances->counts[static_cast<size_t>(std::bit_width(distance - 1))];
    if (other_sign && size_x > 0 && size_y > 0) ++distances->sign_changes;
  }
}

}  // namespace reference
}  // namespace sluice::kernels
#endif  // HWY_ONCE
