// VocabularyAlignment: one numbering of tokens for two models, so that both can be asked about the same tokens and what
// they answer can be compared id by id. Ids [0, shared) of the new numbering are tokens that both have, in the order of
// A's ids; from `shared` on each model has its own, which the other gives no probability.
//
// Tokens are the same where they stand for the same bytes (Tokenizer::TokenBytes): ids, and how a vocabulary spells its
// pieces, do not matter. Where several tokens of one side stand for the same bytes (a letter and its byte token), only
// those with the same spelling are taken for the same; what is left over counts as each side's own, which can only make
// models look more different. Special tokens are the same by their text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/sha256.h"
#include "tokenizer/tokenizer.h"

namespace sluice::verify::behaviour {

struct VocabularyAlignment {
  enum class Way {
    kSameTokens,  // each id is the same token on both sides
    kByBytes,     // by the bytes of tokens; the numbering is another
    kByNumber,    // no tokenizer on one side, or on both: ids are taken for the same
  };
  Way way = Way::kSameTokens;
  uint64_t rows_a = 0, rows_b = 0;  // of the models' embeddings and heads
  uint64_t shared = 0;
  // Of each new id the model's own, a permutation of [0, rows); empty: the model's own numbering.
  std::vector<uint32_t> order_a = {}, order_b = {};
  std::vector<uint32_t> drawable = {};  // new ids of shared tokens that are not special on either side, ascending
  std::string note = {};                // what was assumed, a sentence; mostly empty

  uint32_t IdInA(uint32_t id) const { return order_a.empty() ? id : order_a[id]; }
  uint32_t IdInB(uint32_t id) const { return order_b.empty() ? id : order_b[id]; }
  // What challenges are drawn from: SHA-256 over all of `drawable` as A's ids, then as B's, each u32, little-endian.
  kernels::Hash256 DrawableHash() const;
};
const char* WayName(VocabularyAlignment::Way way);  // "same_tokens", "by_bytes", "by_number"

// `rows`: of each model's vocabulary; those that no token has are each model's own, unless both number their tokens
// alike. Tokenizers may be null, or without a token. kCorrupt where there is no common numbering: no tokenizer and
// another number of rows, a tokenizer with more tokens than the model has rows, or no shared token to draw. Memory:
// where numberings differ, the tokens of both and about 100 bytes each.
Result<VocabularyAlignment> AlignVocabularies(const tokenizer::Tokenizer* a, uint64_t rows_a,
                                              const tokenizer::Tokenizer* b, uint64_t rows_b);

// Ids of A's (or B's) tokenizer in the new numbering. `order`: order_a or order_b.
std::vector<uint32_t> InverseOrder(const std::vector<uint32_t>& order);

}  // namespace sluice::verify::behaviour
