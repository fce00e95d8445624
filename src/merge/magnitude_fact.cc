#include "merge/magnitude_fact.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <functional>
#include <mutex>
#include <numeric>
#include <tuple>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/select.h"
#include "merge/float_views.h"
#include "merge/l1_fact.h"

namespace sluice::merge {
namespace {

using graph::kBlockElements;

constexpr uint32_t kMaxBuckets = 1u << 17;   // that a bracket is counted in; of one value each where it has no more
constexpr size_t kMaxCommon = 8;             // values counted by block
constexpr size_t kFineValues = 1u << 16;     // of the bracket, looked through for common ones
constexpr uint64_t kCollectElements = 1024;  // per call, so that the kernel's list stays small
constexpr size_t kNumHistograms = 4;         // shared by the workers; a sample's blocks are dealt to them in turn
constexpr uint64_t kKeptBytes = 6;           // of a candidate

class MagnitudeFold final : public graph::Fold {
 public:
  MagnitudeFold(uint64_t num_elements, uint64_t k, bool with_sums, int num_workers, const MagnitudeLimits& limits)
      : num_elements_(num_elements),
        num_blocks_((num_elements + kBlockElements - 1) / kBlockElements),
        k_(k),
        with_sums_(with_sums),
        num_workers_(num_workers),
        limits_(limits),
        lists_(num_workers) {
    SLUICE_CHECK(k >= 1 && k <= num_elements);
    SLUICE_CHECK(limits.sample_above_blocks >= limits.sample_step);  // so that a sample has a block
    if (num_blocks_ <= limits_.all_blocks) {
      all_.resize(num_elements);
      high_value_ = (kernels::kCoarseBins << 16) - 1;
    } else {
      BeginCoarse(IsLarge());
    }
  }

  bool Wants(uint64_t block) const override {
    if (step_ == Step::kBlock) return block == tie_block_;
    if (step_ == Step::kFine || (step_ == Step::kCoarse && sampling_)) return IsSampled(block);
    return true;
  }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    if (step_ == Step::kSums) {
      sums_->Add(worker, piece, in, mask_, num_elements_);
      return;
    }
    float x_copy[kCopyElements], base_copy[kCopyElements];
    ForAlignedParts(piece.size(), AreFloatAligned(in), [&](uint64_t first, uint64_t count) {
      const float* x = FloatsAt(in[0], first, count, x_copy);
      const float* base = FloatsAt(in[1], first, count, base_copy);
      for (uint64_t at = 0; at < count; at += kCollectElements) {
        AddPart(worker, piece.begin + first + at, x + at, base + at, std::min(kCollectElements, count - at));
      }
    });
  }

  bool Finish(graph::FactValue* value) override {
    bool known = true;
    switch (step_) {
      case Step::kAll:
        FinishAll();
        break;
      case Step::kCoarse:
        known = FinishCoarse();
        break;
      case Step::kFine:
        known = FinishFine();
        break;
      case Step::kCollect:
        known = FinishCollect();
        break;
      case Step::kTies:
        known = BeginBlock([&](uint64_t block) { return tie_counts_[block]; });
        break;
      case Step::kBlock:
        SLUICE_CHECK(found_);
        break;
      case Step::kSums:
        break;
    }
    if (!known) return false;
    if (with_sums_ && step_ != Step::kSums) {
      BeginSums();
      return false;
    }
    *value = {static_cast<double>(threshold_bits_), static_cast<double>(last_tie_)};
    if (with_sums_) {
      value->resize(4);
      sums_->Finish(&(*value)[2], &(*value)[3]);
    }
    return true;
  }

 private:
  enum class Step { kAll, kCoarse, kFine, kCollect, kTies, kBlock, kSums };
  using Counters = std::vector<std::atomic<uint32_t>>;
  struct Histogram {
    std::mutex mutex;
    std::vector<uint64_t> counts = std::vector<uint64_t>(kernels::kCoarseBins);
  };
  struct Kept {
    uint16_t high_bits, low_bits, index_in_block;
    uint32_t bits() const { return static_cast<uint32_t>(high_bits) << 16 | low_bits; }
  };
  static_assert(sizeof(Kept) == kKeptBytes);

