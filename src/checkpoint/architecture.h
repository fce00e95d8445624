// Architecture: what a family of models consists of, as data: its config's defaults and its tensors with their shapes.
// One file in checkpoint/architectures adds one; the build finds it. From it come the parameters that a config
// predicts, what a folder lacks, the canonical config, and what the forward pass does (infer/model_spec.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/catalogue.h"

namespace sluice::checkpoint {

class ModelConfig;
struct Problem;

// A dimension of a tensor, by its meaning. kQuery: heads x head_dim; kKeyValue: kv heads x head_dim; kFused...: what
// one tensor has of several, one below the other.
enum class Dim { kNone, kVocab, kHidden, kFfn, kQuery, kKeyValue, kHeadDim, kFusedQkv, kFusedGateUp };
enum class When { kAlways, kUntied, kAttentionBias, kMlpBias };

// The step of the forward pass that a tensor serves, in the order of the pass.
enum class Step {
  kEmbedding,
  kInputNorm,
  kQuery,
  kKey,
  kValue,
  kFusedQkv,
  kQueryNorm,
  kKeyNorm,
  kAttentionOutput,
  kPostAttentionNorm,  // of what attention gives, before it is added
  kMlpNorm,
  kGate,
  kUp,
  kFusedGateUp,
  kDown,
  kPostMlpNorm,  // likewise
  kFinalNorm,
  kHead
};

struct TensorRule {
  Step step;              // of a product: its weight if it has columns, else its bias
  std::string_view name;  // "*" stands for the layer's number
  Dim rows = Dim::kNone, columns = Dim::kNone;
  When when = When::kAlways;
};

struct ConfigDefault {
  std::string_view key;
  std::string_view json;  // what a config without the key means; empty where it is derived:
  // from a config that has the fixed defaults filled in; null where it cannot be. Called where the key is missing or
  // null.
  nlohmann::ordered_json (*derive)(const nlohmann::ordered_json& config) = nullptr;
};

enum class Windows {
  kNone,        // every layer sees all positions
  kEvery,       // every layer sees the last sliding_window of them, or all where that is null
  kLayerTypes,  // those that layer_types calls sliding_attention
};

// What a forward pass does that its tensors' names do not show. A key here is one of the config's; empty: none.
struct Traits {
  std::string_view activation_key = "hidden_act";
  bool norms_add_one = false;                 // x * (1 + w)
  bool scales_embeddings = false;             // by the square root of hidden_size
  std::string_view attention_scale_key = {};  // scores are divided by the root of its value; empty: of head_dim
  std::string_view attention_softcap_key = {}, final_softcap_key = {};
  Windows windows = Windows::kNone;
  bool partial_rotary = false;  // knows partial_rotary_factor

  bool operator==(const Traits&) const = default;
};

struct Architecture {
  std::string_view name;        // of config.json's architectures
  std::string_view model_type;  // whose defaults are these
  // model_type of the architecture that computes the same from the same tensors under other names: what `convert --to`
  // makes of it (checkpoint/renamed_checkpoint.h). Empty: none.
  std::string_view renames_to = {};
  std::span<const ConfigDefault> defaults;  // without rope_theta, which is part of ...
  double rope_theta = 10000;                // ... rope_parameters
  double sliding_rope_theta = 0;            // of sliding layers, where they have one of their own
  std::span<const TensorRule> tensors;
  Traits traits = {};
  // The last step of the canonical config, after defaults: writes what releases of transformers spell differently in
  // one way. May be null.
  void (*settle)(nlohmann::ordered_json* config) = nullptr;
};

inline constexpr uint64_t kMaxLayers = 4096;  // no list is made for a config that claims more

// Null where there is none.
const Architecture* ArchitectureByName(std::string_view name);
const Architecture* ArchitectureByModelType(std::string_view model_type);
std::vector<std::string_view> ArchitectureNames();

// By architectures[0] of the config, or by its model_type where it names none.
const Architecture* ArchitectureOf(const ModelConfig& config);

// A whole number of 0 or more, however it is written (4096, 4096.0); nullopt for anything else.
std::optional<uint64_t> WholeNumber(const nlohmann::ordered_json& value);

// Sizes by their meaning, of a config with the architecture's defaults; nullopt where one is missing or not a number.
struct ModelSizes {
  uint64_t layers = 0, vocab = 0, hidden = 0, ffn = 0, heads = 0, kv_heads = 0, head_dim = 0;
  bool tied = false, attention_bias = false, mlp_bias = false;
};
std::optional<ModelSizes> SizesOf(const ModelConfig& config);

bool IsPerLayer(const TensorRule& rule);
std::string NameOf(const TensorRule& rule, uint64_t layer);  // of the tensor in that layer, from 0
// Rows and columns of a rule's tensor; nullopt where they do not fit in 64 bits.
std::optional<std::vector<uint64_t>> ShapeOf(const TensorRule& rule, const ModelSizes& sizes);
bool IsWanted(const TensorRule& rule, const ModelSizes& sizes);

// Compares what the config predicts with what is there, and appends what differs: tensors missing, of another shape, or
// not known to the architecture, one problem for each kind; a note for a head that is tied. Nothing for unknown
// architectures and for quantised checkpoints. O(tensors log tensors), whatever the config says.
void CompareWithConfig(const ModelConfig& config, const Catalogue& tensors, const std::string& file,
                       std::vector<Problem>* problems);

}  // namespace sluice::checkpoint
