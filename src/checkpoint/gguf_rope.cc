// What a GGUF file says of rotary embedding, in its keys and in tensors of factors.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <fmt/format.h>

#include "checkpoint/gguf_keys.h"

namespace sluice::checkpoint {
namespace {

using nlohmann::ordered_json;

constexpr double kDefaultRopeTheta = 10000;  // what llama.cpp takes where the key is missing

// What tunes YaRN besides its factor.
Result<void> AddYarn(const GgufKeys& keys, ordered_json* scaling) {
  for (const char* name : {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"}) {
    SLUICE_ASSIGN(const std::optional<double> value, keys.Number(name));
    if (value.value_or(1) != 1) {
      return keys.Wrong(name, fmt::format("is {}; other than 1 is not supported yet", *value), ErrorCode::kUnsupported);
    }
  }
  SLUICE_ASSIGN(const std::optional<double> fast, keys.Number("rope.scaling.yarn_beta_fast"));
  if (fast) (*scaling)["beta_fast"] = *fast;
  SLUICE_ASSIGN(const std::optional<double> slow, keys.Number("rope.scaling.yarn_beta_slow"));
  if (slow) (*scaling)["beta_slow"] = *slow;
  return {};
}

Result<void> AddScalingByKeys(const GgufKeys& keys, ordered_json* config) {
  SLUICE_ASSIGN(const std::optional<std::string> said, keys.String("rope.scaling.type"));
  const std::string type = said.value_or("linear");  // llama.cpp's default; it scales nothing without a factor
  SLUICE_ASSIGN(std::optional<double> factor, keys.Number("rope.scaling.factor"));
  if (!factor) {
    SLUICE_ASSIGN(factor, keys.Number("rope.scale_linear"));  // its older name
  }
  if (type != "none" && type != "linear" && type != "yarn") {
    return keys.Wrong("rope.scaling.type",
                      "is a way of scaling other than none, linear and yarn, which is not supported yet",
                      ErrorCode::kUnsupported);
  }
  if (type == "none" || factor.value_or(0) == 0 || *factor == 1) return {};
  ordered_json scaling = ordered_json::object();
  if (type == "yarn") SLUICE_TRY(AddYarn(keys, &scaling));
  scaling["factor"] = *factor;
  if (type == "yarn") {
    SLUICE_ASSIGN(scaling["original_max_position_embeddings"], keys.Size("rope.scaling.original_context_length"));
  }
  scaling["rope_type"] = type;
  (*config)["rope_scaling"] = std::move(scaling);
  return {};
}

// Llama 3.1's scaling: by what each frequency is divided, where a wavelength is (transformers' rope_type llama3).
double Llama3Divisor(double wavelength, double factor, double low, double high, double original) {
  if (wavelength < original / high) return 1;
  if (wavelength > original / low) return factor;
  const double smooth = (original / wavelength - low) / (high - low);
  return 1 / ((1 - smooth) / factor + smooth);
}

// The converter writes the divisors and not what they were computed from. Every model published has low 1 and high 4;
// then one divisor between 1 and the factor tells the original length, and without one any length between the last
// wavelength that is kept and the first that is divided by the whole factor is the same.
Result<void> AddLlama3(const GgufKeys& keys, const std::vector<float>& divisors, double theta, ordered_json* config) {
  constexpr double kLow = 1, kHigh = 4, kTolerance = 1e-4;
  const double factor = *std::ranges::max_element(divisors);
  const auto wavelength = [&](size_t pair) {
    const double exponent = static_cast<double>(pair) / static_cast<double>(divisors.size());
    return 2 * std::numbers::pi * std::pow(theta, exponent);
  };
  double original = 0, least = 0, most = std::numeric_limits<double>::infinity();
  for (size_t pair = 0; pair < divisors.size() && original == 0; ++pair) {
    const double divisor = divisors[pair], length = wavelength(pair);
    if (divisor <= 1 + kTolerance) {
      least = std::max(least, kHigh * length);
    } else if (divisor >= factor * (1 - kTolerance)) {
      most = std::min(most, kLow * length);
    } else {
      const double smooth = (1 / divisor - 1 / factor) / (1 - 1 / factor);
      original = std::round((smooth * (kHigh - kLow) + kLow) * length);
    }
  }
  if (original == 0) {
    const double power = std::exp2(std::ceil(std::log2(std::max(least, 1.0))));  // lengths are powers of two
    original = power < most ? power : std::floor(most);
  }
  for (size_t pair = 0; pair < divisors.size(); ++pair) {
    const double expected = Llama3Divisor(wavelength(pair), factor, kLow, kHigh, original);
    if (std::abs(divisors[pair] - expected) <= kTolerance * expected) continue;
    return Fail(
        Error{ErrorCode::kUnsupported,
              fmt::format("number {} is {}, and Llama 3.1's scaling makes it {:.6g}; other frequencies of their "
                          "own are not supported yet: use the model as safetensors",
                          pair, divisors[pair], expected),
              {keys.file().source()->name(), "rope_freqs.weight"}});
  }
  (*config)["rope_scaling"] = {{"factor", formats::ShortestDecimal(static_cast<float>(factor))},
                               {"high_freq_factor", kHigh},
                               {"low_freq_factor", kLow},
                               {"original_max_position_embeddings", static_cast<uint64_t>(original)},
                               {"rope_type", "llama3"}};
  return {};
}

// LongRoPE: two tensors of factors, for texts within the original length and beyond it.
Result<void> AddLongrope(const GgufKeys& keys, uint64_t num_pairs, uint64_t context_length, ordered_json* config) {
  SLUICE_ASSIGN(const auto short_factors, keys.Floats("rope_factors_short.weight", num_pairs));
  SLUICE_ASSIGN(const auto long_factors, keys.Floats("rope_factors_long.weight", num_pairs));
  if (!short_factors && !long_factors) return AddScalingByKeys(keys, config);
  if (!short_factors || !long_factors) {
    return keys.Wrong(short_factors ? "rope_factors_long.weight" : "rope_factors_short.weight",
                      "is missing, though the other of the two is there; convert the model again");
  }
  const auto list = [](const std::vector<float>& factors) {
    ordered_json values = ordered_json::array();
    for (const float factor : factors) values.push_back(formats::ShortestDecimal(factor));
    return values;
  };
  ordered_json scaling = ordered_json::object();
  SLUICE_ASSIGN(const uint64_t original, keys.Size("rope.scaling.original_context_length", context_length));
  SLUICE_ASSIGN(const std::optional<double> attention, keys.Number("rope.scaling.attn_factor"));
  const double ratio = static_cast<double>(context_length) / static_cast<double>(original);
  const double implied = ratio <= 1 ? 1 : std::sqrt(1 + std::log(ratio) / std::log(static_cast<double>(original)));
  if (attention && std::abs(*attention - implied) > 1e-5 * implied) scaling["attention_factor"] = *attention;
  scaling["long_factor"] = list(*long_factors);
  scaling["short_factor"] = list(*short_factors);
  scaling["type"] = "longrope";
  (*config)["original_max_position_embeddings"] = original;
  (*config)["rope_scaling"] = std::move(scaling);
  return {};
}

}  // namespace

Result<void> AddRopeConfig(const GgufKeys& keys, uint64_t rotary_dim, uint64_t context_length, ordered_json* config) {
  const std::string model_type = (*config)["model_type"];
  SLUICE_ASSIGN(std::optional<double> theta, keys.Number("rope.freq_base"));
  if (theta && *theta == 0) return keys.Wrong("rope.freq_base", "is 0; convert the model again");
  if (!theta) {
    if (model_type != "gemma2") {  // its converter never writes the key
      keys.Report(Problem::Severity::kWarning,
                  fmt::format("{} is missing; taken as 10000, as llama.cpp does: where the original's rope_theta is "
                              "another, this file computes something else",
                              keys.Full("rope.freq_base")));
    }
    theta = kDefaultRopeTheta;
  }
  SLUICE_ASSIGN(const auto divisors, keys.Floats("rope_freqs.weight", rotary_dim / 2));
  if (divisors) {
    SLUICE_TRY(AddLlama3(keys, *divisors, *theta, config));
  } else if (model_type == "phi3") {
    SLUICE_TRY(AddLongrope(keys, rotary_dim / 2, context_length, config));
  } else {
    SLUICE_TRY(AddScalingByKeys(keys, config));
  }
  (*config)["rope_theta"] = *theta;
  if (model_type == "gemma3_text") {
    SLUICE_ASSIGN(const std::optional<double> local, keys.Number("rope.freq_base_swa"));
    (*config)["rope_local_base_freq"] = local.value_or(kDefaultRopeTheta);
  }
  return {};
}

}  // namespace sluice::checkpoint
