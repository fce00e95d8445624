#include "verify/merge_kind.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/counter_rng.h"
#include "base/workers.h"

namespace sluice::verify {
namespace {

constexpr size_t kBins = 20;  // of magnitudes, by rank within a tensor
constexpr size_t kMost = kMostKindCandidates;
constexpr uint64_t kRun = KindSample::kRunElements;
constexpr uint64_t kRunsPerTask = 16;
constexpr double kLeastShare = 1e-3;  // of what is kept or dropped: no element is impossible
constexpr double kBlurred = 0.02;     // of a bin beyond the threshold of magnitudes
constexpr double kAllKept = 0.98;
constexpr double kDecisive = 10;      // odds at which a number tells whether an element was kept
constexpr double kLeastError = 1e-4;  // of a weight, relative
constexpr double kIgnored = 1e-4;     // a mask of less probability adds nothing
constexpr size_t kSemifinalists = 4, kFinalists = 2;
constexpr double kNear = 0.05;  // nats an element, that more steps may yet make good

struct Parameters {
  MergeSum sum = MergeSum::kSum;
  MergeMask mask = MergeMask::kRandom;
  std::vector<double> u;                        // amplitude of what is kept; normalised: weight
  std::vector<double> density;                  // share kept
  std::vector<std::array<double, kBins>> kept;  // by bin of magnitude, lowest first
  double scale = 1;
  double noise = 0;

  void SpreadDensity(size_t k) {
    for (size_t bin = 0; bin < kBins; ++bin) {
      double share = density[k];
      if (mask == MergeMask::kMagnitude) {
        const double dropped = (1 - density[k]) * kBins;  // bins from below
        // Thresholds are known to a bin's width, and an element must be able to tell that they are elsewhere.
        share = std::clamp(static_cast<double>(bin) + 1 - dropped, kBlurred, 1 - kBlurred);
      }
      kept[k][bin] = std::clamp(share, kLeastShare, 1 - kLeastShare);
    }
  }
};

// Scores are derivatives of the log-likelihood by: each u, the scale, the logarithm of the noise.
constexpr size_t kMostScores = kMost + 2;

struct Sums {
  explicit Sums(size_t k) : products((k + 2) * (k + 2)), scores(k + 2), kept(k), seen(k) {}
  std::vector<double> products, scores;  // of scores with each other, and scores, both by probability of the mask
  // Kept of those that were looked at. Of masks of magnitudes these are the elements that tell: where a candidate's
  // sign lost, its mask changes nothing, and what was assumed of it must not count as seen.
  std::vector<std::array<double, kBins>> kept, seen;
  double log_likelihood = 0;

  void Add(const Sums& other) {
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
};

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

// Positive definite but for rounding; a small ridge keeps what is not determined where it is.
std::vector<double> SolveRidge(std::vector<double> a, std::vector<double> b, double ridge) {
  const size_t n = b.size();
  double most = 0;
  for (size_t i = 0; i < n; ++i) most = std::max(most, a[i * n + i]);
  for (size_t i = 0; i < n; ++i) a[i * n + i] += ridge * a[i * n + i] + 1e-12 * most + 1e-300;
  for (size_t i = 0; i < n; ++i) {
    for (size_t r = i + 1; r < n; ++r) {
      const double factor = a[r * n + i] / a[i * n + i];
      for (size_t c = i; c < n; ++c) a[r * n + c] -= factor * a[i * n + c];
      b[r] -= factor * b[i];
    }
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t c = i + 1; c < n; ++c) b[i] -= a[i * n + c] * b[c];
    b[i] /= a[i * n + i];
  }
  return b;
}

// Bins of magnitude of each candidate's differences, [candidate][element].
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

class Fitter {
 public:
  Fitter(const KindSample& sample, std::span<const double> start, int num_threads)
      : sample_(sample), start_(start.begin(), start.end()), k_(sample.num_candidates), workers_(num_threads) {
    SLUICE_CHECK(k_ > 0 && k_ <= kMost && start.size() == k_ && sample.size == sample.tensor.size() * kRun);
    bins_ = RankMagnitudes(sample);
    double squares = 0;
    for (const float delta : sample_.deltas) squares += static_cast<double>(delta) * static_cast<double>(delta);
    delta_squared_ = squares / static_cast<double>(sample_.deltas.size());
  }

