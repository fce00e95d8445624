#include "io/file_hasher.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/thread_pool.h"
#include "base/units.h"
#include "io/block_reader.h"
#include "kernels/sha256_blocks.h"

namespace sluice::io {
namespace {

constexpr int kDepth = 4;  // windows of a piece in flight or waiting: what saturates a local disk (block_reader.cc)
constexpr uint8_t kLeafPrefix[1] = {0x00};  // RFC 9162, section 2.1.1
constexpr uint64_t kMaxWindowBytes = kMiB, kMinWindowBytes = 64 * kKiB;

struct Shape {
  int num_threads, lanes;
  uint64_t window_bytes;
  uint64_t buffer_bytes() const { return window_bytes + kBlockBytes; }  // a window may begin inside a block
  uint64_t total_bytes() const { return static_cast<uint64_t>(num_threads) * lanes * kDepth * buffer_bytes(); }
};

// Fewer threads before smaller windows than kMinWindowBytes; the lease tells where even that is too much.
Shape ShapeFor(size_t num_pieces, const HashFilesOptions& options) {
  Shape shape{static_cast<int>(std::clamp<size_t>(num_pieces, 1, std::max(1, options.num_threads))), 1,
              kMaxWindowBytes};
  if (num_pieces > static_cast<size_t>(shape.num_threads)) shape.lanes = 2;
  if (options.budget == nullptr) return shape;
  const uint64_t free = options.budget->free_bytes();
  while (shape.total_bytes() > free && shape.window_bytes > kMinWindowBytes) shape.window_bytes /= 2;
  while (shape.total_bytes() > free && shape.num_threads > 1) --shape.num_threads;
  return shape;
}

// What all threads share.
struct Work {
  std::span<const FilePiece> pieces;
  std::vector<size_t> order;  // the longest first
  const HashFilesOptions& options;
  std::vector<PieceHashes> hashes = {};
  std::atomic<size_t> next{0};
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> hashed_bytes{0};
  std::mutex mutex = {};
  std::optional<std::pair<size_t, Error>> error = {};  // of the first piece, by its number, that has one

  void Fail(size_t piece, Error failure) {
    std::lock_guard lock(mutex);
    if (!error || piece < error->first) error.emplace(piece, std::move(failure));
    stop = true;
  }
  void Hashed(uint64_t bytes) {
    const uint64_t sum = hashed_bytes.fetch_add(bytes) + bytes;
    if (!options.progress) return;
    const std::unique_lock lock(mutex, std::try_to_lock);
    if (lock.owns_lock()) options.progress(sum);
  }
};

struct FreeBuffer {
  void operator()(uint8_t* buffer) const { std::free(buffer); }
};
using Buffer = std::unique_ptr<uint8_t, FreeBuffer>;

// Some bytes of a piece, all of one leaf or of none.
struct Window {
  Buffer buffer;
  uint64_t skip = 0, size = 0;  // of the bytes read, those that are meant
  bool begins_leaf = false, in_leaf = false, ends_leaf = false;
  bool arrived = false;

  bool is_leaf() const { return begins_leaf && ends_leaf; }
  std::span<const uint8_t> bytes() const { return {buffer.get() + skip, size}; }
};

// A piece in hand: windows are read and hashed round and round.
struct Lane {
  bool active = false;
  size_t piece = 0;
  std::shared_ptr<const ByteSource> source;
  uint64_t read_at = 0, end = 0;  // the next byte to ask for
  size_t next_leaf = 0;           // that the next byte is in or before
  uint64_t first = 0, last = 0;   // windows [first, last) are in use, i % kDepth each
  std::vector<Window> windows{kDepth};
  kernels::Sha256Blocks hash, leaf;

  Window& front() { return windows[first % kDepth]; }
  bool ready() { return first < last && front().arrived; }
  // All that may be in flight has arrived: there is nothing to wait for.
  bool full() const {
    for (uint64_t i = first; i < last; ++i) {
      if (!windows[i % kDepth].arrived) return false;
    }
    return last - first == kDepth || read_at >= end;
  }
};

class Worker {
 public:
  Worker(Work* work, const Shape& shape) : work_(*work), window_bytes_(shape.window_bytes), lanes_(shape.lanes) {
    for (Lane& lane : lanes_) {
      for (Window& window : lane.windows) {
        window.buffer.reset(static_cast<uint8_t*>(std::aligned_alloc(kBlockBytes, shape.buffer_bytes())));
        SLUICE_CHECK(window.buffer != nullptr);
      }
    }
  }

  void Run() {
    auto reader = MakeBlockReader();
    if (!reader) return work_.Fail(0, std::move(reader.error()));
    reader_ = std::move(*reader);
    while (!work_.stop) {
      if (work_.options.cancelled != nullptr && *work_.options.cancelled) {
        work_.Fail(0, {ErrorCode::kCancelled, "interrupted", {}});
        break;
      }
      bool any = false;
      for (Lane& lane : lanes_) {
        Fill(&lane);
        any |= lane.active;
      }
      if (!any) break;
      Step();
    }
    reader_.reset();  // waits for what is in flight into the windows
  }

 private:
  // Gives the lane a piece if it has none and there is one, and asks for windows as far as it has room.
  void Fill(Lane* lane) {
    while (!lane->active && !work_.stop) {
      const size_t turn = work_.next.fetch_add(1);
      if (turn >= work_.order.size()) return;
      lane->piece = work_.order[turn];
      const FilePiece& piece = work_.pieces[lane->piece];
      auto opened = OpenFile(piece.path);
      if (!opened) return work_.Fail(lane->piece, std::move(opened.error()));
      lane->source = std::move(*opened);
      lane->read_at = piece.begin;
      lane->end = piece.end;
      lane->next_leaf = 0;
      lane->first = lane->last = 0;
      if (piece.begin == piece.end) {
        work_.hashes[lane->piece].digest = lane->hash.Finish();
      } else {
        lane->active = true;
      }
    }
    while (lane->active && lane->read_at < lane->end && lane->last - lane->first < kDepth) Submit(lane);
  }

