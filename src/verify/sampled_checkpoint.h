// SampledCheckpoint: some blocks of another checkpoint's tensors, which are a checkpoint again. A block is a fixed
// count of consecutive elements, the last of a tensor mostly shorter: 2,048 for a fingerprint (block_sample.h), or the
// 1 MiB chunks that digests are made of (checkpoint/digest_tree.h), of which the digest is TensorRoot of those leaves.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/wrapped_checkpoint.h"

namespace sluice::verify {

struct TensorSample {
  uint32_t tensor = 0;           // in the other checkpoint's catalogue
  uint64_t block_elements = 0;   // a multiple of 32 and of its encoding's block
  std::vector<uint64_t> blocks;  // ascending
  std::string name = {};         // to have in the sample; empty: its own
  // Whose tensor it is, of a sample in which another model's stands in; null: the sampled checkpoint's.
  std::shared_ptr<const checkpoint::Checkpoint> of = {};
};

class SampledCheckpoint final : public checkpoint::WrappedCheckpoint {
 public:
  // Each with at least one block; names must differ.
  SampledCheckpoint(std::shared_ptr<const checkpoint::Checkpoint> inner, std::vector<TensorSample> samples);
  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override;
  // What tensor i of this checkpoint's catalogue is made of.
  const TensorSample& sample(size_t i) const { return samples_[i]; }

 private:
  const checkpoint::Checkpoint& ModelOf(const TensorSample& sample) const {
    return sample.of != nullptr ? *sample.of : *inner_;
  }

  std::vector<TensorSample> samples_;  // in the order of the catalogue
};

// The chunks of digests: how many elements one has, and how many of them a tensor has.
uint64_t ChunkElements(quant::Encoding encoding);
uint64_t CountChunks(const checkpoint::TensorInfo& tensor);

// Each chunk of `tensors` with probability `share`, drawn by `nonce`; at least one of all where there is any.
std::vector<TensorSample> DrawChunks(const checkpoint::Catalogue& tensors, double share, uint64_t nonce);

}  // namespace sluice::verify
