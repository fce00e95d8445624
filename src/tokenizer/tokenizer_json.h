// tokenizer.json, the file of Hugging Face's tokenizers, with the ids that they give. docs/tokenizers.md.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace sluice::tokenizer {

// `text`: the file's bytes, `file` its name for errors. `configs`: the texts of tokenizer_config.json and
// special_tokens_map.json, as far as there are such files: the first that names bos_token, eos_token, ... counts.
// kUnsupported, naming file and path, for a part that is not known here; kCorrupt for what is no tokenizer.json.
Result<std::shared_ptr<const Tokenizer>> ParseTokenizerJson(std::string_view text, const std::string& file,
                                                            const std::vector<std::string>& configs);

// What a tokenizer.json of type BPE consists of, for whoever writes it in another form.
struct BpeTable {
  std::shared_ptr<const Vocabulary> vocabulary;
  std::vector<std::string> merges;  // "left right", first come, first merged
  std::vector<AddedToken> added_tokens;
  bool byte_level = false;     // pieces are bytes, in GPT-2's alphabet; else characters
  bool byte_fallback = false;  // what is no piece becomes the pieces of its bytes
};
// Errors as ParseTokenizerJson; kUnsupported for other types.
Result<BpeTable> ReadBpeTable(std::string_view text, const std::string& file);

}  // namespace sluice::tokenizer
