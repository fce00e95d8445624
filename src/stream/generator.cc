#include "stream/generator.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/units.h"

namespace sluice::stream {
namespace {

constexpr uint64_t kUnboundedSlot = uint64_t{1} << 62;

bool IsStored(const Node* node) { return dynamic_cast<const graph::StoredNode*>(node) != nullptr; }

void CollectNeeded(const Node* node, std::set<const Node*>* seen, std::vector<const Node*>* with_facts) {
  if (!seen->insert(node).second) return;
  if (!node->facts().empty()) with_facts->push_back(node);
  for (const Node* input : node->inputs()) CollectNeeded(input, seen, with_facts);
}

bool AnyWants(const GroupRun& run, uint64_t block) {
  return std::any_of(run.own.begin(), run.own.end(),
                     [&](const GroupRun::Own& own) { return WantsBlock(*own.run, block); });
}

template <class Each>
void ForEachBlock(Range range, Each each) {
  for (uint64_t begin = range.begin; begin < range.end;) {
    const uint64_t end = std::min((begin / graph::kBlockElements + 1) * graph::kBlockElements, range.end);
    each(Range{begin, end});
    begin = end;
  }
}

}  // namespace

void ResolveGroup(GroupRun* run) {
  for (const GroupRun::Needed& needed : run->needed) {
    std::vector<graph::FactValue> values;
    values.reserve(needed.facts.size());
    for (const auto& fact : needed.facts) values.push_back(fact->value);
    run->facts.Set(needed.node, std::move(values));
  }
  run->resolved = true;
}

bool AllOwnKnown(const GroupRun& run) {
  return std::ranges::all_of(run.own, [](const GroupRun::Own& own) { return own.run->known; });
}

bool BeginPass(GroupRun* run) {
  SLUICE_CHECK(run->folding == 0);
  const auto is_known = [](const std::shared_ptr<FactRun>& fact) { return fact->known; };
  bool looks_at_facts = false;
  for (GroupRun::Own& own : run->own) {
    FactRun& fact = *own.run;
    if (fact.known) fact.fold = nullptr;
    if (fact.known || !std::ranges::all_of(own.needs, is_known)) continue;
    if (run->folding > 0 && own.fact->num_elements() != run->fold_elements) continue;
    run->fold_elements = own.fact->num_elements();
    fact.blocks_left = CountWanted(*fact.fold, run->fold_elements);
    SLUICE_CHECK(fact.blocks_left > 0);
    looks_at_facts |= !own.needs.empty();
    ++run->folding;
  }
  for (GroupRun::Needed& needed : run->needed) {
    if (!looks_at_facts || needed.in_fold_facts || !std::ranges::all_of(needed.facts, is_known)) continue;
    std::vector<graph::FactValue> values;
    for (const auto& fact : needed.facts) values.push_back(fact->value);
    run->fold_facts.Set(needed.node, std::move(values));
    needed.in_fold_facts = true;
  }
  return run->folding > 0;
}

bool WantsBlock(const FactRun& fact, uint64_t block) {
  return fact.fold != nullptr && fact.blocks_left > 0 && fact.fold->Wants(block);
}

uint64_t CountWanted(const graph::Fold& fold, uint64_t num_elements) {
  uint64_t wanted = 0;
  for (uint64_t block = 0; block * graph::kBlockElements < num_elements; ++block) wanted += fold.Wants(block) ? 1 : 0;
  return wanted;
}

void AppendFoldStrips(const JobPiece& piece, uint32_t index, std::vector<Strip>* strips) {
  ForEachBlock(piece.range, [&](Range block) {
    if (AnyWants(*piece.run, block.begin / graph::kBlockElements)) strips->push_back({index, block});
  });
}

void AppendEmitStrips(const JobPiece& piece, uint32_t index, std::vector<Strip>* strips) {
  if (std::all_of(piece.run->outs.begin(), piece.run->outs.end(), IsStored)) return;
  ForEachBlock(piece.range, [&](Range block) { strips->push_back({index, block}); });
}

Generator::Generator(const GroupSource& groups, const StreamOptions& options, const Layout& layout, SlotOwner* owner,
                     Shared* shared)
    : groups_(groups), options_(options), layout_(layout), owner_(owner), shared_(shared) {}

std::shared_ptr<GroupRun> Generator::Begin(Shared::Queued queued) {
  auto run = std::make_shared<GroupRun>();
  run->group = queued.group;
  run->batch = queued.batch;
  groups_.Build(queued.group, &run->graph, &run->outs);
  run->num_elements = run->outs[0]->num_elements();

  std::set<const Node*> seen;
  std::vector<const Node*> with_facts;
  for (const Node* out : run->outs) CollectNeeded(out, &seen, &with_facts);
  for (size_t i = 0; i < with_facts.size(); ++i) {  // it grows
    for (const auto& fact : with_facts[i]->facts()) {
      for (const Node* input : fact->inputs()) CollectNeeded(input, &seen, &with_facts);
    }
  }
  const uint64_t granule = with_facts.empty() ? groups_.granule(queued.group) : 0;
  run->tile_elements = TileElements(run->outs, layout_.tile_bytes, granule);
  run->num_tiles = std::max<uint64_t>(1, CeilDiv(run->num_elements, run->tile_elements));

  std::lock_guard lock(shared_->mutex);
  for (const Node* node : with_facts) {
    GroupRun::Needed needed{node, {}};
    for (const auto& fact : node->facts()) {
      auto [entry, is_new] = shared_->facts.try_emplace(fact->key());
      if (is_new) {
        entry->second = std::make_shared<FactRun>();
        FactRun& fact_run = *entry->second;
        if (fact->num_elements() == 0) {
          const std::unique_ptr<graph::Fold> fold = fact->Begin(options_.num_threads);
          for (int pass = 0; pass < fact->max_passes() && !fact_run.known; ++pass) {
            fact_run.known = fold->Finish(&fact_run.value);  // of a tensor without elements
          }
          SLUICE_CHECK(fact_run.known);
        } else {
          fact_run.fold = fact->Begin(options_.num_threads);
          run->own.push_back({fact.get(), entry->second, {}});
          run->folds_what_it_emits &= fact->num_elements() == run->num_elements;
          run->may_repeat |= fact->num_elements() != run->own.front().fact->num_elements();
          run->fold_state_bytes += fact->StateBytes(options_.num_threads);
          run->may_repeat |= fact->max_passes() > 1;
        }
      }
      if (!entry->second->known) {
        ++run->unknown;
        entry->second->waiting.push_back(run);
      }
      needed.facts.push_back(entry->second);
    }
    run->needed.push_back(std::move(needed));
  }
  for (GroupRun::Own& own : run->own) {
    std::set<const Node*> seen_by_fact;
    std::vector<const Node*> looked_at;
    for (const Node* input : own.fact->inputs()) CollectNeeded(input, &seen_by_fact, &looked_at);
    for (const Node* node : looked_at) {
      for (const auto& fact : node->facts()) own.needs.push_back(shared_->facts.at(fact->key()));
    }
    run->may_repeat |= !own.needs.empty();
  }
  shared_->fold_bytes_in_use += run->fold_state_bytes;
  if (BeginPass(run.get())) ++shared_->fact_passes;
  if (run->unknown == 0) ResolveGroup(run.get());
  return run;
}

std::shared_ptr<GroupRun> Generator::NextRun() {
  if (!begun_.empty()) {
    auto run = std::move(begun_.front());
    begun_.pop_front();
    return run;
  }
  Shared::Queued queued{};
  {
    std::lock_guard lock(shared_->mutex);
    if (shared_->queue.empty()) return nullptr;
    // Whether the next group folds is not known before it is begun: begin it only where its folds would fit.
    if (shared_->fold_bytes_in_use + layout_.max_fold_bytes > layout_.fact_bytes) return nullptr;
    queued = shared_->queue.front();
    shared_->queue.pop_front();
  }
  return Begin(queued);
}

std::shared_ptr<Job> Generator::Next() {
  if (run_ == nullptr) {
    auto run = NextRun();
    if (run == nullptr) return nullptr;
    if (run->num_tiles == 1 && run->FoldsWhatItEmits()) {
      begun_.push_front(std::move(run));
      return Pack();
    }
    run_ = std::move(run);
    next_block_ = next_tile_ = 0;
    phase_ = Phase::kValues;
    if (!run_->own.empty()) {
      if (layout_.hold_slots > 0 && run_->FoldsWhatItEmits()) {
        const std::shared_ptr<Job> sample = TileJob(0, true);
        run_->held_tiles =
            std::min(run_->num_tiles, layout_.hold_slots / std::max<uint64_t>(1, sample->windows.num_slots()));
      }
      phase_ = Phase::kFold;
      next_block_ = run_->held_tiles * run_->tile_elements / graph::kBlockElements;
    }
  }
  return NextOfRun();
}

std::shared_ptr<Job> Generator::NextOfRun() {
  for (;;) {
    switch (phase_) {
      case Phase::kFold:
        if (auto job = FoldJob()) return job;
        phase_ = next_tile_ < run_->held_tiles ? Phase::kHeld : Phase::kAwait;
        break;
      case Phase::kHeld:
        if (next_tile_ < run_->held_tiles) return TileJob(next_tile_++, true);
        phase_ = Phase::kAwait;
        break;
      case Phase::kAwait: {
        if (run_->may_repeat) {
          std::lock_guard lock(shared_->mutex);
          if (run_->pass_wanted) {
            run_->pass_wanted = false;
            next_block_ = run_->held_tiles * run_->tile_elements / graph::kBlockElements;
            phase_ = Phase::kFold;
            break;
          }
          if (!AllOwnKnown(*run_)) return nullptr;
        }
        phase_ = Phase::kValues;
        break;
      }
      case Phase::kValues: {
        if (next_tile_ == run_->num_tiles) {
          run_ = nullptr;
          return Next();
        }
        auto job = TileJob(next_tile_++, false);
        if (next_tile_ == run_->num_tiles) run_ = nullptr;
        return job;
      }
    }
  }
}

// Blocks that a fact wants, up to a tile's worth of them.
std::shared_ptr<Job> Generator::FoldJob() {
  std::vector<JobPiece> parts;
  uint64_t elements = 0;
  std::unique_lock lock(shared_->mutex);  // Wants changes where a pass ends
  if (run_->pass_wanted) return nullptr;  // this pass is over: what it still looked for, nobody wants
  while (next_block_ * graph::kBlockElements < run_->fold_elements && elements < run_->tile_elements) {
    const Range block{next_block_ * graph::kBlockElements,
                      std::min((next_block_ + 1) * graph::kBlockElements, run_->fold_elements)};
    if (AnyWants(*run_, next_block_)) {
      elements += block.size();
      if (!parts.empty() && parts.back().range.end == block.begin) {
        parts.back().range.end = block.end;
      } else {
        parts.push_back({run_, block, true, false, {}});
      }
    }
    ++next_block_;
  }
  std::vector<const graph::Fact*> folding;
  for (const GroupRun::Own& own : run_->own) {
    if (own.run->fold != nullptr && own.run->blocks_left > 0) folding.push_back(own.fact);
  }
  lock.unlock();
  return parts.empty() ? nullptr : MakeJob(std::move(parts), folding);
}

std::shared_ptr<Job> Generator::TileJob(uint64_t tile, bool fold) {
  JobPiece part{run_,
                {tile * run_->tile_elements, std::min((tile + 1) * run_->tile_elements, run_->num_elements)},
                fold,
                true,
                {}};
  std::vector<JobPiece> parts;
  parts.push_back(std::move(part));
  return MakeJob(std::move(parts));
}

// Whole small groups, neighbours in the queue, until half a tile per stream is full.
std::shared_ptr<Job> Generator::Pack() {
  std::vector<std::shared_ptr<GroupRun>> runs;
  uint64_t bytes = 0, limit = 0;
  while (auto run = NextRun()) {
    if (!runs.empty() && (run->num_tiles > 1 || !run->FoldsWhatItEmits() || run->batch != runs.front()->batch)) {
      begun_.push_front(std::move(run));
      break;
    }
    // What is read of it, which may be a few blocks of large tensors, and what is computed.
    uint64_t run_bytes = 0, streams = 0;
    WindowSet windows(kUnboundedSlot);
    std::set<const Node*> seen;
    std::vector<const Node*> unused;
    const auto add = [&](const Node* node, uint64_t num_elements) {
      windows.AddRoot(node, {0, num_elements}, false);
      CollectNeeded(node, &seen, &unused);
    };
    for (const Node* out : run->outs) add(out, run->num_elements);
    for (const GroupRun::Own& own : run->own) {
      for (const Node* input : own.fact->inputs()) add(input, own.fact->num_elements());
    }
    windows.Layout();
    run_bytes = windows.payload_bytes();
    for (const Node* node : seen) {
      const bool is_out = std::find(run->outs.begin(), run->outs.end(), node) != run->outs.end();
      if (!IsStored(node) && !is_out) continue;
      if (!IsStored(node)) run_bytes += node->encoding().BytesOf(node->num_elements());
      ++streams;
    }
    if (runs.empty()) limit = std::max<uint64_t>(1, streams) * layout_.tile_bytes / 2;
    if (!runs.empty() && bytes + run_bytes > limit) {
      begun_.push_front(std::move(run));
      break;
    }
    bytes += run_bytes;
    runs.push_back(std::move(run));
  }
  for (;;) {
    std::vector<JobPiece> parts;
    parts.reserve(runs.size());
    for (const auto& run : runs) parts.push_back({run, {0, run->num_elements}, !run->own.empty(), true, {}});
    auto job = MakeJob(std::move(parts));
    if (runs.size() == 1 || job->windows.num_slots() <= layout_.max_job_slots) return job;
    const size_t half = runs.size() / 2;  // scattered in their files: every window costs a page or two
    begun_.insert(begun_.begin(), runs.begin() + static_cast<ptrdiff_t>(half), runs.end());
    runs.resize(half);
  }
}

std::shared_ptr<Job> Generator::MakeJob(std::vector<JobPiece> parts, const std::vector<const graph::Fact*>& folding) {
  auto job = std::make_shared<Job>(owner_, layout_.slot_bytes);
  job->parts = std::move(parts);
  for (JobPiece& part : job->parts) {
    if (part.fold) {
      std::vector<const graph::Fact*> facts = folding;
      if (facts.empty()) {
        for (const GroupRun::Own& own : part.run->own) facts.push_back(own.fact);
      }
      for (const graph::Fact* fact : facts) {
        for (const Node* input : fact->inputs()) job->windows.AddRoot(input, part.range, false);
      }
    }
    if (!part.emit) continue;
    job->emits = true;
    job->held |= part.fold;
    for (const Node* out : part.run->outs) {
      job->windows.AddRoot(out, part.range, true);
      part.outputs.push_back(IsStored(out) ? kStoredOut
                                           : job->windows.AddOutput(out->encoding().BytesOf(part.range.size())));
    }
  }
  job->windows.Layout();
  return job;
}

}  // namespace sluice::stream
