// PartialDistribution: what is known of a next-token distribution of which the likeliest tokens alone were told, and
// what that says of the distance of two of them. docs/api_models.md proves the bounds.
//
// Total variation: TV(p, q) = 1/2 sum |p_i - q_i| = 1 - sum min(p_i, q_i). All functions are pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace sluice::verify::api_model {

struct PartialDistribution {
  struct Entry {
    uint32_t id;
    double probability;
    bool operator==(const Entry&) const = default;
  };
  std::vector<Entry> known;  // by ascending id, no id twice
  double cap = 1;            // no other id has more; 1 where nothing is known of them
  bool operator==(const PartialDistribution&) const = default;

  double Known() const;                  // what those known have together
  double Rest() const;                   // 1 - Known(), 0 where that is below
  const Entry* Find(uint32_t id) const;  // null: not known
};

// Probabilities that a server printed may exceed 1 together by so much: f32 and few digits. Beyond it is a lie.
constexpr double kSumSlack = 1e-3;
// kCorrupt: no number, below 0, above 1, together above 1 + kSumSlack, an id twice.
Result<void> CheckPartial(const PartialDistribution& distribution);

struct DistanceBounds {
  double lower = 0, upper = 1;
};
// Of total variation: no two distributions of which these are parts lie outside. Good ones alone.
//   upper = 1 - o,  o = sum over ids known on both sides of min(p_i, q_i)
//   lower = 1 - o - min(r_q + min(b, r_p), r_p + min(a, r_q)),  r the rests,
//           a = sum over ids known of p alone of min(p_i, cap_q), b of q alone likewise
// Widened by what the sums exceed 1 by. With all ids known on both sides both are TV.
DistanceBounds TotalVariationBounds(const PartialDistribution& p, const PartialDistribution& q);

// Total variation of p and q seen through a partition: each of `ids` (ascending) by itself, and all others as one. At
// most TV(p, q). Both know all of them; kCorrupt otherwise.
Result<double> CoarseDistance(const PartialDistribution& p, const PartialDistribution& q,
                              std::span<const uint32_t> ids);

}  // namespace sluice::verify::api_model
