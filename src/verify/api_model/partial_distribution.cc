#include "verify/api_model/partial_distribution.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace sluice::verify::api_model {
namespace {

constexpr double kProbabilitySlack = 1e-6;  // e^x of a logarithm that was rounded to f32

}  // namespace

double PartialDistribution::Known() const {
  double sum = 0;
  for (const Entry& entry : known) sum += entry.probability;
  return sum;
}

double PartialDistribution::Rest() const { return std::max(0.0, 1 - Known()); }

const PartialDistribution::Entry* PartialDistribution::Find(uint32_t id) const {
  const auto found = std::ranges::lower_bound(known, id, {}, &Entry::id);
  return found != known.end() && found->id == id ? &*found : nullptr;
}

Result<void> CheckPartial(const PartialDistribution& distribution) {
  const auto bad = [](std::string what) { return Fail(ErrorCode::kCorrupt, std::move(what)); };
  for (size_t i = 0; i < distribution.known.size(); ++i) {
    const auto& [id, probability] = distribution.known[i];
    if (!(probability >= 0 && probability <= 1 + kProbabilitySlack)) {
      return bad(fmt::format("token {} has the probability {}, which is none", id, probability));
    }
    if (i > 0 && id <= distribution.known[i - 1].id) return bad(fmt::format("token {} is listed twice", id));
  }
  if (!(distribution.cap >= 0 && distribution.cap <= 1)) return bad("the least probability listed is none");
  if (const double sum = distribution.Known(); sum > 1 + kSumSlack) {
    return bad(fmt::format("the probabilities of {} tokens sum up to {}, more than 1", distribution.known.size(), sum));
  }
  return {};
}

DistanceBounds TotalVariationBounds(const PartialDistribution& p, const PartialDistribution& q) {
  double both = 0, only_p = 0, only_q = 0;
  auto i = p.known.begin();
  auto j = q.known.begin();
  while (i != p.known.end() || j != q.known.end()) {
    if (j == q.known.end() || (i != p.known.end() && i->id < j->id)) {
      only_p += std::min(i++->probability, q.cap);
    } else if (i == p.known.end() || j->id < i->id) {
      only_q += std::min(j++->probability, p.cap);
    } else {
      both += std::min(i++->probability, j++->probability);
    }
  }
  const double rest_p = p.Rest(), rest_q = q.Rest();
  const double unseen = std::min(rest_q + std::min(only_q, rest_p), rest_p + std::min(only_p, rest_q));
  const double slack = std::max(0.0, p.Known() - 1) + std::max(0.0, q.Known() - 1);
  DistanceBounds bounds{std::clamp(1 - both - unseen - slack, 0.0, 1.0), std::clamp(1 - both + slack, 0.0, 1.0)};
  bounds.lower = std::min(bounds.lower, bounds.upper);  // but for rounding they are in order
  return bounds;
}

Result<double> CoarseDistance(const PartialDistribution& p, const PartialDistribution& q,
                              std::span<const uint32_t> ids) {
  double distance = 0, sum_p = 0, sum_q = 0;
  for (const uint32_t id : ids) {
    const auto *in_p = p.Find(id), *in_q = q.Find(id);
    if (in_p == nullptr || in_q == nullptr) {
      return Fail(ErrorCode::kCorrupt, fmt::format("token {} has no probability on one side", id));
    }
    distance += std::abs(in_p->probability - in_q->probability);
    sum_p += in_p->probability;
    sum_q += in_q->probability;
  }
  return std::clamp((distance + std::abs(sum_p - sum_q)) / 2, 0.0, 1.0);
}

}  // namespace sluice::verify::api_model
