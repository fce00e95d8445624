// Results of the commands that have no room of their own to come from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_writer.h"
#include "checkpoint/digest_tree.h"

namespace sluice::report {

struct DigestResult {
  std::string ref;
  checkpoint::ModelDigest digest;
  double seconds = 0;
  uint64_t bytes_read = 0;
};

// Finite numbers of a tensor that a cast made infinite.
struct TensorOverflow {
  std::string name, encoding;  // that it was cast to
  uint64_t count = 0;
};

// What `merge` and `convert` have written.
struct WriteResult {
  std::string output;
  checkpoint::ModelDigest digest;
  std::vector<checkpoint::WrittenFile> files;
  std::vector<TensorOverflow> overflows;  // sorted by name; empty too where they were not asked for
  uint64_t bytes_read = 0, bytes_written = 0;
  double seconds = 0;
  uint64_t peak_memory_bytes = 0;
};

struct TensorNans {
  std::string name;
  uint64_t count = 0;
};

struct MergeResult {
  WriteResult written;
  std::string method, arithmetic;
  uint64_t seed = 0;
  std::vector<TensorNans> nans;  // tensors of the result that have any
  std::string report;            // where a page of it was written, or empty
};

}  // namespace sluice::report