  bool IsLarge() const { return num_blocks_ > limits_.sample_above_blocks; }
  // The middle of each run of sample_step blocks.
  bool IsSampled(uint64_t block) const { return block % limits_.sample_step == limits_.sample_step / 2; }

  // ---- what each step does with `count` <= kCollectElements elements from `begin` of the flat tensor
  void AddPart(int worker, uint64_t begin, const float* x, const float* base, uint64_t count) {
    const uint64_t block = begin / kBlockElements;
    if (step_ == Step::kCoarse) {
      const uint64_t turn = sampling_ ? block / limits_.sample_step : static_cast<uint64_t>(worker);
      Histogram& histogram = *histograms_[turn % histograms_.size()];
      std::lock_guard lock(histogram.mutex);
      kernels::MagnitudeHistogram(x, base, count, histogram.counts.data());
      return;
    }
    // The elements in the bins of the bracket.
    std::vector<kernels::Candidate>& list = lists_[worker];
    list.clear();
    const uint64_t above = kernels::CollectCandidates(x, base, count, low_value_ >> 16, high_value_ >> 16,
                                                      static_cast<uint32_t>(begin % kBlockElements), &list);
    switch (step_) {
      case Step::kAll:
        for (uint64_t i = 0; i < count; ++i) all_[begin + i] = list[i].bits;
        break;
      case Step::kFine:
        for (const kernels::Candidate& c : list) {
          CountValue(c.bits, 1);
          const uint64_t place = num_candidates_.fetch_add(1, std::memory_order_relaxed);
          if (place < fine_values_.size()) fine_values_[place] = c.bits;
        }
        break;
      case Step::kCollect:
        AddCandidates(block, above, &list);
        break;
      case Step::kTies:
        for (const kernels::Candidate& c : list) tie_counts_[block] += c.bits == threshold_bits_;
        break;
      case Step::kBlock:
        for (const kernels::Candidate& c : list) {
          if (c.bits != threshold_bits_ || found_ || --ties_left_ > 0) continue;
          last_tie_ = block * kBlockElements + c.index_in_block;
          found_ = true;
        }
        break;
      case Step::kCoarse:
      case Step::kSums:
        SLUICE_CHECK(false);
    }
  }

  void CountValue(uint32_t bits, uint32_t count) {
    buckets_[(bits - low_value_) >> shift_].fetch_add(count, std::memory_order_relaxed);
  }
  size_t CommonIndex(uint32_t bits) const {
    size_t i = 0;
    while (i < num_common_ && common_[i] != bits) ++i;
    return i;
  }

  void AddCandidates(uint64_t block, uint64_t above, std::vector<kernels::Candidate>* list) {
    // What is common is counted here first: a counter that every element of two workers adds to is slow.
    std::array<uint32_t, kMaxCommon> common{};
    size_t num_rest = 0;
    for (const kernels::Candidate c : *list) {
      if (c.bits > high_value_) ++above;
      if (c.bits > high_value_ || c.bits < low_value_) continue;
      const size_t which = CommonIndex(c.bits);
      if (which < num_common_) {
        ++common[which];
      } else {
        CountValue(c.bits, 1);
        (*list)[num_rest++] = c;
      }
    }
    if (above > 0) above_.fetch_add(above, std::memory_order_relaxed);
    for (size_t i = 0; i < num_common_; ++i) {
      common_by_block_[block * kMaxCommon + i] += common[i];
      if (common[i] > 0) CountValue(common_[i], common[i]);
    }
    if (num_rest == 0 || overflow_.load(std::memory_order_relaxed)) return;
    if (num_candidates_.fetch_add(num_rest, std::memory_order_relaxed) + num_rest > limits_.max_candidates) {
      overflow_.store(true, std::memory_order_relaxed);
      return;
    }
    std::vector<Kept>& kept = candidates_[block];
    kept.reserve(kept.size() + num_rest);  // exactly: what StateBytes counts on
    for (size_t i = 0; i < num_rest; ++i) {
      const kernels::Candidate& c = (*list)[i];
      kept.push_back({static_cast<uint16_t>(c.bits >> 16), static_cast<uint16_t>(c.bits), c.index_in_block});
    }
  }

