#include "verify/api_model/api_model.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "verify/testing/fake_completions.h"

namespace sluice::verify::api_model {
namespace {

using ::testing::HasSubstr;
using Ways = FakeCompletions::Ways;

const std::vector<uint32_t> kChallenge = {3, 14, 15, 9, 26, 5, 35, 8};
const std::vector<uint32_t> kPositions = {1, 2, 3, 4, 5, 6, 7};

struct Asked {
  std::unique_ptr<ApiModel> model;
  FakeCompletions* server;
};

Asked Make(const Ways& ways, uint64_t num_top = 0) {
  auto server = std::make_unique<FakeCompletions>(ways);
  auto* raw = server.get();
  auto reference = ParseApiReference("api+https://host.example/v1#model");
  EXPECT_TRUE(reference);
  return {std::make_unique<ApiModel>(*reference, std::move(server), FakeCompletions::Texts(), nullptr, num_top), raw};
}

// All that there is to know.
PartialDistribution Whole(const Ways& ways, uint32_t position) {
  PartialDistribution whole{.known = {}, .cap = 0};
  const auto p = FakeCompletions::Distribution(std::span(kChallenge).first(position), ways);
  for (uint32_t id = 0; id < p.size(); ++id) whole.known.push_back({id, p[id]});
  return whole;
}

std::string ErrorOf(const auto& result) { return result ? "no error" : result.error().ToString(); }

TEST(ApiModelTest, FindsOutWhatAServerOffersAndTakesTheCheapest) {
  struct Case {
    std::string what;
    Ways ways;
    AnswerShape shape;
    bool answer_ids;
    uint64_t top;
  };
  for (const Case& one : {
           Case{"all", {}, AnswerShape::kEcho, true, 20},
           Case{"texts", {.answer_ids = false}, AnswerShape::kEcho, false, 20},
           Case{"five", {.max_top = 5}, AnswerShape::kEcho, true, 5},
           Case{"one", {.answer_ids = false, .max_top = 4}, AnswerShape::kEcho, false, 1},
           Case{"prompt lists", {.echo = false, .prompt_lists = true}, AnswerShape::kPromptLists, true, 20},
           Case{"the next alone", {.echo = false}, AnswerShape::kNext, true, 20},
           Case{"the next alone by texts", {.echo = false, .answer_ids = false}, AnswerShape::kNext, false, 20},
           Case{"contents with ids",
                {.echo = false, .answer_ids = false, .content = true},
                AnswerShape::kNext,
                false,
                20},
           Case{"an echo of other positions", {.echo_is_late = true}, AnswerShape::kNext, true, 20},
       }) {
    Asked asked = Make(one.ways);
    const auto offer = asked.model->Probe(kChallenge);
    ASSERT_TRUE(offer) << one.what << ": " << ErrorOf(offer);
    EXPECT_EQ(offer->shape, one.shape) << one.what;
    EXPECT_EQ(offer->answer_ids, one.answer_ids) << one.what;
    EXPECT_EQ(offer->num_top, one.top) << one.what;
    EXPECT_EQ(offer->scores_ids, one.shape == AnswerShape::kEcho) << one.what;
    EXPECT_TRUE(offer->prompt_ids) << one.what;
    EXPECT_EQ(offer->num_probed, kPositions.size()) << one.what;
    EXPECT_EQ(offer->seconds_a_request, 0.25) << one.what;
    const uint64_t before = asked.server->num_requests();
    const auto answers = asked.model->Ask(kChallenge, kPositions);
    ASSERT_TRUE(answers) << one.what << ": " << ErrorOf(answers);
    EXPECT_EQ(asked.server->num_requests() - before, one.shape == AnswerShape::kNext ? kPositions.size() : 1)
        << one.what;
    double rest = 0;
    for (size_t i = 0; i < kPositions.size(); ++i) {
      const PartialDistribution truth = Whole(one.ways, kPositions[i]);
      for (const auto& [id, probability] : (*answers)[i].known) {
        EXPECT_NEAR(probability, truth.known[id].probability, 1e-12) << one.what;
      }
      EXPECT_TRUE(std::ranges::all_of(truth.known,
                                      [&](const auto& entry) {
                                        return (*answers)[i].Find(entry.id) != nullptr ||
                                               entry.probability <= (*answers)[i].cap + 1e-12;
                                      }))
          << one.what << ": the cap holds";
      const auto [lower, upper] = TotalVariationBounds(truth, (*answers)[i]);
      EXPECT_NEAR(lower, 0, 1e-9) << one.what << ": against itself";
      EXPECT_NEAR(upper, (*answers)[i].Rest(), 1e-9) << one.what;
      rest += (*answers)[i].Rest() / static_cast<double>(kPositions.size());
    }
    EXPECT_NEAR(offer->mean_rest, rest, 1e-9) << one.what << ": the floor is what the lists leave out";
  }
}

TEST(ApiModelTest, AListOfTheLengthWantedOrNone) {
  Asked exact = Make({.max_top = 60}, 40);
  const auto offer = exact.model->Probe(kChallenge);
  ASSERT_TRUE(offer) << ErrorOf(offer);
  EXPECT_EQ(offer->num_top, 40u);
  const auto refused = Make({.max_top = 20}, 40).model->Probe(kChallenge);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(ErrorOf(refused), HasSubstr("gives no lists of 40 tokens"));
  Asked whole = Make({.max_top = 60}, 60);
  ASSERT_TRUE(whole.model->Probe(kChallenge));
  const auto answers = whole.model->Ask(kChallenge, kPositions);
  ASSERT_TRUE(answers) << ErrorOf(answers);
  const Ways other{.seed = 2};
  for (size_t i = 0; i < kPositions.size(); ++i) {
    const auto [lower, upper] = TotalVariationBounds(Whole(other, kPositions[i]), (*answers)[i]);
    EXPECT_NEAR(lower, upper, 1e-9) << "all of the vocabulary leaves nothing open";
    EXPECT_GT(lower, 0.05);
  }
}

TEST(ApiModelTest, AnotherModelIsApartByTheLowerBound) {
  Asked a = Make({}), b = Make({.seed = 2});
  ASSERT_TRUE(a.model->Probe(kChallenge));
  ASSERT_TRUE(b.model->Probe(kChallenge));
  const auto in_a = a.model->Ask(kChallenge, kPositions), in_b = b.model->Ask(kChallenge, kPositions);
  ASSERT_TRUE(in_a && in_b);
  const auto apart = ChallengeBounds(*in_a, *in_b), same = ChallengeBounds(*in_a, *in_a);
  EXPECT_GT(apart.lower, 0.3);
  EXPECT_EQ(same.lower, 0);
  EXPECT_GT(same.upper, 0) << "two lists of one model leave a rest open";
  EXPECT_TRUE(CheckRepeat(*in_a, *in_a, 0.025));
  EXPECT_FALSE(CheckRepeat(*in_a, *in_b, 0.025));
}

// What a stranger may send. After an honest probe, each lie ends in kCorrupt, and says what it is.
TEST(ApiModelTest, LiesAreCorrupt) {
  using Json = nlohmann::json;
  bool lying = false;
  std::function<void(Json*)> lie;
  const auto error = [&](Ways ways, std::function<void(Json*)> what) {
    lying = false;
    lie = std::move(what);
    ways.lie = [&](Json* answer) {
      if (lying) lie(answer);
    };
    Asked asked = Make(ways);
    EXPECT_TRUE(asked.model->Probe(kChallenge));
    lying = true;
    const auto answers = asked.model->Ask(kChallenge, kPositions);
    if (answers) return std::string("no error");
    EXPECT_EQ(answers.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(answers.error().ToString(), HasSubstr("api+https://host.example/v1#model: "));
    return answers.error().ToString();
  };
  const auto logprobs = [](Json* answer) -> Json& { return (*answer)["choices"][0]["logprobs"]; };
  const Ways echo, next{.echo = false}, texts{.answer_ids = false};
  EXPECT_THAT(error(echo, [](Json*) {}), HasSubstr("no error")) << "the check can pass";
  EXPECT_THAT(error(echo, [](Json* a) { (*a)["model"] = "modelx"; }), HasSubstr("another model answers: model was"));
  EXPECT_THAT(error(echo, [](Json* a) { (*a)["model"] = "model-2"; }),
              HasSubstr("than before: model-2 now, model then"));
  EXPECT_THAT(error(echo, [](Json* a) { a->erase("model"); }), HasSubstr("than before"));
  EXPECT_THAT(error(echo, [](Json* a) { (*a)["usage"]["prompt_tokens"] = 9; }), HasSubstr("saw 9 tokens where 8"));
  EXPECT_THAT(error(echo, [](Json* a) { (*a)["usage"]["prompt_tokens"] = -1; }), HasSubstr("prompt_tokens"));
  EXPECT_THAT(error(echo, [](Json* a) { (*a)["choices"].push_back((*a)["choices"][0]); }), HasSubstr("more than one"));
  EXPECT_THAT(error(echo, [](Json* a) { a->erase("choices"); }), HasSubstr("no choices"));
  EXPECT_THAT(error(echo, [&](Json* a) { logprobs(a) = nullptr; }), HasSubstr("no logprobs"));
  EXPECT_THAT(error(echo, [&](Json* a) { logprobs(a)["tokens"][2] = "token_id:1"; }), HasSubstr("another token"));
  EXPECT_THAT(error(texts, [&](Json* a) { logprobs(a)["tokens"][2] = "t1"; }), HasSubstr("another token"));
  EXPECT_THAT(error(echo, [&](Json* a) { logprobs(a)["tokens"].erase(0); }), HasSubstr("8 tokens, 9 token_logprobs"));
  EXPECT_THAT(error(echo, [&](Json* a) { logprobs(a)["top_logprobs"][3] = nullptr; }), HasSubstr("position 3 has no"));
  EXPECT_THAT(error(echo, [&](Json* a) { logprobs(a)["top_logprobs"][3] = "x"; }), HasSubstr("no list of tokens"));
  EXPECT_THAT(error(echo, [&](Json* a) { logprobs(a)["token_logprobs"][4] = -1e-9; }), HasSubstr("two probabilities"));
  EXPECT_THAT(error(echo, [&](Json* a) { logprobs(a)["token_logprobs"][4] = 0.5; }),
              HasSubstr("a log-probability of 0.5"));
  EXPECT_THAT(error(echo, [&](Json* a) { logprobs(a)["token_logprobs"][4] = "x"; }), HasSubstr("is no number"));
  for (const Ways& ways : {echo, next}) {
    const auto all_lists = [&](Json* a, const std::function<void(Json&)>& change) {
      for (Json& one : logprobs(a)["top_logprobs"]) {
        if (!one.is_null()) change(one);
      }
    };
    EXPECT_THAT(error(ways, [&](Json* a) { all_lists(a, [](Json& l) { l.erase(l.begin()), l.erase(l.begin()); }); }),
                HasSubstr("tokens where 20 were asked for"));
    EXPECT_THAT(error(ways,
                      [&](Json* a) {
                        all_lists(a, [](Json& l) {
                          for (int id = 0; id < 40; ++id) l.emplace("token_id:" + std::to_string(id), -9.0);
                        });
                      }),
                HasSubstr("where 20 were asked for"));
    EXPECT_THAT(error(ways, [&](Json* a) { all_lists(a, [](Json& l) { l.begin().value() = 1.0; }); }),
                HasSubstr("a log-probability of 1"));
    EXPECT_THAT(error(ways, [&](Json* a) { all_lists(a, [](Json& l) { l.begin().value() = nullptr; }); }),
                HasSubstr("no number"));
    EXPECT_THAT(error(ways,
                      [&](Json* a) {
                        all_lists(a, [](Json& l) {
                          for (auto& value : l) value = -0.1;
                        });
                        logprobs(a)["token_logprobs"] = Json::array();
                        for (size_t i = 0; i < logprobs(a)["tokens"].size(); ++i) {
                          logprobs(a)["token_logprobs"].push_back(-0.1);
                        }
                      }),
                HasSubstr("more than 1"));
    EXPECT_THAT(error(ways,
                      [&](Json* a) {
                        all_lists(a, [](Json& l) {
                          const double value = l.begin().value();
                          l.erase(l.begin());
                          l["token_id:60"] = value;
                        });
                      }),
                HasSubstr("token 60 is not in a vocabulary of 60"));
  }
}

TEST(ApiModelTest, WhatTheWireDoesIsTheError) {
  Ways ways;
  std::string body;
  ErrorCode code = ErrorCode::kRead;
  const auto error = [&] {
    ways.fail = nullptr;
    Asked honest = Make(ways);
    const auto offer = honest.model->Probe(kChallenge);
    ways.fail = [&]() -> Result<io::HttpResponse> {
      if (body.empty()) return Fail(code, "no answer in time");
      return io::HttpResponse{200, "application/json", body};
    };
    Asked asked = Make(ways);
    asked.model->Take(*offer);
    const auto answers = asked.model->Ask(kChallenge, kPositions);
    EXPECT_FALSE(answers);
    return answers ? "no error" : fmt::format("{} {}", CodeName(answers.error().code), answers.error().message);
  };
  EXPECT_EQ(error(), "read no answer in time");
  code = ErrorCode::kCancelled;
  EXPECT_EQ(error(), "cancelled no answer in time");
  for (const char* garbage : {"<html>", "{", "null", "[]", "{\"choices\": NaN}", "{\"choices\": [3]}", "\xff\xfe"}) {
    body = garbage;
    EXPECT_THAT(error(), HasSubstr("corrupt the server's answer is not what was asked for")) << garbage;
  }
}

// A model that ends at once gives no list: nothing is known there, and nothing is claimed.
TEST(ApiModelTest, AnEndOfTextLeavesEverythingOpen) {
  bool ends = false;
  Ways ways{.echo = false};
  ways.lie = [&](nlohmann::json* answer) {
    if (!ends) return;
    auto& logprobs = (*answer)["choices"][0]["logprobs"];
    for (const char* key : {"tokens", "token_logprobs", "top_logprobs"}) logprobs[key] = nlohmann::json::array();
  };
  Asked asked = Make(ways);
  ASSERT_TRUE(asked.model->Probe(kChallenge));
  ends = true;
  const auto answers = asked.model->Ask(kChallenge, kPositions);
  ASSERT_TRUE(answers) << ErrorOf(answers);
  const auto [lower, upper] = ChallengeBounds(*answers, *answers);
  EXPECT_EQ(lower, 0);
  EXPECT_EQ(upper, 1);
}

TEST(ApiModelTest, AnswersThatChangeAreFound) {
  for (const double noise : {0.0, 0.002, 0.5}) {
    Asked asked = Make({.noise = noise});
    ASSERT_TRUE(asked.model->Probe(kChallenge)) << noise;
    const auto first = asked.model->Ask(kChallenge, kPositions), again = asked.model->Ask(kChallenge, kPositions);
    ASSERT_TRUE(first && again);
    const auto checked = CheckRepeat(*first, *again, 0.025);
    EXPECT_EQ(checked.has_value(), noise < 0.1) << noise;
    if (!checked) EXPECT_THAT(checked.error().message, HasSubstr("answered otherwise the second time"));
  }
}

TEST(ApiModelTest, IdsBeyondTheListsAreAskedForOneByOne) {
  const Ways ways{.max_top = 5};
  Asked asked = Make(ways);
  ASSERT_TRUE(asked.model->Probe(kChallenge));
  std::vector<std::vector<uint32_t>> ids(kPositions.size());
  size_t missing = 0;
  const auto lists = asked.model->Ask(kChallenge, kPositions);
  ASSERT_TRUE(lists);
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = {1, 7, 33};
    for (const uint32_t id : ids[i]) missing += (*lists)[i].Find(id) == nullptr ? 1u : 0u;
  }
  const uint64_t before = asked.server->num_requests();
  const auto answers = asked.model->AskForIds(kChallenge, kPositions, ids);
  ASSERT_TRUE(answers) << ErrorOf(answers);
  EXPECT_EQ(asked.server->num_requests() - before, 1 + missing);
  std::vector<PartialDistribution> truth, other;
  for (const uint32_t position : kPositions) {
    truth.push_back(Whole(ways, position));
    other.push_back(Whole({.seed = 2}, position));
  }
  const auto same = ChallengeCoarseScore(truth, *answers, ids), apart = ChallengeCoarseScore(other, *answers, ids);
  ASSERT_TRUE(same && apart);
  EXPECT_NEAR(*same, 0, 1e-9) << "scored ids leave nothing open";
  EXPECT_GT(*apart, 0.01);
  EXPECT_FALSE(ChallengeCoarseScore(truth, *lists, ids)) << "what was not scored is no score";
}

TEST(ApiModelTest, WithoutATokenizerIdsAloneCanBeSent) {
  Asked asked = Make({.prompt_ids = false});
  const auto offer = asked.model->Probe(kChallenge);
  ASSERT_FALSE(offer);
  EXPECT_EQ(offer.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(ErrorOf(offer), HasSubstr("cannot be sent as text"));
}

TEST(ApiModelTest, References) {
  EXPECT_FALSE(IsApiReference("https://host/v1"));
  const auto good = ParseApiReference("api+https://Host.example:8443/v1/#org/model:free");
  ASSERT_TRUE(good);
  EXPECT_EQ(good->ToString(), "api+https://host.example:8443/v1#org/model:free");
  EXPECT_TRUE(ParseApiReference("api+http://127.0.0.1:8000/v1#m"));
  for (const auto& [ref, why] : std::initializer_list<std::pair<const char*, const char*>>{
           {"api+https://host/v1", "needs the name"},
           {"api+https://host/v1#", "needs the name"},
           {"api+http://host/v1#m", "take api+https://"},
           {"api+https://me:sesame@host/v1#m", "user or password"},
           {"api+https://host/v1?key=sesame#m", "a query"},
           {"api+ftp://host/v1#m", "neither http nor https"},
           {"api+https://host/v1#a\nb", "control characters"},
       }) {
    const auto bad = ParseApiReference(ref);
    ASSERT_FALSE(bad) << ref;
    EXPECT_EQ(bad.error().code, ErrorCode::kUsage);
    EXPECT_THAT(bad.error().message, HasSubstr(why)) << ref;
    EXPECT_THAT(bad.error().message, ::testing::Not(HasSubstr("sesame")));
  }
}

TEST(ApiModelTest, TheCostIsWhatWillBeAsked) {
  ApiOffer offer{.shape = AnswerShape::kEcho, .seconds_a_request = 0.5};
  ApiCost cost = CostOf(offer, 100, 64, 63, 0);
  EXPECT_EQ(cost.num_requests, 100u);
  EXPECT_EQ(cost.num_prompt_tokens, 6400u);
  EXPECT_EQ(cost.seconds, 50);
  cost = CostOf(offer, 100, 64, 63, 2);
  EXPECT_EQ(cost.num_requests, 100u + 100 * 63 * 2);
  offer.shape = AnswerShape::kNext;
  cost = CostOf(offer, 100, 64, 63, 0);
  EXPECT_EQ(cost.num_requests, 6300u);
  EXPECT_EQ(cost.num_prompt_tokens, 100u * (63 * 64 / 2));
  cost = CostOf(offer, 100, 64, 1, 0);
  EXPECT_EQ(cost.num_requests, 100u);
  EXPECT_EQ(cost.num_prompt_tokens, 6300u);
}

TEST(TokenTextsTest, OnlyWhatCannotBeAnythingElseIsAToken) {
  const TokenTexts texts(
      {{"a"}, {" b", "b"}, {"b"}, {"\xc3", "\xc3"}, {"\xc3\xa9"}, {"x\xff"}, {"x"}, {""}, {"\xef\xbf\xbd"}});
  EXPECT_EQ(texts.size(), 9u);
  EXPECT_EQ(texts.Find("a"), 0u);
  EXPECT_EQ(texts.Find(" b"), 1u);
  EXPECT_EQ(texts.Find("b"), std::nullopt) << "two look so";
  EXPECT_EQ(texts.Find("\xc3\xa9"), 4u);
  EXPECT_EQ(texts.Find("x"), std::nullopt) << "one looks so where broken bytes are left out";
  EXPECT_EQ(texts.Find(""), std::nullopt);
  EXPECT_EQ(texts.Find("\xef\xbf\xbd"), std::nullopt) << "broken bytes look so";
  EXPECT_EQ(texts.Find("nowhere"), std::nullopt);
  EXPECT_TRUE(texts.MayLookLike(1, "b"));
  EXPECT_TRUE(texts.MayLookLike(3, ""));
  EXPECT_FALSE(texts.MayLookLike(0, "b"));
  EXPECT_FALSE(texts.MayLookLike(99, "a"));
}

// A list by texts in which two tokens fell together says less than its length does.
TEST(CompletionTest, CapsOfListsByTexts) {
  const TokenTexts texts = FakeCompletions::Texts();
  const auto listed = [](const char* text, double p) { return ListedToken{text, std::nullopt, std::log(p)}; };
  const auto cap = [&](PositionList list, uint64_t top) {
    const auto distribution = ToDistribution(list, top, texts);
    return distribution ? distribution->cap : -1;
  };
  const auto a = listed("t1", 0.4), b = listed("t2", 0.2), c = listed("t3", 0.1), low = listed("t4", 0.01);
  EXPECT_NEAR(cap({a, {a, b, c}}, 3), 0.1, 1e-12) << "the actual token ranks: three of three";
  EXPECT_NEAR(cap({low, {a, b, c, low}}, 3), 0.1, 1e-12) << "it comes on top of three";
  EXPECT_EQ(cap({low, {a, b, low}}, 3), 1) << "one of three is hidden, and may be large";
  EXPECT_EQ(cap({a, {a, b}}, 3), 1);
  EXPECT_EQ(cap({{}, {a, b, c}}, 3), 1) << "nothing is known of the actual token";
  EXPECT_NEAR(cap({a, {a, listed("t50", 0.3), c}}, 3), 0.3, 1e-12) << "two tokens look so: either has so much";
  EXPECT_EQ(cap({a, {a, b, c, low, listed("t5", 0.001)}}, 3), -1) << "too long";
}

}  // namespace
}  // namespace sluice::verify::api_model