  std::vector<MergeKindFit> Run() {
    std::vector<uint32_t> all(sample_.tensor.size());
    std::iota(all.begin(), all.end(), 0);
    // Each mask doubles the work of an element.
    uint64_t most = 32768;
    for (size_t k = 6; k < k_; ++k) most /= 2;
    const std::vector<uint32_t> whole = EveryNth(all, (sample_.size + most - 1) / most, 0);
    const std::vector<uint32_t> part = EveryNth(whole, std::max<size_t>(1, whole.size() * kRun / 4096), 0);
    struct Try {
      Parameters parameters;
      double log_likelihood;
    };
    std::vector<Try> tries;
    for (const MergeSum sum : {MergeSum::kSum, MergeSum::kConsensus, MergeSum::kNormalised}) {
      if (k_ == 1 && sum != MergeSum::kSum) break;  // one always agrees with itself
      for (const MergeMask mask : {MergeMask::kRandom, MergeMask::kMagnitude}) {
        Parameters parameters = Start(sum, mask);
        const double value = Iterate(part, 6, &parameters);
        tries.push_back({std::move(parameters), value});
      }
    }
    const auto sort = [&] { std::ranges::stable_sort(tries, std::ranges::greater(), &Try::log_likelihood); };
    sort();
    for (size_t i = 0; i < std::min(kSemifinalists, tries.size()); ++i)
      tries[i].log_likelihood = Iterate(part, 10, &tries[i].parameters);
    sort();
    // What is far behind by then does not catch up: it is told, and not made better.
    for (size_t i = 0; i < tries.size(); ++i) {
      if (i < kFinalists) Iterate(part, 12, &tries[i].parameters);
      tries[i].log_likelihood = Iterate(whole, i < kFinalists ? 4 : 0, &tries[i].parameters);
    }
    sort();
    const double near = tries[0].log_likelihood - kNear;
    for (Try& one : tries) {
      if (one.log_likelihood >= near) one.log_likelihood = Iterate(whole, 12, &one.parameters);
    }
    sort();
    std::vector<MergeKindFit> fits;
    for (size_t i = 0; i < tries.size(); ++i) {
      fits.push_back(ToFit(tries[i].parameters, tries[i].log_likelihood));
      if (i == 0) AddErrors(whole, tries[i].parameters, &fits[i]);
    }
    return fits;
  }

 private:
  static std::vector<uint32_t> EveryNth(const std::vector<uint32_t>& of, size_t n, size_t first) {
    std::vector<uint32_t> some;
    for (size_t i = first; i < of.size(); i += n) some.push_back(of[i]);
    return some;
  }

  const float* Deltas(size_t k) const { return &sample_.deltas[k * sample_.size]; }

  // Densities from the second moments of the residuals: of kept at random, E e^2 = sum of b_k^2 (1 / p_k - 1) d_k^2 and
  // noise.
  Parameters Start(MergeSum sum, MergeMask mask) const {
    const size_t n = k_ + 1;
    std::vector<double> products(n * n), scores(n), x(n);
    double residual = 0;
    for (uint64_t e = 0; e < sample_.size; ++e) {
      double error = sample_.difference[e];
      for (size_t k = 0; k < k_; ++k) {
        const double d = Deltas(k)[e];
        error -= start_[k] * d;
        x[k] = start_[k] * start_[k] * d * d / delta_squared_;
      }
      x[k_] = 1;
      const double y = error * error / delta_squared_;
      residual += error * error;
      for (size_t i = 0; i < n; ++i) {
        scores[i] += x[i] * y;
        for (size_t j = 0; j < n; ++j) products[i * n + j] += x[i] * x[j];
      }
    }
    const std::vector<double> odds = SolveRidge(products, scores, 1e-6);
    Parameters parameters;
    parameters.sum = sum;
    parameters.mask = mask;
    parameters.kept.resize(k_);
    double weights = 0;
    for (size_t k = 0; k < k_; ++k) {
      double u = start_[k];
      if (mask == MergeMask::kRandom) {
        parameters.density.push_back(std::clamp(1 / (1 + std::max(odds[k], 0.0)), 0.05, 0.97));
        if (sum != MergeSum::kNormalised) u /= parameters.density[k];
      } else {
        const auto [density, slope] = StepOf(k);
        parameters.density.push_back(density);
        u = slope;
      }
      parameters.u.push_back(sum == MergeSum::kNormalised ? std::max(u, 1e-3) : u);
      weights += parameters.u.back();
      parameters.SpreadDensity(k);
    }
    if (sum == MergeSum::kNormalised) {
      for (double& u : parameters.u) u /= weights;
    }
    // Starts are not that good: noise shrinks as they get better.
    parameters.noise =
        0.55 * std::sqrt(residual / static_cast<double>(sample_.size)) + 0.02 * std::sqrt(delta_squared_);
    return parameters;
  }

