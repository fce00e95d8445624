// BlockSink: hands each block of sampled tensors to a function, on the stream's workers.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "checkpoint/catalogue.h"
#include "stream/sink.h"

namespace sluice::verify {

class BlockSink final : public stream::Sink {
 public:
  // `block`: its place within the sampled tensor. `bytes`: one for each side. Called by several threads at once, once
  // for each block.
  using OnBlock =
      std::function<void(uint32_t group, uint64_t block, uint64_t elements, std::span<const uint8_t* const> bytes)>;

  // Group g carries tensor g of each side's catalogue, all of one number of elements, in blocks of
  // kSampleBlockElements. The catalogues outlive the sink. `own_bytes`: what on_block fills.
  BlockSink(std::vector<const checkpoint::Catalogue*> sides, uint64_t own_bytes, OnBlock on_block)
      : sides_(std::move(sides)), own_bytes_(own_bytes), on_block_(std::move(on_block)) {}

  stream::Wants wants() const override;
  Result<void> Take(const stream::Lease& lease, stream::Stream& stream) override;
  Result<void> End() override { return {}; }

 private:
  const std::vector<const checkpoint::Catalogue*> sides_;
  const uint64_t own_bytes_;
  const OnBlock on_block_;
};

}  // namespace sluice::verify
