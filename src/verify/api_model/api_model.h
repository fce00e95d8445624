// ApiModel: a model behind an OpenAI-compatible server, asked for its next-token distributions after each token of a
// challenge, as far as the server tells them (partial_distribution.h). docs/api_models.md.
//
// A stranger is believed as little as can be: another model that answers, another number of tokens, lists of other
// lengths, tokens that were not sent, probabilities above 1, answers that change when the same is asked again: all
// that is kCorrupt, and a verdict of it is INVALID. What is believed is that the numbers are those of the model's
// distributions: nothing sent over a wire can show more.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/http_client.h"
#include "tokenizer/tokenizer.h"
#include "verify/api_model/completion.h"
#include "verify/api_model/partial_distribution.h"
#include "verify/api_model/token_texts.h"

namespace sluice::verify::api_model {

// api+https://host[:port]/v1#model, or api+http:// for a server of this machine.
struct ApiReference {
  io::HttpUrl url;    // of /v1: "/completions" is added
  std::string model;  // as the server names it
  std::string ToString() const;
};
bool IsApiReference(std::string_view ref);  // begins with "api+"
// kUsage, saying what is wrong; shows no password.
Result<ApiReference> ParseApiReference(std::string_view ref);

// What a server was found to offer.
struct ApiOffer {
  AnswerShape shape = AnswerShape::kNext;
  bool prompt_ids = false;  // prompts as token ids
  bool answer_ids = false;  // "return_tokens_as_token_ids" is understood
  uint64_t num_top = 0;     // tokens to a list
  bool scores_ids = false;  // an echoed token's own probability is told: any id can be scored, with one request each
  double seconds_a_request = 0;  // of the probe
  double mean_rest = 0;          // mean over the probe's positions of what the lists leave out: the floor
  uint64_t num_probed = 0;       // positions of which
};

// Before a run: what `num_challenges` of `num_positions` scored positions each will ask. `coarse_ids`: ids to score
// beyond the lists, 0 for bounds.
struct ApiCost {
  uint64_t num_requests = 0, num_prompt_tokens = 0;
  double seconds = 0;
};
ApiCost CostOf(const ApiOffer& offer, uint64_t num_challenges, uint64_t challenge_tokens, uint64_t num_positions,
               uint64_t coarse_ids);

class ApiModel {
 public:
  // A list of the wanted length, at most; 0: the longest of 20, 5 and 1 that the server gives.
  ApiModel(ApiReference reference, std::unique_ptr<io::HttpClient> client, TokenTexts texts,
           std::shared_ptr<const tokenizer::Tokenizer> tokenizer, uint64_t num_top);

  // Finds out what the server offers by asking for a challenge that is not part of the test, of 4 tokens or more.
  // Shapes that it refuses (4xx, 500) or does not know are passed over; an echo counts only where its lists are those
  // that it gives without (llama-cpp-python's are of the next position). kUnsupported where nothing serves; else as
  // Ask.
  Result<ApiOffer> Probe(std::span<const uint32_t> challenge);
  // What an earlier Probe of the same server said: for replays and further sides.
  void Take(const ApiOffer& offer) { offer_ = offer; }

  // Distributions of the token at each of `positions` (ascending, 1 to challenge.size() - 1), after all before it.
  // Where the model ended there (an end of text) nothing is known. kRead, kCorrupt, kCancelled; kUsage as
  // CheckSendable.
  Result<std::vector<PartialDistribution>> Ask(std::span<const uint32_t> challenge,
                                               std::span<const uint32_t> positions);
  // The same, with these ids of each position known too (coarse_ids[i] of positions[i], ascending): asked for one by
  // one where lists do not have them. Needs ApiOffer::scores_ids.
  Result<std::vector<PartialDistribution>> AskForIds(std::span<const uint32_t> challenge,
                                                     std::span<const uint32_t> positions,
                                                     std::span<const std::vector<uint32_t>> coarse_ids);

  // Whether a challenge can be sent so that the server sees these ids: as ids, or as text that encodes to them again.
  // kCorrupt otherwise.
  Result<void> CheckSendable(std::span<const uint32_t> challenge) const;

  const ApiReference& reference() const { return reference_; }
  const ApiOffer& offer() const { return offer_; }
  const io::HttpStats& stats() const { return client_->stats(); }
  // As the server names itself in its answers.
  const std::string& answering_model() const { return answering_model_; }

 private:
  Result<std::string> PromptJson(std::span<const uint32_t> tokens, bool as_ids) const;
  Result<std::string> RequestJson(const ApiOffer& offer, std::span<const uint32_t> tokens) const;
  // nullopt: refused, with refusals allowed.
  Result<std::optional<Completion>> Request(const ApiOffer& offer, std::span<const uint32_t> tokens, bool may_refuse);
  Result<void> CheckAnswer(const ApiOffer& offer, std::span<const uint32_t> tokens, const Completion& answer);
  Result<std::vector<PartialDistribution>> AskBy(const ApiOffer& offer, std::span<const uint32_t> challenge,
                                                 std::span<const uint32_t> positions);
  // Whether the server gives what `offer` says; sets num_top to what it gives.
  Result<bool> Gives(ApiOffer* offer, std::span<const uint32_t> challenge);

  const ApiReference reference_;
  const std::unique_ptr<io::HttpClient> client_;
  const TokenTexts texts_;
  const std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;  // null: ids alone can be sent
  const uint64_t num_top_;
  ApiOffer offer_;
  bool takes_ids_ = false;  // some request with token ids was answered
  std::string answering_model_;
};

// The mean over positions of the bounds, or of the coarse distance: a challenge's score.
DistanceBounds ChallengeBounds(std::span<const PartialDistribution> a, std::span<const PartialDistribution> b);
Result<double> ChallengeCoarseScore(std::span<const PartialDistribution> a, std::span<const PartialDistribution> b,
                                    std::span<const std::vector<uint32_t>> ids);

// How far two answers to the same request may lie apart, as a mean over positions of total variation's lower bound: a
// quarter of the tolerance. A score moves by no more than its sides do, so what is said at gamma holds of either
// answer.
inline double MostRepeatDistance(double gamma) { return gamma / 4; }
// kCorrupt beyond it.
Result<void> CheckRepeat(std::span<const PartialDistribution> first, std::span<const PartialDistribution> again,
                         double gamma);

}  // namespace sluice::verify::api_model
