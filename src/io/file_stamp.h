// FileStamp: what tells, without reading it, that a file is as it was. Whoever writes into a file changes its ctime,
// which nobody can set back; so do chmod and a new hard link, and then it is not known to be as it was.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace sluice::io {

struct FileStamp {
  uint64_t size_bytes = 0;
  int64_t modified_nanoseconds = 0, changed_nanoseconds = 0;  // mtime and ctime, since 1970
  uint64_t device = 0, inode = 0;                             // a file's device may have another number after a reboot
  bool operator==(const FileStamp&) const = default;
  std::string ToString() const;  // size and times, for comparing and for people
};

// Of the file behind a symlink. kNotFound, kRead.
Result<FileStamp> StampOf(const std::string& path);

}  // namespace sluice::io
