// Evaluator: computes nodes over one piece, from windows in memory, through a worker's own scratch. One per worker.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/graph.h"
#include "stream/kept_values.h"
#include "stream/window_set.h"

namespace sluice::stream {

using graph::View;

// Values of all facts that the nodes of a group look at, resolved once they are known.
class ResolvedFacts {
 public:
  void Set(const Node* node, std::vector<graph::FactValue> values);
  std::span<const graph::FactValue* const> Of(const Node* node) const;

 private:
  struct Entry {
    const Node* node;
    std::vector<graph::FactValue> values;
    std::vector<const graph::FactValue*> pointers;
  };
  std::vector<Entry> entries_;
};

// Scratch that evaluating these nodes over one piece takes, in bytes.
uint64_t EvaluationScratchBytes(std::span<const Node* const> roots);

class Evaluator {
 public:
  explicit Evaluator(std::span<uint8_t> scratch) : scratch_(scratch) {}

  // Starts a piece of `block`: forgets what was computed. Everything below looks at these windows and facts, and takes
  // from and puts into `kept` (may be null) what is kept of the block.
  void Begin(const WindowSet* windows, const ResolvedFacts* facts, KeptValues* kept, uint64_t block);
  // The node's elements `range` (at most kPieceElements). Computed at `out` where one is given and the node is not
  // stored.
  View Evaluate(const Node* node, Range range, uint8_t* out = nullptr);

 private:
  struct Known {
    const Node* node;
    View view;
  };
  uint8_t* Take(uint64_t size_bytes);

  std::span<uint8_t> scratch_;
  uint64_t used_ = 0;
  const WindowSet* windows_ = nullptr;
  const ResolvedFacts* facts_ = nullptr;
  KeptValues* kept_ = nullptr;
  uint64_t block_ = 0;
  std::vector<Known> known_;
};

}  // namespace sluice::stream
