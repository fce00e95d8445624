// The model of MakeTinyLlama as a GGUF file, as llama.cpp's converter would make it.
//
//   tests::WriteText(dir / "x.gguf", tests::TinyLlamaGguf({.seed = 1}));
#pragma once

#include <string>

#include "checkpoint/testing/tiny_models.h"
#include "tests/support/gguf_builder.h"

namespace sluice::tests {

// Keys of the model's sizes and, where options.tokenizer, of a small tokenizer. `shards` means nothing here.
GgufBuilder TinyLlamaGgufKeys(const TinyLlama& options);
// GGUF's name of one of TinyLlamaTensors.
std::string GgufNameOf(const std::string& hugging_face_name);
// Keys and tensors: those of TinyLlamaTensors(options), rows of Q and K permuted, all in options.dtype.
std::string TinyLlamaGguf(const TinyLlama& options);

}  // namespace sluice::tests
