#include "stream/kept_values.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace sluice::stream {

using graph::kBlockElements;
using graph::kPieceElements;

void KeptValues::Add(const graph::KeptNode* node) {
  SLUICE_CHECK(graph::BytesOfPiece(*node, {0, kBlockElements}) <= graph::kKeptBlockBytes);
  nodes_.push_back({node, std::vector<Block>(node->num_blocks())});
}

void KeptValues::TakeRoom(uint64_t block, Arena* arena) {
  if (arena == nullptr) return;
  for (Kept& kept : nodes_) {
    if (block >= kept.blocks.size() || kept.blocks[block].room != nullptr) continue;
    if (arena->num_free() == 0) return;
    kept.blocks[block] = {arena->Take(), 0};
  }
}

void KeptValues::GiveBack(uint64_t block, Arena* arena) {
  for (Kept& kept : nodes_) {
    if (block >= kept.blocks.size()) continue;
    if (uint8_t* room = std::exchange(kept.blocks[block], {}).room) arena->Return(room);
  }
}

KeptValues::Place KeptValues::Find(const graph::Node* node, uint64_t block, graph::Range range) const {
  const auto kept = std::ranges::find(nodes_, node, &Kept::node);
  if (kept == nodes_.end() || range.size() == 0) return {};
  const bool is_piece = range.begin / kBlockElements == block && range.begin % kPieceElements == 0 &&
                        range.end == std::min(range.begin + kPieceElements, node->num_elements());
  if (!is_piece) return {};
  const Block& of = kept->blocks[block];
  if (of.room == nullptr) return {};
  const graph::Range before{block * kBlockElements, range.begin};
  return {of.room + graph::BytesOfPiece(*node, before),
          (of.known >> range.begin % kBlockElements / kPieceElements & 1) != 0};
}

void KeptValues::SetKnown(const graph::Node* node, graph::Range range) {
  for (Kept& kept : nodes_) {
    if (kept.node != node) continue;
    Block& of = kept.blocks[range.begin / kBlockElements];
    of.known = static_cast<uint8_t>(of.known | 1u << range.begin % kBlockElements / kPieceElements);
  }
}

}  // namespace sluice::stream
