#include "infer/model_spec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "base/units.h"
#include "checkpoint/architecture.h"
#include "checkpoint/canonical_config.h"
#include "infer/rope_spec.h"
#include "kernels/attention.h"

namespace sluice::infer {
namespace {

using checkpoint::Architecture;
using checkpoint::Dim;
using checkpoint::Step;
using checkpoint::TensorRule;
using checkpoint::Windows;
using nlohmann::ordered_json;

// A size beyond this is a mistake: the largest vocabularies have a million rows.
constexpr uint64_t kMaxSize = uint64_t{1} << 31;

// Where a step's product or norm is kept; null where the step is not one.
ProductSpec* ProductOf(Step step, LayerSpec* layer, ModelSpec* model) {
  AttentionSpec& attention = layer->attention;
  switch (step) {
    case Step::kQuery:
      return &attention.q;
    case Step::kKey:
      return &attention.k;
    case Step::kValue:
      return &attention.v;
    case Step::kFusedQkv:
      return &attention.qkv;
    case Step::kAttentionOutput:
      return &attention.o;
    case Step::kGate:
      return &layer->mlp.gate;
    case Step::kUp:
      return &layer->mlp.up;
    case Step::kFusedGateUp:
      return &layer->mlp.gate_up;
    case Step::kDown:
      return &layer->mlp.down;
    case Step::kHead:
      return &model->head;
    default:
      return nullptr;
  }
}

NormSpec* NormOf(Step step, LayerSpec* layer, ModelSpec* model) {
  switch (step) {
    case Step::kInputNorm:
      return &layer->input_norm;
    case Step::kQueryNorm:
      return &layer->attention.q_norm;
    case Step::kKeyNorm:
      return &layer->attention.k_norm;
    case Step::kPostAttentionNorm:
      return &layer->post_attention_norm;
    case Step::kMlpNorm:
      return &layer->mlp_norm;
    case Step::kPostMlpNorm:
      return &layer->post_mlp_norm;
    case Step::kFinalNorm:
      return &model->final_norm;
    default:
      return nullptr;
  }
}

class SpecReader {
 public:
  SpecReader(const Architecture& architecture, const checkpoint::ModelConfig& config)
      : architecture_(architecture),
        traits_(architecture.traits),
        config_(checkpoint::CompleteConfig(config.json())),
        keys_(config_) {}

  Result<ModelSpec> Read() {
    SLUICE_TRY(RefuseWhatIsNotComputed());
    SLUICE_TRY(ReadSizes());
    SLUICE_TRY(ReadNumbers());
    SLUICE_TRY(ReadWindows());
    SLUICE_TRY(ReadRopes());
    ModelSpec model;
    model.architecture = architecture_.name;
    model.vocab = sizes_.vocab;
    model.hidden = sizes_.hidden;
    model.max_positions = max_positions_;
    if (traits_.scales_embeddings) model.embedding_scale = std::sqrt(static_cast<float>(sizes_.hidden));
    model.ropes = ropes_;
    model.tied = sizes_.tied;
    model.final_softcap = final_softcap_;
    model.layers.resize(sizes_.layers);
    for (uint64_t i = 0; i < sizes_.layers; ++i) FillLayer(i, &model);
    for (const TensorRule& rule : architecture_.tensors) {
      if (!checkpoint::IsPerLayer(rule)) FillStep(rule, 0, nullptr, &model);
    }
    if (model.tied) model.head = {model.embedding, "", sizes_.vocab, sizes_.hidden};
    return model;
  }

 private:
  Result<void> RefuseWhatIsNotComputed() {
    if (!keys_.At("quantization_config").is_null()) {
      return Fail(ErrorCode::kUnsupported,
                  "quantization_config: weights in this form are not supported yet; give the model that it was made "
                  "from, or a GGUF of it");
    }
    if (const ordered_json& both_ways = keys_.At("use_bidirectional_attention");
        both_ways.is_boolean() && both_ways.get<bool>()) {
      return Fail(ErrorCode::kUnsupported, "use_bidirectional_attention is true: only causal attention is supported");
    }
    return {};
  }

