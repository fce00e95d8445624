// FileCheck: the files of a model held against all that is known of them, whether or not they make a model that opens.
// docs/checkpoints.md says what is found how.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace sluice::verify {

enum class FileState {
  kWhole,          // a digest of all its bytes is known and is theirs
  kWellFormed,     // nothing is known that its bytes could be held against; what could be parsed is in order
  kMissing,        // an index names it, or a link that leads nowhere has its name
  kPointer,        // Git LFS's stand-in for it
  kTruncated,      // shorter than its own header says
  kDamaged,        // another digest than the known one, or not what its name says it is
  kOtherRevision,  // in itself in order, but not of the same model as the index, config.json and the other files
};
const char* FileStateName(FileState state);  // "whole", "well_formed", ..., for JSON

struct CheckedFile {
  std::string name;
  uint64_t size_bytes = 0;
  FileState state = FileState::kWellFormed;
  std::string checked_by;  // "SHA-256", "git SHA-1", "CRC-32", "its header", "its JSON"; empty: nothing but its size
  std::string message;     // what is wrong, or odd; empty: nothing
  bool bad() const { return state != FileState::kWhole && state != FileState::kWellFormed; }
};

struct FileCheck {
  std::string folder;
  std::vector<CheckedFile> files;  // by name
  std::string fetch_command;       // empty: where they come from is not known
  uint64_t bytes_read = 0;
  std::vector<std::string> FetchAgain() const;  // names of the bad ones
  bool ok() const { return FetchAgain().empty(); }
};

// `path`: a folder, an index in it, or one file. Looks at what lies in the folder itself, not below: weights, JSON,
// tokenizer; of a hub cache's snapshot every file. Reads each file that a digest or checksum is known of once, on
// `threads` threads, 1 MiB each; of others the header. kNotFound where there is no such path; what is wrong with a file
// is no error.
Result<FileCheck> CheckFiles(const std::string& path, int threads, const std::atomic<bool>& cancelled);

// Sets fetch_command for the bad files. Called by CheckFiles; again by whoever has added to them.
void SetFetchCommand(FileCheck* check);

}  // namespace sluice::verify
