// The arithmetic of the task-vector family (task_arithmetic, ties, dare_linear, dare_ties), in f32, `exact` mode.
//
// For each element, models m in order, all in f32, one operation at a time (no FMA):
//   d_m = x_m - b;  d_m = 0 where the mask drops it, else d_m * scale_m;  p_m = w_m * d_m
//   no consensus: mixed = sum p_m;  div = sum w_m                      (|div| < 1e-8 becomes 1)
//   consensus:    s = +1 where sum p_m >= 0, else -1; over the m with p_m != 0 and sign(p_m) = s:
//                 mixed = sum p_m;  div = sum w_m                      (0 becomes 1)
//   normalize: mixed / div.    out = b + lambda * mixed
// A sum begins with its first term. A NaN agrees with neither sign (and a sum that is NaN is not >= 0, so s = -1).
// (TIES: Yadav et al., arXiv 2306.01708; DARE: Yu et al., arXiv 2311.03099; task arithmetic: Ilharco et al., arXiv
// 2212.04089.)
//
// Functions are dispatched over Highway's targets and give the same bits on each; namespace `reference` holds the
// readable scalar form that the tests hold them to. Which NaN an operation makes of two others differs between
// processors and compilers, so any NaN in a result is written as the canonical quiet one, 0x7FC00000 (f64:
// 0x7FF8000000000000). Arrays need not be aligned. Thread-safe.
#pragma once

#include <cstdint>
#include <span>

#include "base/counter_rng.h"

namespace sluice::kernels {

struct DeltaMask {
  enum class Kind {
    kAll,        // keeps everything
    kRandom,     // Philox words by element, see RandomMaskWord; keeps where word < keep_below
    kMagnitude,  // keeps |d| > threshold, and |d| == threshold up to and including element index last_tie; compared
                 // as select.h orders magnitudes: NaNs are equal to each other and larger than infinity
    kGiven,      // keeps where the caller's bit is set
  };
  Kind kind = Kind::kAll;
  PhiloxKey key{};
  uint64_t keep_below = 0;  // round(density 2^32), 0 .. 2^32
  float threshold = 0;
  uint64_t last_tie = 0;           // index in the flat tensor; ties after it are dropped
  const uint32_t* bits = nullptr;  // kGiven: bit i % 32 of bits[i / 32] is element i's of the call
};

struct TaskVector {
  const float* x = nullptr;  // the model's elements
  float weight = 0;
  float scale = 1;  // DARE's rescale
  DeltaMask mask = {};
};

struct TaskVectorArgs {
  const float* base = nullptr;
  std::span<const TaskVector> models = {};
  bool consensus = false;
  bool normalize = false;
  float lambda = 1;
  uint64_t first_element = 0;  // index of element 0 in the flat tensor; a multiple of 32
  uint64_t count = 0;
  float* out = nullptr;      // count floats, may be `base`'s or a model's own array
  float* scratch = nullptr;  // TaskVectorScratchFloats(models.size()) floats
};

// 1.2 KiB a model: a row of products and a key schedule.
constexpr uint64_t TaskVectorScratchFloats(uint64_t num_models) { return num_models * (256 + 40); }
void TaskVectorSum(const TaskVectorArgs& args);

// Sums of |d| and |masked d| (before scaling), f64, in 16 lanes: element with flat index i adds to lane i % 16, in
// order of i. Accumulates into lanes, so a block may be fed in pieces whose ends are multiples of 32. first_element is
// one.
struct L1Lanes {
  double all[16] = {};
  double kept[16] = {};
};
void AccumulateL1(const float* x, const float* base, const DeltaMask& mask, uint64_t first_element, uint64_t count,
                  L1Lanes* lanes);
// The lanes' sum in one fixed order (pairs at distance 8, 4, 2, 1).
double SumLanes(const double (&lanes)[16]);

// Word of an element: block b = element / 32 draws counters 8b .. 8b + 7; element 32b + 8j + i takes word j of
// counter 8b + i. The counter is the 64-bit low half; the high half is zero.
uint32_t RandomMaskWord(PhiloxKey key, uint64_t element);
// Words of `count` elements from first_element (a multiple of 32); count rounded up to 32 words are written.
void RandomMaskWords(PhiloxKey key, uint64_t first_element, uint64_t count, uint32_t* words);

// out = sum_m w_m x_m, in f32 and in order of m; divided by `divisor` unless that is 1.
void WeightedSum(std::span<const float* const> x, std::span<const float> weights, float divisor, uint64_t count,
                 float* out);

namespace reference {
void TaskVectorSum(const TaskVectorArgs& args);
void AccumulateL1(const float* x, const float* base, const DeltaMask& mask, uint64_t first_element, uint64_t count,
                  L1Lanes* lanes);
void RandomMaskWords(PhiloxKey key, uint64_t first_element, uint64_t count, uint32_t* words);
void WeightedSum(std::span<const float* const> x, std::span<const float> weights, float divisor, uint64_t count,
                 float* out);
}  // namespace reference

}  // namespace sluice::kernels
