#include "io/block_writer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

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
  Buffers(uint64_t size_bytes) : mapped_bytes_(RoundUp(size_bytes, kHugePageBytes) + kHugePageBytes) {
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
    thread_ = std::thread([this] { Run(); });
  }

  ~Impl() {
    {
      std::lock_guard lock(mutex_);
      abandoned_ = true;
    }
    work_.notify_one();
    thread_.join();
  }

  void Begin(const std::string& path) {
    SLUICE_CHECK(!open_);
    open_ = true;
    Push({.kind = Item::kOpen, .path = path});
  }

  Result<void> Append(std::span<const uint8_t> bytes) {
    SLUICE_CHECK(open_);
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
    SLUICE_CHECK(open_);
    if (filling_ >= 0) PushBuffer();
    open_ = false;
    Push({.kind = Item::kClose});
    std::lock_guard lock(mutex_);
    return Failure();
  }

  Result<void> Finish() {
    SLUICE_CHECK(!open_);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return queue_.empty() && !busy_; });
    return Failure();
  }

  BlockWriterStats stats() const {
    std::lock_guard lock(mutex_);
    return stats_;
  }

  uint64_t memory_bytes() const { return buffer_bytes_ * kNumBuffers; }

 private:
  struct Item {
    enum Kind { kOpen, kBlock, kClose } kind;
    std::string path = {};
    int buffer = -1;
    uint64_t size_bytes = 0;
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
    Push({.kind = Item::kBlock, .buffer = filling_, .size_bytes = filled_bytes_});
    filling_ = -1;
  }

  void Push(Item item) {
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(std::move(item));
    }
    work_.notify_one();
  }

  // The writing thread. After a failure it goes on taking items, so that the producer never waits for ever.
  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return abandoned_ || !queue_.empty(); });
      if (abandoned_) return;
      Item item = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
      const bool failed = error_.has_value();
      lock.unlock();
      auto result = failed ? Result<void>() : Do(item);
      lock.lock();
      busy_ = false;
      if (!result) error_ = std::move(result).error();
      if (item.kind == Item::kBlock) {
        free_.push_back(item.buffer);
        if (!failed) stats_.written_bytes += item.size_bytes;
      }
      if (item.kind == Item::kClose) {
        ++stats_.files;
        stats_.direct = direct_;
      }
      done_.notify_one();
    }
  }

  Result<void> Do(const Item& item) {
    switch (item.kind) {
      case Item::kOpen:
        return Open(item.path);
      case Item::kBlock:
        return Write(Buffer(item.buffer), item.size_bytes);
      case Item::kClose:
        return Close();
    }
    return {};
  }

  Result<void> Open(const std::string& path) {
    path_ = path;
    written_bytes_ = 0;
    SLUICE_ASSIGN(file_, OpenToWrite(path, O_WRONLY | O_CREAT));
    // Set afterwards: where O_DIRECT is refused the open itself stands.
    const int flags = fcntl(file_.get(), F_GETFL);
    direct_ = allow_direct_ && fcntl(file_.get(), F_SETFL, flags | O_DIRECT) == 0;
    return {};
  }

  Result<void> Write(uint8_t* data, uint64_t size_bytes) {
    int error_number = 0;
    if (direct_) {
      const uint64_t whole_bytes = RoundUp(size_bytes, kDiskBlockBytes);
      std::memset(data + size_bytes, 0, whole_bytes - size_bytes);
      auto result = WriteAll(file_.get(), path_, {data, whole_bytes}, written_bytes_, &error_number);
      if (result || error_number != EINVAL) {
        written_bytes_ += size_bytes;
        return result;
      }
      // Taken by open and refused by write: some file systems do that.
      fcntl(file_.get(), F_SETFL, fcntl(file_.get(), F_GETFL) & ~O_DIRECT);
      direct_ = false;
    }
    SLUICE_TRY(WriteAll(file_.get(), path_, {data, size_bytes}, written_bytes_));
    // Start this block, wait for the one before and drop its pages: the cache holds two blocks and fsync finds little
    // to do.
    const auto begin = static_cast<off_t>(written_bytes_);
    sync_file_range(file_.get(), begin, static_cast<off_t>(size_bytes), SYNC_FILE_RANGE_WRITE);
    if (written_bytes_ >= buffer_bytes_) {
      const off_t before = begin - static_cast<off_t>(buffer_bytes_);
      sync_file_range(file_.get(), before, static_cast<off_t>(buffer_bytes_),
                      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
      posix_fadvise(file_.get(), before, static_cast<off_t>(buffer_bytes_), POSIX_FADV_DONTNEED);
    }
    written_bytes_ += size_bytes;
    return {};
  }

  Result<void> Close() {
    // Cuts the padding of the last block, or what was reserved too much.
    SLUICE_TRY(Truncate(file_.get(), path_, written_bytes_));
    SLUICE_TRY(SyncFile(file_.get(), path_));
    if (!direct_) posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED);
    file_.Close();
    return {};
  }

  const uint64_t buffer_bytes_;
  const bool allow_direct_;
  const Buffers buffers_;

  // The producer's.
  bool open_ = false;
  int filling_ = -1;
  uint64_t filled_bytes_ = 0;

  // The writing thread's.
  OwnedFd file_;
  std::string path_;
  uint64_t written_bytes_ = 0;
  bool direct_ = false;

  mutable std::mutex mutex_;
  std::condition_variable work_, done_;
  std::deque<Item> queue_;
  std::vector<int> free_;
  bool busy_ = false, abandoned_ = false;
  std::optional<Error> error_;
  BlockWriterStats stats_;
  std::thread thread_;
};

BlockWriter::BlockWriter(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
BlockWriter::~BlockWriter() = default;
void BlockWriter::Begin(const std::string& path) { impl_->Begin(path); }
Result<void> BlockWriter::Append(std::span<const uint8_t> bytes) { return impl_->Append(bytes); }
Result<void> BlockWriter::End() { return impl_->End(); }
Result<void> BlockWriter::Finish() { return impl_->Finish(); }
uint64_t BlockWriter::memory_bytes() const { return impl_->memory_bytes(); }
BlockWriterStats BlockWriter::stats() const { return impl_->stats(); }

}  // namespace sluice::io
