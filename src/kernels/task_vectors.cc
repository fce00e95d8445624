// The task-vector family's arithmetic, several elements at a time.
//
// Problem: a merge of seven models touches eight numbers for each that it writes, draws seven random words or compares
// seven magnitudes, and takes a vote; it must keep up with a disk, and give the same bits on every machine.
//
// Idea: chunks of 256 elements. Model by model a row of products w * d is written to scratch, what concerns the model
// (mask, scale, weight) being constants of the loop; then the vote and the sums run down the rows, their accumulators
// in registers. The rows stay in the first cache. A magnitude mask is one integer comparison: for elements up to the
// last tie against threshold - 1, for later ones against the threshold.
//
// Gain: base + 7 models on one core of a Zen 3 (AVX2): TIES 560 M elements/s, DARE-TIES 170, where the reference makes
// 7 and 3; the disk that was aimed at feeds about 100. Two thirds of DARE's time are the random words.
#include "kernels/task_vectors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/philox.h"
#include "kernels/select.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/task_vectors.cc"
#include <hwy/foreach_target.h>  // after HWY_TARGET_INCLUDE
#include <hwy/highway.h>

#include "kernels/philox-inl.h"

#ifndef SLUICE_KERNELS_TASK_VECTORS_ONCE
#define SLUICE_KERNELS_TASK_VECTORS_ONCE
namespace sluice::kernels {

constexpr uint64_t kChunk = 256;
constexpr uint64_t kScheduleFloats = sizeof(PhiloxSchedule) / sizeof(float);
static_assert(TaskVectorScratchFloats(1) >= kChunk + kScheduleFloats);

// A magnitude mask as signed comparisons of 31-bit patterns: d is kept where bits(|d|) > up_to_last_tie in elements up
// to last_tie, and where > after_last_tie in those that follow.
struct MagnitudeBounds {
  int32_t up_to_last_tie, after_last_tie;
};
inline MagnitudeBounds BoundsOf(const DeltaMask& mask) {
  const uint32_t threshold = reference::MagnitudeBits(mask.threshold, 0);
  // Arithmetic makes only quiet NaNs, whose patterns begin at the canonical one, so it stands for all of them.
  const uint32_t none_is_larger = 0x7FC00000;
  return {static_cast<int32_t>(threshold) - 1,
          static_cast<int32_t>(threshold >= none_is_larger ? 0x7FFFFFFF : threshold)};
}

inline bool DrawsWords(const DeltaMask& mask) {
  return mask.kind == DeltaMask::Kind::kRandom && mask.keep_below < uint64_t{1} << 32;
}

// `values`, or where n is more than count a copy with zeros behind it.
inline const float* Padded(const float* values, uint64_t count, uint64_t n, float* buffer) {
  if (n == count) return values;
  std::memcpy(buffer, values, count * sizeof(float));
  std::fill(buffer + count, buffer + n, 0.0f);
  return buffer;
}

inline float Canonical(float value) { return std::isnan(value) ? std::bit_cast<float>(0x7FC00000u) : value; }
inline double Canonical(double value) {
  return std::isnan(value) ? std::bit_cast<double>(uint64_t{0x7FF8} << 48) : value;
}

}  // namespace sluice::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace sluice::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR

void TaskVectorSum(const TaskVectorArgs& args) { reference::TaskVectorSum(args); }
void AccumulateL1(const float* x, const float* base, const DeltaMask& mask, uint64_t first_element, uint64_t count,
                  L1Lanes* lanes) {
  reference::AccumulateL1(x, base, mask, first_element, count, lanes);
}
void WeightedSum(std::span<const float* const> x, std::span<const float> weights, float divisor, uint64_t count,
                 float* out) {
  reference::WeightedSum(x, weights, divisor, count, out);
}

#else

using DF = hn::CappedTag<float, kMaxVectorBytes / 4>;
using DU = hn::Rebind<uint32_t, DF>;
using DI = hn::Rebind<int32_t, DF>;
using DD = hn::Repartition<double, DF>;
using VF = hn::Vec<DF>;
using VD = hn::Vec<DD>;
using MF = hn::Mask<DF>;

