#include "merge/magnitude_ranks.h"

#include <algorithm>
#include <optional>

#include "merge/float_views.h"

namespace sluice::merge {
namespace {

constexpr float kZeros[kCopyElements] = {};
constexpr uint64_t kWorthCounting = 32768;  // elements; fewer are sorted sooner than 65,536 counters are looked through

}  // namespace

MagnitudeRanks::MagnitudeRanks(uint64_t num_elements, std::span<const uint64_t> ks, int num_workers,
                               const MagnitudeLimits& limits)
    : tensor_(num_elements, limits), num_workers_(static_cast<size_t>(num_workers)) {
  for (const uint64_t k : ks) searches_.push_back(std::make_unique<MagnitudeSearch>(tensor_, k));
  if (tensor_.keeps_all()) {
    all_.resize(num_elements);
  } else {
    BeginCounts(tensor_.is_large());
  }
}

// The blocks of a sample are dealt to the groups in turn, so that those can be compared.
void MagnitudeRanks::BeginCounts(bool sampling) {
  sampling_ = sampling;
  num_groups_ = sampling ? KeyCounts::kMostGroups : std::min(num_workers_, KeyCounts::kMostGroups);
  counts_ = std::make_unique<KeyCounts>(num_groups_);
}

bool MagnitudeRanks::Wants(uint64_t block) const {
  if (!all_.empty() || Counts(block)) return true;
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
  if (!all_.empty()) return kernels::Magnitudes(x, base, count, &all_[begin]);
  const uint64_t block = begin / graph::kBlockElements;
  if (Counts(block)) {
    const uint64_t turn = sampling_ ? block / tensor_.limits.sample_step : static_cast<uint64_t>(worker);
    counts_->Count(turn % num_groups_, x, base, count);
  }
  for (const auto& search : searches_) {
    if (search->Wants(block)) search->Add(begin, x, base, count);
  }
}

bool MagnitudeRanks::Finish() {
  if (!all_.empty()) {
    FinishAll();
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

void MagnitudeRanks::FinishAll() {
  std::optional<KeyCounts> counts;
  if (all_.size() >= kWorthCounting) {
    counts.emplace(1);
    for (uint64_t at = 0; at < all_.size(); at += kCopyElements) {
      counts->Count(0, &all_[at], kZeros, std::min<uint64_t>(kCopyElements, all_.size() - at));
    }
    counts->AddUp();
  }
  for (const auto& search : searches_) search->TakeAll(counts ? &*counts : nullptr, all_);
  all_ = {};
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
  if (tensor.keeps_all()) {
    const uint64_t counts = num_elements >= kWorthCounting ? KeyCounts::StateBytes(1) : 0;
    return sizeof(MagnitudeRanks) + num_elements * sizeof(float) + counts + searches;
  }
  const size_t groups = tensor.is_large() ? KeyCounts::kMostGroups
                                          : std::min<size_t>(static_cast<size_t>(num_workers), KeyCounts::kMostGroups);
  // A search has next to nothing while keys are counted for it.
  return sizeof(MagnitudeRanks) + std::max(KeyCounts::StateBytes(groups), searches);
}

}  // namespace sluice::merge
