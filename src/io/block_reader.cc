#include "io/block_reader.h"

#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <unordered_map>

#include <fmt/format.h>

#include "base/check.h"
#include "base/thread_pool.h"

namespace sluice::io {
namespace {

constexpr unsigned kRingEntries = 256;
constexpr int kReaderThreads = 4;  // depth 4 saturates a local disk; more gained nothing where it was measured

Error ShortRead(const ReadRequest& request, uint64_t got_bytes) {
  return {ErrorCode::kCorrupt,
          fmt::format("{}: ends at byte {}, but bytes {} to {} are wanted: the file was cut while in use",
                      request.source->name(), request.offset + got_bytes, request.offset,
                      request.offset + request.needed_bytes),
          {}};
}

Error ReadFailed(const ReadRequest& request, int reason) {
  return {ErrorCode::kRead,
          fmt::format("{}: reading bytes {} to {}: {}", request.source->name(), request.offset,
                      request.offset + request.needed_bytes, std::strerror(reason)),
          {}};
}

// By the source's own Read: whatever is no file, is in the page cache, or refuses O_DIRECT.
Result<void> ReadBySource(const ReadRequest& request) {
  return request.source->Read(request.offset, {request.destination, request.needed_bytes});
}

// From the file by pread on the direct descriptor; falls back to the source where the file system wants no such read.
Result<void> ReadByPread(const ReadRequest& request) {
  const int fd = request.source->direct_fd();
  if (fd < 0 || request.source->Cached(request.offset, request.needed_bytes)) return ReadBySource(request);
  uint64_t done = 0;
  while (done < request.needed_bytes) {
    const ssize_t n =
        pread(fd, request.destination + done, request.size_bytes - done, static_cast<off_t>(request.offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) return ReadBySource(request);
    if (n < 0) return Fail(ReadFailed(request, errno));
    if (n == 0) return Fail(ShortRead(request, done));
    done += static_cast<uint64_t>(n);
    if (done % kBlockBytes != 0) break;  // the end of the file
  }
  if (done < request.needed_bytes) return Fail(ShortRead(request, done));
  return {};
}

class ThreadReader final : public BlockReader {
 public:
  ThreadReader() : threads_(kReaderThreads, [this](int) { Work(); }) {}
  ~ThreadReader() override {
    std::lock_guard lock(mutex_);
    stop_ = true;
    wake_.notify_all();
  }

  void Submit(const ReadRequest& request) override {
    std::lock_guard lock(mutex_);
    queue_.push_back(request);
    ++in_flight_;
    wake_.notify_one();
  }

  void Wait(bool block, std::vector<ReadCompletion>* done) override {
    std::unique_lock lock(mutex_);
    if (block) completed_.wait(lock, [this] { return !done_.empty() || in_flight_ == 0; });
    in_flight_ -= done_.size();
    std::move(done_.begin(), done_.end(), std::back_inserter(*done));
    done_.clear();
  }

  uint64_t in_flight() const override { return in_flight_; }
  const char* mode() const override { return "threads"; }

 private:
  void Work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (stop_) return;
      const ReadRequest request = queue_.front();
      queue_.pop_front();
      lock.unlock();
      Result<void> result = ReadByPread(request);
      lock.lock();
      done_.push_back({request.tag, std::move(result)});
      completed_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, completed_;
  std::deque<ReadRequest> queue_;
  std::vector<ReadCompletion> done_;
  uint64_t in_flight_ = 0;  // changed by the one submitting thread, under the mutex
  bool stop_ = false;
  ThreadPool threads_;  // last: its threads use the members above
};

class UringReader final : public BlockReader {
 public:
  ~UringReader() override {
    if (!open_) return;
    std::vector<ReadCompletion> dropped;
    while (active_ > 0 || !waiting_.empty()) Wait(true, &dropped);  // the kernel still writes into the buffers
    io_uring_queue_exit(&ring_);
  }

  static std::unique_ptr<UringReader> Try() {
    auto reader = std::unique_ptr<UringReader>(new UringReader);
    if (io_uring_queue_init(kRingEntries, &reader->ring_, 0) != 0) return nullptr;
    reader->open_ = true;
    return reader;
  }

  // A source without a direct descriptor, or whose bytes are in the page cache, is read here and now: a copy is all it
  // takes.
  void Submit(const ReadRequest& request) override {
    if (request.source->direct_fd() < 0 || request.source->Cached(request.offset, request.needed_bytes)) {
      ready_.push_back({request.tag, ReadBySource(request)});
      return;
    }
    waiting_.push_back(Pending{request, 0});
    Start();
  }

  void Wait(bool block, std::vector<ReadCompletion>* done) override {
    const size_t before = done->size();
    do {
      std::move(ready_.begin(), ready_.end(), std::back_inserter(*done));
      ready_.clear();
      if (active_ == 0 && waiting_.empty()) return;
      io_uring_cqe* cqe = nullptr;
      const bool wait = block && done->size() == before;
      int result = wait ? io_uring_wait_cqe(&ring_, &cqe) : io_uring_peek_cqe(&ring_, &cqe);
      if (result == -EINTR) continue;
      while (result == 0 && cqe != nullptr) {
        Complete(cqe);
        io_uring_cqe_seen(&ring_, cqe);
        cqe = nullptr;
        result = io_uring_peek_cqe(&ring_, &cqe);
      }
      Start();
      std::move(ready_.begin(), ready_.end(), std::back_inserter(*done));
      ready_.clear();
    } while (block && done->size() == before);
  }

  uint64_t in_flight() const override { return active_ + waiting_.size() + ready_.size(); }
  const char* mode() const override { return "io_uring"; }

 private:
  struct Pending {
    ReadRequest request;
    uint64_t done_bytes;
  };

  UringReader() = default;

  void Start() {
    bool queued = false;
    while (!waiting_.empty() && active_ < kRingEntries) {
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) break;
      auto* pending = new Pending(waiting_.front());
      waiting_.pop_front();
      io_uring_prep_read(sqe, pending->request.source->direct_fd(), pending->request.destination + pending->done_bytes,
                         static_cast<unsigned>(pending->request.size_bytes - pending->done_bytes),
                         pending->request.offset + pending->done_bytes);
      io_uring_sqe_set_data(sqe, pending);
      ++active_;
      queued = true;
    }
    if (queued) io_uring_submit(&ring_);
  }

  void Complete(io_uring_cqe* cqe) {
    std::unique_ptr<Pending> pending(static_cast<Pending*>(io_uring_cqe_get_data(cqe)));
    --active_;
    const int result = cqe->res;
    if (result == -EINTR || result == -EAGAIN) {
      waiting_.push_back(*pending);
      return;
    }
    if (result == -EINVAL || result == -EOPNOTSUPP) {  // this file system takes no such read
      ready_.push_back({pending->request.tag, ReadBySource(pending->request)});
      return;
    }
    if (result < 0) {
      ready_.push_back({pending->request.tag, Fail(ReadFailed(pending->request, -result))});
      return;
    }
    pending->done_bytes += static_cast<uint64_t>(result);
    if (pending->done_bytes >= pending->request.needed_bytes) {
      ready_.push_back({pending->request.tag, {}});
    } else if (result == 0 || pending->done_bytes % kBlockBytes != 0) {
      ready_.push_back({pending->request.tag, Fail(ShortRead(pending->request, pending->done_bytes))});
    } else {
      waiting_.push_back(*pending);
    }
  }

  io_uring ring_{};
  bool open_ = false;
  std::deque<Pending> waiting_;
  std::vector<ReadCompletion> ready_;
  uint64_t active_ = 0;
};

}  // namespace

Result<std::unique_ptr<BlockReader>> MakeBlockReader(ReaderKind kind) {
  if (kind != ReaderKind::kThreads) {
    if (auto uring = UringReader::Try()) return std::unique_ptr<BlockReader>(std::move(uring));
    if (kind == ReaderKind::kIoUring) {
      return Fail(ErrorCode::kUnsupported, "this system does not offer io_uring to this process");
    }
  }
  return std::unique_ptr<BlockReader>(std::make_unique<ThreadReader>());
}

}  // namespace sluice::io
