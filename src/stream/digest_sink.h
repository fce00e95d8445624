// DigestSink: the root of every tensor that passes (docs/formats/digest.md). SHA-256 of 1 MiB chunks on the stream's
// workers; the consumer's thread only cuts.
//
// A chunk inside a tile is hashed by itself, two at once where two have come, since the processor hashes two
// interleaved chunks in little more than the time of one: the last odd one waits for the next tile. A chunk that lies
// across tiles is an open hash with a queue of the parts that have arrived, which one worker at a time works off in
// order; several open chunks are hashed at once, so that no size of tile makes the digest serial.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "checkpoint/catalogue.h"
#include "checkpoint/digest_tree.h"
#include "stream/sink.h"

namespace sluice::stream {

// Memory: 32 bytes a tensor and 32 a chunk of the tensors that are passing. Pieces of a tensor come in order and may be
// of any size that is whole blocks of its encoding.
class DigestSink final : public Sink {
 public:
  // Group g carries tensor tensor_of_group[g] of `tensors` (empty: tensor g) as its out number out_of_group[g] (empty:
  // the first). `tensors` outlives the sink. Each group is enqueued once.
  explicit DigestSink(const checkpoint::Catalogue& tensors, std::vector<uint32_t> tensor_of_group = {},
                      std::vector<uint8_t> out_of_group = {});
  ~DigestSink() override;

  // Told the hashes of a tensor's chunks when the last one is known, by the worker that hashed it; not of tensors
  // without bytes. Set before the stream runs.
  using OnTensor = std::function<void(uint32_t group, std::span<const kernels::Hash256> leaves)>;
  void set_on_tensor(OnTensor on_tensor) { on_tensor_ = std::move(on_tensor); }

  Wants wants() const override;
  Result<void> Take(const Lease& lease, Stream& stream) override;
  Result<void> End() override;
  void Abandon() override;

  // After End: one a group, in order.
  std::vector<checkpoint::TensorDigest> Digests() const;

 private:
  struct Tensor;     // one that is passing
  struct OpenChunk;  // one that lies across tiles
  struct Chunk {     // one inside a tile
    std::shared_ptr<Tensor> tensor;
    uint64_t index;
    std::span<const uint8_t> bytes;
  };

  void TakePiece(const Piece& piece, const Lease& lease, Stream& stream);
  void TakeWhole(Chunk chunk, const Lease& lease, Stream& stream);
  void TakePart(std::span<const uint8_t> part, bool closes, const Lease& lease, Stream& stream);
  void PostSmall(const Lease& lease, Stream& stream);
  void Store(Tensor* tensor, uint64_t index, const kernels::Hash256& hash);

  const checkpoint::Catalogue& tensors_;
  std::vector<uint32_t> tensor_of_group_;
  std::vector<uint8_t> out_of_group_;
  std::vector<kernels::Hash256> roots_;  // by group; each written once, by whoever hashed the tensor's last chunk
  std::atomic<uint64_t> num_done_{0};
  OnTensor on_tensor_;

  // The consumer's thread alone:
  std::shared_ptr<Tensor> current_;
  std::vector<Chunk> small_;  // of this lease
  uint64_t small_bytes_ = 0;
  std::optional<std::pair<Chunk, Lease>> odd_;  // a whole chunk that waits for another
};

}  // namespace sluice::stream
