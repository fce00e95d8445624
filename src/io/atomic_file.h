// AtomicFile: a file that appears under its name whole and synced, or not at all.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/partial_path.h"

namespace sluice::io {

// Bytes are written to partial_path() by whoever likes to (BlockWriter), then Commit gives it its name. Without a
// Commit nothing is left, nor the parents that were made for it. Not thread-safe.
class AtomicFile {
 public:
  // Parents are made. kOutputExists where `path` is a folder, or a file that is not empty and `force` is false.
  static Result<AtomicFile> Create(const std::string& path, bool force);
  AtomicFile(AtomicFile&&) = default;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  const std::string& partial_path() const { return partial_->path(); }
  const std::string& folder() const { return place_.folder; }
  // Syncs, renames, syncs the folder.
  Result<void> Commit();

 private:
  explicit AtomicFile(OutputPlace place) : place_(std::move(place)) {}
  OutputPlace place_;
  std::vector<std::string> made_folders_;
  std::optional<PartialPath> partial_;
};

// Small results (JSON, reports): replaces what is there. What is no regular file (/dev/stdout, a pipe) is written into.
Result<void> WriteFileAtomically(const std::string& path, std::string_view bytes);
// Whether that would find a place to write to: for long work whose result goes there. Leaves nothing behind.
Result<void> CheckWritable(const std::string& path);

}  // namespace sluice::io
