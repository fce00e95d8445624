// BlockReader: many aligned reads in flight at once, from one thread.
//
// Windows are 4 KiB aligned in the file and in memory, so that O_DIRECT may be used; a source in the page cache is
// copied instead. io_uring where the kernel lets us, else a few threads with pread: chosen by trying.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "io/byte_source.h"

namespace sluice::io {

constexpr uint64_t kBlockBytes = 4096;  // alignment of windows, in the file and in memory

struct ReadRequest {
  const ByteSource* source;
  uint64_t offset;        // multiple of kBlockBytes
  uint64_t size_bytes;    // multiple of kBlockBytes; may reach past the end of the source ...
  uint64_t needed_bytes;  // ... but these, from offset on, must arrive
  uint8_t* destination;   // aligned to kBlockBytes, size_bytes long, untouched by others until completion
  uint64_t tag;
};

struct ReadCompletion {
  uint64_t tag;
  Result<void> result;
};

// Submit and Wait are for one thread.
class BlockReader {
 public:
  virtual ~BlockReader() = default;
  virtual void Submit(const ReadRequest& request) = 0;
  // Appends what has completed; blocks for at least one where `block` and something is in flight.
  virtual void Wait(bool block, std::vector<ReadCompletion>* done) = 0;
  virtual uint64_t in_flight() const = 0;
  virtual const char* mode() const = 0;  // "io_uring", "threads"
};

enum class ReaderKind { kAuto, kIoUring, kThreads };

// kAuto tries io_uring and falls back; kIoUring fails with kUnsupported where the kernel refuses it.
Result<std::unique_ptr<BlockReader>> MakeBlockReader(ReaderKind kind = ReaderKind::kAuto);

}  // namespace sluice::io
