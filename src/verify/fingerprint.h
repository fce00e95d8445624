// Fingerprint: hashes of drawn blocks of a model, with its headers, kept in a file to hold another model against.
// docs/formats/fingerprint.md is the specification. It proves something only against makers who had not seen it:
// whoever knows the nonce knows which blocks are looked at.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/catalogue.h"
#include "checkpoint/checkpoint.h"
#include "verify/block_facts.h"
#include "verify/block_sample.h"
#include "verify/config_diff.h"

namespace sluice::verify {

struct Fingerprint {
  std::string model;  // as whoever made it named it
  std::string made_by;
  Nonce nonce;
  SampleAim aim;
  bool has_config = false;
  std::string architecture, canonical_config;
  kernels::Hash256 tokenizer_hash{};
  checkpoint::Catalogue tensors;
  // Not in the file: they follow from nonce, aim and the tensors' names and sizes. By tensor of the catalogue.
  BlockSample sample;
  std::vector<std::vector<BlockPrint>> prints;  // one for each drawn block

  ModelHeaders headers() const;  // looks into this object
};

// Everything but the prints, whose vectors have their lengths. Reads the tokenizer's files.
Result<Fingerprint> BeginFingerprint(const checkpoint::Checkpoint& checkpoint, const Nonce& nonce,
                                     const SampleAim& aim);

std::string FingerprintFileText(const Fingerprint& fingerprint);

constexpr uint64_t kMaxFingerprintBytes = uint64_t{256} << 20;
// kCorrupt, naming the parts that are not as they were written, or what cannot be read; kUnsupported for a newer
// version's.
Result<Fingerprint> ParseFingerprint(std::string_view text, const std::string& file);

}  // namespace sluice::verify
