#include "verify/config_diff.h"

#include <algorithm>
#include <array>
#include <set>

#include "checkpoint/digest_tree.h"
#include "io/byte_source.h"
#include "tokenizer/tokenizer_files.h"

namespace sluice::verify {
namespace {

// Keys that enter the forward pass, of the architectures in common use. A key that is not here may still matter: then
// equal weights are called SAME_WEIGHTS, which claims no more than that.
constexpr std::array kArchitectural = {
    "architectures",
    "attention_bias",
    "attention_multiplier",
    "attn_logit_softcapping",
    "embedding_multiplier",
    "ffn_dim",
    "final_logit_softcapping",
    "first_k_dense_replace",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "layer_types",
    "logit_scale",
    "logits_scaling",
    "mlp_bias",
    "model_type",
    "moe_intermediate_size",
    "n_embd",
    "n_head",
    "n_inner",
    "n_layer",
    "norm_eps",
    "norm_topk_prob",
    "num_attention_heads",
    "num_experts",
    "num_experts_per_tok",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_local_experts",
    "partial_rotary_factor",
    "quantization_config",
    "query_pre_attn_scalar",
    "residual_multiplier",
    "rms_norm_eps",
    "rope_local_base_freq",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "rotary_pct",
    "sliding_window",
    "use_parallel_residual",
    "use_qk_norm",
    "use_sliding_window",
    "vocab_size",
};

bool IsTokenizerFile(std::string_view name) {
  return name.starts_with("tokenizer") || name.starts_with("vocab") || name.starts_with("merges") ||
         name.starts_with("special_tokens_map") || name.starts_with("added_tokens") ||
         name.starts_with("chat_template");
}

Result<std::vector<SideFileDifference>> DiffSideFiles(const checkpoint::Checkpoint& a,
                                                      const checkpoint::Checkpoint& b) {
  std::map<std::string, std::array<const checkpoint::SideFile*, 2>> files;
  for (const auto& file : a.side_files()) files[file.name][0] = &file;
  for (const auto& file : b.side_files()) files[file.name][1] = &file;
  std::vector<SideFileDifference> differences;
  for (const auto& [name, sides] : files) {
    if (sides[0] != nullptr && sides[1] != nullptr) {
      if (sides[0]->path == sides[1]->path) continue;
      SLUICE_ASSIGN(const std::string bytes_a, sides[0]->Read());
      SLUICE_ASSIGN(const std::string bytes_b, sides[1]->Read());
      if (bytes_a == bytes_b) continue;
    }
    differences.push_back({name, sides[0] != nullptr, sides[1] != nullptr, IsTokenizerFile(name)});
  }
  return differences;
}

void DiffTensorSets(const checkpoint::Catalogue& a, const checkpoint::Catalogue& b, ConfigDiff* diff) {
  size_t i = 0, j = 0;
  while (i < a.size() || j < b.size()) {
    const int order = i == a.size() ? 1 : j == b.size() ? -1 : a[i].name.compare(b[j].name);
    if (order < 0) {
      (EmbeddingOf(a, a[i]) ? diff->possibly_tied : diff->only_in_a).emplace_back(a[i].name);
      ++i;
    } else if (order > 0) {
      (EmbeddingOf(b, b[j]) ? diff->possibly_tied : diff->only_in_b).emplace_back(b[j].name);
      ++j;
    } else {
      const checkpoint::TensorInfo x = a[i++], y = b[j++];
      if (!std::ranges::equal(x.shape, y.shape)) {
        diff->shapes.push_back(
            {std::string(x.name), {x.shape.begin(), x.shape.end()}, {y.shape.begin(), y.shape.end()}});
      }
      ++diff->encodings[{std::string(x.encoding.name()), std::string(y.encoding.name())}];
    }
  }
}

}  // namespace

namespace {

// What config.json says otherwise on the two sides without meaning anything else. Rotary keys are written anew in the
// canonical config: where that differs, they are told of there.
std::vector<KeyDifference> IdleKeys(const checkpoint::ModelConfig& a, const checkpoint::ModelConfig& b,
                                    const std::vector<KeyDifference>& meant) {
  const auto first_part = [](const std::string& key) { return key.substr(0, key.find('.')); };
  const auto is_rotary = [&](const std::string& key) { return first_part(key).starts_with("rope_"); };
  std::vector<KeyDifference> idle = DiffJson(a.Pretty(), b.Pretty());
  std::erase_if(idle, [&](const KeyDifference& key) {
    return std::ranges::any_of(meant, [&](const KeyDifference& other) {
      return other.key == key.key || (is_rotary(key.key) && is_rotary(other.key));
    });
  });
  return idle;
}

// Nothing where a side has no such file: side_files tells of that.
Result<std::vector<KeyDifference>> DiffGeneration(const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b) {
  std::array<std::string, 2> texts;
  for (int i = 0; i < 2; ++i) {
    const auto* file = tokenizer::FindFile((i == 0 ? a : b).side_files(), "generation_config.json");
    if (file == nullptr) return std::vector<KeyDifference>{};
    SLUICE_ASSIGN(texts[i], file->Read());
  }
  return DiffJson(texts[0], texts[1]);
}

void CountParts(const checkpoint::Checkpoint& model, uint64_t std::pair<uint64_t, uint64_t>::*side, ConfigDiff* diff) {
  const ModelParts parts(model.config() == nullptr ? nullptr : checkpoint::ArchitectureOf(*model.config()));
  for (size_t i = 0; i < model.tensors().size(); ++i) {
    const checkpoint::TensorInfo tensor = model.tensors()[i];
    diff->parts[parts.Of(tensor.name)].*side += tensor.num_elements;
  }
}

}  // namespace

bool IsArchitectural(std::string_view key) {
  return std::ranges::binary_search(kArchitectural, key.substr(0, key.find('.')), std::ranges::less{},
                                    [](const char* name) { return std::string_view(name); });
}

bool ConfigDiff::SameEncodings() const {
  return std::ranges::all_of(encodings, [](const auto& entry) { return entry.first.first == entry.first.second; });
}

bool ConfigDiff::SameArchitecture() const {
  return SameTensorSet() && std::ranges::none_of(keys, &KeyDifference::architectural);
}

// lm_head.weight that one side lacks: the usual head of a tied model. It is redundant if it equals the embedding, which
// only its bytes can show; what headers can show is that it has the embedding's shape.
std::optional<size_t> EmbeddingOf(const checkpoint::Catalogue& tensors, const checkpoint::TensorInfo& tensor) {
  constexpr std::string_view kHead = "lm_head.weight";
  if (!tensor.name.ends_with(kHead)) return std::nullopt;
  const std::string prefix(tensor.name.substr(0, tensor.name.size() - kHead.size()));
  if (!prefix.empty() && !prefix.ends_with('.')) return std::nullopt;
  // The names that model_root knows (docs/formats/digest.md).
  for (const char* name :
       {"model.embed_tokens.weight", "transformer.wte.weight", "transformer.word_embeddings.weight"}) {
    const auto embedding = tensors.Find(prefix + name);
    if (embedding && std::ranges::equal(tensors[*embedding].shape, tensor.shape) &&
        tensors[*embedding].encoding == tensor.encoding) {
      return embedding;
    }
  }
  return std::nullopt;
}

Result<ModelHeaders> HeadersOf(const checkpoint::Checkpoint& checkpoint) {
  ModelHeaders headers;
  headers.has_config = checkpoint.config() != nullptr;
  if (headers.has_config) {
    headers.architecture = checkpoint.config()->architecture();
    headers.canonical_config = checkpoint.config()->Canonical();
  }
  // A digest over no tensors: the config's and the tokenizer's parts, by the one definition that there is of them.
  SLUICE_ASSIGN(const checkpoint::ModelDigest digest, checkpoint::MakeModelDigest({}, checkpoint));
  headers.config_hash = digest.config_hash;
  headers.tokenizer_hash = digest.tokenizer_hash;
  headers.tensors = &checkpoint.tensors();
  return headers;
}

ConfigDiff DiffHeaders(const ModelHeaders& a, const ModelHeaders& b) {
  ConfigDiff diff;
  diff.has_config_a = a.has_config;
  diff.has_config_b = b.has_config;
  diff.architecture_a = a.architecture;
  diff.architecture_b = b.architecture;
  diff.parameters_a = a.tensors->total_elements();
  diff.parameters_b = b.tensors->total_elements();
  diff.bytes_a = a.tensors->total_bytes();
  diff.bytes_b = b.tensors->total_bytes();
  diff.num_tensors_a = a.tensors->size();
  diff.num_tensors_b = b.tensors->size();
  diff.config_hash_a = a.config_hash;
  diff.config_hash_b = b.config_hash;
  diff.tokenizer_hash_a = a.tokenizer_hash;
  diff.tokenizer_hash_b = b.tokenizer_hash;
  // A side without a config differs in no key: it says nothing, and has_config_* tells so.
  if (a.has_config && b.has_config) {
    diff.keys = DiffJson(a.canonical_config, b.canonical_config);
    for (KeyDifference& key : diff.keys) key.architectural = IsArchitectural(key.key);
  }
  DiffTensorSets(*a.tensors, *b.tensors, &diff);
  return diff;
}

Result<ConfigDiff> DiffConfigs(const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b,
                               const io::SourceFactory& open_source) {
  SLUICE_ASSIGN(const ModelHeaders headers_a, HeadersOf(a));
  SLUICE_ASSIGN(const ModelHeaders headers_b, HeadersOf(b));
  ConfigDiff diff = DiffHeaders(headers_a, headers_b);
  if (headers_a.has_config && headers_b.has_config) diff.idle_keys = IdleKeys(*a.config(), *b.config(), diff.keys);
  SLUICE_ASSIGN(diff.generation, DiffGeneration(a, b));
  if (!diff.SameTokenizer()) {
    SLUICE_ASSIGN(diff.tokenizer, DiffTokenizers(a, b, open_source));
  }
  CountParts(a, &std::pair<uint64_t, uint64_t>::first, &diff);
  CountParts(b, &std::pair<uint64_t, uint64_t>::second, &diff);
  SLUICE_ASSIGN(diff.side_files, DiffSideFiles(a, b));
  return diff;
}

}  // namespace sluice::verify
