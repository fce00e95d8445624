// Roots: one number for a tensor, for all weights, for a model. Independent of shards, order, file names and container.
// docs/formats/digest.md is the specification; spec'd after RFC 9162.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "kernels/sha256.h"

namespace sluice::checkpoint {

constexpr uint64_t kChunkBytes = uint64_t{1} << 20;

struct TensorDigest {
  std::string name;
  std::string encoding;
  std::vector<uint64_t> shape;
  kernels::Hash256 root;  // RFC 9162 over SHA-256 leaves of 1 MiB chunks of the raw little-endian bytes
  uint64_t size_bytes = 0;
  std::vector<kernels::Hash256> leaves = {};  // of its chunks, where whoever made it kept them
};

// A tensor's root from its chunk hashes in order; SHA-256 of nothing for an empty tensor.
kernels::Hash256 TensorRoot(std::span<const kernels::Hash256> chunk_hashes);
// SHA-256(0x00 | length-prefixed name | length-prefixed encoding | rank | dims | root), integers u64 little-endian.
kernels::Hash256 TensorLeaf(const TensorDigest& tensor);

struct ModelDigest {
  kernels::Hash256 weights_root, config_hash, tokenizer_hash, model_root;
  std::vector<TensorDigest> tensors;  // sorted by name; those left out as tied copies too
  std::vector<std::string> tied;      // names of redundant tied copies, left out of weights_root
  uint64_t size_bytes = 0;
};

// Sorts the tensors, leaves redundant tied copies out (lm_head.weight of the same encoding, shape and root as the
// embedding), and hashes config and tokenizer of `checkpoint` with them. Reads the tokenizer's files.
Result<ModelDigest> MakeModelDigest(std::vector<TensorDigest> tensors, const Checkpoint& checkpoint);

}  // namespace sluice::checkpoint
