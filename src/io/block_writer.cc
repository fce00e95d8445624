#include "io/block_writer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "io/write_calls.h"

namespace sluice::io {
namespace {

constexpr uint64_t kDiskBlockBytes = 4096;  // alignment of O_DIRECT, in the file and in memory
constexpr uint64_t kHugePageBytes = 2 * kMiB;

// O_DIRECT from 4 KiB pages runs at half the rate of 2 MiB pages, hence a mapping of its own.
class Buffers {
 public:
  explicit Buffers(uint64_t size_bytes) : mapped_bytes_(RoundUp(size_bytes, kHugePageBytes) + kHugePageBytes) {
    mapping_ = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SLUICE_CHECK(mapping_ != MAP_FAILED);
    data_ = reinterpret_cast<uint8_t*>(RoundUp(reinterpret_cast<uint64_t>(mapping_), kHugePageBytes));
    // Whole huge pages only, so that small buffers do not become resident beyond their size.
    if (size_bytes % kHugePageBytes == 0) madvise(data_, size_bytes, MADV_HUGEPAGE);
  }
  ~Buffers() { munmap(mapping_, mapped_bytes_); }
  Buffers(const Buffers&) = delete;
  uint8_t* data() const { return data_; }

 private:
  uint64_t mapped_bytes_;
  void* mapping_;
  uint8_t* data_;
};

}  // namespace

class BlockWriter::Impl {
 public:
  explicit Impl(const Options& options)
      : buffer_bytes_(options.buffer_bytes),
        allow_direct_(options.allow_direct),
        buffers_(buffer_bytes_ * kNumBuffers) {
    SLUICE_CHECK(buffer_bytes_ > 0 && buffer_bytes_ % kDiskBlockBytes == 0);
    for (int i = 0; i < kNumBuffers; ++i) free_.push_back(i);
    for (std::thread& thread : threads_) thread = std::thread([this] { Run(); });
  }

  ~Impl() {
    {
      std::lock_guard lock(mutex_);
      abandoned_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Result<void> Begin(const std::string& path, uint64_t offset_bytes) {
    SLUICE_CHECK(file_ == nullptr);
    {
      std::lock_guard lock(mutex_);
      SLUICE_TRY(Failure());
    }
    auto file = std::make_shared<File>();
    file->path = path;
    SLUICE_ASSIGN(file->fd, OpenToWrite(path, O_WRONLY | O_CREAT));
    // Set afterwards: where O_DIRECT is refused the open itself stands.
    const int flags = fcntl(file->fd.get(), F_GETFL);
    file->direct = allow_direct_ && fcntl(file->fd.get(), F_SETFL, flags | O_DIRECT) == 0;
    file->size_bytes = file->pushed_bytes = RoundDown(offset_bytes, kDiskBlockBytes);
    file_ = std::move(file);
    {
      std::lock_guard lock(mutex_);
      file_->number = num_begun_++;
      open_.push_back(file_);
    }
    if (offset_bytes == file_->size_bytes) return {};
    // Blocks are written whole: what stands in the first one before the offset is written once more.
    std::vector<uint8_t> before(offset_bytes - file_->size_bytes);
    const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const ssize_t n = pread(fd.get(), before.data(), before.size(), static_cast<off_t>(file_->size_bytes));
    if (n != static_cast<ssize_t>(before.size())) {
      return Fail(WriteError(path, "reading back where it goes on", n < 0 ? errno : EIO));
    }
    return Append(before);
  }

  Result<void> Append(std::span<const uint8_t> bytes) {
    SLUICE_CHECK(file_ != nullptr);
    while (!bytes.empty()) {
      if (filling_ < 0) SLUICE_TRY(TakeBuffer());
      const uint64_t n = std::min<uint64_t>(bytes.size(), buffer_bytes_ - filled_bytes_);
      std::memcpy(Buffer(filling_) + filled_bytes_, bytes.data(), n);
      filled_bytes_ += n;
      bytes = bytes.subspan(n);
      if (filled_bytes_ == buffer_bytes_) PushBuffer();
    }
    return {};
  }

  Result<void> End() {
    SLUICE_CHECK(file_ != nullptr);
    if (filling_ >= 0) PushBuffer();
    {
      std::lock_guard lock(mutex_);
      file_->ended = true;
      ++open_files_;
      if (file_->blocks_left == 0) queue_.push_back({.file = file_, .close = true});
    }
    work_.notify_one();
    file_ = nullptr;
    std::lock_guard lock(mutex_);
    return Failure();
  }

  Result<void> Finish() {
    SLUICE_CHECK(file_ == nullptr);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return open_files_ == 0; });
    return Failure();
  }

