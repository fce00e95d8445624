// Values of config keys that several architectures compute from others. Each gets a config with fixed defaults filled
// in.
#pragma once

#include <nlohmann/json.hpp>

namespace sluice::checkpoint::architectures {

nlohmann::ordered_json AsManyAsHeads(const nlohmann::ordered_json& config);  // num_attention_heads
// Of num_key_value_heads: `absent` where it is, num_attention_heads where it is null.
nlohmann::ordered_json AsManyAsHeadsWhereNull(const nlohmann::ordered_json& config, int absent);
nlohmann::ordered_json HiddenByHeads(const nlohmann::ordered_json& config);  // hidden_size / heads, rounded down

// layer_types, one for each of num_hidden_layers: "sliding_attention", or "full_attention" for every `period`-th layer,
// counted from 1. Null where the number of layers makes no sense.
nlohmann::ordered_json FullEvery(const nlohmann::ordered_json& config, uint64_t period);

// Qwen's: sliding from layer max_window_layers on, if use_sliding_window says so.
nlohmann::ordered_json SlidingFromMaxWindowLayers(const nlohmann::ordered_json& config);
// A window that use_sliding_window does not want is none: transformers 5 writes it so.
void DropUnusedWindow(nlohmann::ordered_json* config);

}  // namespace sluice::checkpoint::architectures
