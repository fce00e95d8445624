#include "cli/compare_api.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <fmt/format.h>

#include "base/units.h"
#include "cli/compare_behaviour.h"
#include "cli/compare_models.h"
#include "cli/pair_scorer.h"
#include "cli/progress_view.h"
#include "cli/run_forward.h"
#include "cli/tokenizer_reference.h"
#include "infer/top_logits_sink.h"
#include "io/atomic_file.h"
#include "io/byte_source.h"
#include "io/http_client.h"
#include "report/api_report.h"
#include "tokenizer/open_tokenizer.h"
#include "verify/api_model/answer_record.h"
#include "verify/api_model/api_result.h"
#include "verify/behaviour/vocabulary_alignment.h"
#include "verify/sequential_test/bounded_decision.h"
#include "verify/sequential_test/keyed_order.h"
#include "verify/sequential_test/sequential_power.h"

namespace sluice::cli {
namespace {

using namespace verify::api_model;
using namespace verify::behaviour;
using tokenizer::Tokenizer;
using verify::sequential_test::Outcome;
using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxPromptsBytes = uint64_t{1} << 30, kMaxRecordBytes = uint64_t{1} << 32;
// Tokens kept of each local position: more than are listed, as what one side lists the other may rank lower.
constexpr uint64_t kLeastKept = 64;
constexpr uint64_t kRepeatEvery = 32;
constexpr uint64_t kProbeTokens = 16, kLeastTokens = 4;
constexpr uint64_t kProbeIndex = uint64_t{1} << 62;  // no challenge of any run
// A body as text, and six times that as parsed JSON.
constexpr uint64_t kBodyFactor = 7;
constexpr double kShowEverySeconds = 5;

struct Side {
  const VerifySide* asked = nullptr;
  std::optional<ApiReference> reference;  // of a server
  std::string secret;
  std::unique_ptr<ApiModel> model;
  std::optional<AnswerRecord> replayed;
  std::optional<AnswerWriter> written;
  VerifiedSide local;
  bool is_api() const { return reference.has_value(); }
};

struct Run {
  Session& session;
  const VerifyRequest& request;
  std::array<Side, 2> sides = {};
  std::shared_ptr<const Tokenizer> tokenizer = {};  // null: tokens go by number
  uint64_t vocabulary = 0;
  std::vector<uint32_t> drawable = {};
  std::vector<std::vector<uint32_t>> challenges = {};
  std::vector<uint32_t> probe = {};
  std::vector<MemoryLease> leases = {};
  // Of the local side.
  std::unique_ptr<infer::ForwardPass> pass = {};
  std::optional<infer::TopLogitsSink> sink = {};
  ApiResult result = {};
  uint64_t bytes_read = 0;

  const ApiRequest& asked() const { return request.behaviour.api; }
  const Side* LocalSide() const {
    const auto found = std::ranges::find_if(sides, [](const Side& side) { return !side.is_api(); });
    return found == sides.end() ? nullptr : found;
  }
};

// OpenAI's key is for OpenAI; ours for whom the user names, and where two servers are named, of the second a key of its
// own.
std::string SecretOf(const Run& run, size_t side) {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr ? value : "");
  };
  const io::HttpUrl& url = run.sides[side].reference->url;
  if (side == 1 && run.sides[0].is_api()) {
    const io::HttpUrl& other = run.sides[0].reference->url;
    if (std::string own = variable("SLUICE_API_KEY_B"); !own.empty()) return own;
    if (url.scheme != other.scheme || url.host != other.host || url.port != other.port) return "";
  }
  if (std::string key = variable("SLUICE_API_KEY"); !key.empty()) return key;
  return url.scheme == "https" && url.host == "api.openai.com" && url.port == 0 ? variable("OPENAI_API_KEY") : "";
}

std::string RecordPath(const std::string& prefix, size_t side) {
  return fmt::format("{}.{}.jsonl", prefix, side == 0 ? "a" : "b");
}

