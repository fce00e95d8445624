// What tokenizer.ggml.pre names: the regular expressions that cut text into words, one row each.
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace sluice::tokenizer {

struct GgufPreTokenizer {
  std::vector<std::string_view> names;     // as tokenizer.ggml.pre has them
  std::vector<std::string_view> patterns;  // each cuts what the one before left, and keeps all
  bool ignore_merges = false;
  bool adds_bos = false;  // where tokenizer.ggml.add_bos_token is missing
};

std::span<const GgufPreTokenizer> GgufPreTokenizers();
const GgufPreTokenizer* FindGgufPreTokenizer(std::string_view name);  // null where it is not known

}  // namespace sluice::tokenizer
