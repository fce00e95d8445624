#include "merge/magnitude_fact.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <functional>
#include <mutex>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/select.h"
#include "merge/float_views.h"
#include "merge/l1_fact.h"

namespace sluice::merge {
namespace {

using graph::kBlockElements;

constexpr uint32_t kMaxBins = 2;              // of a bracket
constexpr uint32_t kValuesPerBin = 1u << 16;  // magnitudes that share a coarse bin
constexpr size_t kMaxCommon = 8;              // values counted by block
constexpr uint64_t kCollectElements = 1024;   // per call, so that the kernel's list stays small
constexpr size_t kMaxHistograms = 4;          // shared by the workers

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
      high_bin_ = kernels::kCoarseBins - 1;
    } else {
      BeginCoarse(num_blocks_ > limits_.sample_above_blocks);
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
    switch (step_) {
      case Step::kAll:
        FinishAll();
        break;
      case Step::kCoarse:
        return FinishCoarse();
      case Step::kFine:
        return FinishFine();
      case Step::kCollect:
        if (!FinishCollect()) return false;
        break;
      case Step::kTies: {
        uint64_t before = 0;
        FindTieBlock([&](uint64_t block) { return tie_counts_[block]; }, &before);
        return BeginBlock(before);
      }
      case Step::kBlock:
        SLUICE_CHECK(found_);
        break;
      case Step::kSums: {
        value->resize(4);
        (*value)[0] = std::bit_cast<uint32_t>(mask_.threshold);
        (*value)[1] = static_cast<double>(mask_.last_tie);
        sums_->Finish(&(*value)[2], &(*value)[3]);
        return true;
      }
    }
    if (with_sums_) {
      mask_ = {.kind = kernels::DeltaMask::Kind::kMagnitude,
               .threshold = std::bit_cast<float>(threshold_bits_),
               .last_tie = last_tie_};
      Free();
      sums_ = std::make_unique<L1Sums>(num_blocks_, num_workers_);
      step_ = Step::kSums;
      return false;
    }
    *value = {static_cast<double>(threshold_bits_), static_cast<double>(last_tie_)};
    return true;
  }

 private:
  enum class Step { kAll, kCoarse, kFine, kCollect, kTies, kBlock, kSums };
  struct Histogram {
    std::mutex mutex;
    std::vector<uint64_t> counts = std::vector<uint64_t>(kernels::kCoarseBins);
  };
  using List = std::vector<kernels::Candidate>;

  // The middle of each run of sample_step blocks.
  bool IsSampled(uint64_t block) const { return block % limits_.sample_step == limits_.sample_step / 2; }

  // ---- the steps' Add; `count` <= kCollectElements elements from `begin` of the flat tensor
  void AddPart(int worker, uint64_t begin, const float* x, const float* base, uint64_t count) {
    switch (step_) {
      case Step::kAll:
        Collect(worker, begin, x, base, count);
        for (uint64_t i = 0; i < count; ++i) all_[begin + i] = lists_[worker][i].bits;
        break;
      case Step::kCoarse: {
        Histogram& histogram = *histograms_[worker % histograms_.size()];
        std::lock_guard lock(histogram.mutex);
        kernels::MagnitudeHistogram(x, base, count, histogram.counts.data());
        break;
      }
      case Step::kFine:
        Collect(worker, begin, x, base, count);
        for (const kernels::Candidate& c : lists_[worker]) CountValue(c.bits);
        break;
      case Step::kCollect:
        AddCollect(worker, begin, x, base, count);
        break;
      case Step::kTies:
        Collect(worker, begin, x, base, count);
        for (const kernels::Candidate& c : lists_[worker]) {
          tie_counts_[begin / kBlockElements] += c.bits == threshold_bits_;
        }
        break;
      case Step::kBlock:
        if (found_) break;
        Collect(worker, begin, x, base, count);
        for (const kernels::Candidate& c : lists_[worker]) {
          if (c.bits == threshold_bits_ && --ties_left_ == 0) {
            last_tie_ = tie_block_ * kBlockElements + c.index_in_block;
            found_ = true;
          }
        }
        break;
      case Step::kSums:
        SLUICE_CHECK(false);
    }
  }

