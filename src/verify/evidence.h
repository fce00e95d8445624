// Evidence: a verification with all that it takes to do it again, in a folder that others can check. docs/formats/
// evidence.md is the specification. Nothing here knows a level: what was asked, drawn and found is JSON of whoever did
// it, and papers (manifests, fingerprints, a page) are bytes with a name.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/memory_budget.h"
#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "kernels/sha256.h"
#include "verify/config_diff.h"

namespace sluice::verify {

inline constexpr char kEvidenceFile[] = "evidence.json";
inline constexpr char kResultFile[] = "result.json";
inline constexpr char kSumsFile[] = "SHA256SUMS";

// A file that a model was read from.
struct EvidenceInput {
  std::string name;
  uint64_t size_bytes = 0;
  std::optional<kernels::Hash256> digest = {};  // of small files, and of those that were read whole
  bool operator==(const EvidenceInput&) const = default;
};

// A model as it was when it was looked at; hashes are there as far as it was read.
struct EvidenceSide {
  std::string name;       // "a" and "b", or "model"
  std::string ref, kind;  // as the user wrote it; "safetensors", "gguf", "recipe", ..., or "fingerprint"
  // What a recipe was computed with, where that was given or taken from a statement.
  std::optional<uint64_t> seed = {};
  std::optional<std::string> arithmetic = {};
  std::string lora_merge_dtype = {};
  std::vector<EvidenceInput> files = {};
  std::optional<kernels::Hash256> config_hash = {}, tokenizer_hash = {};
  std::optional<kernels::Hash256> headers_hash = {};  // of names, encodings and shapes
  std::optional<kernels::Hash256> weights_root = {}, root = {};
  bool operator==(const EvidenceSide&) const = default;
};

struct Evidence {
  std::string made_by = {};             // "sluice 0.1.0"
  std::string form = {};                // which kind of verification: docs/formats/evidence.md lists them
  nlohmann::ordered_json options = {};  // what was asked, with defaults
  nlohmann::ordered_json plan = {};     // what was drawn and by which nonce; null where nothing was
  std::vector<EvidenceSide> sides = {};
  std::string result = {};                         // what `--json` printed
  std::map<std::string, std::string> papers = {};  // more files by their names
};

// SHA-256 over the names, encodings and shapes, sorted by name: the same in every layout and container.
kernels::Hash256 HeadersHash(const checkpoint::Catalogue& tensors);

// What can be told of a model without its weights: `name` is the side's. Hashes the small files beside them, with
// memory from `budget` (null: not counted). kNotFound, kRead, kCorrupt.
Result<EvidenceSide> DescribeSide(const std::string& name, const checkpoint::Checkpoint& checkpoint,
                                  MemoryBudget* budget);
// Of a fingerprint that stands for a model.
EvidenceSide DescribeHeaders(const std::string& name, const std::string& ref, const ModelHeaders& headers);

// All files of the bundle by their names; the same evidence gives the same bytes.
std::map<std::string, std::string> EvidenceFiles(Evidence evidence);

// Writes them as the folder `path`, whole and synced, or not at all: io::OutputFolder. kOutputExists, kWrite, kUsage;
// kCancelled before the name is given.
Result<void> WriteEvidence(const std::string& path, Evidence evidence, bool force, const std::atomic<bool>& cancelled);

// Reads a bundle and holds it against itself: kCorrupt, naming each file that was changed, is missing or does not
// belong to it; kUnsupported for a newer version's; kNotFound.
Result<Evidence> ReadEvidence(const std::string& path);

}  // namespace sluice::verify