Result<void> OpenSides(Run& run) {
  for (size_t i = 0; i < 2; ++i) {
    Side& side = run.sides[i];
    side.asked = &run.request.sides[i];
    run.result.sides[i].ref = side.asked->ref;
    if (IsApiReference(side.asked->ref)) {
      SLUICE_ASSIGN(side.reference, ParseApiReference(side.asked->ref));
      run.result.sides[i].is_api = true;
      run.result.sides[i].ref = side.reference->ToString();
      continue;
    }
    SLUICE_ASSIGN(side.local, OpenSide(run.session, *side.asked, i == 0 ? "a" : "b"));
  }
  const Side* local = run.LocalSide();
  if (local == nullptr) {
    if (run.asked().tokenizer.empty()) {
      return Fail(
          ErrorCode::kUsage,
          "two servers and no local model: --api-tokenizer names the model, or the file, whose tokens they have");
    }
    SLUICE_ASSIGN(run.tokenizer, OpenTokenizerReference(run.asked().tokenizer, run.session));
    run.vocabulary = run.tokenizer->vocab_size();
    return {};
  }
  SLUICE_ASSIGN(run.vocabulary, VocabularyRows(*local->local.model));
  if (!run.asked().tokenizer.empty()) {
    SLUICE_ASSIGN(run.tokenizer, OpenTokenizerReference(run.asked().tokenizer, run.session));
    return {};
  }
  auto opened = tokenizer::OpenTokenizer(*local->local.model);
  if (opened) {
    run.tokenizer = *opened;
  } else if (opened.error().code != ErrorCode::kNotFound) {
    return Fail(std::move(opened.error()).In(local->asked->ref));
  }
  return {};
}

Result<RunTerms::Model> TermsOf(const Side& side) {
  if (side.is_api()) return RunTerms::Model{};
  SLUICE_ASSIGN(const verify::ModelHeaders headers, verify::HeadersOf(*side.local.model));
  return RunTerms::Model{.config = headers.config_hash,
                         .tokenizer = headers.tokenizer_hash,
                         .headers = verify::HeadersHash(side.local.model->tensors())};
}

Result<void> MakeChallenges(Run& run) {
  const BehaviourRequest& asked = run.request.behaviour;
  ApiResult& result = run.result;
  SLUICE_ASSIGN(const VocabularyAlignment alignment,
                AlignVocabularies(run.tokenizer.get(), run.vocabulary, run.tokenizer.get(), run.vocabulary));
  RunTerms terms;
  std::vector<Prompt> prompts;
  if (!asked.prompts.empty()) {
    if (!run.tokenizer) {
      return FailIn(ErrorCode::kUsage, asked.prompts, "the local model has no tokenizer that could read prompts");
    }
    SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(asked.prompts, kMaxPromptsBytes));
    SLUICE_ASSIGN(prompts, SplitPrompts(text, asked.prompts));
    result.settings.population = prompts.size();
    result.challenges = std::min<uint64_t>(result.challenges, prompts.size());
    result.challenge_tokens = 0;
    terms.prompts = kernels::HashText(text);
  }
  terms.settings = result.settings;
  terms.challenges = result.challenges;
  terms.challenge_tokens = result.challenge_tokens;
  terms.drawable = alignment.drawable.size();
  terms.vocabulary = alignment.DrawableHash();
  SLUICE_ASSIGN(terms.a, TermsOf(run.sides[0]));
  SLUICE_ASSIGN(terms.b, TermsOf(run.sides[1]));
  Json json = TermsJson(terms);
  json["api"] = {{"a", run.sides[0].is_api() ? Json(result.sides[0].ref) : Json(nullptr)},
                 {"b", run.sides[1].is_api() ? Json(result.sides[1].ref) : Json(nullptr)},
                 {"positions", result.positions},
                 {"ids", result.coarse_ids}};
  std::string key_text = asked.key;
  for (const Side& side : run.sides) {
    if (side.replayed && key_text.empty()) key_text = side.replayed->key();
  }
  verify::Nonce key;
  if (key_text.empty()) {
    SLUICE_ASSIGN(key, verify::RandomNonce());
  } else {
    SLUICE_ASSIGN(key, verify::ParseNonce(key_text));
  }
  result.commitment = Commit(key, std::move(json));
  for (size_t i = 0; i < 2; ++i) {
    if (!run.sides[i].replayed || run.sides[i].replayed->run_id() == kernels::ToHex(result.commitment->run_id))
      continue;
    return FailIn(ErrorCode::kCorrupt, RecordPath(run.asked().replay, i),
                  "is of another run: its models, prompts or options were others");
  }
  result.least_same = verify::sequential_test::LeastPossible(verify::sequential_test::Side::kBelow, result.settings);
  result.least_different =
      verify::sequential_test::LeastPossible(verify::sequential_test::Side::kAbove, result.settings);

  if (asked.prompts.empty()) {
    for (uint64_t i = 0; i < result.challenges; ++i) {
      run.challenges.push_back(DrawChallenge(*result.commitment, i, result.challenge_tokens, alignment.drawable));
    }
    run.probe = DrawChallenge(*result.commitment, kProbeIndex, std::min(result.challenge_tokens, kProbeTokens),
                              alignment.drawable);
    return {};
  }
  const std::vector<uint64_t> order = verify::sequential_test::KeyedOrder(key, prompts.size());
  for (uint64_t i = 0; i < result.challenges; ++i) {
    const Prompt& prompt = prompts[order[i]];
    const std::string where = fmt::format("{}: line {}", asked.prompts, prompt.line);
    auto ids = run.tokenizer->Encode(prompt.text);
    if (!ids) return Fail(std::move(ids.error()).In(where));
    if (ids->size() < 2)
      return FailIn(ErrorCode::kCorrupt, where, "has less than two tokens: no position can be scored");
    if (run.probe.size() < kLeastTokens) run.probe.assign(ids->begin(), ids->end());
    run.challenges.push_back(std::move(*ids));
  }
  if (run.probe.size() < kLeastTokens) {
    return FailIn(
        ErrorCode::kUsage, asked.prompts,
        fmt::format("no prompt has {} tokens, which it takes to find out what a server offers", kLeastTokens));
  }
  return {};
}

