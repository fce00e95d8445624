#include "checkpoint/gguf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace sluice::checkpoint {
namespace {

using formats::GgufFile;
using formats::GgufKey;
using formats::GgufTensor;
using formats::GgufType;

constexpr std::string_view kPrefix = "llama.";
constexpr double kDefaultRopeTheta = 10000;  // what llama.cpp takes where the key is missing

// Keys under "llama." that are read below. Any other is reported, since it may change what the model computes.
constexpr std::array<std::string_view, 23> kKnownKeys = {"attention.head_count",
                                                         "attention.head_count_kv",
                                                         "attention.key_length",
                                                         "attention.layer_norm_rms_epsilon",
                                                         "attention.value_length",
                                                         "block_count",
                                                         "context_length",
                                                         "embedding_length",
                                                         "expert_count",
                                                         "expert_used_count",
                                                         "feed_forward_length",
                                                         "rope.dimension_count",
                                                         "rope.freq_base",
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

class Reader {
 public:
  Reader(const GgufFile& file, std::vector<Problem>* problems)
      : file_(file), path_(file.source()->name()), problems_(problems) {}

  Result<GgufLlama> Read() {
    SLUICE_TRY(CheckGeneral());
    GgufLlama model{};
    SLUICE_ASSIGN(model.num_layers, Size("block_count"));
    SLUICE_ASSIGN(model.hidden, Size("embedding_length"));
    SLUICE_ASSIGN(model.ffn, Size("feed_forward_length"));
    SLUICE_ASSIGN(model.num_heads, Size("attention.head_count"));
    SLUICE_ASSIGN(model.num_kv_heads, Size("attention.head_count_kv", model.num_heads));
    SLUICE_TRY(CheckHeads(&model));
    if (model.num_layers > file_.tensors().size()) {
      return Wrong("block_count",
                   fmt::format("is {}, but the file has {} tensors", model.num_layers, file_.tensors().size()));
    }

    auto& config = model.config = nlohmann::ordered_json::object();
    const auto has = [&](std::string_view ending) {
      return std::any_of(file_.tensors().begin(), file_.tensors().end(),
                         [&](const GgufTensor& tensor) { return tensor.name.ends_with(ending); });
    };
    config["architectures"] = nlohmann::ordered_json::array({"LlamaForCausalLM"});
    if (has(".attn_q.bias") || has(".attn_output.bias")) config["attention_bias"] = true;
    SLUICE_TRY(AddToken("bos_token_id", "tokenizer.ggml.bos_token_id", &config));
    SLUICE_TRY(AddToken("eos_token_id", "tokenizer.ggml.eos_token_id", &config));
    if (model.head_dim * model.num_heads != model.hidden) config["head_dim"] = model.head_dim;
    config["hidden_act"] = "silu";
    config["hidden_size"] = model.hidden;
    config["intermediate_size"] = model.ffn;
    SLUICE_ASSIGN(const uint64_t context, Size("context_length"));
    config["max_position_embeddings"] = context;
    if (has(".ffn_down.bias")) config["mlp_bias"] = true;
    config["model_type"] = "llama";
    config["num_attention_heads"] = model.num_heads;
    config["num_hidden_layers"] = model.num_layers;
    config["num_key_value_heads"] = model.num_kv_heads;
    SLUICE_TRY(AddToken("pad_token_id", "tokenizer.ggml.padding_token_id", &config));
    SLUICE_ASSIGN(const std::optional<double> eps, Number("attention.layer_norm_rms_epsilon"));
    if (!eps) return Missing("attention.layer_norm_rms_epsilon");
    config["rms_norm_eps"] = *eps;
    SLUICE_TRY(AddRope(&config));
    config["tie_word_embeddings"] = FindTensor("output.weight") == nullptr;
    AddDtype(&config);
    SLUICE_TRY(AddVocabulary(&config));
    ReportUnknownKeys();
    return model;
  }

 private:
  // Errors name file and key.
  tl::unexpected<Error> Wrong(std::string_view key, std::string message, ErrorCode code = ErrorCode::kCorrupt) const {
    return Fail(Error{code, std::move(message), {path_, fmt::format("{}{}", kPrefix, key)}});
  }
  tl::unexpected<Error> Missing(std::string_view key) const {
    return Wrong(key, "the key is missing, and nothing can stand for it; convert the model again");
  }
  void Report(Problem::Severity severity, std::string message, std::string tensor = {}) const {
    problems_->push_back(
        {severity, std::filesystem::path(path_).filename().string(), std::move(tensor), std::move(message)});
  }
  static std::string Full(std::string_view key) { return fmt::format("{}{}", kPrefix, key); }

  Result<void> CheckGeneral() const {
    SLUICE_ASSIGN(const std::optional<std::string> architecture, file_.GetString("general.architecture"));
    if (!architecture) {
      return Fail(Error{ErrorCode::kCorrupt,
                        "the key is missing, so it is not known what the tensors are for; convert the model again",
                        {path_, "general.architecture"}});
    }
    if (*architecture != "llama") {
      const bool printable = architecture->size() <= 64 && std::all_of(architecture->begin(), architecture->end(),
                                                                       [](char c) { return c > 0x20 && c < 0x7f; });
      return Fail(Error{ErrorCode::kUnsupported,
                        fmt::format("the architecture '{}' is not supported yet; of GGUF files llama is",
                                    printable ? *architecture : "?"),
                        {path_, "general.architecture"}});
    }
    SLUICE_ASSIGN(const std::optional<uint64_t> version, file_.GetUnsigned("general.quantization_version"));
    const bool blocks = std::any_of(file_.tensors().begin(), file_.tensors().end(),
                                    [](const GgufTensor& tensor) { return tensor.encoding.is_block(); });
    if (blocks && version.value_or(2) != 2) {
      return Fail(
          Error{ErrorCode::kUnsupported,
                fmt::format("is {}, but blocks are decoded as of version 2; quantise the model again", *version),
                {path_, "general.quantization_version"}});
    }
    SLUICE_ASSIGN(const std::optional<uint64_t> experts, file_.GetUnsigned(Full("expert_count")));
    if (experts.value_or(0) > 0) {
      return Wrong("expert_count", fmt::format("is {}: mixtures of experts are not supported yet", *experts),
                   ErrorCode::kUnsupported);
    }
    return {};
  }

  // A size of the model, from 1 to 2^32 - 1. An array says it per layer; only arrays of one value have a config.json.
  Result<uint64_t> Size(std::string_view name, std::optional<uint64_t> fallback = std::nullopt) const {
    const GgufKey* key = file_.FindKey(Full(name));
    if (key == nullptr) {
      if (fallback) return *fallback;
      return Missing(name);
    }
    uint64_t value = 0;
    if (key->type == GgufType::kArray) {
      if (key->count == 0) return Wrong(name, "is an empty array; convert the model again");
      SLUICE_ASSIGN(const std::vector<int64_t> values, file_.ReadIntegers(*key));
      if (std::any_of(values.begin(), values.end(), [&](int64_t v) { return v != values.front(); })) {
        return Wrong(name, "differs from layer to layer, which is not supported yet", ErrorCode::kUnsupported);
      }
      value = static_cast<uint64_t>(std::max<int64_t>(values.front(), 0));
    } else {
      SLUICE_ASSIGN(const std::optional<uint64_t> scalar, file_.GetUnsigned(key->name));
      value = *scalar;
    }
    if (value == 0 || value > std::numeric_limits<uint32_t>::max()) {
      return Wrong(name, fmt::format("is {}, not 1 to 2^32 - 1; convert the model again", value));
    }
    return value;
  }

  Result<std::optional<double>> Number(std::string_view name) const {
    SLUICE_ASSIGN(const std::optional<double> number, file_.GetNumber(Full(name)));
    if (number && !(std::isfinite(*number) && *number >= 0)) {
      return Wrong(name, fmt::format("is {}, not a finite number from 0 on; convert the model again", *number));
    }
    return number;
  }

  const GgufTensor* FindTensor(std::string_view name) const {
    const auto& tensors = file_.tensors();
    const auto found =
        std::find_if(tensors.begin(), tensors.end(), [&](const GgufTensor& t) { return t.name == name; });
    return found == tensors.end() ? nullptr : &*found;
  }

  Result<void> CheckHeads(GgufLlama* model) const {
    if (file_.FindKey(Full("attention.key_length")) == nullptr && model->hidden % model->num_heads != 0) {
      return Wrong("attention.head_count",
                   fmt::format("is {}, which does not divide embedding_length {}; convert the model again",
                               model->num_heads, model->hidden));
    }
    SLUICE_ASSIGN(model->head_dim,
                  Size("attention.key_length", std::max<uint64_t>(model->hidden / model->num_heads, 1)));
    SLUICE_ASSIGN(const uint64_t value_length, Size("attention.value_length", model->head_dim));
    if (value_length != model->head_dim) {
      return Wrong("attention.value_length",
                   fmt::format("is {}, but keys have {}; heads of two sizes are not supported yet", value_length,
                               model->head_dim),
                   ErrorCode::kUnsupported);
    }
    if (model->num_heads % model->num_kv_heads != 0) {
      return Wrong("attention.head_count_kv",
                   fmt::format("is {}, which does not divide head_count {}; convert the model again",
                               model->num_kv_heads, model->num_heads));
    }
    if (model->head_dim % 2 != 0) {
      return Wrong(
          "attention.head_count",
          fmt::format("makes heads of {} numbers, but rotary embedding needs an even number; convert the model again",
                      model->head_dim));
    }
    SLUICE_ASSIGN(const uint64_t rotated, Size("rope.dimension_count", model->head_dim));
    if (rotated != model->head_dim) {
      return Wrong("rope.dimension_count",
                   fmt::format("is {}, but heads have {} numbers; rotating a part of them is not supported yet",
                               rotated, model->head_dim),
                   ErrorCode::kUnsupported);
    }
    return {};
  }

  Result<void> AddToken(const char* config_key, const char* key, nlohmann::ordered_json* config) const {
    SLUICE_ASSIGN(const std::optional<uint64_t> id, file_.GetUnsigned(key));
    if (id) (*config)[config_key] = *id;
    return {};
  }

  Result<void> AddRope(nlohmann::ordered_json* config) const {
    SLUICE_ASSIGN(std::string type, [&]() -> Result<std::string> {
      SLUICE_ASSIGN(std::optional<std::string> text, file_.GetString(Full("rope.scaling.type")));
      return text.value_or("linear");  // llama.cpp's default; it scales nothing without a factor
    }());
    SLUICE_ASSIGN(std::optional<double> factor, Number("rope.scaling.factor"));
    if (!factor) {
      SLUICE_ASSIGN(factor, Number("rope.scale_linear"));  // its older name
    }
    if (type != "none" && type != "linear" && type != "yarn") {
      return Wrong("rope.scaling.type",
                   "is a way of scaling other than none, linear and yarn, which is not supported yet",
                   ErrorCode::kUnsupported);
    }
    if (type != "none" && factor.value_or(0) != 0 && *factor != 1) {
      nlohmann::ordered_json scaling = nlohmann::ordered_json::object();
      if (type == "yarn") SLUICE_TRY(AddYarn(&scaling));
      scaling["factor"] = *factor;
      if (type == "yarn") {
        SLUICE_ASSIGN(scaling["original_max_position_embeddings"], Size("rope.scaling.original_context_length"));
      }
      scaling["rope_type"] = type;
      (*config)["rope_scaling"] = std::move(scaling);
    }

    SLUICE_ASSIGN(std::optional<double> theta, Number("rope.freq_base"));
    if (theta && *theta == 0) return Wrong("rope.freq_base", "is 0; convert the model again");
    if (!theta) {
      Report(Problem::Severity::kWarning,
             "llama.rope.freq_base is missing; taken as 10000, as llama.cpp does: where the original's rope_theta "
             "is another, this file computes something else");
      theta = kDefaultRopeTheta;
    }
    (*config)["rope_theta"] = *theta;
    return {};
  }

  // What tunes YaRN besides its factor.
  Result<void> AddYarn(nlohmann::ordered_json* scaling) const {
    for (const char* name : {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"}) {
      SLUICE_ASSIGN(const std::optional<double> value, Number(name));
      if (value.value_or(1) != 1) {
        return Wrong(name, fmt::format("is {}; other than 1 is not supported yet", *value), ErrorCode::kUnsupported);
      }
    }
    SLUICE_ASSIGN(const std::optional<double> fast, Number("rope.scaling.yarn_beta_fast"));
    if (fast) (*scaling)["beta_fast"] = *fast;
    SLUICE_ASSIGN(const std::optional<double> slow, Number("rope.scaling.yarn_beta_slow"));
    if (slow) (*scaling)["beta_slow"] = *slow;
    return {};
  }

  // The plain float that most of the weights are stored in. Blocks have no torch_dtype, and none is made up.
  void AddDtype(nlohmann::ordered_json* config) const {
    uint64_t most = 0;
    quant::Encoding encoding;
    for (const quant::Encoding candidate : quant::AllEncodings()) {
      uint64_t elements = 0;
      for (const GgufTensor& tensor : file_.tensors())
        elements += tensor.encoding == candidate ? tensor.num_elements : 0;
      if (elements > most) most = elements, encoding = candidate;
    }
    if (encoding.valid() && (encoding == quant::F32() || encoding == quant::F16() || encoding == quant::BF16())) {
      (*config)["torch_dtype"] = quant::DtypeName(encoding);
    }
  }

  Result<void> AddVocabulary(nlohmann::ordered_json* config) const {
    SLUICE_ASSIGN(const std::optional<uint64_t> claimed, file_.GetUnsigned(Full("vocab_size")));
    const GgufTensor* embedding = FindTensor("token_embd.weight");
    const bool rows_known = embedding != nullptr && embedding->rank == 2;
    if (!rows_known && !claimed) return {};
    const uint64_t rows = rows_known ? embedding->dims[1] : *claimed;
    if (claimed && *claimed != rows) {
      Report(Problem::Severity::kWarning,
             fmt::format("llama.vocab_size is {}, but the embedding has {} rows; the rows count", *claimed, rows),
             embedding->name);
    }
    const GgufKey* tokens = file_.FindKey("tokenizer.ggml.tokens");
    if (tokens != nullptr && tokens->type == GgufType::kArray && tokens->count != rows) {
      Report(Problem::Severity::kWarning,
             fmt::format("tokenizer.ggml.tokens has {} tokens for a vocabulary of {}", tokens->count, rows));
    }
    (*config)["vocab_size"] = rows;
    return {};
  }

  void ReportUnknownKeys() const {
    for (const GgufKey& key : file_.keys()) {
      std::string_view name = key.name;
      if (!name.starts_with(kPrefix)) continue;
      name.remove_prefix(kPrefix.size());
      if (std::find(kKnownKeys.begin(), kKnownKeys.end(), name) != kKnownKeys.end()) continue;
      Report(
          Problem::Severity::kWarning,
          fmt::format("the key {} is not known here and left out of config.json; it may change what the model computes",
                      key.name));
    }
  }

  const GgufFile& file_;
  const std::string path_;
  std::vector<Problem>* problems_;
};

}  // namespace

Result<GgufLlama> ReadGgufLlama(const formats::GgufFile& file, std::vector<Problem>* problems) {
  return Reader(file, problems).Read();
}

}  // namespace sluice::checkpoint