  // Density and slope of a mask of magnitudes: what is dropped has no part in MODEL, so its slope is 0.
  std::pair<double, double> StepOf(size_t k) const {
    std::array<double, kBins> products{}, squares{};
    for (uint64_t e = 0; e < sample_.size; ++e) {
      const double d = Deltas(k)[e];
      const size_t bin = bins_[k * sample_.size + e];
      products[bin] += d * static_cast<double>(sample_.difference[e]);
      squares[bin] += d * d;
    }
    double best = -1, best_density = 1, best_slope = start_[k];
    double product = 0, square = 0;
    for (size_t kept = 1; kept <= kBins; ++kept) {
      product += products[kBins - kept];
      square += squares[kBins - kept];
      // The squares that a slope of the upper bins explains.
      const double gain = square > 0 ? product * product / square : 0;
      if (gain <= best) continue;
      best = gain;
      best_density = static_cast<double>(kept) / kBins;
      best_slope = product / square;
    }
    return {best_density, best_slope};
  }

  // f32 arithmetic is no better.
  double Least() const { return 1e-5 * std::sqrt(delta_squared_); }

  // Steps of EM, three at a time and extrapolated by the first two (SQUAREM, scheme S3). Returns the log-likelihood an
  // element.
  double Iterate(const std::vector<uint32_t>& runs, int most, Parameters* parameters) {
    const auto elements = static_cast<double>(runs.size() * kRun);
    const auto step = [&](const Parameters& from, Parameters* to) {
      const Sums sums = Expect(runs, from);
      *to = from;
      Maximise(sums, to);
      return sums.log_likelihood / elements;
    };
    double value = -INFINITY;
    for (int i = 0; i < most; ++i) {
      Parameters first, second;
      const double at_start = step(*parameters, &first);
      step(first, &second);
      const Parameters far = Extrapolate(*parameters, first, second);
      Parameters next;
      // Where it leads astray, the plain second step: what it reaches is at least as likely as the first.
      if (!(step(far, &next) >= at_start)) next = second;
      *parameters = std::move(next);
      const bool is_there = std::abs(at_start - value) < 1e-7;
      value = at_start;
      if (is_there) break;
    }
    return Expect(runs, *parameters).log_likelihood / elements;
  }

  // Where two steps that shrink by a factor would end: amplitudes, log odds of densities, and the logarithm of the
  // noise.
  Parameters Extrapolate(const Parameters& start, const Parameters& first, const Parameters& second) const {
    const auto pack = [&](const Parameters& from) {
      std::vector<double> x;
      for (size_t k = 0; k < k_; ++k) {
        x.push_back(from.u[k] * 4);  // about as far as log odds
        x.push_back(std::log(from.density[k] / std::max(1 - from.density[k], kLeastShare)));
      }
      x.push_back(2 * std::log(from.noise));
      x.push_back(from.scale);
      return x;
    };
    const std::vector<double> a = pack(start), b = pack(first), c = pack(second);
    double r_squared = 0, v_squared = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      const double r = b[i] - a[i], v = c[i] - 2 * b[i] + a[i];
      r_squared += r * r;
      v_squared += v * v;
    }
    const double alpha = v_squared > 0 ? std::clamp(std::sqrt(r_squared / v_squared), 1.0, 16.0) : 1;
    std::vector<double> x(a.size());
    for (size_t i = 0; i < a.size(); ++i) {
      x[i] = a[i] + 2 * alpha * (b[i] - a[i]) + alpha * alpha * (c[i] - 2 * b[i] + a[i]);
    }
    Parameters far = second;
    for (size_t k = 0; k < k_; ++k) {
      far.u[k] = x[2 * k] / 4;
      if (far.sum == MergeSum::kNormalised) far.u[k] = std::max(far.u[k], 1e-4);
      if (far.mask == MergeMask::kRandom) {
        far.density[k] = std::clamp(1 / (1 + std::exp(-x[2 * k + 1])), kLeastShare, 1 - kLeastShare);
      }
      far.SpreadDensity(k);
    }
    far.noise = std::max(std::exp(x[2 * k_] / 2), Least());
    far.scale = std::max(x[2 * k_ + 1], 1e-3);
    return far;
  }

