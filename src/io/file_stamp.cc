#include "io/file_stamp.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

namespace sluice::io {
namespace {

constexpr int64_t kNanoseconds = 1'000'000'000;

int64_t Nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * kNanoseconds + time.tv_nsec; }

std::string Seconds(int64_t nanoseconds) {
  return fmt::format("{}.{:09}", nanoseconds / kNanoseconds, nanoseconds % kNanoseconds);
}

}  // namespace

std::string FileStamp::ToString() const {
  return fmt::format("{} bytes, mtime {}, ctime {}", size_bytes, Seconds(modified_nanoseconds),
                     Seconds(changed_nanoseconds));
}

Result<FileStamp> StampOf(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) {
    return Fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kRead,
                fmt::format("{}: {}", path, std::strerror(errno)));
  }
  return FileStamp{static_cast<uint64_t>(status.st_size), Nanoseconds(status.st_mtim), Nanoseconds(status.st_ctim),
                   static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)};
}

}  // namespace sluice::io
