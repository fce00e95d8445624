#include "stream/window_set.h"

#include <algorithm>
#include <tuple>

#include "base/check.h"
#include "base/units.h"
#include "io/block_reader.h"

namespace sluice::stream {
namespace {

// Two wanted ranges closer than this are read as one: a gap costs less than a request. (At 1.5 GB/s 16 KiB take 11 us.)
constexpr uint64_t kJoinBytes = 16 * kKiB;
constexpr uint64_t kOutputAlignment = 64;

// First fit over the slots opened so far; `first` is the first slot that may be used.
class SlotPacker {
 public:
  SlotPacker(uint64_t slot_bytes, uint32_t first) : slot_bytes_(slot_bytes), first_(first) {}
  void Place(uint64_t size_bytes, uint64_t alignment, uint32_t* slot, uint64_t* offset) {
    size_bytes = RoundUp(size_bytes, alignment);
    SLUICE_CHECK(size_bytes <= slot_bytes_);
    // Slots fill in order; looking at the last few is enough and keeps thousands of small windows linear.
    const size_t begin = used_.size() > 8 ? used_.size() - 8 : 0;
    size_t at = begin;
    while (at < used_.size() && used_[at] + size_bytes > slot_bytes_) ++at;
    if (at == used_.size()) used_.push_back(0);
    *slot = first_ + static_cast<uint32_t>(at);
    *offset = used_[at];
    used_[at] += size_bytes;
  }
  uint32_t end() const { return first_ + static_cast<uint32_t>(used_.size()); }

 private:
  uint64_t slot_bytes_;
  uint32_t first_;
  std::vector<uint64_t> used_;
};

}  // namespace

void WindowSet::AddRoot(const Node* node, Range range, bool kept) { Collect(node, range, kept); }

void WindowSet::Collect(const Node* node, Range range, bool kept) {
  if (range.size() == 0) return;
  if (const auto* stored = dynamic_cast<const graph::StoredNode*>(node)) {
    const Range bytes = stored->BytesOf(range);
    wanted_.push_back({stored->source().id(), &stored->source(), bytes.begin, bytes.end, kept});
    return;
  }
  graph::NeedList needs;
  node->Needs(range, &needs);
  for (const graph::Need& need : needs.needs()) Collect(node->inputs()[need.input], need.range, false);
}

uint32_t WindowSet::AddOutput(uint64_t size_bytes) {
  outputs_.push_back({size_bytes});
  return static_cast<uint32_t>(outputs_.size() - 1);
}

void WindowSet::Layout() {
  std::sort(wanted_.begin(), wanted_.end(), [](const Wanted& a, const Wanted& b) {
    return std::tie(a.id, a.begin, a.end) < std::tie(b.id, b.begin, b.end);
  });
  uint64_t counted_to = 0;  // payload of the current source is counted up to here
  for (const Wanted& want : wanted_) {
    const uint64_t begin = RoundDown(want.begin, io::kBlockBytes), end = RoundUp(want.end, io::kBlockBytes);
    const bool same_source = !windows_.empty() && windows_.back().id == want.id;
    if (!same_source) counted_to = 0;
    if (want.end > counted_to) payload_bytes_ += want.end - std::max(want.begin, counted_to);
    counted_to = std::max(counted_to, want.end);
    if (same_source) {
      Window& last = windows_.back();
      const uint64_t joined_end = std::max(last.end, end);
      if (begin <= last.end + kJoinBytes && joined_end - last.begin <= slot_bytes_) {
        last.end = joined_end;
        last.payload_end = std::max(last.payload_end, want.end);
        last.kept |= want.kept;
        continue;
      }
    }
    windows_.push_back({want.source, want.id, begin, end, want.end, want.kept});
  }
  wanted_.clear();
  wanted_.shrink_to_fit();

  SlotPacker kept(slot_bytes_, 0);
  for (Window& window : windows_) {  // windows first: their sizes are whole pages, so all stay aligned
    if (window.kept) kept.Place(window.end - window.begin, io::kBlockBytes, &window.slot, &window.slot_offset);
  }
  for (Output& output : outputs_) kept.Place(output.size_bytes, kOutputAlignment, &output.slot, &output.slot_offset);
  num_kept_slots_ = kept.end();
  SlotPacker passing(slot_bytes_, num_kept_slots_);
  for (Window& window : windows_) {
    if (!window.kept) passing.Place(window.end - window.begin, io::kBlockBytes, &window.slot, &window.slot_offset);
  }
  num_slots_ = passing.end();
}

uint64_t WindowSet::moved_bytes() const {
  uint64_t bytes = 0;
  for (const Window& window : windows_) bytes += window.end - window.begin;
  return bytes;
}

void WindowSet::Place(const std::vector<uint8_t*>& slots) {
  SLUICE_CHECK(slots.size() == num_slots_);
  for (Output& output : outputs_) output.data = slots[output.slot] + output.slot_offset;
  for (Window& window : windows_) window.data = slots[window.slot] + window.slot_offset;
}

const uint8_t* WindowSet::Find(const graph::StoredNode& node, Range range, bool kept) const {
  const io::SourceId id = node.source().id();
  const Range bytes = node.BytesOf(range);
  auto window = std::upper_bound(windows_.begin(), windows_.end(), std::tie(id, bytes.begin),
                                 [](const auto& place, const Window& w) { return place < std::tie(w.id, w.begin); });
  while (window != windows_.begin()) {
    --window;
    if (window->id != id) break;
    if (kept && !window->kept) continue;  // windows that were not joined overlap where they share a page
    if (window->begin <= bytes.begin && bytes.end <= window->payload_end)
      return window->data + (bytes.begin - window->begin);
  }
  SLUICE_CHECK(!"a node asked for bytes that it had not said it needs");
  return nullptr;
}

}  // namespace sluice::stream
