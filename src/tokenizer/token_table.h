// TokenTable: which tokens a tokenizer's files tell of, for whoever makes another vocabulary of several. What a
// tokenizer does with text is tokenizer.h's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "tokenizer/vocabulary.h"

namespace sluice::tokenizer {

struct AddedEntry {
  uint32_t id = 0;
  std::string content;
  nlohmann::ordered_json settings;  // as tokenizer.json writes it: id, content, single_word, lstrip, ..., special
};

struct TokenTable {
  Vocabulary plain;               // the model's own pieces; also those that are added tokens
  std::vector<AddedEntry> added;  // by id

  std::optional<uint32_t> Find(std::string_view token) const;  // an added one's id wins
  bool IsAdded(std::string_view token) const;
  uint32_t end() const;  // the highest id and 1
};

// Of tokenizer.json, else tokenizer.model (BPE) with added_tokens.json; with added_tokens_decoder of
// tokenizer_config.json. nullopt where there is none of the two. kCorrupt, kUnsupported: naming the file.
Result<std::optional<TokenTable>> ReadTokenTable(std::span<const checkpoint::SideFile> files);

// The files of a tokenizer with tokens added, and without its tokens from `end` on: tokenizer.json, and what others say
// of added tokens. kUnsupported where there is no tokenizer.json to write into.
Result<std::vector<checkpoint::SideFile>> WithTokens(std::span<const checkpoint::SideFile> files,
                                                     std::span<const AddedEntry> added, uint32_t end);

}  // namespace sluice::tokenizer
