// The tokens in a GGUF's keys: their texts, and what kind each is.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/gguf.h"
#include "tokenizer/vocabulary.h"

namespace sluice::tokenizer {

// tokenizer.ggml.token_type, as llama.cpp and sentencepiece number them.
enum GgufTokenType : int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct GgufVocabulary {
  std::shared_ptr<const Vocabulary> vocabulary;
  std::vector<int64_t> types;  // one for each piece; some are known by their text, whatever the file says
};

// kCorrupt, kUnsupported, naming file and key.
Result<GgufVocabulary> ReadGgufVocabulary(const formats::GgufFile& file);

std::string GgufTokenizerKey(std::string_view name);  // "tokenizer.ggml.tokens"

}  // namespace sluice::tokenizer
