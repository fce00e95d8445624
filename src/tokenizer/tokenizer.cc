#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <functional>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "formats/json_reader.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

// Words that came before in this text, and where their ids are in the output: a table that forgets on collision.
class WordMemory {
 public:
  static constexpr size_t kSlots = 1 << 13, kMaxWordBytes = 64;
  struct Entry {
    std::string_view word;
    uint64_t begin = 0;
    uint32_t count = 0;
  };

  Entry& Slot(std::string_view word) {
    if (entries_.empty()) entries_.resize(kSlots);
    return entries_[std::hash<std::string_view>{}(word) % kSlots];
  }

 private:
  std::vector<Entry> entries_;
};

}  // namespace

// One call of Encode.
class Tokenizer::Encoding {
 public:
  Encoding(const TokenizerParts& parts, const AddedTokens& added, std::vector<uint32_t>* ids)
      : parts_(parts), added_(added), scratch_(parts.model->NewScratch()), ids_(ids) {}

  Result<void> Run(std::string_view text, bool parse_special) {
    remembers_ = text.size() > 256;
    bool behind_token = true;
    for (const Segment& segment : added_.Split(text, parse_special, false)) {
      if (segment.id) {
        ids_->push_back(*segment.id);
        behind_token = true;
        continue;
      }
      SLUICE_TRY(EncodeSegment(segment.text, segment.text.data() == text.data(), behind_token, parse_special));
      behind_token = false;
    }
    return {};
  }

 private:
  Result<void> EncodeSegment(std::string_view text, bool begins_text, bool behind_token, bool parse_special) {
    if (parts_.normalizer || (parts_.space_behind_tokens && behind_token)) {
      std::string& changed = arena_.emplace_back(parts_.space_behind_tokens && behind_token ? " " : "");
      changed += text;
      if (parts_.normalizer) SLUICE_TRY(parts_.normalizer->Run(&changed));
      text = changed;
    }
    if (!added_.any_normalized()) return EncodeText(text, begins_text);
    for (const Segment& segment : added_.Split(text, parse_special, true)) {
      if (segment.id) {
        ids_->push_back(*segment.id);
      } else {
        SLUICE_TRY(EncodeText(segment.text, begins_text && segment.text.data() == text.data()));
      }
    }
    return {};
  }

  Result<void> EncodeText(std::string_view text, bool begins_text) {
    if (text.empty()) return {};
    pieces_.assign(1, {text, begins_text});
    for (const auto& stage : parts_.pre_tokenizers) SLUICE_TRY(stage->Run(&pieces_, &arena_));
    const bool cuts = parts_.model->CutsBeforeMetaspace();
    for (const Piece& piece : pieces_) {
      if (!cuts) {
        SLUICE_TRY(EncodeWord(piece.text));
        continue;
      }
      for (size_t begin = 0; begin < piece.text.size();) {
        const size_t end = EndOfMetaspaceWord(piece.text, begin);
        SLUICE_TRY(EncodeWord(piece.text.substr(begin, end - begin)));
        begin = end;
      }
    }
    return {};
  }

  Result<void> EncodeWord(std::string_view word) {
    if (!remembers_ || word.size() > WordMemory::kMaxWordBytes) return parts_.model->Encode(word, scratch_.get(), ids_);
    WordMemory::Entry& entry = memory_.Slot(word);
    const size_t begin = ids_->size();
    if (entry.word == word) {
      ids_->resize(begin + entry.count);
      std::copy_n(ids_->begin() + static_cast<ptrdiff_t>(entry.begin), entry.count,
                  ids_->begin() + static_cast<ptrdiff_t>(begin));
      return {};
    }
    SLUICE_TRY(parts_.model->Encode(word, scratch_.get(), ids_));
    entry = {word, begin, static_cast<uint32_t>(ids_->size() - begin)};
    return {};
  }

  const TokenizerParts& parts_;
  const AddedTokens& added_;
  const std::unique_ptr<ModelScratch> scratch_;
  std::vector<uint32_t>* const ids_;
  TextArena arena_;
  std::vector<Piece> pieces_;
  WordMemory memory_;
  bool remembers_ = false;
};

Tokenizer::Tokenizer(TokenizerParts parts)
    : parts_(std::move(parts)), added_(std::move(parts_.added_tokens), parts_.added_way) {
  vocab_size_ = parts_.vocabulary->size();
  for (size_t i = 0; i < added_.tokens().size(); ++i) {
    vocab_size_ = std::max(vocab_size_, added_.tokens()[i].id + 1);
    added_by_id_.push_back(static_cast<uint32_t>(i));
  }
  std::stable_sort(added_by_id_.begin(), added_by_id_.end(),
                   [this](uint32_t a, uint32_t b) { return added_.tokens()[a].id < added_.tokens()[b].id; });
  special_.resize(vocab_size_);
  for (const AddedToken& token : added_.tokens()) {
    if (token.special) special_[token.id] = true;
  }
  for (const uint32_t id : parts_.special_pieces) {
    if (id < vocab_size_) special_[id] = true;
  }
}

