#include "verify/api_model/completion.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace sluice::verify::api_model {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kIdPrefix = "token_id:";
constexpr double kLogSlack = 1e-6;  // of a logarithm of 1, in f32

tl::unexpected<Error> Bad(std::string what) {
  return Fail(ErrorCode::kCorrupt, "the server's answer is not what was asked for: " + std::move(what));
}

std::optional<uint32_t> ParseId(std::string_view digits) {
  uint32_t id = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.empty()) return std::nullopt;
  return id;
}

ListedToken Named(std::string_view text, double log_probability) {
  ListedToken token{std::string(text), std::nullopt, log_probability};
  if (text.starts_with(kIdPrefix)) token.id = ParseId(text.substr(kIdPrefix.size()));
  return token;
}

const Json* At(const Json& json, const char* key) {
  if (!json.is_object()) return nullptr;
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? nullptr : &*found;
}

Result<double> LogProbability(const Json* json) {
  if (json == nullptr || !json->is_number()) return Bad("a log-probability is missing, or is no number");
  const double value = json->get<double>();
  if (!(value <= kLogSlack)) return Bad(fmt::format("a log-probability of {}", value));
  return value;
}

// {text: logprob, ...}
Result<std::vector<ListedToken>> ReadMap(const Json& json) {
  if (!json.is_object()) return Bad("top_logprobs has what is no list of tokens");
  std::vector<ListedToken> top;
  top.reserve(json.size());
  for (const auto& [text, value] : json.items()) {
    SLUICE_ASSIGN(const double log_probability, LogProbability(&value));
    top.push_back(Named(text, log_probability));
  }
  return top;
}

// {token, id, logprob, ...}
Result<ListedToken> ReadToken(const Json& json) {
  const Json* text = At(json, "token");
  if (text == nullptr || !text->is_string()) return Bad("a token has no text");
  SLUICE_ASSIGN(const double log_probability, LogProbability(At(json, "logprob")));
  ListedToken token = Named(text->get_ref<const std::string&>(), log_probability);
  if (const Json* id = At(json, "id")) {
    if (!id->is_number_unsigned() || id->get<uint64_t>() > UINT32_MAX) return Bad("a token's id is none");
    token.id = id->get<uint32_t>();
  }
  return token;
}

Result<std::vector<PositionList>> ReadContent(const Json& content) {
  std::vector<PositionList> lists;
  if (!content.is_array()) return Bad("logprobs.content is no array");
  for (const Json& entry : content) {
    PositionList list;
    SLUICE_ASSIGN(list.actual, ReadToken(entry));
    if (const Json* top = At(entry, "top_logprobs")) {
      if (!top->is_array()) return Bad("top_logprobs is no array");
      for (const Json& one : *top) {
        SLUICE_ASSIGN(ListedToken token, ReadToken(one));
        list.top.push_back(std::move(token));
      }
    }
    lists.push_back(std::move(list));
  }
  return lists;
}

Result<std::vector<PositionList>> ReadArrays(const Json& logprobs) {
  const Json *tokens = At(logprobs, "tokens"), *values = At(logprobs, "token_logprobs"),
             *tops = At(logprobs, "top_logprobs");
  if (tokens == nullptr || !tokens->is_array() || values == nullptr || !values->is_array()) {
    return Bad("logprobs has no tokens and token_logprobs");
  }
  if (tops == nullptr || !tops->is_array()) return Bad("it has no top_logprobs");
  if (tokens->size() != values->size() || tokens->size() != tops->size()) {
    return Bad(fmt::format("logprobs has {} tokens, {} token_logprobs and {} top_logprobs", tokens->size(),
                           values->size(), tops->size()));
  }
  std::vector<PositionList> lists(tokens->size());
  for (size_t i = 0; i < lists.size(); ++i) {
    if (!(*tokens)[i].is_string()) return Bad("a token has no text");
    // Nothing is said of the first token of a prompt; its text stays.
    double log_probability = -std::numeric_limits<double>::infinity();
    if (i > 0 || !(*values)[i].is_null()) {
      SLUICE_ASSIGN(log_probability, LogProbability(&(*values)[i]));
    }
    lists[i].actual = Named((*tokens)[i].get_ref<const std::string&>(), log_probability);
    if ((*tops)[i].is_null()) continue;
    SLUICE_ASSIGN(lists[i].top, ReadMap((*tops)[i]));
  }
  return lists;
}

Result<std::vector<PositionList>> ReadPromptLists(const Json& json) {
  if (!json.is_array()) return Bad("prompt_logprobs is no array");
  std::vector<PositionList> lists(json.size());
  for (size_t i = 0; i < lists.size(); ++i) {
    if (json[i].is_null()) continue;
    if (!json[i].is_object()) return Bad("prompt_logprobs has what is no list of tokens");
    for (const auto& [name, value] : json[i].items()) {
      const auto id = ParseId(name);
      if (!id) return Bad("prompt_logprobs names a token by what is no id");
      SLUICE_ASSIGN(const double log_probability, LogProbability(At(value, "logprob")));
      lists[i].top.push_back({name, id, log_probability});
    }
  }
  return lists;
}

}  // namespace

