// WindowSet: which aligned windows of which files must be in memory so that some nodes can be computed over some
// ranges.
//
// Walks the graph from the roots down to stored bytes, joins what overlaps or nearly touches, per file however often it
// was opened, and lays windows and outputs out in slots of one size, small ones packed together.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/graph.h"
#include "io/byte_source.h"

namespace sluice::stream {

using graph::Node;
using graph::Range;

struct Window {
  const io::ByteSource* source;
  io::SourceId id;
  uint64_t begin, end;   // bytes of the source, multiples of io::kBlockBytes (end may lie past the source's)
  uint64_t payload_end;  // bytes that must arrive: up to here
  bool kept;             // backs a stored out: stays until the lease goes
  uint32_t slot = 0;     // index of the slot within the job
  uint64_t slot_offset = 0;
  uint8_t* data = nullptr;  // set when the slots are known
};

// For a set that is only measured: everything fits in one slot.
constexpr uint64_t kUnboundedSlot = uint64_t{1} << 62;

class WindowSet {
 public:
  explicit WindowSet(uint64_t slot_bytes) : slot_bytes_(slot_bytes) {}

  // Everything stored that `node` needs for `range`. `kept`: the node is an out; if it is stored, its windows are
  // views.
  void AddRoot(const Node* node, Range range, bool kept);
  // An output of size_bytes (at most a slot); returns its index.
  uint32_t AddOutput(uint64_t size_bytes);
  // Joins, sorts and places. Windows that are kept and outputs share no slot with the others.
  void Layout();

  const std::vector<Window>& windows() const { return windows_; }
  uint64_t num_slots() const { return num_slots_; }
  uint32_t num_kept_slots() const { return num_kept_slots_; }  // slots [0, num_kept_slots) are the kept ones
  uint64_t payload_bytes() const { return payload_bytes_; }    // distinct stored bytes wanted
  uint64_t moved_bytes() const;

  // After Layout: the job's slots, num_slots() of them.
  void Place(const std::vector<uint8_t*>& slots);
  uint8_t* output(uint32_t index) const { return outputs_[index].data; }
  // Address of the bytes of a stored node's range, `kept`: in a window that is. Valid after Place.
  const uint8_t* Find(const graph::StoredNode& node, Range range, bool kept = false) const;

 private:
  struct Wanted {
    io::SourceId id;
    const io::ByteSource* source;
    uint64_t begin, end;
    bool kept;
  };
  struct Output {
    uint64_t size_bytes;
    uint32_t slot = 0;
    uint64_t slot_offset = 0;
    uint8_t* data = nullptr;
  };
  void Collect(const Node* node, Range range, bool kept);

  uint64_t slot_bytes_;
  std::vector<Wanted> wanted_;
  std::vector<Window> windows_;  // sorted by id, begin
  std::vector<Output> outputs_;
  uint64_t num_slots_ = 0, payload_bytes_ = 0;
  uint32_t num_kept_slots_ = 0;
};

}  // namespace sluice::stream