  Result<void> ReadSizes() {
    const std::pair<const char*, uint64_t*> sizes[] = {
        {"num_hidden_layers", &sizes_.layers},  {"vocab_size", &sizes_.vocab},
        {"hidden_size", &sizes_.hidden},        {"intermediate_size", &sizes_.ffn},
        {"num_attention_heads", &sizes_.heads}, {"num_key_value_heads", &sizes_.kv_heads},
        {"head_dim", &sizes_.head_dim},         {"max_position_embeddings", &max_positions_}};
    for (const auto& [key, size] : sizes) {
      SLUICE_ASSIGN(*size, keys_.Size(key, size == &sizes_.head_dim ? kernels::kAttentionMaxHeadDim : kMaxSize));
    }
    if (sizes_.head_dim % 2 != 0) return keys_.Wrong("head_dim", "an even number is wanted");
    if (sizes_.layers > checkpoint::kMaxLayers) {
      return keys_.Wrong("num_hidden_layers", fmt::format("more than {} layers", FormatCount(checkpoint::kMaxLayers)));
    }
    if (sizes_.heads % sizes_.kv_heads != 0) {
      return keys_.Wrong("num_key_value_heads",
                         fmt::format("it must divide num_attention_heads, which is {}", sizes_.heads));
    }
    for (const auto& [key, flag] :
         {std::pair("tie_word_embeddings", &sizes_.tied), std::pair("attention_bias", &sizes_.attention_bias),
          std::pair("mlp_bias", &sizes_.mlp_bias)}) {
      const ordered_json& value = keys_.At(key);
      if (!value.is_null() && !value.is_boolean()) return keys_.Wrong(key, "true or false is wanted");
      *flag = value.is_boolean() && value.get<bool>();
    }
    for (const TensorRule& rule : architecture_.tensors) {
      if (!checkpoint::ShapeOf(rule, sizes_)) {
        return Fail(ErrorCode::kCorrupt,
                    fmt::format("{} would have more than 2^64 rows by num_attention_heads and head_dim", rule.name));
      }
    }
    return {};
  }

  Result<void> ReadNumbers() {
    SLUICE_ASSIGN(const double eps, keys_.Positive("rms_norm_eps"));
    eps_ = static_cast<float>(eps);
    auto divisor = static_cast<double>(sizes_.head_dim);
    if (!traits_.attention_scale_key.empty()) {
      SLUICE_ASSIGN(divisor, keys_.Positive(traits_.attention_scale_key));
    }
    scale_ = static_cast<float>(1 / std::sqrt(divisor));
    SLUICE_ASSIGN(attention_softcap_, Softcap(traits_.attention_softcap_key));
    SLUICE_ASSIGN(final_softcap_, Softcap(traits_.final_softcap_key));

    const ordered_json& activation = keys_.At(traits_.activation_key);
    if (!activation.is_string()) return keys_.Wrong(traits_.activation_key, "the name of an activation is wanted");
    const auto& name = activation.get_ref<const std::string&>();
    if (name == "silu" || name == "swish") {
      activation_ = Activation::kSilu;
    } else if (name == "gelu_pytorch_tanh" || name == "gelu_new") {  // one formula
      activation_ = Activation::kGeluTanh;
    } else {
      return Fail(ErrorCode::kUnsupported,
                  fmt::format("{} is {}: silu and gelu_pytorch_tanh are supported, others not yet",
                              traits_.activation_key, activation.dump()));
    }
    return {};
  }

  Result<float> Softcap(std::string_view key) {
    if (key.empty() || keys_.At(key).is_null()) return 0.0f;
    SLUICE_ASSIGN(const double cap, keys_.Positive(key));
    return static_cast<float>(cap);
  }

  // windows_ and slides_, one for each layer.
  Result<void> ReadWindows() {
    windows_.assign(sizes_.layers, 0);
    slides_.assign(sizes_.layers, false);
    if (traits_.windows == Windows::kNone) return {};
    const bool has_window = !keys_.At("sliding_window").is_null();
    uint64_t window = 0;
    if (has_window) {
      SLUICE_ASSIGN(window, keys_.Size("sliding_window", kMaxSize));
    }
    if (traits_.windows == Windows::kEvery) {
      windows_.assign(sizes_.layers, window);
      slides_.assign(sizes_.layers, has_window);
      return {};
    }
    const ordered_json& types = keys_.At("layer_types");
    if (!types.is_array() || types.size() != sizes_.layers) {
      return Fail(
          ErrorCode::kCorrupt,
          fmt::format("layer_types {}, but num_hidden_layers is {}: one type for each layer is wanted",
                      types.is_array() ? fmt::format("has {} entries", types.size()) : "is no list", sizes_.layers));
    }
    for (uint64_t i = 0; i < sizes_.layers; ++i) {
      if (types[i] == "full_attention") continue;
      if (types[i] != "sliding_attention") {
        return Fail(ErrorCode::kUnsupported,
                    fmt::format("layer_types[{}] is {}: full_attention and sliding_attention are supported, others not "
                                "yet",
                                i, types[i].dump()));
      }
      slides_[i] = true;
      windows_[i] = window;
    }
    return {};
  }

  Result<void> ReadRopes() {
    const ordered_json& rope = keys_.At("rope_parameters");
    const RopeContext context{sizes_.head_dim, max_positions_, traits_.partial_rotary};
    if (architecture_.sliding_rope_theta == 0) {
      SLUICE_ASSIGN(RopeSpec spec, ReadRopeSpec(rope, "rope_parameters", context));
      ropes_.push_back(std::move(spec));
      return {};
    }
    for (const char* type : {"full_attention", "sliding_attention"}) {
      SLUICE_ASSIGN(RopeSpec spec,
                    ReadRopeSpec(ConfigKeys(rope).At(type), fmt::format("rope_parameters.{}", type), context));
      ropes_.push_back(std::move(spec));
    }
    return {};
  }

