// Writing a checkpoint, as `merge` and `convert` do: the writer and the digest in one pass, then papers, then the name.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_export.h"
#include "checkpoint/write_journal.h"
#include "cli/run_pass.h"
#include "cli/session.h"
#include "report/results.h"
#include "stream/journal_sink.h"

namespace sluice::cli {

struct WriteRequest {
  std::string what;    // heads plan and progress: "merge"
  std::string output;  // a folder, or a file that ends in .safetensors or .gguf
  std::shared_ptr<const checkpoint::GgufExport> gguf = nullptr;  // what a .gguf is to hold
  std::string shard_size;                                        // as given to --out-shard-size; empty: the default
  bool force = false;
  // Of a folder: the groups of these tensors of the checkpoint, in this order, each the tensor itself and what `sinks`
  // want beside it. Null: each tensor alone.
  std::function<std::unique_ptr<stream::GroupSource>(std::vector<uint32_t> order)> groups;
  bool count_overflows = false;      // of casts: WriteResult::overflows
  std::vector<stream::Sink*> sinks;  // that see each tensor too, in the plan's order
  // For a folder: a journal bound to this, by which an interrupted run can be gone on with, which `resume` does.
  std::optional<checkpoint::JournalBinding> journal;
  bool resume = false;
  stream::TensorTally* tally = nullptr;  // one of `sinks`, kept in the journal
  // Whether what is read is still what was opened. Looked at when all tensors have passed and where a run fails: an
  // error means that what was written is worth nothing.
  std::function<Result<void>()> check_inputs;
  // Looked at when all tensors have passed and before the output has its name; an error leaves nothing.
  std::function<Result<void>()> accept;
  // More files for a folder, made of the digest of what is written and the pass: (name, bytes).
  std::function<Result<std::vector<std::pair<std::string, std::string>>>(const checkpoint::ModelDigest&,
                                                                         const PassReport&)>
      papers;
};

// nullopt with --dry-run: the plan was printed and nothing was written. kUsage, kOutputExists, kUnsupported, kWrite,
// and what reading may fail with; nothing is left under the final name then.
Result<std::optional<report::WriteResult>> WriteCheckpoint(
    Session& session, const std::shared_ptr<const checkpoint::Checkpoint>& checkpoint, const WriteRequest& request);

// Whether `-o X` names a file; kUsage where it is empty.
Result<bool> IsFileOutput(const std::string& output);

}  // namespace sluice::cli
