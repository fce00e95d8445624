// OpenTokenizer: the tokenizer that belongs to a checkpoint.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "tokenizer/tokenizer.h"

namespace sluice::tokenizer {

// tokenizer.json where the checkpoint has one beside it, else tokenizer.model, else the keys of its GGUF. A recipe has
// the side files of its base. kNotFound, saying what to put where, where there is none of them; otherwise the file's
// errors.
Result<std::shared_ptr<const Tokenizer>> OpenTokenizer(const checkpoint::Checkpoint& checkpoint);

// Whether OpenTokenizerFile knows what to do with a file of this name: *.gguf, tokenizer.json, tokenizer.model.
bool IsTokenizerFile(const std::string& path);
// A file by itself: a GGUF (its keys suffice, so that vocabularies without a model can be used), tokenizer.json or
// tokenizer.model. Special ids come from what lies beside it.
Result<std::shared_ptr<const Tokenizer>> OpenTokenizerFile(const std::string& path);

}  // namespace sluice::tokenizer
