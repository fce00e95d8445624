// TokenizerSummary: what kind of tokenizer a checkpoint has, without building it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "checkpoint/checkpoint.h"

namespace sluice::tokenizer {

struct TokenizerSummary {
  std::string file;   // its name: tokenizer.json, tokenizer.model, or the GGUF's
  std::string kind;   // "BPE", "Unigram", ... as the file says; "SentencePiece" of a tokenizer.model
  uint64_t size = 0;  // the highest id and 1
};

// Of the file that OpenTokenizer would open; nullopt where there is none. Reads tokenizer.json once, of a GGUF its
// header; that a summary can be made does not say that the tokenizer is supported. The file's errors.
Result<std::optional<TokenizerSummary>> SummariseTokenizer(const checkpoint::Checkpoint& checkpoint);

// Where the chat template stands ("chat_template.jinja", "tokenizer_config.json", the GGUF's name); empty: nowhere.
Result<std::string> FindChatTemplate(const checkpoint::Checkpoint& checkpoint);

}  // namespace sluice::tokenizer