  Result<SyncedUpTo> SyncWritten() {
    std::shared_ptr<File> file;
    SyncedUpTo reached;
    {
      std::lock_guard lock(mutex_);
      if (sync_failed_) return Fail(*error_);
      reached.file = num_begun_;
      if (open_.empty()) return reached;
      file = open_.front();  // later ones may be closed already: two threads close them
      reached.file = file->number;
      reached.offset_bytes = file->unwritten.empty() ? file->pushed_bytes : *file->unwritten.begin();
    }
    if (auto synced = SyncData(file->fd.get(), file->path); !synced) {
      std::lock_guard lock(mutex_);
      sync_failed_ = true;
      if (!error_) error_ = synced.error();
      return Fail(std::move(synced).error());
    }
    return reached;
  }

  BlockWriterStats stats() const {
    std::lock_guard lock(mutex_);
    return stats_;
  }

  uint64_t memory_bytes() const { return buffer_bytes_ * kNumBuffers; }

 private:
  struct File {
    std::string path;
    uint64_t number = 0;
    OwnedFd fd;
    std::atomic<bool> direct;
    std::atomic<bool> lost = false;  // the system took bytes and could not keep them
    uint64_t size_bytes = 0;         // appended; the producer's until it has ended
    uint64_t blocks_left = 0;        // handed over and not yet written; under mutex_, like what follows
    uint64_t pushed_bytes = 0;
    std::set<uint64_t> unwritten;  // where blocks begin that were handed over and are not written
    bool ended = false;
  };
  struct Item {
    std::shared_ptr<File> file;
    bool close = false;  // else a block:
    int buffer = -1;
    uint64_t offset = 0, size_bytes = 0;
  };

  uint8_t* Buffer(int i) const { return buffers_.data() + buffer_bytes_ * static_cast<uint64_t>(i); }

  Result<void> Failure() const {  // mutex_ held
    if (error_) return Fail(*error_);
    return {};
  }

