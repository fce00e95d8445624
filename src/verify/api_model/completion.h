// What an OpenAI-compatible server answers to /completions with log-probabilities, in the shapes that servers have:
//   - logprobs {tokens, token_logprobs, top_logprobs}: arrays, lists by texts, or by "token_id:N" (OpenAI, vLLM,
//     llama-cpp-python); with "echo" those of the prompt come first
//   - logprobs {content [{token, id, logprob, top_logprobs [{token, id, logprob}]}]} (llama.cpp's server)
//   - prompt_logprobs [null, {"N": {logprob}}] (vLLM)
// Everything in it is a stranger's word: what is not of these shapes is kCorrupt, and says where.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "verify/api_model/partial_distribution.h"
#include "verify/api_model/token_texts.h"

namespace sluice::verify::api_model {

// Where in an answer the lists of the prompt's positions are.
enum class AnswerShape {
  kNext,         // there are none: only that of the token after the prompt
  kEcho,         // in front of it
  kPromptLists,  // prompt_logprobs
};
const char* ShapeName(AnswerShape shape);  // "next", "echo", "prompt_logprobs"
std::optional<AnswerShape> ShapeByName(std::string_view name);

struct ListedToken {
  std::string text;
  std::optional<uint32_t> id;  // where the server gives ids
  double log_probability;      // natural logarithm, as written; -infinity allowed (and -9999, OpenAI's for it)
};

struct PositionList {
  std::optional<ListedToken> actual;  // the token that stands there, or was made
  std::vector<ListedToken> top;       // empty: none was given (the first of a prompt has none)
};

struct Completion {
  std::string model;                      // empty: not said
  std::optional<uint64_t> prompt_tokens;  // usage
  std::vector<PositionList> lists;
};

// kEcho and kPromptLists: lists[i] of the token at i of the prompt, and for kEcho of what was made behind it. kNext:
// lists[0] of what was made; none where the model ended at once.
Result<Completion> ParseCompletion(std::string_view body, AnswerShape shape);

// A list as a distribution. num_top: the length asked for; a list by ids has so many, or one more where the actual
// token is not among them (or all of the vocabulary); one by texts may have fewer, where tokens looked alike, and the
// cap is told only where that cannot hide a large one. kCorrupt for other lengths, ids beyond the vocabulary,
// logarithms above 0, probabilities above 1 together.
Result<PartialDistribution> ToDistribution(const PositionList& list, uint64_t num_top, const TokenTexts& texts);

}  // namespace sluice::verify::api_model
