// ComparisonSink: two checkpoints side by side in one pass: what became of each tensor, and the digests of both sides.
//
// Groups are those of an Alignment (tensor_diff.h): two outs where both sides have the tensor, one where only one has.
// All work runs on the stream's workers: chunks of 1 MiB for hashes (chunk_hasher.h), blocks of 65,536 elements for
// numbers (tensor_comparison.h). This file hands out that work, keeps what came of each tensor, and tells it.
//
// The sketches of what changed are leased from what the stream leaves of the budget; where that is too little, a tensor
// is told as not sketched.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/memory_budget.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/digest_tree.h"
#include "stream/sink.h"
#include "verify/chunk_hasher.h"
#include "verify/model_parts.h"
#include "verify/sketch_pool.h"
#include "verify/tensor_comparison.h"
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

  bool stopped_early() const { return first_.found(); }
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
  struct Worker;  // scratch of one thread

  TensorComparison::Setup SetupOf(uint32_t group);
  void LeaseSketches();
  void TakeSketch(TensorComparison* tensor, stream::Stream& stream);
  void TakePiece(const stream::Piece& piece, const stream::Lease& lease, stream::Stream& stream);
  void CompareWhole(const stream::Piece& piece, Worker* worker);
  Worker* WorkerOf(int worker);
  void Release(const std::shared_ptr<TensorComparison>& tensor);
  std::vector<checkpoint::TensorDigest> Digests(int side) const;
  TensorDiff MakeDiff(uint32_t group) const;
  TensorDiff MakeFirstDiff() const;
  void FindPlaces(uint32_t group, TensorDiff* diff) const;

  const checkpoint::Checkpoint* const sides_[2];
  const Alignment& alignment_;
  const ComparisonOptions options_;
  const ModelParts parts_;
  MemoryLease lease_;
  bool leased_sketches_ = false;
  SketchPool sketches_;
  std::vector<TensorOutcome> outcomes_;           // by group; each written by one thread, once
  std::vector<std::unique_ptr<Worker>> workers_;  // by worker, made on first use by that worker
  mutable FirstDifference first_;                 // told by tensors
  ChunkHasher hasher_;
  // The consumer's thread alone:
  uint64_t bytes_read_ = 0;
  std::shared_ptr<TensorComparison> current_;  // the tensor whose pieces are arriving
};

}  // namespace sluice::verify