constexpr uint64_t kLanes = hn::MaxLanes(DF());

HWY_INLINE VF CanonicalNaN(VF v) {
  return hn::IfThenElse(hn::IsNaN(v), hn::BitCast(DF(), hn::Set(DU(), 0x7FC00000)), v);
}

HWY_INLINE MF LargerThan(VF delta, hn::Vec<DI> bound) {
  return hn::RebindMask(DF(), hn::Gt(hn::BitCast(DI(), hn::Abs(delta)), bound));
}
HWY_INLINE MF WordBelow(const uint32_t* words, hn::Vec<DU> bound) {
  return hn::RebindMask(DF(), hn::Lt(hn::LoadU(DU(), words), bound));
}

// Calls body(i, masked) for each vector of [0, n), n a multiple of the lanes and `element` the flat index of 0, where
// masked(delta, v) is v where the mask keeps and 0 elsewhere. `words`: the mask's random words, where it is a random
// one; its bits, where they are given (n is a multiple of 32).
template <class Body>
HWY_INLINE void ForEachVector(const DeltaMask& mask, const uint32_t* words, uint64_t element, uint64_t n, Body body) {
  if (mask.kind == DeltaMask::Kind::kGiven) {
    for (uint64_t i = 0; i < n; i += 32) {
      const auto bits = hn::Set(DU(), words[i / 32]);
      HWY_UNROLL(8)
      for (uint64_t j = 0; j < 32; j += kLanes) {
        const auto of_lanes = hn::Shl(hn::Set(DU(), 1), hn::Iota(DU(), static_cast<uint32_t>(j)));
        const MF kept = hn::RebindMask(DF(), hn::TestBit(bits, of_lanes));
        body(i + j, [&](VF, VF v) HWY_ATTR { return hn::IfThenElseZero(kept, v); });
      }
    }
  } else if (DrawsWords(mask)) {
    const auto below = hn::Set(DU(), static_cast<uint32_t>(mask.keep_below));
    for (uint64_t i = 0; i < n; i += kLanes) {
      body(i, [&](VF, VF v) HWY_ATTR { return hn::IfThenElseZero(WordBelow(words + i, below), v); });
    }
  } else if (mask.kind == DeltaMask::Kind::kMagnitude) {
    const MagnitudeBounds bounds = BoundsOf(mask);
    const auto up_to_tie = hn::Set(DI(), bounds.up_to_last_tie), after_tie = hn::Set(DI(), bounds.after_last_tie);
    // Elements of [0, n) up to the last tie.
    const uint64_t ties = mask.last_tie < element ? 0 : std::min(n - 1, mask.last_tie - element) + 1;
    uint64_t i = 0;
    for (; i + kLanes <= ties; i += kLanes) {
      body(i, [&](VF delta, VF v) HWY_ATTR { return hn::IfThenElseZero(LargerThan(delta, up_to_tie), v); });
    }
    if (i < ties) {
      const auto bound = hn::IfThenElse(hn::FirstN(DI(), ties - i), up_to_tie, after_tie);
      body(i, [&](VF delta, VF v) HWY_ATTR { return hn::IfThenElseZero(LargerThan(delta, bound), v); });
      i += kLanes;
    }
    for (; i < n; i += kLanes) {
      body(i, [&](VF delta, VF v) HWY_ATTR { return hn::IfThenElseZero(LargerThan(delta, after_tie), v); });
    }
  } else {
    for (uint64_t i = 0; i < n; i += kLanes) {
      body(i, [&](VF, VF v) HWY_ATTR { return v; });
    }
  }
}

