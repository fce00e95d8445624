#include "verify/comparison_sink.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <utility>

#include "base/check.h"
#include "base/units.h"
#include "checkpoint/architecture.h"
#include "graph/graph.h"
#include "graph/node.h"
#include "kernels/compare.h"
#include "kernels/task_vectors.h"
#include "verify/difference.h"

namespace sluice::verify {
namespace {

using checkpoint::kChunkBytes;
using checkpoint::TensorInfo;
using graph::kBlockElements;
using graph::kPieceElements;
using kernels::Hash256;
using quant::Encoding;
using stream::Range;

constexpr uint64_t kBlocksPerTask = 4;             // of comparison: 512 KiB of bf16 a side
constexpr uint64_t kSmallBatchBytes = 512 * kKiB;  // small tensors that share a task
constexpr uint64_t kMaxHeldBytes = 5 * kMiB;  // an odd chunk's tile may wait for the next: two sides of a MiB and a bit
constexpr char kNoRoom[] = "no room for a sketch within --max-memory";
constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();

bool CanDecode(Encoding encoding) { return encoding->decode != nullptr; }
bool CanEncode(Encoding encoding) { return encoding->encode != nullptr; }

void LowerTo(std::atomic<uint64_t>* value, uint64_t to) {
  uint64_t now = value->load(std::memory_order_relaxed);
  while (to < now && !value->compare_exchange_weak(now, to)) {
  }
}

Hash256 NothingHash() { return checkpoint::TensorRoot({}); }

}  // namespace

// Buffers of one chunk each, for chunks that end in another tile than they began. Only the consumer's thread takes them
// and may wait for one; workers give them back.
class ComparisonSink::BufferPool {
 public:
  explicit BufferPool(int most) : left_(most) {}
  Buffer Take() {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [&] { return left_ > 0 || !free_.empty(); });
    if (free_.empty()) {
      --left_;
      return std::make_unique_for_overwrite<uint8_t[]>(kChunkBytes);
    }
    Buffer buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }
  void Return(Buffer buffer) {
    if (buffer == nullptr) return;
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(buffer));
    returned_.notify_one();
  }
  // Two open chunks and an odd pair, which may wait for a tile; the rest is with tasks that run and return it.
  static int Most(int num_threads) { return 4 + 2 * std::clamp(num_threads, 1, 4); }

 private:
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<Buffer> free_;
  int left_;
};

struct ComparisonSink::Record {
  Hash256 digest[2] = {};
  TensorClass tensor_class = TensorClass::kIdentical;
  RoundedSide rounded = RoundedSide::kNone;
  uint64_t first_changed = kNone;
  std::unique_ptr<DifferenceStats> stats;
  std::unique_ptr<TensorDetails> details;
  bool looked_at_grid[2] = {};
  int8_t grid[2] = {-1, -1};
};

struct ComparisonSink::Worker {
  std::vector<float> a = std::vector<float>(kPieceElements), b = std::vector<float>(kPieceElements),
                     again = std::vector<float>(kPieceElements);
  // No plain encoding is wider than 8 bytes, no block encoding than 4 bytes an element.
  std::vector<uint8_t> bytes = std::vector<uint8_t>(kPieceElements * 8);
  ChangeMeter::Scratch meter;
  RankSketch sketch;  // of small tensors; its memory is leased with the others'
  static constexpr uint64_t kBytes = kPieceElements * (3 * sizeof(float) + 8) + ChangeMeter::Scratch::kBytes;
};

struct ComparisonSink::Tensor {
  uint32_t group = 0;
  int num_sides = 1;
  int first_side = 0;  // of the views: 1 where only B has it
  Encoding encoding[2];
  uint64_t num_elements = 0;
  bool same_encoding = false;
  bool numbers = false;  // both sides decode to numbers, which are compared

  std::vector<Hash256> chunks[2];
  // The consumer's: a chunk that is not whole yet.
  Buffer open[2];
  uint64_t open_bytes[2] = {}, taken_bytes[2] = {};

  std::atomic<bool> bytes_differ{false}, values_differ{false}, a_is_no_rounding{false}, b_is_no_rounding{false},
      beyond_tolerance{false};
  std::atomic<uint64_t> first_changed{kNone};
  std::optional<ChangeMeter> meter;  // where both sides are numbers
  RankSketch* sketch = nullptr;      // of the pool

