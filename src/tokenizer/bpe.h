// Byte-pair encoding (Sennrich et al. 2016, as GPT-2 does it): a word begins as its characters, and the pair of
// neighbours that comes first in the list of merges becomes one, the leftmost first among equals, until no pair is in
// the list.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/model.h"
#include "tokenizer/vocabulary.h"

namespace sluice::tokenizer {

struct BpeOptions {
  // Words are taken as bytes, and each byte is the piece of its character in GPT-2's alphabet (byte_level.h).
  bool byte_level = false;
  bool ignore_merges = false;  // a word that is a piece is that piece
  // A character that is no piece becomes the pieces <0x00>..<0xFF> of its bytes, if all are there; else unk_token (one
  // for a run of them with fuse_unk); else nothing.
  bool byte_fallback = false;
  bool fuse_unk = false;
  std::string unk_token = {};
  std::string continuing_subword_prefix = {}, end_of_word_suffix = {};
  // llama.cpp's way with what the vocabulary lacks: it takes part in merges as if it were a piece, and what of it is
  // left at the end becomes the pieces that are single ASCII characters of its text. Byte level only.
  bool keep_unknown = false;
};

// A list of merges; the views must live until the model is made.
using Merges = std::vector<std::pair<std::string_view, std::string_view>>;

// Immutable; thread-safe. A word of n characters takes O(n log n). Memory: about 32 bytes a merge.
class BpeModel final : public Model {
 public:
  // kCorrupt, saying which merge, where a merge speaks of pieces that the vocabulary lacks (unless keep_unknown).
  static Result<std::unique_ptr<BpeModel>> Make(std::shared_ptr<const Vocabulary> vocabulary, const Merges& merges,
                                                BpeOptions options);

  std::unique_ptr<ModelScratch> NewScratch() const override;
  Result<void> Encode(std::string_view word, ModelScratch* scratch, std::vector<uint32_t>* ids) const override;
  bool CutsBeforeMetaspace() const override { return cuts_before_metaspace_; }

 private:
  struct Scratch;
  struct Merge {
    uint64_t pair;  // left << 32 | right; kNoPair in a free slot
    uint32_t rank, id;
  };
  static constexpr uint64_t kNoPair = UINT64_MAX;
  static constexpr uint32_t kNoRank = UINT32_MAX;

  BpeModel() = default;
  Result<void> AddMerges(const Merges& merges);
  void Insert(uint64_t pair, uint32_t rank, uint32_t id);
  const Merge* Find(uint32_t left, uint32_t right) const;
  uint32_t UnknownId(std::string_view text);
  std::string_view TextOf(uint32_t id) const;
  Result<void> Symbols(std::string_view word, std::vector<uint32_t>* symbols) const;
  Result<bool> UnknownCharacter(std::string_view character, Scratch* scratch, std::optional<uint32_t>* unknown,
                                std::vector<uint32_t>* symbols) const;
  void MergeShort(Scratch* scratch) const;
  void MergeLong(Scratch* scratch) const;
  void Append(uint32_t symbol, std::vector<uint32_t>* ids) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  BpeOptions options_;
  std::vector<Merge> merges_;  // by hash, open addressing
  std::vector<uint32_t> byte_ids_;
  std::optional<uint32_t> unk_id_;
  // keep_unknown: texts without an id have symbols from the vocabulary's size on.
  std::vector<std::string> unknown_texts_;
  bool cuts_before_metaspace_ = false;
};

}  // namespace sluice::tokenizer
