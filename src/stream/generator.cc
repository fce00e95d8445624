#include "stream/generator.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/units.h"

namespace sluice::stream {
namespace {

constexpr size_t kMostCuts = 8;  // groups of several tiles whose graphs are there at once

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

  std::unique_lock lock(shared_->mutex);
  for (const Node* node : with_facts) {
    GroupRun::Needed needed{node, {}};
    for (const auto& fact : node->facts()) {
      Shared::Fact& entry = shared_->facts[fact->key()];
      std::shared_ptr<FactRun> shared_run = entry.Find();
      if (shared_run == nullptr) {
        shared_run = entry.run = std::make_shared<FactRun>();
        FactRun& fact_run = *shared_run;
        fact_run.key = fact->key();
        if (fact->num_elements() == 0) {
          const std::unique_ptr<graph::Fold> fold = fact->Begin(options_.num_threads);
          for (int pass = 0; pass < fact->max_passes() && !fact_run.known; ++pass) {
            fact_run.known = fold->Finish(&fact_run.value);  // of a tensor without elements
          }
          SLUICE_CHECK(fact_run.known);
          entry.record = graph::RecordOf(fact_run.value);
        } else {
          fact_run.fold = fact->Begin(options_.num_threads);
          run->own.push_back({fact.get(), shared_run, {}});
          run->folds_what_it_emits &= fact->num_elements() == run->num_elements;
          run->may_repeat |= fact->num_elements() != run->own.front().fact->num_elements();
          run->fold_state_bytes += fact->StateBytes(options_.num_threads);
          run->may_repeat |= fact->max_passes() > 1;
        }
      }
      if (!shared_run->known) {
        ++run->unknown;
        shared_run->waiting.push_back(run);
      }
      needed.facts.push_back(std::move(shared_run));
    }
    run->needed.push_back(std::move(needed));
  }
  for (GroupRun::Own& own : run->own) {
    std::set<const Node*> seen_by_fact;
    std::vector<const Node*> looked_at;
    for (const Node* input : own.fact->inputs()) CollectNeeded(input, &seen_by_fact, &looked_at);
    for (const Node* node : looked_at) {
      for (const auto& fact : node->facts()) own.needs.push_back(shared_->facts.at(fact->key()).Find());
    }
    run->may_repeat |= !own.needs.empty();
  }
  shared_->fold_bytes_in_use += run->fold_state_bytes;
  if (BeginPass(run.get())) ++shared_->fact_passes;
  if (run->unknown == 0) ResolveGroup(run.get());
  lock.unlock();
  if (!run->own.empty() && run->FoldsWhatItEmits()) {
    for (const Node* node : seen) {
      if (const auto* keepable = dynamic_cast<const graph::KeptNode*>(node)) run->kept.Add(keepable);
    }
  }
  if (!run->own.empty() && run->num_tiles > 1 && run->FoldsWhatItEmits() && layout_.hold_slots > 0) {
    while (run->held_tiles < run->num_tiles) {  // tiles of scattered rows take more slots than others
      const uint64_t tile_slots = TileJob(run, run->held_tiles, true)->windows.num_slots();
      if (run->held_slots + tile_slots > layout_.hold_slots) break;
      run->held_slots += tile_slots;
      ++run->held_tiles;
    }
  }
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

std::shared_ptr<Job> Generator::Next(uint64_t before) {
  for (;;) {
    while (!cuts_.empty() && cuts_.front().Finished()) cuts_.pop_front();
    for (size_t i = 0; i < cuts_.size() && cuts_[i].first_place < before; ++i) {
      if (cuts_[i].run == nullptr) continue;
      if (auto job = NextOf(cuts_[i], i == 0 ? before : 0)) return job;
    }
    if (!cuts_.empty() && cuts_.front().Finished()) continue;
    if (next_place_ >= before || cuts_.size() >= kMostCuts) return nullptr;
    if (packed_ == nullptr && !BeginNext()) return nullptr;
    if (packed_ != nullptr) return GivePacked();
  }
}

// Slots that later groups may keep while the first waits for its facts.
uint64_t Generator::HoldLeft() const {
  uint64_t held = 0;
  for (const Cut& cut : cuts_) held += cut.held_slots;
  return layout_.hold_slots - std::min(held, layout_.hold_slots);
}

// Makes a cut of the next group, or packs a job of the next groups. False where the queue is empty, or where the next
// group's tiles are better kept after those of the groups before it.
bool Generator::BeginNext() {
  auto run = NextRun();
  if (run == nullptr) return false;
  if (run->num_tiles == 1 && run->FoldsWhatItEmits()) {
    begun_.push_front(std::move(run));
    packed_ = Pack();
    return true;
  }
  Cut cut;
  cut.run = run;
  cut.first_place = next_place_;
  cut.held_slots = run->held_slots;
  if (cut.held_slots > HoldLeft()) {
    begun_.push_front(std::move(run));
    return false;
  }
  if (!run->own.empty()) {
    cut.phase = Phase::kFold;
    cut.next_block = run->held_tiles * run->tile_elements / graph::kBlockElements;
  }
  next_place_ += run->num_tiles;
  cuts_.push_back(std::move(cut));
  return true;
}

std::shared_ptr<Job> Generator::GivePacked() {
  const uint64_t slots = packed_->windows.num_slots();
  if (!cuts_.empty()) {  // it stays until what comes before it was handed out, as kept tiles do
    if (slots > HoldLeft()) return nullptr;
    packed_->held = true;
    Cut cut;
    cut.first_place = next_place_;
    cut.held_slots = slots;
    cuts_.push_back(std::move(cut));
  }
  packed_->place = packed_->fails_from = next_place_++;
  return std::move(packed_);
}

std::shared_ptr<Job> Generator::NextOf(Cut& cut, uint64_t values_before) {
  GroupRun& run = *cut.run;
  for (;;) {
    switch (cut.phase) {
      case Phase::kFold:
        if (auto job = FoldJob(cut)) {
          job->place = job->fails_from = cut.first_place;
          return job;
        }
        cut.phase = cut.next_tile < run.held_tiles ? Phase::kHeld : Phase::kAwait;
        break;
      case Phase::kHeld: {
        if (cut.next_tile == run.held_tiles) {
          cut.phase = Phase::kAwait;
          break;
        }
        auto job = TileJob(cut.run, cut.next_tile, true);
        job->place = cut.first_place + cut.next_tile++;
        job->fails_from = cut.first_place;
        return job;
      }
      case Phase::kAwait: {
        if (run.may_repeat) {
          std::lock_guard lock(shared_->mutex);
          if (run.pass_wanted) {
            run.pass_wanted = false;
            cut.next_block = run.held_tiles * run.tile_elements / graph::kBlockElements;
            cut.phase = Phase::kFold;
            break;
          }
          if (!AllOwnKnown(run)) return nullptr;
        }
        cut.phase = Phase::kValues;
        break;
      }
      case Phase::kValues: {
        if (cut.next_tile == run.num_tiles || cut.first_place + cut.next_tile >= values_before) return nullptr;
        auto job = TileJob(cut.run, cut.next_tile, false);
        job->place = job->fails_from = cut.first_place + cut.next_tile++;
        return job;
      }
    }
  }
}

// Blocks that a fact wants, up to a tile's worth of them.
std::shared_ptr<Job> Generator::FoldJob(Cut& cut) {
  const GroupRun& run = *cut.run;
  std::vector<JobPiece> parts;
  uint64_t elements = 0;
  std::unique_lock lock(shared_->mutex);  // Wants changes where a pass ends
  if (run.pass_wanted) return nullptr;    // this pass is over: what it still looked for, nobody wants
  while (cut.next_block * graph::kBlockElements < run.fold_elements && elements < run.tile_elements) {
    const Range block{cut.next_block * graph::kBlockElements,
                      std::min((cut.next_block + 1) * graph::kBlockElements, run.fold_elements)};
    if (AnyWants(run, cut.next_block)) {
      elements += block.size();
      if (!parts.empty() && parts.back().range.end == block.begin) {
        parts.back().range.end = block.end;
      } else {
        parts.push_back({cut.run, block, true, false, {}});
      }
    }
    ++cut.next_block;
  }
  std::vector<const graph::Fact*> folding;
  for (const GroupRun::Own& own : run.own) {
    if (own.run->fold != nullptr && own.run->blocks_left > 0) folding.push_back(own.fact);
  }
  lock.unlock();
  if (parts.empty()) return nullptr;
  auto job = MakeJob(parts, folding);
  while (job->windows.num_slots() > layout_.max_job_slots &&
         parts.size() > 1) {  // each block by itself takes more pages
    cut.next_block = parts.back().range.begin / graph::kBlockElements;
    parts.pop_back();
    job = MakeJob(parts, folding);
  }
  return job;
}

std::shared_ptr<Job> Generator::TileJob(const std::shared_ptr<GroupRun>& run, uint64_t tile, bool fold) {
  JobPiece part{
      run, {tile * run->tile_elements, std::min((tile + 1) * run->tile_elements, run->num_elements)}, fold, true, {}};
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
