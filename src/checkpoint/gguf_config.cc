#include "checkpoint/gguf_config.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/check.h"
#include "checkpoint/gguf_keys.h"

namespace sluice::checkpoint {
namespace {

using formats::GgufFile;
using formats::GgufKey;
using formats::GgufTensor;
using formats::GgufType;
using nlohmann::ordered_json;

constexpr std::array<GgufArchitecture, 6> kArchitectures = {{
    {"llama", "LlamaForCausalLM", true},
    {"qwen2", "Qwen2ForCausalLM"},
    {"qwen3", "Qwen3ForCausalLM"},
    {"gemma2", "Gemma2ForCausalLM"},
    {"gemma3", "Gemma3ForCausalLM"},
    {"phi3", "Phi3ForCausalLM"},
}};

// Keys under the prefix that are read below or in gguf_rope.cc. Any other is reported, since it may change what the
// model computes.
constexpr std::array<std::string_view, 27> kKnownKeys = {"attention.head_count",
                                                         "attention.head_count_kv",
                                                         "attention.key_length",
                                                         "attention.layer_norm_rms_epsilon",
                                                         "attention.sliding_window",
                                                         "attention.value_length",
                                                         "attn_logit_softcapping",
                                                         "block_count",
                                                         "context_length",
                                                         "embedding_length",
                                                         "expert_count",
                                                         "expert_used_count",
                                                         "feed_forward_length",
                                                         "final_logit_softcapping",
                                                         "rope.dimension_count",
                                                         "rope.freq_base",
                                                         "rope.freq_base_swa",
                                                         "rope.scale_linear",
                                                         "rope.scaling.attn_factor",
                                                         "rope.scaling.factor",
                                                         "rope.scaling.finetuned",
                                                         "rope.scaling.original_context_length",
                                                         "rope.scaling.type",
                                                         "rope.scaling.yarn_attn_factor",
                                                         "rope.scaling.yarn_beta_fast",
                                                         "rope.scaling.yarn_beta_slow",
                                                         "vocab_size"};

// general.architecture, as one that is known.
Result<const GgufArchitecture*> ReadArchitecture(const GgufFile& file) {
  const std::string& path = file.source()->name();
  SLUICE_ASSIGN(const std::optional<std::string> name, file.GetString("general.architecture"));
  if (!name) {
    return Fail(Error{ErrorCode::kCorrupt,
                      "the key is missing, so it is not known what the tensors are for; convert the model again",
                      {path, "general.architecture"}});
  }
  std::string known;
  for (const GgufArchitecture& architecture : kArchitectures) {
    if (architecture.name == *name) return &architecture;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", architecture.name);
  }
  const bool printable =
      name->size() <= 64 && std::all_of(name->begin(), name->end(), [](char c) { return c > 0x20 && c < 0x7f; });
  return Fail(Error{ErrorCode::kUnsupported,
                    fmt::format("the architecture '{}' is not supported yet; of GGUF files these are: {}",
                                printable ? *name : "?", known),
                    {path, "general.architecture"}});
}

class Reader {
 public:
  Reader(const GgufParts& parts, const GgufArchitecture& gguf, std::vector<Problem>* problems)
      : file_(parts.head()),
        tensors_(parts.tensors()),
        gguf_(gguf),
        architecture_(*ArchitectureByName(gguf.hugging_face)),
        keys_(parts, gguf.name, problems) {}

  Result<GgufModel> Read() {
    SLUICE_TRY(CheckGeneral());
    SLUICE_TRY(ReadSizes());
    // A map: config.json's keys come sorted.
    config_["architectures"] = ordered_json::array({std::string(architecture_.name)});
    config_["model_type"] = std::string(architecture_.model_type);
    SLUICE_TRY(AddSizes());
    SLUICE_TRY(AddTokens());
    AddBiases();
    SLUICE_TRY(AddAttention());
    AddDtype();
    ordered_json config = ordered_json::object();
    for (auto& [key, value] : config_) config[key] = value;
    SLUICE_TRY(AddRopeConfig(keys_, rotary_dim_, context_length_, &config));
    for (const auto& [key, value] : config.items()) config_[key] = value;
    SLUICE_TRY(AddVocabulary());
    ReportUnknownKeys();
    GgufModel model{&gguf_, &architecture_, sizes_, ordered_json::object()};
    for (auto& [key, value] : config_) model.config[key] = std::move(value);
    return model;
  }

