// A checkpoint whose tensors are another's under other names, bit for bit; config and side files stay.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/rename_rules.h"

namespace sluice::checkpoint {

// By rules (rename_rules.h), with what they may fail with. Reads nothing.
Result<std::shared_ptr<const Checkpoint>> Rename(std::shared_ptr<const Checkpoint> inner,
                                                 std::span<const RenameRule> rules);

// As a model of another architecture that computes the same from the same tensors: `convert --to llama`. Renames what
// Architecture::renames_to is about; in the config, names the new architecture, drops auto_map, and writes out what the
// old architecture's defaults said and the new one's would not. `inner` itself where it is of that architecture
// already. kUsage: no such architecture, or no config; kUnsupported: the model is of another kind.
Result<std::shared_ptr<const Checkpoint>> RenameTo(std::shared_ptr<const Checkpoint> inner,
                                                   const std::string& model_type);

}  // namespace sluice::checkpoint
