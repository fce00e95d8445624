// ComparisonSink: two checkpoints side by side in one pass: what became of each tensor, and the digests of both sides.
//
// Groups are those of an Alignment (tensor_diff.h): two outs where both sides have the tensor, one where only one has.
// Equal chunks of one encoding are hashed once, found by comparing them first. All work runs on the stream's workers:
// per chunk of 1 MiB for hashes, per block of 65,536 elements for numbers, and blocks are added up in the order of
// their index, so that results depend neither on threads nor on tiles.
//
// What changed is looked at closer (change_meter.h). The sketches for it are leased from what the stream leaves of the
// budget; where that is too little, a tensor is told as not sketched.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/memory_budget.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/digest_tree.h"
#include "stream/sink.h"
#include "verify/change_meter.h"
#include "verify/model_parts.h"
#include "verify/sketch_pool.h"
#include "verify/tensor_diff.h"

namespace sluice::verify {

struct ComparisonOptions {
  int num_threads = 1;             // workers of the stream
  MemoryBudget* budget = nullptr;  // the sink's buffers are leased from it when the first tile comes; null: not counted
  double atol = 0, rtol = 0;       // both 0: no tolerance, every change counts
  bool first_difference = false;   // ends the pass at the first tensor that no cast and no rounding explains
};

class ComparisonSink final : public stream::Sink {
 public:
  // The checkpoints and the alignment outlive the sink.
  ComparisonSink(const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b, const Alignment& alignment,
                 const ComparisonOptions& options);
  ~ComparisonSink() override;

  stream::Wants wants() const override;
  // kCancelled where first_difference found one: not an error then, see stopped_early().
  Result<void> Take(const stream::Lease& lease, stream::Stream& stream) override;
  Result<void> End() override;
  void Abandon() override;

  bool stopped_early() const { return stopped_.load(); }
  uint64_t bytes_read() const { return bytes_read_; }  // of the stream, until it was last asked for a tile

  // After End, or after the stream is gone where it stopped early (then: the first difference alone, without digests).
  std::vector<TensorDiff> Unequal() const;  // sorted by name
  uint64_t identical_tensors() const;
  uint64_t identical_elements() const;
  // Of matrices that both sides have in one shape.
  GridCounts GridsOf(int side) const;
  // All tensors of a side with their roots. After End only.
  std::vector<checkpoint::TensorDigest> DigestsOfA() const;
  std::vector<checkpoint::TensorDigest> DigestsOfB() const;

 private:
  struct Record;  // what stays of a tensor
  struct Tensor;  // a tensor that is passing by
  struct Worker;  // scratch of one thread

  class BufferPool;
  using Buffer = std::unique_ptr<uint8_t[]>;

  struct Chunk {  // bytes to hash, of one side, or of both where they have one encoding
    std::shared_ptr<Tensor> tensor;
    int first_side = 0, num_sides = 1;
    uint64_t index = 0, size_bytes = 0;
    const uint8_t* data[2] = {};
    std::shared_ptr<std::array<Buffer, 2>> buffers;  // that the data lies in, if it does
  };

  ChangeMeter::Setup SetupOf(const AlignedGroup& aligned) const;
  void LeaseSketches();
  void TakeSketch(Tensor* tensor, stream::Stream& stream);
  std::shared_ptr<Tensor> MakeTensor(uint32_t group) const;
  void TakePiece(const std::shared_ptr<Tensor>& tensor, const stream::Piece& piece, const stream::Lease& lease,
                 stream::Stream& stream);
  void AppendChunks(const std::shared_ptr<Tensor>& tensor, int first_side, int num_sides, const stream::Piece& piece,
                    const stream::Lease& lease, stream::Stream& stream);
  void TakeChunk(Chunk chunk, const stream::Lease& lease, stream::Stream& stream);
  void PostOdd(stream::Stream& stream);
  void HashChunks(std::span<const Chunk> chunks);  // of one size where there are two
  void NoteBytesDiffer(const Chunk& chunk);
  void CompareBlocks(Tensor* tensor, stream::Range range, const uint8_t* a, const uint8_t* b, Worker* worker);
  void CompareWhole(uint32_t group, const stream::Piece& piece, Worker* worker);
  void Finalise(Tensor* tensor);
  void Release(const std::shared_ptr<Tensor>& tensor);
  void NoteDifference(uint32_t group, std::optional<uint64_t> element);
  std::vector<checkpoint::TensorDigest> Digests(int side) const;
  TensorDiff MakeDiff(uint32_t group) const;
  void FindPlaces(uint32_t group, TensorDiff* diff) const;

  const checkpoint::Checkpoint* const sides_[2];
  const Alignment& alignment_;
  const ComparisonOptions options_;
  const bool has_tolerance_;
  const ModelParts parts_;
  MemoryLease lease_;
  bool leased_sketches_ = false;
  SketchPool sketches_;
  std::vector<Record> records_;                   // by group; each written by one thread, once
  std::vector<std::unique_ptr<Worker>> workers_;  // by worker, made on first use by that worker
  std::unique_ptr<BufferPool> buffers_;
  // The consumer's thread alone:
  uint64_t bytes_read_ = 0;
  std::shared_ptr<Tensor> current_;  // the tensor whose pieces are arriving
  std::optional<std::pair<Chunk, stream::Lease>>
      odd_;  // waits for another: two are hashed in little more than one's time
  std::atomic<bool> stopped_{false};
  std::mutex first_mutex_;
  std::optional<std::pair<uint32_t, std::optional<uint64_t>>> first_;  // least group, and element where known
};

}  // namespace sluice::verify
