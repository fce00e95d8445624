// The masks of dare, della and breadcrumbs as bits for kernels::DeltaMask::kGiven. Pure and thread-safe.
#pragma once

#include <bit>
#include <cstdint>

#include "arithmetic/magnitude_ranks.h"
#include "base/counter_rng.h"
#include "graph/graph.h"
#include "graph/kept_node.h"
#include "kernels/mask_words.h"

namespace sluice::arithmetic {

constexpr uint64_t kMaskWordBits = 32;

// What nodes make masks in, and no checkpoint has: bit i % 32 of 32-bit word i / 32 is set where element i is kept.
quant::Encoding MaskEncoding();
inline const uint32_t* MaskBitsOf(const graph::View& mask) { return reinterpret_cast<const uint32_t*>(mask.data); }

// |x - base| as select.h orders it: f32 bits without the sign, every NaN 0x7FC00000.
inline uint32_t MagnitudeBitsOf(float x, float base) {
  const uint32_t bits = std::bit_cast<uint32_t>(x - base) & 0x7FFFFFFFu;
  return bits > 0x7F800000u ? 0x7FC00000u : bits;
}

// breadcrumbs: of the magnitudes, ordered from the largest and equal ones by index, drops the first up to `top` (where
// has_top) and those after `bottom` (where has_bottom).
struct BandMask {
  bool has_top = false, has_bottom = false;
  MagnitudeRanks::Rank top = {}, bottom = {};
};
void BandMaskBits(const BandMask& mask, uint64_t first_element, uint64_t count, const float* x, const float* base,
                  uint32_t* bits);

// dare: keeps an element where its random word (kernels::RandomMaskWord) is smaller than keep_below. A node of its own
// where a fact and the values look at it, so that it need not be drawn twice.
class RandomMaskNode final : public graph::KeptNode {
 public:
  RandomMaskNode(PhiloxKey key, uint64_t keep_below, uint64_t num_elements);
  void Compute(const graph::ComputeArgs& args) const override;
  double NanosecondsPerElement() const override { return 0.8; }

 private:
  PhiloxKey key_;
  uint64_t keep_below_;
};

// della: an element is kept with probability low + (high - low) r, where r is its rank by magnitude in its row, 0 for
// the smallest and 1 for the largest, equal ones by index.
//
// The rank is drawn instead of computed. Each element has a random word, kept below `low` and dropped from `high` on.
// In between it is compared with another element of its row, drawn so that each is as likely as the others: that it is
// the larger has the probability r. A row's elements find theirs by one rotation of the row, drawn for the row
// (docs/formats/mask.md), so that no row has to be sorted, or held whole.
struct RankMask {
  PhiloxKey key{};
  uint64_t columns = 0;        // of a row, 2 or more
  uint64_t low = 0, high = 0;  // round(p 2^32), low <= high
};
// Which element of its row each is compared with: columns go in units of the largest power of two, at most 256, that
// divides their number; units rotate, and so do the elements within each. Encodings' blocks stay whole.
class RowRotation {
 public:
  RowRotation(PhiloxKey key, uint64_t row, uint64_t columns);
  uint64_t unit() const { return unit_; }
  kernels::RowTurn turn() const { return {unit_, num_units_, unit_shift_, shift_}; }
  uint64_t shift() const { return shift_; }  // within each unit
  // The column that `column` is compared with; never itself.
  uint64_t Of(uint64_t column) const {
    const uint64_t within = (column + shift_) & (unit_ - 1);
    return FirstOfUnit(column / unit_) + within;
  }
  // The first column of the unit that unit `index` is compared with.
  uint64_t FirstOfUnit(uint64_t index) const {
    const uint64_t rotated = index + unit_shift_;
    return (rotated < num_units_ ? rotated : rotated - num_units_) * unit_;
  }

 private:
  uint64_t unit_, num_units_, unit_shift_, shift_;
};

// The mask of a tensor [*, columns]. Rows that lie whole in what is computed are looked at where they are; of others
// the part that theirs is compared with is asked for.
class RankMaskNode final : public graph::KeptNode {
 public:
  RankMaskNode(const graph::Node* x, const graph::Node* base, const RankMask& mask);
  void Needs(graph::Range out, graph::NeedList* needs) const override;
  uint64_t MostNeeds() const override { return 5; }  // what is computed, and two for a row cut at each end
  void Compute(const graph::ComputeArgs& args) const override;
  uint64_t ScratchBytes() const override;
  double NanosecondsPerElement() const override { return 2; }

 private:
  void ComparePart(const graph::ComputeArgs& args, uint64_t row, uint64_t begin, uint64_t end, const float* x,
                   const float* base, uint32_t* words) const;

  RankMask mask_;
};

}  // namespace sluice::arithmetic