  // Block sums by first block, until all before them are in `total`.
  std::mutex mutex;
  uint64_t next_block = 0;
  std::map<uint64_t, std::vector<DifferenceSums>> waiting;
  DifferenceSums total;

  std::atomic<int64_t> open_tasks{1};  // one for the consumer, until the last piece has come

  // Whether nothing but a change of numbers can explain what was seen so far.
  bool SurelyDiffers() const {
    if (same_encoding) return bytes_differ;
    return !numbers || (values_differ && a_is_no_rounding && b_is_no_rounding);
  }
};

ComparisonSink::ComparisonSink(const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b,
                               const Alignment& alignment, const ComparisonOptions& options)
    : sides_{&a, &b},
      alignment_(alignment),
      options_(options),
      has_tolerance_(options.atol > 0 || options.rtol > 0),
      parts_(a.config() == nullptr ? nullptr : checkpoint::ArchitectureOf(*a.config())),
      records_(alignment.groups.size()),
      workers_(options.num_threads),
      buffers_(std::make_unique<BufferPool>(BufferPool::Most(options.num_threads))) {
  // Tensors without elements have no bytes that could arrive.
  for (uint32_t group = 0; group < records_.size(); ++group) {
    const std::shared_ptr<Tensor> tensor = MakeTensor(group);
    if (tensor->num_elements == 0) Finalise(tensor.get());
  }
}

ComparisonSink::~ComparisonSink() = default;

stream::Wants ComparisonSink::wants() const {
  uint64_t most_chunks = 0, most_blocks = 0;
  for (const AlignedGroup& group : alignment_.groups) {
    for (int side = 0; side < 2; ++side) {
      const int64_t index = side == 0 ? group.a : group.b;
      if (index < 0) continue;
      const TensorInfo tensor = sides_[side]->tensors()[static_cast<size_t>(index)];
      most_chunks = std::max(most_chunks, CeilDiv(tensor.size_bytes(), kChunkBytes));
      most_blocks = std::max(most_blocks, CeilDiv(tensor.num_elements, kBlockElements));
    }
  }
  constexpr uint64_t kTensorDigestBytes = 320;  // name, encoding and shape of a TensorDigest on the heap
  stream::Wants wants;
  wants.held_bytes = kMaxHeldBytes;
  wants.own_bytes =
      BufferPool::Most(options_.num_threads) * kChunkBytes + options_.num_threads * Worker::kBytes +
      4 * most_chunks * sizeof(Hash256) + most_blocks * 16 +
      records_.size() * (sizeof(Record) + sizeof(DifferenceStats) + sizeof(TensorDetails) + 2 * kTensorDigestBytes);
  wants.nanoseconds_per_byte = 0.8;  // SHA-256 of each byte at 1.6 GB/s and the sums; less where sides are equal
  return wants;
}

ChangeMeter::Setup ComparisonSink::SetupOf(const AlignedGroup& aligned) const {
  const TensorInfo a = sides_[0]->tensors()[static_cast<size_t>(aligned.a)];
  const TensorInfo b = sides_[1]->tensors()[static_cast<size_t>(aligned.b)];
  ChangeMeter::Setup setup{.encodings = {a.encoding, b.encoding}};
  if (a.shape.size() == 2 && a.num_elements > 0) {
    setup.rows = a.shape[0];
    setup.columns = a.shape[1];
    const Part part = parts_.Of(a.name);
    setup.tells_rows = part == Part::kEmbedding || part == Part::kHead;
  }
  return setup;
}

void ComparisonSink::LeaseSketches() {
  if (options_.first_difference) return;
  for (const AlignedGroup& group : alignment_.groups) {
    if (group.a < 0 || group.b < 0) continue;
    const ChangeMeter::Setup setup = SetupOf(group);
    const auto shape = ChangeMeter::ShapeOfSketch(setup);
    if (!shape) continue;
    uint64_t widest = 0;
    for (const Encoding encoding : setup.encodings) {
      widest = std::max(widest, encoding.BytesOf(setup.rows * setup.columns));
    }
    sketches_.Want(*shape, widest > kChunkBytes);
  }
  sketches_.Lease(options_.num_threads, options_.budget);
}