std::vector<uint32_t> PositionsOf(const Run& run, const std::vector<uint32_t>& challenge) {
  const auto size = static_cast<uint32_t>(challenge.size());
  const uint64_t most = run.result.positions > 0 ? run.result.positions : UINT64_MAX;
  const auto count = static_cast<uint32_t>(std::min<uint64_t>(most, size - 1));
  std::vector<uint32_t> positions(count);
  for (uint32_t i = 0; i < count; ++i) positions[i] = size - count + i;
  return positions;
}

Result<void> OpenServers(Run& run) {
  uint64_t longest = run.probe.size();
  for (const auto& challenge : run.challenges) longest = std::max<uint64_t>(longest, challenge.size());
  const uint64_t top = std::max<uint64_t>(run.asked().top, 20);
  const uint64_t max_body =
      std::clamp<uint64_t>(kMiB + 100 * top * (run.asked().top > 1000 ? 4 : longest), kMiB, 64 * kMiB);
  SLUICE_ASSIGN(MemoryLease lease, run.session.budget.Lease(io::kHttpResidentBytes + kBodyFactor * max_body,
                                                            "the HTTP client and a server's longest answer"));
  run.leases.push_back(std::move(lease));
  for (size_t i = 0; i < 2; ++i) {
    Side& side = run.sides[i];
    if (!side.is_api() || side.replayed) continue;
    side.secret = SecretOf(run, i);
    SLUICE_ASSIGN(auto client, io::HttpClient::Create({.stall_seconds = run.asked().timeout_seconds,
                                                       .total_seconds = 5 * run.asked().timeout_seconds,
                                                       .max_body_bytes = max_body,
                                                       .bearer = side.secret,
                                                       .cancelled = &run.session.cancelled}));
    TokenTexts texts(std::vector<std::vector<std::string>>(run.vocabulary));
    if (run.tokenizer) {
      SLUICE_ASSIGN(texts, TokenTexts::Of(*run.tokenizer, run.vocabulary));
    }
    side.model = std::make_unique<ApiModel>(*side.reference, std::move(client), std::move(texts), run.tokenizer,
                                            run.asked().top);
  }
  return {};
}

// What the servers offer, the floor, and the cost of all challenges.
Result<void> ProbeServers(Run& run) {
  ApiResult& result = run.result;
  uint64_t tokens = 0, positions = 0;
  for (const auto& challenge : run.challenges) {
    tokens += challenge.size();
    positions += PositionsOf(run, challenge).size();
  }
  const uint64_t count = run.challenges.size();
  for (size_t i = 0; i < 2; ++i) {
    Side& side = run.sides[i];
    if (!side.is_api()) continue;
    ApiSide& told = result.sides[i];
    if (side.replayed) {
      told.offer = side.replayed->offer();
      told.answering_model = side.replayed->answering_model();
      told.from_record = true;
    } else {
      SLUICE_ASSIGN(told.offer, side.model->Probe(run.probe));
      told.answering_model = side.model->answering_model();
      for (const auto& challenge : run.challenges) SLUICE_TRY(side.model->CheckSendable(challenge));
      if (!run.asked().record.empty()) {
        side.written.emplace(told.ref, verify::NonceText(result.commitment->key),
                             kernels::ToHex(result.commitment->run_id), told.offer, told.answering_model, side.secret);
      }
    }
    if (result.coarse_ids > 0 && !told.offer.scores_ids) {
      return FailIn(
          ErrorCode::kUnsupported, told.ref,
          "does not tell the probabilities of tokens of a prompt (echo), which --api-ids takes: leave it away");
    }
    told.cost = CostOf(told.offer, count, std::max<uint64_t>(2, tokens / count),
                       std::max<uint64_t>(1, positions / count), result.coarse_ids);
    if (result.coarse_ids == 0) result.floor = std::max(result.floor, told.offer.mean_rest);
  }
  return {};
}

