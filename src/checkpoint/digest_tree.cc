#include "checkpoint/digest_tree.h"

#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>

#include "base/units.h"

namespace sluice::checkpoint {
namespace {

using kernels::Hash256;
using kernels::Sha256;

// What defines how text becomes tokens. docs/formats/digest.md lists them; a change there and here changes roots.
constexpr std::array<std::string_view, 9> kTokenizerFiles = {
    "added_tokens.json", "chat_template.jinja", "chat_template.json",    "merges.txt", "special_tokens_map.json",
    "tokenizer.json",    "tokenizer.model",     "tokenizer_config.json", "vocab.json"};

// An output matrix that only repeats the embedding, by the names that architectures give the embedding.
constexpr std::string_view kHead = "lm_head.weight";
constexpr std::array<std::string_view, 3> kEmbeddings = {"model.embed_tokens.weight", "transformer.wte.weight",
                                                         "transformer.word_embeddings.weight"};

constexpr uint64_t kReadBytes = kMiB;

// A file's bytes, length-prefixed, without holding the file.
Result<void> UpdateWithFile(const std::string& path, Sha256* hash) {
  SLUICE_ASSIGN(const std::shared_ptr<const io::ByteSource> source, io::OpenFile(path));
  hash->UpdateU64(source->size_bytes());
  std::vector<uint8_t> buffer(std::min(source->size_bytes(), kReadBytes));
  for (uint64_t at = 0; at < source->size_bytes(); at += buffer.size()) {
    const std::span<uint8_t> bytes(buffer.data(), std::min<uint64_t>(buffer.size(), source->size_bytes() - at));
    SLUICE_TRY(source->Read(at, bytes));
    hash->Update(bytes);
  }
  return {};
}

Result<Hash256> TokenizerHash(const Checkpoint& checkpoint) {
  if (!checkpoint.embedded_tokenizer().empty()) return kernels::HashText(checkpoint.embedded_tokenizer());
  Sha256 hash;
  for (const SideFile& side : checkpoint.side_files()) {  // sorted by name
    if (!std::binary_search(kTokenizerFiles.begin(), kTokenizerFiles.end(), side.name)) continue;
    hash.UpdateLengthPrefixed(side.name);
    if (side.path.empty()) {
      hash.UpdateLengthPrefixed(side.bytes);
    } else {
      SLUICE_TRY(UpdateWithFile(side.path, &hash));
    }
  }
  return hash.Finish();
}

// Whether `tensor` is PREFIX + lm_head.weight and repeats PREFIX + an embedding.
bool IsTiedCopy(const TensorDigest& tensor, std::span<const TensorDigest> sorted) {
  if (!tensor.name.ends_with(kHead)) return false;
  const std::string prefix = tensor.name.substr(0, tensor.name.size() - kHead.size());
  if (!prefix.empty() && !prefix.ends_with('.')) return false;
  for (const std::string_view embedding : kEmbeddings) {
    const std::string name = prefix + std::string(embedding);
    const auto found = std::lower_bound(sorted.begin(), sorted.end(), name,
                                        [](const TensorDigest& a, const std::string& b) { return a.name < b; });
    if (found != sorted.end() && found->name == name && found->encoding == tensor.encoding &&
        found->shape == tensor.shape && found->root == tensor.root) {
      return true;
    }
  }
  return false;
}

}  // namespace

Hash256 TensorRoot(std::span<const Hash256> chunk_hashes) { return kernels::MerkleRoot(chunk_hashes); }

Hash256 TensorLeaf(const TensorDigest& tensor) {
  Sha256 hash;
  hash.Update(uint8_t{0});
  hash.UpdateLengthPrefixed(tensor.name);
  hash.UpdateLengthPrefixed(tensor.encoding);
  hash.UpdateU64(tensor.shape.size());
  for (const uint64_t dim : tensor.shape) hash.UpdateU64(dim);
  hash.Update(tensor.root);
  return hash.Finish();
}

Result<ModelDigest> MakeModelDigest(std::vector<TensorDigest> tensors, const Checkpoint& checkpoint) {
  ModelDigest digest;
  digest.tensors = std::move(tensors);
  std::sort(digest.tensors.begin(), digest.tensors.end(),
            [](const TensorDigest& a, const TensorDigest& b) { return a.name < b.name; });
  std::vector<Hash256> leaves;
  leaves.reserve(digest.tensors.size());
  for (const TensorDigest& tensor : digest.tensors) {
    digest.size_bytes += tensor.size_bytes;
    if (IsTiedCopy(tensor, digest.tensors)) {
      digest.tied.push_back(tensor.name);
    } else {
      leaves.push_back(TensorLeaf(tensor));
    }
  }
  digest.weights_root = kernels::MerkleRoot(leaves);
  digest.config_hash = kernels::HashText(checkpoint.config() == nullptr ? "" : checkpoint.config()->Canonical());
  SLUICE_ASSIGN(digest.tokenizer_hash, TokenizerHash(checkpoint));

  Sha256 hash;
  hash.Update(digest.weights_root);
  hash.Update(digest.config_hash);
  hash.Update(digest.tokenizer_hash);
  digest.model_root = hash.Finish();
  return digest;
}

}  // namespace sluice::checkpoint
