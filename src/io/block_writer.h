// BlockWriter: files written from front to back at the disk's rate. Append copies into one of four buffers, two threads
// of its own write the full ones. O_DIRECT in whole blocks where the file system takes it, so that nothing goes through
// the page cache and the rate is steady; else buffered, with writing back started behind each block and its pages
// dropped.
//
// Two writes under way and reserved space (CreateAllocated) make it 0.95 of what plain 4 MiB O_DIRECT writes reach on
// the same disk, 0.08 core; one write at a time 0.85, a file that grows 0.8, the page cache 0.5 (bench_block_writer;
// docs/decisions/2026-11-22-writing.md).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace sluice::io {

struct BlockWriterStats {
  uint64_t written_bytes = 0;  // of files, without padding
  uint64_t files = 0;
  bool direct = false;  // whether the last file was written with O_DIRECT
};

// All before `offset_bytes` of a file is on the disk, and so are the files before it.
struct SyncedUpTo {
  uint64_t file = 0;  // counted from 0, in the order of Begin
  uint64_t offset_bytes = 0;
};

// One producer thread. A failure of a writing thread is kWrite at the next call, and stays.
class BlockWriter {
 public:
  static constexpr uint64_t kBufferBytes = uint64_t{2} << 20;
  static constexpr int kNumBuffers = 4;  // one fills, two are written, one waits

  struct Options {
    uint64_t buffer_bytes = kBufferBytes;  // a multiple of 4096; smaller where the files are
    bool allow_direct = true;
  };
  explicit BlockWriter(const Options& options);
  BlockWriter() : BlockWriter(Options{}) {}
  // Drops what was not ended; the file is left as it is.
  ~BlockWriter();
  BlockWriter(const BlockWriter&) = delete;
  BlockWriter& operator=(const BlockWriter&) = delete;

  // Starts a file: made where it misses, kept as reserved by CreateAllocated where it is. The one before was ended.
  // From `offset_bytes` on: what stands before that in the file stays as it is.
  Result<void> Begin(const std::string& path, uint64_t offset_bytes = 0);
  Result<void> Append(std::span<const uint8_t> bytes);
  // The file is complete: its last block, its size, and its sync follow while the next one begins.
  Result<void> End();
  // Waits until all that was ended is on the disk.
  Result<void> Finish();
  // Puts what was written so far onto the disk, while writing goes on. For one other thread. Also after a failed write,
  // of what came before it; after a failed sync nothing can be known, and it fails.
  Result<SyncedUpTo> SyncWritten();

  uint64_t memory_bytes() const;
  BlockWriterStats stats() const;  // complete after Finish

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::io
