#include "verify/chunk_hasher.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <vector>

#include "checkpoint/digest_tree.h"
#include "kernels/sha256.h"

namespace sluice::verify {

using checkpoint::kChunkBytes;

// Buffers of one chunk each. Only the consumer's thread takes them and may wait for one; workers give them back.
class ChunkHasher::BufferPool {
 public:
  explicit BufferPool(int most) : left_(most) {}
  Buffer Take() {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [&] { return left_ > 0 || !free_.empty(); });
    if (free_.empty()) {
      --left_;
      return std::make_unique_for_overwrite<uint8_t[]>(kChunkBytes);
    }
    Buffer buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }
  void Return(Buffer buffer) {
    if (buffer == nullptr) return;
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(buffer));
    returned_.notify_one();
  }
  // Two open chunks and a pair that may wait for a tile; the rest is with tasks that run and return it.
  static int Most(int num_threads) { return 4 + 2 * std::clamp(num_threads, 1, 4); }

 private:
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<Buffer> free_;
  int left_;
};

ChunkHasher::ChunkHasher(int num_threads, Release release)
    : release_(std::move(release)), buffers_(std::make_unique<BufferPool>(BufferPool::Most(num_threads))) {}

ChunkHasher::~ChunkHasher() = default;

uint64_t ChunkHasher::BufferBytes(int num_threads) { return BufferPool::Most(num_threads) * kChunkBytes; }

std::span<const ChunkHasher::Sides> ChunkHasher::SidesOf(const TensorComparison& tensor) {
  static constexpr Sides kTogether[] = {{0, 2}}, kEach[] = {{0, 1}, {1, 1}};
  if (tensor.same_encoding()) return kTogether;
  if (tensor.has_both()) return kEach;
  return std::span(kEach).subspan(tensor.has(0) ? 0 : 1, 1);
}

// Of one side alone there is one view.
const uint8_t* ChunkHasher::DataOf(const TensorComparison& tensor, const stream::Piece& piece, int side) {
  return piece.views[tensor.has_both() ? static_cast<size_t>(side) : 0].data;
}

void ChunkHasher::Append(const std::shared_ptr<TensorComparison>& tensor, const stream::Piece& piece,
                         const stream::Lease& lease, stream::Stream& stream) {
  if (piece.first) taken_bytes_[0] = taken_bytes_[1] = 0;
  for (const Sides& sides : SidesOf(*tensor)) AppendSides(tensor, sides, piece, lease, stream);
}

void ChunkHasher::AppendSides(const std::shared_ptr<TensorComparison>& tensor, Sides sides, const stream::Piece& piece,
                              const stream::Lease& lease, stream::Stream& stream) {
  // Sides that are taken together have one encoding, so what holds of the first side's bytes holds of the other's.
  const uint64_t piece_bytes = tensor->encoding(sides.first).BytesOf(piece.range.size());
  const uint64_t tensor_bytes = tensor->SizeBytes(sides.first);
  uint64_t& taken = taken_bytes_[sides.first];
  uint64_t& open = open_bytes_[sides.first];
  for (uint64_t at = 0; at < piece_bytes;) {
    Chunk chunk;
    chunk.tensor = tensor;
    chunk.first_side = sides.first;
    chunk.num_sides = sides.count;
    chunk.index = taken / kChunkBytes;
    chunk.size_bytes = std::min(kChunkBytes, tensor_bytes - chunk.index * kChunkBytes);
    const uint64_t count = std::min(chunk.size_bytes - open, piece_bytes - at);
    if (count == chunk.size_bytes) {
      for (int i = 0; i < sides.count; ++i) chunk.data[i] = DataOf(*tensor, piece, sides.first + i) + at;
      Take(std::move(chunk), lease, stream);
    } else {
      for (int i = 0; i < sides.count; ++i) {
        Buffer& buffer = open_[sides.first + i];
        if (buffer == nullptr) buffer = buffers_->Take();
        std::memcpy(buffer.get() + open, DataOf(*tensor, piece, sides.first + i) + at, count);
      }
      open += count;
      if (open == chunk.size_bytes) {
        chunk.buffers = std::make_shared<std::array<Buffer, 2>>();
        for (int i = 0; i < sides.count; ++i) {
          (*chunk.buffers)[i] = std::move(open_[sides.first + i]);
          chunk.data[i] = (*chunk.buffers)[i].get();
        }
        Take(std::move(chunk), stream::Lease(), stream);
        open = 0;
      }
    }
    at += count;
    taken += count;
  }
}