 private:
  Result<void> CheckGeneral() const {
    SLUICE_ASSIGN(const std::optional<uint64_t> version, file_.GetUnsigned("general.quantization_version"));
    const bool blocks =
        std::ranges::any_of(tensors_, [](const auto& tensor) { return tensor.info->encoding.is_block(); });
    if (blocks && version.value_or(2) != 2) {
      return Fail(
          Error{ErrorCode::kUnsupported,
                fmt::format("is {}, but blocks are decoded as of version 2; quantise the model again", *version),
                {file_.source()->name(), "general.quantization_version"}});
    }
    SLUICE_ASSIGN(const std::optional<uint64_t> experts, file_.GetUnsigned(keys_.Full("expert_count")));
    if (experts.value_or(0) > 0) {
      return keys_.Wrong("expert_count", fmt::format("is {}: mixtures of experts are not supported yet", *experts),
                         ErrorCode::kUnsupported);
    }
    return {};
  }

  Result<void> ReadSizes() {
    SLUICE_ASSIGN(sizes_.layers, keys_.Size("block_count"));
    SLUICE_ASSIGN(sizes_.hidden, keys_.Size("embedding_length"));
    SLUICE_ASSIGN(sizes_.ffn, keys_.Size("feed_forward_length"));
    SLUICE_ASSIGN(sizes_.heads, keys_.Size("attention.head_count"));
    SLUICE_ASSIGN(sizes_.kv_heads, keys_.Size("attention.head_count_kv", sizes_.heads));
    SLUICE_ASSIGN(context_length_, keys_.Size("context_length"));
    SLUICE_TRY(CheckHeads());
    if (sizes_.layers > tensors_.size()) {
      return keys_.Wrong("block_count",
                         fmt::format("is {}, but the file has {} tensors", sizes_.layers, tensors_.size()));
    }
    return {};
  }

  Result<void> CheckHeads() {
    if (!keys_.Has("attention.key_length") && sizes_.hidden % sizes_.heads != 0) {
      return keys_.Wrong("attention.head_count",
                         fmt::format("is {}, which does not divide embedding_length {}; convert the model again",
                                     sizes_.heads, sizes_.hidden));
    }
    SLUICE_ASSIGN(sizes_.head_dim,
                  keys_.Size("attention.key_length", std::max<uint64_t>(sizes_.hidden / sizes_.heads, 1)));
    SLUICE_ASSIGN(const uint64_t value_length, keys_.Size("attention.value_length", sizes_.head_dim));
    if (value_length != sizes_.head_dim) {
      return keys_.Wrong("attention.value_length",
                         fmt::format("is {}, but keys have {}; heads of two sizes are not supported yet", value_length,
                                     sizes_.head_dim),
                         ErrorCode::kUnsupported);
    }
    if (sizes_.heads % sizes_.kv_heads != 0) {
      return keys_.Wrong("attention.head_count_kv",
                         fmt::format("is {}, which does not divide head_count {}; convert the model again",
                                     sizes_.kv_heads, sizes_.heads));
    }
    if (sizes_.head_dim % 2 != 0) {
      return keys_.Wrong(
          "attention.head_count",
          fmt::format("makes heads of {} numbers, but rotary embedding needs an even number; convert the model again",
                      sizes_.head_dim));
    }
    SLUICE_ASSIGN(rotary_dim_, keys_.Size("rope.dimension_count", sizes_.head_dim));
    if (rotary_dim_ == sizes_.head_dim) return {};
    if (!architecture_.traits.partial_rotary) {
      return keys_.Wrong("rope.dimension_count",
                         fmt::format("is {}, but heads have {} numbers; rotating a part of them is not supported yet",
                                     rotary_dim_, sizes_.head_dim),
                         ErrorCode::kUnsupported);
    }
    if (rotary_dim_ > sizes_.head_dim || rotary_dim_ % 2 != 0) {
      return keys_.Wrong("rope.dimension_count", fmt::format("is {}, for heads of {} numbers; convert the model again",
                                                             rotary_dim_, sizes_.head_dim));
    }
    config_["partial_rotary_factor"] = static_cast<double>(rotary_dim_) / static_cast<double>(sizes_.head_dim);
    return {};
  }

