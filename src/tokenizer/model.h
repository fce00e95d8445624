// Model: what turns one word into ids. The words come from a pre-tokenizer (pre_tokenizer.h), or are whole texts.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::tokenizer {

// Working memory of one Encode, kept from word to word.
struct ModelScratch {
  virtual ~ModelScratch() = default;
};

// Immutable; thread-safe.
class Model {
 public:
  virtual ~Model() = default;
  virtual std::unique_ptr<ModelScratch> NewScratch() const = 0;
  // Appends the ids of `word` (not empty, well-formed UTF-8). Depends on nothing but the word. `scratch` is
  // NewScratch's. kCorrupt where the word needs a piece (unk_token) that the vocabulary lacks.
  virtual Result<void> Encode(std::string_view word, ModelScratch* scratch, std::vector<uint32_t>* ids) const = 0;
  // True where the ids of a word are those of its parts, cut before each U+2581 that follows another character: no
  // piece lies across. Then a whole text can be taken in words, and words can be remembered.
  virtual bool CutsBeforeMetaspace() const { return false; }
};

}  // namespace sluice::tokenizer
