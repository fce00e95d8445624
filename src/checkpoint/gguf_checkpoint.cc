#include "checkpoint/gguf_checkpoint.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "checkpoint/gguf_config.h"

namespace sluice::checkpoint {
namespace {

using formats::GgufFile;
using formats::GgufKey;
using formats::GgufTensor;

// Sizes that tensors have, by letter: h hidden, q rows of all query heads, k rows of all key/value heads, f
// feed-forward, v vocabulary. A weight has a letter for rows and one for columns, a bias its weight's rows.
struct NamedTensor {
  std::string_view gguf, hugging_face, sizes;
  char heads;  // 'q' or 'k': rows are permuted in so many heads
  bool required;
};

constexpr std::array<NamedTensor, 3> kModelTensors = {{
    {"token_embd", "model.embed_tokens", "vh", 0, true},
    {"output_norm", "model.norm", "h", 0, true},
    {"output", "lm_head", "vh", 0, false},  // absent where the embedding serves as the head
}};
constexpr std::array<NamedTensor, 9> kLayerTensors = {{
    {"attn_norm", "input_layernorm", "h", 0, true},
    {"attn_q", "self_attn.q_proj", "qh", 'q', true},
    {"attn_k", "self_attn.k_proj", "kh", 'k', true},
    {"attn_v", "self_attn.v_proj", "kh", 0, true},
    {"attn_output", "self_attn.o_proj", "hq", 0, true},
    {"ffn_norm", "post_attention_layernorm", "h", 0, true},
    {"ffn_gate", "mlp.gate_proj", "fh", 0, true},
    {"ffn_up", "mlp.up_proj", "fh", 0, true},
    {"ffn_down", "mlp.down_proj", "hf", 0, true},
}};

// "blk.12.attn_q.bias" taken apart.
struct Parsed {
  const NamedTensor* tensor;
  std::optional<uint64_t> layer;
  bool bias;
};

std::optional<Parsed> ParseName(std::string_view name) {
  Parsed parsed{};
  parsed.bias = name.ends_with(".bias");
  if (!parsed.bias && !name.ends_with(".weight")) return std::nullopt;
  name.remove_suffix(parsed.bias ? 5 : 7);
  std::span<const NamedTensor> candidates = kModelTensors;
  if (name.starts_with("blk.")) {
    name.remove_prefix(4);
    uint64_t layer = 0;
    const auto digits = std::from_chars(name.data(), name.data() + name.size(), layer);
    const std::string_view rest(digits.ptr, static_cast<size_t>(name.data() + name.size() - digits.ptr));
    // One spelling for a layer, so that no two names become one.
    if (digits.ec != std::errc() || !rest.starts_with('.') ||
        fmt::format("{}.", layer) != name.substr(0, name.size() - rest.size() + 1)) {
      return std::nullopt;
    }
    name = rest.substr(1);
    parsed.layer = layer;
    candidates = kLayerTensors;
  }
  for (const NamedTensor& candidate : candidates) {
    if (candidate.gguf != name) continue;
    if (parsed.bias && (candidate.sizes.size() != 2 || !parsed.layer)) return std::nullopt;  // norms, embedding, head
    parsed.tensor = &candidate;
    return parsed;
  }
  return std::nullopt;
}

std::string HuggingFaceName(const Parsed& parsed) {
  const std::string_view ending = parsed.bias ? "bias" : "weight";
  if (!parsed.layer) return fmt::format("{}.{}", parsed.tensor->hugging_face, ending);
  return fmt::format("model.layers.{}.{}.{}", *parsed.layer, parsed.tensor->hugging_face, ending);
}

std::vector<uint64_t> ShapeOf(const GgufTensor& tensor) {
  return std::vector<uint64_t>(std::make_reverse_iterator(tensor.dims.begin() + tensor.rank), tensor.dims.rend());
}

}  // namespace

Result<std::shared_ptr<const Checkpoint>> OpenGguf(const std::string& path, const OpenOptions& options) {
  return GgufCheckpoint::Open(path, options);
}

Result<std::shared_ptr<const Checkpoint>> GgufCheckpoint::Open(const std::string& path, const OpenOptions& options) {
  SLUICE_ASSIGN(std::shared_ptr<const io::ByteSource> source, options.open_source(path));
  std::shared_ptr<GgufCheckpoint> opened(new GgufCheckpoint);
  SLUICE_ASSIGN(opened->file_, GgufFile::Open(source));
  opened->ref_ = path;
  opened->kind_ = "gguf";
  opened->files_ = {{std::filesystem::path(path).filename().string(), path, source->size_bytes()}};
  SLUICE_ASSIGN(GgufLlama model, ReadGgufLlama(*opened->file_, &opened->problems_));
  SLUICE_TRY(opened->AddTensors(model));
  SLUICE_TRY(opened->AddTokenizer());
  opened->config_ = ModelConfig::FromJson(std::move(model.config));
  if (const uint64_t unused = opened->file_->unused_bytes(); unused > 0) {
    opened->problems_.push_back({Problem::Severity::kWarning, opened->files_[0].name, "",
                                 fmt::format("{} bytes belong to no tensor and are not padding", unused)});
  }
  return opened;
}

Result<void> GgufCheckpoint::AddTensors(const GgufLlama& model) {
  const std::string& path = file_->source()->name();
  head_dim_ = model.head_dim;
  std::vector<Place> places;
  std::set<std::string_view> present;
  for (const GgufTensor& tensor : file_->tensors()) {
    const auto fail = [&](ErrorCode code, std::string message) {
      return Fail(Error{code, std::move(message), {path, tensor.name}});
    };
    if (tensor.name == "rope_freqs.weight") {
      return fail(
          ErrorCode::kUnsupported,
          "rotary frequencies of their own (Llama 3.1's scaling) are not supported yet in GGUF; use the model as "
          "safetensors, whose config.json has rope_scaling");
    }
    const std::optional<Parsed> parsed = ParseName(tensor.name);
    if (!parsed) {
      return fail(
          ErrorCode::kUnsupported,
          "is not a tensor of the llama architecture as it is known here, and leaving it out would change the model");
    }
    if (parsed->layer && *parsed->layer >= model.num_layers) {
      return fail(ErrorCode::kCorrupt,
                  fmt::format("is of layer {}, but llama.block_count is {}; the file is damaged: fetch it "
                              "again",
                              *parsed->layer, model.num_layers));
    }
    const std::vector<uint64_t> shape = ShapeOf(tensor);
    std::vector<uint64_t> expected;
    for (const char letter : parsed->tensor->sizes.substr(0, parsed->bias ? 1 : 2)) {
      switch (letter) {
        case 'h':
          expected.push_back(model.hidden);
          break;
        case 'q':
          expected.push_back(model.num_heads * model.head_dim);
          break;
        case 'k':
          expected.push_back(model.num_kv_heads * model.head_dim);
          break;
        case 'f':
          expected.push_back(model.ffn);
          break;
        default:
          expected.push_back(model.config.value("vocab_size", uint64_t{0}));
          break;
      }
    }
    if (shape != expected) {
      return fail(ErrorCode::kCorrupt,
                  fmt::format("has shape {} (rows first), but the file's keys make it {}; the file is "
                              "damaged or was converted by a program that this version does not know",
                              ShapeText(shape), ShapeText(expected)));
    }
    if (tensor.encoding->decode == nullptr) {
      return fail(
          ErrorCode::kCorrupt,
          fmt::format("is of type {}, which no weight of a llama model has; the file is damaged: fetch it again",
                      tensor.encoding.name()));
    }
    if (parsed->bias && parsed->tensor->heads != 0 && tensor.encoding.is_block()) {
      return fail(ErrorCode::kUnsupported,
                  fmt::format("is a permuted bias in blocks ({}), which is not supported yet", tensor.encoding.name()));
    }
    tensors_.Add(HuggingFaceName(*parsed), tensor.encoding, shape, tensor.num_elements);
    const char heads = parsed->tensor->heads;
    places.push_back({tensor.offset, heads == 'q' ? model.num_heads : heads == 'k' ? model.num_kv_heads : 0});
    present.insert(tensor.name);
  }

  for (const uint32_t added : tensors_.Sort()) places_.push_back(places[added]);

  uint64_t num_missing = 0;
  std::string first_missing;
  const auto want = [&](std::string name) {
    if (present.contains(name)) return;
    if (num_missing++ == 0) first_missing = std::move(name);
  };
  for (const NamedTensor& tensor : kModelTensors) {
    if (tensor.required) want(fmt::format("{}.weight", tensor.gguf));
  }
  for (uint64_t layer = 0; layer < model.num_layers; ++layer) {
    for (const NamedTensor& tensor : kLayerTensors) want(fmt::format("blk.{}.{}.weight", layer, tensor.gguf));
  }
  if (num_missing > 0) {
    problems_.push_back({Problem::Severity::kError, files_[0].name, first_missing,
                         fmt::format("{} tensors that the keys ask for are missing, this one first", num_missing)});
  }
  return {};
}

// docs/formats/gguf.md, "The tokenizer's bytes".
Result<void> GgufCheckpoint::AddTokenizer() {
  std::vector<const GgufKey*> keys;
  uint64_t size_bytes = 0;
  for (const GgufKey& key : file_->keys()) {
    if (!key.name.starts_with("tokenizer.")) continue;
    keys.push_back(&key);
    size_bytes += sizeof(uint64_t) + key.name.size() + sizeof(uint32_t) + key.size_bytes;
  }
  if (size_bytes > formats::kMaxGgufValueBytes) {
    return Fail(Error{ErrorCode::kUnsupported,
                      fmt::format("the tokenizer's keys take {} bytes; more than {} are not supported yet", size_bytes,
                                  formats::kMaxGgufValueBytes),
                      {file_->source()->name()}});
  }
  std::sort(keys.begin(), keys.end(), [](const GgufKey* a, const GgufKey* b) { return a->name < b->name; });
  embedded_tokenizer_.reserve(size_bytes);
  const auto append = [&](auto value) {
    embedded_tokenizer_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  for (const GgufKey* key : keys) {
    append(static_cast<uint64_t>(key->name.size()));
    embedded_tokenizer_ += key->name;
    append(static_cast<uint32_t>(key->type));
    SLUICE_TRY(file_->ReadValue(*key, &embedded_tokenizer_));
  }
  return {};
}

const graph::Node* GgufCheckpoint::MakeNode(size_t i, graph::Graph* graph) const {
  const TensorInfo tensor = tensors_[i];
  const graph::Node* stored =
      graph->AddStored(file_->source(), places_[i].offset, tensor.encoding, tensor.num_elements);
  const uint64_t num_heads = places_[i].num_heads;
  if (num_heads == 0) return stored;
  const uint64_t columns = tensor.shape.size() == 2 ? tensor.shape[1] : 1;
  return graph->Add(std::make_unique<graph::RowGatherNode>(fmt::format("llama heads {} {}", num_heads, head_dim_),
                                                           stored, columns,
                                                           std::make_shared<LlamaHeadRows>(num_heads, head_dim_)));
}

}  // namespace sluice::checkpoint
