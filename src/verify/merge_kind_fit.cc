#include "verify/merge_kind_fit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "verify/mask_likelihood.h"

namespace sluice::verify {
namespace {

constexpr uint64_t kRun = KindSample::kRunElements;
constexpr double kLeastError = 1e-4;  // of a weight, relative
constexpr size_t kSemifinalists = 4, kFinalists = 2;
constexpr double kNear = 0.05;  // nats an element, that more steps may yet make good

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

class Fitter {
 public:
  Fitter(const KindSample& sample, std::span<const double> start, int num_threads)
      : sample_(sample),
        start_(start.begin(), start.end()),
        k_(sample.num_candidates),
        likelihood_(sample, num_threads) {
    SLUICE_CHECK(start.size() == k_);
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
      MaskParameters parameters;
      double log_likelihood;
    };
    std::vector<Try> tries;
    for (const MergeSum sum : {MergeSum::kSum, MergeSum::kConsensus, MergeSum::kNormalised}) {
      if (k_ == 1 && sum != MergeSum::kSum) break;  // one always agrees with itself
      for (const MergeMask mask : {MergeMask::kRandom, MergeMask::kMagnitude}) {
        MaskParameters parameters = Start(sum, mask);
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
  MaskParameters Start(MergeSum sum, MergeMask mask) const {
    const size_t n = k_ + 1;
    std::vector<double> products(n * n), scores(n), x(n);
    double residual = 0;
    for (uint64_t e = 0; e < sample_.size; ++e) {
      double error = sample_.difference[e];
      for (size_t k = 0; k < k_; ++k) {
        const double d = Deltas(k)[e];
        error -= start_[k] * d;
        x[k] = start_[k] * start_[k] * d * d / likelihood_.delta_squared();
      }
      x[k_] = 1;
      const double y = error * error / likelihood_.delta_squared();
      residual += error * error;
      for (size_t i = 0; i < n; ++i) {
        scores[i] += x[i] * y;
        for (size_t j = 0; j < n; ++j) products[i * n + j] += x[i] * x[j];
      }
    }
    const std::vector<double> odds = SolveRidge(products, scores, 1e-6);
    MaskParameters parameters;
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
        0.55 * std::sqrt(residual / static_cast<double>(sample_.size)) + 0.02 * std::sqrt(likelihood_.delta_squared());
    return parameters;
  }

  // Density and slope of a mask of magnitudes: what is dropped has no part in MODEL, so its slope is 0.
  std::pair<double, double> StepOf(size_t k) const {
    std::array<double, kMagnitudeBins> products{}, squares{};
    for (uint64_t e = 0; e < sample_.size; ++e) {
      const double d = Deltas(k)[e];
      const size_t bin = likelihood_.bin(k, e);
      products[bin] += d * static_cast<double>(sample_.difference[e]);
      squares[bin] += d * d;
    }
    double best = -1, best_density = 1, best_slope = start_[k];
    double product = 0, square = 0;
    for (size_t kept = 1; kept <= kMagnitudeBins; ++kept) {
      product += products[kMagnitudeBins - kept];
      square += squares[kMagnitudeBins - kept];
      // The squares that a slope of the upper bins explains.
      const double gain = square > 0 ? product * product / square : 0;
      if (gain <= best) continue;
      best = gain;
      best_density = static_cast<double>(kept) / kMagnitudeBins;
      best_slope = product / square;
    }
    return {best_density, best_slope};
  }

  // Steps of EM, three at a time and extrapolated by the first two (SQUAREM, scheme S3). Returns the log-likelihood an
  // element.
  double Iterate(const std::vector<uint32_t>& runs, int most, MaskParameters* parameters) {
    const auto elements = static_cast<double>(runs.size() * kRun);
    const auto step = [&](const MaskParameters& from, MaskParameters* to) {
      const MaskSums sums = likelihood_.Expect(runs, from);
      *to = from;
      Maximise(sums, to);
      return sums.log_likelihood / elements;
    };
    double value = -INFINITY;
    for (int i = 0; i < most; ++i) {
      MaskParameters first, second;
      const double at_start = step(*parameters, &first);
      step(first, &second);
      const MaskParameters far = Extrapolate(*parameters, first, second);
      MaskParameters next;
      // Where it leads astray, the plain second step: what it reaches is at least as likely as the first.
      if (!(step(far, &next) >= at_start)) next = second;
      *parameters = std::move(next);
      const bool is_there = std::abs(at_start - value) < 1e-7;
      value = at_start;
      if (is_there) break;
    }
    return likelihood_.Expect(runs, *parameters).log_likelihood / elements;
  }

  // Where two steps that shrink by a factor would end: amplitudes, log odds of densities, and the logarithm of the
  // noise.
  MaskParameters Extrapolate(const MaskParameters& start, const MaskParameters& first,
                             const MaskParameters& second) const {
    const auto pack = [&](const MaskParameters& from) {
      std::vector<double> x;
      for (size_t k = 0; k < k_; ++k) {
        x.push_back(from.u[k] * 4);  // about as far as log odds
        x.push_back(std::log(from.density[k] / std::max(1 - from.density[k], kLeastMaskShare)));
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
    MaskParameters far = second;
    for (size_t k = 0; k < k_; ++k) {
      far.u[k] = x[2 * k] / 4;
      if (far.sum == MergeSum::kNormalised) far.u[k] = std::max(far.u[k], 1e-4);
      if (far.mask == MergeMask::kRandom) {
        far.density[k] = std::clamp(1 / (1 + std::exp(-x[2 * k + 1])), kLeastMaskShare, 1 - kLeastMaskShare);
      }
      far.SpreadDensity(k);
    }
    far.noise = std::max(std::exp(x[2 * k_] / 2), likelihood_.LeastNoise());
    far.scale = std::max(x[2 * k_ + 1], 1e-3);
    return far;
  }

  void Maximise(const MaskSums& sums, MaskParameters* parameters) const {
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
    parameters->noise =
        std::max(parameters->noise * std::exp(std::clamp(step[k_ + 1], -0.7, 0.7)), likelihood_.LeastNoise());
    for (size_t k = 0; k < k_; ++k) {
      const std::array<double, kMagnitudeBins>& counts = sums.seen[k];
      if (parameters->mask == MergeMask::kRandom) {
        double kept = 0, all = 0;
        for (size_t bin = 0; bin < kMagnitudeBins; ++bin) kept += sums.kept[k][bin], all += counts[bin];
        parameters->density[k] = std::clamp(kept / all, kLeastMaskShare, 1 - kLeastMaskShare);
        parameters->SpreadDensity(k);
      } else {
        parameters->density[k] = BestStep(sums.kept[k], counts, k, *parameters);
        parameters->SpreadDensity(k);
      }
    }
  }

  // The density under which the shares that were kept, bin by bin, are likeliest.
  static double BestStep(const std::array<double, kMagnitudeBins>& kept,
                         const std::array<double, kMagnitudeBins>& counts, size_t k, MaskParameters parameters) {
    double best = -INFINITY, best_density = 1;
    for (int percent = 1; percent <= 200; ++percent) {
      parameters.density[k] = percent / 200.0;
      parameters.SpreadDensity(k);
      double value = 0;
      for (size_t bin = 0; bin < kMagnitudeBins; ++bin) {
        const double p = parameters.kept[k][bin];
        value += kept[bin] * std::log(p) + (counts[bin] - kept[bin]) * std::log1p(-p);
      }
      if (value > best) best = value, best_density = parameters.density[k];
    }
    return best_density;
  }

  MergeKindFit ToFit(const MaskParameters& parameters, double log_likelihood) const {
    MergeKindFit fit;
    fit.sum = parameters.sum;
    fit.mask = parameters.mask;
    fit.log_likelihood = log_likelihood;
    for (size_t k = 0; k < k_; ++k) {
      const bool is_rescaled = parameters.mask == MergeMask::kRandom && parameters.sum != MergeSum::kNormalised;
      // 1 less what no density of the fit may come nearer to 1 than.
      const bool is_kept = parameters.density[k] >= 1 - 2 * kLeastMaskShare;
      fit.densities.push_back(is_kept ? 1 : parameters.density[k]);
      fit.weights.push_back(is_rescaled ? parameters.u[k] * fit.densities[k] : parameters.u[k]);
    }
    fit.scale = parameters.scale;
    fit.noise = parameters.noise / std::sqrt(likelihood_.delta_squared());
    return fit;
  }

  // The spread of fits to disjoint parts of the sample, over the root of their number.
  void AddErrors(const std::vector<uint32_t>& runs, const MaskParameters& best, MergeKindFit* fit) {
    constexpr size_t kParts = 8;
    std::vector<MergeKindFit> parts;
    for (size_t part = 0; part < kParts; ++part) {
      const std::vector<uint32_t> some = EveryNth(runs, kParts, part);
      if (some.empty()) return;
      MaskParameters parameters = best;
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
      if (fit->mask == MergeMask::kMagnitude) density_error = std::hypot(density_error, 1.0 / kMagnitudeBins);
      fit->density_errors.push_back(density_error);
    }
  }

  const KindSample& sample_;
  const std::vector<double> start_;
  const size_t k_;
  MaskLikelihood likelihood_;
};

}  // namespace

std::vector<MergeKindFit> FitMergeKinds(const KindSample& sample, std::span<const double> start, int num_threads) {
  return Fitter(sample, start, num_threads).Run();
}

}  // namespace sluice::verify
