// SentencePiece's byte-pair encoding, as llama.cpp does it from a GGUF's scores: of all neighbours whose joined text is
// a piece, those with the highest score are joined, the leftmost first among equals, until none is left.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/model.h"
#include "tokenizer/vocabulary.h"

namespace sluice::tokenizer {

// What a character that is no piece becomes.
struct SpmUnknown {
  std::vector<uint32_t> byte_ids;  // of the 256 bytes, where the vocabulary has them all; else empty
  uint32_t unk_id = 0;             // otherwise, one for a run of them
};

struct SpmOptions {
  std::vector<bool> excluded;  // ids that no text becomes; may be shorter than the vocabulary
  TextFinder user_defined;     // texts that are pieces and are never joined to others
};

// Immutable; thread-safe. A word of n characters takes O(n log n).
class SpmModel final : public Model {
 public:
  // `scores`: one for each piece.
  SpmModel(std::shared_ptr<const Vocabulary> vocabulary, std::vector<float> scores, SpmUnknown unknown,
           SpmOptions options = {});

  std::unique_ptr<ModelScratch> NewScratch() const override;
  Result<void> Encode(std::string_view word, ModelScratch* scratch, std::vector<uint32_t>* ids) const override;
  bool CutsBeforeMetaspace() const override { return cuts_before_metaspace_; }

 private:
  struct Scratch;
  std::optional<uint32_t> Find(std::string_view text) const;
  const std::shared_ptr<const Vocabulary> vocabulary_;
  const std::vector<float> scores_;
  const SpmUnknown unknown_;
  const SpmOptions options_;
  bool cuts_before_metaspace_ = true;
};

}  // namespace sluice::tokenizer
