// Perplexity as arithmetic: which tokens of a text a convention scores and with what before them, and what follows from
// the scores of one model or of several on the same tokens. No I/O, no model. Logarithms are natural, nll in nats, sums
// f64 in the order of the tokens. Pure; thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::infer {

// llama512: llama.cpp's. Disjoint windows; the second half of each is scored, but for its first token; the tail that
//   fills no window is dropped; BOS replaces a window's first token where the tokenizer adds one.
// hf-stride: transformers' documentation. Windows overlap, each starting a stride after the one before, and score what
//   is new in them: every token of the text once, but for the first. Weighted by token.
// exl2: exllamav2's. Disjoint rows, all but their first token scored; the tail is dropped.
enum class PerplexityConvention { kLlama512, kHfStride, kExl2 };

const char* ConventionName(PerplexityConvention convention);  // as --convention has it
std::optional<PerplexityConvention> ConventionByName(std::string_view name);

struct WindowOptions {
  PerplexityConvention convention = PerplexityConvention::kLlama512;
  uint64_t context = 0;      // tokens of a window; 0: 512, 1024 (hf-stride), 2048 (exl2)
  uint64_t stride = 0;       // hf-stride; 0: 512, or context where that is less
  uint64_t max_windows = 0;  // 0: all
  bool adds_bos = false;     // the tokenizer adds one; see Window::bos_replaced
};
WindowOptions WithDefaults(WindowOptions options);  // context and stride filled in

// The model is given tokens [begin, end) of the text; tokens [first_scored, end) are scored, each from the logits of
// the token before it.
struct Window {
  uint64_t begin = 0, end = 0, first_scored = 0;
  bool bos_replaced = false;  // BOS is given in place of token `begin`

  uint64_t num_scored() const { return end - first_scored; }
  friend bool operator==(const Window&, const Window&) = default;
};

// Never empty, and each window scores a token or more. kUsage: a text of no tokens, one shorter than a window (than two
// tokens in hf-stride), a context that scores nothing, a stride beyond the context; says what would do.
Result<std::vector<Window>> PlanWindows(uint64_t num_tokens, const WindowOptions& options);

uint64_t NumScored(std::span<const Window> windows);
// How many tokens stand before each scored token in its window; in the order of windows, then tokens. The order of all
// scores below.
std::vector<uint32_t> PositionsOf(std::span<const Window> windows);

// What one model gives to the scored tokens.
struct ModelScores {
  std::string ref;
  std::vector<double> nll;    // -ln p of the text's token; finite
  std::vector<uint32_t> top;  // the token of the largest logit, the first of equals
};

// Of model a (the base) against model b: for each scored token sum p_a (ln p_a - ln p_b) over the vocabulary.
struct PairScores {
  size_t a = 0, b = 0;  // of the models
  std::vector<double> kl;
};

// A mean and its standard error over tokens, sqrt(var / (n - 1)) with var the mean square less the square of the mean;
// NaN for one token. It takes tokens as independent, which those of one text are not quite.
struct Estimate {
  double mean = 0, error = 0;
};
Estimate MeanOf(std::span<const double> values);  // one value or more

// Interpolated between the neighbours in order, as llama.cpp and numpy do.
inline constexpr std::array<double, 8> kPercentiles = {99.9, 99, 95, 90, 50, 10, 5, 1};
struct Spread {
  double max = 0, min = 0;
  std::array<double, 8> percentiles = {};  // of kPercentiles
};
Spread SpreadOf(std::vector<double> values);  // one value or more

struct ModelPerplexity {
  std::string ref;
  Estimate nll;
  double ppl = 0, ppl_error = 0;  // exp(mean nll); ppl times the error of the mean, as llama.cpp has it
};

struct PairedPerplexity {
  size_t a = 0, b = 0;
  Estimate delta_ln_ppl;  // of b less a, token by token: above 0, b is worse
  Estimate kl;
  Spread kl_spread;
  Estimate delta_p;  // of the text's token: p_b - p_a
  double delta_p_rms = 0;
  Spread delta_p_spread;
  Estimate same_top;  // share of tokens with one top token; binomial error sqrt(p (1 - p) / (n - 1))
};

// Scored tokens with begin <= position < end.
struct PositionBucket {
  uint64_t begin = 0, end = 0, num_tokens = 0;
  std::vector<Estimate> nll;  // of each model
  struct Pair {
    Estimate delta_ln_ppl;
    double mean_kl = 0, same_top = 0;
  };
  std::vector<Pair> pairs;  // of each pair
};

struct PerplexityStats {
  uint64_t num_scored = 0;
  std::vector<ModelPerplexity> models;
  std::vector<PairedPerplexity> pairs;
  std::vector<PositionBucket> by_position;  // without empty ones; up to 16 of equal width
};

// One model or more; each list has NumScored(windows) entries.
PerplexityStats StatsOf(std::span<const Window> windows, std::span<const ModelScores> models,
                        std::span<const PairScores> pairs);

}  // namespace sluice::infer
