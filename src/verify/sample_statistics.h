// What a stratified sample of blocks says of all blocks: shares with bounds, means, deviations and distances with
// intervals. Pure. Numbers of one block are correlated, so the block is what varies: intervals are over blocks
// (clusters), never over elements. docs/fingerprint.md has the formulas and their proofs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "verify/block_facts.h"

namespace sluice::verify {

struct StratumFacts {
  uint64_t num_elements = 0, num_blocks = 0;  // of the whole tensor
  std::span<const BlockComparison> blocks;    // those that were drawn, at least one where there is any
};

struct Estimate {
  double value = 0;
  // Half the width of the interval at the confidence asked for, by the normal approximation; 0 where every block was
  // looked at, nullopt where so few were that nothing can be said.
  std::optional<double> margin;
};

struct SideStatistics {
  Estimate mean, deviation;    // of all finite numbers
  double least = 0, most = 0;  // seen
  uint64_t nan = 0, infinite = 0;
};

struct SampleStatistics {
  uint64_t tensors = 0;
  uint64_t blocks = 0, all_blocks = 0;
  uint64_t differing = 0;        // of the blocks: other numbers, whatever explains them
  double differing_share = 0;    // of all blocks, estimated
  double differing_at_most = 0;  // upper bound at the confidence asked for
  double beyond_extremes = 0;    // at most this share of all blocks has a number above `most`; the same of `least`
  std::optional<SideStatistics> a, b;   // where all of that side's encodings have numbers
  std::optional<Estimate> relative_l2;  // ||a - b|| / ||a||; nullopt where not both sides' numbers were seen, or a is 0
};

SampleStatistics Describe(std::span<const StratumFacts> strata, double confidence);

// Least p for which P(Binomial(n, p) <= k) <= 1 - confidence: Clopper and Pearson's upper bound. 1 where k >= n.
double ClopperPearsonUpper(uint64_t k, uint64_t n, double confidence);

// Upper bound of the share of differing blocks where k of the n that were drawn differ. `draws`: the least n_h / W_h
// of the strata, W_h a stratum's share of all blocks.
double UpperShare(uint64_t k, uint64_t n, double draws, double confidence);

// x with P(|Z| <= x) = confidence, Z standard normal.
double TwoSidedNormal(double confidence);

}  // namespace sluice::verify
