// WriterSink: tensors into a CheckpointWriter. Copies each tile into the writer's buffers and lets it go at once, so
// the writer costs no tiles of the stream.
#pragma once

#include "checkpoint/checkpoint_writer.h"
#include "stream/sink.h"

namespace sluice::stream {

class WriterSink final : public Sink {
 public:
  // Group g is the g-th tensor of writer->plan().order, counted from writer->first_place() on. Which of a group's outs
  // is written: `out`. The writer outlives the sink; its Commit, and its files beside the weights, are the caller's.
  explicit WriterSink(checkpoint::CheckpointWriter* writer, size_t out = 0) : writer_(*writer), out_(out) {}

  Wants wants() const override { return WantsFor(writer_.plan()); }
  // For a plan without a writer (--dry-run).
  static Wants WantsFor(const checkpoint::ShardPlan& plan);

  Result<void> Take(const Lease& lease, Stream& stream) override;
  Result<void> End() override { return writer_.FinishTensors(); }

 private:
  checkpoint::CheckpointWriter& writer_;
  const size_t out_;
};

}  // namespace sluice::stream