void ChunkHasher::Take(Chunk chunk, const stream::Lease& lease, stream::Stream& stream) {
  chunk.tensor->Open();
  if (chunk.size_bytes == kChunkBytes && !waiting_) {
    waiting_.emplace(std::move(chunk), lease);
    return;
  }
  if (chunk.size_bytes < kChunkBytes) {
    stream.Post(lease, [this, chunk = std::move(chunk)](int) { Hash({&chunk, 1}); });
    return;
  }
  stream.Post(lease, [this, first = *std::exchange(waiting_, std::nullopt), second = std::move(chunk)](int) {
    const Chunk both[2] = {first.first, second};
    Hash(both);
  });
}

void ChunkHasher::PostWaiting(stream::Stream& stream) {
  auto [chunk, lease] = *std::exchange(waiting_, std::nullopt);
  stream.Post(lease, [this, chunk = std::move(chunk)](int) { Hash({&chunk, 1}); });
}

void ChunkHasher::HashWaiting() {
  const auto waiting = *std::exchange(waiting_, std::nullopt);
  Hash({&waiting.first, 1});
}

void ChunkHasher::HashWhole(const std::shared_ptr<TensorComparison>& tensor, const stream::Piece& piece) {
  for (const Sides& sides : SidesOf(*tensor)) {
    Chunk chunk;
    chunk.tensor = tensor;
    chunk.first_side = sides.first;
    chunk.num_sides = sides.count;
    chunk.size_bytes = tensor->SizeBytes(sides.first);
    for (int i = 0; i < sides.count; ++i) chunk.data[i] = DataOf(*tensor, piece, sides.first + i);
    tensor->Open();
    Hash({&chunk, 1});
  }
}

void ChunkHasher::Hash(std::span<const Chunk> chunks) {
  struct Job {
    std::span<const uint8_t> bytes;
    kernels::Hash256* hash;
  };
  std::array<Job, 4> jobs;  // at most two sides of two chunks
  size_t num_jobs = 0;
  std::array<bool, 2> is_equal = {};
  for (size_t c = 0; c < chunks.size(); ++c) {
    const Chunk& chunk = chunks[c];
    TensorComparison& tensor = *chunk.tensor;
    is_equal[c] = chunk.num_sides == 2 && std::memcmp(chunk.data[0], chunk.data[1], chunk.size_bytes) == 0;
    if (chunk.num_sides == 2 && !is_equal[c]) {
      tensor.NoteBytesDiffer(chunk.index * kChunkBytes, chunk.data[0], chunk.data[1], chunk.size_bytes);
    }
    for (int i = 0; i < (is_equal[c] ? 1 : chunk.num_sides); ++i) {
      jobs[num_jobs++] = {{chunk.data[i], chunk.size_bytes}, tensor.hash(chunk.first_side + i, chunk.index)};
    }
  }
  for (size_t i = 0; i < num_jobs; i += 2) {
    if (i + 1 < num_jobs && jobs[i].bytes.size() == jobs[i + 1].bytes.size()) {
      kernels::HashLeafPair(jobs[i].bytes, jobs[i + 1].bytes, jobs[i].hash, jobs[i + 1].hash);
    } else {
      for (size_t j = i; j < std::min(i + 2, num_jobs); ++j) *jobs[j].hash = kernels::HashLeaf(jobs[j].bytes);
    }
  }
  for (size_t c = 0; c < chunks.size(); ++c) {
    const Chunk& chunk = chunks[c];
    if (is_equal[c]) *chunk.tensor->hash(1, chunk.index) = *chunk.tensor->hash(0, chunk.index);
    if (chunk.buffers != nullptr) {
      for (Buffer& buffer : *chunk.buffers) buffers_->Return(std::move(buffer));
    }
    release_(chunk.tensor);
  }
}

}  // namespace sluice::verify
