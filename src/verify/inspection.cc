#include "verify/inspection.h"

#include <algorithm>
#include <initializer_list>

#include <fmt/format.h>

#include "base/units.h"
#include "checkpoint/expected_tensors.h"

namespace sluice::verify {
namespace {

using checkpoint::ModelConfig;
using checkpoint::Problem;
using nlohmann::ordered_json;

std::optional<uint64_t> FirstOf(const ModelConfig& config, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    if (const auto value = config.GetInt(key)) return value;
  }
  return std::nullopt;
}

std::optional<uint64_t> Multiply(std::optional<uint64_t> a, std::optional<uint64_t> b) {
  if (!a || !b) return std::nullopt;
  const auto product = CheckedMultiply(*a, *b, "");
  return product ? std::optional(*product) : std::nullopt;
}

// Layers that see a window only: by the canonical config, which has what releases of transformers spell differently in
// one way, where the architecture's defaults are in it.
void FindWindows(const ModelConfig& config, ModelShape* shape) {
  const checkpoint::Architecture* known = checkpoint::ArchitectureOf(config);
  const ordered_json canonical = ordered_json::parse(config.Canonical(), nullptr, /*allow_exceptions=*/false);
  const auto value = [&](const char* key) {
    if (known != nullptr && !known->runs()) return config.Value(key);
    return canonical.is_object() && canonical.contains(key) ? canonical[key] : ordered_json();
  };
  shape->window = checkpoint::WholeNumber(value("sliding_window"));
  if (!shape->window) return;
  if (const ordered_json types = value("layer_types"); types.is_array()) {
    shape->sliding_layers = static_cast<uint64_t>(std::ranges::count(types, ordered_json("sliding_attention")));
  } else if (known != nullptr && known->traits.windows == checkpoint::Windows::kEvery) {
    shape->sliding_layers = shape->layers.value_or(0);
  }
  if (shape->sliding_layers == 0) shape->window.reset();
}

// Tensors that are not stored because the config ties them to the embedding.
std::vector<std::string> TiedTensors(const ModelConfig& config, const checkpoint::Catalogue& tensors) {
  std::vector<std::string> tied;
  if (const auto model = checkpoint::Expect(config)) {
    for (const checkpoint::ExpectedTensor& tensor : model->tensors) {
      if (tensor.presence == checkpoint::ExpectedTensor::Presence::kTied && !tensors.Find(tensor.name)) {
        tied.push_back(tensor.name);
      }
    }
  } else if (config.TiedEmbeddings() && !tensors.Find("lm_head.weight")) {
    tied.emplace_back("lm_head.weight");
  }
  return tied;
}

void InspectTokenizer(const checkpoint::Checkpoint& checkpoint, Inspection* inspection) {
  const auto problem = [&](const Error& error) {
    inspection->problems.push_back({Problem::Severity::kWarning, "", "", "the tokenizer: " + error.ToString()});
  };
  if (auto tokenizer = tokenizer::SummariseTokenizer(checkpoint)) {
    inspection->tokenizer = std::move(*tokenizer);
  } else {
    problem(tokenizer.error());
  }
  if (auto chat = tokenizer::FindChatTemplate(checkpoint)) {
    inspection->chat_template = std::move(*chat);
  } else {
    problem(chat.error());
  }
  const auto& vocab = inspection->shape.vocab;
  if (inspection->tokenizer && vocab && inspection->tokenizer->size > *vocab) {
    inspection->problems.push_back(
        {Problem::Severity::kWarning, inspection->tokenizer->file, "",
         fmt::format("the tokenizer has ids up to {}, the model's vocabulary ends at {}: it is another model's, or "
                     "tokens were added without rows for them",
                     inspection->tokenizer->size - 1, *vocab)});
  }
}

}  // namespace

ModelShape ShapeOfModel(const ModelConfig& config) {
  ModelShape shape;
  shape.layers = FirstOf(config, {"num_hidden_layers", "n_layer", "n_layers", "num_layers"});
  shape.hidden = FirstOf(config, {"hidden_size", "n_embd", "d_model"});
  shape.ffn = FirstOf(config, {"intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"});
  shape.heads = FirstOf(config, {"num_attention_heads", "n_head", "n_heads"});
  shape.kv_heads = FirstOf(config, {"num_key_value_heads", "num_kv_heads"});
  if (!shape.kv_heads) shape.kv_heads = shape.heads;
  shape.head_dim = FirstOf(config, {"head_dim"});
  if (!shape.head_dim && shape.hidden && shape.heads.value_or(0) > 0) shape.head_dim = *shape.hidden / *shape.heads;
  shape.vocab = FirstOf(config, {"vocab_size"});
  shape.context = FirstOf(config, {"max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"});
  shape.experts = FirstOf(config, {"num_local_experts", "num_experts", "n_routed_experts"});
  shape.experts_per_token = FirstOf(config, {"num_experts_per_tok", "num_experts_per_token"});
  if (shape.experts.value_or(0) > 0) {
    shape.expert_ffn = FirstOf(config, {"moe_intermediate_size", "intermediate_size"});
  }
  FindWindows(config, &shape);
  constexpr uint64_t kKeyAndValue = 2, kHalfBytes = 2;
  if (const auto* known = checkpoint::ArchitectureOf(config); known != nullptr && !known->outline.caches_keys) {
    shape.kv_bytes_per_token = 0;
  } else if (!config.GetInt("kv_lora_rank")) {
    shape.kv_bytes_per_token =
        Multiply(Multiply(shape.layers, shape.kv_heads), Multiply(shape.head_dim, kKeyAndValue * kHalfBytes));
  }
  return shape;
}

Inspection Inspect(const checkpoint::Checkpoint& checkpoint) {
  Inspection inspection;
  inspection.ref = checkpoint.ref();
  inspection.kind = checkpoint.kind();
  const checkpoint::Catalogue& tensors = checkpoint.tensors();
  const ModelConfig* config = checkpoint.config();
  const checkpoint::Architecture* known = config == nullptr ? nullptr : checkpoint::ArchitectureOf(*config);
  const ModelParts parts(known);
  inspection.parts_by_names = known == nullptr;
  inspection.tensors = tensors.size();
  inspection.parameters = tensors.total_elements();
  inspection.bytes = tensors.total_bytes();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const checkpoint::TensorInfo tensor = tensors[i];
    for (TensorShare* share :
         {&inspection.encodings[std::string(tensor.encoding.name())], &inspection.parts[parts.Of(tensor.name)]}) {
      ++share->tensors;
      share->elements += tensor.num_elements;
      share->bytes += tensor.size_bytes();
    }
  }
  if (config != nullptr) {
    inspection.architecture = config->architecture();
    inspection.parameters_from_config = config->PredictedParameters();
    inspection.shape = ShapeOfModel(*config);
    inspection.tied = TiedTensors(*config, tensors);
  }
  if (!inspection.shape.layers) {
    inspection.shape.layers = LayersByNames(tensors);
    inspection.layers_by_names = inspection.shape.layers.has_value();
  }
  inspection.files = checkpoint.files();
  for (const checkpoint::SideFile& file : checkpoint.side_files()) inspection.side_files.push_back(file.name);
  inspection.problems = checkpoint.problems();
  InspectTokenizer(checkpoint, &inspection);
  return inspection;
}

}  // namespace sluice::verify
