#include "verify/api_model/api_model.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace sluice::verify::api_model {
namespace {

constexpr std::string_view kPrefix = "api+";
constexpr std::array<uint64_t, 3> kUsualTops = {20, 5, 1};
// Two ways to the same number: f32 and the digits of JSON. An echo of another position is off by tenths.
constexpr double kSameNumber = 1e-3;
constexpr size_t kMostNameBytes = 512;

tl::unexpected<Error> Lie(std::string what) { return Fail(ErrorCode::kCorrupt, std::move(what)); }

// "gpt-x" may answer as "gpt-x-2024-01-01" or "gpt-x:4"; "gpt-xl" is another model.
bool IsNamed(std::string_view answering, std::string_view asked) {
  return answering == asked ||
         (answering.starts_with(asked) &&
          (answering[asked.size()] == '-' || answering[asked.size()] == ':' || answering[asked.size()] == '@'));
}

std::vector<uint32_t> AllPositions(size_t num_tokens) {
  std::vector<uint32_t> positions;
  for (uint32_t position = 1; position < num_tokens; ++position) positions.push_back(position);
  return positions;
}

}  // namespace

std::string ApiReference::ToString() const { return fmt::format("{}{}#{}", kPrefix, url.ToString(), model); }

bool IsApiReference(std::string_view ref) { return ref.starts_with(kPrefix); }

Result<ApiReference> ParseApiReference(std::string_view ref) {
  SLUICE_CHECK(IsApiReference(ref));
  std::string_view rest = ref.substr(kPrefix.size());
  const size_t hash = rest.find('#');
  if (hash == std::string_view::npos || hash + 1 == rest.size()) {
    return Fail(ErrorCode::kUsage,
                "an API model needs the name by which the server knows it, as api+https://host/v1#model");
  }
  ApiReference reference;
  reference.model = rest.substr(hash + 1);
  if (reference.model.size() > kMostNameBytes || !std::ranges::all_of(reference.model, [](char c) {
        return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
      })) {
    return Fail(ErrorCode::kUsage, "the name of an API model is too long, or has control characters in it");
  }
  SLUICE_ASSIGN(reference.url, io::ParseHttpUrl(rest.substr(0, hash)));
  if (reference.url.scheme == "http" && !reference.url.IsLoopback()) {
    return Fail(ErrorCode::kUsage,
                fmt::format("{}: plain http to another machine: anyone on the way can read and change "
                            "what is asked and answered; take api+https://",
                            reference.ToString()));
  }
  return reference;
}

ApiCost CostOf(const ApiOffer& offer, uint64_t num_challenges, uint64_t challenge_tokens, uint64_t num_positions,
               uint64_t coarse_ids) {
  ApiCost cost;
  const auto challenges = num_challenges, last = challenge_tokens - 1;
  // Positions are the last ones: a prompt of so many tokens each, on average.
  const uint64_t prompt = last - (num_positions - 1) / 2;
  const uint64_t single = offer.shape == AnswerShape::kNext ? num_positions : 0;
  const uint64_t extra = num_positions * coarse_ids;
  cost.num_requests = challenges * ((single > 0 ? single : 1) + extra);
  cost.num_prompt_tokens = challenges * ((single > 0 ? single * prompt : challenge_tokens) + extra * (prompt + 1));
  cost.seconds = static_cast<double>(cost.num_requests) * offer.seconds_a_request;
  return cost;
}

ApiModel::ApiModel(ApiReference reference, std::unique_ptr<io::HttpClient> client, TokenTexts texts,
                   std::shared_ptr<const tokenizer::Tokenizer> tokenizer, uint64_t num_top)
    : reference_(std::move(reference)),
      client_(std::move(client)),
      texts_(std::move(texts)),
      tokenizer_(std::move(tokenizer)),
      num_top_(num_top) {}

Result<void> ApiModel::CheckSendable(std::span<const uint32_t> challenge) const {
  if (offer_.prompt_ids) return {};
  auto text = PromptJson(challenge, false);
  if (!text) return Fail(std::move(text.error()));
  return {};
}

