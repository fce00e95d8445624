#include "verify/mask_likelihood.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace sluice::verify {
namespace {

constexpr size_t kBins = kMagnitudeBins;
constexpr size_t kMost = kMostKindCandidates;
constexpr size_t kMostMasks = size_t{1} << kMost;
constexpr size_t kMostScores = kMost + 2;
constexpr uint64_t kRun = KindSample::kRunElements;
constexpr uint64_t kRunsPerTask = 16;
constexpr double kDecisive = 10;   // odds at which a number tells whether an element was kept
constexpr double kIgnored = 1e-4;  // a mask of less probability adds nothing

// The probability that a number with logistic noise of scale c around its expectation is rounded to what was seen, half
// a step to either side: with H = half step / c and v = |miss| / c it is sinh H / (cosh H + cosh v).
struct Rounded {
  Rounded(double half_step_of_encoding, double noise)
      : half_step(half_step_of_encoding / noise), per_noise(1 / noise), twice(std::exp(-2 * half_step)) {
    coth = (1 + twice) / (1 - twice);
  }
  struct Value {
    double relative;  // the probability, times e^max(v - H, 0)
    double slope;     // derivative of the probability's logarithm by the expectation
    double by_noise;  // and by ln c
  };
  Value At(double miss) const {
    const double v = std::abs(miss) * per_noise, beyond = v - half_step;
    const double apart = static_cast<double>(std::exp(static_cast<float>(-std::abs(beyond))));
    const double of_v = beyond > 0 ? 1 : apart, of_half = beyond > 0 ? apart : 1;  // over e^max(v, H)
    const double twice_v = v > 9 ? 0 : static_cast<double>(std::exp(static_cast<float>(-2 * v)));
    const double per_sum = 1 / (of_v * (1 + twice_v) + of_half * (1 + twice));
    const double q = of_v * (1 - twice_v) * per_sum;  // sinh v / (cosh H + cosh v)
    const double p = of_half * (1 - twice) * per_sum;
    return {(1 - twice) * per_sum, std::copysign(q * per_noise, miss), v * q - half_step * (coth - p)};
  }
  double half_step, per_noise, twice, coth;
};

// Logarithms of what a bin's elements are kept and dropped with, of one set of parameters.
struct MaskOdds {
  explicit MaskOdds(const MaskParameters& parameters) {
    for (size_t k = 0; k < parameters.kept.size(); ++k) {
      for (size_t bin = 0; bin < kBins; ++bin) {
        const double kept = parameters.kept[k][bin];
        log_dropped[k][bin] = std::log1p(-kept);
        log_odds[k][bin] = static_cast<float>(std::log(kept) - std::log1p(-kept));
      }
    }
  }
  std::array<std::array<float, kBins>, kMost> log_odds;
  std::array<std::array<double, kBins>, kMost> log_dropped;
};

struct Element {
  std::array<double, kMost> delta;
  std::array<size_t, kMost> bin;
};

// What each mask, a bit for each candidate, would make of one element. In f32, several at a time.
class MaskTable {
 public:
  explicit MaskTable(const MaskParameters& parameters)
      : parameters_(parameters), odds_(parameters), k_(parameters.u.size()) {}

  void Fill(const Element& element) {
    up_[0] = down_[0] = weight_up_[0] = weight_down_[0] = prior_[0] = 0;
    log_none_ = 0;
    positive_ = negative_ = 0;
    for (size_t k = 0; k < k_; ++k) {
      const auto product = static_cast<float>(parameters_.u[k] * element.delta[k]);
      const float add_up = std::max(product, 0.0f), add_down = std::max(-product, 0.0f);
      if (product > 0) positive_ |= 1u << k;
      if (product < 0) negative_ |= 1u << k;
      log_none_ += odds_.log_dropped[k][element.bin[k]];
      const float add_prior = odds_.log_odds[k][element.bin[k]];
      const size_t half = size_t{1} << k;
      for (size_t s = 0; s < half; ++s) {
        up_[half + s] = up_[s] + add_up;
        down_[half + s] = down_[s] + add_down;
        prior_[half + s] = prior_[s] + add_prior;
      }
      if (!is_normalised()) continue;
      const auto w = static_cast<float>(parameters_.u[k]);
      const float w_up = product > 0 ? w : 0, w_down = product < 0 ? w : 0;
      for (size_t s = 0; s < half; ++s) {
        weight_up_[half + s] = weight_up_[s] + w_up;
        weight_down_[half + s] = weight_down_[s] + w_down;
      }
    }
    FillValues();
  }

  size_t size() const { return size_t{1} << k_; }
  bool is_normalised() const { return parameters_.sum == MergeSum::kNormalised; }
  float prior(size_t s) const { return prior_[s]; }  // logarithm of the mask's odds against the empty one
  float value(size_t s) const { return value_[s]; }
  double log_none() const { return log_none_; }  // logarithm of the empty mask's probability
  // Of a normalised sum: what it is divided by.
  double Divisor(size_t s) const {
    return is_normalised() ? std::max<double>(is_up(s) ? weight_up_[s] : weight_down_[s], 1e-12) : 1;
  }
  // Candidates, as bits, that have a part in the mask's value.
  uint32_t TakingPart(uint32_t s) const {
    return parameters_.sum == MergeSum::kSum ? s : s & (is_up(s) ? positive_ : negative_);
  }

