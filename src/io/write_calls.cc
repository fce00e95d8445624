#include "io/write_calls.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/units.h"

namespace sluice::io {
namespace {

std::atomic<WriteFaults*> write_faults{nullptr};

int Fault(WriteCall call, const std::string& path) {
  WriteFaults* faults = write_faults.load();
  return faults == nullptr ? 0 : faults->Before(call, path);
}

// What to do, by errno.
const char* Advice(int error_number) {
  switch (error_number) {
    case ENOSPC:
      return ": free some space there or write elsewhere";
    case EDQUOT:
      return ": the quota is used up: free some space there or write elsewhere";
    case EROFS:
    case EACCES:
    case EPERM:
      return ": choose an output that this user may write to";
    case EFBIG:
      return ": the file system or a limit (ulimit -f) does not take files of this size: ask for smaller shards";
    case EIO:
      return ": the disk reports an error; the kernel's log may say more";
    default:
      return "";
  }
}

std::optional<uint64_t> FreeBytesOn(const std::string& folder) {
  if (WriteFaults* faults = write_faults.load()) {
    if (auto bytes = faults->FreeBytes()) return bytes;
  }
  struct statvfs fs;
  // A file system that does not know its size (some remote ones) says 0 blocks.
  if (statvfs(folder.c_str(), &fs) != 0 || fs.f_blocks == 0) return std::nullopt;
  return uint64_t{fs.f_bavail} * fs.f_frsize;
}

Error NoSpace(const std::string& folder, uint64_t needed_bytes, uint64_t free_bytes) {
  return Error{ErrorCode::kWrite,
               fmt::format("{}: needs {}, {} free on its file system: free some space there or write elsewhere", folder,
                           FormatBytes(needed_bytes), FormatBytes(free_bytes)),
               {}};
}

}  // namespace

void SetWriteFaults(WriteFaults* faults) { write_faults.store(faults); }

void OwnedFd::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

Error WriteError(const std::string& path, std::string_view doing, int error_number) {
  return Error{ErrorCode::kWrite,
               fmt::format("{}: {}: {}{}", path, doing, std::strerror(error_number), Advice(error_number)),
               {}};
}

Result<OwnedFd> OpenToWrite(const std::string& path, int flags) {
  int error_number = Fault(WriteCall::kOpen, path);
  if (error_number == 0) {
    const int fd = open(path.c_str(), flags | O_CLOEXEC, 0666);
    if (fd >= 0) return OwnedFd(fd);
    error_number = errno;
  }
  return Fail(WriteError(path, "cannot be opened for writing", error_number));
}

Result<void> MakeFolder(const std::string& path, int* error_number) {
  int error = Fault(WriteCall::kMakeFolder, path);
  if (error == 0) {
    if (mkdir(path.c_str(), 0777) == 0) return {};
    error = errno;
  }
  if (error_number != nullptr) *error_number = error;
  return Fail(WriteError(path, "the folder cannot be made", error));
}

Result<void> WriteAll(int fd, const std::string& path, std::span<const uint8_t> bytes, uint64_t offset,
                      int* error_number) {
  int error = Fault(WriteCall::kWrite, path);
  uint64_t done = 0;
  while (error == 0 && done < bytes.size()) {
    const ssize_t n = pwrite(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      error = n < 0 ? errno : EIO;
    } else {
      done += static_cast<uint64_t>(n);
    }
  }
  if (error == 0) return {};
  if (error_number != nullptr) *error_number = error;
  return Fail(WriteError(path, fmt::format("writing at byte {}", offset + done), error));
}

Result<void> Truncate(int fd, const std::string& path, uint64_t size_bytes) {
  int error = Fault(WriteCall::kTruncate, path);
  if (error == 0 && ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) error = errno;
  if (error != 0) return Fail(WriteError(path, fmt::format("setting its size to {} bytes", size_bytes), error));
  return {};
}

Result<void> SyncFile(int fd, const std::string& path) {
  int error = Fault(WriteCall::kSync, path);
  if (error == 0 && fsync(fd) != 0) error = errno;
  // Some file systems have nothing to sync a folder with.
  if (error != 0 && error != EINVAL) return Fail(WriteError(path, "making sure that it is on the disk", error));
  return {};
}

Result<void> SyncData(int fd, const std::string& path) {
  int error = Fault(WriteCall::kSync, path);
  if (error == 0 && fdatasync(fd) != 0) error = errno;
  if (error != 0) return Fail(WriteError(path, "making sure that it is on the disk", error));
  return {};
}

Result<void> SyncFolder(const std::string& path) {
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return Fail(WriteError(path, "opening the folder to sync it", errno));
  return SyncFile(fd.get(), path);
}

Result<void> Rename(const std::string& from, const std::string& to) {
  int error = Fault(WriteCall::kRename, to);
  if (error == 0 && std::rename(from.c_str(), to.c_str()) != 0) error = errno;
  if (error == 0) return {};
  if (error == ENOTEMPTY || error == EEXIST) {
    return Fail(
        ErrorCode::kOutputExists,
        fmt::format("{}: something was put there while its contents were being made; nothing was replaced", to));
  }
  return Fail(WriteError(to, "giving the finished output its name", error));
}

Result<void> Exchange(const std::string& a, const std::string& b) {
  int error = Fault(WriteCall::kRename, b);
  if (error == 0 && renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) != 0) error = errno;
  if (error == 0) return {};
  if (error == EINVAL || error == ENOSYS || error == EOPNOTSUPP) {
    return Fail(ErrorCode::kUnsupported, fmt::format("{}: the file system cannot swap two names", b));
  }
  return Fail(WriteError(b, "putting the finished output in the place of the old one", error));
}

Result<void> CheckFreeSpace(const std::string& folder, uint64_t size_bytes) {
  const auto free_bytes = FreeBytesOn(folder);
  if (free_bytes && *free_bytes < size_bytes) return Fail(NoSpace(folder, size_bytes, *free_bytes));
  return {};
}

Result<void> CreateAllocated(const std::string& path, uint64_t size_bytes) {
  SLUICE_ASSIGN(OwnedFd fd, OpenToWrite(path, O_WRONLY | O_CREAT));
  int error = Fault(WriteCall::kAllocate, path);
  // Not posix_fallocate: where the file system cannot reserve, that writes zeros.
  while (error == 0 && size_bytes > 0 && fallocate(fd.get(), 0, 0, static_cast<off_t>(size_bytes)) != 0) {
    if (errno != EINTR) error = errno;
  }
  if (error == 0 || error == EOPNOTSUPP || error == ENOSYS || error == EINVAL) return {};
  if (error == ENOSPC) {
    const std::string folder = std::filesystem::path(path).parent_path().string();
    const auto free_bytes = FreeBytesOn(folder);
    if (free_bytes && *free_bytes < size_bytes) return Fail(NoSpace(path, size_bytes, *free_bytes));
  }
  return Fail(WriteError(path, fmt::format("reserving {}", FormatBytes(size_bytes)), error));
}

Result<void> CreateFile(const std::string& path, std::string_view bytes) {
  SLUICE_ASSIGN(OwnedFd fd, OpenToWrite(path, O_WRONLY | O_CREAT | O_EXCL));
  SLUICE_TRY(WriteAll(fd.get(), path, {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, 0));
  return SyncFile(fd.get(), path);
}

}  // namespace sluice::io