  Sums Expect(const std::vector<uint32_t>& runs, const Parameters& parameters) {
    const uint64_t tasks = (runs.size() + kRunsPerTask - 1) / kRunsPerTask;
    std::vector<Sums> parts(tasks, Sums(k_));
    workers_.ParallelFor(tasks, [&](uint64_t task, int) {
      const uint64_t end = std::min<uint64_t>((task + 1) * kRunsPerTask, runs.size());
      for (uint64_t r = task * kRunsPerTask; r < end; ++r) ExpectRun(runs[r], parameters, &parts[task]);
    });
    Sums total(k_);
    for (const Sums& part : parts) total.Add(part);
    return total;
  }

  void ExpectRun(uint32_t run, const Parameters& parameters, Sums* sums) const {
    const size_t masks = size_t{1} << k_, n = k_ + 2;
    const double noise = parameters.noise;
    std::array<float, 1 << kMost> up, down, weight_up, weight_down, prior, value, likely;
    std::array<std::array<float, kBins>, kMost> log_odds;
    std::array<std::array<double, kBins>, kMost> log_dropped;
    for (size_t k = 0; k < k_; ++k) {
      for (size_t bin = 0; bin < kBins; ++bin) {
        const double kept = parameters.kept[k][bin];
        log_dropped[k][bin] = std::log1p(-kept);
        log_odds[k][bin] = static_cast<float>(std::log(kept) - std::log1p(-kept));
      }
    }
    const bool is_normalised = parameters.sum == MergeSum::kNormalised;
    for (uint64_t e = run * kRun; e < (run + 1) * kRun; ++e) {
      const double y = sample_.difference[e];
      const Rounded rounded(std::max<double>(sample_.half_step[e], Least() / 16), noise);
      up[0] = down[0] = weight_up[0] = weight_down[0] = prior[0] = 0;
      double log_none = 0;
      uint32_t positive = 0, negative = 0;
      std::array<double, kMost> delta;
      std::array<size_t, kMost> bin;
      for (size_t k = 0; k < k_; ++k) {
        delta[k] = Deltas(k)[e];
        bin[k] = bins_[k * sample_.size + e];
        const auto product = static_cast<float>(parameters.u[k] * delta[k]);
        const float add_up = std::max(product, 0.0f), add_down = std::max(-product, 0.0f);
        if (product > 0) positive |= 1u << k;
        if (product < 0) negative |= 1u << k;
        log_none += log_dropped[k][bin[k]];
        const float add_prior = log_odds[k][bin[k]];
        const size_t half = size_t{1} << k;
        for (size_t s = 0; s < half; ++s) {
          up[half + s] = up[s] + add_up;
          down[half + s] = down[s] + add_down;
          prior[half + s] = prior[s] + add_prior;
        }
        if (!is_normalised) continue;
        const auto w = static_cast<float>(parameters.u[k]);
        const float w_up = product > 0 ? w : 0, w_down = product < 0 ? w : 0;
        for (size_t s = 0; s < half; ++s) {
          weight_up[half + s] = weight_up[s] + w_up;
          weight_down[half + s] = weight_down[s] + w_down;
        }
      }
      if (parameters.sum == MergeSum::kSum) {
        for (size_t s = 0; s < masks; ++s) value[s] = up[s] - down[s];
      } else if (!is_normalised) {
        for (size_t s = 0; s < masks; ++s) value[s] = up[s] >= down[s] ? up[s] : -down[s];
      } else {
        const auto scale = static_cast<float>(parameters.scale);
        for (size_t s = 0; s < masks; ++s) {
          const float top = up[s] >= down[s] ? up[s] : -down[s];
          const float divisor = up[s] >= down[s] ? weight_up[s] : weight_down[s];
          value[s] = scale * top / std::max(divisor, 1e-12f);
        }
      }
      // First what is nearly the logarithm of a mask's probability (within ln 4), for all; then the thing itself, for
      // those that matter.
      const auto target = static_cast<float>(y), per_noise = static_cast<float>(1 / noise),
                 half = static_cast<float>(rounded.half_step);
      float best = -INFINITY;
      for (size_t s = 0; s < masks; ++s) {
        likely[s] = prior[s] - std::max(std::abs(target - value[s]) * per_noise - half, 0.0f);
        best = std::max(best, likely[s]);
      }
      struct Candidate {
        uint32_t mask;
        double probability, slope, by_noise;
      };
      std::array<Candidate, 1 << kMost> some;
      size_t num_some = 0;
      double total = 0;
      for (uint32_t s = 0; s < masks; ++s) {
        if (likely[s] < best - 10) continue;
        const Rounded::Value value_of = rounded.At(y - static_cast<double>(value[s]));
        const double probability = static_cast<double>(std::exp(likely[s] - best)) * value_of.relative;
        some[num_some++] = {s, probability, value_of.slope, value_of.by_noise};
        total += probability;
      }
      sums->log_likelihood += static_cast<double>(best) + std::log(total) + log_none;
      std::array<double, kMost> kept{};
      for (size_t c = 0; c < num_some; ++c) {
        const uint32_t s = some[c].mask;
        const double share = some[c].probability / total;
        if (share < kIgnored) continue;
        for (uint32_t left = s; left != 0; left &= left - 1) {
          const auto k = static_cast<size_t>(std::countr_zero(left));
          kept[k] += share;
        }
        uint32_t taking_part = s;
        if (parameters.sum != MergeSum::kSum) taking_part &= up[s] >= down[s] ? positive : negative;
        std::array<double, kMostScores> score;
        std::array<size_t, kMostScores> places;
        size_t count = 0;
        const double divisor =
            is_normalised ? std::max<double>(up[s] >= down[s] ? weight_up[s] : weight_down[s], 1e-12) : 1;
        for (uint32_t left = taking_part; left != 0; left &= left - 1) {
          const auto k = static_cast<size_t>(std::countr_zero(left));
          const double by_u =
              is_normalised ? (parameters.scale * delta[k] - static_cast<double>(value[s])) / divisor : delta[k];
          places[count] = k;
          score[count++] = some[c].slope * by_u;
        }
        if (is_normalised && taking_part != 0) {
          places[count] = k_;
          score[count++] = some[c].slope * static_cast<double>(value[s]) / parameters.scale;
        }
        places[count] = k_ + 1;
        score[count++] = some[c].by_noise;
        for (size_t i = 0; i < count; ++i) {
          const double weighted = share * score[i];
          sums->scores[places[i]] += weighted;
          for (size_t j = i; j < count; ++j) sums->products[places[i] * n + places[j]] += weighted * score[j];
        }
      }
      for (size_t k = 0; k < k_; ++k) {
        const double share = std::min(kept[k], 1.0);
        if (parameters.mask == MergeMask::kMagnitude) {
          // Odds of the number itself, without what was assumed before.
          const double assumed = parameters.kept[k][bin[k]];
          const double odds_up = share * (1 - assumed), odds_down = (1 - share) * assumed;
          if (odds_up < kDecisive * odds_down && odds_down < kDecisive * odds_up) continue;
          sums->kept[k][bin[k]] += odds_up > odds_down ? 1 : 0;
        } else {
          sums->kept[k][bin[k]] += share;
        }
        sums->seen[k][bin[k]] += 1;
      }
    }
  }