  void Submit(Lane* lane) {
    Window& window = lane->windows[lane->last % kDepth];
    const std::vector<FilePiece::Leaf>& leaves = work_.pieces[lane->piece].leaves;
    const uint64_t at = lane->read_at;
    uint64_t stop = std::min(at + window_bytes_, lane->end);
    window.begins_leaf = window.in_leaf = window.ends_leaf = false;
    if (lane->next_leaf < leaves.size()) {
      const FilePiece::Leaf& leaf = leaves[lane->next_leaf];
      window.in_leaf = at >= leaf.begin;
      window.begins_leaf = at == leaf.begin;
      stop = std::min(stop, window.in_leaf ? leaf.end : leaf.begin);
      window.ends_leaf = stop == leaf.end;
      lane->next_leaf += window.ends_leaf ? 1 : 0;
    }
    window.skip = at % kBlockBytes;
    window.size = stop - at;
    window.arrived = false;
    const uint64_t needed = window.skip + window.size;
    reader_->Submit({.source = lane->source.get(),
                     .offset = at - window.skip,
                     .size_bytes = CeilDiv(needed, kBlockBytes) * kBlockBytes,
                     .needed_bytes = needed,
                     .destination = window.buffer.get(),
                     .tag = lane->last % kDepth + kDepth * static_cast<uint64_t>(lane - lanes_.data())});
    lane->read_at = stop;
    ++lane->last;
  }

  void TakeCompletions(bool block) {
    done_.clear();
    reader_->Wait(block, &done_);
    for (ReadCompletion& completion : done_) {
      Lane& lane = lanes_[completion.tag / kDepth];
      if (!completion.result) return work_.Fail(lane.piece, std::move(completion.result.error()));
      lane.windows[completion.tag % kDepth].arrived = true;
    }
  }

  // Hashes the next window of both lanes where both have one, else of one that can wait no longer.
  void Step() {
    TakeCompletions(false);
    while (!work_.stop) {
      Lane& a = lanes_.front();
      Lane& b = lanes_.back();
      if (&a != &b && a.ready() && b.ready()) return TakePair(&a, &b);
      const bool alone = &a == &b || !a.active || !b.active;
      for (Lane& lane : lanes_) {
        if (lane.ready() && (alone || lane.full())) return TakeOne(&lane);
      }
      TakeCompletions(true);
    }
  }

  void TakePair(Lane* a, Lane* b) {
    const Window& window_a = a->front();
    const Window& window_b = b->front();
    kernels::Sha256Blocks::UpdatePair(&a->hash, window_a.bytes(), &b->hash, window_b.bytes());
    if (window_a.is_leaf() && window_b.is_leaf() && window_a.size == window_b.size) {
      kernels::HashLeafPair(window_a.bytes(), window_b.bytes(), &NewLeaf(a), &NewLeaf(b));
    } else {
      TakeLeaf(a);
      TakeLeaf(b);
    }
    Pop(a);
    Pop(b);
  }

  void TakeOne(Lane* lane) {
    lane->hash.Update(lane->front().bytes());
    TakeLeaf(lane);
    Pop(lane);
  }

  void TakeLeaf(Lane* lane) {
    const Window& window = lane->front();
    if (!window.in_leaf) return;
    if (window.is_leaf()) {
      NewLeaf(lane) = kernels::HashLeaf(window.bytes());
      return;
    }
    if (window.begins_leaf) lane->leaf.Update(kLeafPrefix);
    lane->leaf.Update(window.bytes());
    if (window.ends_leaf) NewLeaf(lane) = lane->leaf.Finish();
  }

  kernels::Hash256& NewLeaf(Lane* lane) { return work_.hashes[lane->piece].leaves.emplace_back(); }

  void Pop(Lane* lane) {
    work_.Hashed(lane->front().size);
    ++lane->first;
    if (lane->first < lane->last || lane->read_at < lane->end) return;
    work_.hashes[lane->piece].digest = lane->hash.Finish();
    lane->active = false;
    lane->source.reset();
  }

  Work& work_;
  const uint64_t window_bytes_;
  std::vector<Lane> lanes_;
  std::unique_ptr<BlockReader> reader_;
  std::vector<ReadCompletion> done_;
};

}  // namespace

Result<std::vector<PieceHashes>> HashFiles(std::span<const FilePiece> pieces, const HashFilesOptions& options) {
  const Shape shape = ShapeFor(pieces.size(), options);
  MemoryLease lease;
  if (options.budget != nullptr) {
    SLUICE_ASSIGN(lease, options.budget->Lease(shape.total_bytes(), "reading files"));
  }
  Work work{.pieces = pieces, .order = std::vector<size_t>(pieces.size()), .options = options};
  work.hashes.resize(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) work.hashes[i].leaves.reserve(pieces[i].leaves.size());
  std::iota(work.order.begin(), work.order.end(), 0);
  std::ranges::stable_sort(work.order, std::greater<>(), [&](size_t i) { return pieces[i].end - pieces[i].begin; });
  {
    ThreadPool pool(shape.num_threads, [&](int) { Worker(&work, shape).Run(); });
  }
  if (work.error) return sluice::Fail(std::move(work.error->second));
  return std::move(work.hashes);
}

}  // namespace sluice::io
