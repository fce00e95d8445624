// KeptNode: a node whose values are worth keeping from the fold of a tensor's facts until its values are computed,
// where there is room: they take longer to compute than to keep (a mask's bits). It computes the same at any time; who
// keeps nothing may do without.
#pragma once

#include "graph/node.h"

namespace sluice::graph {

constexpr uint64_t kKeptBlockBytes = kBlockElements / 8;  // most that a block takes

class KeptNode : public Node {
 protected:
  using Node::Node;
};

// What a node's Compute writes: whole blocks of its encoding, also at a tensor's end.
inline uint64_t BytesOfPiece(const Node& node, Range range) {
  const uint64_t block = node.encoding()->block_elements;
  return node.encoding().BytesOf((range.size() + block - 1) / block * block);
}

}  // namespace sluice::graph
