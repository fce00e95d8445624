#include "cli/compare_behaviour.h"

#include <array>
#include <cstdio>
#include <filesystem>

#include <fmt/format.h>

#include "cli/compare_api.h"
#include "cli/compare_models.h"
#include "cli/pair_scorer.h"
#include "cli/progress_view.h"
#include "cli/run_pass.h"
#include "generated/version.h"
#include "io/atomic_file.h"
#include "io/byte_source.h"
#include "report/behaviour_report.h"
#include "tokenizer/open_tokenizer.h"
#include "verify/behaviour/behaviour_result.h"
#include "verify/sequential_test/keyed_order.h"

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;
using namespace verify::behaviour;
using tokenizer::Tokenizer;

constexpr uint64_t kMostChallenges = 1u << 24, kMostChallengeTokens = 1u << 20;
constexpr uint64_t kMaxPromptsBytes = uint64_t{1} << 30;
constexpr char kCommitmentSchema[] = "sluice/behaviour_commitment/v1";
constexpr char kCommitmentAbout[] =
    "What a run of `sluice verify --level behaviour` was bound to before any model ran: the key that all challenges "
    "and "
    "their order follow from, the terms, and the models as far as their headers and small files tell.";

// One run on its way.
struct Run {
  Session& session;
  const VerifyRequest& request;
  std::array<VerifiedSide, 2> sides = {};
  std::array<std::shared_ptr<const Tokenizer>, 2> tokenizers = {};
  VocabularyAlignment alignment = {};
  std::vector<Prompt> prompts = {};                    // all of the file's
  std::vector<uint64_t> order = {};                    // of prompts, as committed
  std::vector<std::vector<uint32_t>> challenges = {};  // of the share, in the alignment's numbering
  std::string prompts_text = {}, commitment_text = {};
  verify::Verification result = {};

  const BehaviourRequest& asked() const { return request.behaviour; }
  BehaviourResult& behaviour() { return *result.behaviour; }
};

// A tokenizer that cannot be read is no reason to stop where both sides have the same: its tokens are those of their
// numbers.
Result<void> OpenTokenizers(Run& run) {
  for (size_t i = 0; i < 2; ++i) {
    auto opened = tokenizer::OpenTokenizer(*run.sides[i].model);
    if (opened) {
      run.tokenizers[i] = *opened;
    } else if (opened.error().code != ErrorCode::kNotFound &&
               !(opened.error().code == ErrorCode::kUnsupported && run.result.config.SameTokenizer())) {
      return Fail(std::move(opened.error()).In(run.request.sides[i].ref));
    }
  }
  return {};
}

RunTerms::Model ModelOf(const kernels::Hash256& config, const kernels::Hash256& tokenizer,
                        const checkpoint::Checkpoint& model) {
  return {.config = config, .tokenizer = tokenizer, .headers = verify::HeadersHash(model.tensors())};
}

// Prompt `place` of the file as ids that both models read.
Result<std::vector<uint32_t>> EncodePrompt(const Run& run, const Prompt& prompt,
                                           const std::array<std::vector<uint32_t>, 2>& inverse) {
  std::array<std::vector<uint32_t>, 2> ids;
  for (size_t i = 0; i < 2; ++i) {
    const Tokenizer* tokenizer = run.tokenizers[i] ? run.tokenizers[i].get() : run.tokenizers[1 - i].get();
    const std::vector<uint32_t>& numbers = inverse[run.tokenizers[i] ? i : 1 - i];
    auto encoded = tokenizer->Encode(prompt.text, {.add_special = true});
    if (!encoded) {
      return Fail(std::move(encoded.error()).In(fmt::format("{}: line {}", run.asked().prompts, prompt.line)));
    }
    ids[i] = std::move(*encoded);
    if (!numbers.empty()) {
      for (uint32_t& id : ids[i]) id = numbers[id];
    }
  }
  const auto where = [&] { return fmt::format("{}: line {}", run.asked().prompts, prompt.line); };
  if (ids[0] != ids[1]) {
    return FailIn(ErrorCode::kCorrupt, where(),
                  "the two tokenizers make different tokens of this prompt, so the models cannot be asked the same");
  }
  if (ids[0].empty()) return FailIn(ErrorCode::kCorrupt, where(), "the tokenizer makes no token of this prompt");
  for (const uint32_t id : ids[0]) {
    if (id < run.alignment.shared) continue;
    return FailIn(ErrorCode::kCorrupt, where(), "has a token that only one of the models knows");
  }
  return std::move(ids[0]);
}

