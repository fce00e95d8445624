#include "merge/testing/plain_formulas.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "arithmetic/mask_key.h"
#include "base/counter_rng.h"

namespace sluice::tests {
namespace {

// nearswap's t: some of the updates are below, some above.
double NearBy(const MethodSettings& s) { return std::fabs(s.weight[0]) * 0.01; }

std::vector<bool> KeepLargest(const Floats& d, uint64_t k) {
  std::vector<size_t> order(d.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return std::fabs(d[a]) > std::fabs(d[b]); });
  std::vector<bool> kept(d.size());
  for (uint64_t i = 0; i < k; ++i) kept[order[i]] = true;
  return kept;
}

std::vector<bool> KeepByChance(size_t n, double density, const MethodSettings& s, uint64_t ordinal) {
  const PhiloxKey key = arithmetic::MaskKey(s.seed, s.tensor, ordinal);
  const auto below = static_cast<uint64_t>(std::floor(density * 4294967296.0 + 0.5));
  std::vector<bool> kept(n);
  for (uint64_t e = 0; e < n; ++e) {
    const uint64_t counter = e / 32 * 8 + e % 8;
    const auto words = Philox4x32({static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0}, key);
    kept[e] = words[e % 32 / 8] < below;
  }
  return kept;
}

// The `drop` largest dropped, the `keep` that follow kept.
std::vector<bool> KeepBand(const Floats& d, uint64_t drop, uint64_t keep) {
  drop = std::min(drop, d.size() - keep);
  std::vector<bool> kept = KeepLargest(d, drop + keep);
  const std::vector<bool> dropped = KeepLargest(d, drop);
  for (size_t i = 0; i < d.size(); ++i) kept[i] = kept[i] && !dropped[i];
  return kept;
}

// docs/formats/mask.md, "The mask of della": words kept below a bound, dropped from another, in between compared.
std::vector<bool> KeepByRank(const Floats& d, size_t columns, double density, double epsilon, const MethodSettings& s,
                             uint64_t ordinal) {
  if (columns < 2) return KeepByChance(d.size(), density, s, ordinal);
  const std::vector<bool> low = KeepByChance(d.size(), density - epsilon, s, ordinal);
  std::vector<bool> kept = KeepByChance(d.size(), density + epsilon, s, ordinal);
  const PhiloxKey key = arithmetic::MaskKey(s.seed, s.tensor, ordinal);
  size_t unit = 1;
  while (unit < 256 && columns % (2 * unit) == 0) unit *= 2;
  for (size_t row = 0; row < d.size() / columns; ++row) {
    const auto words = Philox4x32({static_cast<uint32_t>(row), 0, 1, 0}, key);
    const auto random = static_cast<unsigned __int128>(words[1]) << 32 | words[0];
    const auto distance = 1 + static_cast<size_t>(random * (columns - 1) >> 64);
    for (size_t c = 0; c < columns; ++c) {
      const size_t other = ((c / unit + distance / unit) % (columns / unit)) * unit + (c + distance) % unit;
      const size_t i = row * columns + c, j = row * columns + other;
      const bool larger = std::fabs(d[i]) > std::fabs(d[j]) || (std::fabs(d[i]) == std::fabs(d[j]) && i > j);
      if (kept[i] && !low[i]) kept[i] = larger;
    }
  }
  return kept;
}

std::vector<bool> Keep(const std::string& sparsifier, const Floats& d, const MethodSettings& s, size_t m) {
  const auto share = [&](double of) { return static_cast<uint64_t>(of * static_cast<double>(d.size())); };
  if (sparsifier == "magnitude") return KeepLargest(d, share(s.density[m]));
  if (sparsifier == "outliers") return KeepBand(d, share(s.Other("gamma", 0.01)), share(s.density[m]));
  if (sparsifier == "random") return KeepByChance(d.size(), s.density[m], s, m);
  return KeepByRank(d, s.columns > 0 ? s.columns : d.size(), s.density[m], s.Other("epsilon", 0.15), s, m);
}

// Blocks of 65,536 elements, each in 16 lanes that are added up in pairs, blocks in order.
double SumOfMagnitudes(const Floats& d, const std::vector<bool>& kept) {
  double total = 0;
  for (size_t block = 0; block < d.size(); block += graph::kBlockElements) {
    double lanes[16] = {};
    for (size_t i = block; i < std::min<size_t>(d.size(), block + graph::kBlockElements); ++i) {
      if (kept[i]) lanes[i % 16] += static_cast<double>(std::fabs(d[i]));
    }
    for (int distance = 8; distance > 0; distance /= 2) {
      for (int i = 0; i < distance; ++i) lanes[i] += lanes[i + distance];
    }
    total += lanes[0];
  }
  return total;
}

Floats Linear(const std::vector<Floats>& x, const MethodSettings& s) {
  Floats out(x[0].size());
  for (size_t i = 0; i < out.size(); ++i) {
    float sum = 0, weights = 0;
    for (size_t m = 0; m < x.size(); ++m) {
      const float w = static_cast<float>(s.weight[m]);
      const float product = w * x[m][i];
      sum = m == 0 ? product : sum + product;
      weights += w;
    }
    out[i] = s.normalize && weights != 1 ? sum / weights : sum;
  }
  return out;
}

Floats TaskVectors(const Floats& base, const std::vector<Floats>& x, const MethodSettings& s,
                   const std::string& sparsifier, bool consensus) {
  const size_t n = base.size();
  std::vector<Floats> p;
  for (size_t m = 0; m < x.size(); ++m) {
    Floats d(n);
    for (size_t i = 0; i < n; ++i) d[i] = x[m][i] - base[i];
    const double density = s.density[m];
    if (sparsifier != "none" && density < 1) {
      const std::vector<bool> kept = Keep(sparsifier, d, s, m);
      float scale = s.rescale == merge::kDensityWord ? static_cast<float>(1 / density) : 1;
      if (s.rescale == 1) {
        const double all = SumOfMagnitudes(d, std::vector<bool>(n, true)), some = SumOfMagnitudes(d, kept);
        if (all >= 1e-7 && some >= 1e-7) scale = static_cast<float>(all / some);
      }
      for (size_t i = 0; i < n; ++i) d[i] = kept[i] ? d[i] * scale : 0.0f;
    }
    for (float& value : d) value *= static_cast<float>(s.weight[m]);
    p.push_back(std::move(d));
  }
  Floats out(n);
  for (size_t i = 0; i < n; ++i) {
    float sum = p[0][i];
    for (size_t m = 1; m < p.size(); ++m) sum += p[m][i];
    float mixed = 0, divisor = 0;
    for (size_t m = 0; m < p.size(); ++m) {
      if (consensus && !(sum >= 0 ? p[m][i] > 0 : p[m][i] < 0)) continue;
      mixed += p[m][i];
      divisor += static_cast<float>(s.weight[m]);
    }
    if (!consensus) mixed = sum;  // a sum begins with its first term: -0 stays what it is
    if (consensus ? divisor == 0 : std::fabs(divisor) < 1e-8f) divisor = 1;
    if (s.normalize) mixed /= divisor;
    out[i] = base[i] + static_cast<float>(s.lambda) * mixed;
  }
  return out;
}

// With a sum of squares in the method's order: 8 lanes in blocks of 65,536.
Floats Sce(const Floats& base, const std::vector<Floats>& x, double topk) {
  const size_t n = base.size(), models = x.size();
  std::vector<std::vector<double>> d(models, std::vector<double>(n));
  Floats variance(n);
  for (size_t i = 0; i < n; ++i) {
    double mean = 0, sum = 0;
    for (size_t m = 0; m < models; ++m) d[m][i] = static_cast<double>(x[m][i]) - static_cast<double>(base[i]);
    for (size_t m = 0; m < models; ++m) mean += d[m][i];
    mean /= static_cast<double>(models);
    for (size_t m = 0; m < models; ++m) sum += (d[m][i] - mean) * (d[m][i] - mean);
    variance[i] = static_cast<float>(sum / static_cast<double>(models));
  }
  const auto nonzero = static_cast<double>(n - static_cast<size_t>(std::count(variance.begin(), variance.end(), 0.0f)));
  const std::vector<bool> kept =
      topk < 1 ? KeepLargest(variance, static_cast<uint64_t>(topk * nonzero)) : std::vector<bool>(n, true);
  std::vector<double> weights(models);
  double all = 0;
  for (size_t m = 0; m < models; ++m) {
    for (size_t block = 0; block < n; block += graph::kBlockElements) {
      double lanes[8] = {}, sum = 0;
      for (size_t i = block; i < std::min<size_t>(n, block + graph::kBlockElements); ++i) {
        if (kept[i]) lanes[i % 8] += d[m][i] * d[m][i];
      }
      for (const double lane : lanes) sum += lane;
      weights[m] += sum;
    }
    weights[m] /= static_cast<double>(n);
    all += weights[m];
  }
  for (double& weight : weights) weight = std::fabs(all) < 1e-6 ? 1 / static_cast<double>(models) : weight / all;
  Floats out = base;
  for (size_t i = 0; i < n; ++i) {
    if (!kept[i]) continue;
    double vote = 0, mixed = 0, divisor = 0;
    for (size_t m = 0; m < models; ++m) vote += d[m][i];
    for (size_t m = 0; m < models; ++m) {
      if (!(vote >= 0 ? d[m][i] > 0 : d[m][i] < 0)) continue;
      mixed += weights[m] * d[m][i];
      divisor += weights[m];
    }
    out[i] = static_cast<float>(static_cast<double>(base[i]) + mixed / std::max(divisor, 1e-6));
  }
  return out;
}

// The divergences are sums in the method's own order; rounded to f32 they are the same but for some one in 10^7, and
// then only elements at the threshold would tell.
Floats ArceeFusion(const Floats& base, const Floats& x, size_t columns) {
  Floats scores;
  for (size_t first = 0; first < x.size(); first += columns) {
    long double x_sum = 0, base_sum = 0, differences = 0;
    for (size_t i = first; i < first + columns; ++i) {
      x_sum += std::exp(static_cast<long double>(x[i]));
      base_sum += std::exp(static_cast<long double>(base[i]));
      differences += std::exp(static_cast<long double>(x[i])) * (static_cast<long double>(x[i]) - base[i]);
    }
    const long double divergence = differences / x_sum - (std::log(x_sum) - std::log(base_sum));
    for (size_t i = first; i < first + columns; ++i) {
      scores.push_back(std::fabs(x[i] - base[i]) * static_cast<float>(std::max(divergence, 0.0L)));
    }
  }
  Floats sorted = scores, out;
  std::ranges::sort(sorted);
  const auto quantile = [&](size_t quarter) { return sorted[(sorted.size() - 1) * quarter / 4]; };
  for (size_t i = 0; i < x.size(); ++i) {
    const float threshold = quantile(2) + 1.5f * (quantile(3) - quantile(1));
    out.push_back(scores[i] >= threshold ? x[i] : base[i]);
  }
  return out;
}

Floats Scaled(const Floats& x, float scale) {
  Floats out;
  for (const float value : x) out.push_back(scale * value);
  return out;
}

Floats Nearswap(const Floats& base, const Floats& x, float t) {
  Floats out;
  for (size_t i = 0; i < x.size(); ++i) {
    const float weight = std::min(1.0f, 1 / std::max(std::fabs(base[i] - x[i]), 1e-6f) * t);
    out.push_back(weight * x[i] + (1 - weight) * base[i]);
  }
  return out;
}

}  // namespace