// p = w * (kept ? (x - b) * scale : 0)
template <bool kScaled>
HWY_INLINE void WriteProducts(const TaskVector& model, const float* x, const float* base, const uint32_t* words,
                              uint64_t element, uint64_t n, float* products) {
  const DF df;
  const VF scale = hn::Set(df, model.scale), weight = hn::Set(df, model.weight);
  ForEachVector(model.mask, words, element, n, [&](uint64_t i, auto masked) HWY_ATTR {
    const VF delta = hn::Sub(hn::LoadU(df, x + i), hn::LoadU(df, base + i));
    const VF scaled = kScaled ? hn::Mul(delta, scale) : delta;
    hn::StoreU(hn::Mul(weight, masked(delta, scaled)), df, products + i);
  });
}

// Down the rows of products, with the vote.
template <bool kNormalize>
HWY_INLINE void Consensus(const TaskVectorArgs& args, const float* base, const float* rows, uint64_t n, float* out) {
  const DF df;
  const DU du;
  const uint64_t num_models = args.models.size();
  const VF zero = hn::Zero(df), one = hn::Set(df, 1.0f), lambda = hn::Set(df, args.lambda);
  const VF sign_bit = hn::BitCast(df, hn::Set(du, 0x80000000u));
  // Two vectors at a time: their chains of additions overlap, and all accumulators have registers.
  for (uint64_t i = 0; i < n; i += 2 * kLanes) {
    VF sum_0 = hn::LoadU(df, rows + i), sum_1 = hn::LoadU(df, rows + i + kLanes);
    for (uint64_t m = 1; m < num_models; ++m) {
      const float* row = rows + m * kChunk + i;
      sum_0 = hn::Add(sum_0, hn::LoadU(df, row));
      sum_1 = hn::Add(sum_1, hn::LoadU(df, row + kLanes));
    }
    // What turns a product that agrees into a positive number.
    const VF turn_0 = hn::IfThenZeroElse(hn::Ge(sum_0, zero), sign_bit);
    const VF turn_1 = hn::IfThenZeroElse(hn::Ge(sum_1, zero), sign_bit);
    VF mixed_0 = zero, mixed_1 = zero, divisor_0 = zero, divisor_1 = zero;
    for (uint64_t m = 0; m < num_models; ++m) {
      const float* row = rows + m * kChunk + i;
      const VF p_0 = hn::LoadU(df, row), p_1 = hn::LoadU(df, row + kLanes);
      const MF agrees_0 = hn::Gt(hn::Xor(p_0, turn_0), zero), agrees_1 = hn::Gt(hn::Xor(p_1, turn_1), zero);
      mixed_0 = hn::Add(mixed_0, hn::IfThenElseZero(agrees_0, p_0));
      mixed_1 = hn::Add(mixed_1, hn::IfThenElseZero(agrees_1, p_1));
      if constexpr (kNormalize) {
        const VF weight = hn::Set(df, args.models[m].weight);
        divisor_0 = hn::Add(divisor_0, hn::IfThenElseZero(agrees_0, weight));
        divisor_1 = hn::Add(divisor_1, hn::IfThenElseZero(agrees_1, weight));
      }
    }
    if constexpr (kNormalize) {
      mixed_0 = hn::Div(mixed_0, hn::IfThenElse(hn::Eq(divisor_0, zero), one, divisor_0));
      mixed_1 = hn::Div(mixed_1, hn::IfThenElse(hn::Eq(divisor_1, zero), one, divisor_1));
    }
    // Two operations, each rounded: never MulAdd here.
    hn::StoreU(CanonicalNaN(hn::Add(hn::LoadU(df, base + i), hn::Mul(lambda, mixed_0))), df, out + i);
    hn::StoreU(CanonicalNaN(hn::Add(hn::LoadU(df, base + i + kLanes), hn::Mul(lambda, mixed_1))), df, out + i + kLanes);
  }
}

