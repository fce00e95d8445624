// Tokenizer: text to ids and back, with the ids that the model's own tokenizer gives.
//
// It is put together from parts by those who read files: tokenizer_json.h, gguf_tokenizer.h, sentencepiece_model.h;
// OpenTokenizer (open_tokenizer.h) finds the file of a checkpoint.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/model.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/piece_decoder.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace sluice::tokenizer {

struct EncodeOptions {
  bool add_special = false;    // what the tokenizer puts around a text: BOS, EOS
  bool parse_special = false;  // special tokens written in the text are those tokens, not their letters
};

struct SpecialIds {
  std::optional<uint32_t> bos, eos, pad, unk;
};

struct TokenizerParts {
  std::string source;  // the file that it was read from, for errors
  std::shared_ptr<const Vocabulary> vocabulary;
  std::unique_ptr<const Model> model;
  std::unique_ptr<const Normalizer> normalizer;  // null: none
  std::vector<std::unique_ptr<const PreTokenizer>> pre_tokenizers;
  // A space before each part of the text that stands at its begin or behind a token (GGUF's SentencePiece models).
  bool space_behind_tokens = false;
  std::vector<AddedToken> added_tokens;
  AddedTokens::Way added_way = AddedTokens::Way::kLeftmost;
  std::vector<uint32_t> prefix, suffix;  // with add_special
  PieceDecoder decoder;
  SpecialIds special;
  // Pieces that never come from text and are left out by skip_special; with the special ones of added_tokens.
  std::vector<uint32_t> special_pieces;
};

// Immutable; thread-safe.
class Tokenizer {
 public:
  // Longer texts are refused; whoever has one cuts it, knowing where.
  static constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;

  static Result<std::shared_ptr<const Tokenizer>> Make(TokenizerParts parts);

  // The ids of `text`. kCorrupt where it is not UTF-8, with the offset of the first wrong byte. Memory: a copy of the
  // text where it is normalised, 24 bytes a word and the ids.
  Result<std::vector<uint32_t>> Encode(std::string_view text, const EncodeOptions& options = {}) const;

  // The bytes that `ids` stand for: UTF-8 where they came from text, else perhaps not (a token may be half a
  // character). `skip_special`: special tokens become nothing. kUsage for an id without a token.
  Result<std::string> Decode(std::span<const uint32_t> ids, bool skip_special = false) const;

  const std::string& source() const { return parts_.source; }
  uint32_t vocab_size() const { return vocab_size_; }  // the highest id and 1
  // As the vocabulary writes it: "Ġthe", "▁the". Empty for an id without a token.
  std::string_view piece(uint32_t id) const;
  // The bytes that it stands for within a text, behind other tokens; of a special token its own text. nullopt for an id
  // without a token.
  std::optional<std::string> TokenBytes(uint32_t id) const;
  bool is_special(uint32_t id) const { return id < special_.size() && special_[id]; }
  const SpecialIds& special_ids() const { return parts_.special; }
  // Whether add_special puts the BOS token first, and the EOS token last.
  bool adds_bos() const;
  bool adds_eos() const;

 private:
  friend class StreamDecoder;
  class Encoding;
  explicit Tokenizer(TokenizerParts parts);
  Result<std::string> DecodeOne(uint32_t id, bool skip_special, bool first) const;

  TokenizerParts parts_;
  AddedTokens added_;
  std::vector<uint32_t> added_by_id_;  // indices into added_.tokens(), sorted by id
  std::vector<bool> special_;
  uint32_t vocab_size_ = 0;
};

// Decode, one id at a time: gives out text as soon as it is whole characters. Not thread-safe.
class StreamDecoder {
 public:
  explicit StreamDecoder(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special = false)
      : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

  // The text that `id` completes; bytes that begin a character wait for its rest. What no byte can complete is given
  // out as it is, so that all texts together are Decode's.
  Result<std::string> Push(uint32_t id);
  // What still waits. The next Push begins a new text.
  std::string Finish();

 private:
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const bool skip_special_;
  bool first_ = true;
  uint32_t stripped_ = 0;
  bool stripping_ = true;
  std::string waiting_;
};

}  // namespace sluice::tokenizer
