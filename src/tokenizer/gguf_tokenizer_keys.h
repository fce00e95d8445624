// A checkpoint's tokenizer as keys of a GGUF file: the other way round of gguf_tokenizer_files.h.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "formats/gguf_header.h"

namespace sluice::tokenizer {

// Of a GGUF its keys as they are. tokenizer.model of type BPE becomes kind "llama"; tokenizer.json of type BPE kind
// "gpt2" where its pieces are bytes, with the name of the pre-tokenizer under which a text in many scripts has the ids
// that the model's own tokenizer gives it, else kind "llama". Tokens are filled up to `num_rows` of the embedding. The
// chat template goes along.
// kNotFound where there is no tokenizer; kUnsupported where GGUF has no kind for it, or what was made gives other ids.
// Memory: the tables, twice.
Result<formats::GgufHeader> GgufTokenizerKeys(const checkpoint::Checkpoint& model, uint64_t num_rows);

}  // namespace sluice::tokenizer
