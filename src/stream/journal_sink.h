// JournalSink: keeps the journal of a CheckpointWriter while a stream is written, so that the work can be gone on with
// (docs/resume.md). A thread of its own puts onto the disk what was written, and then records the tensors that are
// whole there and the facts that are known. Whoever writes does not wait for it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <thread>
#include <vector>

#include "checkpoint/checkpoint_writer.h"
#include "stream/sink.h"

namespace sluice::stream {

// A number that a sink finds of each tensor. The journal keeps it, so that a tensor that is not computed again still
// has it.
class TensorTally {
 public:
  virtual ~TensorTally() = default;
  // Of the first places of the plan's order, in turn, before the stream runs; groups are counted from behind them.
  virtual void Restore(uint32_t place, uint64_t number) = 0;
  // nullopt while some of the tensor has not been looked at. Any thread.
  virtual std::optional<uint64_t> Of(uint32_t place) const = 0;
};

// After the WriterSink, the DigestSink and the tally among the sinks of a pass.
class JournalSink final : public Sink {
 public:
  // A record is written each time that this much was, or a 32nd of the output where that is less.
  static constexpr uint64_t kRecordBytes = uint64_t{64} << 20;

  // The writer keeps a journal. `tally` may be null. Both outlive the sink.
  JournalSink(checkpoint::CheckpointWriter* writer, const TensorTally* tally);
  ~JournalSink() override;

  // DigestSink::OnTensor.
  void OnTensor(uint32_t group, std::span<const kernels::Hash256> leaves);

  Result<void> Take(const Lease& lease, Stream& stream) override;
  Result<void> End() override;
  // Records what it can.
  void Abandon() override;

  // After End or Abandon: tensors that the journal tells of, with those of earlier runs.
  uint32_t num_finished() const { return num_finished_; }
  bool anything_recorded() const { return anything_recorded_; }

 private:
  void Run();
  Result<void> Record();
  void Join();

  checkpoint::CheckpointWriter& writer_;
  const TensorTally* const tally_;
  const uint64_t record_bytes_;
  Stream* stream_ = nullptr;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<uint32_t, std::vector<kernels::Hash256>> leaves_;  // by place; hashed and not yet recorded
  uint64_t taken_bytes_ = 0;                                  // since the thread was woken
  bool due_ = false, stop_ = false;
  std::optional<Error> error_;

  // The recording thread's, and after Join the consumer's.
  uint32_t num_finished_;
  bool anything_recorded_;
  std::set<graph::Key> recorded_facts_;

  std::thread thread_;
};

}  // namespace sluice::stream
