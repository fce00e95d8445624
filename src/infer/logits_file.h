// LogitsFile: the logits of one model as a safetensors file: `logits`, F32 [sequences, tokens, vocab], or of the last
// token of each sequence alone, [sequences, 1, vocab].
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "infer/forward_pass.h"
#include "infer/token_batch.h"
#include "io/atomic_file.h"

namespace sluice::infer {

class LogitsFile final : public LogitSink {
 public:
  // The tiles that a pass must be asked for.
  static std::vector<uint64_t> WantedTiles(const TokenBatch& batch, bool last_only);

  // kUsage where sequences differ in length and all tokens are wanted.
  static Result<void> CheckLengths(const TokenBatch& batch, bool last_only);
  // CheckLengths; kWrite, also where there is no room; kOutputExists. `batch` outlives it.
  static Result<std::unique_ptr<LogitsFile>> Create(const std::string& path, bool force, const TokenBatch& batch,
                                                    uint64_t vocab, bool last_only);
  void Take(const Panel& panel) override;
  Result<void> Checkpoint() override;
  // Gives the file its name.
  Result<void> Commit();

 private:
  LogitsFile(const TokenBatch& batch, uint64_t vocab, bool last_only, io::AtomicFile file)
      : batch_(batch), vocab_(vocab), last_only_(last_only), file_(std::move(file)) {}

  const TokenBatch& batch_;
  const uint64_t vocab_;
  const bool last_only_;
  io::AtomicFile file_;
  io::OwnedFd fd_;
  uint64_t data_begin_ = 0;
  std::mutex mutex_;
  Result<void> failed_;
};

}  // namespace sluice::infer