Result<std::shared_ptr<const Tokenizer>> Tokenizer::Make(TokenizerParts parts) {
  SLUICE_CHECK(parts.vocabulary && parts.model);
  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer(std::move(parts)));
  std::vector<std::string> contents;
  for (const AddedToken& token : tokenizer->added_.tokens()) {
    std::string content = token.content;
    if (token.normalized && tokenizer->parts_.normalizer) SLUICE_TRY(tokenizer->parts_.normalizer->Run(&content));
    contents.push_back(std::move(content));
  }
  tokenizer->added_.SetNormalizedContents(contents);
  return tokenizer;
}

Result<std::vector<uint32_t>> Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  if (const auto wrong = formats::FirstInvalidUtf8(text)) {
    return Fail(ErrorCode::kCorrupt, fmt::format("is not UTF-8 at byte {}; convert it to UTF-8 first", *wrong));
  }
  if (text.size() > kMaxTextBytes) {
    return Fail(
        ErrorCode::kUnsupported,
        fmt::format("has {} bytes; texts of more than {} are not supported yet: cut it", text.size(), kMaxTextBytes));
  }
  std::vector<uint32_t> ids;
  if (options.add_special) ids = parts_.prefix;
  SLUICE_TRY_IN(parts_.source, Encoding(parts_, added_, &ids).Run(text, options.parse_special));
  if (options.add_special) ids.insert(ids.end(), parts_.suffix.begin(), parts_.suffix.end());
  return ids;
}

std::string_view Tokenizer::piece(uint32_t id) const {
  const auto& tokens = added_.tokens();
  const auto found = std::lower_bound(added_by_id_.begin(), added_by_id_.end(), id,
                                      [&](uint32_t index, uint32_t value) { return tokens[index].id < value; });
  if (found != added_by_id_.end() && tokens[*found].id == id) return tokens[*found].content;
  return parts_.vocabulary->piece(id);
}

std::optional<std::string> Tokenizer::TokenBytes(uint32_t id) const {
  const std::string_view text = piece(id);
  if (text.empty()) return std::nullopt;
  if (is_special(id)) return std::string(text);
  return parts_.decoder.Decode(text, /*special=*/false, /*first=*/false);
}

bool Tokenizer::adds_bos() const {
  return !parts_.prefix.empty() && parts_.special.bos && parts_.prefix[0] == *parts_.special.bos;
}

bool Tokenizer::adds_eos() const {
  return !parts_.suffix.empty() && parts_.special.eos && parts_.suffix.back() == *parts_.special.eos;
}

Result<std::string> Tokenizer::DecodeOne(uint32_t id, bool skip_special, bool first) const {
  const std::string_view text = piece(id);
  if (text.empty()) {
    return Fail(ErrorCode::kUsage,
                fmt::format("{}: there is no token {}; ids are below {}", parts_.source, id, vocab_size_));
  }
  if (skip_special && is_special(id)) return std::string();
  return parts_.decoder.Decode(text, is_special(id), first);
}

Result<std::string> Tokenizer::Decode(std::span<const uint32_t> ids, bool skip_special) const {
  std::string text;
  bool first = true;
  for (const uint32_t id : ids) {
    SLUICE_ASSIGN(const std::string part, DecodeOne(id, skip_special, first));
    if (!(skip_special && is_special(id))) first = false;
    text += part;
  }
  for (uint32_t i = 0; i < parts_.decoder.strip_count && text.starts_with(parts_.decoder.strip_first); ++i) {
    text.erase(0, parts_.decoder.strip_first.size());
  }
  return text;
}

Result<std::string> StreamDecoder::Push(uint32_t id) {
  SLUICE_ASSIGN(const std::string part, tokenizer_->DecodeOne(id, skip_special_, first_));
  if (!(skip_special_ && tokenizer_->is_special(id))) first_ = false;
  waiting_ += part;
  const PieceDecoder& decoder = tokenizer_->parts_.decoder;
  while (stripping_ && stripped_ < decoder.strip_count && waiting_.starts_with(decoder.strip_first)) {
    waiting_.erase(0, decoder.strip_first.size());
    ++stripped_;
  }
  stripping_ =
      stripping_ && stripped_ < decoder.strip_count && std::string_view(decoder.strip_first).starts_with(waiting_);
  if (stripping_) return std::string();
  std::string ready = waiting_.substr(0, waiting_.size() - IncompleteUtf8Tail(waiting_));
  waiting_.erase(0, ready.size());
  return ready;
}

std::string StreamDecoder::Finish() {
  first_ = true;
  stripping_ = true;
  stripped_ = 0;
  return std::exchange(waiting_, {});
}

}  // namespace sluice::tokenizer