  // ---- the steps' beginnings and ends; an end returns whether threshold_bits_ and last_tie_ are known
  void Free() {
    all_ = {};
    histograms_.clear();
    buckets_ = Counters();
    fine_values_ = {};
    candidates_ = {};
    common_by_block_ = {};
    tie_counts_ = {};
    lists_.assign(num_workers_, {});
  }

  void BeginCoarse(bool sampling) {
    Free();
    sampling_ = sampling;
    const size_t num_histograms = sampling ? kNumHistograms : std::min<size_t>(num_workers_, kNumHistograms);
    for (size_t i = 0; i < num_histograms; ++i) histograms_.push_back(std::make_unique<Histogram>());
    step_ = Step::kCoarse;
  }

  bool FinishCoarse() {
    std::vector<uint64_t> counts(kernels::kCoarseBins);
    for (const auto& histogram : histograms_) {
      for (size_t bin = 0; bin < kernels::kCoarseBins; ++bin) counts[bin] += histogram->counts[bin];
    }
    const uint64_t total = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
    uint32_t low_bin = 0, high_bin = 0;
    if (sampling_) {
      SetSampleRanks(counts, total);
      high_bin = BinOfRank(counts, first_rank_);
      low_bin = BinOfRank(counts, last_rank_);
      sample_above_ = std::accumulate(counts.begin() + high_bin + 1, counts.end(), uint64_t{0});
    } else {
      SLUICE_CHECK(total == num_elements_);
      low_bin = high_bin = BinOfRank(counts, k_);
    }
    Free();
    SetBracket(low_bin << 16, high_bin << 16 | 0xFFFFu);
    num_common_ = 0;
    if (IsLarge()) {
      num_candidates_ = 0;
      fine_values_.resize(kFineValues);
      step_ = Step::kFine;
    } else {
      BeginCollect();
    }
    return false;
  }

  // Where in the sample the k-th magnitude of the tensor may stand. As far to both sides as four standard deviations of
  // a binomial count, or five of the mean of kNumHistograms groups of blocks, for blocks are not independent draws of
  // one distribution. A bracket that is too narrow costs passes, never the result.
  void SetSampleRanks(const std::vector<uint64_t>& counts, uint64_t total) {
    const auto n = static_cast<double>(total);
    const double share = static_cast<double>(k_) / static_cast<double>(num_elements_);
    const double rank = std::clamp(share * n, 1.0, n);
    const uint32_t bin = BinOfRank(counts, static_cast<uint64_t>(rank));
    double sum = 0, sum_of_squares = 0, groups = 0;
    for (const auto& histogram : histograms_) {
      const std::vector<uint64_t>& group = histogram->counts;
      const auto size = static_cast<double>(std::accumulate(group.begin(), group.end(), uint64_t{0}));
      if (size == 0) continue;
      const double above = static_cast<double>(std::accumulate(group.begin() + bin, group.end(), uint64_t{0})) / size;
      sum += above;
      sum_of_squares += above * above;
      ++groups;
    }
    const double variance = groups < 2 ? 0 : (sum_of_squares - sum * sum / groups) / (groups - 1) / groups;
    const double deviation = std::max(4 * std::sqrt(share * (1 - share) / n), 5 * std::sqrt(std::max(variance, 0.0)));
    const double margin = deviation * n + 16;
    first_rank_ = static_cast<uint64_t>(std::clamp(rank - margin, 1.0, n));
    last_rank_ = static_cast<uint64_t>(std::clamp(rank + margin, 1.0, n));
  }

  // The bin of the element that is `rank`-th (from 1) by magnitude, from the largest.
  static uint32_t BinOfRank(const std::vector<uint64_t>& counts, uint64_t rank) {
    uint64_t seen = 0;
    for (uint32_t bin = kernels::kCoarseBins; bin-- > 0;) {
      seen += counts[bin];
      if (seen >= rank) return bin;
    }
    SLUICE_CHECK(!"a rank beyond the count");
    return 0;
  }