const char* ShapeName(AnswerShape shape) {
  switch (shape) {
    case AnswerShape::kNext:
      return "next";
    case AnswerShape::kEcho:
      return "echo";
    case AnswerShape::kPromptLists:
      return "prompt_logprobs";
  }
  return "";
}

std::optional<AnswerShape> ShapeByName(std::string_view name) {
  for (const AnswerShape shape : {AnswerShape::kNext, AnswerShape::kEcho, AnswerShape::kPromptLists}) {
    if (name == ShapeName(shape)) return shape;
  }
  return std::nullopt;
}

Result<Completion> ParseCompletion(std::string_view body, AnswerShape shape) {
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Bad("it is no JSON");
  Completion completion;
  if (const Json* model = At(json, "model")) {
    if (!model->is_string()) return Bad("the model's name is none");
    completion.model = model->get<std::string>();
  }
  if (const Json* usage = At(json, "usage")) {
    if (const Json* tokens = At(*usage, "prompt_tokens")) {
      if (!tokens->is_number_unsigned()) return Bad("usage.prompt_tokens is no number");
      completion.prompt_tokens = tokens->get<uint64_t>();
    }
  }
  const Json* choices = At(json, "choices");
  if (choices == nullptr || !choices->is_array() || choices->size() != 1 || !(*choices)[0].is_object()) {
    return Bad("it has no choices, or more than one");
  }
  const Json& choice = (*choices)[0];
  if (shape == AnswerShape::kPromptLists) {
    const Json* lists = At(choice, "prompt_logprobs");
    if (lists == nullptr) lists = At(json, "prompt_logprobs");
    if (lists == nullptr) return Bad("it has no prompt_logprobs");
    SLUICE_ASSIGN(completion.lists, ReadPromptLists(*lists));
    return completion;
  }
  const Json* logprobs = At(choice, "logprobs");
  if (logprobs == nullptr) return Bad("it has no logprobs");
  if (const Json* content = At(*logprobs, "content")) {
    SLUICE_ASSIGN(completion.lists, ReadContent(*content));
  } else {
    SLUICE_ASSIGN(completion.lists, ReadArrays(*logprobs));
  }
  return completion;
}

Result<PartialDistribution> ToDistribution(const PositionList& list, uint64_t num_top, const TokenTexts& texts) {
  const uint64_t count = list.top.size();
  const bool by_ids = std::ranges::all_of(list.top, [](const ListedToken& token) { return token.id.has_value(); });
  if (count > num_top + 1 || count == 0 || (by_ids && count < num_top && count < texts.size())) {
    return Bad(fmt::format("a list of {} tokens where {} were asked for", count, num_top));
  }
  PartialDistribution distribution;
  std::vector<double> listed;  // largest first
  double unclear = 0;          // the largest whose token is not known
  for (const ListedToken& token : list.top) {
    if (!(token.log_probability <= kLogSlack)) return Bad("a probability is none");
    const double probability = std::min(1.0, std::exp(token.log_probability));
    listed.push_back(probability);
    const std::optional<uint32_t> id = token.id ? token.id : texts.Find(token.text);
    if (id && *id >= texts.size()) return Bad(fmt::format("token {} is not in a vocabulary of {}", *id, texts.size()));
    if (id) {
      distribution.known.push_back({*id, probability});
    } else {
      unclear = std::max(unclear, probability);
    }
  }
  std::ranges::sort(distribution.known, {}, &PartialDistribution::Entry::id);
  std::ranges::sort(listed, std::greater<>());
  // Of num_top + 1 the last is the actual token, wherever it ranks: the one before it bounds what is not listed.
  const bool is_whole_vocabulary = by_ids && count == texts.size();
  if (is_whole_vocabulary) {
    distribution.cap = 0;
  } else if (by_ids || count == num_top + 1) {
    distribution.cap = listed[std::min(num_top, count) - 1];
  } else {
    // By texts, of which two may have been one. The actual token is in the list beside the likeliest, or among them.
    // Only where it is likelier than another of the list is it among them; then num_top texts are num_top tokens.
    const bool actual_ranks = list.actual && count == num_top && count > 1 &&
                              std::exp(list.actual->log_probability) > listed.back() * (1 + kLogSlack);
    distribution.cap = actual_ranks ? listed.back() : 1;
  }
  distribution.cap = std::max(distribution.cap, unclear);
  if (auto good = CheckPartial(distribution); !good) return Bad(good.error().message);
  return distribution;
}

}  // namespace sluice::verify::api_model