// As ids, or as the text of these tokens where the tokenizer makes the same tokens of it again.
Result<std::string> ApiModel::PromptJson(std::span<const uint32_t> tokens, bool as_ids) const {
  if (as_ids) return nlohmann::json(tokens).dump();
  const auto unsendable = [](std::string why) {
    return Lie("the server takes no token ids, and this challenge cannot be sent as text: " + std::move(why) +
               "; prompts of ordinary text (--prompts) can");
  };
  if (tokenizer_ == nullptr) return unsendable("there is no tokenizer");
  SLUICE_ASSIGN(const std::string text, tokenizer_->Decode(tokens));
  auto again = tokenizer_->Encode(text);
  if (!again) return unsendable("its tokens are no text");
  if (!std::ranges::equal(*again, tokens)) return unsendable("its text makes other tokens");
  return nlohmann::json(text).dump();
}

Result<std::string> ApiModel::RequestJson(const ApiOffer& offer, std::span<const uint32_t> tokens) const {
  SLUICE_ASSIGN(const std::string prompt, PromptJson(tokens, offer.prompt_ids));
  // One token is made, as 0 means "without end" to some servers; the likeliest, which changes no list.
  std::string json = fmt::format(R"({{"model":{},"prompt":{},"max_tokens":1,"temperature":0,"logprobs":{})",
                                 nlohmann::json(reference_.model).dump(), prompt, offer.num_top);
  if (offer.shape == AnswerShape::kEcho) json += R"(,"echo":true)";
  if (offer.shape == AnswerShape::kPromptLists) json += fmt::format(R"(,"prompt_logprobs":{})", offer.num_top);
  if (offer.answer_ids) json += R"(,"return_tokens_as_token_ids":true)";
  return json + "}";
}

Result<void> ApiModel::CheckAnswer(const ApiOffer& offer, std::span<const uint32_t> tokens, const Completion& answer) {
  if (answer.model.size() > kMostNameBytes) return Lie("the answering model's name has no end");
  if (!answer.model.empty() && !IsNamed(answer.model, reference_.model)) {
    return Lie(fmt::format("another model answers: {} was asked, {} answered", reference_.model,
                           io::BlankOut(answer.model, "", 100)));
  }
  if (answering_model_.empty()) answering_model_ = answer.model;
  if (answer.model != answering_model_) {
    return Lie(fmt::format("another model answers than before: {} now, {} then", io::BlankOut(answer.model, "", 100),
                           io::BlankOut(answering_model_, "", 100)));
  }
  if (answer.prompt_tokens && *answer.prompt_tokens != tokens.size()) {
    return Lie(fmt::format("the server saw {} tokens where {} were sent: its tokenizer is another, or it adds tokens",
                           *answer.prompt_tokens, tokens.size()));
  }
  if (offer.shape == AnswerShape::kNext) return {};
  if (answer.lists.size() < tokens.size() || answer.lists.size() > tokens.size() + 1) {
    return Lie(fmt::format("lists of {} positions where {} tokens were sent", answer.lists.size(), tokens.size()));
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    const PositionList& list = answer.lists[i];
    if (i > 0 && list.top.empty()) return Lie(fmt::format("position {} has no list", i));
    if (!list.actual) continue;
    const bool is_it =
        list.actual->id ? *list.actual->id == tokens[i] : texts_.MayLookLike(tokens[i], list.actual->text);
    if (!is_it) {
      return Lie(
          fmt::format("the server echoes another token at position {} than was sent: its tokenizer is another", i));
    }
    for (const ListedToken& listed : list.top) {
      const bool is_same = list.actual->id ? listed.id == list.actual->id : listed.text == list.actual->text;
      if (i > 0 && is_same &&
          std::abs(std::exp(listed.log_probability) - std::exp(list.actual->log_probability)) > kSameNumber) {
        return Lie(fmt::format("two probabilities of one token at position {}", i));
      }
    }
  }
  return {};
}

Result<std::optional<Completion>> ApiModel::Request(const ApiOffer& offer, std::span<const uint32_t> tokens,
                                                    bool may_refuse) {
  SLUICE_ASSIGN(const std::string json, RequestJson(offer, tokens));
  SLUICE_ASSIGN(const io::HttpResponse response,
                client_->Send({reference_.url.ToString() + "/completions", json, may_refuse}));
  if (response.status >= 400) return std::optional<Completion>();
  SLUICE_ASSIGN(Completion completion, ParseCompletion(response.body, offer.shape));
  SLUICE_TRY(CheckAnswer(offer, tokens, completion));
  return std::optional(std::move(completion));
}

