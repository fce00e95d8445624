#include "cli/behaviour_bundle.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/compare_behaviour.h"
#include "cli/keep_evidence.h"
#include "formats/json_document.h"
#include "formats/json_text.h"
#include "io/atomic_file.h"
#include "io/output_folder.h"
#include "report/behaviour_page.h"
#include "report/behaviour_report.h"
#include "report/verification_report.h"
#include "verify/behaviour/behaviour_result.h"

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;
using namespace verify::behaviour;

tl::unexpected<Error> Contradiction(const std::string& folder, const std::string& what) {
  return FailIn(ErrorCode::kCorrupt, folder, "the evidence contradicts itself: " + what);
}

// The value at a path of keys; null where there is none.
const Json* At(const Json& json, std::initializer_list<const char*> keys) {
  const Json* value = &json;
  for (const char* key : keys) {
    if (!value->is_object()) return nullptr;
    const auto found = value->find(key);
    if (found == value->end()) return nullptr;
    value = &*found;
  }
  return value;
}

std::string TextAt(const Json& json, std::initializer_list<const char*> keys) {
  const Json* value = At(json, keys);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

std::optional<uint64_t> CountAt(const Json& json, std::initializer_list<const char*> keys) {
  const Json* value = At(json, keys);
  if (value == nullptr || !value->is_number_unsigned()) return std::nullopt;
  return value->get<uint64_t>();
}

double NumberAt(const Json& json, std::initializer_list<const char*> keys) {
  const Json* value = At(json, keys);
  return value != nullptr && value->is_number() ? value->get<double>() : 0;
}

struct Part {
  std::string folder;
  verify::Evidence evidence = {};
  Json result = {};  // of the evidence
  Share share = {};
  std::string invalid = {};         // why its run failed; empty: it did not
  std::vector<double> scores = {};  // of its share
  std::vector<ToldChallenge> told = {};
};

Result<ToldChallenge> ReadTold(const Json& json, const std::string& folder) {
  const auto place = CountAt(json, {"challenge"});
  const Json *score = At(json, {"score"}), *ids = At(json, {"ids"});
  if (!place || score == nullptr || !score->is_number() || ids == nullptr || !ids->is_array()) {
    return Contradiction(folder, "result.json: most_differing is no list of challenges");
  }
  ToldChallenge told{.place = *place, .score = score->get<double>(), .line = CountAt(json, {"line"})};
  told.text = TextAt(json, {"text"});
  for (const Json& id : *ids) {
    if (!id.is_number_unsigned()) return Contradiction(folder, "result.json: most_differing has ids that are none");
    told.ids.push_back(id.get<uint32_t>());
  }
  return told;
}

Result<Part> ReadPart(const std::string& folder) {
  Part part{.folder = folder};
  SLUICE_ASSIGN(part.evidence, verify::ReadEvidence(folder));
  const auto number = CountAt(part.evidence.options, {"part", "part"});
  const auto parts = CountAt(part.evidence.options, {"part", "parts"});
  if (part.evidence.form != "behaviour" || !number || !parts) {
    return FailIn(ErrorCode::kUsage, folder,
                  "is no part of a run: --join takes the folders that `verify --level behaviour --part I/N --evidence` "
                  "writes");
  }
  SLUICE_ASSIGN(part.share, ParseShare(fmt::format("{}/{}", *number, *parts)));
  auto result = formats::ParseJson(part.evidence.result, verify::kResultFile);
  if (!result) return Fail(std::move(result.error()).In(folder));
  part.result = std::move(*result);
  SLUICE_TRY(CheckCommitment(part.evidence, part.result, folder));
  const Json* behaviour = At(part.result, {"behaviour"});
  if (behaviour == nullptr) return Contradiction(folder, "result.json tells of no behaviour");
  part.invalid = TextAt(*behaviour, {"invalid"});
  if (!part.invalid.empty()) return part;
  if (part.evidence.plan.is_null()) return Contradiction(folder, "it has scores without a commitment");
  const auto challenges = CountAt(part.evidence.plan, {"terms", "challenges"});
  const Json *scores = At(*behaviour, {"scores"}), *told = At(*behaviour, {"most_differing"});
  if (!challenges || scores == nullptr || !scores->is_array() || told == nullptr || !told->is_array() ||
      scores->size() != part.share.CountOf(*challenges)) {
    return Contradiction(folder, "result.json has not the scores of its share");
  }
  for (const Json& score : *scores) {
    if (!score.is_number()) return Contradiction(folder, "result.json: a score is none");
    part.scores.push_back(score.get<double>());
  }
  for (const Json& one : *told) {
    SLUICE_ASSIGN(ToldChallenge read, ReadTold(one, folder));
    part.told.push_back(std::move(read));
  }
  return part;
}

// All of one run, each once, by their numbers.
Result<std::vector<Part>> ReadParts(const std::vector<std::string>& folders) {
  std::map<uint64_t, Part> by_number;
  std::optional<Part> first;
  for (const std::string& folder : folders) {
    SLUICE_ASSIGN(Part part, ReadPart(folder));
    if (first) {
      const verify::Evidence &one = part.evidence, &other = first->evidence;
      const bool same_run = one.plan.is_null() || other.plan.is_null() || one.plan == other.plan;
      if (!same_run || part.share.parts != first->share.parts) {
        return FailIn(ErrorCode::kUsage, folder,
                      fmt::format("is a part of another run than {}: another key, other terms or models, or another "
                                  "number of parts",
                                  first->folder));
      }
    } else {
      first = part;
    }
    const uint64_t number = part.share.part;
    if (const auto known = by_number.find(number); known != by_number.end()) {
      return FailIn(ErrorCode::kUsage, folder,
                    fmt::format("is part {}/{}, and so is {}", number, part.share.parts, known->second.folder));
    }
    by_number.emplace(number, std::move(part));
  }
  std::vector<uint64_t> missing;
  for (uint64_t number = 1; number <= first->share.parts; ++number) {
    if (!by_number.contains(number)) missing.push_back(number);
  }
  if (!missing.empty()) {
    return Fail(ErrorCode::kUsage, fmt::format("part{} {} of {} {} missing: a run is joined from all of its parts",
                                               missing.size() == 1 ? "" : "s", fmt::join(missing, ", "),
                                               first->share.parts, missing.size() == 1 ? "is" : "are"));
  }
  std::vector<Part> parts;
  for (auto& [number, part] : by_number) parts.push_back(std::move(part));
  return parts;
}

// What all parts say alike, from one that did not fail (or the first).
Result<BehaviourResult> ReadTerms(const Part& part) {
  BehaviourResult result;
  const Json& behaviour = part.result.at("behaviour");
  result.settings = {.gamma = NumberAt(behaviour, {"gamma"}), .alpha = NumberAt(behaviour, {"alpha"})};
  result.settings.population = CountAt(behaviour, {"population"}).value_or(0);
  SLUICE_TRY_IN(part.folder, verify::sequential_test::CheckSettings(result.settings));
  result.challenges = CountAt(behaviour, {"challenges"}).value_or(0);
  result.challenge_tokens = CountAt(behaviour, {"challenge_tokens"}).value_or(0);
  if (part.evidence.plan.is_null()) return result;
  const Json& terms = part.evidence.plan.at("terms");
  if (result.challenges != CountAt(terms, {"challenges"}) || result.settings.gamma != NumberAt(terms, {"gamma"}) ||
      result.settings.alpha != NumberAt(terms, {"alpha"}) ||
      result.settings.population != CountAt(terms, {"population"}).value_or(0) ||
      result.challenge_tokens != CountAt(terms, {"challenge_tokens"}).value_or(0)) {
    return Contradiction(part.folder, "result.json has other terms than the commitment");
  }
  SLUICE_ASSIGN(const verify::Nonce key, verify::ParseNonce(TextAt(part.evidence.plan, {"key"})));
  result.commitment = Commit(key, terms);
  result.alignment = TextAt(behaviour, {"alignment", "by"});
  result.alignment_note = TextAt(behaviour, {"alignment", "note"});
  result.shared_tokens = CountAt(behaviour, {"alignment", "shared"}).value_or(0);
  result.only_in_a = CountAt(behaviour, {"alignment", "only_in_a"}).value_or(0);
  result.only_in_b = CountAt(behaviour, {"alignment", "only_in_b"}).value_or(0);
  result.drawable_tokens = CountAt(behaviour, {"alignment", "drawable"}).value_or(0);
  result.power = PowerOf(result.settings, result.challenges);
  return result;
}

Result<BehaviourResult> Join(const std::vector<Part>& parts) {
  const auto failed = std::ranges::find_if(parts, [](const Part& part) { return !part.invalid.empty(); });
  SLUICE_ASSIGN(BehaviourResult result, ReadTerms(failed == parts.end() ? parts.front() : *failed));
  if (failed != parts.end()) {
    MakeInvalid(fmt::format("part {}/{}: {}", failed->share.part, failed->share.parts, failed->invalid), &result);
    return result;
  }
  result.scores.resize(result.challenges);
  for (const Part& part : parts) {
    for (uint64_t i = 0; i < part.scores.size(); ++i) result.scores[part.share.PlaceOf(i)] = part.scores[i];
    result.most_differing.insert(result.most_differing.end(), part.told.begin(), part.told.end());
  }
  result.evaluation = Evaluate(result.settings, result.scores);
  std::ranges::sort(result.most_differing, [](const ToldChallenge& x, const ToldChallenge& y) {
    return x.score != y.score ? x.score > y.score : x.place < y.place;
  });
  if (result.most_differing.size() > kMostTold) result.most_differing.resize(kMostTold);
  return result;
}

}  // namespace

