#include "infer/perplexity_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"

namespace sluice::infer {
namespace {

constexpr uint64_t kMaxBuckets = 16;

// In one pass over the text: windows that neither overlap nor leave anything out but the tail.
std::vector<Window> Disjoint(uint64_t num_tokens, uint64_t context, uint64_t first_scored, bool bos_replaced,
                             uint64_t max_windows) {
  std::vector<Window> windows;
  for (uint64_t begin = 0; num_tokens - begin >= context && windows.size() < max_windows; begin += context) {
    windows.push_back({begin, begin + context, begin + first_scored, bos_replaced});
  }
  return windows;
}

std::vector<Window> Strided(uint64_t num_tokens, uint64_t context, uint64_t stride, uint64_t max_windows) {
  std::vector<Window> windows;
  uint64_t scored_before = 0;  // tokens
  for (uint64_t begin = 0; windows.size() < max_windows; begin += stride) {
    const uint64_t end = num_tokens - begin < context ? num_tokens : begin + context;
    // Without anything before it a token cannot be scored.
    const uint64_t first_scored = std::max(scored_before, begin + 1);
    if (first_scored < end) windows.push_back({begin, end, first_scored, false});
    scored_before = end;
    if (end == num_tokens) break;
  }
  return windows;
}

double RootOfMean(double sum, uint64_t n) { return std::sqrt(sum / static_cast<double>(n)); }

Estimate SameTop(std::span<const uint32_t> a, std::span<const uint32_t> b) {
  uint64_t same = 0;
  for (size_t i = 0; i < a.size(); ++i) same += a[i] == b[i] ? 1 : 0;
  const auto n = static_cast<double>(a.size());
  const double rate = static_cast<double>(same) / n;
  return {rate, a.size() < 2 ? std::numeric_limits<double>::quiet_NaN() : std::sqrt(rate * (1 - rate) / (n - 1))};
}

PairedPerplexity Paired(const PairScores& pair, const ModelScores& a, const ModelScores& b) {
  const size_t n = a.nll.size();
  PairedPerplexity result;
  result.a = pair.a;
  result.b = pair.b;
  std::vector<double> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = b.nll[i] - a.nll[i];
  result.delta_ln_ppl = MeanOf(values);
  double squares = 0;
  for (size_t i = 0; i < n; ++i) {
    values[i] = std::exp(-b.nll[i]) - std::exp(-a.nll[i]);
    squares += values[i] * values[i];
  }
  result.delta_p = MeanOf(values);
  result.delta_p_rms = RootOfMean(squares, n);
  result.delta_p_spread = SpreadOf(std::move(values));
  result.kl = MeanOf(pair.kl);
  result.kl_spread = SpreadOf(pair.kl);
  result.same_top = SameTop(a.top, b.top);
  return result;
}

// Scores of the tokens of one bucket.
template <class T>
std::vector<T> Pick(const std::vector<T>& values, const std::vector<size_t>& places) {
  std::vector<T> picked;
  picked.reserve(places.size());
  for (const size_t place : places) picked.push_back(values[place]);
  return picked;
}

std::vector<PositionBucket> ByPosition(std::span<const uint32_t> positions, std::span<const ModelScores> models,
                                       std::span<const PairScores> pairs) {
  const uint64_t num_positions = uint64_t{*std::max_element(positions.begin(), positions.end())} + 1;
  uint64_t width = 1;
  while (width * kMaxBuckets < num_positions) width *= 2;
  std::vector<std::vector<size_t>> places((num_positions + width - 1) / width);
  for (size_t i = 0; i < positions.size(); ++i) places[positions[i] / width].push_back(i);

  std::vector<PositionBucket> buckets;
  for (size_t i = 0; i < places.size(); ++i) {
    if (places[i].empty()) continue;
    PositionBucket bucket{
        .begin = i * width, .end = (i + 1) * width, .num_tokens = places[i].size(), .nll = {}, .pairs = {}};
    std::vector<ModelScores> picked;
    for (const ModelScores& model : models) {
      picked.push_back({"", Pick(model.nll, places[i]), Pick(model.top, places[i])});
      bucket.nll.push_back(MeanOf(picked.back().nll));
    }
    for (const PairScores& pair : pairs) {
      const PairedPerplexity here = Paired({pair.a, pair.b, Pick(pair.kl, places[i])}, picked[pair.a], picked[pair.b]);
      bucket.pairs.push_back({here.delta_ln_ppl, here.kl.mean, here.same_top.mean});
    }
    buckets.push_back(std::move(bucket));
  }
  return buckets;
}

}  // namespace

const char* ConventionName(PerplexityConvention convention) {
  switch (convention) {
    case PerplexityConvention::kLlama512:
      return "llama512";
    case PerplexityConvention::kHfStride:
      return "hf-stride";
    case PerplexityConvention::kExl2:
      return "exl2";
  }
  SLUICE_CHECK(false);
}

std::optional<PerplexityConvention> ConventionByName(std::string_view name) {
  for (const auto convention :
       {PerplexityConvention::kLlama512, PerplexityConvention::kHfStride, PerplexityConvention::kExl2}) {
    if (name == ConventionName(convention)) return convention;
  }
  return std::nullopt;
}

WindowOptions WithDefaults(WindowOptions options) {
  if (options.context == 0) {
    options.context = options.convention == PerplexityConvention::kLlama512   ? 512
                      : options.convention == PerplexityConvention::kHfStride ? 1024
                                                                              : 2048;
  }
  if (options.stride == 0) options.stride = std::min<uint64_t>(512, options.context);
  return options;
}

Result<std::vector<Window>> PlanWindows(uint64_t num_tokens, const WindowOptions& given) {
  const WindowOptions options = WithDefaults(given);
  const char* name = ConventionName(options.convention);
  const uint64_t context = options.context;
  const uint64_t max_windows = options.max_windows == 0 ? std::numeric_limits<uint64_t>::max() : options.max_windows;
  if (num_tokens == 0) return Fail(ErrorCode::kUsage, "the text has no tokens: there is nothing to score");
  const bool strided = options.convention == PerplexityConvention::kHfStride;
  // llama512 scores tokens context/2 + 1 to context - 1 of a window.
  const uint64_t smallest = options.convention == PerplexityConvention::kLlama512 ? 3 : 2;
  if (context < smallest) {
    return Fail(ErrorCode::kUsage, fmt::format("--context {} scores nothing: {} needs {} tokens or more in a window",
                                               context, name, smallest));
  }
  if (strided && options.stride > context) {
    return Fail(ErrorCode::kUsage, fmt::format("a stride of {} leaves out tokens between windows of --context {}",
                                               options.stride, context));
  }
  const uint64_t wanted = strided ? 2 : context;
  if (num_tokens < wanted) {
    return Fail(ErrorCode::kUsage,
                fmt::format("the text has {} token{}, {} needs {}{}: give a longer text{}", FormatCount(num_tokens),
                            num_tokens == 1 ? "" : "s", name, FormatCount(wanted), strided ? "" : " for one window",
                            strided || num_tokens < smallest ? "" : fmt::format(" or --context {}", num_tokens)));
  }
  switch (options.convention) {
    case PerplexityConvention::kLlama512:
      return Disjoint(num_tokens, context, context / 2 + 1, options.adds_bos, max_windows);
    case PerplexityConvention::kHfStride:
      return Strided(num_tokens, context, options.stride, max_windows);
    case PerplexityConvention::kExl2:
      return Disjoint(num_tokens, context, 1, false, max_windows);
  }
  SLUICE_CHECK(false);
}

uint64_t NumScored(std::span<const Window> windows) {
  uint64_t scored = 0;
  for (const Window& window : windows) scored += window.num_scored();
  return scored;
}

std::vector<uint32_t> PositionsOf(std::span<const Window> windows) {
  std::vector<uint32_t> positions;
  positions.reserve(NumScored(windows));
  for (const Window& window : windows) {
    for (uint64_t token = window.first_scored; token < window.end; ++token) {
      positions.push_back(static_cast<uint32_t>(token - window.begin));
    }
  }
  return positions;
}

Estimate MeanOf(std::span<const double> values) {
  SLUICE_CHECK(!values.empty());
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  if (values.size() < 2) return {mean, std::numeric_limits<double>::quiet_NaN()};
  double squares = 0;  // of the distances from the mean: nothing is cancelled
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / n / (n - 1))};
}

