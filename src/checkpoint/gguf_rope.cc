// What a GGUF file says of rotary embedding, in its keys and in tensors of factors: both ways.
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

double Wavelength(size_t pair, size_t num_pairs, double theta) {
  const double exponent = static_cast<double>(pair) / static_cast<double>(num_pairs);
  return 2 * std::numbers::pi * std::pow(theta, exponent);
}

// By what LongRoPE multiplies attention where the config does not say.
double LongropeAttention(uint64_t context_length, uint64_t original_length) {
  const double ratio = static_cast<double>(context_length) / static_cast<double>(original_length);
  return ratio <= 1 ? 1 : std::sqrt(1 + std::log(ratio) / std::log(static_cast<double>(original_length)));
}

// The converter writes the divisors and not what they were computed from. Every model published has low 1 and high 4;
// then one divisor between 1 and the factor tells the original length, and without one any length between the last
// wavelength that is kept and the first that is divided by the whole factor is the same.
Result<void> AddLlama3(const GgufKeys& keys, const std::vector<float>& divisors, double theta, ordered_json* config) {
  constexpr double kLow = 1, kHigh = 4, kTolerance = 1e-4;
  const double factor = *std::ranges::max_element(divisors);
  const auto wavelength = [&](size_t pair) { return Wavelength(pair, divisors.size(), theta); };
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
  const double implied = LongropeAttention(context_length, original);
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

namespace {

// Writes scaling of one set of rope_parameters.
class RopeKeysWriter {
 public:
  RopeKeysWriter(const ordered_json& rope, uint64_t rotary_dim, uint64_t context_length, std::string prefix,
                 formats::GgufHeader* header)
      : rope_(rope),
        rotary_dim_(rotary_dim),
        context_length_(context_length),
        prefix_(std::move(prefix)),
        header_(*header) {}

  Result<void> Write() const {
    const std::string type = rope_.value("rope_type", "default");
    if (type == "default") return {};
    if (type == "llama3") return WriteLlama3();
    if (type == "longrope") return WriteLongrope();
    if (type != "linear" && type != "yarn") {
      return Wrong("rope_type", fmt::format("is \"{}\", which GGUF has no keys for", type));
    }
    for (const char* key : {"attention_factor", "mscale", "mscale_all_dim", "truncate"}) {
      if (rope_.contains(key) && !rope_[key].is_null()) return Wrong(key, "has no key in GGUF");
    }
    SLUICE_ASSIGN(const double factor, Number("factor"));
    header_.Add(prefix_ + "rope.scaling.type", type);
    AddNumber("rope.scaling.factor", factor);
    if (type == "linear") return {};
    AddOriginalLength();
    for (const char* name : {"beta_fast", "beta_slow"}) {
      if (!rope_.contains(name) || rope_[name].is_null()) continue;
      SLUICE_ASSIGN(const double value, Number(name));
      AddNumber(std::string("rope.scaling.yarn_") + name, value);
    }
    return {};
  }

 private:
  static tl::unexpected<Error> Wrong(std::string_view key, std::string message) {
    return Fail(Error{ErrorCode::kUnsupported, std::move(message), {fmt::format("rope_parameters.{}", key)}});
  }
  Result<double> Number(const char* key) const {
    const auto found = rope_.find(key);
    if (found == rope_.end() || !found->is_number()) return Wrong(key, "is no number");
    return found->get<double>();
  }
  void AddNumber(const std::string& key, double value) const { header_.Add(prefix_ + key, static_cast<float>(value)); }
  uint64_t AddOriginalLength() const {
    const uint64_t length = rope_.value("original_max_position_embeddings", context_length_);
    header_.Add(prefix_ + "rope.scaling.original_context_length", static_cast<uint32_t>(length));
    return length;
  }

  Result<void> WriteLlama3() const {
    SLUICE_ASSIGN(const double theta, Number("rope_theta"));
    SLUICE_ASSIGN(const double factor, Number("factor"));
    SLUICE_ASSIGN(const double low, Number("low_freq_factor"));
    SLUICE_ASSIGN(const double high, Number("high_freq_factor"));
    SLUICE_ASSIGN(const double original, Number("original_max_position_embeddings"));
    std::vector<float> divisors(rotary_dim_ / 2);
    for (size_t pair = 0; pair < divisors.size(); ++pair) {
      divisors[pair] =
          static_cast<float>(Llama3Divisor(Wavelength(pair, divisors.size(), theta), factor, low, high, original));
    }
    header_.AddNumbers("rope_freqs.weight", divisors);
    return {};
  }

  Result<void> WriteLongrope() const {
    for (const char* length : {"long", "short"}) {
      const std::string key = fmt::format("{}_factor", length);
      const auto factors = rope_.find(key);
      if (factors == rope_.end() || !factors->is_array() || factors->size() != rotary_dim_ / 2) {
        return Wrong(key, fmt::format("is no list of {} numbers", rotary_dim_ / 2));
      }
      std::vector<float> values;
      for (const ordered_json& factor : *factors) {
        if (!factor.is_number()) return Wrong(key, "is no list of numbers");
        values.push_back(factor.get<float>());
      }
      header_.AddNumbers(fmt::format("rope_factors_{}.weight", length), values);
    }
    const uint64_t original = AddOriginalLength();
    double attention = LongropeAttention(context_length_, original);
    if (rope_.contains("attention_factor") && !rope_["attention_factor"].is_null()) {
      SLUICE_ASSIGN(attention, Number("attention_factor"));
    }
    AddNumber("rope.scaling.attn_factor", attention);
    return {};
  }

  const ordered_json& rope_;
  const uint64_t rotary_dim_, context_length_;
  const std::string prefix_;
  formats::GgufHeader& header_;
};

}  // namespace

Result<void> AddRopeKeys(const ordered_json& config, uint64_t rotary_dim, std::string_view architecture,
                         formats::GgufHeader* header) {
  const std::string prefix = fmt::format("{}.", architecture);
  const ordered_json& rope = config.at("rope_parameters");
  const bool by_layer = rope.contains("full_attention");
  const ordered_json& full = by_layer ? rope["full_attention"] : rope;
  header->Add(prefix + "rope.dimension_count", static_cast<uint32_t>(rotary_dim));
  header->Add(prefix + "rope.freq_base", full.value("rope_theta", static_cast<float>(kDefaultRopeTheta)));
  if (by_layer) {
    const ordered_json& sliding = rope["sliding_attention"];
    if (sliding.value("rope_type", "default") != "default") {
      return Fail(Error{ErrorCode::kUnsupported,
                        "scales the sliding layers too, which GGUF has no keys for",
                        {"rope_parameters.sliding_attention"}});
    }
    header->Add(prefix + "rope.freq_base_swa", sliding.value("rope_theta", static_cast<float>(kDefaultRopeTheta)));
  }
  return RopeKeysWriter(full, rotary_dim, config.value("max_position_embeddings", uint64_t{0}), prefix, header).Write();
}

}  // namespace sluice::checkpoint
