// tokenizer.model, the file of Google's SentencePiece, with the ids that it gives. docs/tokenizers.md.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace sluice::tokenizer {

// `bytes`: the file (a protobuf, ModelProto), `file` its name for errors. `configs`: the text of tokenizer_config.json,
// as far as there is one, for add_bos_token and add_eos_token. kUnsupported for models of words and characters,
// kCorrupt with the byte for what is no such file.
Result<std::shared_ptr<const Tokenizer>> ParseSentencePieceModel(std::string_view bytes, const std::string& file,
                                                                 const std::vector<std::string>& configs);

// What a tokenizer.model of type BPE consists of, for whoever writes it in another form.
struct SentencePieceTable {
  std::shared_ptr<const Vocabulary> vocabulary;
  std::vector<float> scores;   // one for each piece
  std::vector<int64_t> types;  // likewise, as sentencepiece and GGUF number them
  bool space_before_text = true;
};
// Errors as ParseSentencePieceModel; kUnsupported for other types.
Result<SentencePieceTable> ReadSentencePieceTable(std::string_view bytes, const std::string& file);

}  // namespace sluice::tokenizer
