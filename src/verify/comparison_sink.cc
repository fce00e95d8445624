#include "verify/comparison_sink.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/units.h"
#include "checkpoint/architecture.h"
#include "graph/graph.h"
#include "graph/node.h"

namespace sluice::verify {
namespace {

using checkpoint::kChunkBytes;
using checkpoint::TensorInfo;
using graph::kBlockElements;
using stream::Range;

constexpr uint64_t kBlocksPerTask = 4;             // of comparison: 512 KiB of bf16 a side
constexpr uint64_t kSmallBatchBytes = 512 * kKiB;  // small tensors that share a task
constexpr char kNoRoom[] = "no room for a sketch within --max-memory";

int64_t IndexOf(const AlignedGroup& group, int side) { return side == 0 ? group.a : group.b; }

}  // namespace

struct ComparisonSink::Worker {
  TensorComparison::Scratch scratch;
  RankSketch sketch;  // of small tensors; its memory is leased with the others'
};

ComparisonSink::ComparisonSink(const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b,
                               const Alignment& alignment, const ComparisonOptions& options)
    : sides_{&a, &b},
      alignment_(alignment),
      options_(options),
      parts_(a.config() == nullptr ? nullptr : checkpoint::ArchitectureOf(*a.config())),
      outcomes_(alignment.groups.size()),
      workers_(options.num_threads),
      hasher_(options.num_threads, [this](const std::shared_ptr<TensorComparison>& tensor) { Release(tensor); }) {
  // Tensors without elements have no bytes that could arrive.
  for (uint32_t group = 0; group < outcomes_.size(); ++group) {
    const TensorComparison::Setup setup = SetupOf(group);
    if (setup.num_elements == 0) outcomes_[group] = TensorComparison(setup).Finish();
  }
}

ComparisonSink::~ComparisonSink() = default;

stream::Wants ComparisonSink::wants() const {
  uint64_t most_chunks = 0, most_blocks = 0;
  for (const AlignedGroup& group : alignment_.groups) {
    for (int side = 0; side < 2; ++side) {
      if (IndexOf(group, side) < 0) continue;
      const TensorInfo tensor = sides_[side]->tensors()[static_cast<size_t>(IndexOf(group, side))];
      most_chunks = std::max(most_chunks, CeilDiv(tensor.size_bytes(), kChunkBytes));
      most_blocks = std::max(most_blocks, CeilDiv(tensor.num_elements, kBlockElements));
    }
  }
  constexpr uint64_t kTensorDigestBytes = 320;  // name, encoding and shape of a TensorDigest on the heap
  stream::Wants wants;
  wants.held_bytes = ChunkHasher::kMaxHeldBytes;
  wants.own_bytes =
      ChunkHasher::BufferBytes(options_.num_threads) + options_.num_threads * TensorComparison::Scratch::kBytes +
      4 * most_chunks * sizeof(kernels::Hash256) + most_blocks * 16 +
      outcomes_.size() *
          (sizeof(TensorOutcome) + sizeof(DifferenceStats) + sizeof(TensorDetails) + 2 * kTensorDigestBytes);
  wants.nanoseconds_per_byte = 0.8;  // SHA-256 of each byte at 1.6 GB/s and the sums; less where sides are equal
  return wants;
}

TensorComparison::Setup ComparisonSink::SetupOf(uint32_t group) {
  const AlignedGroup& aligned = alignment_.groups[group];
  TensorComparison::Setup setup;
  setup.group = group;
  setup.shapes_differ = aligned.in_other;
  setup.atol = options_.atol;
  setup.rtol = options_.rtol;
  setup.first = options_.first_difference ? &first_ : nullptr;
  for (int side = 0; side < 2; ++side) {
    if (IndexOf(aligned, side) < 0) continue;
    const TensorInfo info = sides_[side]->tensors()[static_cast<size_t>(IndexOf(aligned, side))];
    setup.has[side] = true;
    setup.num_elements = info.num_elements;
    setup.meter.encodings[side] = info.encoding;
    if (side == 0 && info.shape.size() == 2 && info.num_elements > 0) {
      setup.meter.rows = info.shape[0];
      setup.meter.columns = info.shape[1];
      const Part part = parts_.Of(info.name);
      setup.meter.tells_rows = part == Part::kEmbedding || part == Part::kHead;
    }
  }
  return setup;
}

void ComparisonSink::LeaseSketches() {
  if (options_.first_difference) return;
  for (uint32_t group = 0; group < alignment_.groups.size(); ++group) {
    const TensorComparison::Setup setup = SetupOf(group);
    if (!setup.has[0] || !setup.has[1]) continue;
    const auto shape = ChangeMeter::ShapeOfSketch(setup.meter);
    if (!shape) continue;
    uint64_t widest = 0;
    for (const quant::Encoding encoding : setup.meter.encodings) {
      widest = std::max(widest, encoding.BytesOf(setup.num_elements));
    }
    sketches_.Want(*shape, widest > kChunkBytes);
  }
  sketches_.Lease(options_.num_threads, options_.budget);
}

Result<void> ComparisonSink::Take(const stream::Lease& lease, stream::Stream& stream) {
  if (options_.budget != nullptr && lease_.size_bytes() == 0) {
    SLUICE_ASSIGN(lease_, options_.budget->Lease(wants().own_bytes, "the comparison"));
  }
  if (!leased_sketches_) {
    leased_sketches_ = true;
    LeaseSketches();
  }
  std::vector<stream::Piece> small;
  uint64_t small_bytes = 0;
  const auto post_small = [&] {
    if (small.empty()) return;
    stream.Post(lease, [this, batch = std::move(small)](int worker) {
      for (const stream::Piece& piece : batch) CompareWhole(piece, WorkerOf(worker));
    });
    small = {};
    small_bytes = 0;
  };
  for (const stream::Piece& piece : lease.pieces()) {
    if (stopped_early()) break;
    const AlignedGroup& aligned = alignment_.groups[piece.group];
    if (options_.first_difference && (aligned.a < 0 || aligned.b < 0) && aligned.in_other) {
      first_.Note(piece.group, std::nullopt);
      break;
    }
    if (piece.range.size() == 0) continue;
    SLUICE_CHECK(piece.range.begin % kBlockElements == 0);
    uint64_t widest = 0, bytes = 0;
    for (int side = 0; side < 2; ++side) {
      if (IndexOf(aligned, side) < 0) continue;
      const uint64_t size = sides_[side]->tensors()[static_cast<size_t>(IndexOf(aligned, side))].size_bytes();
      widest = std::max(widest, size);
      bytes += size;
    }
    if (piece.first && piece.last && widest <= kChunkBytes) {
      small.push_back(piece);
      small_bytes += bytes;
      if (small_bytes >= kSmallBatchBytes) post_small();
      continue;
    }
    if (piece.first) {
      current_ = std::make_shared<TensorComparison>(SetupOf(piece.group));
      TakeSketch(current_.get(), stream);
    }
    SLUICE_CHECK(current_ != nullptr && current_->group() == piece.group);
    TakePiece(piece, lease, stream);
    if (piece.last) Release(std::exchange(current_, nullptr));
  }
  post_small();
  bytes_read_ = stream.stats().payload_bytes;
  if (hasher_.has_waiting() && lease.size_bytes() > ChunkHasher::kMaxHeldBytes) hasher_.PostWaiting(stream);
  if (stopped_early()) return Fail(ErrorCode::kCancelled, "stopped at the first difference");
  return {};
}

void ComparisonSink::TakeSketch(TensorComparison* tensor, stream::Stream& stream) {
  if (!tensor->ShapeOfSketch()) return;
  if (!sketches_.has_large()) {
    tensor->GoWithoutSketch(kNoRoom);
    return;
  }
  // The tensor to be waited for may be that of a chunk that waits for another.
  if (hasher_.has_waiting() && sketches_.WouldWait()) hasher_.PostWaiting(stream);
  tensor->UseSketch(sketches_.Take(), sketches_.signs());
}

void ComparisonSink::TakePiece(const stream::Piece& piece, const stream::Lease& lease, stream::Stream& stream) {
  hasher_.Append(current_, piece, lease, stream);
  if (!current_->numbers()) return;
  for (uint64_t begin = piece.range.begin; begin < piece.range.end; begin += kBlocksPerTask * kBlockElements) {
    const Range range{begin, std::min(begin + kBlocksPerTask * kBlockElements, piece.range.end)};
    const uint8_t* a = piece.views[0].data + current_->encoding(0).BytesOf(begin - piece.range.begin);
    const uint8_t* b = piece.views[1].data + current_->encoding(1).BytesOf(begin - piece.range.begin);
    current_->Open();
    stream.Post(lease, [this, tensor = current_, range, a, b](int worker) {
      tensor->CompareBlocks(range, a, b, &WorkerOf(worker)->scratch);
      Release(tensor);
    });
  }
}

// A small tensor, all of whose bytes are here: numbers are compared only where these differ.
void ComparisonSink::CompareWhole(const stream::Piece& piece, Worker* worker) {
  const auto tensor = std::make_shared<TensorComparison>(SetupOf(piece.group));
  hasher_.HashWhole(tensor, piece);
  if (tensor->numbers()) {
    const uint8_t* const a = piece.views[0].data;
    const uint8_t* const b = piece.views[1].data;
    if (tensor->same_encoding() && !tensor->bytes_differ()) {
      tensor->LookAtGrids(a, b);
    } else {
      if (tensor->ShapeOfSketch()) {
        if (sketches_.has_small()) {
          tensor->UseSketch(&worker->sketch, sketches_.signs());
        } else {
          tensor->GoWithoutSketch(kNoRoom);
        }
      }
      tensor->CompareBlocks(piece.range, a, b, &worker->scratch);
    }
  }
  SLUICE_CHECK(tensor->Close());
  outcomes_[piece.group] = tensor->Finish();
}

ComparisonSink::Worker* ComparisonSink::WorkerOf(int worker) {
  if (workers_[worker] == nullptr) workers_[worker] = std::make_unique<Worker>();
  return workers_[worker].get();
}

void ComparisonSink::Release(const std::shared_ptr<TensorComparison>& tensor) {
  if (!tensor->Close()) return;
  outcomes_[tensor->group()] = tensor->Finish();
  if (tensor->sketch() != nullptr) sketches_.Return(tensor->sketch());
}

Result<void> ComparisonSink::End() {
  SLUICE_CHECK(current_ == nullptr);
  if (hasher_.has_waiting()) hasher_.HashWaiting();
  if (stopped_early()) return Fail(ErrorCode::kCancelled, "stopped at the first difference");
  return {};
}

void ComparisonSink::Abandon() {
  // It came before whatever stopped the pass, so the first difference may be in it.
  if (hasher_.has_waiting() && stopped_early()) hasher_.HashWaiting();
  hasher_.DropWaiting();
  current_ = nullptr;
}

// Of the first element that differs, on sides whose bytes are stored.
void ComparisonSink::FindPlaces(uint32_t group, TensorDiff* diff) const {
  const AlignedGroup& aligned = alignment_.groups[group];
  if (!diff->first_changed || aligned.a < 0 || aligned.b < 0) return;
  for (int side = 0; side < 2; ++side) {
    graph::Graph graph;
    const auto index = static_cast<size_t>(IndexOf(aligned, side));
    const auto* stored = dynamic_cast<const graph::StoredNode*>(sides_[side]->MakeNode(index, &graph));
    if (stored == nullptr) continue;
    const uint64_t block = stored->encoding()->block_elements, first = *diff->first_changed / block * block;
    const FilePlace place{stored->source().name(), stored->BytesOf({first, first + block}).begin};
    (side == 0 ? diff->place_a : diff->place_b) = place;
  }
}

TensorDiff ComparisonSink::MakeDiff(uint32_t group) const {
  const AlignedGroup& aligned = alignment_.groups[group];
  const TensorOutcome& outcome = outcomes_[group];
  TensorDiff diff;
  diff.tensor_class = outcome.tensor_class;
  for (int side = 0; side < 2; ++side) {
    const int64_t index = IndexOf(aligned, side);
    if (index < 0) continue;
    const TensorInfo info = sides_[side]->tensors()[static_cast<size_t>(index)];
    diff.name = info.name;
    (side == 0 ? diff.encoding_a : diff.encoding_b) = info.encoding.name();
    (side == 0 ? diff.shape_a : diff.shape_b).assign(info.shape.begin(), info.shape.end());
    (side == 0 ? diff.digest_a : diff.digest_b) = outcome.digest[side];
    if (aligned.a >= 0 && aligned.b >= 0) diff.num_elements = info.num_elements;
  }
  diff.rounded = outcome.rounded;
  if (outcome.stats) diff.stats = *outcome.stats;
  if (outcome.first_changed != TensorOutcome::kNone) diff.first_changed = outcome.first_changed;
  if (outcome.details) diff.details = *outcome.details;
  if (outcome.grid[0] >= 0) diff.grid_a = kGrids[static_cast<size_t>(outcome.grid[0])];
  if (outcome.grid[1] >= 0) diff.grid_b = kGrids[static_cast<size_t>(outcome.grid[1])];
  return diff;
}

// Of a pass that stopped there, nothing else is known.
TensorDiff ComparisonSink::MakeFirstDiff() const {
  const auto [group, element] = first_.place();
  TensorDiff diff = MakeDiff(group);
  diff.tensor_class = alignment_.groups[group].in_other ? TensorClass::kShapeDiffers : TensorClass::kChanged;
  diff.digest_a = diff.digest_b = {};
  diff.rounded = RoundedSide::kNone;
  diff.stats.reset();
  diff.first_changed = element;
  FindPlaces(group, &diff);
  return diff;
}

std::vector<TensorDiff> ComparisonSink::Unequal() const {
  std::vector<TensorDiff> unequal;
  if (stopped_early()) {
    unequal.push_back(MakeFirstDiff());
    return unequal;
  }
  for (uint32_t group = 0; group < outcomes_.size(); ++group) {
    if (outcomes_[group].tensor_class == TensorClass::kIdentical) continue;
    TensorDiff diff = MakeDiff(group);
    FindPlaces(group, &diff);
    // The two halves of a tensor whose shapes differ are groups of their own, side by side.
    if (diff.tensor_class == TensorClass::kShapeDiffers && !unequal.empty() && unequal.back().name == diff.name) {
      unequal.back().encoding_b = diff.encoding_b;
      unequal.back().shape_b = diff.shape_b;
      unequal.back().digest_b = diff.digest_b;
    } else {
      unequal.push_back(std::move(diff));
    }
  }
  return unequal;
}

uint64_t ComparisonSink::identical_tensors() const {
  if (stopped_early()) return 0;
  return static_cast<uint64_t>(std::ranges::count(outcomes_, TensorClass::kIdentical, &TensorOutcome::tensor_class));
}

uint64_t ComparisonSink::identical_elements() const {
  uint64_t elements = 0;
  for (uint32_t group = 0; group < outcomes_.size() && !stopped_early(); ++group) {
    if (outcomes_[group].tensor_class != TensorClass::kIdentical) continue;
    elements += sides_[0]->tensors()[static_cast<size_t>(alignment_.groups[group].a)].num_elements;
  }
  return elements;
}

GridCounts ComparisonSink::GridsOf(int side) const {
  GridCounts counts;
  for (const TensorOutcome& outcome : outcomes_) {
    if (outcome.looked_at_grid[side]) ++counts.looked_at;
    if (outcome.grid[side] >= 0) ++counts.on[static_cast<size_t>(outcome.grid[side])];
  }
  return counts;
}

std::vector<checkpoint::TensorDigest> ComparisonSink::Digests(int side) const {
  SLUICE_CHECK(!stopped_early());
  std::vector<checkpoint::TensorDigest> digests;
  for (uint32_t group = 0; group < outcomes_.size(); ++group) {
    const int64_t index = IndexOf(alignment_.groups[group], side);
    if (index < 0) continue;
    const TensorInfo info = sides_[side]->tensors()[static_cast<size_t>(index)];
    digests.push_back({std::string(info.name),
                       std::string(info.encoding.name()),
                       {info.shape.begin(), info.shape.end()},
                       outcomes_[group].digest[side],
                       info.size_bytes()});
  }
  return digests;
}

std::vector<checkpoint::TensorDigest> ComparisonSink::DigestsOfA() const { return Digests(0); }
std::vector<checkpoint::TensorDigest> ComparisonSink::DigestsOfB() const { return Digests(1); }

}  // namespace sluice::verify