  void Maximise(const Sums& sums, Parameters* parameters) const {
    const size_t n = k_ + 2;
    std::vector<double> products = sums.products;
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < i; ++j) products[i * n + j] = products[j * n + i];
    }
    // One step of Berndt, Hall, Hall and Hausman: the products of scores stand for the curvature.
    const std::vector<double> step = SolveRidge(products, sums.scores, 1e-3);
    double weights = 0;
    for (size_t k = 0; k < k_; ++k) {
      double& u = parameters->u[k];
      const double most = std::max(std::abs(u) / 2, 0.05);
      u += std::clamp(step[k], -most, most);
      if (parameters->sum == MergeSum::kNormalised) u = std::max(u, 1e-4);
      weights += u;
    }
    if (parameters->sum == MergeSum::kNormalised) {
      for (double& u : parameters->u) u /= weights;  // only their ratios matter
      parameters->scale *= std::exp(std::clamp(step[k_] / parameters->scale, -0.5, 0.5));
    }
    parameters->noise = std::max(parameters->noise * std::exp(std::clamp(step[k_ + 1], -0.7, 0.7)), Least());
    for (size_t k = 0; k < k_; ++k) {
      const std::array<double, kBins>& counts = sums.seen[k];
      if (parameters->mask == MergeMask::kRandom) {
        double kept = 0, all = 0;
        for (size_t bin = 0; bin < kBins; ++bin) kept += sums.kept[k][bin], all += counts[bin];
        parameters->density[k] = std::clamp(kept / all, kLeastShare, 1 - kLeastShare);
        parameters->SpreadDensity(k);
      } else {
        parameters->density[k] = BestStep(sums.kept[k], counts, k, *parameters);
        parameters->SpreadDensity(k);
      }
    }
  }

  // The density under which the shares that were kept, bin by bin, are likeliest.
  static double BestStep(const std::array<double, kBins>& kept, const std::array<double, kBins>& counts, size_t k,
                         Parameters parameters) {
    double best = -INFINITY, best_density = 1;
    for (int percent = 1; percent <= 200; ++percent) {
      parameters.density[k] = percent / 200.0;
      parameters.SpreadDensity(k);
      double value = 0;
      for (size_t bin = 0; bin < kBins; ++bin) {
        const double p = parameters.kept[k][bin];
        value += kept[bin] * std::log(p) + (counts[bin] - kept[bin]) * std::log1p(-p);
      }
      if (value > best) best = value, best_density = parameters.density[k];
    }
    return best_density;
  }

  MergeKindFit ToFit(const Parameters& parameters, double log_likelihood) const {
    MergeKindFit fit;
    fit.sum = parameters.sum;
    fit.mask = parameters.mask;
    fit.log_likelihood = log_likelihood;
    for (size_t k = 0; k < k_; ++k) {
      const bool is_rescaled = parameters.mask == MergeMask::kRandom && parameters.sum != MergeSum::kNormalised;
      // 1 less what no density of the fit may come nearer to 1 than.
      const bool is_kept = parameters.density[k] >= 1 - 2 * kLeastShare;
      fit.densities.push_back(is_kept ? 1 : parameters.density[k]);
      fit.weights.push_back(is_rescaled ? parameters.u[k] * fit.densities[k] : parameters.u[k]);
    }
    fit.scale = parameters.scale;
    fit.noise = parameters.noise / std::sqrt(delta_squared_);
    return fit;
  }

  // The spread of fits to disjoint parts of the sample, over the root of their number.
  void AddErrors(const std::vector<uint32_t>& runs, const Parameters& best, MergeKindFit* fit) {
    constexpr size_t kParts = 8;
    std::vector<MergeKindFit> parts;
    for (size_t part = 0; part < kParts; ++part) {
      const std::vector<uint32_t> some = EveryNth(runs, kParts, part);
      if (some.empty()) return;
      Parameters parameters = best;
      Iterate(some, 7, &parameters);
      parts.push_back(ToFit(parameters, 0));
    }
    const auto error = [&](auto of) {
      double mean = 0, squares = 0;
      for (const MergeKindFit& part : parts) mean += of(part) / kParts;
      for (const MergeKindFit& part : parts) squares += (of(part) - mean) * (of(part) - mean);
      return std::sqrt(squares / (kParts - 1) / kParts);
    };
    for (size_t k = 0; k < k_; ++k) {
      // Where all is reproduced, likelihoods have edges and the parts agree by too much: no weight is told nearer than
      // this.
      const double weight_error = error([k](const MergeKindFit& part) { return part.weights[k]; });
      fit->weight_errors.push_back(std::hypot(weight_error, kLeastError * fit->weights[k]));
      double density_error = error([k](const MergeKindFit& part) { return part.densities[k]; });
      if (fit->mask == MergeMask::kMagnitude) density_error = std::hypot(density_error, 1.0 / kBins);
      fit->density_errors.push_back(density_error);
    }
  }

  const KindSample& sample_;
  const std::vector<double> start_;
  const size_t k_;
  Workers workers_;
  std::vector<uint8_t> bins_;  // [candidate][element]
  double delta_squared_ = 0;   // mean
};

}  // namespace