 private:
  bool is_up(size_t s) const { return up_[s] >= down_[s]; }

  void FillValues() {
    if (parameters_.sum == MergeSum::kSum) {
      for (size_t s = 0; s < size(); ++s) value_[s] = up_[s] - down_[s];
    } else if (!is_normalised()) {
      for (size_t s = 0; s < size(); ++s) value_[s] = up_[s] >= down_[s] ? up_[s] : -down_[s];
    } else {
      const auto scale = static_cast<float>(parameters_.scale);
      for (size_t s = 0; s < size(); ++s) {
        const float top = up_[s] >= down_[s] ? up_[s] : -down_[s];
        const float divisor = up_[s] >= down_[s] ? weight_up_[s] : weight_down_[s];
        value_[s] = scale * top / std::max(divisor, 1e-12f);
      }
    }
  }

  const MaskParameters& parameters_;
  const MaskOdds odds_;
  const size_t k_;
  uint32_t positive_ = 0, negative_ = 0;
  double log_none_ = 0;
  std::array<float, kMostMasks> up_, down_, weight_up_, weight_down_, prior_, value_;
};

// The masks of an element that matter, with their probabilities.
class LikelyMasks {
 public:
  struct Mask {
    uint32_t mask;
    double probability, slope, by_noise;
  };

  // First what is nearly the logarithm of a mask's probability (within ln 4), for all; then the thing itself, for those
  // that matter.
  void Find(const MaskTable& table, double y, const Rounded& rounded) {
    const auto target = static_cast<float>(y), per_noise = static_cast<float>(rounded.per_noise),
               half = static_cast<float>(rounded.half_step);
    best_ = -INFINITY;
    for (size_t s = 0; s < table.size(); ++s) {
      likely_[s] = table.prior(s) - std::max(std::abs(target - table.value(s)) * per_noise - half, 0.0f);
      best_ = std::max(best_, likely_[s]);
    }
    size_ = 0;
    total_ = 0;
    for (uint32_t s = 0; s < table.size(); ++s) {
      if (likely_[s] < best_ - 10) continue;
      const Rounded::Value value_of = rounded.At(y - static_cast<double>(table.value(s)));
      const double probability = static_cast<double>(std::exp(likely_[s] - best_)) * value_of.relative;
      masks_[size_++] = {s, probability, value_of.slope, value_of.by_noise};
      total_ += probability;
    }
  }

  std::span<const Mask> masks() const { return {masks_.data(), size_}; }
  double total() const { return total_; }
  double log_likelihood() const { return static_cast<double>(best_) + std::log(total_); }  // but for log_none

 private:
  std::array<float, kMostMasks> likely_;
  std::array<Mask, kMostMasks> masks_;
  size_t size_ = 0;
  float best_ = 0;
  double total_ = 0;
};

// One mask's scores, weighted by its share, into the sums.
void AddScores(const MaskTable& table, const MaskParameters& parameters, const Element& element,
               const LikelyMasks::Mask& of, double share, MaskSums* sums) {
  const size_t num_candidates = parameters.u.size(), n = num_candidates + 2;
  const bool is_normalised = table.is_normalised();
  const uint32_t taking_part = table.TakingPart(of.mask);
  const auto value = static_cast<double>(table.value(of.mask));
  const double divisor = table.Divisor(of.mask);
  std::array<double, kMostScores> score;
  std::array<size_t, kMostScores> places;
  size_t count = 0;
  for (uint32_t left = taking_part; left != 0; left &= left - 1) {
    const auto k = static_cast<size_t>(std::countr_zero(left));
    const double by_u = is_normalised ? (parameters.scale * element.delta[k] - value) / divisor : element.delta[k];
    places[count] = k;
    score[count++] = of.slope * by_u;
  }
  if (is_normalised && taking_part != 0) {
    places[count] = num_candidates;
    score[count++] = of.slope * value / parameters.scale;
  }
  places[count] = num_candidates + 1;
  score[count++] = of.by_noise;
  for (size_t i = 0; i < count; ++i) {
    const double weighted = share * score[i];
    sums->scores[places[i]] += weighted;
    for (size_t j = i; j < count; ++j) sums->products[places[i] * n + places[j]] += weighted * score[j];
  }
}

void AddKept(const MaskParameters& parameters, const Element& element, const std::array<double, kMost>& kept,
             MaskSums* sums) {
  for (size_t k = 0; k < parameters.u.size(); ++k) {
    const size_t bin = element.bin[k];
    const double share = std::min(kept[k], 1.0);
    if (parameters.mask == MergeMask::kMagnitude) {
      // Odds of the number itself, without what was assumed before.
      const double assumed = parameters.kept[k][bin];
      const double odds_up = share * (1 - assumed), odds_down = (1 - share) * assumed;
      if (odds_up < kDecisive * odds_down && odds_down < kDecisive * odds_up) continue;
      sums->kept[k][bin] += odds_up > odds_down ? 1 : 0;
    } else {
      sums->kept[k][bin] += share;
    }
    sums->seen[k][bin] += 1;
  }
}

}  // namespace