Result<void> CheckCommitment(const verify::Evidence& evidence, const Json& result, const std::string& folder) {
  if (evidence.form != "behaviour" || evidence.plan.is_null()) return {};
  const Json& plan = evidence.plan;
  const auto key = verify::ParseNonce(TextAt(plan, {"key"}));
  const Json* const terms = At(plan, {"terms"});
  if (!key || terms == nullptr) return Contradiction(folder, "its plan has no key, or no terms");
  const Commitment commitment = Commit(*key, *terms);
  if (kernels::ToHex(commitment.run_id) != TextAt(plan, {"run_id"}) ||
      kernels::ToHex(commitment.hash) != TextAt(plan, {"sha256"})) {
    return Contradiction(folder, "the commitment is not one to its key and terms");
  }
  const Json* const told = At(result, {"behaviour", "commitment"});
  if (told == nullptr || *told != plan) return Contradiction(folder, "the result is of another commitment");
  const auto paper = evidence.papers.find("commitment.json");
  if (paper == evidence.papers.end()) return Contradiction(folder, "commitment.json is not in it");
  SLUICE_ASSIGN(const Json written, formats::ParseJson(paper->second, "commitment.json"));
  if (TextAt(written, {"key"}) != TextAt(plan, {"key"}) || TextAt(written, {"run_id"}) != TextAt(plan, {"run_id"}) ||
      TextAt(written, {"commitment"}) != TextAt(plan, {"sha256"})) {
    return Contradiction(folder, "commitment.json is of another run");
  }
  // What was asked must be what was committed to.
  for (const char* key_of : {"gamma", "alpha", "challenge_tokens"}) {
    const Json *asked = At(evidence.options, {key_of}), *committed = At(*terms, {key_of});
    if (asked == nullptr || committed == nullptr || *asked != *committed) {
      return Contradiction(folder, fmt::format("'{}' is not what was committed to", key_of));
    }
  }
  return {};
}

