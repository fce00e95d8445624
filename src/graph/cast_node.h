// CastNode: numbers of one float encoding in another. Graph::AddCast makes it.
#pragma once

#include "graph/node.h"

namespace sluice::graph {

// Through f32: decode, then one rounding (none where the target is F32). A finite number too large for the target
// becomes an infinity; infinities and NaN stay what they are.
class CastNode final : public Node {
 public:
  CastNode(const Node* input, quant::Encoding encoding) : Node("cast", encoding, input->num_elements(), {input}) {}
  void Compute(const ComputeArgs& args) const override;
  uint64_t ScratchBytes() const override { return encoding() == quant::F32() ? 0 : kPieceElements * sizeof(float); }
  double NanosecondsPerElement() const override { return inputs()[0]->encoding().is_block() ? 0.5 : 0.2; }

  // Whether its input's encoding has finite numbers that the target has not.
  bool CanOverflow() const;
};

}  // namespace sluice::graph