  Result<void> TakeBuffer() {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return !free_.empty(); });
    SLUICE_TRY(Failure());
    filling_ = free_.back();
    free_.pop_back();
    filled_bytes_ = 0;
    return {};
  }

  void PushBuffer() {
    {
      std::lock_guard lock(mutex_);
      ++file_->blocks_left;
      file_->unwritten.insert(file_->size_bytes);
      file_->pushed_bytes += filled_bytes_;
      queue_.push_back({.file = file_, .buffer = filling_, .offset = file_->size_bytes, .size_bytes = filled_bytes_});
    }
    work_.notify_one();
    file_->size_bytes += filled_bytes_;
    filling_ = -1;
  }

  // A writing thread. After a failure they go on taking items, so that the producer never waits for ever.
  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return abandoned_ || !queue_.empty(); });
      if (abandoned_) return;
      Item item = std::move(queue_.front());
      queue_.pop_front();
      const bool failed = error_.has_value();
      lock.unlock();
      auto result = failed ? Result<void>() : item.close ? Close(*item.file) : Write(item);
      lock.lock();
      const bool done = result.has_value() && !failed;
      if (!result && (item.close || item.file->lost)) sync_failed_ = true;
      if (!result && !error_) error_ = std::move(result).error();
      if (item.close) {
        if (done) std::erase(open_, item.file);
        --open_files_;
        ++stats_.files;
        stats_.direct = item.file->direct;
      } else {
        free_.push_back(item.buffer);
        if (done) item.file->unwritten.erase(item.offset);
        if (done) stats_.written_bytes += item.size_bytes;
        // The close follows the last block, whichever thread wrote that.
        if (--item.file->blocks_left == 0 && item.file->ended) {
          queue_.push_front({.file = item.file, .close = true});
          work_.notify_one();
        }
      }
      done_.notify_one();
    }
  }

  Result<void> Write(const Item& item) {
    File& file = *item.file;
    uint8_t* data = Buffer(item.buffer);
    if (file.direct) {
      int error_number = 0;
      const uint64_t whole_bytes = RoundUp(item.size_bytes, kDiskBlockBytes);
      std::memset(data + item.size_bytes, 0, whole_bytes - item.size_bytes);
      auto result = WriteAll(file.fd.get(), file.path, {data, whole_bytes}, item.offset, &error_number);
      if (result || error_number != EINVAL) return result;
      // Taken by open and refused by write: some file systems do that.
      fcntl(file.fd.get(), F_SETFL, fcntl(file.fd.get(), F_GETFL) & ~O_DIRECT);
      file.direct = false;
    }
    SLUICE_TRY(WriteAll(file.fd.get(), file.path, {data, item.size_bytes}, item.offset));
    // Start this block; wait for the one that was written before it and drop its pages: the cache holds a few blocks
    // and fsync finds little to do.
    const auto begin = static_cast<off_t>(item.offset), block = static_cast<off_t>(buffer_bytes_);
    sync_file_range(file.fd.get(), begin, static_cast<off_t>(item.size_bytes), SYNC_FILE_RANGE_WRITE);
    if (begin >= kNumThreads * block) {
      const off_t before = begin - kNumThreads * block;
      // It takes the error of a failed write-back away from the sync at the end, so it must be told here.
      if (sync_file_range(file.fd.get(), before, block,
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) != 0 &&
          (errno == EIO || errno == ENOSPC || errno == EDQUOT)) {
        file.lost = true;
        return Fail(WriteError(file.path, fmt::format("writing at byte {}", before), errno));
      }
      posix_fadvise(file.fd.get(), before, block, POSIX_FADV_DONTNEED);
    }
    return {};
  }

  static Result<void> Close(File& file) {
    // Cuts the padding of the last block, or what was reserved too much.
    SLUICE_TRY(Truncate(file.fd.get(), file.path, file.size_bytes));
    SLUICE_TRY(SyncFile(file.fd.get(), file.path));
    if (!file.direct) posix_fadvise(file.fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    return {};  // closed with the last reference: SyncWritten may be at it
  }

  // Two writes under way: the disk has work while a thread wakes up.
  static constexpr int kNumThreads = 2;

  const uint64_t buffer_bytes_;
  const bool allow_direct_;
  const Buffers buffers_;

  // The producer's.
  std::shared_ptr<File> file_;
  int filling_ = -1;
  uint64_t filled_bytes_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable work_, done_;
  std::deque<Item> queue_;
  std::vector<int> free_;
  uint64_t open_files_ = 0;  // ended and not yet closed
  uint64_t num_begun_ = 0;
  std::deque<std::shared_ptr<File>> open_;  // begun and not yet closed, in order
  bool sync_failed_ = false;
  bool abandoned_ = false;
  std::optional<Error> error_;
  BlockWriterStats stats_;
  std::array<std::thread, kNumThreads> threads_;
};

BlockWriter::BlockWriter(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
BlockWriter::~BlockWriter() = default;
Result<void> BlockWriter::Begin(const std::string& path, uint64_t offset_bytes) {
  return impl_->Begin(path, offset_bytes);
}
Result<void> BlockWriter::Append(std::span<const uint8_t> bytes) { return impl_->Append(bytes); }
Result<void> BlockWriter::End() { return impl_->End(); }
Result<void> BlockWriter::Finish() { return impl_->Finish(); }
Result<SyncedUpTo> BlockWriter::SyncWritten() { return impl_->SyncWritten(); }
uint64_t BlockWriter::memory_bytes() const { return impl_->memory_bytes(); }
BlockWriterStats BlockWriter::stats() const { return impl_->stats(); }

}  // namespace sluice::io