void MaskParameters::SpreadDensity(size_t k) {
  for (size_t bin = 0; bin < kBins; ++bin) {
    double share = density[k];
    if (mask == MergeMask::kMagnitude) {
      const double dropped = (1 - density[k]) * kBins;  // bins from below
      // Thresholds are known to a bin's width, and an element must be able to tell that they are elsewhere.
      share = std::clamp(static_cast<double>(bin) + 1 - dropped, kBlurredShare, 1 - kBlurredShare);
    }
    kept[k][bin] = std::clamp(share, kLeastMaskShare, 1 - kLeastMaskShare);
  }
}

void MaskSums::Add(const MaskSums& other) {
  for (size_t i = 0; i < products.size(); ++i) products[i] += other.products[i];
  for (size_t i = 0; i < scores.size(); ++i) scores[i] += other.scores[i];
  for (size_t k = 0; k < kept.size(); ++k) {
    for (size_t bin = 0; bin < kBins; ++bin) {
      kept[k][bin] += other.kept[k][bin];
      seen[k][bin] += other.seen[k][bin];
    }
  }
  log_likelihood += other.log_likelihood;
}

std::vector<uint8_t> RankMagnitudes(const KindSample& sample) {
  std::vector<uint8_t> bins(sample.num_candidates * sample.size);
  for (size_t first = 0; first < sample.tensor.size();) {
    size_t last = first;
    while (last < sample.tensor.size() && sample.tensor[last] == sample.tensor[first]) ++last;
    const uint64_t begin = first * kRun, count = (last - first) * kRun;
    std::vector<uint32_t> order(count);
    for (size_t k = 0; k < sample.num_candidates; ++k) {
      const uint64_t at = k * sample.size + begin;
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, {}, [&](uint32_t i) { return std::abs(sample.deltas[at + i]); });
      for (uint64_t rank = 0; rank < count; ++rank) {
        bins[at + order[rank]] = static_cast<uint8_t>(rank * kBins / count);
      }
    }
    first = last;
  }
  return bins;
}

MaskLikelihood::MaskLikelihood(const KindSample& sample, int num_threads)
    : sample_(sample), workers_(num_threads), bins_(RankMagnitudes(sample)) {
  SLUICE_CHECK(sample.num_candidates > 0 && sample.num_candidates <= kMost &&
               sample.size == sample.tensor.size() * kRun);
  double squares = 0;
  for (const float delta : sample_.deltas) squares += static_cast<double>(delta) * static_cast<double>(delta);
  delta_squared_ = squares / static_cast<double>(sample_.deltas.size());
}

// f32 arithmetic is no better.
double MaskLikelihood::LeastNoise() const { return 1e-5 * std::sqrt(delta_squared_); }

MaskSums MaskLikelihood::Expect(std::span<const uint32_t> runs, const MaskParameters& parameters) {
  const size_t num_candidates = sample_.num_candidates;
  const uint64_t tasks = (runs.size() + kRunsPerTask - 1) / kRunsPerTask;
  std::vector<MaskSums> parts(tasks, MaskSums(num_candidates));
  workers_.ParallelFor(tasks, [&](uint64_t task, int) {
    MaskSums& sums = parts[task];
    MaskTable table(parameters);
    LikelyMasks likely;
    Element element;
    const auto expect = [&](uint64_t e) {
      for (size_t k = 0; k < num_candidates; ++k) {
        element.delta[k] = sample_.deltas[k * sample_.size + e];
        element.bin[k] = bin(k, e);
      }
      const Rounded rounded(std::max<double>(sample_.half_step[e], LeastNoise() / 16), parameters.noise);
      table.Fill(element);
      likely.Find(table, sample_.difference[e], rounded);
      sums.log_likelihood += likely.log_likelihood() + table.log_none();
      std::array<double, kMost> kept{};
      for (const LikelyMasks::Mask& mask : likely.masks()) {
        const double share = mask.probability / likely.total();
        if (share < kIgnored) continue;
        for (uint32_t left = mask.mask; left != 0; left &= left - 1) {
          kept[static_cast<size_t>(std::countr_zero(left))] += share;
        }
        AddScores(table, parameters, element, mask, share, &sums);
      }
      AddKept(parameters, element, kept, &sums);
    };
    const uint64_t end = std::min<uint64_t>((task + 1) * kRunsPerTask, runs.size());
    for (uint64_t r = task * kRunsPerTask; r < end; ++r) {
      for (uint64_t e = runs[r] * kRun; e < (runs[r] + 1) * kRun; ++e) expect(e);
    }
  });
  MaskSums total(num_candidates);
  for (const MaskSums& part : parts) total.Add(part);
  return total;
}

}  // namespace sluice::verify