std::shared_ptr<ComparisonSink::Tensor> ComparisonSink::MakeTensor(uint32_t group) const {
  const AlignedGroup& aligned = alignment_.groups[group];
  auto tensor = std::make_shared<Tensor>();
  tensor->group = group;
  tensor->num_sides = aligned.a >= 0 && aligned.b >= 0 ? 2 : 1;
  tensor->first_side = aligned.a >= 0 ? 0 : 1;
  for (int side = 0; side < 2; ++side) {
    const int64_t index = side == 0 ? aligned.a : aligned.b;
    if (index < 0) continue;
    const TensorInfo info = sides_[side]->tensors()[static_cast<size_t>(index)];
    tensor->encoding[side] = info.encoding;
    tensor->num_elements = info.num_elements;
    tensor->chunks[side].resize(CeilDiv(info.size_bytes(), kChunkBytes));
  }
  if (tensor->num_sides == 2) {
    tensor->same_encoding = tensor->encoding[0] == tensor->encoding[1];
    tensor->numbers = CanDecode(tensor->encoding[0]) && CanDecode(tensor->encoding[1]);
    if (tensor->numbers) tensor->meter.emplace(SetupOf(aligned));
    tensor->a_is_no_rounding = !tensor->numbers || tensor->same_encoding || !CanEncode(tensor->encoding[0]);
    tensor->b_is_no_rounding = !tensor->numbers || tensor->same_encoding || !CanEncode(tensor->encoding[1]);
  }
  return tensor;
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
      if (workers_[worker] == nullptr) workers_[worker] = std::make_unique<Worker>();
      for (const stream::Piece& piece : batch) CompareWhole(piece.group, piece, workers_[worker].get());
    });
    small = {};
    small_bytes = 0;
  };
  for (const stream::Piece& piece : lease.pieces()) {
    if (stopped_) break;
    const AlignedGroup& aligned = alignment_.groups[piece.group];
    if (options_.first_difference && (aligned.a < 0 || aligned.b < 0) && aligned.in_other) {
      NoteDifference(piece.group, std::nullopt);
      break;
    }
    if (piece.range.size() == 0) continue;
    SLUICE_CHECK(piece.range.begin % kBlockElements == 0);
    uint64_t widest = 0, bytes = 0;
    for (int side = 0; side < 2; ++side) {
      const int64_t index = side == 0 ? aligned.a : aligned.b;
      if (index < 0) continue;
      const uint64_t size = sides_[side]->tensors()[static_cast<size_t>(index)].size_bytes();
      widest = std::max(widest, size);
      bytes += size;
    }
    if (piece.first && piece.last && widest <= kChunkBytes) {
      small.push_back(piece);
      small_bytes += bytes;
      if (small_bytes >= kSmallBatchBytes) post_small();
      continue;
    }
    if (piece.first) current_ = MakeTensor(piece.group);
    SLUICE_CHECK(current_ != nullptr && current_->group == piece.group);
    if (piece.first) TakeSketch(current_.get(), stream);
    TakePiece(current_, piece, lease, stream);
    if (piece.last) Release(std::exchange(current_, nullptr));
  }
  post_small();
  bytes_read_ = stream.stats().payload_bytes;
  if (odd_ && lease.size_bytes() > kMaxHeldBytes) PostOdd(stream);
  if (stopped_) return Fail(ErrorCode::kCancelled, "stopped at the first difference");
  return {};
}

void ComparisonSink::TakeSketch(Tensor* tensor, stream::Stream& stream) {
  if (!tensor->meter || !ChangeMeter::ShapeOfSketch(SetupOf(alignment_.groups[tensor->group]))) return;
  if (!sketches_.has_large()) {
    tensor->meter->GoWithoutSketch(kNoRoom);
    return;
  }
  // The tensor to be waited for may be that of the odd chunk, which is ours.
  if (odd_ && sketches_.WouldWait()) PostOdd(stream);
  tensor->sketch = sketches_.Take();
  tensor->meter->UseSketch(tensor->sketch, sketches_.signs());
}

