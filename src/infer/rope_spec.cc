#include "infer/rope_spec.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "base/units.h"
#include "checkpoint/architecture.h"

namespace sluice::infer {
namespace {

using nlohmann::ordered_json;

constexpr uint64_t kMaxPositions = uint64_t{1} << 40;

constexpr std::array<std::pair<std::string_view, RopeType>, 6> kTypes = {{{"default", RopeType::kDefault},
                                                                          {"linear", RopeType::kLinear},
                                                                          {"dynamic", RopeType::kDynamic},
                                                                          {"yarn", RopeType::kYarn},
                                                                          {"llama3", RopeType::kLlama3},
                                                                          {"longrope", RopeType::kLongrope}}};

Result<RopeType> ReadType(const ConfigKeys& keys) {
  const ordered_json& type = keys.At("rope_type");
  for (const auto& [name, value] : kTypes) {
    if (type == name) return value;
  }
  std::string names;
  for (const auto& [name, value] : kTypes) names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  return Fail(ErrorCode::kUnsupported,
              keys.Wrong("rope_type", "supported are " + names + "; others not yet").value().message);
}

Result<uint64_t> ReadRotaryDim(const ConfigKeys& keys, const RopeContext& context) {
  SLUICE_ASSIGN(const double factor, keys.PositiveOr("partial_rotary_factor", 1));
  if (factor > 1) return keys.Wrong("partial_rotary_factor", "at most 1 is possible");
  if (factor != 1 && !context.partial_rotary) {
    return Fail(ErrorCode::kUnsupported,
                keys.Wrong("partial_rotary_factor", "this architecture turns whole heads").value().message);
  }
  const auto rotary_dim = static_cast<uint64_t>(static_cast<double>(context.head_dim) * factor);
  if (rotary_dim == 0 || rotary_dim % 2 != 0) {
    return Fail(ErrorCode::kCorrupt,
                fmt::format("head_dim is {} and its part that turns has {} elements: they are turned in pairs",
                            context.head_dim, rotary_dim));
  }
  return rotary_dim;
}

// YaRN, equation 22; `weight` is 1 there.
double YarnScale(double factor, double weight = 1) { return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1; }

Result<double> YarnAttentionFactor(const ConfigKeys& keys, double factor) {
  // DeepSeek's: 0 is as good as missing.
  const auto weight = [&](std::string_view key) {
    const ordered_json& value = keys.At(key);
    return value.is_number() && std::isfinite(value.get<double>()) ? value.get<double>() : 0;
  };
  const double weight_here = weight("mscale"), weight_all = weight("mscale_all_dim");
  const double otherwise = weight_here != 0 && weight_all != 0
                               ? YarnScale(factor, weight_here) / YarnScale(factor, weight_all)
                               : YarnScale(factor);
  return keys.PositiveOr("attention_factor", otherwise);
}

Result<std::vector<double>> Factors(const ConfigKeys& keys, const char* key, uint64_t count) {
  const ordered_json& list = keys.At(key);
  const auto is_factor = [](const ordered_json& value) {
    return value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() > 0;
  };
  if (!list.is_array() || list.size() != count || !std::all_of(list.begin(), list.end(), is_factor)) {
    return keys.Wrong(key, fmt::format("{} numbers above 0 are wanted, one for each pair of a head", count));
  }
  return list.get<std::vector<double>>();
}

}  // namespace

const ordered_json& ConfigKeys::At(std::string_view key) const {
  static const ordered_json kNull;
  if (!object_.is_object()) return kNull;
  const auto place = object_.find(key);
  return place == object_.end() ? kNull : *place;
}

tl::unexpected<Error> ConfigKeys::Wrong(std::string_view key, std::string_view wanted) const {
  const ordered_json& value = At(key);
  std::string text = value.is_null() ? "missing" : value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  return Fail(ErrorCode::kCorrupt, fmt::format("{}{} is {}: {}", where_, key, text, wanted));
}

Result<uint64_t> ConfigKeys::Size(std::string_view key, uint64_t max) const {
  const auto size = checkpoint::WholeNumber(At(key));
  if (!size || *size == 0 || *size > max) {
    return Wrong(key, fmt::format("a whole number from 1 to {} is wanted", FormatCount(max)));
  }
  return *size;
}

Result<double> ConfigKeys::Positive(std::string_view key) const {
  const ordered_json& value = At(key);
  // What is no number above 0 as an f32 is none for the pass.
  const float number = value.is_number() ? static_cast<float>(value.get<double>()) : 0;
  if (!(number > 0) || !std::isfinite(number)) return Wrong(key, "a number above 0 is wanted");
  return value.get<double>();
}

Result<double> ConfigKeys::PositiveOr(std::string_view key, double otherwise) const {
  if (At(key).is_null()) return otherwise;
  return Positive(key);
}

Result<RopeSpec> ReadRopeSpec(const ordered_json& parameters, const std::string& where, const RopeContext& context) {
  if (!parameters.is_object()) return Fail(ErrorCode::kCorrupt, where + " is missing");
  const ConfigKeys keys(parameters, where + ".");
  RopeSpec spec;
  SLUICE_ASSIGN(spec.type, ReadType(keys));
  SLUICE_ASSIGN(spec.theta, keys.Positive("rope_theta"));
  SLUICE_ASSIGN(spec.rotary_dim, ReadRotaryDim(keys, context));
  if (spec.type == RopeType::kDefault) return spec;

  if (spec.type == RopeType::kLongrope || spec.type == RopeType::kYarn || spec.type == RopeType::kLlama3) {
    spec.original_max_positions = context.max_positions;
    if (!keys.At("original_max_position_embeddings").is_null()) {
      SLUICE_ASSIGN(spec.original_max_positions, keys.Size("original_max_position_embeddings", kMaxPositions));
    }
  }
  const double ratio = spec.original_max_positions == 0 ? 0
                                                        : static_cast<double>(context.max_positions) /
                                                              static_cast<double>(spec.original_max_positions);
  switch (spec.type) {
    case RopeType::kDefault:
      break;
    case RopeType::kLinear: {
      SLUICE_ASSIGN(spec.factor, keys.Positive("factor"));
      break;
    }
    case RopeType::kDynamic: {
      SLUICE_ASSIGN(spec.factor, keys.Positive("factor"));
      if (spec.factor < 1) return keys.Wrong("factor", "at least 1 is wanted");
      if (spec.rotary_dim < 4) return keys.Wrong("rope_type", "it needs heads of four elements or more");
      spec.max_positions = context.max_positions;
      break;
    }
    case RopeType::kYarn: {
      SLUICE_ASSIGN(spec.factor, keys.PositiveOr("factor", ratio));
      SLUICE_ASSIGN(spec.attention_factor, YarnAttentionFactor(keys, spec.factor));
      SLUICE_ASSIGN(spec.beta_fast, keys.PositiveOr("beta_fast", 32));
      SLUICE_ASSIGN(spec.beta_slow, keys.PositiveOr("beta_slow", 1));
      const ordered_json& truncate = keys.At("truncate");
      spec.truncate = !truncate.is_boolean() || truncate.get<bool>();
      if (spec.theta == 1) return keys.Wrong("rope_theta", "yarn cannot be computed with it");
      break;
    }
    case RopeType::kLlama3: {
      SLUICE_ASSIGN(spec.factor, keys.Positive("factor"));
      SLUICE_ASSIGN(spec.low_freq_factor, keys.Positive("low_freq_factor"));
      SLUICE_ASSIGN(spec.high_freq_factor, keys.Positive("high_freq_factor"));
      if (spec.high_freq_factor <= spec.low_freq_factor) {
        return keys.Wrong("high_freq_factor",
                          fmt::format("more than low_freq_factor is wanted, which is {}", spec.low_freq_factor));
      }
      break;
    }
    case RopeType::kLongrope: {
      SLUICE_ASSIGN(const double factor, keys.PositiveOr("factor", ratio));
      const double length = static_cast<double>(spec.original_max_positions);
      if (factor > 1 && length < 2) return keys.Wrong("original_max_position_embeddings", "2 or more are wanted");
      // LongRoPE, section 3: keeps the entropy of attention over a longer context.
      const double otherwise = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(length));
      SLUICE_ASSIGN(spec.attention_factor, keys.PositiveOr("attention_factor", otherwise));
      SLUICE_ASSIGN(spec.short_factor, Factors(keys, "short_factor", spec.rotary_dim / 2));
      SLUICE_ASSIGN(spec.long_factor, Factors(keys, "long_factor", spec.rotary_dim / 2));
      break;
    }
  }
  return spec;
}

}  // namespace sluice::infer
