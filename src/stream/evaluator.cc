#include "stream/evaluator.h"

#include <algorithm>
#include <map>

#include "base/check.h"
#include "base/units.h"

namespace sluice::stream {
namespace {

constexpr uint64_t kAlignment = 64;

// How much of a node is computed for one piece of the roots.
struct Use {
  uint64_t pieces = 0;  // in all: one, and one more for each way in which its rows are gathered
  uint64_t parts = 0;   // in so many parts, each aligned
  bool whole = false;   // the piece itself is among them
};

void CountUses(const Node* node, uint64_t parts, std::map<const Node*, Use>* uses) {
  if (dynamic_cast<const graph::StoredNode*>(node) != nullptr) return;
  Use& use = (*uses)[node];
  if (parts > 1 || !use.whole) {
    ++use.pieces;
    use.parts += parts;
  }
  use.whole |= parts == 1;
  const uint64_t of_inputs = std::min(parts * node->MostNeeds(), graph::kPieceElements);
  for (const Node* input : node->inputs()) CountUses(input, of_inputs, uses);
}

}  // namespace

void ResolvedFacts::Set(const Node* node, std::vector<graph::FactValue> values) {
  Entry entry{node, std::move(values), {}};
  for (const graph::FactValue& value : entry.values) entry.pointers.push_back(&value);
  entries_.push_back(std::move(entry));
}

std::span<const graph::FactValue* const> ResolvedFacts::Of(const Node* node) const {
  for (const Entry& entry : entries_) {
    if (entry.node == node) return entry.pointers;
  }
  return {};
}

uint64_t EvaluationScratchBytes(std::span<const Node* const> roots) {
  std::map<const Node*, Use> uses;
  for (const Node* root : roots) CountUses(root, 1, &uses);
  uint64_t values = 0, scratch = 0;
  for (const auto& [node, use] : uses) {
    const uint64_t piece_bytes =
        node->encoding().BytesOf(RoundUp(graph::kPieceElements, node->encoding()->block_elements));
    values += use.pieces * piece_bytes + use.parts * kAlignment;
    scratch = std::max(scratch, RoundUp(node->ScratchBytes(), kAlignment));
  }
  return values + scratch + kAlignment;
}

void Evaluator::Begin(const WindowSet* windows, const ResolvedFacts* facts, KeptValues* kept, uint64_t block) {
  windows_ = windows;
  facts_ = facts;
  kept_ = kept;
  block_ = block;
  used_ = 0;
  known_.clear();
}

uint8_t* Evaluator::Take(uint64_t size_bytes) {
  size_bytes = RoundUp(size_bytes, kAlignment);
  SLUICE_CHECK(used_ + size_bytes <= scratch_.size());
  uint8_t* place = scratch_.data() + used_;
  used_ += size_bytes;
  return place;
}

View Evaluator::Evaluate(const Node* node, Range range, uint8_t* out) {
  if (const auto* stored = dynamic_cast<const graph::StoredNode*>(node)) return {windows_->Find(*stored, range), range};
  for (const Known& known : known_) {
    if (known.node != node || known.view.range != range) continue;
    if (out != nullptr && out != known.view.data) {
      std::copy_n(known.view.data, graph::BytesOfPiece(*node, range), out);
      return {out, range};
    }
    return known.view;
  }
  SLUICE_CHECK(range.size() <= graph::kPieceElements);
  const bool may_be_kept = kept_ != nullptr && out == nullptr;
  const KeptValues::Place place = may_be_kept ? kept_->Find(node, block_, range) : KeptValues::Place();
  if (place.known) return {place.data, range};
  graph::NeedList needs;
  node->Needs(range, &needs);
  std::vector<View> in;
  in.reserve(needs.needs().size());
  for (const graph::Need& need : needs.needs()) in.push_back(Evaluate(node->inputs()[need.input], need.range));
  if (out == nullptr) out = place.data;
  if (out == nullptr) out = Take(graph::BytesOfPiece(*node, range));
  const uint64_t used_by_values = used_;
  uint8_t* scratch = node->ScratchBytes() > 0 ? Take(node->ScratchBytes()) : nullptr;
  node->Compute(
      {range, in, facts_ != nullptr ? facts_->Of(node) : std::span<const graph::FactValue* const>(), scratch, out});
  used_ = used_by_values;  // what it scribbled is nobody else's
  if (place.data != nullptr) kept_->SetKnown(node, range);
  known_.push_back({node, {out, range}});
  return {out, range};
}

}  // namespace sluice::stream