Result<void> ReadPrompts(Run& run) {
  SLUICE_ASSIGN(run.prompts_text, io::ReadWholeFile(run.asked().prompts, kMaxPromptsBytes));
  SLUICE_ASSIGN(run.prompts, SplitPrompts(run.prompts_text, run.asked().prompts));
  if (!run.tokenizers[0] && !run.tokenizers[1]) {
    return FailIn(ErrorCode::kCorrupt, run.asked().prompts,
                  "neither model has a tokenizer that could read prompts: put tokenizer.json beside the weights");
  }
  return {};
}

// What both are asked: the alignment, terms and commitment, then the ids. Errors of code kCorrupt are INVALID.
Result<void> MakeChallenges(Run& run) {
  BehaviourResult& behaviour = run.behaviour();
  const BehaviourRequest& asked = run.asked();
  const checkpoint::Checkpoint &a = *run.sides[0].model, &b = *run.sides[1].model;
  SLUICE_ASSIGN(const uint64_t rows_a, VocabularyRows(a));
  SLUICE_ASSIGN(const uint64_t rows_b, VocabularyRows(b));
  SLUICE_ASSIGN(run.alignment, AlignVocabularies(run.tokenizers[0].get(), rows_a, run.tokenizers[1].get(), rows_b));
  behaviour.alignment = WayName(run.alignment.way);
  behaviour.alignment_note = run.alignment.note;
  behaviour.shared_tokens = run.alignment.shared;
  behaviour.only_in_a = rows_a - run.alignment.shared;
  behaviour.only_in_b = rows_b - run.alignment.shared;
  behaviour.drawable_tokens = run.alignment.drawable.size();
  RunTerms terms;
  if (!asked.prompts.empty()) {
    SLUICE_TRY(ReadPrompts(run));
    behaviour.settings.population = run.prompts.size();
    behaviour.challenges = std::min<uint64_t>(asked.challenges, run.prompts.size());
    behaviour.challenge_tokens = 0;
    terms.prompts = kernels::HashText(run.prompts_text);
  }
  terms.settings = behaviour.settings;
  terms.challenges = behaviour.challenges;
  terms.challenge_tokens = behaviour.challenge_tokens;
  terms.drawable = behaviour.drawable_tokens;
  terms.vocabulary = run.alignment.DrawableHash();
  const verify::ConfigDiff& config = run.result.config;
  terms.a = ModelOf(config.config_hash_a, config.tokenizer_hash_a, a);
  terms.b = ModelOf(config.config_hash_b, config.tokenizer_hash_b, b);
  verify::Nonce key;
  if (asked.key.empty()) {
    SLUICE_ASSIGN(key, verify::RandomNonce());
  } else {
    SLUICE_ASSIGN(key, verify::ParseNonce(asked.key));
  }
  behaviour.commitment = Commit(key, TermsJson(terms));

  const uint64_t count = asked.share.CountOf(behaviour.challenges);
  if (count == 0) {
    return Fail(ErrorCode::kUsage, fmt::format("--part {}/{}: there are {} challenges, and none for this part",
                                               asked.share.part, asked.share.parts, behaviour.challenges));
  }
  run.challenges.reserve(count);
  if (asked.prompts.empty()) {
    for (uint64_t i = 0; i < count; ++i) {
      std::vector<uint32_t> ids = DrawChallenge(*behaviour.commitment, asked.share.PlaceOf(i),
                                                behaviour.challenge_tokens, run.alignment.drawable);
      run.challenges.push_back(std::move(ids));
    }
    return {};
  }
  run.order = verify::sequential_test::KeyedOrder(key, run.prompts.size());
  const std::array inverse = {InverseOrder(run.alignment.order_a), InverseOrder(run.alignment.order_b)};
  for (uint64_t i = 0; i < count; ++i) {
    const Prompt& prompt = run.prompts[run.order[asked.share.PlaceOf(i)]];
    SLUICE_ASSIGN(std::vector<uint32_t> ids, EncodePrompt(run, prompt, inverse));
    run.challenges.push_back(std::move(ids));
  }
  return {};
}

