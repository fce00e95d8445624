// Values of config keys that several architectures compute from others. Each gets a config with fixed defaults filled
// in.
#pragma once

#include <algorithm>
#include <cstddef>

#include <nlohmann/json.hpp>

namespace sluice::checkpoint::architectures {

// A key's name, as an argument of a template.
template <size_t kSize>
struct KeyName {
  consteval KeyName(const char (&name)[kSize]) { std::copy_n(name, kSize, text); }  // NOLINT: implicit on purpose
  char text[kSize];
};

// The same as another key: GPT-2's hidden_size is called n_embd.
template <KeyName kKey>
nlohmann::ordered_json SameAs(const nlohmann::ordered_json& config) {
  return config.at(kKey.text);
}

// Four times another key's size; null where that is none.
nlohmann::ordered_json FourTimes(const nlohmann::ordered_json& size);
template <KeyName kKey>
nlohmann::ordered_json FourTimes(const nlohmann::ordered_json& config) {
  return FourTimes(config.at(kKey.text));
}

nlohmann::ordered_json AsManyAsHeads(const nlohmann::ordered_json& config);  // num_attention_heads
// Of num_key_value_heads: `absent` where it is, num_attention_heads where it is null.
nlohmann::ordered_json AsManyAsHeadsWhereNull(const nlohmann::ordered_json& config, int absent);
nlohmann::ordered_json HiddenByHeads(const nlohmann::ordered_json& config);  // hidden_size / heads, rounded down
nlohmann::ordered_json NumLabels(const nlohmann::ordered_json& config);      // entries of id2label, or 2

// Qwen's mlp_layer_types, one for each of num_hidden_layers: "sparse" for every decoder_sparse_step-th layer, counted
// from 1, that mlp_only_layers does not name, if there are experts; "dense" for the others.
nlohmann::ordered_json SparseAndDense(const nlohmann::ordered_json& config);

// layer_types, one for each of num_hidden_layers: "sliding_attention", or "full_attention" for every `period`-th layer,
// counted from 1. Null where the number of layers makes no sense.
nlohmann::ordered_json FullEvery(const nlohmann::ordered_json& config, uint64_t period);

// Qwen's: sliding from layer max_window_layers on, if use_sliding_window says so.
nlohmann::ordered_json SlidingFromMaxWindowLayers(const nlohmann::ordered_json& config);
// A window that use_sliding_window does not want is none: transformers 5 writes it so.
void DropUnusedWindow(nlohmann::ordered_json* config);

}  // namespace sluice::checkpoint::architectures