  void FillLayer(uint64_t i, ModelSpec* model) {
    LayerSpec& layer = model->layers[i];
    AttentionSpec& attention = layer.attention;
    attention.heads = sizes_.heads;
    attention.kv_heads = sizes_.kv_heads;
    attention.head_dim = sizes_.head_dim;
    attention.window = windows_[i];
    attention.scale = scale_;
    attention.softcap = attention_softcap_;
    attention.rope = slides_[i] && ropes_.size() > 1 ? 1 : 0;
    layer.mlp.activation = activation_;
    layer.mlp.ffn = sizes_.ffn;
    for (const TensorRule& rule : architecture_.tensors) {
      if (checkpoint::IsPerLayer(rule)) FillStep(rule, i, &layer, model);
    }
  }

  // `layer` is null for tensors outside layers.
  void FillStep(const TensorRule& rule, uint64_t number, LayerSpec* layer, ModelSpec* model) {
    if (!checkpoint::IsWanted(rule, sizes_)) return;
    std::string name = checkpoint::NameOf(rule, number);
    const std::vector<uint64_t> shape = *checkpoint::ShapeOf(rule, sizes_);
    LayerSpec outside;
    LayerSpec* const place = layer != nullptr ? layer : &outside;
    if (ProductSpec* product = ProductOf(rule.step, place, model)) {
      if (rule.columns == Dim::kNone) {
        product->bias = std::move(name);
      } else {
        product->weight = std::move(name);
        product->out = shape[0];
        product->in = shape[1];
      }
    } else if (NormSpec* norm = NormOf(rule.step, place, model)) {
      *norm = {std::move(name), shape[0], eps_, traits_.norms_add_one};
    } else {
      SLUICE_CHECK(rule.step == Step::kEmbedding);
      model->embedding = std::move(name);
    }
  }

  const Architecture& architecture_;
  const checkpoint::Traits& traits_;
  const ordered_json config_;
  const ConfigKeys keys_;
  checkpoint::ModelSizes sizes_;
  uint64_t max_positions_ = 0;
  float eps_ = 0, scale_ = 0, attention_softcap_ = 0, final_softcap_ = 0;
  Activation activation_ = Activation::kSilu;
  std::vector<uint64_t> windows_;
  std::vector<bool> slides_;
  std::vector<RopeSpec> ropes_;
};

void Append(const ProductSpec& product, std::vector<std::string>* names) {
  if (!product.weight.empty()) names->push_back(product.weight);
  if (!product.bias.empty()) names->push_back(product.bias);
}

void Append(const NormSpec& norm, std::vector<std::string>* names) {
  if (!norm.weight.empty()) names->push_back(norm.weight);
}

}  // namespace

Result<ModelSpec> SpecOf(const checkpoint::ModelConfig& config) {
  const Architecture* known = checkpoint::ArchitectureOf(config);
  if (known == nullptr) {
    const std::string name = config.architecture();
    return Fail(ErrorCode::kUnsupported,
                fmt::format("config.json: {}: sluice cannot run this architecture yet. It runs {}; another one needs a "
                            "file in src/checkpoint/architectures (docs/architectures.md)",
                            name.empty() ? "neither architectures nor model_type names an architecture" : name,
                            fmt::join(checkpoint::ArchitectureNames(), ", ")));
  }
  if (!known->runs()) {
    return Fail(ErrorCode::kUnsupported, fmt::format("config.json: {}: sluice cannot run this architecture yet: it "
                                                     "would need {} (docs/architectures.md). It runs {}",
                                                     config.architecture(), known->outline.lacks,
                                                     fmt::join(checkpoint::ArchitectureNames(), ", ")));
  }
  // Defaults go by model_type, tensors by architectures: they must be of one kind.
  if (checkpoint::DefaultsOf(config.json()) != known) {
    return Fail(ErrorCode::kCorrupt,
                fmt::format("config.json: architectures says {}, whose model_type is \"{}\", but model_type is \"{}\"",
                            known->name, known->model_type, config.GetString("model_type")));
  }
  auto spec = SpecReader(*known, config).Read();
  if (!spec) return Fail(std::move(spec.error()).In("config.json"));
  return spec;
}

std::vector<std::string> TensorsOf(const LayerSpec& layer) {
  std::vector<std::string> names;
  Append(layer.input_norm, &names);
  const AttentionSpec& attention = layer.attention;
  for (const ProductSpec* product : {&attention.q, &attention.k, &attention.v, &attention.qkv})
    Append(*product, &names);
  Append(attention.q_norm, &names);
  Append(attention.k_norm, &names);
  Append(attention.o, &names);
  Append(layer.post_attention_norm, &names);
  Append(layer.mlp_norm, &names);
  const MlpSpec& mlp = layer.mlp;
  for (const ProductSpec* product : {&mlp.gate, &mlp.up, &mlp.gate_up, &mlp.down}) Append(*product, &names);
  Append(layer.post_mlp_norm, &names);
  return names;
}

std::vector<std::string> TensorsOutsideLayers(const ModelSpec& spec) {
  std::vector<std::string> names = {spec.embedding};
  Append(spec.final_norm, &names);
  if (!spec.tied) Append(spec.head, &names);
  return names;
}

}  // namespace sluice::infer