// The same without a vote; `divisor` is 1 where nothing is to be divided.
HWY_INLINE void PlainSum(const TaskVectorArgs& args, float divisor, const float* base, const float* rows, uint64_t n,
                         float* out) {
  const DF df;
  const uint64_t num_models = args.models.size();
  const VF lambda = hn::Set(df, args.lambda), by = hn::Set(df, divisor);
  for (uint64_t i = 0; i < n; i += kLanes) {
    VF mixed = num_models == 0 ? hn::Zero(df) : hn::LoadU(df, rows + i);
    for (uint64_t m = 1; m < num_models; ++m) mixed = hn::Add(mixed, hn::LoadU(df, rows + m * kChunk + i));
    if (divisor != 1) mixed = hn::Div(mixed, by);
    hn::StoreU(CanonicalNaN(hn::Add(hn::LoadU(df, base + i), hn::Mul(lambda, mixed))), df, out + i);
  }
}

// Words of n elements, rounded up to a block, all with the same CounterWord1.
HWY_INLINE void DrawWords(PhiloxKey key, const PhiloxSchedule& schedule, uint64_t element, uint64_t n,
                          uint32_t* words) {
  for (uint64_t i = 0; i < n; i += 32) philox::BlockWords(key, schedule, element + i, words + i);
}

void TaskVectorSum(const TaskVectorArgs& args) {
  const uint64_t num_models = args.models.size();
  float* const rows = args.scratch;
  float* const schedules = args.scratch + num_models * kChunk;
  HWY_ALIGN uint32_t words[kChunk];
  HWY_ALIGN float padded_base[kChunk], padded_x[kChunk], padded_out[kChunk];

  float divisor = 0;  // without consensus
  for (const TaskVector& model : args.models) divisor += model.weight;
  if (!args.normalize || std::fabs(divisor) < 1e-8f) divisor = 1;

  uint64_t schedules_end = 0;  // the schedules hold for elements before this one
  for (uint64_t at = 0; at < args.count;) {
    const uint64_t element = args.first_element + at;
    if (element >= schedules_end) {
      for (uint64_t m = 0; m < num_models; ++m) {
        const PhiloxSchedule schedule = MakePhiloxSchedule(args.models[m].mask.key, CounterWord1(element));
        std::memcpy(schedules + m * kScheduleFloats, &schedule, sizeof(schedule));
      }
      schedules_end = (element / kElementsPerCounterWord1 + 1) * kElementsPerCounterWord1;
    }
    const uint64_t count = std::min({kChunk, args.count - at, schedules_end - element});
    const uint64_t n = (count + 31) / 32 * 32;
    const bool padded = n != count;
    const float* base = Padded(args.base + at, count, n, padded_base);
    for (uint64_t m = 0; m < num_models; ++m) {
      const TaskVector& model = args.models[m];
      const uint32_t* of_mask = words;
      if (DrawsWords(model.mask)) {
        PhiloxSchedule schedule;
        std::memcpy(&schedule, schedules + m * kScheduleFloats, sizeof(schedule));
        DrawWords(model.mask.key, schedule, element, n, words);
      } else if (model.mask.kind == DeltaMask::Kind::kGiven) {
        of_mask = model.mask.bits + at / 32;
      }
      const float* x = Padded(model.x + at, count, n, padded_x);
      if (model.scale == 1) {
        WriteProducts<false>(model, x, base, of_mask, element, n, rows + m * kChunk);
      } else {
        WriteProducts<true>(model, x, base, of_mask, element, n, rows + m * kChunk);
      }
    }
    float* out = padded ? padded_out : args.out + at;
    if (!args.consensus || num_models == 0) {
      PlainSum(args, divisor, base, rows, n, out);
    } else if (args.normalize) {
      Consensus<true>(args, base, rows, n, out);
    } else {
      Consensus<false>(args, base, rows, n, out);
    }
    if (padded) std::memcpy(args.out + at, padded_out, count * sizeof(float));
    at += count;
  }
}

