// What two models' tokenizers have in common: tokens, merges, added tokens, chat template, and all the rest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "io/byte_source.h"
#include "verify/json_diff.h"

namespace sluice::verify {

// How B's set of something is related to A's.
enum class SetRelation { kEqual, kExtended, kReduced, kDiffers };  // B has all of A's and more; the other way round
const char* SetRelationName(SetRelation relation);                 // "equal", "extended", "reduced", "differs"

struct TokenDifference {
  std::string token;             // its text as the vocabulary has it
  std::optional<uint32_t> a, b;  // its ids
  bool operator==(const TokenDifference&) const = default;
};

struct TokenSetDiff {
  uint64_t size_a = 0, size_b = 0;  // tokens
  uint64_t common = 0;              // the same text under the same id (of added tokens: and with the same settings)
  uint64_t moved = 0;               // the same text under another id, or of added tokens with other settings
  uint64_t only_in_a = 0, only_in_b = 0;
  std::vector<TokenDifference> first;  // at most kMostTokens of those that differ, by id in A, then those only in B
  SetRelation Relation() const;
};
constexpr size_t kMostTokens = 20;

struct MergesDiff {
  uint64_t size_a = 0, size_b = 0;
  std::optional<uint64_t> first_difference;  // place in the list, from 0; none: equal, or one is the other's beginning
  SetRelation Relation() const;
};

enum class TemplateDiff { kNone, kEqual, kDiffers, kOnlyInA, kOnlyInB };
const char* TemplateDiffName(TemplateDiff diff);  // "none", "equal", ...

struct TokenizerDiff {
  bool in_a = false, in_b = false;   // whether the side has a tokenizer.json, a tokenizer.model, or a GGUF's
  bool compared = false;             // both have one that can be read: then tokens and added tell
  TokenSetDiff tokens, added;        // added tokens are tokens too
  std::optional<MergesDiff> merges;  // where both have a tokenizer.json, or a GGUF's of that kind
  std::vector<KeyDifference>
      settings;  // of tokenizer.json without the above, tokenizer_config.json, special_tokens_map.json
  TemplateDiff chat_template = TemplateDiff::kNone;
  // Why nothing more is known of a side: its files cannot be read as a tokenizer. Empty: they can.
  std::string problem_a, problem_b;
};

// Reads tokenizers' files whole (of equal files nothing is parsed twice that need not be); of a GGUF its header. Files
// that cannot be understood become problem_*; kRead and kNotFound where they cannot be read.
Result<TokenizerDiff> DiffTokenizers(const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b,
                                     const io::SourceFactory& open_source = io::OpenFile);

}  // namespace sluice::verify
