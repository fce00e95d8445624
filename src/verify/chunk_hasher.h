// ChunkHasher: the chunks of tensors that go by in pieces, compared and hashed on the stream's workers.
//
// A hash costs more than anything else here. Where both sides have one encoding, chunks are compared first and equal
// ones hashed once; what is left goes two at a time, which takes little more than one does. So a chunk may wait for the
// next one; and a chunk that ends in another tile than it began is put together in a buffer of its own.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "base/units.h"
#include "stream/stream.h"
#include "verify/tensor_comparison.h"

namespace sluice::verify {

class ChunkHasher {
 public:
  // Closes the task of a tensor (TensorComparison::Open), on whatever thread it was done.
  using Release = std::function<void(const std::shared_ptr<TensorComparison>&)>;
  ChunkHasher(int num_threads, Release release);
  ~ChunkHasher();

  static uint64_t BufferBytes(int num_threads);
  static constexpr uint64_t kMaxHeldBytes = 5 * kMiB;  // of a tile that a chunk waits in: two sides of a MiB and a bit

  // For the consumer's thread alone. Pieces of a tensor come one after the other, from its first to its last.
  void Append(const std::shared_ptr<TensorComparison>& tensor, const stream::Piece& piece, const stream::Lease& lease,
              stream::Stream& stream);
  // Of what Append was given: whether a chunk waits for another; hashes it on a worker, here and now, or not at all.
  bool has_waiting() const { return waiting_.has_value(); }
  void PostWaiting(stream::Stream& stream);
  void HashWaiting();
  void DropWaiting() { waiting_.reset(); }

  // A tensor of at most a chunk, all of it in this piece, here and now. From any thread.
  void HashWhole(const std::shared_ptr<TensorComparison>& tensor, const stream::Piece& piece);

 private:
  class BufferPool;
  using Buffer = std::unique_ptr<uint8_t[]>;

  struct Chunk {  // of one side, or of both where they have one encoding
    std::shared_ptr<TensorComparison> tensor;
    int first_side = 0, num_sides = 1;
    uint64_t index = 0, size_bytes = 0;
    const uint8_t* data[2] = {};
    std::shared_ptr<std::array<Buffer, 2>> buffers;  // that the data lies in, if it does
  };
  struct Sides {  // that are taken together
    int first = 0, count = 1;
  };

  static std::span<const Sides> SidesOf(const TensorComparison& tensor);
  static const uint8_t* DataOf(const TensorComparison& tensor, const stream::Piece& piece, int side);
  void AppendSides(const std::shared_ptr<TensorComparison>& tensor, Sides sides, const stream::Piece& piece,
                   const stream::Lease& lease, stream::Stream& stream);
  void Take(Chunk chunk, const stream::Lease& lease, stream::Stream& stream);
  void Hash(std::span<const Chunk> chunks);  // of one size where there are two

  const Release release_;
  std::unique_ptr<BufferPool> buffers_;
  // The consumer's: of the tensor that goes by, each side's chunk that is not whole yet.
  Buffer open_[2];
  uint64_t open_bytes_[2] = {}, taken_bytes_[2] = {};
  std::optional<std::pair<Chunk, stream::Lease>> waiting_;
};

}  // namespace sluice::verify
