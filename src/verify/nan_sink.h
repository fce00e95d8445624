// NanSink: counts the NaN of each float tensor that passes, on the stream's workers. A tally, for merges that are
// resumed.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/catalogue.h"
#include "stream/journal_sink.h"
#include "stream/sink.h"

namespace sluice::verify {

class NanSink final : public stream::Sink, public stream::TensorTally {
 public:
  // Group g carries tensor order[g] of `tensors`, counted from what Restore was told, as its first out. `tensors`
  // outlives the sink.
  NanSink(const checkpoint::Catalogue& tensors, std::vector<uint32_t> order, int num_threads);

  stream::Wants wants() const override;
  Result<void> Take(const stream::Lease& lease, stream::Stream& stream) override;
  Result<void> End() override { return {}; }

  void Restore(uint32_t place, uint64_t nans) override;
  std::optional<uint64_t> Of(uint32_t place) const override;

  struct Count {
    std::string name;
    uint64_t nans;
  };
  // After End: the tensors that have any, sorted by name.
  std::vector<Count> Counts() const;

 private:
  const checkpoint::Catalogue& tensors_;
  const std::vector<uint32_t> order_;
  uint32_t first_place_ = 0;                 // of group 0 in order_
  std::vector<std::atomic<uint64_t>> nans_;  // by place in order_
  std::vector<std::atomic<uint64_t>> seen_;  // elements
  std::vector<std::vector<float>> scratch_;  // by worker, filled on first use
};

}  // namespace sluice::verify