  // Buckets are as many values each as kMaxBuckets of them need to hold the bracket.
  void SetBracket(uint32_t low_value, uint32_t high_value) {
    low_value_ = low_value;
    high_value_ = high_value;
    shift_ = 0;
    while ((high_value - low_value) >> shift_ >= kMaxBuckets) ++shift_;
    buckets_ = Counters(((high_value - low_value) >> shift_) + 1);
  }
  uint32_t LowOfBucket(size_t bucket) const { return low_value_ + (static_cast<uint32_t>(bucket) << shift_); }
  uint32_t HighOfBucket(size_t bucket) const {
    return std::min(high_value_, LowOfBucket(bucket) + ((1u << shift_) - 1));
  }
  uint64_t CountOf(size_t bucket) const { return buckets_[bucket].load(std::memory_order_relaxed); }

  bool FinishFine() {
    uint32_t low_value = low_value_, high_value = high_value_;
    if (sampling_) {
      uint64_t seen = sample_above_;
      for (size_t bucket = buckets_.size(); bucket-- > 0 && seen < last_rank_;) {
        const bool before = seen < first_rank_;
        seen += CountOf(bucket);
        if (before && seen >= first_rank_) high_value = HighOfBucket(bucket);
        if (seen >= last_rank_) low_value = LowOfBucket(bucket);
      }
    }
    FindCommon(low_value, high_value);
    Free();
    SetBracket(low_value, high_value);
    BeginCollect();
    return false;
  }

  // Values of which the whole tensor will have some 1/32 of the room for candidates, or more.
  void FindCommon(uint32_t low_value, uint32_t high_value) {
    fine_values_.resize(std::min<uint64_t>(num_candidates_, fine_values_.size()));
    std::sort(fine_values_.begin(), fine_values_.end());
    const double looked_at =
        static_cast<double>(fine_values_.size()) / std::max(1.0, static_cast<double>(num_candidates_));
    const uint64_t room = limits_.max_candidates / limits_.sample_step / (4 * kMaxCommon);
    const auto least = std::max<uint64_t>(2, static_cast<uint64_t>(looked_at * static_cast<double>(room)));
    std::vector<std::pair<size_t, uint32_t>> found;  // count, value
    for (auto run = fine_values_.begin(); run != fine_values_.end();) {
      const auto end = std::upper_bound(run, fine_values_.end(), *run);
      const auto count = static_cast<uint64_t>(end - run);
      if (count >= least && *run >= low_value && *run <= high_value) found.emplace_back(count, *run);
      run = end;
    }
    std::sort(found.begin(), found.end(), std::greater<>());
    num_common_ = std::min(found.size(), kMaxCommon);
    for (size_t i = 0; i < num_common_; ++i) common_[i] = found[i].second;
  }

  void BeginCollect() {
    above_ = 0;
    num_candidates_ = 0;
    overflow_ = false;
    candidates_.resize(num_blocks_);
    if (num_common_ > 0) common_by_block_.resize(num_blocks_ * kMaxCommon);
    step_ = Step::kCollect;
  }

  bool FinishCollect() {
    uint64_t seen = above_.load(), count = 0;
    size_t bucket = buckets_.size();
    if (seen < k_) {
      while (bucket > 0 && seen < k_) seen += count = CountOf(--bucket);
    }
    if (above_.load() >= k_ || seen < k_) {
      SLUICE_CHECK(sampling_);  // only a sample's bracket can miss
      BeginCoarse(false);
      return false;
    }
    uint64_t before = seen - count;
    if (shift_ == 0) {
      threshold_bits_ = LowOfBucket(bucket);
    } else if (!overflow_.load()) {
      SelectInBucket(bucket, &before, &count);
    } else {
      // No room for what is in the bucket? There will be, or its values will be counted one by one.
      const uint32_t low_value = LowOfBucket(bucket), high_value = HighOfBucket(bucket);
      Free();
      sampling_ = false;
      SetBracket(low_value, high_value);
      BeginCollect();
      return false;
    }
    ties_left_ = k_ - before;
    if (ties_left_ == count || threshold_bits_ == 0) {
      // All of them are kept. Of zeros it makes no difference which.
      last_tie_ = num_elements_ - 1;
      return true;
    }
    if (const size_t which = CommonIndex(threshold_bits_); which < num_common_) {
      return BeginBlock([&](uint64_t block) { return common_by_block_[block * kMaxCommon + which]; });
    }
    if (!overflow_.load()) {
      FindTieAmongCandidates();
      return true;
    }
    Free();
    tie_counts_.resize(num_blocks_);
    step_ = Step::kTies;
    return false;
  }

