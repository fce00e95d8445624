#include "verify/lineage.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "kernels/gram.h"
#include "verify/merge_kind_fit.h"

namespace sluice::verify {
namespace {

constexpr size_t kLeastTensors = 20;  // that make errors of their own, beside those of neighbouring elements
constexpr double kSurely = 4;         // standard errors
constexpr double kNudge = 1e-4;
constexpr double kCommon = 0.1;  // own share of candidates that all have one difference from BASE
constexpr double kLeastExplained = 0.02;
constexpr uint64_t kLeastSample = 2048;  // numbers
constexpr double kLeastSpread = 0.05;    // of the largest coefficient

std::vector<ClusterSums> Split(std::span<const double> sums, size_t size) {
  std::vector<ClusterSums> clusters;
  for (size_t at = 0; at < sums.size(); at += size) clusters.push_back(sums.subspan(at, size));
  return clusters;
}

Regression FitAll(const LineageSink& sink) {
  std::vector<ClusterSums> clusters, tensors;
  for (const LineageSink::Layer& layer : sink.layers()) {
    for (const ClusterSums& cluster : Split(layer.clusters, sink.num_pairs())) clusters.push_back(cluster);
    for (const ClusterSums& tensor : Split(layer.tensor_sums, sink.num_pairs())) tensors.push_back(tensor);
  }
  Regression fit = Regress(sink.sample().num_candidates + 1, clusters);
  if (tensors.size() >= kLeastTensors) WidenErrors(tensors, &fit);
  return fit;
}

// Of coefficients with errors: by the moments of DerSimonian and Laird, the spread beyond the errors.
std::optional<double> Spread(std::span<const std::pair<double, double>> values) {
  if (values.size() < 2) return std::nullopt;
  double weights = 0, squares = 0, mean = 0;
  for (const auto& [value, error] : values) {
    const double weight = 1 / (error * error);
    weights += weight;
    squares += weight * weight;
    mean += weight * value;
  }
  mean /= weights;
  double q = 0;
  for (const auto& [value, error] : values) q += (value - mean) * (value - mean) / (error * error);
  const auto n = static_cast<double>(values.size());
  const double excess = q - (n - 1);
  // What chance alone makes of q: its mean is n - 1, its variance 2 (n - 1).
  if (excess < kSurely * std::sqrt(2 * (n - 1))) return 0;
  return std::sqrt(excess / (weights - squares / weights));
}

std::vector<std::optional<double>> SpreadBetween(const std::vector<LineageLayer>& layers, size_t num_candidates) {
  std::vector<std::optional<double>> spread;
  for (size_t k = 0; k < num_candidates; ++k) {
    std::vector<std::pair<double, double>> values;
    for (const LineageLayer& layer : layers) {
      const Coefficient& coefficient = layer.fit.coefficients[k];
      // Errors of 0 are those of merges that are reproduced to the last bit; f64 is not more exact than this.
      if (coefficient.fitted() && coefficient.error) {
        values.emplace_back(coefficient.value, std::max(*coefficient.error, 1e-9));
      }
    }
    spread.push_back(Spread(values));
  }
  return spread;
}

// Half of the distance between numbers of an encoding around x; 0 where it is one of blocks.
double HalfStep(quant::Encoding encoding, float x) {
  if (encoding->significand_bits == 0) return 0;
  const int least_exponent = 2 - (1 << (encoding->exponent_bits - 1));  // of normal numbers
  const int exponent = x == 0 ? least_exponent : std::max(std::ilogb(x), least_exponent);
  return std::ldexp(1.0, exponent - encoding->significand_bits);
}

quant::Encoding EncodingOf(const LineagePlan& plan, uint32_t tensor) {
  return plan.models[0]->tensors()[plan.tensors[tensor].model].encoding;
}

// Runs of the sample whose tensors have differences.
std::vector<size_t> UsableRuns(const LineageSink& sink) {
  const LineageSample& sample = sink.sample();
  std::vector<size_t> runs;
  for (size_t r = 0; r < sample.runs.size(); ++r) {
    if (sample.is_usable[r] != 0 && sink.scale(sample.runs[r].tensor) > 0) runs.push_back(r);
  }
  return runs;
}

std::optional<double> RoundingShare(const LineagePlan& plan, const LineageSink& sink) {
  const LineageSample& sample = sink.sample();
  double rounding = 0, squares = 0;
  for (const size_t r : UsableRuns(sink)) {
    const quant::Encoding encoding = EncodingOf(plan, sample.runs[r].tensor);
    if (encoding->significand_bits == 0) return std::nullopt;
    const double scale = sink.scale(sample.runs[r].tensor);
    for (uint64_t e = r * LineageSample::kRunElements; e < (r + 1) * LineageSample::kRunElements; ++e) {
      const double step = 2 * HalfStep(encoding, sample.base[e] + sample.difference[e]) / scale;
      const double difference = static_cast<double>(sample.difference[e]) / scale;
      rounding += step * step / 12;
      squares += difference * difference;
    }
  }
  if (!(squares > 0)) return std::nullopt;
  return rounding / squares;
}

// In units of the tensors' scales.
KindSample SampleOf(const LineagePlan& plan, const LineageSink& sink, const std::vector<size_t>& candidates) {
  constexpr uint64_t kRun = LineageSample::kRunElements;
  const LineageSample& sample = sink.sample();
  const std::vector<size_t> runs = UsableRuns(sink);
  KindSample kind;
  kind.num_candidates = candidates.size();
  kind.size = runs.size() * kRun;
  const auto append = [&](const float* from, std::vector<float>* to) {
    for (const size_t r : runs) {
      const double scale = sink.scale(sample.runs[r].tensor);
      for (uint64_t e = r * kRun; e < (r + 1) * kRun; ++e) to->push_back(static_cast<float>(from[e] / scale));
    }
  };
  kind.deltas.reserve(candidates.size() * kind.size);
  for (const size_t k : candidates) append(sample.deltas.data() + k * sample.size(), &kind.deltas);
  append(sample.difference.data(), &kind.difference);
  for (const size_t r : runs) {
    kind.tensor.push_back(sample.runs[r].tensor);
    const quant::Encoding encoding = EncodingOf(plan, sample.runs[r].tensor);
    const double scale = sink.scale(sample.runs[r].tensor);
    for (uint64_t e = r * kRun; e < (r + 1) * kRun; ++e) {
      const double half_step = HalfStep(encoding, sample.base[e] + sample.difference[e]);
      kind.half_step.push_back(static_cast<float>(half_step / scale));
    }
  }
  return kind;
}

MergeKindAnswer FitKind(const LineagePlan& plan, const LineageSink& sink, const Lineage& lineage, int num_threads) {
  MergeKindAnswer answer;
  const auto no = [&](std::string why) {
    answer.not_fitted = std::move(why);
    return answer;
  };
  const Regression& overall = lineage.overall;
  if (!overall.r_squared()) return no("the model is the base");
  if (overall.residual_squared == 0) return no("the candidates make the model up without a rest: a sum");
  double largest = 0;
  std::vector<double> start;
  for (size_t k = 0; k < lineage.num_candidates(); ++k) {
    const Coefficient& coefficient = overall.coefficients[k];
    if (!coefficient.fitted() || !coefficient.error) continue;
    if (std::abs(coefficient.value) <= kSurely * *coefficient.error) continue;
    answer.candidates.push_back(k);
    start.push_back(coefficient.value);
    largest = std::max(largest, std::abs(coefficient.value));
  }
  if (answer.candidates.empty()) return no("no candidate has a coefficient that differs from 0");
  if (*overall.r_squared() < kLeastExplained) return no("the candidates explain next to nothing");
  if (answer.candidates.size() > kMostKindCandidates) {
    return no(fmt::format("{} candidates take part, more than the {} whose masks can be gone through",
                          answer.candidates.size(), kMostKindCandidates));
  }
  const Coefficient& base = lineage.base_itself();
  if (base.fitted() && base.error && std::abs(base.value) > std::max(kSurely * *base.error, 1e-3)) {
    return no("the base takes part with a coefficient of its own: the weights do not sum to 1, or it is another base");
  }
  for (const size_t k : answer.candidates) {
    if (lineage.spread_between_layers[k].value_or(0) > kLeastSpread * largest) {
      return no("the weights differ between layers; see those");
    }
  }
  const KindSample numbers = SampleOf(plan, sink, answer.candidates);
  if (numbers.size < kLeastSample) return no(fmt::format("a sample of {} numbers is too small", numbers.size));
  answer.elements = numbers.size;
  answer.fits = FitMergeKinds(numbers, start, num_threads);
  return answer;
}

// What rounding changes in the regression of the sample if it is merged as `fit` has it; nullopt: MODEL's encoding
// cannot be written.
std::optional<Regression> RoundingBias(const LineagePlan& plan, const LineageSink& sink, const KindSample& numbers,
                                       const MergeKindFit& fit) {
  const LineageSample& sample = sink.sample();
  const size_t num_candidates = numbers.num_candidates;
  const std::vector<float> merged = SimulateMerge(numbers, fit);

  constexpr uint64_t kRun = LineageSample::kRunElements;
  const size_t num_pairs = kernels::GramPairs(num_candidates + 2);
  std::vector<double> sums(numbers.tensor.size() * num_pairs), lanes(num_pairs * kernels::kGramLanes);
  std::array<float, kRun> base, change;
  std::vector<uint8_t> bytes(kRun * sizeof(double));
  size_t usable = 0;
  for (const size_t r : UsableRuns(sink)) {
    const auto scale = static_cast<float>(sink.scale(sample.runs[r].tensor));
    const quant::Encoding encoding = EncodingOf(plan, sample.runs[r].tensor);
    if (encoding->encode == nullptr || kRun % encoding->block_elements != 0) return std::nullopt;
    std::copy_n(&sample.base[r * kRun], kRun, base.begin());
    std::array<float, kRun> exact, rounded;
    for (uint64_t e = 0; e < kRun; ++e) exact[e] = base[e] + scale * merged[usable * kRun + e];
    encoding->encode(exact.data(), kRun, bytes.data());
    encoding->decode(bytes.data(), kRun, rounded.data());
    for (uint64_t e = 0; e < kRun; ++e) {
      change[e] = (rounded[e] - exact[e]) / scale;
      base[e] /= scale;
    }
    std::vector<const float*> x;
    for (size_t k = 0; k < num_candidates; ++k) x.push_back(&numbers.deltas[k * numbers.size + usable * kRun]);
    x.push_back(base.data());
    x.push_back(change.data());
    std::ranges::fill(lanes, 0);
    kernels::AccumulateGram(x, kRun, lanes.data());
    for (size_t pair = 0; pair < num_pairs; ++pair) {
      const double* lane = &lanes[pair * kernels::kGramLanes];
      sums[usable * num_pairs + pair] = (lane[0] + lane[2]) + (lane[1] + lane[3]);
    }
    ++usable;
  }
  return Regress(num_candidates + 1, Split(sums, num_pairs));
}

// MODEL is rounded to its encoding, and where the candidates differ from BASE by few steps of it that is no noise:
// small differences are lost, and coefficients shrink. The sample is merged once more, as the best fit has it, and what
// rounding changes in its regression is taken out of the coefficients; where no kind was fitted, as a sum, and it only
// widens the errors.
void CorrectForRounding(const LineagePlan& plan, const LineageSink& sink, Lineage* lineage) {
  const size_t num_candidates = lineage->num_candidates();
  std::vector<size_t> all(num_candidates);
  std::iota(all.begin(), all.end(), 0);
  const KindSample numbers = SampleOf(plan, sink, all);
  if (numbers.size < kLeastSample || !lineage->overall.r_squared()) return;
  MergeKindFit fit;
  const bool is_fitted = !lineage->kind.fits.empty();
  if (is_fitted) {
    fit = lineage->kind.fits[0];
    std::vector<double> weights(num_candidates), densities(num_candidates, 1);
    for (size_t i = 0; i < lineage->kind.candidates.size(); ++i) {
      weights[lineage->kind.candidates[i]] = fit.weights[i];
      densities[lineage->kind.candidates[i]] = fit.densities[i];
    }
    fit.weights = weights;
    fit.densities = densities;
  } else {
    for (size_t k = 0; k < num_candidates; ++k) fit.weights.push_back(lineage->overall.coefficients[k].value);
    fit.densities.assign(num_candidates, 1);
  }
  // Sums of weights that fall on half a step (0.14 + 0.14 + 0.22) round otherwise with weights that are a little off.
  std::vector<Regression> biases;
  for (const double factor : {1.0, 1 - kNudge, 1 + kNudge}) {
    MergeKindFit nudged = fit;
    for (double& weight : nudged.weights) weight *= factor;
    nudged.scale *= factor;
    std::optional<Regression> bias = RoundingBias(plan, sink, numbers, nudged);
    if (!bias) return;
    biases.push_back(std::move(*bias));
  }
  for (size_t k = 0; k <= num_candidates; ++k) {
    Coefficient of = biases[0].coefficients[k];
    if (of.fitted() && of.error) {
      double mean = 0, spread = 0;
      for (const Regression& bias : biases) mean += bias.coefficients[k].value / static_cast<double>(biases.size());
      for (const Regression& bias : biases) spread = std::max(spread, std::abs(bias.coefficients[k].value - mean));
      of.value = mean;
      of.error = std::hypot(*of.error, spread);
    }
    Coefficient& coefficient = lineage->overall.coefficients[k];
    if (!coefficient.fitted() || !of.fitted() || !of.error) continue;
    if (!is_fitted) {
      if (coefficient.error) coefficient.error = std::hypot(*coefficient.error, of.value, *of.error);
      continue;
    }
    // Layers and tensors in proportion.
    const double corrected = coefficient.value - of.value;
    const bool takes_part = std::ranges::find(lineage->kind.candidates, k) != lineage->kind.candidates.end();
    const double factor = takes_part ? corrected / coefficient.value : 1;
    const auto scale = [&](Regression* fit) {
      Coefficient& one = fit->coefficients[k];
      one.rounding_bias = one.value - one.value * factor;
      one.value *= factor;
      if (one.error) *one.error *= std::abs(factor);
    };
    for (LineageLayer& layer : lineage->layers) scale(&layer.fit);
    for (LineageTensorFit& tensor : lineage->tensors) scale(&tensor.fit);
    coefficient.value = corrected;
    coefficient.rounding_bias = of.value;
    if (coefficient.error) coefficient.error = std::hypot(*coefficient.error, *of.error);
  }
}

// Of a sum the regression over all numbers says the same as the fit to the sample: whichever is nearer. What was kept
// is then the weight over the amplitude, which the fit knows best.
void TakeNearerWeights(Lineage* lineage) {
  if (lineage->kind.fits.empty() || lineage->kind.fits[0].sum != MergeSum::kSum) return;
  MergeKindFit& fit = lineage->kind.fits[0];
  for (size_t i = 0; i < fit.weight_errors.size(); ++i) {
    const Coefficient& coefficient = lineage->overall.coefficients[lineage->kind.candidates[i]];
    if (!coefficient.error || *coefficient.error >= fit.weight_errors[i]) continue;
    const double amplitude = fit.Amplitude(i);
    fit.weights[i] = coefficient.value;
    fit.weight_errors[i] = *coefficient.error;
    if (fit.mask == MergeMask::kRandom && !fit.is_all_kept()) {
      fit.densities[i] = std::clamp(coefficient.value / amplitude, 0.0, 1.0);
      fit.density_errors[i] = std::abs(*coefficient.error / amplitude);
    }
  }
}

}  // namespace

Lineage MakeLineage(const LineagePlan& plan, const LineageSink& sink, int num_threads) {
  Lineage lineage;
  lineage.model = plan.models[0]->ref();
  lineage.base = plan.models[1]->ref();
  for (size_t k = 2; k < plan.models.size(); ++k) lineage.candidates.push_back(plan.models[k]->ref());
  lineage.overall = FitAll(sink);
  for (const LineageSink::Layer& layer : sink.layers()) {
    lineage.layers.push_back({layer.number, layer.tensors, layer.elements,
                              Regress(plan.num_candidates() + 1, Split(layer.clusters, sink.num_pairs()))});
  }
  for (const LineageSink::TensorFit& fit : sink.tensors()) {
    const LineageTensor& tensor = plan.tensors[fit.tensor];
    lineage.tensors.push_back(
        {std::string(plan.models[0]->tensors()[tensor.model].name), tensor.num_elements, fit.fit});
  }
  lineage.gaps = plan.gaps;
  lineage.gaps.insert(lineage.gaps.end(), sink.gaps().begin(), sink.gaps().end());
  std::ranges::stable_sort(lineage.gaps, {}, &LineageGap::tensor);
  lineage.elements = sink.elements();
  lineage.equal_to_base = sink.equal_to_base();
  lineage.rounding_share = RoundingShare(plan, sink);
  std::vector<double> own_shares;
  for (size_t k = 0; k < plan.num_candidates(); ++k) {
    if (lineage.overall.coefficients[k].fitted()) own_shares.push_back(lineage.overall.coefficients[k].own_share);
  }
  lineage.is_base_doubtful = own_shares.size() >= 2 && std::ranges::max(own_shares) < kCommon;
  lineage.spread_between_layers = SpreadBetween(lineage.layers, plan.num_candidates());
  lineage.kind = FitKind(plan, sink, lineage, num_threads);
  CorrectForRounding(plan, sink, &lineage);
  TakeNearerWeights(&lineage);
  return lineage;
}

}  // namespace sluice::verify
