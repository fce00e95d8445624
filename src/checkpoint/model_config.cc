#include "checkpoint/model_config.h"

#include "checkpoint/canonical_config.h"
#include "formats/json_document.h"
#include "formats/recognise.h"

namespace sluice::checkpoint {

using nlohmann::ordered_json;

Result<std::shared_ptr<const ModelConfig>> ModelConfig::Parse(std::string_view text, const std::string& file) {
  if (formats::Recognised other = formats::Recognise(text);
      other.kind == formats::FileKind::kLfsPointer || other.kind == formats::FileKind::kHtml) {
    return Fail(Error{ErrorCode::kCorrupt, std::move(other.message), {file}});
  }
  SLUICE_ASSIGN(ordered_json json, formats::ParseJson(text, file));
  if (!json.is_object()) {
    return Fail(Error{ErrorCode::kCorrupt, "line 1, column 1: a config is an object, this is something else", {file}});
  }
  SLUICE_TRY_IN(file, CheckForContradictions(json));
  return FromJson(std::move(json));
}

std::shared_ptr<const ModelConfig> ModelConfig::FromJson(ordered_json json) {
  auto config = std::make_shared<ModelConfig>();
  config->json_ = std::move(json);
  return config;
}

std::string ModelConfig::architecture() const {
  const auto names = json_.find("architectures");
  if (names != json_.end() && names->is_array() && !names->empty() && names->front().is_string()) {
    return names->front().get<std::string>();
  }
  const auto type = json_.find("model_type");
  return type != json_.end() && type->is_string() ? type->get<std::string>() : "";
}

ordered_json ModelConfig::Value(std::string_view key) const {
  const auto member = [this](std::string_view name) {
    const auto place = json_.find(name);
    return place == json_.end() ? ordered_json() : *place;
  };
  const Architecture* known = DefaultsOf(json_);
  if (key == "rope_theta") {
    const ordered_json rope = RopeParameters(json_);
    for (const ordered_json* place : {&rope, rope.contains("full_attention") ? &rope["full_attention"] : nullptr}) {
      if (place != nullptr && place->is_object() && place->contains(key)) return (*place)["rope_theta"];
    }
    return known == nullptr || !known->runs() ? ordered_json() : ordered_json(known->rope_theta);
  }
  ordered_json value = member(key);
  if (value.is_null() && key == "torch_dtype") value = member("dtype");
  if (value.is_null() && key == "dtype") value = member("torch_dtype");
  if (value.is_null() && known != nullptr) value = DefaultOf(*known, key, json_);
  return value;
}

std::optional<uint64_t> ModelConfig::GetInt(std::string_view key) const { return WholeNumber(Value(key)); }

std::optional<double> ModelConfig::GetNumber(std::string_view key) const {
  const ordered_json value = Value(key);
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}

std::optional<bool> ModelConfig::GetBool(std::string_view key) const {
  const ordered_json value = Value(key);
  return value.is_boolean() ? std::optional(value.get<bool>()) : std::nullopt;
}

std::string ModelConfig::GetString(std::string_view key) const {
  const ordered_json value = Value(key);
  return value.is_string() ? value.get<std::string>() : "";
}

bool ModelConfig::TiedEmbeddings() const { return GetBool("tie_word_embeddings").value_or(true); }

std::string ModelConfig::Canonical() const { return CanonicalConfig(json_); }

std::string ModelConfig::Pretty() const {
  return json_.dump(2, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace sluice::checkpoint