  Result<void> AddSizes() {
    config_["hidden_size"] = sizes_.hidden;
    config_["intermediate_size"] = sizes_.ffn;
    config_["max_position_embeddings"] = context_length_;
    config_["num_attention_heads"] = sizes_.heads;
    config_["num_hidden_layers"] = sizes_.layers;
    config_["num_key_value_heads"] = sizes_.kv_heads;
    // Written where the class has a default of its own, and where it is not what the other sizes imply.
    const auto of_class = std::ranges::find(architecture_.defaults, "head_dim", &ConfigDefault::key);
    const bool derived = of_class != architecture_.defaults.end() && of_class->json.empty();
    if (!derived || sizes_.head_dim * sizes_.heads != sizes_.hidden) config_["head_dim"] = sizes_.head_dim;
    SLUICE_ASSIGN(const std::optional<double> eps, keys_.Number("attention.layer_norm_rms_epsilon"));
    if (!eps) return keys_.Missing("attention.layer_norm_rms_epsilon");
    config_["rms_norm_eps"] = *eps;
    return {};
  }

  Result<void> AddTokens() {
    for (const auto& [config_key, key] : {std::pair{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                          std::pair{"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                          std::pair{"pad_token_id", "tokenizer.ggml.padding_token_id"}}) {
      SLUICE_ASSIGN(const std::optional<uint64_t> id, file_.GetUnsigned(key));
      if (id) config_[config_key] = *id;
    }
    return {};
  }

  // Of architectures that may have them or not: where the file has them.
  void AddBiases() {
    const auto has = [&](std::string_view ending) {
      return std::ranges::any_of(tensors_, [&](const auto& tensor) { return tensor.info->name.ends_with(ending); });
    };
    const auto may_have = [&](When when) {
      return std::ranges::find(architecture_.tensors, when, &TensorRule::when) != architecture_.tensors.end();
    };
    sizes_.attention_bias = may_have(When::kAttentionBias) && (has(".attn_q.bias") || has(".attn_output.bias"));
    sizes_.mlp_bias = may_have(When::kMlpBias) && has(".ffn_down.bias");
    if (sizes_.attention_bias) config_["attention_bias"] = true;
    if (sizes_.mlp_bias) config_["mlp_bias"] = true;
    sizes_.tied = keys_.FindTensor("output.weight") == nullptr;
    config_["tie_word_embeddings"] = sizes_.tied;
  }

  Result<void> AddAttention() {
    const Traits& traits = architecture_.traits;
    const std::string activation(traits.activation_key);
    config_[activation] = activation == "hidden_activation" ? "gelu_pytorch_tanh" : "silu";
    for (const auto& [key, name] : {std::pair{"attn_logit_softcapping", traits.attention_softcap_key},
                                    std::pair{"final_logit_softcapping", traits.final_softcap_key}}) {
      if (name.empty()) continue;
      SLUICE_ASSIGN(const std::optional<double> cap, keys_.Number(key));
      config_[std::string(name)] = cap && *cap > 0 ? ordered_json(*cap) : ordered_json(nullptr);
    }
    if (!traits.attention_scale_key.empty()) {
      // Not in the file: llama.cpp knows it by the number of layers (Gemma 2 and 3 of 27B), as here.
      const bool is_27b = sizes_.layers == (gguf_.name == "gemma2" ? 46 : 62);
      config_[std::string(traits.attention_scale_key)] = is_27b ? sizes_.hidden / sizes_.heads : sizes_.head_dim;
    }
    if (traits.windows == Windows::kNone || !keys_.Has("attention.sliding_window")) return {};
    SLUICE_ASSIGN(const std::optional<uint64_t> window, file_.GetUnsigned(keys_.Full("attention.sliding_window")));
    config_["sliding_window"] = *window > 0 ? ordered_json(*window) : ordered_json(nullptr);
    return {};
  }

  // The plain float that most of the weights are stored in. Blocks have no torch_dtype, and none is made up.
  void AddDtype() {
    uint64_t most = 0;
    quant::Encoding encoding;
    for (const quant::Encoding candidate : quant::AllEncodings()) {
      uint64_t elements = 0;
      for (const auto& tensor : tensors_) {
        elements += tensor.info->encoding == candidate ? tensor.info->num_elements : 0;
      }
      if (elements > most) most = elements, encoding = candidate;
    }
    if (encoding.valid() && (encoding == quant::F32() || encoding == quant::F16() || encoding == quant::BF16())) {
      config_["torch_dtype"] = quant::DtypeName(encoding);
    }
  }

  Result<void> AddVocabulary() {
    SLUICE_ASSIGN(const std::optional<uint64_t> claimed, file_.GetUnsigned(keys_.Full("vocab_size")));
    const GgufParts::Tensor* place = keys_.FindTensor("token_embd.weight");
    const GgufTensor* embedding = place != nullptr ? place->info : nullptr;
    const bool rows_known = embedding != nullptr && embedding->rank == 2;
    if (!rows_known && !claimed) return {};
    const uint64_t rows = rows_known ? embedding->dims[1] : *claimed;
    if (claimed && *claimed != rows) {
      keys_.Report(Problem::Severity::kWarning,
                   fmt::format("{} is {}, but the embedding has {} rows; the rows count", keys_.Full("vocab_size"),
                               *claimed, rows),
                   embedding->name);
    }
    const GgufKey* tokens = file_.FindKey("tokenizer.ggml.tokens");
    if (tokens != nullptr && tokens->type == GgufType::kArray && tokens->count != rows) {
      keys_.Report(Problem::Severity::kWarning,
                   fmt::format("tokenizer.ggml.tokens has {} tokens for a vocabulary of {}", tokens->count, rows));
    }
    config_["vocab_size"] = sizes_.vocab = rows;
    return {};
  }

  void ReportUnknownKeys() const {
    const std::string prefix = keys_.Full("");
    for (const GgufKey& key : file_.keys()) {
      std::string_view name = key.name;
      if (!name.starts_with(prefix)) continue;
      name.remove_prefix(prefix.size());
      if (std::find(kKnownKeys.begin(), kKnownKeys.end(), name) != kKnownKeys.end()) continue;
      keys_.Report(
          Problem::Severity::kWarning,
          fmt::format("the key {} is not known here and left out of config.json; it may change what the model computes",
                      key.name));
    }
  }

  const GgufFile& file_;
  const std::vector<GgufParts::Tensor>& tensors_;
  const GgufArchitecture& gguf_;
  const Architecture& architecture_;
  const GgufKeys keys_;
  ModelSizes sizes_;
  uint64_t rotary_dim_ = 0, context_length_ = 0;
  std::map<std::string, ordered_json> config_;
};

}  // namespace

const GgufArchitecture* GgufArchitectureFor(const Architecture& architecture) {
  // Llamas in all but name; a Mistral's window has no key in llama.cpp's llama.
  constexpr std::array<std::string_view, 2> kLlamas = {"MistralForCausalLM", "YiForCausalLM"};
  const bool is_llama = std::ranges::find(kLlamas, architecture.name) != kLlamas.end();
  const auto found = std::ranges::find(kArchitectures, is_llama ? "LlamaForCausalLM" : architecture.name,
                                       &GgufArchitecture::hugging_face);
  return found == kArchitectures.end() ? nullptr : &*found;
}

Result<GgufModel> ReadGgufModel(const GgufParts& parts, std::vector<Problem>* problems) {
  SLUICE_ASSIGN(const GgufArchitecture* architecture, ReadArchitecture(parts.head()));
  return Reader(parts, *architecture, problems).Read();
}

}  // namespace sluice::checkpoint
