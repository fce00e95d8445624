#include "verify/block_sink.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "verify/block_sample.h"

namespace sluice::verify {
namespace {

constexpr uint64_t kBlocksPerTask = 64;  // half a millisecond of work

struct Part {
  const stream::Piece* piece;
  uint64_t begin, end;  // elements
};

}  // namespace

stream::Wants BlockSink::wants() const {
  stream::Wants wants;
  wants.own_bytes = own_bytes_;
  wants.nanoseconds_per_byte = 3;
  return wants;
}

Result<void> BlockSink::Take(const stream::Lease& lease, stream::Stream& stream) {
  constexpr uint64_t kTaskElements = kBlocksPerTask * kSampleBlockElements;
  std::vector<Part> parts;
  uint64_t elements = 0;
  const auto post = [&] {
    if (parts.empty()) return;
    stream.Post(lease, [this, parts = std::exchange(parts, {})](int) {
      std::vector<const uint8_t*> bytes(sides_.size());
      for (const Part& part : parts) {
        for (uint64_t at = part.begin; at < part.end; at += kSampleBlockElements) {
          for (size_t side = 0; side < sides_.size(); ++side) {
            const stream::View& view = part.piece->views[side];
            bytes[side] = view.data + (*sides_[side])[part.piece->group].encoding.BytesOf(at - view.range.begin);
          }
          on_block_(part.piece->group, at / kSampleBlockElements, std::min(kSampleBlockElements, part.end - at), bytes);
        }
      }
    });
    elements = 0;
  };
  for (const stream::Piece& piece : lease.pieces()) {
    SLUICE_CHECK(piece.range.begin % kSampleBlockElements == 0 && piece.views.size() == sides_.size());
    for (uint64_t at = piece.range.begin; at < piece.range.end;) {
      const uint64_t end = std::min(piece.range.end, at + kTaskElements - elements);
      parts.push_back({&piece, at, end});
      elements += end - at;
      at = end;
      if (elements == kTaskElements) post();
    }
    // Behind a short block, which ends a tensor: a task that went on would end within a block.
    if (elements % kSampleBlockElements != 0) post();
  }
  post();
  return {};
}

}  // namespace sluice::verify
