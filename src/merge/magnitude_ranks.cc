#include "merge/magnitude_ranks.h"

#include <algorithm>

#include "merge/magnitude_fact.h"

namespace sluice::merge {

MagnitudeRanks::MagnitudeRanks(uint64_t num_elements, std::span<const uint64_t> ks, int num_workers)
    : ranks_(ks.size()) {
  for (const uint64_t k : ks) folds_.push_back(MakeMagnitudeFold(num_elements, k, false, num_workers));
}

bool MagnitudeRanks::Wants(uint64_t block) const {
  return std::ranges::any_of(folds_, [&](const auto& fold) { return fold != nullptr && fold->Wants(block); });
}

void MagnitudeRanks::Add(int worker, graph::Range piece, std::span<const graph::View> in) {
  for (const auto& fold : folds_) {
    if (fold != nullptr && fold->Wants(piece.begin / graph::kBlockElements)) fold->Add(worker, piece, in);
  }
}

bool MagnitudeRanks::Finish() {
  bool all_known = true;
  for (size_t i = 0; i < folds_.size(); ++i) {
    if (folds_[i] == nullptr) continue;
    graph::FactValue value;
    if (folds_[i]->Finish(&value)) {
      ranks_[i] = {static_cast<uint32_t>(value[0]), static_cast<uint64_t>(value[1])};
      folds_[i] = nullptr;
    } else {
      all_known = false;
    }
  }
  return all_known;
}

int MagnitudeRanks::MaxPasses(uint64_t num_elements) { return MaxMagnitudePasses(num_elements); }
double MagnitudeRanks::ExpectedPasses(uint64_t num_elements) { return ExpectedMagnitudePasses(num_elements); }

uint64_t MagnitudeRanks::StateBytes(uint64_t num_elements, size_t num_ranks, int num_workers) {
  return sizeof(MagnitudeRanks) + num_ranks * (MagnitudeStateBytes(num_elements, num_workers) + sizeof(Rank) + 64);
}

}  // namespace sluice::merge
