// The system calls by which output comes to be, as Results that name the path and say what to do. All output goes
// through these, so that a test can make any of them fail (WriteFaults).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace sluice::io {

enum class WriteCall { kOpen, kMakeFolder, kAllocate, kWrite, kTruncate, kSync, kRename };

// What a test puts in the way of the calls below. Asked from any thread.
class WriteFaults {
 public:
  virtual ~WriteFaults() = default;
  // 0 lets the call happen; an errno makes it fail with that.
  virtual int Before(WriteCall call, const std::string& path) = 0;
  // What CheckFreeSpace shall believe to be free; nullopt for the truth.
  virtual std::optional<uint64_t> FreeBytes() { return std::nullopt; }
};
// For tests, while nothing is being written; null ends it.
void SetWriteFaults(WriteFaults* faults);

// Owns a descriptor, and with it a lock on its file.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~OwnedFd() { Close(); }
  int get() const { return fd_; }
  void Close();

 private:
  int fd_ = -1;
};

// kWrite: "PATH: DOING: what the system says: what to do about it".
Error WriteError(const std::string& path, std::string_view doing, int error_number);

// `flags` as for open(2); O_CLOEXEC and mode 0666 are added.
Result<OwnedFd> OpenToWrite(const std::string& path, int flags);
// The errno of the failed call comes with the Error where a caller has a second way.
Result<void> MakeFolder(const std::string& path, int* error_number = nullptr);
Result<void> WriteAll(int fd, const std::string& path, std::span<const uint8_t> bytes, uint64_t offset,
                      int* error_number = nullptr);
Result<void> Truncate(int fd, const std::string& path, uint64_t size_bytes);
Result<void> SyncFile(int fd, const std::string& path);
// The bytes, and what it takes to find them again; not times.
Result<void> SyncData(int fd, const std::string& path);
Result<void> SyncFolder(const std::string& path);
// Replaces a file or an empty folder at `to`.
Result<void> Rename(const std::string& from, const std::string& to);
// Swaps two names in one step; kUnsupported where the file system cannot.
Result<void> Exchange(const std::string& a, const std::string& b);

// kWrite "needs X, Y free on ..." where the file system of `folder` has less than `size_bytes` for us.
Result<void> CheckFreeSpace(const std::string& folder, uint64_t size_bytes);
// Makes a file where it misses and reserves its space, where the file system can: a full disk then shows before the
// work, not after.
Result<void> CreateAllocated(const std::string& path, uint64_t size_bytes);
// A new file of these bytes, synced.
Result<void> CreateFile(const std::string& path, std::string_view bytes);

}  // namespace sluice::io