std::vector<MergeKindFit> FitMergeKinds(const KindSample& sample, std::span<const double> start, int num_threads) {
  return Fitter(sample, start, num_threads).Run();
}

std::vector<float> SimulateMerge(const KindSample& sample, const MergeKindFit& fit) {
  constexpr PhiloxKey kKey = {0x6d65726b, 0x696e6421};
  const size_t num_candidates = sample.num_candidates;
  const std::vector<uint8_t> bins = RankMagnitudes(sample);
  Parameters parameters;
  parameters.mask = fit.mask;
  parameters.density = fit.densities;
  parameters.kept.resize(num_candidates);
  for (size_t k = 0; k < num_candidates; ++k) parameters.SpreadDensity(k);
  std::vector<float> result(sample.size);
  for (uint64_t e = 0; e < sample.size; ++e) {
    double up = 0, down = 0, weight_up = 0, weight_down = 0;
    for (size_t k = 0; k < num_candidates; ++k) {
      const uint64_t at = k * sample.size + e;
      const double density = parameters.kept[k][bins[at]];
      const uint32_t word =
          Philox4x32({static_cast<uint32_t>(e), static_cast<uint32_t>(e >> 32), static_cast<uint32_t>(k), 0}, kKey)[0];
      // What is all but certain was clamped for the fit's sake.
      const double edge = fit.mask == MergeMask::kMagnitude ? kBlurred : kLeastShare;
      const bool is_kept = density >= 1 - edge || (density > edge && word < density * 4294967296.0);
      if (!is_kept) continue;
      const double weight = fit.Amplitude(k), product = weight * static_cast<double>(sample.deltas[at]);
      (product > 0 ? up : down) += std::abs(product);
      (product > 0 ? weight_up : weight_down) += product != 0 ? weight : 0;
    }
    double value = up - down;
    if (fit.sum != MergeSum::kSum) value = up >= down ? up : -down;
    if (fit.sum == MergeSum::kNormalised) value *= fit.scale / std::max(up >= down ? weight_up : weight_down, 1e-12);
    result[e] = static_cast<float>(value);
  }
  return result;
}

