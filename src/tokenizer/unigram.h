// Unigram language model (Kudo 2018): of all ways to cut a text into pieces, the one with the highest sum of scores,
// found by Viterbi's algorithm as SentencePiece does it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "tokenizer/model.h"
#include "tokenizer/vocabulary.h"

namespace sluice::tokenizer {

// Pieces by their bytes, to find all that a text begins with. Immutable once built.
class PieceTrie {
 public:
  // `pieces`: ids and texts that differ; empty ones are ignored.
  explicit PieceTrie(std::vector<std::pair<std::string_view, uint32_t>> pieces);
  // Calls function(size in bytes, id) for each piece that `text` begins with, shortest first.
  template <class Function>
  void ForEachPrefix(std::string_view text, Function function) const {
    uint32_t node = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      node = Child(node, static_cast<uint8_t>(text[at]));
      if (node == kNone) return;
      if (nodes_[node].id != kNone) function(at + 1, nodes_[node].id);
    }
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Node {
    uint32_t first_child = 0, id = kNone;
    uint16_t num_children = 0;
    uint8_t byte = 0;
  };
  uint32_t Child(uint32_t node, uint8_t byte) const;
  std::vector<Node> nodes_;  // the children of a node stand together, sorted by byte
};

struct UnigramOptions {
  std::optional<uint32_t> unk_id;  // what fits no piece; missing: such a text is an error
  bool byte_fallback = false;      // or rather the pieces <0x00>..<0xFF> of its bytes, where all are there
  bool single_precision = false;   // sums in f32 (SentencePiece), not f64 (Hugging Face)
  std::vector<bool> excluded;      // ids that no text becomes; may be shorter than the vocabulary
  std::vector<bool> user_defined;  // ids that win over others by a score that is nearly 0
};

// Immutable; thread-safe. A word of n bytes takes O(n * longest piece), and 16 bytes of memory a byte.
class UnigramModel final : public Model {
 public:
  // `scores`: one for each piece, finite.
  UnigramModel(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> scores, UnigramOptions options);

  std::unique_ptr<ModelScratch> NewScratch() const override;
  Result<void> Encode(std::string_view word, ModelScratch* scratch, std::vector<uint32_t>* ids) const override;

 private:
  struct Scratch;
  std::vector<std::pair<std::string_view, uint32_t>> TriePieces() const;
  Result<void> AppendUnknown(std::string_view text, std::vector<uint32_t>* ids) const;

  const std::shared_ptr<const Vocabulary> vocabulary_;
  const std::vector<double> scores_;
  const UnigramOptions options_;
  const PieceTrie trie_;
  double unk_score_ = 0;
};

}  // namespace sluice::tokenizer