// Adds row[i] to lane i % 16, as f64.
HWY_INLINE void AddRow(const float* row, uint64_t n, double (&lanes)[16]) {
  const DD dd;
  const hn::Rebind<float, DD> df;
  constexpr uint64_t kStep = hn::MaxLanes(DD());
  // Four vectors at a time: the 16 lanes in AVX2, where one addition waits for the last of its lane no longer than the
  // other three take.
  for (uint64_t first = 0; first < 16; first += 4 * kStep) {
    VD sum_0 = hn::LoadU(dd, lanes + first), sum_1 = hn::LoadU(dd, lanes + first + kStep);
    VD sum_2 = hn::LoadU(dd, lanes + first + 2 * kStep), sum_3 = hn::LoadU(dd, lanes + first + 3 * kStep);
    for (uint64_t i = first; i < n; i += 16) {
      sum_0 = hn::Add(sum_0, hn::PromoteTo(dd, hn::LoadU(df, row + i)));
      sum_1 = hn::Add(sum_1, hn::PromoteTo(dd, hn::LoadU(df, row + i + kStep)));
      sum_2 = hn::Add(sum_2, hn::PromoteTo(dd, hn::LoadU(df, row + i + 2 * kStep)));
      sum_3 = hn::Add(sum_3, hn::PromoteTo(dd, hn::LoadU(df, row + i + 3 * kStep)));
    }
    hn::StoreU(sum_0, dd, lanes + first);
    hn::StoreU(sum_1, dd, lanes + first + kStep);
    hn::StoreU(sum_2, dd, lanes + first + 2 * kStep);
    hn::StoreU(sum_3, dd, lanes + first + 3 * kStep);
  }
}

void AccumulateL1(const float* x, const float* base, const DeltaMask& mask, uint64_t first_element, uint64_t count,
                  L1Lanes* lanes) {
  const DF df;
  HWY_ALIGN uint32_t words[kChunk];
  HWY_ALIGN float padded_x[kChunk], padded_base[kChunk], all[kChunk], kept[kChunk];
  PhiloxSchedule schedule = {};
  uint64_t schedule_end = 0;  // the schedule holds for elements before this one
  for (uint64_t at = 0; at < count;) {
    const uint64_t element = first_element + at;
    if (element >= schedule_end) {
      schedule = MakePhiloxSchedule(mask.key, CounterWord1(element));
      schedule_end = (element / kElementsPerCounterWord1 + 1) * kElementsPerCounterWord1;
    }
    const uint64_t part = std::min({kChunk, count - at, schedule_end - element});
    const uint64_t n = (part + 31) / 32 * 32;  // the padding's deltas are 0 and add nothing
    const float* x_part = Padded(x + at, part, n, padded_x);
    const float* base_part = Padded(base + at, part, n, padded_base);
    const uint32_t* of_mask = words;
    if (DrawsWords(mask)) {
      DrawWords(mask.key, schedule, element, n, words);
    } else if (mask.kind == DeltaMask::Kind::kGiven) {
      of_mask = mask.bits + at / 32;
    }
    ForEachVector(mask, of_mask, element, n, [&](uint64_t i, auto masked) HWY_ATTR {
      const VF magnitude = hn::Abs(hn::Sub(hn::LoadU(df, x_part + i), hn::LoadU(df, base_part + i)));
      hn::Store(magnitude, df, all + i);
      hn::Store(masked(magnitude, magnitude), df, kept + i);
    });
    AddRow(all, n, lanes->all);
    AddRow(kept, n, lanes->kept);
    at += part;
  }
  for (double(*of)[16] : {&lanes->all, &lanes->kept}) {
    for (double& lane : *of) lane = Canonical(lane);
  }
}

