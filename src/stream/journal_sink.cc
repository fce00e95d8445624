#include "stream/journal_sink.h"

#include <algorithm>

#include "base/units.h"

namespace sluice::stream {
namespace {

// The first record of a small output comes before all of it is done.
uint64_t RecordBytes(const checkpoint::ShardPlan& plan) {
  return std::clamp(plan.file_bytes() / 32, kMiB / 4, JournalSink::kRecordBytes);
}

}  // namespace

JournalSink::JournalSink(checkpoint::CheckpointWriter* writer, const TensorTally* tally)
    : writer_(*writer),
      tally_(tally),
      record_bytes_(RecordBytes(writer->plan())),
      num_finished_(writer->first_place()),
      anything_recorded_(!writer->resumed().empty()) {
  for (const auto& [key, fact] : writer->resumed().facts) recorded_facts_.insert(key);
  thread_ = std::thread([this] { Run(); });
}

JournalSink::~JournalSink() { Join(); }

void JournalSink::Join() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void JournalSink::OnTensor(uint32_t group, std::span<const kernels::Hash256> leaves) {
  std::lock_guard lock(mutex_);
  leaves_[writer_.first_place() + group].assign(leaves.begin(), leaves.end());
}

Result<void> JournalSink::Take(const Lease& lease, Stream& stream) {
  std::lock_guard lock(mutex_);
  if (stream_ == nullptr) stream_ = &stream;
  if (error_) return Fail(*error_);
  for (const Piece& piece : lease.pieces()) {
    const checkpoint::TensorInfo tensor = writer_.tensor(writer_.first_place() + piece.group);
    taken_bytes_ += tensor.encoding.BytesOf(piece.range.size());
  }
  if (taken_bytes_ < record_bytes_) return {};
  taken_bytes_ = 0;
  due_ = true;
  wake_.notify_one();
  return {};
}

void JournalSink::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return due_ || stop_; });
    if (stop_) return;
    due_ = false;
    lock.unlock();
    auto recorded = Record();
    lock.lock();
    if (recorded) continue;
    error_ = std::move(recorded).error();
    return;
  }
}

Result<void> JournalSink::Record() {
  SLUICE_ASSIGN(const uint32_t written, writer_.SyncWritten());
  graph::FactRecords facts;
  if (stream_ != nullptr && writer_.keeps_facts()) {
    facts = stream_->facts();
    std::erase_if(facts, [&](const auto& fact) { return recorded_facts_.contains(fact.first); });
  }
  std::vector<checkpoint::JournaledTensor> tensors;
  for (uint32_t place = num_finished_; place < written; ++place) {
    checkpoint::JournaledTensor tensor;
    const std::optional<uint64_t> number = tally_ == nullptr ? 0 : tally_->Of(place);
    if (!number) break;
    tensor.tally = *number;
    if (writer_.tensor(place).size_bytes() > 0) {
      std::lock_guard lock(mutex_);
      const auto found = leaves_.find(place);
      if (found == leaves_.end()) break;
      tensor.leaves = std::move(found->second);
      leaves_.erase(found);
    }
    tensors.push_back(std::move(tensor));
  }
  if (tensors.empty() && facts.empty()) return {};
  SLUICE_TRY(writer_.journal()->Append(tensors, facts));
  num_finished_ += static_cast<uint32_t>(tensors.size());
  for (const auto& [key, fact] : facts) recorded_facts_.insert(key);
  anything_recorded_ = true;
  return {};
}

Result<void> JournalSink::End() {
  Join();
  if (error_) return Fail(*error_);
  return Record();
}

void JournalSink::Abandon() {
  Join();
  // The pass has failed already, and this may fail for the same reason: what was recorded before stays.
  if (!error_) (void)Record();
}

}  // namespace sluice::stream
