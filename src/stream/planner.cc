#include "stream/planner.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <set>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "graph/kept_node.h"
#include "stream/arena.h"
#include "stream/evaluator.h"
#include "stream/window_set.h"

namespace sluice::stream {
namespace {

constexpr uint64_t kWindowSlack = 2 * io::kBlockBytes;  // a window is aligned at both ends
constexpr uint64_t kMeasureFromBytes = 256 * kMiB;      // below this a pass is short whatever the disk does
// A sample of the disk's rate: a 128th of what will be read, so that it costs no more than that, within these.
constexpr uint64_t kLeastSampleBytes = 4 * kMiB, kMostSampleBytes = 16 * kMiB, kSampleShare = 128;
constexpr uint64_t kArenaRounding = 4 * kMiB;  // huge pages at both ends of the arena
constexpr uint64_t kFoldSlackBytes = kMiB / 2;
constexpr uint64_t kSmallKeptBlocks = 256;  // of groups that share a job
constexpr int kTileSizes = 5;               // max_tile_bytes and its halves
constexpr int kJobsInFlight = 4;            // enough to keep disk and workers busy (docs/streaming.md)

// `order`, if any: those not seen before, each before its inputs.
void VisitNodes(const Node* node, std::set<const Node*>* seen, std::vector<const Node*>* order = nullptr) {
  if (!seen->insert(node).second) return;
  if (order != nullptr) order->push_back(node);
  for (const Node* input : node->inputs()) VisitNodes(input, seen, order);
}

// With what facts look at, which may be nodes that no out is computed from.
void VisitWithFacts(const Node* node, std::set<const Node*>* seen) {
  if (!seen->insert(node).second) return;
  for (const Node* input : node->inputs()) VisitWithFacts(input, seen);
  for (const auto& fact : node->facts()) {
    for (const Node* input : fact->inputs()) VisitWithFacts(input, seen);
  }
}

// What one walk over all groups adds up.
struct Totals {
  Plan plan;
  double cpu_nanoseconds = 0;
  uint64_t scratch_bytes = 0, fact_bytes = 0;
  uint64_t least_tile_bytes = 0;                     // a block of the widest encoding
  std::array<uint64_t, kTileSizes> max_job_slots{};  // at max_tile_bytes >> i
  std::shared_ptr<const io::ByteSource> largest;     // to measure the disk on
  struct Folded {                                    // tensors that are folded before their values are computed
    uint64_t read_bytes;
    double passes;
    bool holdable;  // tiles can be kept for the values
  };
  std::vector<Folded> folded;
  bool some_wait = false;  // facts of several passes, or that look at others
  std::set<graph::Key> facts_seen;
  uint64_t max_folded_slots = 0;                  // at max_tile_bytes: the arena that would hold any tensor whole
  uint64_t max_kept_blocks = 0, kept_blocks = 0;  // of a group, and of all: of KeptNodes
};

// With those of the facts that its inputs look at, which come first.
double PassesUntilKnown(const graph::Fact& fact) {
  double before = 0;
  for (const graph::Fact* needed : CollectFacts(fact.inputs())) before = std::max(before, PassesUntilKnown(*needed));
  return before + fact.expected_passes();
}

uint64_t JobSlots(std::span<const Node* const> outs, std::span<const graph::Fact* const> facts, uint64_t tile_bytes,
                  uint64_t tile_elements, uint64_t num_elements) {
  const uint64_t num_tiles = std::max<uint64_t>(1, CeilDiv(num_elements, tile_elements));
  uint64_t slots = 1;
  for (const uint64_t tile : std::set<uint64_t>{0, num_tiles / 2, num_tiles - 1}) {
    const Range range{tile * tile_elements, std::min((tile + 1) * tile_elements, num_elements)};
    WindowSet windows(tile_bytes + kWindowSlack);
    for (const Node* out : outs) {
      windows.AddRoot(out, range, true);
      if (dynamic_cast<const graph::StoredNode*>(out) == nullptr)
        windows.AddOutput(out->encoding().BytesOf(range.size()));
    }
    for (const graph::Fact* fact : facts) {
      const Range of_fact{std::min(range.begin, fact->num_elements()), std::min(range.end, fact->num_elements())};
      for (const Node* input : fact->inputs()) windows.AddRoot(input, of_fact, false);
    }
    windows.Layout();
    slots = std::max(slots, windows.num_slots());
  }
  return slots;
}

void AddGroup(const GroupSource& groups, size_t group, const StreamOptions& options, Totals* totals) {
  graph::Graph graph;
  std::vector<const Node*> outs;
  groups.Build(group, &graph, &outs);
  SLUICE_CHECK(!outs.empty());
  const uint64_t num_elements = outs[0]->num_elements();
  const std::vector<const graph::Fact*> facts = CollectFacts(outs);

  Plan& plan = totals->plan;
  ++plan.num_groups;
  plan.num_tensors += outs.size();
  std::set<const Node*> nodes;
  uint64_t widest = 0, out_bytes = 0;  // bytes of a block of kBlockElements; of all outs
  for (const Node* out : outs) {
    SLUICE_CHECK(out->num_elements() == num_elements);
    VisitNodes(out, &nodes);
    out_bytes += out->encoding().BytesOf(num_elements);
    totals->cpu_nanoseconds +=
        options.wants.nanoseconds_per_byte * static_cast<double>(out->encoding().BytesOf(num_elements));
    widest = std::max(widest, out->encoding().BytesOf(graph::kBlockElements));
  }
  plan.out_bytes += out_bytes;
  for (const Node* node : nodes) {
    totals->cpu_nanoseconds +=
        node->NanosecondsPerElement() * static_cast<double>(std::min(node->num_elements(), num_elements));
    if (const auto* stored = dynamic_cast<const graph::StoredNode*>(node)) {
      if (totals->largest == nullptr || stored->source().size_bytes() > totals->largest->size_bytes()) {
        totals->largest = stored->shared_source();
      }
    }
  }
  for (const graph::Fact* fact : facts) {  // which may look at nodes that no out is computed from
    for (const Node* input : fact->inputs()) VisitNodes(input, &nodes);
  }
  for (const Node* node : nodes) {
    if (dynamic_cast<const graph::StoredNode*>(node) == nullptr) continue;
    widest = std::max(widest, node->encoding().BytesOf(graph::kBlockElements));
  }
  totals->least_tile_bytes = std::max(totals->least_tile_bytes, widest);

  WindowSet whole(kUnboundedSlot);
  for (const Node* out : outs) whole.AddRoot(out, {0, num_elements}, true);
  whole.Layout();
  plan.payload_bytes += whole.payload_bytes();
  plan.read_bytes += whole.payload_bytes();

  std::vector<const Node*> roots(outs.begin(), outs.end());
  uint64_t state_bytes = 0;
  double passes = 0;
  uint64_t most_elements = 0;                // that a fact looks at
  bool new_facts = false, of_parts = false;  // a part of a tensor needs facts of all of it
  for (const graph::Fact* fact : facts) {
    const bool is_new = totals->facts_seen.insert(fact->key()).second;
    new_facts |= is_new;
    of_parts |= fact->num_elements() != num_elements;
    roots.insert(roots.end(), fact->inputs().begin(), fact->inputs().end());
    state_bytes += fact->StateBytes(options.num_threads);
    passes = std::max(passes, PassesUntilKnown(*fact));
    totals->some_wait |= fact->max_passes() > 1 || !CollectFacts(fact->inputs()).empty();
    most_elements = std::max(most_elements, fact->num_elements());
    if (!is_new) continue;
    totals->cpu_nanoseconds +=
        fact->NanosecondsPerElement() * fact->expected_passes() * static_cast<double>(fact->num_elements());
  }
  totals->scratch_bytes = std::max(totals->scratch_bytes, EvaluationScratchBytes(roots));
  totals->fact_bytes = std::max(totals->fact_bytes, state_bytes);

  WindowSet folded(kUnboundedSlot);
  for (const graph::Fact* fact : facts) {
    for (const Node* input : fact->inputs()) folded.AddRoot(input, {0, fact->num_elements()}, false);
  }
  folded.Layout();

  uint64_t kept_blocks = 0;
  for (const Node* node : nodes) {
    const bool is_kept = new_facts && !of_parts && dynamic_cast<const graph::KeptNode*>(node) != nullptr;
    kept_blocks += is_kept ? node->num_blocks() : 0;
  }
  totals->kept_blocks += kept_blocks;
  totals->max_kept_blocks = std::max(totals->max_kept_blocks, kept_blocks);

  const uint64_t granule = groups.granule(group);
  const uint64_t all_bytes = whole.moved_bytes() + folded.moved_bytes() + out_bytes;
  uint64_t slots = 0;
  for (int i = 0; i < kTileSizes; ++i) {
    const uint64_t tile_bytes = options.max_tile_bytes >> i;
    if (tile_bytes < widest) continue;
    const uint64_t tile_elements = TileElements(outs, tile_bytes, facts.empty() ? granule : 0);
    // A group all of which lies in one tile's slot takes as many slots at the next size: not worth laying out again.
    if (i == 0 || all_bytes > tile_bytes) slots = JobSlots(outs, facts, tile_bytes, tile_elements, num_elements);
    if (of_parts) {
      slots = std::max(slots, JobSlots({}, facts, tile_bytes, tile_elements, most_elements));
    }
    totals->max_job_slots[i] = std::max(totals->max_job_slots[i], slots);
    if (i == 0 && new_facts && (num_elements > tile_elements || of_parts)) {
      totals->folded.push_back({folded.payload_bytes(), passes, !of_parts});
      if (of_parts) continue;
      totals->max_folded_slots = std::max(totals->max_folded_slots, slots * CeilDiv(num_elements, tile_elements));
    }
  }
}

// Sequential reads of the size and depth that the engine uses, from the middle of the largest file.
double MeasureReadRate(const io::ByteSource& source, uint64_t sample_bytes, io::BlockReader& reader) {
  constexpr uint64_t kRequest = 1 * kMiB;
  if (source.direct_fd() < 0 || source.size_bytes() < 2 * sample_bytes) return 0;
  auto arena = Arena::Make(kJobsInFlight, kRequest);
  if (!arena) return 0;
  std::array<uint8_t*, kJobsInFlight> slots;
  for (uint8_t*& slot : slots) {
    slot = (*arena)->Take();
    for (uint64_t at = 0; at < kRequest; at += io::kBlockBytes) slot[at] = 1;  // touched before the clock starts
  }
  uint64_t offset = RoundDown(source.size_bytes() / 2, io::kBlockBytes), submitted = 0, completed = 0;
  const auto start = std::chrono::steady_clock::now();
  std::vector<io::ReadCompletion> done;
  const auto submit = [&](uint64_t tag) {
    reader.Submit({&source, offset, kRequest, kRequest, slots[tag], tag});
    offset += kRequest;
    submitted += kRequest;
  };
  for (uint64_t tag = 0; tag < kJobsInFlight; ++tag) submit(tag);
  bool ok = true;
  while (reader.in_flight() > 0) {
    done.clear();
    reader.Wait(true, &done);
    for (const io::ReadCompletion& completion : done) {
      ok = ok && completion.result.has_value();
      completed += kRequest;
      if (submitted + kRequest <= sample_bytes) submit(completion.tag);
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return ok && seconds > 0 ? static_cast<double>(completed) / seconds : 0;
}

// Bytes a second at which memory that the process has not used before becomes its own. On a virtual machine whose host
// has not backed it yet this can be slower than the disk.
double MeasureTouchRate() {
  constexpr uint64_t kTouchBytes = 8 * kMiB;
  auto arena = Arena::Make(1, kTouchBytes);
  if (!arena) return 0;
  uint8_t* memory = (*arena)->Take();
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t at = 0; at < kTouchBytes; at += io::kBlockBytes) memory[at] = 1;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return static_cast<double>(kTouchBytes) / std::max(seconds, 1e-6);
}

// Bytes that are read for facts alone where `held_bytes` of each tensor are kept for its values.
uint64_t FactReads(const Totals& totals, uint64_t held_bytes) {
  double bytes = 0;
  for (const Totals::Folded& folded : totals.folded) {
    const auto whole = static_cast<double>(folded.read_bytes);
    const double held = folded.holdable ? std::min(whole, static_cast<double>(held_bytes)) : 0;
    bytes += folded.passes * (whole - held);
  }
  return static_cast<uint64_t>(bytes);
}

// How many slots to hold tiles in: touching them costs time once, as far as that is slower than what is read into them
// meanwhile; each tensor that is folded gains by them.
uint64_t WorthHolding(const Totals& totals, uint64_t most_slots, const Layout& layout, double read_rate) {
  if (most_slots == 0 || totals.folded.empty()) return 0;
  const double seconds_per_byte = std::max(0.0, 1 / MeasureTouchRate() - 1 / read_rate);
  uint64_t best = 0;
  double best_seconds = static_cast<double>(FactReads(totals, 0)) / read_rate;
  for (uint64_t slots = most_slots; slots > layout.max_job_slots; slots /= 2) {
    const double seconds = static_cast<double>(slots * layout.slot_bytes) * seconds_per_byte +
                           static_cast<double>(FactReads(totals, slots * layout.tile_bytes)) / read_rate;
    if (seconds < best_seconds) {
      best = slots;
      best_seconds = seconds;
    }
  }
  return best;
}

}  // namespace

std::vector<const graph::Fact*> CollectFacts(std::span<const Node* const> outs) {
  std::set<const Node*> seen;
  std::vector<const Node*> nodes;
  for (const Node* out : outs) VisitNodes(out, &seen, &nodes);
  std::vector<const graph::Fact*> facts;
  std::set<graph::Key> keys;
  for (size_t i = 0; i < nodes.size(); ++i) {  // it grows: a fact may look at nodes that its own node does not
    for (const auto& fact : nodes[i]->facts()) {
      if (!keys.insert(fact->key()).second) continue;
      facts.push_back(fact.get());
      for (const Node* input : fact->inputs()) VisitNodes(input, &seen, &nodes);
    }
  }
  return facts;
}

uint64_t TileElements(std::span<const Node* const> outs, uint64_t tile_bytes, uint64_t granule) {
  std::set<const Node*> nodes;
  for (const Node* out : outs) VisitWithFacts(out, &nodes);
  uint64_t elements = kUnboundedSlot;
  const auto limit = [&](const Node* node) {
    const quant::EncodingInfo& encoding = *node->encoding();
    elements = std::min(elements, tile_bytes / encoding.block_bytes * encoding.block_elements);
  };
  for (const Node* node : nodes) {
    if (dynamic_cast<const graph::StoredNode*>(node) != nullptr) limit(node);
  }
  for (const Node* out : outs) limit(out);
  if (granule > 0 && granule <= elements) return RoundDown(elements, granule);
  elements = RoundDown(elements, graph::kBlockElements);
  SLUICE_CHECK(elements > 0);
  return elements;
}

Result<Planned> MakePlan(const GroupSource& groups, const StreamOptions& options) {
  SLUICE_CHECK(options.budget != nullptr && options.num_threads > 0);
  Totals totals;
  for (const auto& [key, fact] : options.known_facts) {
    if (fact.has_value()) totals.facts_seen.insert(key);
  }
  for (size_t group = 0; group < groups.size(); ++group) AddGroup(groups, group, options, &totals);

  Planned planned;
  Plan& plan = planned.plan = totals.plan;
  Layout& layout = planned.layout;
  layout.scratch_bytes = RoundUp(totals.scratch_bytes, io::kBlockBytes);
  layout.max_fold_bytes = totals.fact_bytes;
  plan.scratch_bytes = layout.scratch_bytes * static_cast<uint64_t>(options.num_threads);
  plan.own_bytes = options.wants.own_bytes;
  plan.num_threads = options.num_threads;
  plan.budget_bytes = options.budget->limit_bytes();

  // The largest tile of which a few jobs fit; else the smallest that fits at all.
  options.budget->ChargeResident();
  const uint64_t free = options.budget->free_bytes(), used = options.budget->used_bytes();
  const auto held_slots = [&](uint64_t tile_bytes) {
    return options.wants.held_bytes == 0 ? 0 : CeilDiv(options.wants.held_bytes / 4 * 5, tile_bytes) + 2;
  };
  uint64_t fixed = 0, arena_limit = 0, least_arena = kUnboundedSlot;
  const auto choose_tile = [&](uint64_t fact_bytes) {
    plan.fact_bytes = layout.fact_bytes = fact_bytes;
    fixed = plan.scratch_bytes + plan.fact_bytes + plan.own_bytes + kArenaRounding;
    arena_limit = free > fixed ? free - fixed : 0;
    int chosen = -1;
    for (int i = 0; i < kTileSizes; ++i) {
      const uint64_t tile_bytes = options.max_tile_bytes >> i, slot_bytes = tile_bytes + kWindowSlack;
      if (tile_bytes < totals.least_tile_bytes) break;
      const uint64_t least = (totals.max_job_slots[i] + held_slots(tile_bytes)) * slot_bytes;
      least_arena = std::min(least_arena, least);
      if (least <= arena_limit) chosen = i;
      const uint64_t comfortable = (3 * totals.max_job_slots[i] + held_slots(tile_bytes)) * slot_bytes;
      if (comfortable <= arena_limit) break;
    }
    return chosen;
  };
  // The next tensor folds while this one's values are computed, and a job of small tensors folds many at once; where
  // there is no room for that, one group after the other.
  int chosen =
      choose_tile(totals.fact_bytes + std::max(totals.fact_bytes, totals.fact_bytes > 0 ? kFoldSlackBytes : 0));
  if (chosen < 0 && totals.fact_bytes > 0) chosen = choose_tile(totals.fact_bytes);
  if (chosen < 0) {
    SLUICE_CHECK(least_arena < kUnboundedSlot);
    const uint64_t smallest = used + fixed + least_arena;
    return Fail(
        ErrorCode::kBudget,
        fmt::format("--max-memory {} cannot hold this work: the program itself and {} of working memory need {} "
                    "at least; give --max-memory {}MiB or more",
                    FormatMemory(options.budget->limit_bytes()), FormatMemory(fixed + least_arena),
                    FormatMemory(smallest), AdvisedMib(smallest)));
  }

  layout.tile_bytes = options.max_tile_bytes >> chosen;
  layout.slot_bytes = layout.tile_bytes + kWindowSlack;
  layout.max_job_slots = totals.max_job_slots[chosen];
  uint64_t limit_slots = arena_limit / layout.slot_bytes;
  const uint64_t held = held_slots(layout.tile_bytes);
  layout.ahead_slots = std::max(kJobsInFlight * layout.max_job_slots, options.read_ahead_bytes / layout.slot_bytes);
  layout.num_slots = std::min(limit_slots, held + layout.ahead_slots);
  layout.ahead_slots = std::min(layout.ahead_slots, layout.num_slots - held);

  SLUICE_ASSIGN(const std::unique_ptr<io::BlockReader> reader, io::MakeBlockReader(options.reader));
  plan.reader = reader->mode();
  if (plan.read_bytes >= kMeasureFromBytes && totals.largest != nullptr) {
    const uint64_t sample_bytes = std::clamp(plan.read_bytes / kSampleShare, kLeastSampleBytes, kMostSampleBytes);
    plan.read_bytes_per_second = MeasureReadRate(*totals.largest, sample_bytes, *reader);
  }
  constexpr double kUsualRate = 1.5e9;  // of a local disk where nothing was measured
  const double rate = plan.read_bytes_per_second > 0 ? plan.read_bytes_per_second : kUsualRate;

  const uint64_t reserve = held + 3 * layout.max_job_slots;
  // What is kept of two groups, as of folds, or of a job of small ones: of what jobs in flight leave a quarter at most,
  // and before tiles are held, for it is small beside the tiles whose computing it saves.
  const uint64_t in_flight = std::max(layout.num_slots, reserve);
  if (const uint64_t left = limit_slots > in_flight ? (limit_slots - in_flight) * layout.slot_bytes / 4 : 0;
      totals.kept_blocks > 0 && left > kArenaRounding) {
    const uint64_t wanted = std::min(totals.kept_blocks, std::max(2 * totals.max_kept_blocks, kSmallKeptBlocks));
    layout.kept_blocks = std::min(wanted, (left - kArenaRounding) / graph::kKeptBlockBytes);
    const uint64_t kept_bytes = layout.kept_blocks * graph::kKeptBlockBytes + kArenaRounding;
    plan.fact_bytes += kept_bytes;
    limit_slots -= CeilDiv(kept_bytes, layout.slot_bytes);
  }
  if (options.hold != Hold::kNever && limit_slots > reserve) {
    const uint64_t most = std::min(limit_slots - reserve, totals.max_folded_slots << chosen);
    layout.hold_slots = options.hold == Hold::kAlways ? most : WorthHolding(totals, most, layout, rate);
    // As much again for the next group, which is folded while one waits for its facts.
    if (totals.some_wait) layout.hold_slots = std::min(2 * layout.hold_slots, limit_slots - reserve);
    layout.num_slots = std::max(layout.num_slots, reserve + layout.hold_slots);
  }
  plan.fact_read_bytes = FactReads(totals, layout.hold_slots * layout.tile_bytes);
  plan.read_bytes += plan.fact_read_bytes;
  plan.tile_bytes = layout.tile_bytes;
  plan.arena_bytes = layout.num_slots * layout.slot_bytes;
  plan.peak_bytes = used + fixed - layout.fact_bytes + plan.fact_bytes + plan.arena_bytes;

  plan.io_seconds = static_cast<double>(plan.read_bytes + options.wants.write_bytes) / rate;
  plan.cpu_seconds = totals.cpu_nanoseconds * 1e-9 / options.num_threads;
  plan.seconds = std::max(plan.io_seconds, plan.cpu_seconds);
  return planned;
}

}  // namespace sluice::stream
