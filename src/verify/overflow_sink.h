// OverflowSink: counts, for each tensor that is cast as it passes, the finite numbers that the cast made infinite. On
// the stream's workers.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "stream/cast_groups.h"
#include "stream/sink.h"

namespace sluice::verify {

// A cast leaves infinities and NaN what they are, so a tensor's count is its infinities after the cast less those
// before: no element is compared with another, and their order is free.
class OverflowSink final : public stream::Sink {
 public:
  // The stream's groups, which outlive the sink; those without a cast pass by.
  OverflowSink(const stream::CastGroups& groups, int num_threads);

  stream::Wants wants() const override;
  Result<void> Take(const stream::Lease& lease, stream::Stream& stream) override;
  Result<void> End() override { return {}; }

  struct Count {
    std::string name;
    quant::Encoding to;
    uint64_t overflowed;
  };
  // After End: the tensors that have any, sorted by name.
  std::vector<Count> Counts() const;

 private:
  uint64_t CountInfinities(quant::Encoding encoding, const stream::View& view, int worker);

  const stream::CastGroups& groups_;
  std::vector<std::atomic<int64_t>> balance_;  // by group: infinities after less infinities before
  std::vector<std::vector<float>> scratch_;    // by worker, filled on first use
};

}  // namespace sluice::verify
