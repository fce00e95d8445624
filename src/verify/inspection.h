// Inspection: what a checkpoint is, from headers and JSON alone.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "tokenizer/tokenizer_summary.h"
#include "verify/model_parts.h"

namespace sluice::verify {

struct TensorShare {
  uint64_t tensors = 0, elements = 0, bytes = 0;
};

// Sizes as the config says them, defaults of an architecture that we know included; nullopt: it does not say.
struct ModelShape {
  std::optional<uint64_t> layers, hidden, ffn, heads, kv_heads, head_dim, vocab, context;
  std::optional<uint64_t> experts, experts_per_token, expert_ffn;
  std::optional<uint64_t> window;  // of sliding attention, in ...
  uint64_t sliding_layers = 0;     // ... so many layers
  // Keys and values of a token in all layers, two bytes a number; 0 where the architecture keeps none (Mamba, BERT);
  // nullopt too where it is known to keep something else (multi-head latent attention).
  std::optional<uint64_t> kv_bytes_per_token;
};

struct Inspection {
  std::string ref, kind;         // "safetensors", "pytorch", "gguf", "recipe"
  std::string architecture;      // as the config names it; empty: unknown
  bool parts_by_names = false;   // the architecture is not known to us
  bool layers_by_names = false;  // the config does not say
  uint64_t parameters = 0;       // counted from headers
  std::optional<uint64_t> parameters_from_config;
  uint64_t tensors = 0, bytes = 0;
  std::map<std::string, TensorShare> encodings;
  std::map<Part, TensorShare> parts;  // those that the model has
  ModelShape shape;
  std::optional<tokenizer::TokenizerSummary> tokenizer;
  std::string chat_template;  // where it stands; empty: nowhere
  std::vector<checkpoint::Checkpoint::File> files;
  std::vector<std::string> side_files;
  std::vector<std::string> tied;  // not stored: the config says that they are the embedding
  std::vector<checkpoint::Problem> problems;
};

// Reads the tokenizer's files; what is wrong with them becomes a problem.
Inspection Inspect(const checkpoint::Checkpoint& checkpoint);

ModelShape ShapeOfModel(const checkpoint::ModelConfig& config);

}  // namespace sluice::verify
