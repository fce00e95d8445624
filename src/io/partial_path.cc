#include "io/partial_path.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

namespace sluice::io {
namespace fs = std::filesystem;
namespace {

bool SameFile(int fd, const std::string& path) {
  struct stat by_fd, by_path;
  return fstat(fd, &by_fd) == 0 && lstat(path.c_str(), &by_path) == 0 && by_fd.st_dev == by_path.st_dev &&
         by_fd.st_ino == by_path.st_ino;
}

Result<void> RemoveContents(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    fs::remove_all(it->path(), error);
    if (error) break;
  }
  if (error) return Fail(WriteError(folder, "removing what an earlier run left", error.value()));
  return {};
}

}  // namespace

Result<OutputPlace> ResolveOutput(const std::string& given) {
  std::error_code error;
  fs::path path = given.empty() ? fs::path() : fs::weakly_canonical(fs::absolute(given, error), error);
  if (!path.has_filename()) path = path.parent_path();  // a slash at the end
  if (error) return Fail(WriteError(given, "looking for the output's place", error.value()));
  if (given.empty() || !path.has_filename()) {
    return Fail(ErrorCode::kUsage, fmt::format("'{}' cannot be an output: give it a name", given));
  }
  if (fs::is_symlink(fs::symlink_status(path, error))) {
    return Fail(ErrorCode::kWrite, fmt::format("{}: is a link to nothing: remove it, or choose another output", given));
  }
  OutputPlace place;
  place.given = given;
  place.path = path.string();
  place.folder = path.parent_path().string();
  place.name = path.filename().string();
  place.partial = (path.parent_path() / ("." + place.name + ".sluice-partial")).string();
  return place;
}

Result<void> MakeFolders(const std::string& path, std::vector<std::string>* made) {
  std::vector<fs::path> missing;
  std::error_code error;
  for (fs::path folder = path; !fs::exists(folder, error) && folder.has_relative_path();
       folder = folder.parent_path()) {
    missing.push_back(folder);
  }
  std::reverse(missing.begin(), missing.end());
  for (const fs::path& folder : missing) {
    int error_number = 0;
    if (auto result = MakeFolder(folder.string(), &error_number); result) {
      made->push_back(folder.string());
    } else if (error_number != EEXIST) {
      return result;
    }
  }
  return {};
}

Result<void> PartialPath::Clear(const std::string& first) {
  const std::string path = path_ + "/" + first;
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Fail(WriteError(path, "removing what an earlier run left", errno));
  }
  // Otherwise a power cut could bring it back beside other files than those that it tells of.
  SLUICE_TRY(SyncFile(fd(), path_));
  return RemoveContents(path_);
}

Result<PartialPath> PartialPath::Claim(const OutputPlace& place, Kind kind, const std::string& kept_with) {
  const std::string& path = place.partial;
  // A run that has just ended may remove what we opened before we locked it: then try again.
  for (int attempt = 0; attempt < 100; ++attempt) {
    OwnedFd fd;
    bool was_there = false;
    if (kind == Kind::kFolder) {
      int error_number = 0;
      if (auto result = MakeFolder(path, &error_number); !result) {
        if (error_number != EEXIST) return Fail(std::move(result).error());
        was_there = true;
      }
      fd = OwnedFd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (fd.get() < 0 && errno == ENOENT) continue;
      if (fd.get() < 0) return Fail(WriteError(path, "opening the folder in which the output grows", errno));
    } else {
      was_there = access(path.c_str(), F_OK) == 0;
      SLUICE_ASSIGN(fd, OpenToWrite(path, O_RDWR | O_CREAT | O_NOFOLLOW));
    }
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) {
        return Fail(ErrorCode::kWrite,
                    fmt::format("{}: another run is writing it now (it holds {}): wait for it to end, "
                                "or choose another output",
                                place.given, path));
      }
      // No locks here (some network file systems). A run of ours cannot be told from a dead one's rest: a person can.
      if (was_there) {
        return Fail(ErrorCode::kWrite,
                    fmt::format("{}: {} is there and the file system has no locks to tell whose it is: remove it if no "
                                "other run is writing",
                                place.given, path));
      }
    }
    if (!SameFile(fd.get(), path)) continue;
    PartialPath partial(path, std::move(fd));
    if (kind == Kind::kFolder) {
      const bool kept = !kept_with.empty() && access((path + "/" + kept_with).c_str(), F_OK) == 0;
      if (!kept) SLUICE_TRY(RemoveContents(path));
    } else {
      SLUICE_TRY(Truncate(partial.fd(), path, 0));
    }
    return partial;
  }
  return Fail(ErrorCode::kWrite, fmt::format("{}: another run makes and removes it again and again", path));
}

PartialPath::~PartialPath() {
  if (path_.empty()) return;
  std::error_code error;  // nobody is left to tell; the next run for this name tries again
  fs::remove_all(path_, error);
}

}  // namespace sluice::io
