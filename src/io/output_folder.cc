#include "io/output_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "base/check.h"
#include "base/units.h"
#include "io/byte_source.h"

namespace sluice::io {
namespace fs = std::filesystem;
namespace {

bool IsMountPoint(const std::string& path, const std::string& parent) {
  struct stat a, b;
  return stat(path.c_str(), &a) == 0 && stat(parent.c_str(), &b) == 0 && a.st_dev != b.st_dev;
}

// Whether `path` is `below` or one of its parents.
bool Holds(const std::string& path, const fs::path& below) {
  for (fs::path at = below;; at = at.parent_path()) {
    if (at == path) return true;
    if (!at.has_relative_path()) return false;
  }
}

bool HoldsWorkingFolder(const std::string& path) {
  std::error_code error;
  return Holds(path, fs::current_path(error));
}

bool IsHome(const std::string& path) {
  const char* home = std::getenv("HOME");
  std::error_code error;
  return home != nullptr && *home != '\0' && Holds(path, fs::weakly_canonical(home, error));
}

bool IsEmptyFolder(const std::string& path, bool mount_point) {
  std::error_code error;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    // A fresh ext4 volume holds lost+found; the other is what a dead run left, which we shall remove.
    if (mount_point && name == "lost+found") continue;
    if (name == ".sluice-partial") continue;
    return false;
  }
  return !error;
}

// The order in which files get their names where that takes several steps: what makes a folder a checkpoint comes last.
int Rank(const std::string& name) {
  if (name == "model.safetensors" || name == "config.json") return 1;
  return name.ends_with(".index.json") ? 2 : 0;
}

}  // namespace

Result<OutputFolder> OutputFolder::Create(const std::string& path, const Options& options) {
  SLUICE_ASSIGN(OutputPlace place, ResolveOutput(path));
  OutputFolder folder(std::move(place), options);
  const OutputPlace& at = folder.place_;
  const bool force = options.force;
  struct stat status;
  std::error_code error;
  const bool has_aside = fs::exists(folder.aside(), error);
  // A run ended between the two steps of Replace.
  if (has_aside && !fs::exists(at.path, error)) SLUICE_TRY(Rename(folder.aside(), at.path));
  if (options.take_back) SLUICE_TRY(folder.TakeBack());
  if (stat(at.path.c_str(), &status) == 0) {
    if (!S_ISDIR(status.st_mode)) {
      return Fail(ErrorCode::kOutputExists,
                  fmt::format("{}: is a file, and the output is a folder: choose another name", path));
    }
    const bool mount_point = IsMountPoint(at.path, at.folder);
    const bool half_filled = options.resume && fs::exists(at.path + "/.sluice-partial/" + options.journal, error);
    if (half_filled || IsEmptyFolder(at.path, mount_point)) {
      folder.inside_ = mount_point || HoldsWorkingFolder(at.path) || access(at.folder.c_str(), W_OK) != 0 ||
                       fs::exists(at.path + "/.sluice-partial");
    } else if (!force) {
      return Fail(ErrorCode::kOutputExists,
                  fmt::format("{}: exists and is not empty: choose another folder, or replace it with --force", path));
    } else if (mount_point || HoldsWorkingFolder(at.path) || IsHome(at.path)) {
      return Fail(
          ErrorCode::kOutputExists,
          fmt::format("{}: is not empty, and --force does not replace a mount point, the working directory or a home "
                      "folder: empty it, or choose a folder in it",
                      path));
    }
  } else {
    SLUICE_TRY(MakeFolders(at.folder, &folder.made_folders_));
  }
  if (folder.inside_) folder.place_.partial = at.path + "/.sluice-partial";
  SLUICE_ASSIGN(folder.partial_, PartialPath::Claim(at, PartialPath::Kind::kFolder, options.journal));
  folder.has_leftover_ = folder.keep_ =
      !options.journal.empty() && fs::exists(folder.partial_path() + "/" + options.journal, error);
  if (has_aside) fs::remove_all(folder.aside(), error);  // in the way of nobody: what cannot be removed stays
  return folder;
}

// The run that made it ended between giving the name and removing the journal.
Result<void> OutputFolder::TakeBack() {
  SLUICE_ASSIGN(PartialPath claimed, PartialPath::Claim(place_, PartialPath::Kind::kFolder, options_.journal));
  std::error_code error;
  if (fs::exists(claimed.path() + "/" + options_.journal, error)) {
    claimed.Keep();
    return {};
  }
  SLUICE_TRY(Rename(place_.path, claimed.path()));
  claimed.Keep();
  return {};
}

Result<void> OutputFolder::Clear() {
  SLUICE_TRY(partial_->Clear(options_.journal));
  has_leftover_ = keep_ = false;
  return {};
}

Result<void> OutputFolder::Reclaim(const std::string& name) {
  const std::string above = place_.path + "/" + name, below = partial_path() + "/" + name;
  std::error_code error;
  if (!inside_ || fs::exists(below, error) || !fs::exists(above, error)) return {};
  return Rename(above, below);
}

