#include "verify/overflow_sink.h"

#include <algorithm>

#include "base/check.h"
#include "graph/node.h"
#include "kernels/infinities.h"

namespace sluice::verify {

using graph::kPieceElements;

OverflowSink::OverflowSink(const stream::CastGroups& groups, int num_threads)
    : groups_(groups), balance_(groups.size()), scratch_(num_threads) {}

stream::Wants OverflowSink::wants() const {
  stream::Wants wants;
  wants.own_bytes = scratch_.size() * kPieceElements * sizeof(float);
  wants.nanoseconds_per_byte = 0.05;
  return wants;
}

// By the bits of the three that casts are between; anything else, blocks say, through f32.
uint64_t OverflowSink::CountInfinities(quant::Encoding encoding, const stream::View& view, int worker) {
  const uint64_t count = view.range.size();
  if (encoding == quant::F16()) return kernels::CountMagnitudes16(view.data, count, kernels::kF16Infinity);
  if (encoding == quant::BF16()) return kernels::CountMagnitudes16(view.data, count, kernels::kBf16Infinity);
  if (encoding == quant::F32()) return kernels::CountMagnitudes32(view.data, count, kernels::kF32Infinity);
  std::vector<float>& scratch = scratch_[worker];
  scratch.resize(kPieceElements);
  uint64_t infinities = 0;
  for (uint64_t at = 0; at < count; at += kPieceElements) {
    const uint64_t piece = std::min(kPieceElements, count - at);
    encoding->decode(view.data + encoding.BytesOf(at), piece, scratch.data());
    infinities +=
        kernels::CountMagnitudes32(reinterpret_cast<const uint8_t*>(scratch.data()), piece, kernels::kF32Infinity);
  }
  return infinities;
}

Result<void> OverflowSink::Take(const stream::Lease& lease, stream::Stream& stream) {
  std::vector<stream::Piece> pieces;  // one task for the small tensors of a lease
  for (const stream::Piece& piece : lease.pieces()) {
    if (groups_.cast(piece.group).to.valid() && piece.range.size() > 0) pieces.push_back(piece);
  }
  if (pieces.empty()) return {};
  stream.Post(lease, [this, pieces = std::move(pieces)](int worker) {
    for (const stream::Piece& piece : pieces) {
      const stream::CastGroups::Cast& cast = groups_.cast(piece.group);
      const uint64_t after = CountInfinities(cast.to, piece.views.front(), worker);
      if (after == 0 && cast.same_order) continue;  // an infinity before would be one after: nearly always so
      const uint64_t before = CountInfinities(cast.from, piece.views.back(), worker);
      if (after != before) balance_[piece.group] += static_cast<int64_t>(after) - static_cast<int64_t>(before);
    }
  });
  return {};
}

std::vector<OverflowSink::Count> OverflowSink::Counts() const {
  std::vector<Count> counts;
  for (size_t group = 0; group < balance_.size(); ++group) {
    const int64_t balance = balance_[group];
    SLUICE_CHECK(balance >= 0);
    if (balance > 0) counts.push_back({groups_.name(group), groups_.cast(group).to, static_cast<uint64_t>(balance)});
  }
  std::ranges::sort(counts, {}, &Count::name);
  return counts;
}

}  // namespace sluice::verify