// Of kinds of sides there is one so far: checkpoints that are run here. pair_scorer.h tells how to add another.
Result<std::unique_ptr<PairScorer>> MakeScorer(Run& run) {
  ScoresSoFar so_far;
  if (!run.session.options.quiet && !run.behaviour().is_part()) {
    so_far = [&run](std::span<const double> scores) {
      const PathPoint standing = StandingOf(run.behaviour().settings, scores);
      PrintAboveBar(StyleOf(false), report::StandingText(standing, run.behaviour().challenges));
    };
  }
  return MakeLocalScorer(run.session, run.sides[0].model, run.sides[1].model, run.alignment, run.challenges,
                         std::move(so_far));
}

void Decide(Run& run, const ChallengeScores& scored) {
  BehaviourResult& behaviour = run.behaviour();
  behaviour.scores = scored.scores;
  behaviour.evaluation =
      behaviour.is_part() ? EvaluatePart(scored.scores) : Evaluate(behaviour.settings, scored.scores);
  for (const uint64_t i : MostDiffering(scored.scores)) {
    ToldChallenge told{.place = behaviour.share.PlaceOf(i), .score = scored.scores[i]};
    if (!run.order.empty()) told.line = run.prompts[run.order[told.place]].line;
    for (const uint32_t id : run.challenges[i]) told.ids.push_back(run.alignment.IdInA(id));
    const auto text = run.tokenizers[0] ? run.tokenizers[0]->Decode(told.ids) : Result<std::string>(std::string());
    if (text) told.text = ReadableText(*text);
    behaviour.most_differing.push_back(std::move(told));
  }
}

Result<Json> CommitmentJson(Run& run) {
  const Commitment& commitment = *run.behaviour().commitment;
  Json json;
  json["schema"] = kCommitmentSchema;
  json["about"] = kCommitmentAbout;
  json["made_by"] = fmt::format("sluice {}", kVersion);
  json["key"] = verify::NonceText(commitment.key);
  json["run_id"] = kernels::ToHex(commitment.run_id);
  json["commitment"] = kernels::ToHex(commitment.hash);
  json["terms"] = commitment.terms;
  json["sides"] = Json::array();
  for (const VerifiedSide& side : run.sides) {
    SLUICE_ASSIGN(const auto described, verify::DescribeSide(side.name, *side.model, &run.session.budget));
    Json files = Json::array();
    for (const verify::EvidenceInput& file : described.files) {
      files.push_back({{"name", file.name},
                       {"bytes", file.size_bytes},
                       {"sha256", file.digest ? Json(kernels::ToHex(*file.digest)) : Json(nullptr)}});
    }
    json["sides"].push_back({{"side", side.name}, {"kind", described.kind}, {"files", std::move(files)}});
  }
  return json;
}

Result<std::optional<Verified>> Finish(Run& run) {
  for (const VerifiedSide& side : run.sides) SLUICE_TRY(side.watched->CheckUnchanged());
  run.result.verdict = VerdictOf(run.behaviour().evaluation.outcome);
  Verified verified = Answer(run.session, std::move(run.result));
  if (verified.comparison->behaviour->is_part() && verified.comparison->verdict == verify::Verdict::kUndecided) {
    verified.status = 0;  // done; only all parts together are decided
  }
  for (VerifiedSide& side : run.sides) verified.sides.push_back(std::move(side));
  if (run.request.for_evidence) {
    if (!run.commitment_text.empty()) verified.papers["commitment.json"] = run.commitment_text;
    if (!run.asked().prompts.empty()) verified.papers["prompts.txt"] = run.prompts_text;
  }
  return verified;
}

// A failure of what is to be compared is an answer; others (no file, no memory, interrupted) are not.
Result<std::optional<Verified>> FinishInvalid(Run& run, Error error) {
  if (error.code != ErrorCode::kCorrupt) return Fail(std::move(error));
  MakeInvalid(error.ToString(), &run.behaviour());
  return Finish(run);
}

}  // namespace