void WeightedSum(std::span<const float* const> x, std::span<const float> weights, float divisor, uint64_t count,
                 float* out) {
  const DF df;
  const VF by = hn::Set(df, divisor);
  const uint64_t num_models = x.size();
  if (num_models == 0) {
    reference::WeightedSum(x, weights, divisor, count, out);
    return;
  }
  uint64_t at = 0;
  for (; at + 4 * kLanes <= count; at += 4 * kLanes) {
    VF weight = hn::Set(df, weights[0]);
    const float* of = x[0] + at;
    VF sum_0 = hn::Mul(weight, hn::LoadU(df, of)), sum_1 = hn::Mul(weight, hn::LoadU(df, of + kLanes));
    VF sum_2 = hn::Mul(weight, hn::LoadU(df, of + 2 * kLanes)), sum_3 = hn::Mul(weight, hn::LoadU(df, of + 3 * kLanes));
    for (uint64_t m = 1; m < num_models; ++m) {
      weight = hn::Set(df, weights[m]);
      of = x[m] + at;
      sum_0 = hn::Add(sum_0, hn::Mul(weight, hn::LoadU(df, of)));
      sum_1 = hn::Add(sum_1, hn::Mul(weight, hn::LoadU(df, of + kLanes)));
      sum_2 = hn::Add(sum_2, hn::Mul(weight, hn::LoadU(df, of + 2 * kLanes)));
      sum_3 = hn::Add(sum_3, hn::Mul(weight, hn::LoadU(df, of + 3 * kLanes)));
    }
    if (divisor != 1) {
      sum_0 = hn::Div(sum_0, by);
      sum_1 = hn::Div(sum_1, by);
      sum_2 = hn::Div(sum_2, by);
      sum_3 = hn::Div(sum_3, by);
    }
    hn::StoreU(CanonicalNaN(sum_0), df, out + at);
    hn::StoreU(CanonicalNaN(sum_1), df, out + at + kLanes);
    hn::StoreU(CanonicalNaN(sum_2), df, out + at + 2 * kLanes);
    hn::StoreU(CanonicalNaN(sum_3), df, out + at + 3 * kLanes);
  }
  for (; at < count; ++at) {
    float sum = weights[0] * x[0][at];
    for (uint64_t m = 1; m < num_models; ++m) sum += weights[m] * x[m][at];
    out[at] = Canonical(divisor == 1 ? sum : sum / divisor);
  }
}

#endif  // HWY_SCALAR

void RandomMaskWords(PhiloxKey key, uint64_t first_element, uint64_t count, uint32_t* words) {
  PhiloxSchedule schedule = {};
  uint64_t schedule_end = 0;
  for (uint64_t i = 0; i < count; i += 32) {
    const uint64_t element = first_element + i;
    if (element >= schedule_end) {
      schedule = MakePhiloxSchedule(key, CounterWord1(element));
      schedule_end = (element / kElementsPerCounterWord1 + 1) * kElementsPerCounterWord1;
    }
    philox::BlockWords(key, schedule, element, words + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice::kernels {

HWY_EXPORT(TaskVectorSum);
HWY_EXPORT(AccumulateL1);
HWY_EXPORT(RandomMaskWords);
HWY_EXPORT(WeightedSum);

void TaskVectorSum(const TaskVectorArgs& args) {
  SLUICE_CHECK(args.first_element % 32 == 0);
  HWY_DYNAMIC_DISPATCH(TaskVectorSum)(args);
}

void AccumulateL1(const float* x, const float* base, const DeltaMask& mask, uint64_t first_element, uint64_t count,
                  L1Lanes* lanes) {
  SLUICE_CHECK(first_element % 32 == 0);
  HWY_DYNAMIC_DISPATCH(AccumulateL1)(x, base, mask, first_element, count, lanes);
}

void RandomMaskWords(PhiloxKey key, uint64_t first_element, uint64_t count, uint32_t* words) {
  SLUICE_CHECK(first_element % 32 == 0);
  HWY_DYNAMIC_DISPATCH(RandomMaskWords)(key, first_element, count, words);
}

void WeightedSum(std::span<const float* const> x, std::span<const float> weights, float divisor, uint64_t count,
                 float* out) {
  SLUICE_CHECK(x.size() == weights.size());
  HWY_DYNAMIC_DISPATCH(WeightedSum)(x, weights, divisor, count, out);
}

}  // namespace sluice::kernels
#endif  // HWY_ONCE
