// Jobs: what the engine reads, folds, computes and hands out, a tile of a group (or many small groups) at a time.
//
// A job is admitted with all its slots at once, so that one budget cannot deadlock. It goes through
//   reading -> folding (if it folds) -> waiting for facts -> computing (if it emits) -> done, in the consumer's hands
// A job that only folds is gone after folding; one that folds and emits is a held tile: read once for both. Jobs are
// admitted in the order in which they were generated, and handed out by place.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "graph/graph.h"
#include "stream/evaluator.h"
#include "stream/kept_values.h"
#include "stream/stream.h"
#include "stream/window_set.h"

namespace sluice::stream {

struct GroupRun;

// A fact on its way. Shared by all groups that need it; folded by the first that came.
struct FactRun {
  graph::Key key;
  bool known = false;
  graph::FactValue value;
  std::unique_ptr<graph::Fold> fold;               // while not known
  uint64_t blocks_left = 0;                        // of this pass
  std::vector<std::shared_ptr<GroupRun>> waiting;  // for it to be known
};

// A group that was taken from the queue, with its graph.
struct GroupRun {
  struct Own {
    const graph::Fact* fact;
    std::shared_ptr<FactRun> run;
    std::vector<std::shared_ptr<FactRun>> needs;  // that its inputs look at: known before it is folded
  };
  struct Needed {
    const Node* node;
    std::vector<std::shared_ptr<FactRun>> facts;  // in the node's order
    bool in_fold_facts = false;
  };

  uint32_t group = 0;
  uint64_t batch = 0;  // groups of one call of Enqueue may share a job
  graph::Graph graph;
  std::vector<const Node*> outs;
  uint64_t num_elements = 0, tile_elements = 0, num_tiles = 1;
  uint64_t held_tiles = 0;          // the first of them are folded last and kept for their values
  uint64_t held_slots = 0;          // that they take
  bool folds_what_it_emits = true;  // its own facts look at as many elements: no out is a part of a tensor
  bool may_repeat = false;          // there may be another pass: a fact asks for it, or waits for another fact
  uint64_t fold_state_bytes = 0;

  // Under the engine's mutex:
  std::vector<Own> own;        // facts that this group folds
  std::vector<Needed> needed;  // all facts that its nodes look at
  uint64_t fold_elements = 0;  // of the tensors that this pass looks at
  size_t folding = 0;          // of `own`, in this pass
  size_t unknown = 0;          // of `needed`, each place counted
  bool resolved = false;       // everything needed is known, `facts` is filled
  bool pass_wanted = false;    // another pass over the tiles that are not held
  ResolvedFacts facts;
  ResolvedFacts fold_facts;  // what is known of them while others are folded over nodes that look at them

  KeptValues kept;

  // Whether one read of a tile serves folds and values.
  bool FoldsWhatItEmits() const { return folds_what_it_emits; }
};

// An element range of a group within a job.
struct JobPiece {
  std::shared_ptr<GroupRun> run;
  Range range;
  bool fold = false, emit = false;
  std::vector<uint32_t> outputs;  // per out: index in the window set; kStored for a view into a window
};
constexpr uint32_t kStoredOut = ~uint32_t{0};
constexpr uint64_t kNoPlace = ~uint64_t{0};

struct Strip {
  uint32_t piece;
  Range range;  // within one block
};

class SlotOwner {
 public:
  virtual ~SlotOwner() = default;
  virtual void ReturnSlots(std::vector<uint8_t*>&& slots) = 0;
};

struct Job final : LeasedTiles {
  Job(SlotOwner* owner_in, uint64_t slot_bytes) : owner(owner_in), windows(slot_bytes) {}
  ~Job() override {
    if (!slots.empty()) owner->ReturnSlots(std::move(slots));
  }

  SlotOwner* const owner;
  uint64_t place = 0;  // of what it emits in the order of the queue, without gaps; if it only folds, its group's first
  uint64_t fails_from = 0;  // the first place that cannot be handed out without it: its group's first if it folds
  std::vector<JobPiece> parts;
  WindowSet windows;
  std::vector<uint8_t*> slots;           // the kept ones first
  std::vector<std::vector<View>> views;  // per part; what pieces point into
  bool emits = false;
  bool held = false;  // its slots wait for facts, its own or an earlier group's, and are of those set aside for that
  size_t unresolved_parts = 0;  // under the engine's mutex; parts that emit, whose facts are not all known

  // Under the engine's mutex:
  uint64_t reads_left = 0;
  bool loaded = false, done = false;
  std::vector<Strip> fold_strips, emit_strips;
  size_t fold_next = 0, fold_done = 0, emit_next = 0, emit_done = 0;
};

}  // namespace sluice::stream
