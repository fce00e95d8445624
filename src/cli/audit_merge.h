// AuditMerge: `verify MERGED --sample p --facts q`: parts of a merge are made again from its parents and held against
// its statement. docs/audit.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "cli/session.h"
#include "verify/verification.h"

namespace sluice::cli {

struct AuditRequest {
  std::string folder;
  std::optional<double> sample, facts;  // shares of all chunks, and of all tensors that have facts; above 0, up to 1
  std::optional<uint64_t> nonce;        // what the draws are made of; absent: the system's randomness
};

// nullopt with --dry-run. kUsage where the folder has no statement; kCorrupt where the statement contradicts itself;
// what opening the recipe's parents may fail with.
Result<std::optional<verify::MergeAudit>> AuditMerge(Session& session, const AuditRequest& request);

}  // namespace sluice::cli
