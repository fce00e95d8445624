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

}  // namespace sluice::tokenizer
