// Rotary position embedding: frequencies of every scaling that the supported architectures use, and tables of cosines
// and sines. Element j of a head is turned together with element j + rotary_dim/2 ("rotate half"):
//   out[j]                = x[j] cos_j - x[j + rotary_dim/2] sin_j
//   out[j + rotary_dim/2] = x[j + rotary_dim/2] cos_j + x[j] sin_j          j < rotary_dim/2
// Elements from rotary_dim on stay as they are. Formulas: RoFormer (arXiv 2104.09864), position interpolation
// (2306.15595), YaRN (2309.00071), LongRoPE (2402.13753), Llama 3.1's model card; order of roundings as in
// transformers, whose frequencies are f32.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice::infer {

enum class RopeType { kDefault, kLinear, kDynamic, kYarn, kLlama3, kLongrope };

struct RopeSpec {
  RopeType type = RopeType::kDefault;
  double theta = 10000;
  uint64_t rotary_dim = 0;               // even, at most head_dim
  uint64_t max_positions = 0;            // config's max_position_embeddings; dynamic begins to stretch behind it
  uint64_t original_max_positions = 0;   // what was trained before scaling: yarn, llama3, longrope
  double factor = 1;                     // all but default; longrope: only for its attention factor
  double attention_factor = 1;           // multiplies cosines and sines: yarn, longrope
  double beta_fast = 32, beta_slow = 1;  // yarn
  bool truncate = true;                  // yarn: whole numbers as ends of its ramp
  double low_freq_factor = 1, high_freq_factor = 4;         // llama3
  std::vector<double> short_factor = {}, long_factor = {};  // longrope: [rotary_dim/2]

  friend bool operator==(const RopeSpec&, const RopeSpec&) = default;
};

// Whether frequencies depend on the longest position: dynamic and longrope.
bool DependsOnLength(const RopeSpec& spec);

struct RopeFrequencies {
  std::vector<float> inverse;  // [rotary_dim/2], radians a position
  float attention_factor = 1;

  friend bool operator==(const RopeFrequencies&, const RopeFrequencies&) = default;
};

// `num_positions`: the longest position of the pass, plus 1. A prefill and a run token by token differ where
// DependsOnLength; who wants equal results gives the same number to both.
RopeFrequencies FrequenciesOf(const RopeSpec& spec, uint64_t num_positions);

inline constexpr uint64_t kRopeTileTokens = 16;  // that of kernels

// Values of each of the two tables for positions [begin, end): whole tiles of 16 tokens, the last one padded.
uint64_t RopeTableSize(const RopeFrequencies& frequencies, uint64_t begin, uint64_t end);

// Fills `cosines` and `sines`, each RopeTableSize values, laid out [tile][rotary_dim/2][16 tokens]. `begin` is a
// multiple of 16, so that a position always falls into the same place of its tile; positions from `end` to the end of
// the last tile are filled like any other. Both times attention_factor. Pure.
void FillRopeTables(const RopeFrequencies& frequencies, uint64_t begin, uint64_t end, std::span<float> cosines,
                    std::span<float> sines);

}  // namespace sluice::infer
