// KeepEvidence: a verification as a bundle (verify/evidence.h), and a bundle as the request that makes it again.
// docs/formats/evidence.md.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cli/session.h"
#include "cli/verified.h"
#include "verify/evidence.h"

namespace sluice::cli {

// Before the work: what cannot be done again is refused (kUsage), and so is a place that cannot be written
// (kOutputExists, kWrite). Leaves nothing behind.
Result<void> CheckEvidenceRequest(const VerifyRequest& request, const std::string& folder, bool force);

// With --force what stands under the name goes: kUsage where it holds one of `paths`, which were read.
Result<void> CheckHoldsNothingRead(const std::string& folder, const std::vector<std::string>& paths);

// What `verify --json` prints of it, as it is read back.
nlohmann::ordered_json ResultJson(const Verified& verified);

// What was found and is known of a side. Hashes small files; kCorrupt where the model changed meanwhile.
Result<verify::EvidenceSide> DescribeVerified(Session& session, const VerifyRequest& request, const VerifiedSide& side);

// Writes the bundle; kUsage where `folder` holds a file that was read.
Result<void> KeepEvidence(Session& session, const VerifyRequest& request, const Verified& verified,
                          const std::string& folder, bool force);

// Does again what the bundle in `folder` holds; `refs`: where the models are now, one for each that is read; empty: as
// recorded. kUsage for another number of them; kCorrupt where the bundle does not say what was asked.
Result<VerifyRequest> RequestOf(const verify::Evidence& evidence, const std::string& folder,
                                const std::vector<std::string>& refs);

}  // namespace sluice::cli
