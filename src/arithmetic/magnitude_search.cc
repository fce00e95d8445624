#include "arithmetic/magnitude_search.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <tuple>

#include "base/check.h"
#include "graph/node.h"

namespace sluice::arithmetic {
namespace {

using graph::kBlockElements;
using kernels::MagnitudeBracket;

constexpr uint32_t kMaxBuckets = 1u << 17;   // that a bracket is counted in; of one value each where it has no more
constexpr size_t kFineValues = 1u << 16;     // of the bracket, looked through for common ones
constexpr uint64_t kCollectElements = 1024;  // per call, so that the kernel's list stays small
constexpr uint64_t kKeptBytes = 6;           // of a candidate
constexpr size_t kMaxCommon = MagnitudeBracket::kMaxCommon;
constexpr uint64_t kWordBits = 32;
constexpr float kZeros[kCollectElements] = {};

}  // namespace

MagnitudeTensor::MagnitudeTensor(uint64_t num_elements_in, const MagnitudeLimits& limits_in)
    : num_elements(num_elements_in),
      num_blocks((num_elements + kBlockElements - 1) / kBlockElements),
      limits(limits_in) {
  SLUICE_CHECK(limits.sample_above_blocks >= limits.sample_step);  // so that a sample has a block
}

MagnitudeSearch::MagnitudeSearch(const MagnitudeTensor& tensor, uint64_t k, bool wants_tie)
    : tensor_(tensor), k_(k), wants_tie_(wants_tie) {
  static_assert(sizeof(Kept) == kKeptBytes);
  SLUICE_CHECK(k >= 1 && k <= tensor.num_elements);
}

bool MagnitudeSearch::Wants(uint64_t block) const {
  switch (step_) {
    case Step::kCounts:
    case Step::kKnown:
      return false;
    case Step::kFine:
      return tensor_.IsSampled(block);
    case Step::kBlock:
      return block == tie_block_;
    case Step::kCollect:
    case Step::kTies:
      return true;
  }
  return false;
}

void MagnitudeSearch::Add(uint64_t begin, const float* x, const float* base, uint64_t count) {
  if (step_ == Step::kTies && !tensor_.is_large()) {
    SLUICE_CHECK(begin % kWordBits == 0);
    kernels::EqualMagnitudes(x, base, count, threshold_bits_, &tie_words_[begin / kWordBits]);
    return;
  }
  for (uint64_t at = 0; at < count; at += kCollectElements) {
    AddPart(begin + at, x + at, base + at, std::min(kCollectElements, count - at));
  }
}

void MagnitudeSearch::AddPart(uint64_t begin, const float* x, const float* base, uint64_t count) {
  const uint64_t block = begin / kBlockElements;
  kernels::Candidate list[kCollectElements];
  kernels::BracketCounts counts;
  const uint64_t found = kernels::CollectCandidates(x, base, count, bracket_,
                                                    static_cast<uint32_t>(begin % kBlockElements), list, &counts);
  switch (step_) {
    case Step::kFine:
      for (uint64_t i = 0; i < found; ++i) {
        CountValue(list[i].bits, 1);
        const uint64_t place = num_candidates_.fetch_add(1, std::memory_order_relaxed);
        if (place < fine_values_.size()) fine_values_[place] = list[i].bits;
      }
      break;
    case Step::kCollect:
      AddCandidates(block, counts, list, found);
      break;
    case Step::kTies:  // the threshold is the bracket, and is common
      tie_counts_[block] += static_cast<uint32_t>(counts.common[0]);
      break;
    case Step::kBlock:  // the threshold is the bracket
      for (uint64_t i = 0; i < found && !found_; ++i) {
        if (--ties_left_ > 0) continue;
        last_tie_ = block * kBlockElements + list[i].index_in_block;
        found_ = true;
      }
      break;
    case Step::kCounts:
    case Step::kKnown:
      SLUICE_CHECK(false);
  }
}

void MagnitudeSearch::AddCandidates(uint64_t block, const kernels::BracketCounts& counts,
                                    const kernels::Candidate* candidates, uint64_t num_candidates) {
  if (counts.above > 0) above_.fetch_add(counts.above, std::memory_order_relaxed);
  for (size_t i = 0; i < bracket_.num_common; ++i) {
    const auto count = static_cast<uint32_t>(counts.common[i]);
    common_by_block_[block * kMaxCommon + i] += count;
    if (count > 0) CountValue(bracket_.common[i], count);
  }
  if (num_candidates == 0) return;
  for (uint64_t i = 0; i < num_candidates; ++i) CountValue(candidates[i].bits, 1);
  if (overflow_.load(std::memory_order_relaxed)) return;
  if (num_candidates_.fetch_add(num_candidates, std::memory_order_relaxed) + num_candidates >
      tensor_.limits.max_candidates) {
    overflow_.store(true, std::memory_order_relaxed);
    return;
  }
  std::vector<Kept>& kept = candidates_[block];
  kept.reserve(kept.size() + num_candidates);  // exactly: what StateBytes counts on
  for (uint64_t i = 0; i < num_candidates; ++i) {
    const kernels::Candidate& c = candidates[i];
    kept.push_back({static_cast<uint16_t>(c.bits >> 16), static_cast<uint16_t>(c.bits), c.index_in_block});
  }
}

void MagnitudeSearch::FinishPass() {
  switch (step_) {
    case Step::kFine:
      return FinishFine();
    case Step::kCollect:
      return FinishCollect();
    case Step::kTies:
      return FinishTies();
    case Step::kBlock:
      SLUICE_CHECK(found_);
      step_ = Step::kKnown;
      return;
    case Step::kCounts:
    case Step::kKnown:
      return;
  }
}

void MagnitudeSearch::Free() {
  buckets_ = Counters();
  fine_values_ = {};
  candidates_ = {};
  common_by_block_ = {};
  tie_words_ = {};
  tie_counts_ = {};
}

// ---- from counts

void MagnitudeSearch::TakeCounts(const KeyCounts& counts, bool is_sample) {
  sampling_ = is_sample;
  if (is_sample) return TakeSample(counts);
  SLUICE_CHECK(counts.total() == tensor_.num_elements);
  const uint32_t key = counts.KeyOfRank(k_);
  if (key % 2 == 0) {
    threshold_bits_ = kernels::LowestOfKey(key);
    if (!Settle(counts.Above(key), counts[key])) BeginTies();
    return;
  }
  SetBracket(kernels::LowestOfKey(key), kernels::HighestOfKey(key));
  if (tensor_.is_large() && counts[key] > tensor_.limits.max_candidates / 2) {
    BeginFine();
  } else {
    BeginCollect();
  }
}

// Where in the sample the k-th magnitude of the tensor may stand. As far to both sides as four standard deviations of
// a binomial count, or five of the mean of groups of blocks, for blocks are not independent draws of one distribution.
// A bracket that is too narrow costs passes, never the result.
void MagnitudeSearch::TakeSample(const KeyCounts& counts) {
  const auto n = static_cast<double>(counts.total());
  const double share = static_cast<double>(k_) / static_cast<double>(tensor_.num_elements);
  const double rank = std::clamp(share * n, 1.0, n);
  const double variance = counts.VarianceOfShares(counts.KeyOfRank(static_cast<uint64_t>(rank)));
  const double margin = std::max(4 * std::sqrt(share * (1 - share) / n), 5 * std::sqrt(variance)) * n + 16;
  first_rank_ = static_cast<uint64_t>(std::clamp(rank - margin, 1.0, n));
  last_rank_ = static_cast<uint64_t>(std::clamp(rank + margin, 1.0, n));
  const uint32_t high_key = counts.KeyOfRank(first_rank_), low_key = counts.KeyOfRank(last_rank_);
  sample_above_ = counts.Above(high_key);

  uint64_t in_bracket = 0;
  std::vector<std::pair<uint64_t, uint32_t>> values;  // of one value's keys
  for (uint32_t key = low_key; key <= high_key; ++key) {
    in_bracket += counts[key];
    if (key % 2 == 0 && counts[key] > 0) values.emplace_back(counts[key], kernels::LowestOfKey(key));
  }
  SetBracket(kernels::LowestOfKey(low_key), kernels::HighestOfKey(high_key));
  SetCommon(std::move(values));
  for (size_t i = 0; i < bracket_.num_common; ++i) {
    in_bracket -= counts[kernels::reference::MagnitudeKey(bracket_.common[i])];
  }
  if (in_bracket * tensor_.limits.sample_step > tensor_.limits.max_candidates / 2) {
    BeginFine();
  } else {
    BeginCollect();
  }
}

void MagnitudeSearch::TakeAllCounts(const KeyCounts& counts) {
  SLUICE_CHECK(counts.total() == tensor_.num_elements);
  const uint32_t key = counts.KeyOfRank(k_);
  num_larger_ = counts.Above(key);
  num_equal_ = counts[key];
  bracket_ = {.low = kernels::LowestOfKey(key), .high = kernels::HighestOfKey(key)};
  threshold_bits_ = bracket_.low;
}

// The key's magnitudes are those of its upper bits but for the one whose lower bits are 0, which is a key of its own.
void MagnitudeSearch::TakeLowerBits(const uint32_t* counts) {
  uint32_t lower = 0x10000;
  while (true) {
    SLUICE_CHECK(lower > 1);
    num_equal_ = counts[--lower];
    if (num_larger_ + num_equal_ >= k_) break;
    num_larger_ += num_equal_;
  }
  threshold_bits_ = upper_bits() << 16 | lower;
}

void MagnitudeSearch::SelectAmongFew(KeptMagnitudes* kept) {
  std::vector<uint32_t> values;
  values.reserve(kept->size());
  kept->ForBlocks([&](uint64_t, const float* magnitudes, uint64_t in_block) {
    for (uint64_t i = 0; i < in_block; ++i) values.push_back(std::bit_cast<uint32_t>(magnitudes[i]));
  });
  const auto nth = values.begin() + static_cast<int64_t>(k_ - 1);
  std::nth_element(values.begin(), nth, values.end(), std::greater<>());
  threshold_bits_ = *nth;
  num_larger_ = static_cast<uint64_t>(std::ranges::count_if(values, [&](uint32_t v) { return v > threshold_bits_; }));
  num_equal_ = static_cast<uint64_t>(std::ranges::count(values, threshold_bits_));
}

void MagnitudeSearch::FinishKept(KeptMagnitudes* kept) {
  SLUICE_CHECK(kept->size() == tensor_.num_elements);
  if (!Settle(num_larger_, num_equal_)) FindTieAmongKept(kept);
}

// Ties are counted where the last one cannot be, and marked where it is.
void MagnitudeSearch::FindTieAmongKept(KeptMagnitudes* kept) {
  const MagnitudeBracket ties = {
      .low = threshold_bits_, .high = threshold_bits_, .common = {threshold_bits_}, .num_common = 1};
  kernels::Candidate none[1];
  kept->ForBlocks([&](uint64_t begin, const float* magnitudes, uint64_t in_block) {
    for (uint64_t at = 0; at < in_block && step_ != Step::kKnown; at += kCollectElements) {
      const uint64_t part = std::min(kCollectElements, in_block - at);
      kernels::BracketCounts counts;
      kernels::CollectCandidates(magnitudes + at, kZeros, part, ties, 0, none, &counts);
      if (counts.common[0] < ties_left_) {
        ties_left_ -= counts.common[0];
        continue;
      }
      uint32_t words[kCollectElements / kWordBits];
      kernels::EqualMagnitudes(magnitudes + at, kZeros, part, threshold_bits_, words);
      FindTieInWords({words, (part + kWordBits - 1) / kWordBits}, begin + at);
    }
  });
  SLUICE_CHECK(step_ == Step::kKnown);
}

// Whether the ties_left_-th tie is among these marks of elements from `begin` on, which are taken off ties_left_.
void MagnitudeSearch::FindTieInWords(std::span<const uint32_t> words, uint64_t begin) {
  for (size_t word = 0; word < words.size(); ++word) {
    const auto in_word = static_cast<uint64_t>(std::popcount(words[word]));
    if (in_word < ties_left_) {
      ties_left_ -= in_word;
      continue;
    }
    uint32_t ties = words[word];
    while (--ties_left_ > 0) ties &= ties - 1;
    last_tie_ = begin + word * kWordBits + static_cast<uint64_t>(std::countr_zero(ties));
    Free();
    step_ = Step::kKnown;
    return;
  }
}

bool MagnitudeSearch::Settle(uint64_t before, uint64_t count) {
  SLUICE_CHECK(before < k_ && k_ <= before + count);
  ties_left_ = k_ - before;
  if (wants_tie_ && ties_left_ != count && threshold_bits_ != 0) return false;
  // All of them are kept. Of zeros it makes no difference which.
  last_tie_ = tensor_.num_elements - 1;
  Free();
  step_ = Step::kKnown;
  return true;
}

// ---- the bracket

// Buckets are as many values each as kMaxBuckets of them need to hold the bracket.
void MagnitudeSearch::SetBracket(uint32_t low_value, uint32_t high_value) {
  Free();
  bracket_ = {.low = low_value, .high = high_value};
  shift_ = 0;
  while ((high_value - low_value) >> shift_ >= kMaxBuckets) ++shift_;
  buckets_ = Counters(((high_value - low_value) >> shift_) + 1);
}

uint32_t MagnitudeSearch::HighOfBucket(size_t bucket) const {
  return std::min(bracket_.high, LowOfBucket(bucket) + ((1u << shift_) - 1));
}

size_t MagnitudeSearch::CommonIndex(uint32_t bits) const {
  size_t i = 0;
  while (i < bracket_.num_common && bracket_.common[i] != bits) ++i;
  return i;
}

// Of values and how often each is in a sample, those of which the whole tensor will have some 1/32 of the room for
// candidates, or more.
void MagnitudeSearch::SetCommon(std::vector<std::pair<uint64_t, uint32_t>> counts_and_values) {
  const uint64_t room = tensor_.limits.max_candidates / tensor_.limits.sample_step / (4 * kMaxCommon);
  std::erase_if(counts_and_values, [&](const auto& value) {
    return value.first < std::max<uint64_t>(2, room) || value.second < bracket_.low || value.second > bracket_.high;
  });
  std::ranges::sort(counts_and_values, std::greater<>());
  bracket_.num_common = std::min(counts_and_values.size(), kMaxCommon);
  for (size_t i = 0; i < bracket_.num_common; ++i) bracket_.common[i] = counts_and_values[i].second;
}

void MagnitudeSearch::BeginFine() {
  bracket_.num_common = 0;  // the values are looked at one by one
  num_candidates_ = 0;
  fine_values_.resize(kFineValues);
  step_ = Step::kFine;
}

void MagnitudeSearch::FinishFine() {
  uint32_t low_value = bracket_.low, high_value = bracket_.high;
  if (sampling_) {
    uint64_t seen = sample_above_;
    for (size_t bucket = buckets_.size(); bucket-- > 0 && seen < last_rank_;) {
      const bool before = seen < first_rank_;
      seen += CountOf(bucket);
      if (before && seen >= first_rank_) high_value = HighOfBucket(bucket);
      if (seen >= last_rank_) low_value = LowOfBucket(bucket);
    }
  }
  const uint64_t seen = num_candidates_;
  std::vector<uint32_t> looked_at = std::move(fine_values_);
  looked_at.resize(std::min<uint64_t>(seen, looked_at.size()));
  const double scale = static_cast<double>(seen) / std::max(1.0, static_cast<double>(looked_at.size()));
  std::ranges::sort(looked_at);
  std::vector<std::pair<uint64_t, uint32_t>> values;
  for (auto run = looked_at.begin(); run != looked_at.end();) {
    const auto end = std::upper_bound(run, looked_at.end(), *run);
    // Of the many that a few elements have, none will be common.
    if (end - run > 1) values.emplace_back(static_cast<uint64_t>(static_cast<double>(end - run) * scale), *run);
    run = end;
  }
  looked_at = {};
  SetBracket(low_value, high_value);
  SetCommon(std::move(values));
  BeginCollect();
}

void MagnitudeSearch::BeginCollect() {
  above_ = 0;
  num_candidates_ = 0;
  overflow_ = false;
  candidates_.resize(tensor_.num_blocks);
  if (bracket_.num_common > 0) common_by_block_.resize(tensor_.num_blocks * kMaxCommon);
  step_ = Step::kCollect;
}

void MagnitudeSearch::FinishCollect() {
  uint64_t seen = above_.load(), count = 0;
  size_t bucket = buckets_.size();
  if (seen < k_) {
    while (bucket > 0 && seen < k_) seen += count = CountOf(--bucket);
  }
  if (above_.load() >= k_ || seen < k_) {
    SLUICE_CHECK(sampling_);  // only a sample's bracket can miss
    Free();
    step_ = Step::kCounts;
    return;
  }
  uint64_t before = seen - count;
  if (shift_ == 0) {
    threshold_bits_ = LowOfBucket(bucket);
  } else if (!overflow_.load()) {
    SelectInBucket(bucket, &before, &count);
  } else {
    // No room for what is in the bucket? There will be, or its values will be counted one by one.
    sampling_ = false;
    SetBracket(LowOfBucket(bucket), HighOfBucket(bucket));
    BeginCollect();
    return;
  }
  if (Settle(before, count)) return;
  if (const size_t which = CommonIndex(threshold_bits_); which < bracket_.num_common) {
    BeginBlock([&](uint64_t block) { return common_by_block_[block * kMaxCommon + which]; });
  } else if (!overflow_.load()) {
    FindTieAmongCandidates();
  } else {
    BeginTies();
  }
}

// The k-th magnitude is one of the bucket's values; *before are larger than all of these. Sets threshold_bits_, how
// many are larger than it and how many equal it.
void MagnitudeSearch::SelectInBucket(size_t bucket, uint64_t* before, uint64_t* count) {
  const uint32_t low = LowOfBucket(bucket), high = HighOfBucket(bucket);
  std::vector<uint32_t> values;
  values.reserve(std::min<uint64_t>(CountOf(bucket), num_candidates_));
  for (const std::vector<Kept>& block : candidates_) {
    for (const Kept& kept : block) {
      if (kept.bits() >= low && kept.bits() <= high) values.push_back(kept.bits());
    }
  }
  std::sort(values.begin(), values.end(), std::greater<>());
  std::vector<std::pair<uint32_t, uint64_t>> common;  // value, count; no candidate has one of these
  for (size_t i = 0; i < bracket_.num_common; ++i) {
    uint64_t total = 0;
    for (uint64_t block = 0; block < tensor_.num_blocks; ++block) total += common_by_block_[block * kMaxCommon + i];
    const uint32_t value = bracket_.common[i];
    if (value >= low && value <= high) common.emplace_back(value, total);
  }
  std::sort(common.begin(), common.end(), std::greater<>());
  auto next = values.begin();
  auto next_common = common.begin();
  while (true) {
    SLUICE_CHECK(next != values.end() || next_common != common.end());
    if (next_common == common.end() || (next != values.end() && *next > next_common->first)) {
      threshold_bits_ = *next;
      const auto end = std::upper_bound(next, values.end(), *next, std::greater<>());
      *count = static_cast<uint64_t>(end - next);
      next = end;
    } else {
      std::tie(threshold_bits_, *count) = *next_common++;
    }
    if (*before + *count >= k_) return;
    *before += *count;
  }
}

void MagnitudeSearch::FindTieAmongCandidates() {
  uint64_t left = ties_left_;
  for (uint64_t block = 0; block < tensor_.num_blocks; ++block) {
    for (const Kept& kept : candidates_[block]) {
      if (kept.bits() == threshold_bits_ && --left == 0) {
        last_tie_ = block * kBlockElements + kept.index_in_block;
        Free();
        step_ = Step::kKnown;
        return;
      }
    }
  }
  SLUICE_CHECK(!"a tie that was counted was not collected");
}

// ---- which of the elements that equal the threshold is the last one

void MagnitudeSearch::BeginTies() {
  Free();
  bracket_ = {.low = threshold_bits_, .high = threshold_bits_, .common = {threshold_bits_}, .num_common = 1};
  if (tensor_.is_large()) {
    tie_counts_.resize(tensor_.num_blocks);
  } else {
    tie_words_.resize((tensor_.num_elements + kWordBits - 1) / kWordBits);
  }
  step_ = Step::kTies;
}

void MagnitudeSearch::FinishTies() {
  if (tensor_.is_large()) return BeginBlock([&](uint64_t block) { return tie_counts_[block]; });
  FindTieInWords(std::vector<uint32_t>(std::move(tie_words_)), 0);
  SLUICE_CHECK(step_ == Step::kKnown);
}

// The next pass looks through the block of the ties_left_-th tie alone.
template <class CountOfTies>
void MagnitudeSearch::BeginBlock(const CountOfTies& count_of) {
  for (tie_block_ = 0; count_of(tie_block_) < ties_left_; ++tie_block_) {
    ties_left_ -= count_of(tie_block_);
    SLUICE_CHECK(tie_block_ + 1 < tensor_.num_blocks);
  }
  Free();
  bracket_ = {.low = threshold_bits_, .high = threshold_bits_};
  found_ = false;
  step_ = Step::kBlock;
}

uint64_t MagnitudeSearch::StateBytes(const MagnitudeTensor& tensor) {
  const uint64_t n = tensor.num_elements;
  const bool is_large = tensor.is_large();
  if (tensor.keeps_all()) return sizeof(MagnitudeSearch);  // MagnitudeRanks has the rest
  // Counts, candidates, and those of one bucket; per block: a vector with the allocator's rounding and counts. Without
  // a sample the bracket is a key: a bucket is a value.
  const uint64_t candidates = std::min(n, tensor.limits.max_candidates);
  const uint64_t buckets = is_large ? kMaxBuckets : 1u << 16;
  const uint64_t collect = buckets * sizeof(uint32_t) + candidates * (kKeptBytes + (is_large ? sizeof(uint32_t) : 0)) +
                           tensor.num_blocks * (sizeof(std::vector<int>) + 32 + 4 * kMaxCommon + 4);
  const uint64_t ties = is_large ? tensor.num_blocks * sizeof(uint32_t) : n / 8 + sizeof(uint32_t);
  return sizeof(MagnitudeSearch) + std::max(collect, ties) + 1024;
}

}  // namespace sluice::arithmetic
