// Generator: turns the queue of groups into jobs, lazily. Runs in the engine's I/O thread.
//
// A group without unknown facts gives its tiles. One with facts gives, with k tiles that the budget can hold:
//   tiles k..n-1 to fold; tiles 0..k-1 to fold and keep; [facts known: 0..k-1 are computed where they lie]; tiles
//   k..n-1
// so that the next group's folding overlaps this one's values unasked. A fact that may need another pass, or that looks
// at what other facts decide (a recipe of recipes), must be known before its group's values. Meanwhile later groups are
// folded and kept, as far as the room for kept tiles has what they would get if they came alone: looking ahead never
// makes a tile be read again. Small groups that were enqueued together are packed into one job.
//
// Jobs are generated in an order in which each can be admitted when all before it were; what they emit has its place in
// the order of the queue (Job::place).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "stream/job.h"
#include "stream/planner.h"

namespace sluice::stream {

// State that the generator shares with the engine, under `mutex`.
struct Shared {
  std::mutex mutex;
  struct Queued {
    uint32_t group;
    uint64_t batch;  // the call of Enqueue
  };
  struct Fact {
    std::shared_ptr<FactRun> run;             // under way, or known by a value that is kept
    std::weak_ptr<FactRun> while_needed;      // known by many numbers
    std::optional<graph::FactRecord> record;  // once it was known
    std::shared_ptr<FactRun> Find() const { return run != nullptr ? run : while_needed.lock(); }
  };
  std::deque<Queued> queue;  // groups not yet begun
  std::map<graph::Key, Fact> facts;
  uint64_t fold_bytes_in_use = 0;
  uint64_t fact_passes = 0;
};

class Generator {
 public:
  Generator(const GroupSource& groups, const StreamOptions& options, const Layout& layout, SlotOwner* owner,
            Shared* shared);

  // The next job, without slots; null where the queue is empty, a fact must be finished first, or only places from
  // `before` on are left. Takes the mutex itself.
  std::shared_ptr<Job> Next(uint64_t before = kNoPlace);
  // Nothing queued and nothing begun: only true between calls of Next.
  bool exhausted() const { return cuts_.empty() && packed_ == nullptr && begun_.empty(); }

 private:
  enum class Phase { kFold, kHeld, kAwait, kValues };
  // What is being cut: a group of several tiles, or (no run) a job of small groups that was given ahead of its turn.
  struct Cut {
    std::shared_ptr<GroupRun> run;
    uint64_t first_place = 0;
    uint64_t held_slots = 0;
    Phase phase = Phase::kValues;
    uint64_t next_block = 0, next_tile = 0;

    bool Finished() const { return run == nullptr || (phase == Phase::kValues && next_tile == run->num_tiles); }
  };

  std::shared_ptr<GroupRun> Begin(Shared::Queued queued);
  std::shared_ptr<GroupRun> NextRun();
  bool BeginNext();
  uint64_t HoldLeft() const;
  std::shared_ptr<Job> GivePacked();
  std::shared_ptr<Job> Pack();
  // Values are given for places below `values_before`.
  std::shared_ptr<Job> NextOf(Cut& cut, uint64_t values_before);
  std::shared_ptr<Job> FoldJob(Cut& cut);
  std::shared_ptr<Job> TileJob(const std::shared_ptr<GroupRun>& run, uint64_t tile, bool fold);
  // `folding`: the facts whose inputs parts that fold must hold; empty: all of the group's own.
  std::shared_ptr<Job> MakeJob(std::vector<JobPiece> parts, const std::vector<const graph::Fact*>& folding = {});

  const GroupSource& groups_;
  const StreamOptions& options_;
  const Layout& layout_;
  SlotOwner* owner_;
  Shared* shared_;

  std::deque<Cut> cuts_;                         // in the order of their places; only the first gives values
  std::shared_ptr<Job> packed_;                  // small groups, to be given next
  std::deque<std::shared_ptr<GroupRun>> begun_;  // taken from the queue, not yet in a cut or a job
  uint64_t next_place_ = 0;                      // of what comes after all cuts
};

// Takes the facts' values into the group, all of which must be known. Under the mutex.
void ResolveGroup(GroupRun* run);
// Begins a pass over the facts of the group's own that can be folded: what their inputs look at is known, and they look
// at tensors of one size. False where there is none. Under the mutex, between passes.
bool BeginPass(GroupRun* run);
bool AllOwnKnown(const GroupRun& run);
// Whether the fact's present pass takes the block. Under the mutex: a fact whose pass has ended is not asked.
bool WantsBlock(const FactRun& fact, uint64_t block);
// Blocks that a fold wants in the pass that begins.
uint64_t CountWanted(const graph::Fold& fold, uint64_t num_elements);

// The strips of a piece, cut at blocks; for folding, only blocks that a fact of the run's own wants.
void AppendFoldStrips(const JobPiece& piece, uint32_t index, std::vector<Strip>* strips);
void AppendEmitStrips(const JobPiece& piece, uint32_t index, std::vector<Strip>* strips);

}  // namespace sluice::stream
