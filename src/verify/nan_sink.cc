#include "verify/nan_sink.h"

#include <algorithm>

#include "graph/node.h"
#include "kernels/compare.h"

namespace sluice::verify {
namespace {

using graph::kPieceElements;

uint64_t CountNans(quant::Encoding encoding, const uint8_t* bytes, uint64_t count, std::vector<float>* scratch) {
  scratch->resize(kPieceElements);
  uint64_t nans = 0;
  for (uint64_t at = 0; at < count; at += kPieceElements) {
    const uint64_t piece = std::min(kPieceElements, count - at);
    encoding->decode(bytes + encoding.BytesOf(at), piece, scratch->data());
    nans += kernels::CountNans(scratch->data(), piece);
  }
  return nans;
}

}  // namespace

NanSink::NanSink(const checkpoint::Catalogue& tensors, std::vector<uint32_t> order, int num_threads)
    : tensors_(tensors), order_(std::move(order)), nans_(order_.size()), seen_(order_.size()), scratch_(num_threads) {}

void NanSink::Restore(uint32_t place, uint64_t nans) {
  nans_[place] = nans;
  first_place_ = place + 1;
}

std::optional<uint64_t> NanSink::Of(uint32_t place) const {
  const checkpoint::TensorInfo tensor = tensors_[order_[place]];
  if (tensor.encoding->decode != nullptr && seen_[place] < tensor.num_elements) return std::nullopt;
  return nans_[place].load();
}

stream::Wants NanSink::wants() const {
  stream::Wants wants;
  wants.own_bytes = scratch_.size() * kPieceElements * sizeof(float);
  wants.nanoseconds_per_byte = 0.1;
  return wants;
}

Result<void> NanSink::Take(const stream::Lease& lease, stream::Stream& stream) {
  // One task for the small tensors of a lease; a large tensor's tile is a lease of its own.
  std::vector<stream::Piece> pieces;
  for (const stream::Piece& piece : lease.pieces()) {
    const uint32_t place = first_place_ + piece.group;
    if (tensors_[order_[place]].encoding->decode != nullptr && piece.range.size() > 0) pieces.push_back(piece);
  }
  if (pieces.empty()) return {};
  stream.Post(lease, [this, pieces = std::move(pieces)](int worker) {
    for (const stream::Piece& piece : pieces) {
      const uint32_t place = first_place_ + piece.group;
      const quant::Encoding encoding = tensors_[order_[place]].encoding;
      const uint64_t nans = CountNans(encoding, piece.views[0].data, piece.range.size(), &scratch_[worker]);
      if (nans > 0) nans_[place] += nans;
      seen_[place] += piece.range.size();  // after the count: Of looks at this first
    }
  });
  return {};
}

std::vector<NanSink::Count> NanSink::Counts() const {
  std::vector<Count> counts;
  for (size_t place = 0; place < order_.size(); ++place) {
    if (nans_[place] > 0) counts.push_back({std::string(tensors_[order_[place]].name), nans_[place]});
  }
  std::ranges::sort(counts, {}, &Count::name);
  return counts;
}

}  // namespace sluice::verify
