// WatchedFiles: the files that a checkpoint reads, as they were when it was opened. Work that takes hours is not to mix
// two versions of a parent, nor to be gone on with over another.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/write_journal.h"
#include "io/file_stamp.h"

namespace sluice::cli {

class WatchedFiles {
 public:
  // Containers, side files and what says how the tensors are made, but for the file at `but` (whose text the caller
  // knows). kCorrupt where one is not as long as it was when it was opened.
  static Result<WatchedFiles> Of(const checkpoint::Checkpoint& checkpoint, const std::string& but);
  // One more. kNotFound, kRead.
  Result<void> Add(const std::string& path);
  // An item for each, and one of where all of them lie (JournalBinding::kDevices).
  void AddTo(checkpoint::JournalBinding* binding) const;
  // kCorrupt, naming the first that is not as it was.
  Result<void> CheckUnchanged() const;

 private:
  struct File {
    std::string path;  // absolute
    io::FileStamp stamp;
  };
  std::vector<File> files_;
};

}  // namespace sluice::cli