Result<void> OutputFolder::SyncEntries() {
  SLUICE_TRY(SyncFile(partial_->fd(), partial_->path()));
  SLUICE_TRY(SyncFolder(inside_ ? place_.path : place_.folder));
  for (const std::string& made : made_folders_) SLUICE_TRY(SyncFolder(fs::path(made).parent_path().string()));
  return {};
}

OutputFolder::~OutputFolder() {
  if (partial_ && keep_) partial_->Keep();
  partial_.reset();
  for (auto it = made_folders_.rbegin(); it != made_folders_.rend(); ++it) rmdir(it->c_str());
}

Result<void> OutputFolder::WriteFile(const std::string& name, std::string_view bytes) {
  return CreateFile(partial_path() + "/" + name, bytes);
}

Result<uint64_t> OutputFolder::CopyFile(const std::string& name, const std::string& from) {
  SLUICE_ASSIGN(const std::shared_ptr<const ByteSource> source, OpenFile(from));
  const std::string path = partial_path() + "/" + name;
  SLUICE_ASSIGN(OwnedFd fd, OpenToWrite(path, O_WRONLY | O_CREAT | O_EXCL));
  std::vector<uint8_t> buffer(std::min(source->size_bytes(), kMiB));
  for (uint64_t at = 0; at < source->size_bytes(); at += buffer.size()) {
    const std::span<uint8_t> bytes(buffer.data(), std::min<uint64_t>(buffer.size(), source->size_bytes() - at));
    SLUICE_TRY(source->Read(at, bytes));
    SLUICE_TRY(WriteAll(fd.get(), path, bytes, at));
  }
  SLUICE_TRY(SyncFile(fd.get(), path));
  return source->size_bytes();
}

Result<void> OutputFolder::Commit() {
  SLUICE_CHECK(partial_.has_value());
  SLUICE_TRY(SyncFile(partial_->fd(), partial_->path()));
  std::error_code error;
  const bool replace =
      options_.force && !inside_ && fs::exists(place_.path, error) && !fs::is_empty(place_.path, error);
  if (inside_) {
    SLUICE_TRY(MoveUp());
    SLUICE_TRY(SyncFolder(place_.path));
  } else if (replace) {
    SLUICE_TRY(Replace());
  } else {
    SLUICE_TRY(Rename(partial_->path(), place_.path));
    partial_->Keep();
    published_ = true;
    SLUICE_TRY(SyncFolder(place_.folder));
    SLUICE_TRY(RemoveJournal());
  }
  keep_ = false;
  partial_.reset();
  made_folders_.clear();
  return {};
}

// The folder has its name, for good: there is nothing to go on with.
Result<void> OutputFolder::RemoveJournal() {
  if (options_.journal.empty()) return {};
  const std::string path = place_.path + "/" + options_.journal;
  // Not synced: one that comes back after a power cut does no harm.
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return Fail(WriteError(path, "removing the journal", errno).In(fmt::format("{} is complete, but", place_.given)));
}

Result<void> OutputFolder::MoveUp() {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(partial_->path(), error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename() != options_.journal) names.push_back(it->path().filename().string());
  }
  if (error) return Fail(WriteError(partial_->path(), "listing the finished files", error.value()));
  std::sort(names.begin(), names.end(),
            [](const std::string& a, const std::string& b) { return std::pair(Rank(a), a) < std::pair(Rank(b), b); });
  for (size_t i = 0; i < names.size(); ++i) {
    auto result = Rename(partial_->path() + "/" + names[i], place_.path + "/" + names[i]);
    if (!result) {
      for (size_t k = 0; k < i; ++k) {
        const std::string moved = place_.path + "/" + names[k];
        if (Rename(moved, partial_->path() + "/" + names[k])) continue;
        if (options_.journal.empty()) unlink(moved.c_str());  // else Reclaim looks for it here
      }
      return result;
    }
  }
  return {};
}

Result<void> OutputFolder::Replace() {
  const std::string& partial = partial_->path();
  auto swapped = Exchange(partial, place_.path);
  if (!swapped && swapped.error().code == ErrorCode::kUnsupported) {
    // Two steps, with a moment in between at which the name is free.
    SLUICE_TRY(Rename(place_.path, aside()));
    if (auto renamed = Rename(partial, place_.path); !renamed) {
      SLUICE_TRY(Rename(aside(), place_.path));
      return renamed;
    }
    swapped = Rename(aside(), partial);
  }
  SLUICE_TRY(std::move(swapped));
  keep_ = false;  // it holds the old contents now
  published_ = true;
  SLUICE_TRY(SyncFolder(place_.folder));
  SLUICE_TRY(RemoveJournal());
  std::error_code error;
  fs::remove_all(partial, error);
  if (error) {
    Error failure = WriteError(partial, "removing the contents that were replaced", error.value());
    partial_->Keep();
    return Fail(std::move(failure).In(fmt::format("{} is complete, but", place_.given)));
  }
  return {};
}

}  // namespace sluice::io
