// The tokenizer in a GGUF's keys as the files that stand beside weights in a folder. docs/tokenizers.md, "Of a GGUF".
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "formats/gguf.h"

namespace sluice::tokenizer {

// tokenizer.json (kind gpt2) or tokenizer.model (kind llama), and tokenizer_config.json, with bytes and no path. What
// OpenTokenizer makes of them gives the ids that the file's own keys give. Empty where the file has no tokenizer;
// errors are those of OpenGgufTokenizer.
Result<std::vector<checkpoint::SideFile>> TokenizerFilesOf(const formats::GgufFile& file);

}  // namespace sluice::tokenizer
