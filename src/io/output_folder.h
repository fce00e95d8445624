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

// Not thread-safe. Without a Commit nothing is left, nor the parents that were made for it, unless it is to be kept.
class OutputFolder {
 public:
  struct Options {
    bool force = false;
    // The name of a file in the partial folder that tells what is finished there: where one is found, the folder is
    // kept as it is (has_leftover). Commit removes it last, when the folder has its name.
    std::string journal = {};
    bool resume = false;     // a target that was being filled from inside is no obstacle, although it is not empty
    bool take_back = false;  // the finished folder that still has its journal becomes the partial one again
  };
  // kOutputExists where `path` is a file, or a folder that is not empty and `force` is false. With force Commit
  // replaces the folder and all that is in it; the working directory, its parents, the home folder and mount points are
  // refused. Parents are made. kWrite where the place cannot be written, or another run is at it.
  static Result<OutputFolder> Create(const std::string& path, const Options& options);
  static Result<OutputFolder> Create(const std::string& path, bool force) {
    return Create(path, Options{.force = force});
  }
  OutputFolder(OutputFolder&&) = default;
  OutputFolder& operator=(OutputFolder&&) = delete;
  ~OutputFolder();

  // The folder to write into until Commit. Whoever writes syncs the files.
  const std::string& partial_path() const { return partial_->path(); }
  // An interrupted run's journal and files are there, and stay there without a Commit.
  bool has_leftover() const { return has_leftover_; }
  // Makes the folder empty, the journal first; what then comes is not kept.
  Result<void> Clear();
  // Where a target was being filled from inside: the file goes back into the partial folder, if it had left it.
  Result<void> Reclaim(const std::string& name);
  // What is in the folder is found again after a power cut, as far as the files themselves are synced.
  Result<void> SyncEntries();
  // Whether the partial folder stays without a Commit, for a later run to go on with.
  void Keep(bool keep) { keep_ = keep && !published_; }
  // The output has its name, whatever else Commit said.
  bool published() const { return published_; }
  // A small file, synced. `name` has no folder in it and is new.
  Result<void> WriteFile(const std::string& name, std::string_view bytes);
  // The same with the bytes of the file at `from`, through 1 MiB of memory. Returns its size.
  Result<uint64_t> CopyFile(const std::string& name, const std::string& from);

  // Syncs the folder, gives it its name, and removes what stood there (with force). When it fails the name is as it
  // was, unless the error says that only the removal of the old contents failed.
  Result<void> Commit();

 private:
  OutputFolder(OutputPlace place, Options options) : place_(std::move(place)), options_(std::move(options)) {}
  Result<void> TakeBack();
  Result<void> MoveUp();
  Result<void> Replace();
  Result<void> RemoveJournal();
  std::string aside() const { return place_.folder + "/." + place_.name + ".sluice-old"; }

  OutputPlace place_;
  Options options_;
  bool inside_ = false;  // files grow inside the target
  bool has_leftover_ = false, keep_ = false, published_ = false;
  std::vector<std::string> made_folders_;
  std::optional<PartialPath> partial_;
};

}  // namespace sluice::io