void ComparisonSink::TakePiece(const std::shared_ptr<Tensor>& tensor, const stream::Piece& piece,
                               const stream::Lease& lease, stream::Stream& stream) {
  if (tensor->num_sides == 2 && tensor->same_encoding) {
    AppendChunks(tensor, 0, 2, piece, lease, stream);
  } else {
    for (int i = 0; i < tensor->num_sides; ++i) AppendChunks(tensor, tensor->first_side + i, 1, piece, lease, stream);
  }
  if (!tensor->numbers) return;
  const Encoding encoding_a = tensor->encoding[0], encoding_b = tensor->encoding[1];
  for (uint64_t begin = piece.range.begin; begin < piece.range.end; begin += kBlocksPerTask * kBlockElements) {
    const Range range{begin, std::min(begin + kBlocksPerTask * kBlockElements, piece.range.end)};
    const uint8_t* a = piece.views[0].data + encoding_a.BytesOf(begin - piece.range.begin);
    const uint8_t* b = piece.views[1].data + encoding_b.BytesOf(begin - piece.range.begin);
    ++tensor->open_tasks;
    stream.Post(lease, [this, tensor, range, a, b](int worker) {
      if (workers_[worker] == nullptr) workers_[worker] = std::make_unique<Worker>();
      CompareBlocks(tensor.get(), range, a, b, workers_[worker].get());
      Release(tensor);
    });
  }
}

void ComparisonSink::AppendChunks(const std::shared_ptr<Tensor>& tensor, int first_side, int num_sides,
                                  const stream::Piece& piece, const stream::Lease& lease, stream::Stream& stream) {
  // Sides that are taken together have one encoding, so what holds of the first side's bytes holds of the other's.
  const uint64_t piece_bytes = tensor->encoding[first_side].BytesOf(piece.range.size());
  const uint64_t tensor_bytes = tensor->encoding[first_side].BytesOf(tensor->num_elements);
  uint64_t& taken = tensor->taken_bytes[first_side];
  uint64_t& open = tensor->open_bytes[first_side];
  const int first_view = tensor->num_sides == 2 ? first_side : 0;
  const auto data = [&](int i) { return piece.views[first_view + i].data; };

  for (uint64_t at = 0; at < piece_bytes;) {
    Chunk chunk;
    chunk.tensor = tensor;
    chunk.first_side = first_side;
    chunk.num_sides = num_sides;
    chunk.index = taken / kChunkBytes;
    chunk.size_bytes = std::min(kChunkBytes, tensor_bytes - chunk.index * kChunkBytes);
    const uint64_t count = std::min(chunk.size_bytes - open, piece_bytes - at);
    if (count == chunk.size_bytes) {
      for (int i = 0; i < num_sides; ++i) chunk.data[i] = data(i) + at;
      TakeChunk(std::move(chunk), lease, stream);
    } else {
      for (int i = 0; i < num_sides; ++i) {
        Buffer& buffer = tensor->open[first_side + i];
        if (buffer == nullptr) buffer = buffers_->Take();
        std::memcpy(buffer.get() + open, data(i) + at, count);
      }
      open += count;
      if (open == chunk.size_bytes) {
        chunk.buffers = std::make_shared<std::array<Buffer, 2>>();
        for (int i = 0; i < num_sides; ++i) {
          (*chunk.buffers)[i] = std::move(tensor->open[first_side + i]);
          chunk.data[i] = (*chunk.buffers)[i].get();
        }
        TakeChunk(std::move(chunk), stream::Lease(), stream);
        open = 0;
      }
    }
    at += count;
    taken += count;
  }
}

void ComparisonSink::TakeChunk(Chunk chunk, const stream::Lease& lease, stream::Stream& stream) {
  ++chunk.tensor->open_tasks;
  if (chunk.size_bytes == kChunkBytes && !odd_) {
    odd_.emplace(std::move(chunk), lease);
    return;
  }
  if (chunk.size_bytes < kChunkBytes) {
    stream.Post(lease, [this, chunk = std::move(chunk)](int) { HashChunks({&chunk, 1}); });
    return;
  }
  stream.Post(lease, [this, first = *std::exchange(odd_, std::nullopt), second = std::move(chunk)](int) {
    const Chunk both[2] = {first.first, second};
    HashChunks(both);
  });
}

void ComparisonSink::PostOdd(stream::Stream& stream) {
  auto [chunk, lease] = *std::exchange(odd_, std::nullopt);
  stream.Post(lease, [this, chunk = std::move(chunk)](int) { HashChunks({&chunk, 1}); });
}