Result<std::vector<PartialDistribution>> ApiModel::AskBy(const ApiOffer& offer, std::span<const uint32_t> challenge,
                                                         std::span<const uint32_t> positions) {
  std::vector<PartialDistribution> answers;
  std::optional<Completion> all;
  if (offer.shape != AnswerShape::kNext) {
    SLUICE_ASSIGN(all, Request(offer, challenge, false));
  }
  for (const uint32_t position : positions) {
    SLUICE_CHECK(position >= 1 && position < challenge.size());
    PositionList list;
    if (all) {
      list = std::move(all->lists[position]);
    } else {
      SLUICE_ASSIGN(const auto answer, Request(offer, challenge.first(position), false));
      if (answer->lists.empty()) {  // an end of text was the likeliest, and is not listed
        answers.emplace_back();
        continue;
      }
      list = answer->lists[0];
    }
    auto distribution = ToDistribution(list, offer.num_top, texts_);
    if (!distribution) return Fail(std::move(distribution.error()).In(fmt::format("position {}", position)));
    answers.push_back(std::move(*distribution));
  }
  return answers;
}

Result<std::vector<PartialDistribution>> ApiModel::Ask(std::span<const uint32_t> challenge,
                                                       std::span<const uint32_t> positions) {
  auto answers = AskBy(offer_, challenge, positions);
  if (!answers) return Fail(std::move(answers.error()).In(reference_.ToString()));
  return answers;
}

Result<std::vector<PartialDistribution>> ApiModel::AskForIds(std::span<const uint32_t> challenge,
                                                             std::span<const uint32_t> positions,
                                                             std::span<const std::vector<uint32_t>> coarse_ids) {
  SLUICE_CHECK(offer_.scores_ids && coarse_ids.size() == positions.size());
  SLUICE_ASSIGN(auto answers, Ask(challenge, positions));
  for (size_t i = 0; i < positions.size(); ++i) {
    for (const uint32_t id : coarse_ids[i]) {
      if (answers[i].Find(id) != nullptr) continue;
      std::vector<uint32_t> candidate(challenge.begin(), challenge.begin() + positions[i]);
      candidate.push_back(id);
      auto answer = Request(offer_, candidate, false);
      if (!answer) return Fail(std::move(answer.error()).In(reference_.ToString()));
      const auto& actual = (*answer)->lists[positions[i]].actual;
      if (!actual) return Lie("an echoed token has no probability");
      const PartialDistribution::Entry entry{id, std::min(1.0, std::exp(actual->log_probability))};
      auto& known = answers[i].known;
      known.insert(std::ranges::lower_bound(known, id, {}, &PartialDistribution::Entry::id), entry);
    }
    SLUICE_TRY_IN(reference_.ToString(), CheckPartial(answers[i]));
  }
  return answers;
}

Result<bool> ApiModel::Gives(ApiOffer* offer, std::span<const uint32_t> challenge) {
  std::vector<uint64_t> tops(kUsualTops.begin(), kUsualTops.end());
  if (num_top_ > 0) tops = {num_top_};
  for (const uint64_t top : tops) {
    offer->num_top = top;
    SLUICE_ASSIGN(const std::string json, RequestJson(*offer, challenge));
    SLUICE_ASSIGN(const io::HttpResponse response,
                  client_->Send({reference_.url.ToString() + "/completions", json, true}));
    if (response.status == 401 || response.status == 403 || response.status == 404) {
      return Fail(ErrorCode::kRead,
                  fmt::format("HTTP {}: {}", response.status,
                              response.status == 404 ? "the server has no such address or model"
                                                     : "the server does not accept the key, or wants one "
                                                       "(SLUICE_API_KEY in the environment)"));
    }
    if (response.status >= 400) continue;
    takes_ids_ |= offer->prompt_ids;
    auto parsed = ParseCompletion(response.body, offer->shape);
    if (!parsed) return false;  // another shape, perhaps
    const size_t wanted = offer->shape == AnswerShape::kNext ? 1 : challenge.size();
    if (parsed->lists.size() < wanted) return false;
    const PositionList& last = parsed->lists[wanted - 1];
    if (last.top.empty()) return false;
    if (offer->answer_ids && !last.top[0].id) return false;  // not understood, and not needed then
    SLUICE_TRY(CheckAnswer(*offer, challenge, *parsed));
    // Servers with a smaller limit of their own say nothing of it. The actual token comes on top of what was asked for.
    if (last.top.size() < top && last.top.size() < texts_.size()) {
      const bool by_ids = last.top[0].id.has_value();
      if (num_top_ > 0 && by_ids) {
        return Fail(ErrorCode::kUnsupported,
                    fmt::format("the server lists {} tokens where {} were asked for: give --api-top {}",
                                last.top.size(), top, last.top.size()));
      }
      if (by_ids) continue;
    }
    return true;
  }
  return false;
}

