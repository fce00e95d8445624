#include "checkpoint/canonical_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "base/check.h"
#include "formats/json_reader.h"

namespace sluice::checkpoint {
namespace {

using nlohmann::ordered_json;

// Keys that do not change what a checkpoint computes from given tokens. docs/formats/digest.md says why, group by
// group.
constexpr std::array<std::string_view, 37> kLeftOut = {
    // where it comes from
    "_commit_hash", "_name_or_path", "name_or_path", "transformers.js_config", "transformers_version", "unsloth_fixed",
    "unsloth_version",
    // how it is stored: every tensor's own encoding is hashed
    "dtype", "torch_dtype", "use_bfloat16",
    // how it is run
    "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal", "_flash_attn_2_enabled",
    "attn_implementation", "chunk_size_feed_forward", "gradient_checkpointing", "output_attentions",
    "output_hidden_states", "output_router_logits", "pretraining_tp", "return_dict", "tf_legacy_loss", "torchscript",
    "use_cache", "use_return_dict",
    // how it was trained
    "attention_dropout", "attention_probs_dropout_prob", "attn_pdrop", "classifier_dropout", "dropout", "embd_pdrop",
    "hidden_dropout", "hidden_dropout_prob", "initializer_range", "resid_pdrop", "router_aux_loss_coef"};

// The keys of transformers 4 that rope_parameters replaces.
constexpr std::array<std::string_view, 3> kOldRope = {"rope_local_base_freq", "rope_scaling", "rope_theta"};

// The member, or null.
const ordered_json& Member(const ordered_json& object, std::string_view key) {
  static const ordered_json kNull;
  const auto place = object.find(key);
  return place == object.end() ? kNull : *place;
}

void Erase(ordered_json* object, std::string_view key) { object->erase(std::string(key)); }

// `type` is what older configs call rope_type.
ordered_json WithRopeType(const ordered_json& parameters) {
  ordered_json result = parameters;
  ordered_json type = Member(result, "rope_type");
  if (type.is_null()) type = Member(result, "type");
  Erase(&result, "type");
  result["rope_type"] = type.is_null() ? ordered_json("default") : type;
  return result;
}

// One set of parameters for each kind of layer, as gemma3 has them.
bool IsPerLayerType(const ordered_json& parameters) {
  for (const char* key : {"rope_type", "type", "rope_theta"}) {
    if (parameters.contains(key)) return false;
  }
  return std::any_of(parameters.begin(), parameters.end(),
                     [](const ordered_json& member) { return member.is_object(); });
}

// From the keys of transformers 4; null where there are none.
ordered_json OldRope(const ordered_json& config) {
  const ordered_json& scaling = Member(config, "rope_scaling");
  const ordered_json& theta = Member(config, "rope_theta");
  const ordered_json& local = Member(config, "rope_local_base_freq");
  if (!scaling.is_object() && theta.is_null() && local.is_null()) return nullptr;
  ordered_json rope = WithRopeType(scaling.is_object() ? scaling : ordered_json::object());
  if (!theta.is_null()) rope["rope_theta"] = theta;
  if (local.is_null()) return rope;
  return {{"full_attention", rope}, {"sliding_attention", {{"rope_theta", local}, {"rope_type", "default"}}}};
}

// From rope_parameters of transformers 5; null where there is none.
ordered_json NewRope(const ordered_json& config) {
  const ordered_json& parameters = Member(config, "rope_parameters");
  if (!parameters.is_object()) return nullptr;
  if (!IsPerLayerType(parameters)) return WithRopeType(parameters);
  ordered_json result = ordered_json::object();
  for (const auto& [layer_type, of_type] : parameters.items()) {
    result[layer_type] = of_type.is_object() ? WithRopeType(of_type) : of_type;
  }
  return result;
}

std::string DtypeOf(const ordered_json& config, std::string_view key) {
  const ordered_json& value = Member(config, key);
  if (!value.is_string()) return "";
  const auto& name = value.get_ref<const std::string&>();
  return name.starts_with("torch.") ? name.substr(6) : name;
}

Result<void> Contradiction(std::string_view a, const std::string& a_value, std::string_view b,
                           const std::string& b_value) {
  return Fail(ErrorCode::kCorrupt,
              fmt::format("{} is {}, but {} is {}: they mean the same thing; remove the one that is wrong", a, a_value,
                          b, b_value));
}

Result<void> CheckTypes(const ordered_json& config) {
  for (const char* key : {"rope_theta", "rope_local_base_freq"}) {
    if (const ordered_json& value = Member(config, key); !value.is_null() && !value.is_number()) {
      return Fail(ErrorCode::kCorrupt, fmt::format("{} is {}, not a number", key, value.type_name()));
    }
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (const ordered_json& value = Member(config, key); !value.is_null() && !value.is_object()) {
      return Fail(ErrorCode::kCorrupt, fmt::format("{} is {}, not an object", key, value.type_name()));
    }
  }
  return {};
}

Result<void> CheckRopeType(const ordered_json& parameters, std::string_view where) {
  const ordered_json& type = Member(parameters, "type");
  const ordered_json& rope_type = Member(parameters, "rope_type");
  if (type.is_null() || rope_type.is_null() || type == rope_type) return {};
  return Contradiction(fmt::format("{}.type", where), type.dump(), fmt::format("{}.rope_type", where),
                       rope_type.dump());
}

// What both versions' keys say must be the same; what only one says is taken from it. A theta alone says nothing about
// the type.
Result<void> CompareRope(const ordered_json& old_rope, const ordered_json& new_rope, const std::string& where,
                         bool old_has_scaling) {
  for (const auto& [key, value] : new_rope.items()) {
    if (key == "rope_type" && !old_has_scaling) continue;
    const ordered_json& other = Member(old_rope, key);
    if (other.is_null() || value.is_null() || other == value) continue;
    const std::string old_name = key == "rope_theta" ? key : "rope_scaling." + key;
    return Contradiction(old_name, other.dump(), fmt::format("{}.{}", where, key), value.dump());
  }
  return {};
}

// Members of `b` that `a` does not have.
void AddMissing(const ordered_json& b, ordered_json* a) {
  for (const auto& [key, value] : b.items()) {
    if (Member(*a, key).is_null()) (*a)[key] = value;
  }
}

void AppendNumber(const ordered_json& number, std::string* out) {
  if (number.is_number_unsigned()) {
    *out += std::to_string(number.get<uint64_t>());
    return;
  }
  if (number.is_number_integer()) {
    *out += std::to_string(number.get<int64_t>());
    return;
  }
  const double value = number.get<double>();
  if (!std::isfinite(value)) {  // not from JSON; as Python writes them
    *out += std::isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity";
    return;
  }
  if (value == std::trunc(value)) {
    *out += value == 0 ? "0" : fmt::format("{:.0f}", value);
    return;
  }
  // Python's repr: an exponent below 1e-4 only, since whatever is 1e16 or above is whole.
  std::array<char, 64> text;
  const auto format = std::abs(value) < 1e-4 ? std::chars_format::scientific : std::chars_format::fixed;
  const auto result = std::to_chars(text.data(), text.data() + text.size(), value, format);
  SLUICE_CHECK(result.ec == std::errc());
  out->append(text.data(), result.ptr);
}

void AppendCanonical(const ordered_json& value, std::string* out) {
  if (value.is_object()) {
    std::vector<std::pair<std::string_view, const ordered_json*>> members;
    for (const auto& [key, member] : value.get_ref<const ordered_json::object_t&>()) members.emplace_back(key, &member);
    std::sort(members.begin(), members.end());
    *out += '{';
    for (const auto& [key, member] : members) {
      if (out->back() != '{') *out += ',';
      formats::AppendJsonString(key, out);
      *out += ':';
      AppendCanonical(*member, out);
    }
    *out += '}';
  } else if (value.is_array()) {
    *out += '[';
    for (const ordered_json& element : value) {
      if (&element != &value.front()) *out += ',';
      AppendCanonical(element, out);
    }
    *out += ']';
  } else if (value.is_string()) {
    formats::AppendJsonString(value.get_ref<const std::string&>(), out);
  } else if (value.is_number()) {
    AppendNumber(value, out);
  } else if (value.is_boolean()) {
    *out += value.get<bool>() ? "true" : "false";
  } else {
    *out += "null";
  }
}

// What is done to the config and to its text_config alike.
void Reduce(ordered_json* config) {
  for (const std::string_view key : kLeftOut) Erase(config, key);
  ordered_json rope = RopeParameters(*config);
  for (const std::string_view key : kOldRope) Erase(config, key);
  Erase(config, "rope_parameters");
  if (!rope.is_null()) (*config)["rope_parameters"] = std::move(rope);
}

// Type and theta, of every kind of layer that the architecture has.
void AddRopeDefaults(const Architecture& known, ordered_json* config) {
  ordered_json& rope = (*config)["rope_parameters"];
  if (rope.is_null()) rope = WithRopeType(ordered_json::object());
  const auto add_theta = [](double theta, ordered_json* of_type) {
    if (Member(*of_type, "rope_theta").is_null()) (*of_type)["rope_theta"] = theta;
  };
  if (known.sliding_rope_theta == 0) {
    if (!IsPerLayerType(rope)) add_theta(known.rope_theta, &rope);
    return;
  }
  if (!IsPerLayerType(rope)) rope = {{"full_attention", rope}};
  for (const auto& [type, theta] :
       {std::pair("full_attention", known.rope_theta), std::pair("sliding_attention", known.sliding_rope_theta)}) {
    ordered_json& of_type = rope[type];
    if (of_type.is_null()) of_type = WithRopeType(ordered_json::object());
    if (of_type.is_object()) add_theta(theta, &of_type);
  }
}

}  // namespace

Result<void> CheckForContradictions(const ordered_json& config) {
  if (!config.is_object()) return {};
  SLUICE_TRY(CheckTypes(config));
  const std::string torch_dtype = DtypeOf(config, "torch_dtype"), dtype = DtypeOf(config, "dtype");
  if (!torch_dtype.empty() && !dtype.empty() && torch_dtype != dtype) {
    return Contradiction("torch_dtype", torch_dtype, "dtype", dtype);
  }
  const ordered_json& scaling = Member(config, "rope_scaling");
  const ordered_json& parameters = Member(config, "rope_parameters");
  if (scaling.is_object()) SLUICE_TRY(CheckRopeType(scaling, "rope_scaling"));
  if (parameters.is_object()) {
    SLUICE_TRY(CheckRopeType(parameters, "rope_parameters"));
    for (const auto& [layer_type, of_type] : parameters.items()) {
      if (of_type.is_object()) SLUICE_TRY(CheckRopeType(of_type, "rope_parameters." + layer_type));
    }
  }
  const ordered_json old_rope = OldRope(config), new_rope = NewRope(config);
  if (!old_rope.is_null() && !new_rope.is_null()) {
    // Where one side has a set for each layer type, a flat other side means full attention.
    const bool old_nested = IsPerLayerType(old_rope), new_nested = IsPerLayerType(new_rope);
    const ordered_json& old_full = old_nested ? old_rope["full_attention"] : old_rope;
    const ordered_json& new_full = new_nested ? Member(new_rope, "full_attention") : new_rope;
    const std::string where = new_nested ? "rope_parameters.full_attention" : "rope_parameters";
    SLUICE_TRY(CompareRope(old_full, new_full, where, scaling.is_object()));
    const ordered_json& sliding = Member(new_rope, "sliding_attention");
    const ordered_json& new_local = Member(sliding, "rope_theta");
    const ordered_json& local = Member(config, "rope_local_base_freq");
    if (!local.is_null() && !new_local.is_null() && local != new_local) {
      return Contradiction("rope_local_base_freq", local.dump(), "rope_parameters.sliding_attention.rope_theta",
                           new_local.dump());
    }
  }
  return CheckForContradictions(Member(config, "text_config"));
}

std::optional<uint64_t> WholeNumber(const ordered_json& value) {
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  if (value.is_number_integer()) {
    const auto number = value.get<int64_t>();
    return number < 0 ? std::nullopt : std::optional(static_cast<uint64_t>(number));
  }
  if (!value.is_number_float()) return std::nullopt;
  const auto number = value.get<double>();
  if (!(number >= 0 && number <= 0x1p53) || number != std::trunc(number)) return std::nullopt;
  return static_cast<uint64_t>(number);
}

ordered_json RopeParameters(const ordered_json& config) {
  ordered_json old_rope = OldRope(config), rope = NewRope(config);
  if (rope.is_null()) return old_rope;
  if (old_rope.is_null()) return rope;
  const bool old_nested = IsPerLayerType(old_rope), new_nested = IsPerLayerType(rope);
  if (old_nested && !new_nested) rope = {{"full_attention", rope}};
  if (new_nested && !old_nested) old_rope = {{"full_attention", old_rope}};
  if (!old_nested && !new_nested) {
    AddMissing(old_rope, &rope);
    return rope;
  }
  for (const auto& [layer_type, of_type] : old_rope.items()) {
    if (!rope.contains(layer_type)) {
      rope[layer_type] = of_type;
    } else if (rope[layer_type].is_object()) {
      AddMissing(of_type, &rope[layer_type]);
    }
  }
  return rope;
}

const Architecture* DefaultsOf(const ordered_json& config) {
  if (const ordered_json& type = Member(config, "model_type"); type.is_string()) {
    return ArchitectureByModelType(type.get_ref<const std::string&>());
  }
  const ordered_json& names = Member(config, "architectures");
  if (!names.is_array() || names.empty() || !names[0].is_string()) return nullptr;
  return ArchitectureByName(names[0].get_ref<const std::string&>());
}

ordered_json DefaultOf(const Architecture& architecture, std::string_view key, const ordered_json& config) {
  const auto found = std::find_if(architecture.defaults.begin(), architecture.defaults.end(),
                                  [&](const ConfigDefault& one) { return one.key == key; });
  if (found == architecture.defaults.end()) return nullptr;
  if (found->derive == nullptr) return ordered_json::parse(found->json);
  ordered_json filled = config;
  for (const ConfigDefault& one : architecture.defaults) {
    if (one.derive == nullptr && !filled.contains(one.key))
      filled[std::string(one.key)] = ordered_json::parse(one.json);
  }
  return found->derive(filled);
}

ordered_json CompleteConfig(const ordered_json& given) {
  ordered_json config = given;
  const Architecture* known = DefaultsOf(given);
  if (known != nullptr && !known->runs()) known = nullptr;  // only some of its defaults are known
  Reduce(&config);
  if (const auto text = config.find("text_config"); text != config.end() && text->is_object()) Reduce(&*text);

  std::set<std::string_view> keep_null;
  if (known != nullptr) {
    for (const ConfigDefault& one : known->defaults) {
      // A null in place of a fixed value is another value; in place of a derived one it asks for it.
      if (one.derive == nullptr && one.json != "null") keep_null.insert(one.key);
      if (config.contains(one.key) && (one.derive == nullptr || !Member(config, one.key).is_null())) continue;
      if (ordered_json value = DefaultOf(*known, one.key, given); !value.is_null()) {
        config[std::string(one.key)] = std::move(value);
      }
    }
    AddRopeDefaults(*known, &config);
    if (known->settle != nullptr) known->settle(&config);
  }
  std::vector<std::string> nulls;
  for (const auto& [key, value] : config.items()) {
    if (value.is_null() && !keep_null.contains(key)) nulls.push_back(key);
  }
  for (const std::string& key : nulls) Erase(&config, key);
  return config;
}

std::string CanonicalConfig(const ordered_json& config) { return CanonicalJson(CompleteConfig(config)); }

std::string CanonicalJson(const ordered_json& value) {
  std::string text;
  AppendCanonical(value, &text);
  return text;
}

}  // namespace sluice::checkpoint