  uint64_t Collect(int worker, uint64_t begin, const float* x, const float* base, uint64_t count) {
    lists_[worker].clear();
    return kernels::CollectCandidates(x, base, count, low_bin_, high_bin_,
                                      static_cast<uint32_t>(begin % kBlockElements), &lists_[worker]);
  }
  uint32_t Relative(uint32_t bits) const { return bits - (low_bin_ << 16); }
  void CountValue(uint32_t bits) { values_[Relative(bits)].fetch_add(1, std::memory_order_relaxed); }

  void AddCollect(int worker, uint64_t begin, const float* x, const float* base, uint64_t count) {
    const uint64_t above = Collect(worker, begin, x, base, count);
    if (above > 0) above_.fetch_add(above, std::memory_order_relaxed);
    const uint64_t block = begin / kBlockElements;
    const List& list = lists_[worker];
    // What is common is counted here first: a counter that every element of two workers adds to is slow.
    std::array<uint32_t, kMaxCommon> common{};
    size_t rest[kMaxBins] = {};
    for (const kernels::Candidate& c : list) {
      const size_t which = CommonIndex(c.bits);
      if (which < num_common_) {
        ++common[which];
      } else {
        CountValue(c.bits);
        ++rest[(c.bits >> 16) - low_bin_];
      }
    }
    for (size_t i = 0; i < num_common_; ++i) {
      common_by_block_[block * kMaxCommon + i] += common[i];
      if (common[i] > 0) values_[Relative(common_[i])].fetch_add(common[i], std::memory_order_relaxed);
    }
    const size_t num_rest = rest[0] + rest[1];
    if (num_rest == 0 || overflow_.load(std::memory_order_relaxed)) return;
    if (num_candidates_.fetch_add(num_rest, std::memory_order_relaxed) + num_rest > limits_.max_candidates) {
      overflow_.store(true, std::memory_order_relaxed);
      return;
    }
    for (uint32_t bin = 0; bin < kMaxBins; ++bin) {
      if (rest[bin] == 0) continue;
      std::vector<uint32_t>& kept = candidates_[block * kMaxBins + bin];
      kept.reserve(kept.size() + rest[bin]);  // exactly: what StateBytes counts on
      for (const kernels::Candidate& c : list) {
        if ((c.bits >> 16) - low_bin_ == bin && CommonIndex(c.bits) >= num_common_) {
          kept.push_back((c.bits & 0xFFFFu) << 16 | c.index_in_block);
        }
      }
    }
  }
  size_t CommonIndex(uint32_t bits) const {
    size_t i = 0;
    while (i < num_common_ && common_[i] != bits) ++i;
    return i;
  }

  // ---- the steps' beginnings and ends
  void Free() {
    all_ = {};
    histograms_.clear();
    values_ = std::vector<std::atomic<uint32_t>>();
    candidates_ = {};
    common_by_block_ = {};
    tie_counts_ = {};
    lists_.assign(num_workers_, {});
  }

  void BeginCoarse(bool sampling) {
    Free();
    sampling_ = sampling;
    for (size_t i = 0; i < std::min<size_t>(num_workers_, kMaxHistograms); ++i) {
      histograms_.push_back(std::make_unique<Histogram>());
    }
    step_ = Step::kCoarse;
  }

