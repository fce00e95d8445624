// PartialPath: where output grows before it has its name: PARENT/.NAME.sluice-partial, a file or a folder beside the
// final one, so that giving the name is one rename on one file system. Locked (flock) against a second run for the same
// name; what a dead run left there is removed. Removed itself unless it was kept.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/write_calls.h"

namespace sluice::io {

// Where an output will stand, symlinks and ".." followed. No I/O but lookups.
struct OutputPlace {
  std::string given;   // as the user wrote it, for messages
  std::string path;    // absolute, no slash at the end
  std::string folder;  // of `path`
  std::string name;
  std::string partial;  // folder/.name.sluice-partial
};
// kUsage for an empty path or one without a name ("/"); kWrite for a link to nothing.
Result<OutputPlace> ResolveOutput(const std::string& given);

// Makes `path` and its parents where they miss; appends those made, outermost first.
Result<void> MakeFolders(const std::string& path, std::vector<std::string>* made);

class PartialPath {
 public:
  enum class Kind { kFile, kFolder };
  // Makes and locks a file or folder; empty, unless it is a folder that holds a file of the name `kept_with`: then all
  // that is in it stays. kWrite where another run holds it.
  static Result<PartialPath> Claim(const OutputPlace& place, Kind kind, const std::string& kept_with = "");
  // Of a folder: makes it empty, the file of this name first and for good.
  Result<void> Clear(const std::string& first);
  PartialPath(PartialPath&& other) noexcept : path_(std::exchange(other.path_, {})), lock_(std::move(other.lock_)) {}
  PartialPath& operator=(PartialPath&& other) noexcept {
    path_.swap(other.path_);
    lock_ = std::move(other.lock_);
    return *this;
  }
  ~PartialPath();

  const std::string& path() const { return path_; }
  int fd() const { return lock_.get(); }
  // The name is no longer ours: it was renamed away. The lock stays until destruction.
  void Keep() { path_.clear(); }

 private:
  PartialPath(std::string path, OwnedFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  OwnedFd lock_;
};

}  // namespace sluice::io