Result<void> OpenLocal(Run& run) {
  const Side* local = run.LocalSide();
  if (local == nullptr) return {};
  infer::TokenBatch batch(run.challenges);
  std::vector<infer::ScoredRange> ranges;
  for (const auto& challenge : run.challenges) {
    const std::vector<uint32_t> positions = PositionsOf(run, challenge);
    ranges.push_back({positions.front(), uint64_t{positions.back()} + 1});
  }
  uint64_t top = 0;
  for (const ApiSide& side : run.result.sides) top = std::max(top, side.offer.num_top);
  const uint64_t kept = std::max({kLeastKept, 2 * top, run.result.coarse_ids});
  SLUICE_ASSIGN(MemoryLease lease,
                run.session.budget.Lease(infer::TopLogitsSink::MemoryBytes(batch, ranges, kept, run.vocabulary),
                                         "the likeliest tokens of each position"));
  run.leases.push_back(std::move(lease));
  std::vector<uint64_t> wanted = infer::PerplexitySink::WantedTiles(batch, ranges);
  SLUICE_ASSIGN(run.pass, infer::ForwardPass::Open({local->local.model.get()}, std::move(batch), std::move(wanted),
                                                   MakePassOptions(run.session)));
  run.sink.emplace(run.pass->batch(), std::move(ranges), kept, run.vocabulary);
  return {};
}

Result<std::vector<PartialDistribution>> LocalAnswers(const Run& run, size_t challenge,
                                                      const std::vector<uint32_t>& positions) {
  std::vector<PartialDistribution> answers;
  for (const uint32_t position : positions) {
    SLUICE_ASSIGN(const infer::TopTokens top, run.sink->Of(challenge, position));
    PartialDistribution answer{.known = {}, .cap = top.cap};
    for (size_t i = 0; i < top.ids.size(); ++i) answer.known.push_back({top.ids[i], top.probabilities[i]});
    answers.push_back(std::move(answer));
  }
  return answers;
}

// The likeliest ids of each position, ascending.
std::vector<std::vector<uint32_t>> LikeliestIds(const std::vector<PartialDistribution>& answers, uint64_t count) {
  std::vector<std::vector<uint32_t>> ids;
  for (const PartialDistribution& answer : answers) {
    auto entries = answer.known;
    std::ranges::stable_sort(entries, std::ranges::greater(), &PartialDistribution::Entry::probability);
    entries.resize(std::min<size_t>(entries.size(), count));
    std::vector<uint32_t> likeliest;
    likeliest.reserve(entries.size());
    for (const auto& entry : entries) likeliest.push_back(entry.id);
    std::ranges::sort(likeliest);
    ids.push_back(std::move(likeliest));
  }
  return ids;
}

Result<std::vector<PartialDistribution>> Ask(Side& side, const AnswerRequest& request) {
  std::vector<PartialDistribution> answers;
  if (side.replayed) {
    SLUICE_ASSIGN(answers, side.replayed->Next(request));
  } else if (request.coarse_ids.empty()) {
    SLUICE_ASSIGN(answers, side.model->Ask(request.challenge, request.positions));
  } else {
    SLUICE_ASSIGN(answers, side.model->AskForIds(request.challenge, request.positions, request.coarse_ids));
  }
  if (side.written) side.written->Add(request, answers);
  return answers;
}

// What was asked of both sides with one challenge, and answered.
struct Exchange {
  std::vector<uint32_t> positions;
  std::vector<std::vector<uint32_t>> ids;  // empty: bounds
  std::array<std::vector<PartialDistribution>, 2> answers;
};

// The side whose likeliest tokens are scored on the other: the local one, else A.
size_t FirstSide(const Run& run) { return run.sides[1].is_api() ? 0 : 1; }

