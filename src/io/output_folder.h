// OutputFolder: a folder that appears under its name whole and synced, or not at all. Files are written into a hidden
// sibling (PartialPath), which Commit renames.
//
// Where a sibling cannot be renamed to the name (an empty mount point, the working directory, a parent that may not be
// written), the files grow in NAME/.sluice-partial and Commit moves them up one by one, the index and config last: each
// file is whole and synced, and a folder without its index is no checkpoint.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/partial_path.h"

namespace sluice::io {

// Not thread-safe. Without a Commit nothing is left, nor the parents that were made for it.
class OutputFolder {
 public:
  // kOutputExists where `path` is a file, or a folder that is not empty and `force` is false. With force Commit
  // replaces the folder and all that is in it; the working directory, its parents, the home folder and mount points are
  // refused. Parents are made. kWrite where the place cannot be written, or another run is at it.
  static Result<OutputFolder> Create(const std::string& path, bool force);
  OutputFolder(OutputFolder&&) = default;
  OutputFolder& operator=(OutputFolder&&) = delete;
  ~OutputFolder();

  // The folder to write into until Commit. Whoever writes syncs the files.
  const std::string& partial_path() const { return partial_->path(); }
  // A small file, synced. `name` has no folder in it and is new.
  Result<void> WriteFile(const std::string& name, std::string_view bytes);
  // The same with the bytes of the file at `from`, through 1 MiB of memory. Returns its size.
  Result<uint64_t> CopyFile(const std::string& name, const std::string& from);

  // Syncs the folder, gives it its name, and removes what stood there (with force). When it fails the name is as it
  // was, unless the error says that only the removal of the old contents failed.
  Result<void> Commit();

 private:
  OutputFolder(OutputPlace place, bool force) : place_(std::move(place)), force_(force) {}
  Result<void> MoveUp();
  Result<void> Replace();

  OutputPlace place_;
  bool force_;
  bool inside_ = false;  // files grow inside the target
  std::vector<std::string> made_folders_;
  std::optional<PartialPath> partial_;
};

}  // namespace sluice::io
