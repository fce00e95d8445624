// Generator: turns the queue of groups into jobs, lazily and in order. Runs in the engine's I/O thread.
//
// A group without unknown facts gives its tiles. One with facts gives, with k tiles that the budget can hold:
//   tiles k..n-1 to fold; tiles 0..k-1 to fold and keep; [facts known: 0..k-1 are computed where they lie]; tiles
//   k..n-1
// so that the next group's folding overlaps this one's values unasked. A fact that may need another pass, or that looks
// at what other facts decide (a recipe of recipes), makes the generator wait for it. Small groups that were enqueued
// together are packed into one job.
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
  std::deque<Queued> queue;                              // groups not yet begun
  std::map<graph::Key, std::shared_ptr<FactRun>> facts;  // known and under way
  uint64_t fold_bytes_in_use = 0;
  uint64_t fact_passes = 0;
};

class Generator {
 public:
  Generator(const GroupSource& groups, const StreamOptions& options, const Layout& layout, SlotOwner* owner,
            Shared* shared);

  // The next job, without slots; null where the queue is empty or a fact must be finished first. Takes the mutex
  // itself.
  std::shared_ptr<Job> Next();
  // Nothing queued and nothing begun: only true between calls of Next.
  bool exhausted() const { return run_ == nullptr && begun_.empty(); }

 private:
  enum class Phase { kFold, kHeld, kAwait, kValues };

  std::shared_ptr<GroupRun> Begin(Shared::Queued queued);
  std::shared_ptr<GroupRun> NextRun();
  std::shared_ptr<Job> Pack();
  std::shared_ptr<Job> NextOfRun();
  std::shared_ptr<Job> FoldJob();
  std::shared_ptr<Job> TileJob(uint64_t tile, bool fold);
  // `folding`: the facts whose inputs parts that fold must hold; empty: all of the group's own.
  std::shared_ptr<Job> MakeJob(std::vector<JobPiece> parts, const std::vector<const graph::Fact*>& folding = {});

  const GroupSource& groups_;
  const StreamOptions& options_;
  const Layout& layout_;
  SlotOwner* owner_;
  Shared* shared_;

  std::shared_ptr<GroupRun> run_;  // the group of several tiles that is being cut
  Phase phase_ = Phase::kValues;
  uint64_t next_block_ = 0, next_tile_ = 0;
  std::deque<std::shared_ptr<GroupRun>> begun_;  // taken from the queue, not yet in a job
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