// What is asked of a side: of the first one lists alone.
AnswerRequest RequestOf(const Run& run, size_t i, const Exchange& exchange, size_t side) {
  AnswerRequest request{run.challenges[i], exchange.positions, {}};
  if (side != FirstSide(run)) request.coarse_ids = exchange.ids;
  return request;
}

Result<Exchange> AskOnce(Run& run, size_t i) {
  Exchange exchange{.positions = PositionsOf(run, run.challenges[i]), .ids = {}, .answers = {}};
  const size_t first = FirstSide(run);
  for (const size_t at : {first, 1 - first}) {
    if (run.sides[at].is_api()) {
      SLUICE_ASSIGN(exchange.answers[at], Ask(run.sides[at], RequestOf(run, i, exchange, at)));
    } else {
      SLUICE_ASSIGN(exchange.answers[at], LocalAnswers(run, i, exchange.positions));
    }
    if (at == first && run.result.coarse_ids > 0) {
      exchange.ids = LikeliestIds(exchange.answers[at], run.result.coarse_ids);
    }
  }
  return exchange;
}

// The same requests once more: kCorrupt where the answers are others.
Result<void> AskAgain(Run& run, size_t i, const Exchange& exchange) {
  for (size_t at = 0; at < 2; ++at) {
    if (!run.sides[at].is_api()) continue;
    SLUICE_ASSIGN(const auto again, Ask(run.sides[at], RequestOf(run, i, exchange, at)));
    SLUICE_TRY_IN(run.result.sides[at].ref, CheckRepeat(exchange.answers[at], again, run.result.settings.gamma));
    ++run.result.repeats;
  }
  return {};
}

Result<DistanceBounds> ScoreOf(const Run& run, const Exchange& exchange) {
  if (run.result.coarse_ids == 0) return ChallengeBounds(exchange.answers[0], exchange.answers[1]);
  SLUICE_ASSIGN(const double score, ChallengeCoarseScore(exchange.answers[0], exchange.answers[1], exchange.ids));
  return DistanceBounds{score, score};
}

void ShowProgress(const Run& run, const verify::sequential_test::BoundedTest& test) {
  fmt::print(stderr,
             "behaviour: {} of {} challenges, mean between {:.4g} and {:.4g}, capital of SAME e^{:.2f}, of DIFFERENT "
             "e^{:.2f}, either decides at e^{:.2f}\n",
             test.num_scores(), run.challenges.size(), test.mean_lower(), test.mean_upper(), test.log_capital_same(),
             test.log_capital_different(), test.log_target());
}

// In the committed order, until the test has decided. The first challenge is asked twice, every 32nd, and the last one.
Result<void> AskAll(Run& run) {
  using Clock = std::chrono::steady_clock;
  ApiResult& result = run.result;
  verify::sequential_test::BoundedTest test(result.settings);
  verify::sequential_test::ConfidenceSequence below(result.settings.alpha, result.settings.population),
      above(result.settings.alpha, result.settings.population);
  auto shown = Clock::now();
  for (size_t i = 0; i < run.challenges.size() && test.decided_at() == 0; ++i) {
    const auto ask = [&]() -> Result<void> {
      SLUICE_ASSIGN(const Exchange exchange, AskOnce(run, i));
      SLUICE_ASSIGN(const DistanceBounds score, ScoreOf(run, exchange));
      SLUICE_TRY(test.Add(score.lower, score.upper));
      SLUICE_TRY(below.Add(score.upper));
      SLUICE_TRY(above.Add(score.lower));
      const bool is_last = test.decided_at() > 0 || i + 1 == run.challenges.size();
      return is_last || i % kRepeatEvery == 0 ? AskAgain(run, i, exchange) : Result<void>();
    };
    if (auto asked = ask(); !asked) return Fail(std::move(asked.error()).In(fmt::format("challenge {}", i)));
    if (run.session.options.quiet || std::chrono::duration<double>(Clock::now() - shown).count() < kShowEverySeconds) {
      continue;
    }
    shown = Clock::now();
    ShowProgress(run, test);
  }
  result.outcome = test.outcome();
  result.scored = test.num_scores();
  result.decided_at = test.decided_at();
  result.mean_lower = test.mean_lower();
  result.mean_upper = test.mean_upper();
  result.interval_lower = above.lower();
  result.interval_upper = std::max(below.upper(), above.lower());
  result.log_capital_same = test.log_capital_same();
  result.log_capital_different = test.log_capital_different();
  return {};
}