void ComparisonSink::HashChunks(std::span<const Chunk> chunks) {
  struct Job {
    const uint8_t* data;
    uint64_t size_bytes;
    Hash256* hash;
  };
  std::array<Job, 4> jobs;  // at most two sides of two chunks
  size_t num_jobs = 0;
  for (const Chunk& chunk : chunks) {
    Tensor* tensor = chunk.tensor.get();
    for (int i = 0; i < chunk.num_sides; ++i) {
      if (i == 1) {
        if (std::memcmp(chunk.data[0], chunk.data[1], chunk.size_bytes) == 0)
          continue;  // the first side's hash is its own
        NoteBytesDiffer(chunk);
      }
      jobs[num_jobs++] = {chunk.data[i], chunk.size_bytes, &tensor->chunks[chunk.first_side + i][chunk.index]};
    }
  }
  for (size_t i = 0; i < num_jobs; i += 2) {
    if (i + 1 < num_jobs && jobs[i].size_bytes == jobs[i + 1].size_bytes) {
      kernels::HashLeafPair({jobs[i].data, jobs[i].size_bytes}, {jobs[i + 1].data, jobs[i + 1].size_bytes},
                            jobs[i].hash, jobs[i + 1].hash);
    } else {
      for (size_t j = i; j < std::min(i + 2, num_jobs); ++j) {
        *jobs[j].hash = kernels::HashLeaf({jobs[j].data, jobs[j].size_bytes});
      }
    }
  }
  for (const Chunk& chunk : chunks) {
    Tensor* tensor = chunk.tensor.get();
    const bool one_hash = chunk.num_sides == 2 &&
                          std::none_of(jobs.begin(), jobs.begin() + num_jobs,
                                       [&](const Job& job) { return job.hash == &tensor->chunks[1][chunk.index]; });
    if (one_hash) tensor->chunks[1][chunk.index] = tensor->chunks[0][chunk.index];
    if (chunk.buffers != nullptr) {
      for (Buffer& buffer : *chunk.buffers) buffers_->Return(std::move(buffer));
    }
    Release(chunk.tensor);
  }
}

void ComparisonSink::NoteBytesDiffer(const Chunk& chunk) {
  Tensor* tensor = chunk.tensor.get();
  tensor->bytes_differ = true;
  if (tensor->numbers && !options_.first_difference) return;
  // The element is known to the byte; of a block, its first.
  const auto at = static_cast<uint64_t>(
      std::mismatch(chunk.data[0], chunk.data[0] + chunk.size_bytes, chunk.data[1]).first - chunk.data[0]);
  const Encoding encoding = tensor->encoding[0];
  const uint64_t element = (chunk.index * kChunkBytes + at) / encoding->block_bytes * encoding->block_elements;
  LowerTo(&tensor->first_changed, element);
  if (options_.first_difference) NoteDifference(tensor->group, element);
}

