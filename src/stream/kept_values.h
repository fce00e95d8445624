// KeptValues: of one group, what its graph::KeptNodes computed while facts were folded, kept
// by blocks until the values of those are computed. A block for which there is no room is computed again.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/kept_node.h"
#include "stream/arena.h"

namespace sluice::stream {

class KeptValues {
 public:
  // Before any block.
  void Add(const graph::KeptNode* node);

  // Under the engine's mutex, which guards the arena: room for the block of all nodes, or of as many as there is room
  // for; and what it took, back. `arena` may be null: no room.
  void TakeRoom(uint64_t block, Arena* arena);
  void GiveBack(uint64_t block, Arena* arena);

  // Where the node's values of a piece of `block` are, or belong. Null where there is no room for them, or `range` is
  // no such piece. By the one worker that has the block.
  struct Place {
    uint8_t* data = nullptr;
    bool known = false;
  };
  Place Find(const graph::Node* node, uint64_t block, graph::Range range) const;
  void SetKnown(const graph::Node* node, graph::Range range);

 private:
  static constexpr uint64_t kPieces = graph::kBlockElements / graph::kPieceElements;
  struct Block {
    uint8_t* room = nullptr;
    uint8_t known = 0;  // a bit for each piece
  };
  static_assert(kPieces <= 8);
  struct Kept {
    const graph::KeptNode* node;
    std::vector<Block> blocks;
  };
  std::vector<Kept> nodes_;
};

}  // namespace sluice::stream
