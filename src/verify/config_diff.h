// What two checkpoints' headers, configs and tokenizers have in common. Reads no weight.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "kernels/sha256.h"
#include "verify/json_diff.h"
#include "verify/model_parts.h"
#include "verify/tokenizer_diff.h"

namespace sluice::verify {

struct ShapeDifference {
  std::string name;
  std::vector<uint64_t> a, b;
};

struct SideFileDifference {
  std::string name;
  bool in_a = false, in_b = false;  // both: their bytes differ
  bool tokenizer = false;           // counted in model_root
};

struct ConfigDiff {
  bool has_config_a = false, has_config_b = false;
  std::string architecture_a, architecture_b;   // empty: unknown
  uint64_t parameters_a = 0, parameters_b = 0;  // counted from headers
  uint64_t bytes_a = 0, bytes_b = 0;            // of tensors
  uint64_t num_tensors_a = 0, num_tensors_b = 0;
  kernels::Hash256 config_hash_a{}, config_hash_b{};  // of the canonical effective config
  kernels::Hash256 tokenizer_hash_a{}, tokenizer_hash_b{};
  std::vector<KeyDifference> keys;         // of the canonical effective configs, sorted
  std::vector<KeyDifference> idle_keys;    // of config.json as written, which change nothing: torch_dtype, ...
  std::vector<KeyDifference> generation;   // of generation_config.json, where both have one; sorted
  std::optional<TokenizerDiff> tokenizer;  // where the tokenizers' files are not the same
  std::map<Part, std::pair<uint64_t, uint64_t>> parts;  // parameters by part, in A and in B
  std::vector<SideFileDifference> side_files;           // sorted by name
  std::vector<ShapeDifference> shapes;                  // sorted by name
  std::vector<std::string> only_in_a, only_in_b;        // tensors, sorted, without possibly_tied
  // lm_head.weight that one side lacks, where the other's may be a copy of its embedding: only reading tells.
  std::vector<std::string> possibly_tied;
  // Pairs of encodings of tensors that both have, with the number of tensors.
  std::map<std::pair<std::string, std::string>, uint64_t> encodings;

  bool SameConfig() const { return config_hash_a == config_hash_b; }
  bool SameTokenizer() const { return tokenizer_hash_a == tokenizer_hash_b; }
  bool SameTensorSet() const { return shapes.empty() && only_in_a.empty() && only_in_b.empty(); }
  bool SameEncodings() const;
  bool SameArchitecture() const;  // no architectural key differs, and the same tensors with the same shapes
};

// Reads side files and, of a GGUF, the header: no weight. kRead, kCorrupt.
Result<ConfigDiff> DiffConfigs(const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b,
                               const io::SourceFactory& open_source = io::OpenFile);

// What is compared of a side without its files: all that a fingerprint keeps beside its blocks.
struct ModelHeaders {
  bool has_config = false;
  std::string architecture;      // empty: unknown
  std::string canonical_config;  // one line of JSON; empty without a config
  kernels::Hash256 config_hash{}, tokenizer_hash{};
  const checkpoint::Catalogue* tensors = nullptr;  // lives as long as whoever has it
};
Result<ModelHeaders> HeadersOf(const checkpoint::Checkpoint& checkpoint);  // reads the tokenizer's files
ConfigDiff DiffHeaders(const ModelHeaders& a, const ModelHeaders& b);      // all but side_files

// Where `tensor` is a head by its name (lm_head.weight), the embedding of the same shape and encoding that it may be a
// copy of.
std::optional<size_t> EmbeddingOf(const checkpoint::Catalogue& tensors, const checkpoint::TensorInfo& tensor);

// Whether a key of config.json, nested ones by their first part, changes what a forward pass computes.
bool IsArchitectural(std::string_view key);

}  // namespace sluice::verify