void ComparisonSink::CompareBlocks(Tensor* tensor, Range range, const uint8_t* a, const uint8_t* b, Worker* worker) {
  const Encoding encoding_a = tensor->encoding[0], encoding_b = tensor->encoding[1];
  std::vector<DifferenceSums> sums;
  sums.reserve(CeilDiv(range.size(), kBlockElements));
  for (uint64_t block = range.begin; block < range.end; block += kBlockElements) {
    kernels::DifferenceLanes lanes;
    double squared_binades[16] = {};
    for (int side = 0; side < 2; ++side) {
      if (tensor->meter->wants_grid(side)) tensor->meter->LookAtGrid(side, side == 0 ? a : b);
    }
    const uint64_t block_end = std::min(block + kBlockElements, range.end);
    for (uint64_t at = block; at < block_end; at += kPieceElements) {
      const uint64_t count = std::min(kPieceElements, block_end - at);
      const uint64_t bytes_a = encoding_a.BytesOf(count), bytes_b = encoding_b.BytesOf(count);
      const float* x = worker->a.data();
      const float* y = x;
      encoding_a->decode(a, count, worker->a.data());
      const bool same_bytes = tensor->same_encoding && std::memcmp(a, b, bytes_a) == 0;
      if (!same_bytes) {
        encoding_b->decode(b, count, worker->b.data());
        y = worker->b.data();
      }
      const uint64_t changed_before = lanes.changed;
      kernels::AccumulateDifference(x, y, count, &lanes);
      if (!same_bytes) {
        if (lanes.changed != changed_before && at < tensor->first_changed.load(std::memory_order_relaxed)) {
          LowerTo(&tensor->first_changed, at + FirstDifferent(x, y, count));
        }
        if (lanes.changed != changed_before && !options_.first_difference) {
          tensor->meter->AddChanged({at, at + count}, x, y, a, b, &worker->meter, squared_binades);
        }
        if (!tensor->same_encoding) {
          if (!tensor->values_differ && !SameValues(x, y, count)) tensor->values_differ = true;
          if (!tensor->a_is_no_rounding &&
              !IsRounding(encoding_a, y, a, x, count, worker->bytes.data(), worker->again.data())) {
            tensor->a_is_no_rounding = true;
          }
          if (!tensor->b_is_no_rounding &&
              !IsRounding(encoding_b, x, b, y, count, worker->bytes.data(), worker->again.data())) {
            tensor->b_is_no_rounding = true;
          }
        }
        if (has_tolerance_ && !tensor->beyond_tolerance &&
            !WithinTolerance(x, y, count, options_.atol, options_.rtol)) {
          tensor->beyond_tolerance = true;
        }
      }
      a += bytes_a;
      b += bytes_b;
    }
    sums.push_back(DifferenceSums::Of(lanes));
    sums.back().squared_binades = kernels::SumLanes(squared_binades);
  }
  if (options_.first_difference && !tensor->same_encoding && tensor->SurelyDiffers()) {
    NoteDifference(tensor->group, std::nullopt);
  }
  const std::lock_guard lock(tensor->mutex);
  tensor->waiting.emplace(range.begin / kBlockElements, std::move(sums));
  while (!tensor->waiting.empty() && tensor->waiting.begin()->first == tensor->next_block) {
    for (const DifferenceSums& block : tensor->waiting.begin()->second) tensor->total.Add(block);
    tensor->next_block += tensor->waiting.begin()->second.size();
    tensor->waiting.erase(tensor->waiting.begin());
  }
}

void ComparisonSink::CompareWhole(uint32_t group, const stream::Piece& piece, Worker* worker) {
  const std::shared_ptr<Tensor> tensor = MakeTensor(group);  // its one open task is ours, until the end
  const auto hash = [&](int first_side, int num_sides) {
    Chunk chunk;
    chunk.tensor = tensor;
    chunk.first_side = first_side;
    chunk.num_sides = num_sides;
    chunk.size_bytes = tensor->encoding[first_side].BytesOf(tensor->num_elements);
    for (int i = 0; i < num_sides; ++i) chunk.data[i] = piece.views[(tensor->num_sides == 2 ? first_side : 0) + i].data;
    ++tensor->open_tasks;
    HashChunks({&chunk, 1});
  };
  if (tensor->num_sides == 2 && tensor->same_encoding) {
    hash(0, 2);
  } else {
    for (int i = 0; i < tensor->num_sides; ++i) hash(tensor->first_side + i, 1);
  }
  // Unlike a large tensor's, a small one's bytes are all here: sums are needed only where they differ.
  if (tensor->numbers && (!tensor->same_encoding || tensor->bytes_differ)) {
    if (ChangeMeter::ShapeOfSketch(SetupOf(alignment_.groups[group]))) {
      if (sketches_.has_small()) {
        tensor->meter->UseSketch(&worker->sketch, sketches_.signs());
      } else {
        tensor->meter->GoWithoutSketch(kNoRoom);
      }
    }
    CompareBlocks(tensor.get(), piece.range, piece.views[0].data, piece.views[1].data, worker);
  } else if (tensor->numbers) {
    for (int side = 0; side < 2; ++side) {
      if (tensor->meter->wants_grid(side)) tensor->meter->LookAtGrid(side, piece.views[side].data);
    }
  }
  Release(tensor);
}

void ComparisonSink::Release(const std::shared_ptr<Tensor>& tensor) {
  if (--tensor->open_tasks != 0) return;
  Finalise(tensor.get());
  if (tensor->sketch != nullptr) sketches_.Return(tensor->sketch);
}

