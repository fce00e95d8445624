// The tokenizer in a GGUF's keys, with the ids that llama.cpp gives. docs/tokenizers.md.
#pragma once

#include <memory>

#include "base/result.h"
#include "formats/gguf.h"
#include "tokenizer/tokenizer.h"

namespace sluice::tokenizer {

// kNotFound where the file has no tokenizer, kUnsupported where tokenizer.ggml.model or .pre names one that is not
// known here, kCorrupt where the keys contradict one another; each with file and key.
Result<std::shared_ptr<const Tokenizer>> OpenGgufTokenizer(const formats::GgufFile& file);

}  // namespace sluice::tokenizer
