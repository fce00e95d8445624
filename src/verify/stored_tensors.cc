#include "verify/stored_tensors.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "graph/graph.h"

namespace sluice::verify {

std::optional<StoredTensors> StoredTensors::AddLeaves(const checkpoint::Checkpoint& checkpoint,
                                                      std::vector<io::FilePiece>* pieces) {
  std::map<io::SourceId, size_t> piece_of;
  for (size_t i = 0; i < pieces->size(); ++i) {
    struct stat status;
    if (stat((*pieces)[i].path.c_str(), &status) != 0) return std::nullopt;
    piece_of.emplace(io::SourceId{static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)}, i);
  }
  struct Range {
    size_t piece;
    uint64_t begin, end;
    size_t tensor;
  };
  std::vector<Range> ranges;
  for (size_t i = 0; i < checkpoint.tensors().size(); ++i) {
    const checkpoint::TensorInfo tensor = checkpoint.tensors()[i];
    if (tensor.size_bytes() == 0) continue;
    graph::Graph graph;
    const auto* stored = dynamic_cast<const graph::StoredNode*>(checkpoint.MakeNode(i, &graph));
    if (stored == nullptr) return std::nullopt;
    const auto piece = piece_of.find(stored->source().id());
    if (piece == piece_of.end()) return std::nullopt;
    ranges.push_back({piece->second, stored->offset(), stored->offset() + tensor.size_bytes(), i});
  }
  std::ranges::sort(ranges, {}, [](const Range& range) { return std::tuple(range.piece, range.begin); });
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (ranges[i].end > (*pieces)[ranges[i].piece].end) return std::nullopt;
    if (i > 0 && ranges[i].piece == ranges[i - 1].piece && ranges[i].begin < ranges[i - 1].end) return std::nullopt;
  }
  StoredTensors tensors;
  tensors.places_.resize(checkpoint.tensors().size());
  for (const Range& range : ranges) {
    std::vector<io::FilePiece::Leaf>& leaves = (*pieces)[range.piece].leaves;
    Place& place = tensors.places_[range.tensor];
    place = {range.piece, leaves.size(), 0};
    for (uint64_t at = range.begin; at < range.end; at += checkpoint::kChunkBytes) {
      leaves.push_back({at, std::min(at + checkpoint::kChunkBytes, range.end)});
      ++place.num_leaves;
    }
  }
  return tensors;
}

std::vector<checkpoint::TensorDigest> StoredTensors::Digests(const checkpoint::Checkpoint& checkpoint,
                                                             std::span<const io::PieceHashes> hashes) const {
  std::vector<checkpoint::TensorDigest> digests;
  digests.reserve(places_.size());
  for (size_t i = 0; i < places_.size(); ++i) {
    const checkpoint::TensorInfo tensor = checkpoint.tensors()[i];
    const Place& place = places_[i];
    const auto leaves = place.num_leaves == 0
                            ? std::span<const kernels::Hash256>()
                            : std::span(hashes[place.piece].leaves).subspan(place.first_leaf, place.num_leaves);
    digests.push_back({std::string(tensor.name), std::string(tensor.encoding.name()),
                       std::vector<uint64_t>(tensor.shape.begin(), tensor.shape.end()), checkpoint::TensorRoot(leaves),
                       tensor.size_bytes()});
  }
  return digests;
}

}  // namespace sluice::verify