void ComparisonSink::Finalise(Tensor* tensor) {
  Record& record = records_[tensor->group];
  const AlignedGroup& aligned = alignment_.groups[tensor->group];
  for (int i = 0; i < tensor->num_sides; ++i) {
    const int side = tensor->first_side + i;
    record.digest[side] = tensor->chunks[side].empty() ? NothingHash() : checkpoint::TensorRoot(tensor->chunks[side]);
  }
  if (tensor->num_sides == 1) {
    record.tensor_class = aligned.in_other          ? TensorClass::kShapeDiffers
                          : tensor->first_side == 0 ? TensorClass::kOnlyInA
                                                    : TensorClass::kOnlyInB;
    return;
  }
  for (int side = 0; side < 2 && tensor->meter; ++side) {
    record.looked_at_grid[side] = CanLieOnGrid(tensor->encoding[side]) && ChangeMeter::LooksAtGrids(SetupOf(aligned));
    if (const auto grid = tensor->meter->grid(side)) record.grid[side] = static_cast<int8_t>(*grid);
  }
  if (tensor->same_encoding && !tensor->bytes_differ) return;  // identical
  if (!tensor->same_encoding && !tensor->values_differ && (tensor->numbers || tensor->num_elements == 0)) {
    record.tensor_class = TensorClass::kEqualAfterCast;
    return;
  }
  record.first_changed = tensor->first_changed;
  if (tensor->numbers) {
    record.stats = std::make_unique<DifferenceStats>(tensor->total.ToStats(tensor->num_elements));
    if (!options_.first_difference) {
      record.details =
          std::make_unique<TensorDetails>(tensor->meter->Finish(tensor->total.changed, tensor->total.squared_binades));
    }
  }
  if (!tensor->a_is_no_rounding || !tensor->b_is_no_rounding) {
    record.tensor_class = TensorClass::kRounded;
    record.rounded = tensor->a_is_no_rounding   ? RoundedSide::kB
                     : tensor->b_is_no_rounding ? RoundedSide::kA
                                                : RoundedSide::kEither;
    // What a rounding left is known to be one: a row of large numbers, whose errors stand out, is no direction.
    if (record.details != nullptr && record.details->rank && record.details->rank->kind == RankKind::kLow) {
      record.details->rank->kind = RankKind::kWithinRounding;
      record.details->rank->rank = 0;
      record.details->rank->explained = 0;
    }
  } else if (has_tolerance_ && tensor->numbers && !tensor->beyond_tolerance) {
    record.tensor_class = TensorClass::kWithinTolerance;
  } else {
    record.tensor_class = TensorClass::kChanged;
  }
}

void ComparisonSink::NoteDifference(uint32_t group, std::optional<uint64_t> element) {
  const std::lock_guard lock(first_mutex_);
  // Pieces come in order and all that were taken are looked at, so the least of what is noted is the first difference.
  if (!first_ || group < first_->first ||
      (group == first_->first && element && (!first_->second || *element < *first_->second))) {
    first_ = {group, element};
  }
  stopped_ = true;
}

Result<void> ComparisonSink::End() {
  SLUICE_CHECK(current_ == nullptr);
  if (odd_) HashChunks({&odd_->first, 1});
  odd_.reset();
  if (stopped_) return Fail(ErrorCode::kCancelled, "stopped at the first difference");
  return {};
}

void ComparisonSink::Abandon() {
  // It came before whatever stopped the pass, so the first difference may be in it.
  if (odd_ && stopped_) HashChunks({&odd_->first, 1});
  odd_.reset();
  current_ = nullptr;
}

// Of the first element that differs, on sides whose bytes are stored.
void ComparisonSink::FindPlaces(uint32_t group, TensorDiff* diff) const {
  const AlignedGroup& aligned = alignment_.groups[group];
  if (!diff->first_changed || aligned.a < 0 || aligned.b < 0) return;
  for (int side = 0; side < 2; ++side) {
    graph::Graph graph;
    const auto index = static_cast<size_t>(side == 0 ? aligned.a : aligned.b);
    const auto* stored = dynamic_cast<const graph::StoredNode*>(sides_[side]->MakeNode(index, &graph));
    if (stored == nullptr) continue;
    const uint64_t block = stored->encoding()->block_elements, first = *diff->first_changed / block * block;
    const FilePlace place{stored->source().name(), stored->BytesOf({first, first + block}).begin};
    (side == 0 ? diff->place_a : diff->place_b) = place;
  }
}

