// Stream: the one way in which weights are read. Groups of tensors go in, computed tiles come out in the order asked
// for, under one memory budget, read ahead of the consumer, also past the end of a pass.
//
//   GroupSource  which tensors, and their nodes, built on demand
//   Stream::Open plans: tile size, slots, facts, what is held, bytes and seconds predicted (plan())
//   Enqueue      puts groups into the queue, in the order wanted, as often as wanted
//   Next         hands out leases in that order; a lease's views stay valid while any copy of it lives
//   Post         runs a sink's work on the workers, before their own
//
// How it works is told in docs/streaming.md. Next, Enqueue, Finish are for one consumer thread; Post is for any.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/memory_budget.h"
#include "base/result.h"
#include "graph/fact_record.h"
#include "graph/graph.h"
#include "io/block_reader.h"

namespace sluice::stream {

using graph::Range;
using graph::View;

// Tensors that are wanted together, in lockstep: one for a merge, two for a comparison, n for a sweep. All outs of a
// group have the same number of elements.
class GroupSource {
 public:
  virtual ~GroupSource() = default;
  virtual size_t size() const = 0;
  virtual std::string name(size_t group) const = 0;
  // Appends the outs of a group. Called more than once, from any thread; cheap and pure.
  virtual void Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const = 0;
  // A consumer's wish: tiles are cut at multiples of this many elements (rows of a panel), 0 for anywhere. It must be
  // a multiple of the encodings' blocks, and groups with facts do not know it.
  virtual uint64_t granule(size_t /*group*/) const { return 0; }
};

// What a sink needs beside the stream, said before planning.
struct Wants {
  uint64_t held_bytes = 0;          // most bytes of views that the consumer keeps leased beyond the lease in hand
  uint64_t own_bytes = 0;           // buffers of its own
  uint64_t write_bytes = 0;         // bytes that will be written, for the prediction
  double nanoseconds_per_byte = 0;  // its work per byte of output on one core, for the prediction
};

// Tiles kept between facts and values save reading them again, but fresh memory costs time too: kIfFaster measures
// both.
enum class Hold { kNever, kIfFaster, kAlways };

struct StreamOptions {
  int num_threads = 1;
  Wants wants;
  MemoryBudget* budget = nullptr;
  const std::atomic<bool>* cancelled = nullptr;  // looked at often; ends the stream with kCancelled
  io::ReaderKind reader = io::ReaderKind::kAuto;
  uint64_t max_tile_bytes = 1u << 20;     // of the widest stream of a job
  uint64_t read_ahead_bytes = 32u << 20;  // most that is read or computed ahead of the consumer (four jobs at least)
  Hold hold = Hold::kIfFaster;            // keep what fits of a tensor between its facts and its values
  graph::FactRecords known_facts;         // of an earlier stream: those with a value are not folded again
};

struct Plan {
  uint64_t num_groups = 0, num_tensors = 0;
  uint64_t payload_bytes = 0;    // stored bytes that are wanted, each once
  uint64_t read_bytes = 0;       // payload with the repeats that facts make
  uint64_t fact_read_bytes = 0;  // of these, read for facts alone
  uint64_t out_bytes = 0;        // computed
  uint64_t tile_bytes = 0;       // of the widest stream of a job
  uint64_t arena_bytes = 0, scratch_bytes = 0, fact_bytes = 0, own_bytes = 0;
  uint64_t peak_bytes = 0;  // resident, predicted
  uint64_t budget_bytes = 0;
  double read_bytes_per_second = 0;        // measured on a sample of these files, 0 where too little is read to matter
  double io_seconds = 0, cpu_seconds = 0;  // cpu: on all threads together, divided by their number
  double seconds = 0;                      // the larger
  int num_threads = 0;
  std::string reader;
};

struct Piece {
  uint32_t group;               // index in the GroupSource
  Range range;                  // the same for all outs
  bool first, last;             // of the group in this enqueueing
  std::span<const View> views;  // one per out
};

// What a lease keeps alive; the engine derives from it, and a test's fake stream may.
struct LeasedTiles {
  virtual ~LeasedTiles() = default;
  std::vector<Piece> pieces;
  uint64_t kept_bytes = 0;  // of the slots that stay occupied
};

// A counted reference to computed tiles; copies are cheap. All leases must be gone before their stream is.
class Lease {
 public:
  Lease() = default;
  explicit Lease(std::shared_ptr<const LeasedTiles> tiles) : tiles_(std::move(tiles)) {}
  explicit operator bool() const { return tiles_ != nullptr; }
  std::span<const Piece> pieces() const { return tiles_->pieces; }
  uint64_t size_bytes() const { return tiles_->kept_bytes; }

 private:
  std::shared_ptr<const LeasedTiles> tiles_;
};

struct StreamStats {
  uint64_t payload_bytes = 0;  // asked of the sources for values and facts, without alignment
  uint64_t moved_bytes = 0;    // read, aligned windows
  uint64_t out_bytes = 0;      // delivered
  uint64_t fact_passes = 0;    // passes over tensors that were made for facts
};

class Stream {
 public:
  // `groups` outlives the stream. kBudget where the budget cannot hold the smallest job, naming the smallest that would
  // do. Enqueue order for the plan: each group once, in order.
  static Result<std::unique_ptr<Stream>> Open(const GroupSource& groups, const StreamOptions& options);
  virtual ~Stream() = default;  // stops reading and computing, waits for what is under way

  virtual const Plan& plan() const = 0;
  // Groups of one call may share a lease, groups of two never do: what is enqueued together can be let go together.
  virtual void Enqueue(std::span<const uint32_t> groups) = 0;
  void EnqueueAll();
  // The next tile of the queue; an empty lease where the queue is empty. kCorrupt, kRead with file and byte,
  // kCancelled.
  virtual Result<Lease> Next() = 0;
  // Runs task(worker) on a worker, keeping the lease until it has run. Order among tasks is not promised.
  virtual void Post(Lease lease, std::function<void(int worker)> task) = 0;
  // Waits until all posted tasks have run.
  virtual void WaitForPosted() = 0;

  virtual StreamStats stats() const = 0;
  // The facts known so far, by key (for records and for a second stream). A value of many numbers is kept only while a
  // group needs it; a group that is queued again folds it again.
  virtual graph::FactRecords facts() const = 0;
  virtual size_t num_groups() const = 0;
};

}  // namespace sluice::stream
