#include "graph/cast_node.h"

namespace sluice::graph {

void CastNode::Compute(const ComputeArgs& args) const {
  const quant::Encoding from = inputs()[0]->encoding();
  if (encoding() == quant::F32()) {
    from->decode(args.in[0].data, args.range.size(), reinterpret_cast<float*>(args.out));
    return;
  }
  auto* values = reinterpret_cast<float*>(args.scratch);
  from->decode(args.in[0].data, args.range.size(), values);
  encoding()->encode(values, args.range.size(), args.out);
}

bool CastNode::CanOverflow() const {
  const quant::EncodingInfo &from = *inputs()[0]->encoding(), &to = *encoding();
  if (encoding() == quant::F32()) return false;  // what is decoded is f32 already
  if (from.exponent_bits == 0) return true;      // blocks, whose scale may be anything
  // With more bits of exponent nothing overflows by rounding up either.
  return from.exponent_bits > to.exponent_bits ||
         (from.exponent_bits == to.exponent_bits && from.significand_bits > to.significand_bits);
}

}  // namespace sluice::graph
