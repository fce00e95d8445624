// StoredTensors: where the tensors of a checkpoint lie in its files, so that whoever hashes the files hashes the chunks
// of the tensors in the same read.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/digest_tree.h"
#include "io/file_hasher.h"

namespace sluice::verify {

// Memory: some 40 bytes a tensor, 16 a chunk in the pieces.
class StoredTensors {
 public:
  // Adds a leaf to the pieces, which are whole files, for each chunk of each tensor. Nothing, and the pieces as they
  // were, where a tensor is not simply a range of one of them: computed, permuted, shared with another, elsewhere.
  static std::optional<StoredTensors> AddLeaves(const checkpoint::Checkpoint& checkpoint,
                                                std::vector<io::FilePiece>* pieces);
  // Of all tensors, from what HashFiles gave of the pieces.
  std::vector<checkpoint::TensorDigest> Digests(const checkpoint::Checkpoint& checkpoint,
                                                std::span<const io::PieceHashes> hashes) const;

 private:
  struct Place {
    size_t piece = 0, first_leaf = 0, num_leaves = 0;
  };
  std::vector<Place> places_;  // by tensor
};

}  // namespace sluice::verify
