// LoraNode: a matrix with an update of low rank added to it, a piece at a time.
#pragma once

#include <cstdint>

#include "graph/node.h"

namespace sluice::checkpoint {

// Of a weight W [rows, columns] as it is stored.
//   straight    W + scale * left right      left [rows, rank] (PEFT's B), right [rank, columns] (PEFT's A)
//   transposed  W + scale * (right left)^T  left [rank, rows] (PEFT's A), right [columns, rank] (PEFT's B): of layers
//               that store their weights [in, out] (GPT-2's, embeddings)
struct LowRankUpdate {
  uint64_t rows = 0, columns = 0, rank = 0;  // not 0
  float scale = 1;
  bool transposed = false;
};

inline constexpr uint64_t kMaxLoraRank = 16384;  // scratch grows with the rank, from some 512 on by 1.2 KiB a step

// The sum of rank products in f32 as in kernels/low_rank.h, added to W in f32, rounded once to `encoding`, a plain
// float; every NaN is the quiet one. Bits depend on the element alone, not on the cut. docs/lora.md.
//
// Memory: what a tile needs of the factors lies beside it. A tile of whole rows needs all of `right` of that weight,
// so it is read again for every tile: factors should come from sources that the page cache serves.
class LoraNode final : public graph::Node {
 public:
  // `left` and `right` are stored plain floats; all three must have decoders.
  LoraNode(const graph::Node* weight, const graph::Node* left, const graph::Node* right, const LowRankUpdate& update,
           quant::Encoding encoding);
  void Needs(graph::Range out, graph::NeedList* needs) const override;
  void Compute(const graph::ComputeArgs& args) const override;
  uint64_t ScratchBytes() const override;
  double NanosecondsPerElement() const override;

 private:
  LowRankUpdate update_;
};

}  // namespace sluice::checkpoint
