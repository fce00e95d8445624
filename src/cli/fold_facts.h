// FoldFacts: facts of whole tensors found anew, with as little of the rest of the work as can be.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "cli/run_pass.h"
#include "cli/session.h"

namespace sluice::cli {

// PassReport::facts are those of `tensors`: ascending places in the catalogue, with bytes. Values are what asks for
// facts, so the first chunk of each is computed, and forgotten. As RunPass, which it is; `what` is its.
Result<PassReport> FoldFacts(Session& session, const std::shared_ptr<const checkpoint::Checkpoint>& checkpoint,
                             const std::vector<uint32_t>& tensors, const std::string& what);

}  // namespace sluice::cli
