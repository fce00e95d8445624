// SampledCheckpoint: some of the 1 MiB chunks of another checkpoint's tensors, as the digest has chunks
// (checkpoint/digest_tree.h): the digest of what is chosen is TensorRoot of those leaves.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/wrapped_checkpoint.h"

namespace sluice::verify {

struct ChunkSample {
  uint32_t tensor = 0;           // in the other checkpoint's catalogue
  std::vector<uint64_t> chunks;  // ascending
};

class SampledCheckpoint final : public checkpoint::WrappedCheckpoint {
 public:
  // Of tensors with bytes; each at most once, in the catalogue's order, with at least one chunk.
  SampledCheckpoint(std::shared_ptr<const checkpoint::Checkpoint> inner, std::vector<ChunkSample> samples);
  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override;

 private:
  std::vector<ChunkSample> samples_;
};

// How many chunks a tensor has.
uint64_t CountChunks(const checkpoint::TensorInfo& tensor);

// Each chunk of `tensors` with probability `share`, drawn by `nonce`; at least one of all where there is any.
std::vector<ChunkSample> DrawChunks(const checkpoint::Catalogue& tensors, double share, uint64_t nonce);

}  // namespace sluice::verify
