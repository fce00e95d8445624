// What a folder is beside a signature of it, and what was signed: results of `verify --signature` and `sign`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "verify/digest_manifest.h"
#include "verify/file_manifest.h"
#include "verify/verdict.h"
#include "verify/verification.h"

namespace sluice::verify {

struct SignatureCheck {
  std::string ref, signature, key;  // the model, the bundle, the public key: as the user named them
  std::string key_hint, curve;      // of the key
  bool bundle_names_key = true;     // false: a bundle of before 1.0 without a hint
  std::string model_name;           // as it was called when it was signed
  uint64_t shard_bytes = 0;         // of the manifest
  FileComparison comparison;
  std::vector<std::string> ignored;         // files that are there and that the signature, or the user, leaves out
  uint64_t files = 0, bytes = 0;            // that were looked at
  std::optional<StatementCheck> statement;  // of the same read, where the folder has one
  std::optional<ManifestCheck> manifest;    // of the same read, where one was given
  Verdict verdict = Verdict::kUndecided;
  uint64_t budget_bytes = 0, peak_bytes = 0;
  double seconds = 0;
  uint64_t bytes_read = 0;
};

// Sets `verdict`: files that differ come first, then what the statement says, then the manifest.
void DecideSignature(SignatureCheck* check);

struct SigningResult {
  std::string ref, signature;
  std::string key_hint, curve;
  FileManifest manifest;             // what was signed
  std::vector<uint64_t> size_bytes;  // of its entries
  std::vector<std::string> ignored;  // files that are there and not signed
  double seconds = 0;
  uint64_t bytes_read = 0, peak_memory_bytes = 0;
};

}  // namespace sluice::verify