  // The k-th magnitude is one of the bucket's values; *before are larger than all of these. Sets threshold_bits_, how
  // many are larger than it and how many equal it.
  void SelectInBucket(size_t bucket, uint64_t* before, uint64_t* count) {
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
    for (size_t i = 0; i < num_common_; ++i) {
      uint64_t total = 0;
      for (uint64_t block = 0; block < num_blocks_; ++block) total += common_by_block_[block * kMaxCommon + i];
      if (common_[i] >= low && common_[i] <= high) common.emplace_back(common_[i], total);
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

  void FindTieAmongCandidates() {
    uint64_t left = ties_left_;
    for (uint64_t block = 0; block < num_blocks_; ++block) {
      for (const Kept& kept : candidates_[block]) {
        if (kept.bits() == threshold_bits_ && --left == 0) {
          last_tie_ = block * kBlockElements + kept.index_in_block;
          return;
        }
      }
    }
    SLUICE_CHECK(!"a tie that was counted was not collected");
  }

  // The next pass looks through the block of the ties_left_-th tie alone. Returns false: it is not known yet.
  template <class CountOfTies>
  bool BeginBlock(const CountOfTies& count_of) {
    for (tie_block_ = 0; count_of(tie_block_) < ties_left_; ++tie_block_) {
      ties_left_ -= count_of(tie_block_);
      SLUICE_CHECK(tie_block_ + 1 < num_blocks_);
    }
    Free();
    found_ = false;
    step_ = Step::kBlock;
    return false;
  }

  void BeginSums() {
    mask_ = {.kind = kernels::DeltaMask::Kind::kMagnitude,
             .threshold = std::bit_cast<float>(threshold_bits_),
             .last_tie = last_tie_};
    Free();
    sums_ = std::make_unique<L1Sums>(num_blocks_, num_workers_);
    step_ = Step::kSums;
  }

  void FinishAll() {
    std::vector<uint32_t> sorted = all_;
    std::nth_element(sorted.begin(), sorted.begin() + static_cast<int64_t>(k_ - 1), sorted.end(), std::greater<>());
    threshold_bits_ = sorted[k_ - 1];
    uint64_t left = k_;  // of the ties
    for (const uint32_t bits : all_) left -= bits > threshold_bits_;
    for (uint64_t i = 0; left > 0; ++i) {
      if (all_[i] == threshold_bits_ && --left == 0) last_tie_ = i;
    }
    const auto after = all_.begin() + static_cast<int64_t>(last_tie_) + 1;
    const bool is_last = std::find(after, all_.end(), threshold_bits_) == all_.end();
    if (threshold_bits_ == 0 || is_last) last_tie_ = num_elements_ - 1;
  }

  const uint64_t num_elements_, num_blocks_, k_;
  const bool with_sums_;
  const int num_workers_;
  const MagnitudeLimits limits_;

  Step step_ = Step::kAll;
  std::vector<std::vector<kernels::Candidate>> lists_;  // per worker
  std::vector<uint32_t> all_;                           // kAll: every magnitude

  std::vector<std::unique_ptr<Histogram>> histograms_;  // kCoarse
  bool sampling_ = false;                               // the bracket comes from a sample
  uint64_t first_rank_ = 0, last_rank_ = 0;             // in the sample
  uint64_t sample_above_ = 0;                           // the coarse bracket's bins

  uint32_t low_value_ = 0, high_value_ = 0;  // the bracket
  uint32_t shift_ = 0;                       // 2^shift_ values share a bucket
  Counters buckets_;                         // kFine, kCollect: counts of the bracket
  std::vector<uint32_t> fine_values_;        // kFine: some of the bracket's values
  std::array<uint32_t, kMaxCommon> common_{};
  size_t num_common_ = 0;

  std::atomic<uint64_t> above_{0};  // kCollect: larger than the bracket
  std::atomic<uint64_t> num_candidates_{0};
  std::atomic<bool> overflow_{false};
  std::vector<std::vector<Kept>> candidates_;  // by block
  std::vector<uint32_t> common_by_block_;      // [num_blocks, kMaxCommon]
  std::vector<uint32_t> tie_counts_;           // kTies: by block
  uint64_t tie_block_ = 0, ties_left_ = 0;     // kBlock
  bool found_ = false;

  std::unique_ptr<L1Sums> sums_;  // kSums
  kernels::DeltaMask mask_;
  uint32_t threshold_bits_ = 0;
  uint64_t last_tie_ = 0;
};

uint64_t Blocks(uint64_t num_elements) { return (num_elements + kBlockElements - 1) / kBlockElements; }

}  // namespace

std::unique_ptr<graph::Fold> MakeMagnitudeFold(uint64_t num_elements, uint64_t k, bool with_sums, int num_workers,
                                               const MagnitudeLimits& limits) {
  return std::make_unique<MagnitudeFold>(num_elements, k, with_sums, num_workers, limits);
}

MagnitudeFact::MagnitudeFact(const graph::Node* x, const graph::Node* base, uint64_t k, bool with_sums)
    : Fact(fmt::format("magnitude {} {}", k, with_sums), {x, base}), k_(k), with_sums_(with_sums) {
  SLUICE_CHECK(k >= 1 && k < x->num_elements());
}

int MaxMagnitudePasses(uint64_t num_elements) {
  const uint64_t blocks = Blocks(num_elements);
  if (blocks <= MagnitudeLimits().all_blocks) return 1;
  if (blocks <= MagnitudeLimits().sample_above_blocks) return 4;  // coarse, collect, ties, block
  // A sample, fine, collect that misses; coarse, fine, collect, ties, block. Or, without a miss, collect twice.
  return 8;
}

double ExpectedMagnitudePasses(uint64_t num_elements) {
  const uint64_t blocks = Blocks(num_elements);
  if (blocks <= MagnitudeLimits().all_blocks) return 1;
  if (blocks <= MagnitudeLimits().sample_above_blocks) return 2;
  return 1 + 2.0 / static_cast<double>(MagnitudeLimits().sample_step);
}

uint64_t MagnitudeStateBytes(uint64_t num_elements, int num_workers) {
  const MagnitudeLimits limits;
  const uint64_t blocks = Blocks(num_elements);
  const bool is_large = blocks > limits.sample_above_blocks;
  const uint64_t lists = static_cast<uint64_t>(num_workers) * (sizeof(kernels::Candidate) * kCollectElements * 2 + 64);
  const uint64_t all = num_elements * sizeof(uint32_t) * 2;
  const uint64_t coarse = (kNumHistograms + 1) * kernels::kCoarseBins * sizeof(uint64_t);
  // Counts, candidates, and those of one bucket; per block: a vector with the allocator's rounding and counts. Without
  // a sample the bracket is a bin: a bucket is a value.
  const uint64_t candidates = std::min(num_elements, limits.max_candidates);
  const uint64_t buckets = is_large ? kMaxBuckets : 1u << 16;
  const uint64_t collect = buckets * sizeof(uint32_t) + candidates * (kKeptBytes + (is_large ? sizeof(uint32_t) : 0)) +
                           blocks * (sizeof(std::vector<int>) + 32 + 4 * kMaxCommon + 4);
  const uint64_t steps = blocks <= limits.all_blocks ? all : std::max(coarse, collect);
  return sizeof(MagnitudeFold) + lists + steps + 1024;
}

int MagnitudeFact::max_passes() const { return MaxMagnitudePasses(num_elements()) + (with_sums_ ? 1 : 0); }
double MagnitudeFact::expected_passes() const { return ExpectedMagnitudePasses(num_elements()) + (with_sums_ ? 1 : 0); }
uint64_t MagnitudeFact::StateBytes(int num_workers) const {
  const uint64_t sums = with_sums_ ? L1Sums::StateBytes(Blocks(num_elements()), num_workers) : 0;
  return std::max(MagnitudeStateBytes(num_elements(), num_workers), sizeof(MagnitudeFold) + sums + 1024);
}

std::unique_ptr<graph::Fold> MagnitudeFact::Begin(int num_workers) const {
  return MakeMagnitudeFold(num_elements(), k_, with_sums_, num_workers);
}

}  // namespace sluice::merge
