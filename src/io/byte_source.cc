#include "io/byte_source.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

#include <fmt/format.h>

namespace sluice::io {
namespace {

constexpr uint64_t kPageBytes = 4096;

// The page cache is asked through mincore over one mapping of the file that is never touched.
class FileSource final : public ByteSource {
 public:
  FileSource(std::string path, int fd, uint64_t size_bytes, SourceId id)
      : path_(std::move(path)), fd_(fd), size_bytes_(size_bytes), id_(id) {}
  ~FileSource() override {
    if (mapping_ != nullptr) munmap(mapping_, size_bytes_);
    if (direct_fd_ >= 0) close(direct_fd_);
    close(fd_);
  }

  const std::string& name() const override { return path_; }
  uint64_t size_bytes() const override { return size_bytes_; }
  SourceId id() const override { return id_; }

  Result<void> Read(uint64_t offset, std::span<uint8_t> out) const override {
    uint64_t done = 0;
    while (done < out.size()) {
      const ssize_t n = pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        return Fail(ErrorCode::kRead,
                    fmt::format("{}: reading byte {}: {}", path_, offset + done, std::strerror(errno)));
      }
      if (n == 0) {
        return Fail(ErrorCode::kCorrupt,
                    fmt::format("{}: ends at byte {}, but bytes {} to {} are wanted: the file was cut while in use",
                                path_, offset + done, offset, offset + out.size()));
      }
      done += static_cast<uint64_t>(n);
    }
    return {};
  }

  int direct_fd() const override {
    std::call_once(direct_once_, [this] { direct_fd_ = open(path_.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC); });
    return direct_fd_;
  }

  bool Cached(uint64_t offset, uint64_t size) const override {
    std::call_once(mapping_once_, [this] {
      if (size_bytes_ == 0) return;
      void* mapping = mmap(nullptr, size_bytes_, PROT_READ, MAP_SHARED, fd_, 0);
      if (mapping != MAP_FAILED) mapping_ = static_cast<uint8_t*>(mapping);
    });
    if (mapping_ == nullptr || offset >= size_bytes_) return false;
    const uint64_t begin = offset / kPageBytes * kPageBytes, end = std::min(offset + size, size_bytes_);
    unsigned char resident[512];
    for (uint64_t at = begin; at < end; at += sizeof(resident) * kPageBytes) {
      const uint64_t length = std::min<uint64_t>(sizeof(resident) * kPageBytes, end - at);
      if (mincore(mapping_ + at, length, resident) != 0) return false;
      for (uint64_t page = 0; page < (length + kPageBytes - 1) / kPageBytes; ++page) {
        if ((resident[page] & 1) == 0) return false;
      }
    }
    return true;
  }

 private:
  const std::string path_;
  const int fd_;
  const uint64_t size_bytes_;
  const SourceId id_;
  mutable std::once_flag direct_once_, mapping_once_;
  mutable int direct_fd_ = -1;
  mutable uint8_t* mapping_ = nullptr;
};

}  // namespace

Result<std::shared_ptr<const ByteSource>> OpenFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const int reason = errno;
    return Fail(reason == ENOENT || reason == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kRead,
                fmt::format("{}: {}", path, std::strerror(reason)));
  }
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    return Fail(ErrorCode::kRead, fmt::format("{}: not a regular file", path));
  }
  const SourceId id{static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)};
  return std::make_shared<const FileSource>(path, fd, static_cast<uint64_t>(status.st_size), id);
}

Result<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes) {
  SLUICE_ASSIGN(const std::shared_ptr<const ByteSource> source, OpenFile(path));
  if (source->size_bytes() > max_bytes) {
    return Fail(ErrorCode::kCorrupt, fmt::format("{}: {} bytes, more than the {} that such a file may have", path,
                                                 source->size_bytes(), max_bytes));
  }
  std::string text(source->size_bytes(), '\0');
  SLUICE_TRY(source->Read(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()}));
  return text;
}

}  // namespace sluice::io
