// HashFiles: SHA-256 of many files, each one message from its first byte to its last, at the rate of the disk or of the
// cores.
//
// A message can only be hashed in order, by one core: files are what is shared out, the largest first. Where there are
// more files than threads, each thread has two in hand, since two messages are hashed in little more than the time of
// one (kernels/sha256_ni.h). Reads of the next windows are in flight while one is hashed, O_DIRECT where it can be.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/memory_budget.h"
#include "base/result.h"
#include "kernels/sha256.h"

namespace sluice::io {

// Bytes [begin, end) of a file; the end of a whole file is its size.
struct FilePiece {
  std::string path;
  uint64_t begin = 0, end = 0;
  // Ranges within it, ascending and apart, none empty: each is hashed as a leaf of a tree too (RFC 9162), so that one
  // read gives the digests of the files and the roots of the tensors in them.
  struct Leaf {
    uint64_t begin, end;
  };
  std::vector<Leaf> leaves = {};
};

struct PieceHashes {
  kernels::Hash256 digest{};             // of all of its bytes
  std::vector<kernels::Hash256> leaves;  // one a leaf
};

struct HashFilesOptions {
  int num_threads = 1;
  MemoryBudget* budget = nullptr;                // the windows are leased from it; null: not counted
  const std::atomic<bool>* cancelled = nullptr;  // looked at for every window
  // Told how many bytes were hashed so far, from any thread, one at a time.
  std::function<void(uint64_t bytes)> progress = {};
};

// In the order of the pieces. Memory: two pieces a thread, four windows of 1 MiB each, smaller ones and fewer
// threads where the budget has less, but not less than 544 KiB; and 48 bytes a leaf. kNotFound, kRead; kCorrupt where a
// file is shorter than its piece; kBudget; kCancelled.
Result<std::vector<PieceHashes>> HashFiles(std::span<const FilePiece> pieces, const HashFilesOptions& options);

}  // namespace sluice::io
