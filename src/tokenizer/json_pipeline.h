// The parts of tokenizer.json around its model: normalizer, pre_tokenizer, post_processor, decoder.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "tokenizer/json_part.h"
#include "tokenizer/tokenizer.h"

namespace sluice::tokenizer {

// Each: kUnsupported with the path of a part that is not known here, kCorrupt for one that is not as it should be.

Result<std::unique_ptr<const Normalizer>> ReadNormalizer(const JsonPart& part);

struct PreTokenizerStages {
  std::vector<std::unique_ptr<const PreTokenizer>> stages;
  bool byte_level = false;  // the words are bytes, written in GPT-2's alphabet
};
Result<void> ReadPreTokenizer(const JsonPart& part, PreTokenizerStages* into);

// What stands before and behind one text.
struct SpecialFrame {
  std::vector<uint32_t> prefix, suffix;
};
Result<void> ReadPostProcessor(const JsonPart& part, SpecialFrame* into);

Result<PieceDecoder> ReadDecoder(const JsonPart& part);

}  // namespace sluice::tokenizer