Result<std::optional<Verified>> Finish(Run& run) {
  for (size_t i = 0; i < 2; ++i) {
    Side& side = run.sides[i];
    if (side.model) run.result.sides[i].stats = side.model->stats();
    if (side.local.watched) SLUICE_TRY(side.local.watched->CheckUnchanged());
    if (side.written) SLUICE_TRY(io::WriteFileAtomically(RecordPath(run.asked().record, i), side.written->Text()));
  }
  const report::ApiRun took{.verdict = VerdictOf(run.result.outcome),
                            .seconds = run.session.seconds(),
                            .bytes_read = run.bytes_read,
                            .peak_bytes = PeakResidentBytes(),
                            .budget_bytes = run.session.options.max_memory_bytes};
  Verified verified;
  verified.json.json = report::ApiJson(run.result, took);
  verified.text = report::ApiText(run.result, took);
  verified.status = verify::VerdictExitStatus(took.verdict);
  return verified;
}

// What a server or its record did wrong is an answer.
Result<std::optional<Verified>> FinishInvalid(Run& run, Error error) {
  if (error.code != ErrorCode::kCorrupt && error.code != ErrorCode::kRead) return Fail(std::move(error));
  run.result.outcome = Outcome::kInvalid;
  run.result.invalid = error.ToString();
  for (const Side& side : run.sides) {
    if (!side.secret.empty()) run.result.invalid = io::BlankOut(run.result.invalid, side.secret, 2000);
  }
  return Finish(run);
}

Result<void> CheckRequest(const VerifyRequest& request) {
  const BehaviourRequest& asked = request.behaviour;
  SLUICE_TRY(CheckBehaviourRequest(asked));
  if (request.for_evidence || asked.share.parts > 0) {
    return Fail(
        ErrorCode::kUnsupported,
        "--evidence and --part are not supported where a side is a server: --api-record keeps what it answered, "
        "and --api-replay works the verdict out of it again");
  }
  if (asked.prompts.empty() && asked.challenge_tokens < kLeastTokens) {
    return Fail(ErrorCode::kUsage, fmt::format("--challenge-tokens {}: servers are asked for {} or more",
                                               asked.challenge_tokens, kLeastTokens));
  }
  return {};
}

}  // namespace

bool HasApiSide(const VerifyRequest& request) {
  return std::ranges::any_of(request.sides, [](const VerifySide& side) { return IsApiReference(side.ref); });
}

Result<std::optional<Verified>> CompareApi(Session& session, const VerifyRequest& request) {
  SLUICE_TRY(CheckRequest(request));
  Run run{.session = session, .request = request};
  const BehaviourRequest& asked = request.behaviour;
  run.result.settings = {.gamma = asked.gamma, .alpha = asked.alpha};
  run.result.challenges = asked.challenges;
  run.result.challenge_tokens = asked.challenge_tokens;
  run.result.positions = asked.api.positions;
  run.result.coarse_ids = asked.api.ids;
  SLUICE_TRY(OpenSides(run));
  if (!asked.api.replay.empty()) {
    for (size_t i = 0; i < 2; ++i) {
      if (!run.sides[i].is_api()) continue;
      const std::string path = RecordPath(asked.api.replay, i);
      SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(path, kMaxRecordBytes));
      auto record = AnswerRecord::Parse(text);
      if (!record) return Fail(std::move(record.error()).In(path));
      run.sides[i].replayed = std::move(*record);
    }
  }
  if (auto made = MakeChallenges(run); !made) return FinishInvalid(run, std::move(made.error()));
  SLUICE_TRY(OpenServers(run));
  if (auto probed = ProbeServers(run); !probed) return FinishInvalid(run, std::move(probed.error()));
  SLUICE_TRY(OpenLocal(run));
  if (session.options.dry_run) {
    Json json = {{"dry_run", true}, {"plan", report::ApiPlanJson(run.result)}};
    session.Print(json, report::ApiPlanText(run.result));
    return std::nullopt;
  }
  if (!session.options.quiet) fmt::print(stderr, "{}", report::ApiPlanText(run.result));
  if (run.pass) {
    SLUICE_ASSIGN(const infer::PassStats stats, RunForward(session, *run.pass, &*run.sink, "behaviour"));
    run.bytes_read = stats.bytes_read;
  }
  if (auto done = AskAll(run); !done) return FinishInvalid(run, std::move(done.error()));
  return Finish(run);
}

}  // namespace sluice::cli
