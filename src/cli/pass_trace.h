// PassTrace: bytes read and written and memory over the time of a pass, for a picture of it. A sink that a thread of
// its own looks at.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "checkpoint/catalogue.h"
#include "report/merge_page.h"
#include "stream/sink.h"

namespace sluice::cli {

class PassTrace final : public stream::Sink {
 public:
  // Its groups' first outs are what is written: tensors of `tensors` in the order that Follow was told last. Looks each
  // 20 ms at first, and half as often each time that kMostSamples are full.
  explicit PassTrace(const checkpoint::Catalogue& tensors) : tensors_(tensors) {}
  ~PassTrace() override { Stop(); }
  void Follow(std::vector<uint32_t> order) { order_ = std::move(order); }
  // Begins to look; nothing where it has begun.
  void Start();

  stream::Wants wants() const override;
  Result<void> Take(const stream::Lease& lease, stream::Stream& stream) override;
  Result<void> End() override;
  void Abandon() override { Stop(); }

  static constexpr size_t kMostSamples = 256;
  const std::vector<report::TraceSample>& samples() const { return samples_; }  // after End

 private:
  using Clock = std::chrono::steady_clock;
  void Run();
  void Look();  // the lock is held
  void Stop();

  const checkpoint::Catalogue& tensors_;
  std::vector<uint32_t> order_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable wake_;
  Clock::time_point started_;
  stream::Stream* stream_ = nullptr;  // null before the first tile, and after the last
  bool stop_ = false;
  std::atomic<uint64_t> written_bytes_{0};
  std::vector<report::TraceSample> samples_;
};

}  // namespace sluice::cli
