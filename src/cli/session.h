// Session: one run of one command: its common options, budget, streams and cancellation.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/memory_budget.h"
#include "base/result.h"
#include "checkpoint/model_ref.h"

namespace sluice::cli {

struct CommonOptions {
  bool json = false;
  bool quiet = false;
  bool dry_run = false;
  int threads = 1;
  uint64_t max_memory_bytes = 0;
};

class Session {
 public:
  Session(std::string command, const CommonOptions& options, const std::atomic<bool>& cancelled)
      : options(options),
        cancelled(cancelled),
        budget(options.max_memory_bytes),
        command_(std::move(command)),
        started_(std::chrono::steady_clock::now()) {}

  const CommonOptions options;
  const std::atomic<bool>& cancelled;
  MemoryBudget budget;

  const std::string& command() const { return command_; }
  double seconds() const;  // since the start

  // Opens a reference of any kind (README, "Naming a model"), recipes with this seed, arithmetic and dtype of models
  // with adapters where given.
  Result<std::shared_ptr<const checkpoint::Checkpoint>> Open(const std::string& ref, std::optional<uint64_t> seed = {},
                                                             std::optional<std::string> arithmetic = {},
                                                             const std::string& lora_merge_dtype = "") const;

  // For commands that read headers alone: kBudget where what is resident now does not fit into --max-memory.
  Result<void> CheckHeadersFit() const;

  // The result, on stdout: `json` (to which "schema" is prepended) with --json, else `text`.
  void Print(const nlohmann::ordered_json& json, std::string_view text);
  // Why the result could not be written, as errno; 0 where it could.
  int print_errno() const { return print_errno_; }
  // A remark on stderr, also with --quiet: "sluice: note: ...".
  void Note(std::string_view text) const;
  void Warn(std::string_view text) const;
  // A checkpoint's problems of at least warning as warnings.
  void WarnOf(const checkpoint::Checkpoint& checkpoint) const;

 private:
  const std::string command_;
  const std::chrono::steady_clock::time_point started_;
  int print_errno_ = 0;
};

// The table of openers beyond the built-in kinds: recipes. The only place where rooms meet for this.
// lora_merge_dtype: "float32", ..., or empty.
checkpoint::OpenOptions MakeOpenOptions(std::optional<uint64_t> seed, std::optional<std::string> arithmetic,
                                        const std::string& lora_merge_dtype);

}  // namespace sluice::cli
