#include "stream/digest_sink.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <numeric>

#include "base/check.h"
#include "base/units.h"

namespace sluice::stream {
namespace {

using checkpoint::kChunkBytes;
using kernels::Hash256;

// The odd chunk's tile may wait for the next one if it is no larger than this: two slots of a MiB, as where a cast and
// what is cast pass together.
constexpr uint64_t kMaxHeldBytes = 2 * (kChunkBytes + 16 * kKiB);
constexpr double kHashNanosecondsPerByte = 0.4;    // two chunks at once on Zen 3
constexpr uint64_t kSmallBatchBytes = 256 * kKiB;  // smaller chunks go together, larger ones in pairs

std::pair<Hash256, Hash256> HashPair(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  std::pair<Hash256, Hash256> hashes;
  kernels::HashLeafPair(a, b, &hashes.first, &hashes.second);
  return hashes;
}

}  // namespace

struct DigestSink::OpenChunk {
  uint64_t index;
  kernels::Sha256 hash;  // of whoever is working

  std::mutex mutex;
  struct Part {
    std::span<const uint8_t> bytes;
    Lease lease;
  };
  std::deque<Part> parts;  // not yet hashed
  bool closed = false;     // all parts have come
  bool working = false;    // a task is at it or posted
};

struct DigestSink::Tensor {
  uint32_t group;
  uint64_t size_bytes;
  std::vector<Hash256> hashes;
  std::atomic<uint64_t> chunks_left;
  uint64_t taken_bytes = 0;
  std::shared_ptr<OpenChunk> open;
};

DigestSink::DigestSink(const checkpoint::Catalogue& tensors, std::vector<uint32_t> tensor_of_group,
                       std::vector<uint8_t> out_of_group)
    : tensors_(tensors), tensor_of_group_(std::move(tensor_of_group)), out_of_group_(std::move(out_of_group)) {
  if (tensor_of_group_.empty()) {
    tensor_of_group_.resize(tensors.size());
    std::iota(tensor_of_group_.begin(), tensor_of_group_.end(), 0);
  }
  out_of_group_.resize(tensor_of_group_.size());
  roots_.resize(tensor_of_group_.size());
  const Hash256 nothing = checkpoint::TensorRoot({});
  for (size_t group = 0; group < roots_.size(); ++group) {
    if (tensors_[tensor_of_group_[group]].size_bytes() > 0) continue;
    roots_[group] = nothing;
    ++num_done_;
  }
}

DigestSink::~DigestSink() = default;

Wants DigestSink::wants() const {
  return {.held_bytes = kMaxHeldBytes, .nanoseconds_per_byte = kHashNanosecondsPerByte};
}

Result<void> DigestSink::Take(const Lease& lease, Stream& stream) {
  for (const Piece& piece : lease.pieces()) TakePiece(piece, lease, stream);
  PostSmall(lease, stream);
  if (odd_ && lease.size_bytes() > kMaxHeldBytes) {
    auto [chunk, held] = *std::exchange(odd_, std::nullopt);
    stream.Post(held, [this, chunk = std::move(chunk)](int) {
      Store(chunk.tensor.get(), chunk.index, kernels::HashLeaf(chunk.bytes));
    });
  }
  return {};
}

void DigestSink::TakePiece(const Piece& piece, const Lease& lease, Stream& stream) {
  const checkpoint::TensorInfo info = tensors_[tensor_of_group_[piece.group]];
  uint64_t begin = info.encoding.BytesOf(piece.range.begin);
  const uint64_t end = info.encoding.BytesOf(piece.range.end);
  if (begin == end) return;
  if (current_ == nullptr || current_->group != piece.group) {
    SLUICE_CHECK(current_ == nullptr || current_->taken_bytes == current_->size_bytes);
    current_ = std::make_shared<Tensor>();
    current_->group = piece.group;
    current_->size_bytes = info.size_bytes();
    current_->hashes.resize(CeilDiv(info.size_bytes(), kChunkBytes));
    current_->chunks_left = current_->hashes.size();
  }
  SLUICE_CHECK(begin == current_->taken_bytes && end <= current_->size_bytes);
  const uint8_t* data = piece.views[out_of_group_[piece.group]].data;
  while (begin < end) {
    const uint64_t index = begin / kChunkBytes;
    const uint64_t chunk_end = std::min((index + 1) * kChunkBytes, current_->size_bytes);
    const uint64_t part_end = std::min(chunk_end, end);
    const std::span<const uint8_t> bytes(data, part_end - begin);
    if (begin == index * kChunkBytes && part_end == chunk_end) {
      TakeWhole({current_, index, bytes}, lease, stream);
    } else {
      TakePart(bytes, part_end == chunk_end, lease, stream);
    }
    data += bytes.size();
    begin = current_->taken_bytes = part_end;
  }
}

void DigestSink::TakeWhole(Chunk chunk, const Lease& lease, Stream& stream) {
  if (chunk.bytes.size() < kSmallBatchBytes) {
    small_bytes_ += chunk.bytes.size();
    small_.push_back(std::move(chunk));
    if (small_bytes_ >= kSmallBatchBytes) PostSmall(lease, stream);
    return;
  }
  if (!odd_) {
    odd_.emplace(std::move(chunk), lease);
    return;
  }
  stream.Post(lease, [this, first = *std::exchange(odd_, std::nullopt), second = std::move(chunk)](int) {
    const auto hashes = HashPair(first.first.bytes, second.bytes);
    Store(first.first.tensor.get(), first.first.index, hashes.first);
    Store(second.tensor.get(), second.index, hashes.second);
  });
}

void DigestSink::PostSmall(const Lease& lease, Stream& stream) {
  if (small_.empty()) return;
  stream.Post(lease, [this, chunks = std::exchange(small_, {})](int) {
    size_t i = 0;
    for (; i + 1 < chunks.size(); i += 2) {
      const auto hashes = HashPair(chunks[i].bytes, chunks[i + 1].bytes);
      Store(chunks[i].tensor.get(), chunks[i].index, hashes.first);
      Store(chunks[i + 1].tensor.get(), chunks[i + 1].index, hashes.second);
    }
    if (i < chunks.size()) Store(chunks[i].tensor.get(), chunks[i].index, kernels::HashLeaf(chunks[i].bytes));
  });
  small_bytes_ = 0;
}

void DigestSink::TakePart(std::span<const uint8_t> part, bool closes, const Lease& lease, Stream& stream) {
  if (current_->open == nullptr) {
    current_->open = std::make_shared<OpenChunk>();
    current_->open->index = current_->taken_bytes / kChunkBytes;
    current_->open->hash.Update(uint8_t{0});
  }
  const std::shared_ptr<OpenChunk> open = current_->open;
  if (closes) current_->open = nullptr;
  {
    std::lock_guard lock(open->mutex);
    open->parts.push_back({part, lease});
    open->closed = closes;
    if (std::exchange(open->working, true)) return;
  }
  stream.Post(Lease(), [this, open, tensor = current_](int) {  // each part has its own lease
    std::unique_lock lock(open->mutex);
    while (!open->parts.empty()) {
      OpenChunk::Part next = std::move(open->parts.front());
      open->parts.pop_front();
      lock.unlock();
      open->hash.Update(next.bytes);
      next = {};  // its slots go back now
      lock.lock();
    }
    open->working = false;
    if (open->closed) Store(tensor.get(), open->index, open->hash.Finish());
  });
}

void DigestSink::Store(Tensor* tensor, uint64_t index, const Hash256& hash) {
  tensor->hashes[index] = hash;
  if (tensor->chunks_left.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  roots_[tensor->group] = checkpoint::TensorRoot(tensor->hashes);
  if (on_tensor_) on_tensor_(tensor->group, tensor->hashes);
  tensor->hashes = {};
  num_done_.fetch_add(1, std::memory_order_acq_rel);
}

Result<void> DigestSink::End() {
  if (odd_) {
    const Chunk& chunk = odd_->first;
    Store(chunk.tensor.get(), chunk.index, kernels::HashLeaf(chunk.bytes));
  }
  Abandon();
  SLUICE_CHECK(num_done_ == roots_.size());
  return {};
}

void DigestSink::Abandon() {
  odd_.reset();
  small_.clear();
  current_ = nullptr;
}

std::vector<checkpoint::TensorDigest> DigestSink::Digests() const {
  std::vector<checkpoint::TensorDigest> digests;
  digests.reserve(roots_.size());
  for (size_t group = 0; group < roots_.size(); ++group) {
    const checkpoint::TensorInfo info = tensors_[tensor_of_group_[group]];
    digests.push_back({std::string(info.name), std::string(info.encoding.name()),
                       std::vector<uint64_t>(info.shape.begin(), info.shape.end()), roots_[group], info.size_bytes()});
  }
  return digests;
}

}  // namespace sluice::stream
