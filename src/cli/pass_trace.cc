#include "cli/pass_trace.h"

#include "base/memory_budget.h"

namespace sluice::cli {
namespace {

constexpr std::chrono::milliseconds kFirstInterval{20};

}  // namespace

void PassTrace::Start() {
  if (thread_.joinable()) return;
  started_ = Clock::now();
  samples_.reserve(kMostSamples + 1);
  thread_ = std::thread([this] { Run(); });
}

stream::Wants PassTrace::wants() const {
  return {.own_bytes = (kMostSamples + 1) * sizeof(report::TraceSample) + order_.size() * sizeof(uint32_t)};
}

Result<void> PassTrace::Take(const stream::Lease& lease, stream::Stream& stream) {
  uint64_t bytes = 0;
  for (const stream::Piece& piece : lease.pieces()) {
    bytes += tensors_[order_[piece.group]].encoding.BytesOf(piece.range.size());
  }
  written_bytes_ += bytes;
  if (stream_ != &stream) {
    const std::lock_guard lock(mutex_);
    stream_ = &stream;
  }
  return {};
}

Result<void> PassTrace::End() {
  Stop();
  Look();
  stream_ = nullptr;
  return {};
}

void PassTrace::Look() {
  samples_.push_back({std::chrono::duration<double>(Clock::now() - started_).count(),
                      stream_ == nullptr ? 0 : stream_->stats().payload_bytes, written_bytes_, ResidentBytes()});
}

void PassTrace::Run() {
  std::chrono::milliseconds interval = kFirstInterval;
  std::unique_lock lock(mutex_);
  while (!stop_) {
    Look();
    if (samples_.size() >= kMostSamples) {
      for (size_t i = 0; i < kMostSamples / 2; ++i) samples_[i] = samples_[2 * i];
      samples_.resize(kMostSamples / 2);
      interval *= 2;
    }
    wake_.wait_for(lock, interval, [this] { return stop_; });
  }
}

void PassTrace::Stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

}  // namespace sluice::cli
