#include "arithmetic/magnitude_fact.h"

#include <algorithm>
#include <bit>
#include <optional>

#include <fmt/format.h>

#include "arithmetic/l1_fact.h"
#include "arithmetic/magnitude_ranks.h"
#include "base/check.h"

namespace sluice::arithmetic {
namespace {

uint64_t Blocks(uint64_t num_elements) { return (num_elements + graph::kBlockElements - 1) / graph::kBlockElements; }

class MagnitudeFold final : public graph::Fold {
 public:
  MagnitudeFold(uint64_t num_elements, uint64_t k, bool with_sums, int num_workers, const MagnitudeLimits& limits)
      : num_elements_(num_elements),
        with_sums_(with_sums),
        num_workers_(num_workers),
        ranks_(std::in_place, num_elements, std::span(&k, 1), num_workers, limits) {}

  bool Wants(uint64_t block) const override { return ranks_ ? ranks_->Wants(block) : true; }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    if (ranks_) {
      ranks_->Add(worker, piece, in);
    } else {
      sums_->Add(worker, piece, in, mask_, num_elements_);
    }
  }

  bool Finish(graph::FactValue* value) override {
    if (ranks_) {
      if (!ranks_->Finish()) return false;
      rank_ = ranks_->rank(0);
      ranks_.reset();
      if (with_sums_) {
        mask_ = {.kind = kernels::DeltaMask::Kind::kMagnitude,
                 .threshold = std::bit_cast<float>(rank_.bits),
                 .last_tie = rank_.last_tie};
        sums_.emplace(Blocks(num_elements_), num_workers_);
        return false;
      }
    }
    *value = {static_cast<double>(rank_.bits), static_cast<double>(rank_.last_tie)};
    if (with_sums_) {
      value->resize(4);
      sums_->Finish(&(*value)[2], &(*value)[3]);
    }
    return true;
  }

 private:
  const uint64_t num_elements_;
  const bool with_sums_;
  const int num_workers_;
  std::optional<MagnitudeRanks> ranks_;  // until the rank is known
  MagnitudeRanks::Rank rank_;
  kernels::DeltaMask mask_;
  std::optional<L1Sums> sums_;
};

}  // namespace

std::unique_ptr<graph::Fold> MakeMagnitudeFold(uint64_t num_elements, uint64_t k, bool with_sums, int num_workers,
                                               const MagnitudeLimits& limits) {
  return std::make_unique<MagnitudeFold>(num_elements, k, with_sums, num_workers, limits);
}

MagnitudeFact::MagnitudeFact(const graph::Node* x, const graph::Node* base, uint64_t k, bool with_sums)
    : Fact(fmt::format("magnitude {} {}", k, with_sums), {x, base}), k_(k), with_sums_(with_sums) {
  SLUICE_CHECK(k >= 1 && k < x->num_elements());
}

int MagnitudeFact::max_passes() const { return MagnitudeRanks::MaxPasses(num_elements()) + (with_sums_ ? 1 : 0); }
double MagnitudeFact::expected_passes() const {
  return MagnitudeRanks::ExpectedPasses(num_elements()) + (with_sums_ ? 1 : 0);
}
uint64_t MagnitudeFact::StateBytes(int num_workers) const {
  const uint64_t ranks = MagnitudeRanks::StateBytes(num_elements(), 1, num_workers);
  const uint64_t sums = with_sums_ ? L1Sums::StateBytes(Blocks(num_elements()), num_workers) : 0;
  return sizeof(MagnitudeFold) + std::max(ranks, sums) + 1024;
}

std::unique_ptr<graph::Fold> MagnitudeFact::Begin(int num_workers) const {
  return MakeMagnitudeFold(num_elements(), k_, with_sums_, num_workers);
}

}  // namespace sluice::arithmetic