Result<int> JoinParts(Session& session, const JoinRequest& request) {
  if (!request.report.empty()) SLUICE_TRY(io::CheckWritable(request.report));
  if (!request.evidence.empty()) {
    SLUICE_TRY(CheckHoldsNothingRead(request.evidence, request.folders));
    auto place = io::OutputFolder::Create(request.evidence, request.force);
    if (!place) return Fail(std::move(place.error()));
  }
  SLUICE_ASSIGN(const std::vector<Part> parts, ReadParts(request.folders));
  SLUICE_ASSIGN(BehaviourResult joined, Join(parts));
  verify::Verification result;
  result.level = verify::Level::kBehaviour;
  const Json& first = parts.front().result;
  result.ref_a = TextAt(first, {"summary", "a", "ref"});
  result.ref_b = TextAt(first, {"summary", "b", "ref"});
  for (const Part& part : parts) {
    result.bytes_read += CountAt(part.result, {"bytes_read"}).value_or(0);
    result.seconds += NumberAt(part.result, {"seconds"});
    result.peak_bytes = std::max(result.peak_bytes, CountAt(part.result, {"memory", "peak"}).value_or(0));
    result.budget_bytes = std::max(result.budget_bytes, CountAt(part.result, {"memory", "budget"}).value_or(0));
  }
  result.verdict = VerdictOf(joined.evaluation.outcome);
  result.behaviour = std::move(joined);
  // Config and references are the first part's, as it printed them.
  Json json = report::VerificationJson(result);
  for (const char* key : {"config", "summary"}) {
    if (const Json* value = At(first, {key})) json[key] = *value;
  }
  if (!request.report.empty()) {
    SLUICE_TRY(io::WriteFileAtomically(request.report, report::BehaviourPage(result, /*with_config=*/false)));
  }
  if (!request.evidence.empty()) {
    verify::Evidence evidence = parts.front().evidence;
    evidence.options["part"] = nullptr;
    Json with_schema{{"schema", "sluice/verify/v1"}};
    with_schema.update(json);
    evidence.result = formats::JsonText(with_schema, 2) + '\n';
    evidence.papers["report.html"] = report::BehaviourPage(result, /*with_config=*/false);
    SLUICE_TRY(verify::WriteEvidence(request.evidence, std::move(evidence), request.force, session.cancelled));
  }
  session.Print(json, report::BehaviourText(result, /*with_config=*/false));
  return verify::VerdictExitStatus(result.verdict);
}

}  // namespace sluice::cli
