#include "checkpoint/architectures/internal_derived_keys.h"

#include <cstdint>
#include <optional>
#include <set>

#include "checkpoint/architecture.h"

namespace sluice::checkpoint::architectures {

using nlohmann::ordered_json;

namespace {

bool UsesWindow(const ordered_json& config) {
  const ordered_json& use = config.at("use_sliding_window");
  return use.is_boolean() && use.get<bool>() && !config.at("sliding_window").is_null();
}

std::optional<uint64_t> NumLayers(const ordered_json& config) {
  const auto layers = WholeNumber(config.at("num_hidden_layers"));
  return layers && *layers <= kMaxLayers ? layers : std::nullopt;
}

template <class TypeOf>
ordered_json TypeOfEachLayer(const ordered_json& config, TypeOf type_of) {
  const auto layers = NumLayers(config);
  if (!layers) return nullptr;
  ordered_json types = ordered_json::array();
  for (uint64_t layer = 0; layer < *layers; ++layer) types.push_back(type_of(layer));
  return types;
}

template <class IsFull>
ordered_json LayerTypes(const ordered_json& config, IsFull is_full) {
  return TypeOfEachLayer(config,
                         [&](uint64_t layer) { return is_full(layer) ? "full_attention" : "sliding_attention"; });
}

}  // namespace

ordered_json AsManyAsHeads(const ordered_json& config) { return config.at("num_attention_heads"); }

ordered_json AsManyAsHeadsWhereNull(const ordered_json& config, int absent) {
  const ordered_json& heads = config.at("num_attention_heads");
  return config.contains("num_key_value_heads") && !heads.is_null() ? heads : ordered_json(absent);
}

ordered_json HiddenByHeads(const ordered_json& config) {
  const auto hidden = WholeNumber(config.at("hidden_size")), heads = WholeNumber(config.at("num_attention_heads"));
  if (!hidden || !heads || *heads == 0) return nullptr;
  return *hidden / *heads;
}

ordered_json FourTimes(const ordered_json& size) {
  const auto number = WholeNumber(size);
  return number && *number <= UINT64_MAX / 4 ? ordered_json(4 * *number) : ordered_json(nullptr);
}

ordered_json NumLabels(const ordered_json& config) {
  const auto labels = config.find("id2label");
  return labels != config.end() && labels->is_object() ? ordered_json(labels->size()) : ordered_json(2);
}

ordered_json SparseAndDense(const ordered_json& config) {
  const auto experts = WholeNumber(config.at("num_experts")), step = WholeNumber(config.at("decoder_sparse_step"));
  if (!experts || !step || *step == 0) return nullptr;
  std::set<uint64_t> dense;
  if (const ordered_json& layers = config.at("mlp_only_layers"); layers.is_array()) {
    for (const ordered_json& layer : layers) dense.insert(WholeNumber(layer).value_or(kMaxLayers));
  }
  return TypeOfEachLayer(config, [&](uint64_t layer) {
    return !dense.contains(layer) && *experts > 0 && (layer + 1) % *step == 0 ? "sparse" : "dense";
  });
}

ordered_json FullEvery(const ordered_json& config, uint64_t period) {
  if (period == 0) return nullptr;
  return LayerTypes(config, [period](uint64_t layer) { return (layer + 1) % period == 0; });
}

ordered_json SlidingFromMaxWindowLayers(const ordered_json& config) {
  const auto first = WholeNumber(config.at("max_window_layers"));
  const bool slides = UsesWindow(config);
  if (slides && !first) return nullptr;
  return LayerTypes(config, [&](uint64_t layer) { return !slides || layer < *first; });
}

void DropUnusedWindow(ordered_json* config) {
  if (!UsesWindow(*config)) (*config)["sliding_window"] = nullptr;
}

}  // namespace sluice::checkpoint::architectures