Spread SpreadOf(std::vector<double> values) {
  SLUICE_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  Spread spread{.max = values.back(), .min = values.front()};
  for (size_t i = 0; i < kPercentiles.size(); ++i) {
    const double place = kPercentiles[i] / 100 * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(place);
    const double share = place - static_cast<double>(below);
    const double upper = values[std::min(below + 1, values.size() - 1)];
    spread.percentiles[i] = values[below] + (upper - values[below]) * share;
  }
  return spread;
}

PerplexityStats StatsOf(std::span<const Window> windows, std::span<const ModelScores> models,
                        std::span<const PairScores> pairs) {
  PerplexityStats stats;
  stats.num_scored = NumScored(windows);
  SLUICE_CHECK(stats.num_scored > 0 && !models.empty());
  for (const ModelScores& model : models) {
    SLUICE_CHECK(model.nll.size() == stats.num_scored && model.top.size() == stats.num_scored);
    const Estimate nll = MeanOf(model.nll);
    stats.models.push_back({model.ref, nll, std::exp(nll.mean), std::exp(nll.mean) * nll.error});
  }
  for (const PairScores& pair : pairs) {
    SLUICE_CHECK(pair.a < models.size() && pair.b < models.size() && pair.kl.size() == stats.num_scored);
    stats.pairs.push_back(Paired(pair, models[pair.a], models[pair.b]));
  }
  stats.by_position = ByPosition(PositionsOf(windows), models, pairs);
  return stats;
}

}  // namespace sluice::infer