Result<ApiOffer> ApiModel::Probe(std::span<const uint32_t> challenge) {
  SLUICE_CHECK(challenge.size() >= 4);
  const auto probe = [&]() -> Result<ApiOffer> {
    // Dearest offers last. As text only what can be sent so.
    for (const bool prompt_ids : {true, false}) {
      if (!prompt_ids && takes_ids_) break;  // text would tell no more
      for (const AnswerShape shape : {AnswerShape::kEcho, AnswerShape::kPromptLists, AnswerShape::kNext}) {
        for (const bool answer_ids : {true, false}) {
          ApiOffer offer{.shape = shape, .prompt_ids = prompt_ids, .answer_ids = answer_ids};
          if (auto text = RequestJson(offer, challenge); !text) {
            if (num_top_ > 0) {
              text.error().message += fmt::format(" (or the server gives no lists of {} tokens: --api-top)", num_top_);
            }
            return Fail(std::move(text.error()));
          }
          SLUICE_ASSIGN(const bool gives, Gives(&offer, challenge));
          if (!gives) continue;
          const double before = client_->stats().seconds;
          const uint64_t requests = client_->stats().num_requests;
          const std::vector<uint32_t> positions = AllPositions(challenge.size());
          SLUICE_ASSIGN(const auto lists, AskBy(offer, challenge, positions));
          offer.seconds_a_request =
              (client_->stats().seconds - before) / static_cast<double>(client_->stats().num_requests - requests);
          if (shape != AnswerShape::kNext) {
            // Held against what the same server says of the middle position alone.
            ApiOffer plain = offer;
            plain.shape = AnswerShape::kNext;
            const std::vector<uint32_t> middle = {static_cast<uint32_t>(challenge.size() / 2)};
            SLUICE_ASSIGN(const bool gives_plain, Gives(&plain, challenge.first(middle[0])));
            if (!gives_plain) continue;
            SLUICE_ASSIGN(const auto alone, AskBy(plain, challenge, middle));
            const auto bounds = TotalVariationBounds(lists[middle[0] - 1], alone[0]);
            if (bounds.lower > 10 * kSameNumber) continue;
            offer.scores_ids = shape == AnswerShape::kEcho;
          }
          for (const PartialDistribution& list : lists)
            offer.mean_rest += list.Rest() / static_cast<double>(lists.size());
          offer.num_probed = lists.size();
          return offer;
        }
      }
    }
    return Fail(
        ErrorCode::kUnsupported,
        "the server answers /completions without log-probabilities of the likeliest tokens: nothing to compare");
  };
  auto offer = probe();
  if (!offer) return Fail(std::move(offer.error()).In(reference_.ToString()));
  offer_ = *offer;
  return offer;
}

DistanceBounds ChallengeBounds(std::span<const PartialDistribution> a, std::span<const PartialDistribution> b) {
  SLUICE_CHECK(!a.empty() && a.size() == b.size());
  DistanceBounds mean{0, 0};
  for (size_t i = 0; i < a.size(); ++i) {
    const DistanceBounds one = TotalVariationBounds(a[i], b[i]);
    mean.lower += one.lower;
    mean.upper += one.upper;
  }
  mean.lower /= static_cast<double>(a.size());
  mean.upper /= static_cast<double>(a.size());
  return mean;
}

Result<double> ChallengeCoarseScore(std::span<const PartialDistribution> a, std::span<const PartialDistribution> b,
                                    std::span<const std::vector<uint32_t>> ids) {
  SLUICE_CHECK(!a.empty() && a.size() == b.size() && a.size() == ids.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    SLUICE_ASSIGN(const double one, CoarseDistance(a[i], b[i], ids[i]));
    sum += one;
  }
  return sum / static_cast<double>(a.size());
}

Result<void> CheckRepeat(std::span<const PartialDistribution> first, std::span<const PartialDistribution> again,
                         double gamma) {
  const double apart = ChallengeBounds(first, again).lower;
  if (apart <= MostRepeatDistance(gamma)) return {};
  return Lie(
      fmt::format("the same request was answered otherwise the second time: {:.4g} apart, where {:.4g} (a quarter "
                  "of gamma) can be borne: the server's model or its arithmetic changes from request to request",
                  apart, MostRepeatDistance(gamma)));
}

}  // namespace sluice::verify::api_model
