// MagnitudeSearch: finds the k-th largest |x - base| of a tensor that passes by several times, and of the elements that
// equal it the last one among the k first, in index order. One order statistic of a MagnitudeFold (magnitude_fact.h
// tells the steps), which counts keys for all of its searches and hands the passes on to each.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "arithmetic/kept_magnitudes.h"
#include "arithmetic/key_counts.h"
#include "kernels/select.h"

namespace sluice::arithmetic {

// Bounds of the steps; tests make them small.
struct MagnitudeLimits {
  uint64_t all_blocks = 14;             // up to so many blocks, keep every magnitude
  uint64_t sample_above_blocks = 64;    // from more blocks than this, sample
  uint64_t sample_step = 32;            // one block in so many
  uint64_t max_candidates = 384 << 10;  // 6 bytes each
};

// How a tensor is looked at.
struct MagnitudeTensor {
  uint64_t num_elements, num_blocks;
  MagnitudeLimits limits;

  MagnitudeTensor(uint64_t num_elements, const MagnitudeLimits& limits);
  bool keeps_all() const { return num_blocks <= limits.all_blocks; }
  bool is_large() const { return num_blocks > limits.sample_above_blocks; }
  // The middle of each run of sample_step blocks.
  bool IsSampled(uint64_t block) const { return block % limits.sample_step == limits.sample_step / 2; }
};

class MagnitudeSearch {
 public:
  // 1 <= k <= num_elements. Without wants_tie, last_tie is any.
  MagnitudeSearch(const MagnitudeTensor& tensor, uint64_t k, bool wants_tie);

  // What it is waiting for: a pass over blocks that it wants, or counts of keys.
  bool is_known() const { return step_ == Step::kKnown; }
  bool needs_counts() const { return step_ == Step::kCounts; }
  uint32_t threshold_bits() const { return threshold_bits_; }  // once known
  uint64_t last_tie() const { return last_tie_; }

  // Of the blocks of a sample, where is_sample; else of all.
  void TakeCounts(const KeyCounts& counts, bool is_sample);
  // Where every magnitude is kept: from counts of all keys, or of few from themselves. Then, where wants_lower_bits()
  // says so, counts of the lower 16 bits of the magnitudes whose upper 16 are upper_bits(). Then FinishKept: known.
  void TakeAllCounts(const KeyCounts& counts);
  void SelectAmongFew(KeptMagnitudes* kept);
  bool wants_lower_bits() const { return bracket_.low != bracket_.high; }
  uint32_t upper_bits() const { return bracket_.low >> 16; }
  void TakeLowerBits(const uint32_t* counts);
  void FinishKept(KeptMagnitudes* kept);
  // A pass, as graph::Fold has it. `begin` is the flat index of x[0], in one block with the last.
  bool Wants(uint64_t block) const;
  void Add(uint64_t begin, const float* x, const float* base, uint64_t count);
  void FinishPass();

  static uint64_t StateBytes(const MagnitudeTensor& tensor);

 private:
  enum class Step { kCounts, kFine, kCollect, kTies, kBlock, kKnown };
  using Counters = std::vector<std::atomic<uint32_t>>;
  struct Kept {
    uint16_t high_bits, low_bits, index_in_block;
    uint32_t bits() const { return static_cast<uint32_t>(high_bits) << 16 | low_bits; }
  };

  void AddPart(uint64_t begin, const float* x, const float* base, uint64_t count);
  void AddCandidates(uint64_t block, const kernels::BracketCounts& counts, const kernels::Candidate* candidates,
                     uint64_t num_candidates);
  void CountValue(uint32_t bits, uint32_t count) {
    buckets_[(bits - bracket_.low) >> shift_].fetch_add(count, std::memory_order_relaxed);
  }

  void Free();
  void FindTieAmongKept(KeptMagnitudes* kept);
  void FindTieInWords(std::span<const uint32_t> words, uint64_t begin);
  void TakeSample(const KeyCounts& counts);
  void SetBracket(uint32_t low_value, uint32_t high_value);
  uint32_t LowOfBucket(size_t bucket) const { return bracket_.low + (static_cast<uint32_t>(bucket) << shift_); }
  uint32_t HighOfBucket(size_t bucket) const;
  uint64_t CountOf(size_t bucket) const { return buckets_[bucket].load(std::memory_order_relaxed); }
  void SetCommon(std::vector<std::pair<uint64_t, uint32_t>> counts_and_values);
  size_t CommonIndex(uint32_t bits) const;

  void BeginFine();
  void FinishFine();
  void BeginCollect();
  void FinishCollect();
  void SelectInBucket(size_t bucket, uint64_t* before, uint64_t* count);
  // The threshold is known, `before` are larger and `count` equal it. True where the last tie is known by that.
  bool Settle(uint64_t before, uint64_t count);
  void FindTieAmongCandidates();
  void BeginTies();
  void FinishTies();
  template <class CountOfTies>
  void BeginBlock(const CountOfTies& count_of);

  const MagnitudeTensor tensor_;
  const uint64_t k_;
  const bool wants_tie_;
  Step step_ = Step::kCounts;
  bool sampling_ = false;                    // the bracket comes from a sample
  uint64_t first_rank_ = 0, last_rank_ = 0;  // in the sample
  uint64_t sample_above_ = 0;                // the bracket

  kernels::MagnitudeBracket bracket_;
  uint32_t shift_ = 0;                         // 2^shift_ values share a bucket
  Counters buckets_;                           // kFine, kCollect: counts of the bracket
  std::vector<uint32_t> fine_values_;          // kFine: some of the bracket's values
  std::atomic<uint64_t> above_{0};             // kCollect: larger than the bracket
  std::atomic<uint64_t> num_candidates_{0};    // kFine, kCollect
  std::atomic<bool> overflow_{false};          // kCollect: there was no room for some
  std::vector<std::vector<Kept>> candidates_;  // kCollect: by block
  std::vector<uint32_t> common_by_block_;      // kCollect: [num_blocks, kMaxCommon]
  std::vector<uint32_t> tie_words_;            // kTies: a bit for each element
  std::vector<uint32_t> tie_counts_;           // kTies of large tensors: by block
  uint64_t tie_block_ = 0, ties_left_ = 0;     // kBlock
  bool found_ = false;

  uint64_t num_larger_ = 0, num_equal_ = 0;  // of kept magnitudes: than the k-th or its key, and to it
  uint32_t threshold_bits_ = 0;
  uint64_t last_tie_ = 0;
};

}  // namespace sluice::arithmetic