verify::Verdict VerdictOf(verify::sequential_test::Outcome outcome) {
  using verify::sequential_test::Outcome;
  switch (outcome) {
    case Outcome::kSame:
      return verify::Verdict::kSameBehaviour;
    case Outcome::kDifferent:
      return verify::Verdict::kDifferentBehaviour;
    case Outcome::kUndecided:
      return verify::Verdict::kUndecided;
    case Outcome::kInvalid:
      break;
  }
  return verify::Verdict::kInvalid;
}

Result<void> CheckBehaviourRequest(const BehaviourRequest& request) {
  SLUICE_TRY(verify::sequential_test::CheckSettings({.gamma = request.gamma, .alpha = request.alpha}));
  // One process, one mode, one instruction set for both sides: arithmetic alone differs by nothing.
  SLUICE_TRY(verify::sequential_test::CheckAboveFloor(request.gamma, 0));
  if (request.challenges == 0 || request.challenges > kMostChallenges) {
    return Fail(ErrorCode::kUsage,
                fmt::format("--challenges {}: want a number from 1 to {}", request.challenges, kMostChallenges));
  }
  if (request.challenge_tokens == 0 || request.challenge_tokens > kMostChallengeTokens) {
    return Fail(ErrorCode::kUsage, fmt::format("--challenge-tokens {}: want a number from 1 to {}",
                                               request.challenge_tokens, kMostChallengeTokens));
  }
  if (!request.key.empty()) SLUICE_TRY(verify::ParseNonce(request.key));
  return {};
}

Result<std::optional<Verified>> CompareBehaviour(Session& session, const VerifyRequest& request) {
  if (HasApiSide(request)) return CompareApi(session, request);
  SLUICE_TRY(CheckBehaviourRequest(request.behaviour));
  Run run{.session = session, .request = request};
  for (size_t i = 0; i < 2; ++i) {
    SLUICE_ASSIGN(run.sides[i], OpenSide(session, request.sides[i], i == 0 ? "a" : "b"));
  }
  verify::Verification& result = run.result;
  result.ref_a = request.sides[0].ref;
  result.ref_b = request.sides[1].ref;
  result.note_a = request.sides[0].note;
  result.note_b = request.sides[1].note;
  result.asked = result.level = verify::Level::kBehaviour;
  SLUICE_ASSIGN(result.config, verify::DiffConfigs(*run.sides[0].model, *run.sides[1].model));
  BehaviourResult& behaviour = result.behaviour.emplace();
  behaviour.settings = {.gamma = request.behaviour.gamma, .alpha = request.behaviour.alpha};
  behaviour.challenges = request.behaviour.challenges;
  behaviour.challenge_tokens = request.behaviour.challenge_tokens;
  behaviour.share = request.behaviour.share;
  SLUICE_TRY(OpenTokenizers(run));
  if (auto made = MakeChallenges(run); !made) {
    behaviour.commitment.reset();  // nothing ran that it could bind
    return FinishInvalid(run, std::move(made.error()));
  }
  behaviour.power = PowerOf(behaviour.settings, behaviour.challenges);

  SLUICE_ASSIGN(const auto scorer, MakeScorer(run));
  if (session.options.dry_run) {
    Json json = {{"dry_run", true}, {"plan", scorer->PlanJson()}};
    json["plan"].update(report::BehaviourPlanJson(behaviour));
    session.Print(json, report::BehaviourPlanText(behaviour) + scorer->PlanText());
    return std::nullopt;
  }
  if (!session.options.quiet && scorer->PredictedSeconds() > kShowPlanSeconds) {
    fmt::print(stderr, "{}", report::BehaviourPlanText(behaviour));
  }
  if (!request.behaviour.commitment.empty() || request.for_evidence) {
    SLUICE_ASSIGN(const Json commitment, CommitmentJson(run));
    run.commitment_text = commitment.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
    if (!request.behaviour.commitment.empty()) {
      SLUICE_TRY(io::WriteFileAtomically(request.behaviour.commitment, run.commitment_text));
    }
  }
  auto scored = scorer->Run();
  if (!scored) return FinishInvalid(run, std::move(scored.error()));
  result.bytes_read = scored->bytes_read;
  Decide(run, *scored);
  return Finish(run);
}

}  // namespace sluice::cli