TensorDiff ComparisonSink::MakeDiff(uint32_t group) const {
  const AlignedGroup& aligned = alignment_.groups[group];
  const Record& record = records_[group];
  TensorDiff diff;
  diff.tensor_class = record.tensor_class;
  for (int side = 0; side < 2; ++side) {
    const int64_t index = side == 0 ? aligned.a : aligned.b;
    if (index < 0) continue;
    const TensorInfo info = sides_[side]->tensors()[static_cast<size_t>(index)];
    diff.name = info.name;
    (side == 0 ? diff.encoding_a : diff.encoding_b) = info.encoding.name();
    (side == 0 ? diff.shape_a : diff.shape_b).assign(info.shape.begin(), info.shape.end());
    (side == 0 ? diff.digest_a : diff.digest_b) = record.digest[side];
    if (aligned.a >= 0 && aligned.b >= 0) diff.num_elements = info.num_elements;
  }
  diff.rounded = record.rounded;
  if (record.stats) diff.stats = *record.stats;
  if (record.first_changed != kNone) diff.first_changed = record.first_changed;
  if (record.details) diff.details = *record.details;
  if (record.grid[0] >= 0) diff.grid_a = kGrids[static_cast<size_t>(record.grid[0])];
  if (record.grid[1] >= 0) diff.grid_b = kGrids[static_cast<size_t>(record.grid[1])];
  return diff;
}

std::vector<TensorDiff> ComparisonSink::Unequal() const {
  std::vector<TensorDiff> unequal;
  if (stopped_) {
    SLUICE_CHECK(first_.has_value());
    TensorDiff diff = MakeDiff(first_->first);
    const AlignedGroup& aligned = alignment_.groups[first_->first];
    diff.tensor_class = aligned.in_other ? TensorClass::kShapeDiffers : TensorClass::kChanged;
    diff.digest_a = diff.digest_b = {};
    diff.rounded = RoundedSide::kNone;
    diff.stats.reset();
    diff.first_changed = first_->second;
    FindPlaces(first_->first, &diff);
    unequal.push_back(std::move(diff));
    return unequal;
  }
  for (uint32_t group = 0; group < records_.size(); ++group) {
    if (records_[group].tensor_class == TensorClass::kIdentical) continue;
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
  if (stopped_) return 0;
  return static_cast<uint64_t>(std::ranges::count(records_, TensorClass::kIdentical, &Record::tensor_class));
}

uint64_t ComparisonSink::identical_elements() const {
  uint64_t elements = 0;
  for (uint32_t group = 0; group < records_.size() && !stopped_; ++group) {
    if (records_[group].tensor_class != TensorClass::kIdentical) continue;
    elements += sides_[0]->tensors()[static_cast<size_t>(alignment_.groups[group].a)].num_elements;
  }
  return elements;
}

GridCounts ComparisonSink::GridsOf(int side) const {
  GridCounts counts;
  for (const Record& record : records_) {
    if (record.looked_at_grid[side]) ++counts.looked_at;
    if (record.grid[side] >= 0) ++counts.on[static_cast<size_t>(record.grid[side])];
  }
  return counts;
}

std::vector<checkpoint::TensorDigest> ComparisonSink::Digests(int side) const {
  SLUICE_CHECK(!stopped_);
  std::vector<checkpoint::TensorDigest> digests;
  for (uint32_t group = 0; group < records_.size(); ++group) {
    const int64_t index = side == 0 ? alignment_.groups[group].a : alignment_.groups[group].b;
    if (index < 0) continue;
    const TensorInfo info = sides_[side]->tensors()[static_cast<size_t>(index)];
    digests.push_back({std::string(info.name),
                       std::string(info.encoding.name()),
                       {info.shape.begin(), info.shape.end()},
                       records_[group].digest[side],
                       info.size_bytes()});
  }
  return digests;
}

std::vector<checkpoint::TensorDigest> ComparisonSink::DigestsOfA() const { return Digests(0); }
std::vector<checkpoint::TensorDigest> ComparisonSink::DigestsOfB() const { return Digests(1); }

}  // namespace sluice::verify
