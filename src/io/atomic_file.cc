#include "io/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/check.h"

namespace sluice::io {

Result<AtomicFile> AtomicFile::Create(const std::string& path, bool force) {
  SLUICE_ASSIGN(OutputPlace place, ResolveOutput(path));
  struct stat status;
  if (stat(place.path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) {
      return Fail(ErrorCode::kOutputExists,
                  fmt::format("{}: is a folder, and the output is a file: choose another name", path));
    }
    if (!S_ISREG(status.st_mode)) {
      return Fail(ErrorCode::kOutputExists, fmt::format("{}: is no regular file: choose another name", path));
    }
    if (status.st_size > 0 && !force) {
      return Fail(ErrorCode::kOutputExists,
                  fmt::format("{}: exists and is not empty: choose another name, or replace it with --force", path));
    }
  }
  AtomicFile file(std::move(place));
  SLUICE_TRY(MakeFolders(file.place_.folder, &file.made_folders_));
  SLUICE_ASSIGN(file.partial_, PartialPath::Claim(file.place_, PartialPath::Kind::kFile));
  return file;
}

AtomicFile::~AtomicFile() {
  partial_.reset();
  // Only those that are empty go.
  for (auto it = made_folders_.rbegin(); it != made_folders_.rend(); ++it) rmdir(it->c_str());
}

Result<void> AtomicFile::Commit() {
  SLUICE_CHECK(partial_.has_value());
  SLUICE_TRY(SyncFile(partial_->fd(), partial_->path()));
  SLUICE_TRY(Rename(partial_->path(), place_.path));
  partial_->Keep();
  partial_.reset();
  made_folders_.clear();
  return SyncFolder(place_.folder);
}

namespace {

// A pipe, a terminal, /dev/stdout: written into, never replaced.
bool IsStream(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

}  // namespace

Result<void> CheckWritable(const std::string& path) {
  if (IsStream(path)) return {};
  auto file = AtomicFile::Create(path, /*force=*/true);
  if (!file) return Fail(std::move(file.error()));
  return {};
}

Result<void> WriteFileAtomically(const std::string& path, std::string_view bytes) {
  const std::span<const uint8_t> span(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  if (IsStream(path)) {
    SLUICE_ASSIGN(OwnedFd fd, OpenToWrite(path, O_WRONLY));
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t n = write(fd.get(), bytes.data() + done, bytes.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return Fail(WriteError(path, "writing", errno));
      done += static_cast<size_t>(n);
    }
    return {};
  }
  SLUICE_ASSIGN(AtomicFile file, AtomicFile::Create(path, /*force=*/true));
  SLUICE_ASSIGN(OwnedFd fd, OpenToWrite(file.partial_path(), O_WRONLY));
  SLUICE_TRY(WriteAll(fd.get(), file.partial_path(), span, 0));
  return file.Commit();
}

}  // namespace sluice::io
