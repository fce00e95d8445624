// ByteSource: bytes that can be read at any offset: a file now, an object store later. Immutable while open;
// thread-safe.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace sluice::io {

// Sources with equal ids hold the same bytes: a plan reads a range of them once, however often they were opened.
struct SourceId {
  uint64_t device = 0, inode = 0;
  auto operator<=>(const SourceId&) const = default;
};

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual const std::string& name() const = 0;  // the path, for errors
  virtual uint64_t size_bytes() const = 0;
  virtual SourceId id() const = 0;

  // Fills `out` from `offset`. kCorrupt where the source has become shorter, kRead where the system fails.
  virtual Result<void> Read(uint64_t offset, std::span<uint8_t> out) const = 0;

  // A descriptor opened with O_DIRECT for BlockReader, -1 where there is none (then Read is used).
  virtual int direct_fd() const { return -1; }
  // Whether [offset, offset + size) is in the page cache, so that Read is a copy: a guess, never an error.
  virtual bool Cached(uint64_t /*offset*/, uint64_t /*size_bytes*/) const { return false; }
};

// Opens a regular file for reading (a symlink is followed). Two descriptors at most, the direct one on first use.
Result<std::shared_ptr<const ByteSource>> OpenFile(const std::string& path);

// How openers of checkpoints get their sources (OpenFile, unless a test wraps it in a RecordingSource).
using SourceFactory = std::function<Result<std::shared_ptr<const ByteSource>>(const std::string& path)>;

// Whole small file (config, index, tokenizer) into memory; kCorrupt where it is larger than max_bytes.
Result<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes = uint64_t{1} << 30);

}  // namespace sluice::io