std::string MergeKindName(const MergeKindFit& fit) {
  const bool is_all_kept = fit.is_all_kept();
  const bool is_random = fit.mask == MergeMask::kRandom;
  switch (fit.sum) {
    case MergeSum::kSum:
      if (is_all_kept) return "linear or task_arithmetic";
      return is_random ? "dare_linear" : "a sum of trimmed differences";
    case MergeSum::kConsensus:
      if (is_all_kept) return "ties, normalize: false, density 1";
      return is_random ? "dare_ties" : "ties, normalize: false";
    case MergeSum::kNormalised:
      if (is_all_kept) return "ties, density 1";
      return is_random ? "dare_ties, normalize: true" : "ties";
  }
  return "";
}

double MergeKindFit::Amplitude(size_t k) const {
  return mask == MergeMask::kRandom && sum != MergeSum::kNormalised ? weights[k] / densities[k] : weights[k];
}

bool MergeKindFit::is_all_kept() const {
  return std::ranges::all_of(densities, [](double density) { return density >= kAllKept; });
}

size_t MergeKindAnswer::equally_good() const {
  size_t count = 0;
  for (const MergeKindFit& fit : fits) {
    if ((fits[0].log_likelihood - fit.log_likelihood) * static_cast<double>(elements) < kLeastEvidence) ++count;
  }
  return count;
}

std::string MergeKindAnswer::name() const {
  if (fits.empty()) return "";
  if (candidates.size() > 1) return MergeKindName(fits[0]);
  if (fits[0].is_all_kept()) return "linear, task_arithmetic or ties";
  return fits[0].mask == MergeMask::kRandom ? "dare_linear or dare_ties" : "ties or a trimmed difference";
}

}  // namespace sluice::verify
