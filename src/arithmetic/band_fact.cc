#include "arithmetic/band_fact.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "arithmetic/float_views.h"
#include "arithmetic/l1_fact.h"
#include "base/check.h"

namespace sluice::arithmetic {
namespace {

using graph::kBlockElements;

uint64_t Blocks(uint64_t num_elements) { return (num_elements + kBlockElements - 1) / kBlockElements; }

// The ranks to find: of the top, then of the bottom, where there is one.
std::vector<uint64_t> Ks(const Band& band, uint64_t num_elements) {
  std::vector<uint64_t> ks;
  if (band.drop > 0) ks.push_back(band.drop);
  if (band.drop + band.keep < num_elements) ks.push_back(band.drop + band.keep);
  return ks;
}

class BandFold final : public graph::Fold {
 public:
  BandFold(uint64_t num_elements, const Band& band, bool with_sums, int num_workers)
      : num_elements_(num_elements),
        band_(band),
        with_sums_(with_sums),
        num_workers_(num_workers),
        ranks_(std::in_place, num_elements, Ks(band, num_elements), num_workers) {}

  bool Wants(uint64_t block) const override { return ranks_ ? ranks_->Wants(block) : true; }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    if (ranks_) return ranks_->Add(worker, piece, in);
    float x_copy[kCopyElements], base_copy[kCopyElements];
    uint32_t bits[kCopyElements / kMaskWordBits];
    sums_->AddBy(worker, piece, num_elements_, [&](kernels::L1Lanes* lanes) {
      ForAlignedParts(piece.size(), /*aligned=*/false, [&](uint64_t first, uint64_t count) {
        const float* x = FloatsAt(in[0], first, count, x_copy);
        const float* base = FloatsAt(in[1], first, count, base_copy);
        BandMaskBits(mask_, piece.begin + first, count, x, base, bits);
        const kernels::DeltaMask mask = {.kind = kernels::DeltaMask::Kind::kGiven, .bits = bits};
        kernels::AccumulateL1(x, base, mask, piece.begin + first, count, lanes);
      });
    });
  }

  bool Finish(graph::FactValue* value) override {
    if (ranks_) {
      if (!ranks_->Finish()) return false;
      found_.assign(kBandSums, 0);
      size_t next = 0;
      const auto take = [&](size_t place) {
        found_[place] = static_cast<double>(ranks_->rank(next).bits);
        found_[place + 1] = static_cast<double>(ranks_->rank(next).last_tie);
        ++next;
      };
      if (band_.drop > 0) take(0);
      if (band_.drop + band_.keep < num_elements_) take(2);
      ranks_.reset();
      if (with_sums_) {
        mask_ = BandMaskOf(band_, num_elements_, found_);
        sums_.emplace(Blocks(num_elements_), num_workers_);
        return false;
      }
    }
    *value = found_;
    if (with_sums_) {
      value->resize(kBandSums + 2);
      sums_->Finish(&(*value)[kBandSums], &(*value)[kBandSums + 1]);
    }
    return true;
  }

 private:
  const uint64_t num_elements_;
  const Band band_;
  const bool with_sums_;
  const int num_workers_;
  std::optional<MagnitudeRanks> ranks_;  // until they are known
  graph::FactValue found_;
  BandMask mask_;
  std::optional<L1Sums> sums_;
};

}  // namespace

BandFact::BandFact(const graph::Node* x, const graph::Node* base, const Band& band, bool with_sums)
    : Fact(fmt::format("band {} {} {}", band.drop, band.keep, with_sums), {x, base}),
      band_(band),
      with_sums_(with_sums) {
  SLUICE_CHECK(band.keep >= 1 && band.drop + band.keep <= x->num_elements() && !Ks(band, x->num_elements()).empty());
}

int BandFact::max_passes() const { return MagnitudeRanks::MaxPasses(num_elements()) + (with_sums_ ? 1 : 0); }
double BandFact::expected_passes() const {
  return MagnitudeRanks::ExpectedPasses(num_elements()) + (with_sums_ ? 1 : 0);
}

uint64_t BandFact::StateBytes(int num_workers) const {
  const uint64_t ranks = MagnitudeRanks::StateBytes(num_elements(), Ks(band_, num_elements()).size(), num_workers);
  const uint64_t sums = with_sums_ ? L1Sums::StateBytes(Blocks(num_elements()), num_workers) : 0;
  return sizeof(BandFold) + std::max(ranks, sums) + 1024;
}

std::unique_ptr<graph::Fold> BandFact::Begin(int num_workers) const {
  return std::make_unique<BandFold>(num_elements(), band_, with_sums_, num_workers);
}

BandMask BandMaskOf(const Band& band, uint64_t num_elements, const graph::FactValue& value) {
  const auto rank = [&](size_t place) {
    return MagnitudeRanks::Rank{static_cast<uint32_t>(value[place]), static_cast<uint64_t>(value[place + 1])};
  };
  return {
      .has_top = band.drop > 0, .has_bottom = band.drop + band.keep < num_elements, .top = rank(0), .bottom = rank(2)};
}

}  // namespace sluice::arithmetic