  bool FinishCoarse() {
    for (size_t i = 1; i < histograms_.size(); ++i) {
      for (size_t bin = 0; bin < kernels::kCoarseBins; ++bin)
        histograms_[0]->counts[bin] += histograms_[i]->counts[bin];
    }
    const std::vector<uint64_t>& counts = histograms_[0]->counts;
    uint64_t total = 0;
    for (const uint64_t count : counts) total += count;
    if (!sampling_) {
      SLUICE_CHECK(total == num_elements_);
      low_bin_ = high_bin_ = BinOfRank(counts, k_);
    } else {
      // Six standard deviations of a binomial count. Blocks are not independent draws, so it may miss: then all are
      // counted.
      const double share = static_cast<double>(k_) / static_cast<double>(num_elements_);
      const double rank = share * static_cast<double>(total);
      const double margin = 6 * std::sqrt(static_cast<double>(total) * share * (1 - share)) + 16;
      const auto rank_at = [&](double r) {
        return static_cast<uint64_t>(std::clamp(r, 1.0, static_cast<double>(total)));
      };
      high_bin_ = BinOfRank(counts, rank_at(rank - margin));
      low_bin_ = BinOfRank(counts, rank_at(rank + margin));
      if (high_bin_ - low_bin_ >= kMaxBins) {
        BeginCoarse(false);
        return false;
      }
    }
    Free();
    BeginValues();
    num_common_ = 0;
    if (num_blocks_ > limits_.sample_above_blocks) {
      lists_.assign(num_workers_, {});
      step_ = Step::kFine;
    } else {
      BeginCollect();
    }
    return false;
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

  void BeginValues() { values_ = std::vector<std::atomic<uint32_t>>((high_bin_ - low_bin_ + 1) * kValuesPerBin); }

  bool FinishFine() {
    // Values of which the whole tensor will have more than the room for candidates has place for, shared out.
    const uint64_t least = std::max<uint64_t>(2, limits_.max_candidates / limits_.sample_step / (4 * kMaxCommon));
    std::vector<std::pair<uint32_t, uint32_t>> found;  // count, value
    for (uint32_t i = 0; i < values_.size(); ++i) {
      const uint32_t count = values_[i].load(std::memory_order_relaxed);
      if (count >= least) found.emplace_back(count, (low_bin_ << 16) + i);
    }
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a > b; });
    num_common_ = std::min(found.size(), kMaxCommon);
    for (size_t i = 0; i < num_common_; ++i) common_[i] = found[i].second;
    BeginValues();
    BeginCollect();
    return false;
  }

  void BeginCollect() {
    above_ = 0;
    num_candidates_ = 0;
    overflow_ = false;
    candidates_.resize(num_blocks_ * kMaxBins);
    if (num_common_ > 0) common_by_block_.resize(num_blocks_ * kMaxCommon);
    step_ = Step::kCollect;
  }

  // True where threshold and last tie are known.
  bool FinishCollect() {
    const uint64_t above = above_.load();
    uint64_t seen = above, at_value = 0;
    size_t value = values_.size();
    if (above < k_) {
      while (value > 0 && seen < k_) seen += at_value = values_[--value].load(std::memory_order_relaxed);
    }
    if (above >= k_ || seen < k_) {
      SLUICE_CHECK(sampling_);
      BeginCoarse(false);
      return false;
    }
    threshold_bits_ = (low_bin_ << 16) + static_cast<uint32_t>(value);
    ties_left_ = k_ - (seen - at_value);
    if (ties_left_ == at_value || threshold_bits_ == 0) {
      // All of them are kept. Of zeros it makes no difference which.
      last_tie_ = num_elements_ - 1;
      return true;
    }
    if (const size_t which = CommonIndex(threshold_bits_); which < num_common_) {
      uint64_t before = 0;
      FindTieBlock([&](uint64_t block) { return common_by_block_[block * kMaxCommon + which]; }, &before);
      return BeginBlock(before);
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

  void FindTieAmongCandidates() {
    const uint32_t bin = (threshold_bits_ >> 16) - low_bin_;
    uint64_t left = ties_left_;
    for (uint64_t block = 0; block < num_blocks_; ++block) {
      for (const uint32_t candidate : candidates_[block * kMaxBins + bin]) {
        if (candidate >> 16 == (threshold_bits_ & 0xFFFFu) && --left == 0) {
          last_tie_ = block * kBlockElements + (candidate & 0xFFFFu);
          return;
        }
      }
    }
    SLUICE_CHECK(!"a tie that was counted was not collected");
  }

  // The block of the ties_left_-th tie, and how many come before that block.
  template <class Count>
  void FindTieBlock(const Count& count, uint64_t* before) {
    *before = 0;
    for (tie_block_ = 0; tie_block_ < num_blocks_; ++tie_block_) {
      if (*before + count(tie_block_) >= ties_left_) return;
      *before += count(tie_block_);
    }
    SLUICE_CHECK(!"fewer ties than were counted");
  }

  bool BeginBlock(uint64_t before) {
    Free();
    ties_left_ -= before;
    found_ = false;
    step_ = Step::kBlock;
    return false;
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
    if (threshold_bits_ == 0 || std::find(after, all_.end(), threshold_bits_) == all_.end())
      last_tie_ = num_elements_ - 1;
  }

  const uint64_t num_elements_, num_blocks_, k_;
  const bool with_sums_;
  const int num_workers_;
  const MagnitudeLimits limits_;

  Step step_ = Step::kAll;
  std::vector<uint32_t> all_;                           // kAll: every magnitude
  std::vector<std::unique_ptr<Histogram>> histograms_;  // kCoarse
  bool sampling_ = false;                               // whether the bracket comes from a sample
  uint32_t low_bin_ = 0, high_bin_ = 0;
  std::vector<List> lists_;                    // per worker
  std::vector<std::atomic<uint32_t>> values_;  // kFine, kCollect: counts by value in the bracket
  std::array<uint32_t, kMaxCommon> common_{};
  size_t num_common_ = 0;
  std::vector<uint32_t> common_by_block_;  // [num_blocks, kMaxCommon]
  std::atomic<uint64_t> above_{0}, num_candidates_{0};
  std::atomic<bool> overflow_{false};
  std::vector<std::vector<uint32_t>> candidates_;  // [num_blocks, kMaxBins]: low bits of the magnitude, index
  std::vector<uint32_t> tie_counts_;               // kTies, by block
  uint64_t tie_block_ = 0, ties_left_ = 0;
  bool found_ = false;
  std::unique_ptr<L1Sums> sums_;
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

int MagnitudeFact::max_passes() const {
  const uint64_t blocks = Blocks(num_elements());
  const int sums = with_sums_ ? 1 : 0;
  if (blocks <= MagnitudeLimits().all_blocks) return 1 + sums;
  if (blocks <= MagnitudeLimits().sample_above_blocks) return 4 + sums;  // coarse, collect, ties, block
  return 9 + sums;  // sample, fine, collect and a miss; then coarse, fine, collect, ties, block
}

double MagnitudeFact::expected_passes() const {
  const uint64_t blocks = Blocks(num_elements());
  const double sums = with_sums_ ? 1 : 0;
  if (blocks <= MagnitudeLimits().all_blocks) return 1 + sums;
  if (blocks <= MagnitudeLimits().sample_above_blocks) return 2 + sums;
  return 2 + 2.0 / static_cast<double>(MagnitudeLimits().sample_step) + sums;
}

uint64_t MagnitudeFact::StateBytes(int num_workers) const {
  const MagnitudeLimits limits;
  const uint64_t blocks = Blocks(num_elements());
  const uint64_t lists = static_cast<uint64_t>(num_workers) * (sizeof(kernels::Candidate) * kCollectElements * 2 + 64);
  const uint64_t coarse = std::min<uint64_t>(num_workers, kMaxHistograms) * kernels::kCoarseBins * sizeof(uint64_t);
  const uint64_t values = kMaxBins * kValuesPerBin * sizeof(uint32_t);
  // Per block: two vectors with the allocator's rounding, counts of common values, counts of ties.
  const uint64_t collect = values + limits.max_candidates * sizeof(uint32_t) +
                           blocks * (kMaxBins * (sizeof(std::vector<uint32_t>) + 32) + 4 * kMaxCommon + 4);
  const uint64_t sums = with_sums_ ? L1Sums::StateBytes(blocks, num_workers) : 0;
  const uint64_t all = num_elements() * sizeof(uint32_t) * 2;
  const uint64_t steps = blocks <= limits.all_blocks ? all : std::max(coarse, collect);
  return sizeof(MagnitudeFold) + lists + std::max(steps, sums) + 1024;
}

std::unique_ptr<graph::Fold> MagnitudeFact::Begin(int num_workers) const {
  return MakeMagnitudeFold(num_elements(), k_, with_sums_, num_workers);
}

}  // namespace sluice::merge
