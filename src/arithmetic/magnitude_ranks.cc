#include "arithmetic/magnitude_ranks.h"

#include <algorithm>
#include <optional>

#include "arithmetic/float_views.h"
#include "base/check.h"

namespace sluice::arithmetic {
namespace {

constexpr uint64_t kWorthCounting = 32768;  // elements; fewer are sorted sooner than 65,536 counters are looked through

// Memory that is used again is what small tensors need, which come one after the other. Large ones have as much for
// other things when they are done with counting, and it would be too much to keep both.
std::shared_ptr<FoldMemory> MemoryFor(const MagnitudeTensor& tensor) {
  auto shared = FoldMemory::Shared();
  if (tensor.keeps_all()) return shared;
  shared->Trim();
  return std::make_shared<FoldMemory>();
}

}  // namespace

MagnitudeRanks::MagnitudeRanks(uint64_t num_elements, std::span<const uint64_t> ks, int num_workers,
                               const MagnitudeLimits& limits, bool wants_ties)
    : tensor_(num_elements, limits), num_workers_(static_cast<size_t>(num_workers)), memory_(MemoryFor(tensor_)) {
  SLUICE_CHECK(ks.size() <= kMostRanks);
  for (const uint64_t k : ks) searches_.push_back(std::make_unique<MagnitudeSearch>(tensor_, k, wants_ties));
  if (tensor_.keeps_all()) kept_.emplace(num_elements, memory_);
  if (!tensor_.keeps_all() || num_elements >= kWorthCounting) BeginCounts(tensor_.is_large());
}

// The blocks of a sample are dealt to the groups in turn, so that those can be compared.
void MagnitudeRanks::BeginCounts(bool sampling) {
  sampling_ = sampling;
  num_groups_ = sampling ? KeyCounts::kMostGroups : std::min(num_workers_, KeyCounts::kMostGroups);
  counts_ = std::make_unique<KeyCounts>(num_groups_, memory_);
}

bool MagnitudeRanks::Wants(uint64_t block) const {
  if (kept_ || Counts(block)) return true;
  return std::ranges::any_of(searches_, [&](const auto& search) { return search->Wants(block); });
}

void MagnitudeRanks::Add(int worker, graph::Range piece, std::span<const graph::View> in) {
  float x_copy[kCopyElements], base_copy[kCopyElements];
  ForAlignedParts(piece.size(), AreFloatAligned(in), [&](uint64_t first, uint64_t count) {
    AddPart(worker, piece.begin + first, FloatsAt(in[0], first, count, x_copy),
            FloatsAt(in[1], first, count, base_copy), count);
  });
}

void MagnitudeRanks::AddPart(int worker, uint64_t begin, const float* x, const float* base, uint64_t count) {
  const uint64_t block = begin / graph::kBlockElements;
  if (Counts(block)) {
    const uint64_t turn = sampling_ ? block / tensor_.limits.sample_step : static_cast<uint64_t>(worker);
    counts_->Count(turn % num_groups_, x, base, count, kept_ ? kept_->From(begin) : nullptr);
  } else if (kept_) {
    kernels::Magnitudes(x, base, count, kept_->From(begin));
  }
  for (const auto& search : searches_) {
    if (search->Wants(block)) search->Add(begin, x, base, count);
  }
}

bool MagnitudeRanks::Finish() {
  if (kept_) {
    FinishKept();
    return true;
  }
  for (const auto& search : searches_) search->FinishPass();
  if (counts_) {
    const std::unique_ptr<KeyCounts> counts = std::move(counts_);
    counts->AddUp();
    for (const auto& search : searches_) {
      if (search->needs_counts()) search->TakeCounts(*counts, sampling_);
    }
  }
  // A sample's bracket may have missed, once. Not before the others are known is all counted, so that never both counts
  // and what a search holds take memory.
  const auto is_known = [](const auto& search) { return search->is_known(); };
  if (std::ranges::all_of(searches_, is_known)) return true;
  const auto waits = [&](const auto& search) { return is_known(search) || search->needs_counts(); };
  if (std::ranges::all_of(searches_, waits)) BeginCounts(false);
  return false;
}

void MagnitudeRanks::FinishKept() {
  if (counts_) {
    counts_->AddUp();
    counts_->FreeGroups();
    for (const auto& search : searches_) search->TakeAllCounts(*counts_);
    counts_.reset();
    CountLowerBits();
  } else {
    for (const auto& search : searches_) search->SelectAmongFew(&*kept_);
  }
  for (const auto& search : searches_) search->FinishKept(&*kept_);
  kept_.reset();
}

// One walk for all ranks whose keys have more than one value.
void MagnitudeRanks::CountLowerBits() {
  std::vector<uint32_t> uppers;
  std::vector<FoldNumbers<uint32_t>> counts;
  std::vector<uint32_t*> places;
  for (const auto& search : searches_) {
    if (!search->wants_lower_bits() || std::ranges::find(uppers, search->upper_bits()) != uppers.end()) continue;
    uppers.push_back(search->upper_bits());
    counts.emplace_back(memory_.get());
    counts.back().Clear();
    places.push_back(counts.back().data());
  }
  if (uppers.empty()) return;
  kept_->ForBlocks([&](uint64_t, const float* magnitudes, uint64_t count) {
    kernels::CountLowerBits(magnitudes, count, uppers, places.data());
  });
  for (const auto& search : searches_) {
    if (!search->wants_lower_bits()) continue;
    const auto found = std::ranges::find(uppers, search->upper_bits());
    search->TakeLowerBits(places[static_cast<size_t>(found - uppers.begin())]);
  }
}

int MagnitudeRanks::MaxPasses(uint64_t num_elements) {
  const MagnitudeTensor tensor(num_elements, {});
  if (tensor.keeps_all()) return 1;
  if (!tensor.is_large()) return 3;  // counts, collect, ties
  // A sample, fine, collect that misses, three more of a rank that does not (collect twice, ties, block); then counts,
  // fine, collect, ties, block.
  return 11;
}

double MagnitudeRanks::ExpectedPasses(uint64_t num_elements) {
  const MagnitudeTensor tensor(num_elements, {});
  if (tensor.keeps_all()) return 1;
  if (!tensor.is_large()) return 2;
  return 1 + 2.0 / static_cast<double>(tensor.limits.sample_step);
}

uint64_t MagnitudeRanks::StateBytes(uint64_t num_elements, size_t num_ranks, int num_workers) {
  const MagnitudeTensor tensor(num_elements, {});
  const uint64_t searches = num_ranks * (MagnitudeSearch::StateBytes(tensor) + 64);
  const size_t groups = tensor.is_large() ? KeyCounts::kMostGroups
                                          : std::min<size_t>(static_cast<size_t>(num_workers), KeyCounts::kMostGroups);
  if (tensor.keeps_all()) {
    // Among few, one search at a time sorts them all; else each takes a part when those of the counts are free again,
    // which are one of a group or more and two of all.
    static_assert(kMostRanks <= 1 + kernels::kNumKeys / FoldNumbers<uint64_t>::kCount);
    const uint64_t rest =
        num_elements >= kWorthCounting ? KeyCounts::StateBytes(groups) : num_elements * sizeof(uint32_t);
    return sizeof(MagnitudeRanks) + KeptMagnitudes::StateBytes(num_elements) + rest + searches;
  }
  // A search has next to nothing while keys are counted for it.
  return sizeof(MagnitudeRanks) + std::max(KeyCounts::StateBytes(groups), searches);
}

}  // namespace sluice::arithmetic
