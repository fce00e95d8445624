// The level `fingerprint`: drawn blocks of two models, or of one, are read and looked at.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "cli/session.h"
#include "verify/fingerprint.h"
#include "verify/sample_result.h"

namespace sluice::cli {

// --nonce, --detect and --confidence as they were given.
struct SampleOptions {
  std::string nonce;  // hexadecimal; empty: drawn from the system's randomness
  verify::SampleAim aim;

  Result<verify::Nonce> MakeNonce() const;
};

// The fingerprints of A and B that their drawn blocks make; a side has none where the blocks are not those that would
// be drawn of it alone (the other side lacks some of its tensors).
using KeptPrints = std::array<std::optional<verify::Fingerprint>, 2>;

// Blocks of the tensors that both have. nullopt with --dry-run. `kept`: null where they are not wanted.
Result<std::optional<verify::SampleResult>> CompareSamples(Session& session,
                                                           const std::shared_ptr<const checkpoint::Checkpoint>& a,
                                                           const std::shared_ptr<const checkpoint::Checkpoint>& b,
                                                           const SampleOptions& options, KeptPrints* kept = nullptr);

// Whether looking at a sample first can save `auto` time: not where reading all costs little more, nor where a side is
// computed from facts of whole tensors, which are read whole for any block. docs/fingerprint.md.
bool IsWorthSampling(const std::shared_ptr<const checkpoint::Checkpoint>& a,
                     const std::shared_ptr<const checkpoint::Checkpoint>& b, const verify::SampleAim& aim);

struct TakenFingerprint {
  verify::Fingerprint fingerprint;
  uint64_t bytes_read = 0;
};
Result<std::optional<TakenFingerprint>> TakeFingerprint(Session& session,
                                                        const std::shared_ptr<const checkpoint::Checkpoint>& model,
                                                        const SampleOptions& options);

// The blocks that the fingerprint names, of `model`.
Result<std::optional<verify::SampleResult>> CompareWithFingerprint(
    Session& session, const verify::Fingerprint& fingerprint, const std::string& file,
    const std::shared_ptr<const checkpoint::Checkpoint>& model);

// For the statistics of a fingerprint that was just taken.
std::vector<verify::SampledTensor> TensorsOf(const verify::Fingerprint& fingerprint);

}  // namespace sluice::cli
