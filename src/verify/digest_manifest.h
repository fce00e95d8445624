// DigestManifest: the JSON of `sluice digest -o manifest.json`, held against itself and against a model's digest. A
// manifest whose roots do not follow from its entries was changed after it was made.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/digest_tree.h"

namespace sluice::verify {

// kCorrupt, naming `file`: what is no manifest, an entry that is incomplete, listed twice or impossible, and roots that
// do not follow from the entries, with the part that was changed as far as the rest tells.
Result<checkpoint::ModelDigest> ParseDigestManifest(std::string_view text, const std::string& file);

// `digest --check`: a model's digest beside a manifest's.
enum class ManifestChange {
  kChanged,          // the same shape and encoding, other bytes
  kShapeDiffers,     //
  kEncodingDiffers,  //
  kRenamed,          // the same encoding, shape and bytes under a name that the manifest does not have
  kMissing,          // only in the manifest
  kExtra,            // only in the model
};
const char* ManifestChangeName(ManifestChange change);  // "changed", "shape_differs", ...

struct ManifestDifference {
  std::string name;  // the model's where it has the tensor
  ManifestChange change = ManifestChange::kChanged;
  std::string other_name = {};  // of a renamed tensor: the manifest's
  std::string what = {};        // in words
};

struct ManifestCheck {
  std::string manifest;
  kernels::Hash256 stated_root{};
  bool same_root = false, same_weights = false, same_config = false, same_tokenizer = false;
  std::vector<ManifestDifference> differences;  // of tensors, sorted by name
  bool same() const { return same_root && same_weights && differences.empty(); }
};

ManifestCheck CompareWithManifest(const checkpoint::ModelDigest& digest, const checkpoint::ModelDigest& stated,
                                  const std::string& manifest);

}  // namespace sluice::verify
