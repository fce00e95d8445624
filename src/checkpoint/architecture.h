// Architecture: what a family of models consists of, as data: its config's defaults and its tensors with their shapes.
// One file in checkpoint/architectures adds one; the build finds it. From it come the parameters that a config
// predicts, what a folder lacks, the parts of a model, and, of those that the forward pass runs, the canonical config
// and what the pass does (infer/model_spec.h). Those that it does not run yet have no steps, only named tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace sluice::checkpoint {

class ModelConfig;

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

// What of a model a tensor belongs to. kMixer: what a state-space model has in place of attention.
enum class Part { kEmbedding, kAttention, kMixer, kMlp, kExperts, kNorms, kHead, kOther };
Part PartOf(Step step);

// A tensor of an architecture that is known, but not run.
struct PartRule {
  Part part;
  // "*" stands for the layer's number, "{KEY}" for a number from 0 to below that size of the config, "^" at the
  // beginning for the prefix of the model's class.
  std::string_view name;
  // Dimensions, each a sum of products of sizes of the config and whole numbers: "3*n_embd, n_embd".
  std::string_view shape;
  // Empty: always there. "KEY" and "!KEY": where that flag of the config is true, or is not. "KEY=TEXT": where its
  // value is TEXT; of a list with an entry for each layer, in those layers. "?": may be there, and mostly is not.
  std::string_view when = {};
};

// A class of transformers, and what its tensors are named by: GPT2LMHeadModel stores "transformer.wte.weight",
// GPT2Model "wte.weight". Files of either are read as both.
struct ModelClass {
  std::string_view name, prefix;
  std::span<const PartRule> tensors;  // beside those of the architecture
};

// What files of an older release call what the table calls otherwise: endings of names.
struct OldEnding {
  std::string_view old_ending, ending;
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

// What stands in place of steps where the forward pass does not run an architecture.
struct Outline {
  std::span<const PartRule> tensors;
  std::string_view lacks;                          // what the forward pass would need, for its refusal
  std::span<const ModelClass> classes = {};        // empty: the architecture's name is the only one, without a prefix
  std::span<const std::string_view> buffers = {};  // endings of names that old files have, which every loader ignores
  std::span<const OldEnding> old_endings = {};
  bool caches_keys = true;  // keys and values of the tokens seen; a mixer and an encoder do not
};

struct Architecture {
  std::string_view name;        // of config.json's architectures
  std::string_view model_type;  // whose defaults are these
  // model_type of the architecture that computes the same from the same tensors under other names: what `convert --to`
  // makes of it (checkpoint/renamed_checkpoint.h). Empty: none.
  std::string_view renames_to = {};
  // Of an architecture that runs: all that change the model, as the canonical config has them, but for rope_theta. Of
  // another: sizes and flags alone, which the canonical config leaves as they are, and names of our own for what
  // follows from several keys.
  std::span<const ConfigDefault> defaults;
  double rope_theta = 10000;                 // part of rope_parameters
  double sliding_rope_theta = 0;             // of sliding layers, where they have one of their own
  std::span<const TensorRule> tensors = {};  // empty: known, but not run; see ...
  Traits traits = {};
  // The last step of the canonical config, after defaults: writes what releases of transformers spell differently in
  // one way. May be null.
  void (*settle)(nlohmann::ordered_json* config) = nullptr;
  Outline outline = {};  // ... this

  bool runs() const { return !tensors.empty(); }
};

inline constexpr uint64_t kMaxLayers = 4096;  // no list is made for a config that claims more

// Null where there is none. The name is that of any of its classes.
const Architecture* ArchitectureByName(std::string_view name);
const Architecture* ArchitectureByModelType(std::string_view model_type);
std::vector<const Architecture*> AllArchitectures();
std::vector<std::string_view> ArchitectureNames();  // of those that the forward pass runs

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

// Whether it is a buffer that old releases stored among the weights, and every loader ignores. `known` may be null.
bool IsKnownBuffer(const Architecture* known, std::string_view tensor);

}  // namespace sluice::checkpoint