double MethodSettings::Other(const std::string& name, double otherwise) const {
  const auto found = other.find(name);
  return found == other.end() ? otherwise : found->second;
}

double MethodSettings::Value(const merge::ParameterInfo& info, size_t m) const {
  double value = info.default_value.value_or(0);
  if (info.name == "weight") value = weight[m];
  if (info.name == "density") value = density[m];
  if (info.name == "normalize") value = normalize;
  if (info.name == "rescale") value = rescale;
  if (info.name == "lambda") value = lambda;
  if (info.name == "scale") value = weight[m];
  if (info.name == "t") value = NearBy(*this);
  return Other(std::string(info.name), value);
}

bool IsExact(const merge::Method& method) {
  for (const char* name : {"slerp", "nuslerp", "multislerp", "model_stock", "karcher"}) {
    if (method.name == name) return false;
  }
  return true;
}

Floats PlainFormula(const merge::Method& method, const Floats& base, const std::vector<Floats>& x,
                    const MethodSettings& s) {
  if (method.name == "linear") return Linear(x, s);
  if (method.name == "task_arithmetic") return TaskVectors(base, x, s, "none", false);
  if (method.name == "ties") return TaskVectors(base, x, s, "magnitude", true);
  if (method.name == "dare_linear") return TaskVectors(base, x, s, "random", false);
  if (method.name == "dare_ties") return TaskVectors(base, x, s, "random", true);
  if (method.name == "breadcrumbs") return TaskVectors(base, x, s, "outliers", false);
  if (method.name == "breadcrumbs_ties") return TaskVectors(base, x, s, "outliers", true);
  if (method.name == "della_linear") return TaskVectors(base, x, s, "rank", false);
  if (method.name == "della") return TaskVectors(base, x, s, "rank", true);
  if (method.name == "sce") return Sce(base, x, s.Other("select_topk", 1));
  if (method.name == "arcee_fusion") return ArceeFusion(base, x[0], s.columns > 0 ? s.columns : base.size());
  if (method.name == "passthrough") return Scaled(x[0], static_cast<float>(s.weight[0]));
  if (method.name == "nearswap") return Nearswap(base, x[0], static_cast<float>(NearBy(s)));
  if (!IsExact(method)) return SphericalFormula(std::string(method.name), base, x, s);
  ADD_FAILURE() << "write down the plain formula of " << method.name;
  return {};
}

}  // namespace sluice::tests
