#include "cli/replay_evidence.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "cli/behaviour_bundle.h"
#include "cli/keep_evidence.h"
#include "cli/run_verification.h"
#include "report/replay_report.h"
#include "verify/digest_manifest.h"
#include "verify/replay.h"

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;

tl::unexpected<Error> Contradiction(const std::string& folder, const std::string& what) {
  return FailIn(ErrorCode::kCorrupt, folder, "the evidence contradicts itself: " + what);
}

std::string TextAt(const Json& result, const char* key) {
  return result.contains(key) && result.at(key).is_string() ? result.at(key).get<std::string>() : "";
}

// What the bundle has of a side; its papers must be of the models that it names.
Result<verify::KnownSide> RecordedSide(const verify::Evidence& evidence, const verify::EvidenceSide& side,
                                       const std::string& folder) {
  verify::KnownSide known{.side = side};
  const std::string manifest = side.name + ".manifest.json", fingerprint = side.name + ".fingerprint.json";
  if (const auto paper = evidence.papers.find(manifest); paper != evidence.papers.end()) {
    auto parsed = verify::ParseDigestManifest(paper->second, manifest);
    if (!parsed) return Fail(std::move(parsed.error()).In(folder));
    if (parsed->model_root != side.root) {
      return Contradiction(folder, fmt::format("the root of {} is not the one that evidence.json names", manifest));
    }
    known.digest = std::move(*parsed);
  }
  if (const auto paper = evidence.papers.find(fingerprint); paper != evidence.papers.end()) {
    auto parsed = verify::ParseFingerprint(paper->second, fingerprint);
    if (!parsed) return Fail(std::move(parsed.error()).In(folder));
    if (verify::HeadersHash(parsed->tensors) != side.headers_hash || parsed->tokenizer_hash != side.tokenizer_hash) {
      return Contradiction(folder, fmt::format("{} is not of the model that evidence.json names", fingerprint));
    }
    known.fingerprint = std::move(*parsed);
  }
  return known;
}

// A model that is not where it was is to be named.
Error WithHint(Error error, const std::string& folder, const std::vector<std::string>& refs, size_t models) {
  if (error.code != ErrorCode::kNotFound || !refs.empty()) return error;
  error.message += fmt::format("; name where the {} now: sluice verify --replay {} {}",
                               models == 1 ? "model is" : "models are", folder, models == 1 ? "MODEL" : "A B");
  return error;
}

}  // namespace

Result<int> ReplayEvidence(Session& session, const std::string& folder, const std::vector<std::string>& refs) {
  SLUICE_ASSIGN(const verify::Evidence evidence, verify::ReadEvidence(folder));
  verify::Replay replay;
  replay.folder = folder;
  replay.made_by = evidence.made_by;
  replay.recorded_verdict = TextAt(evidence.result, "verdict");
  replay.recorded_level = TextAt(evidence.result, "level");
  std::vector<verify::KnownSide> recorded;
  for (const verify::EvidenceSide& side : evidence.sides) {
    SLUICE_ASSIGN(verify::KnownSide known, RecordedSide(evidence, side, folder));
    recorded.push_back(std::move(known));
  }
  SLUICE_TRY(CheckCommitment(evidence, folder));
  SLUICE_ASSIGN(const VerifyRequest request, RequestOf(evidence, folder, refs));
  auto verified = RunVerification(session, request);
  if (!verified) return Fail(WithHint(std::move(verified.error()), folder, refs, request.sides.size()));
  if (!*verified) return 0;

  for (VerifiedSide& side : (*verified)->sides) {
    const auto then = std::ranges::find(recorded, side.name, [](const auto& known) { return known.side.name; });
    if (then == recorded.end()) continue;
    verify::KnownSide now;
    SLUICE_ASSIGN(now.side, DescribeVerified(session, request, side));
    now.digest = std::move(side.digest);
    now.fingerprint = std::move(side.fingerprint);
    replay.sides.push_back(verify::CompareSides(*then, now));
  }
  Json result = ResultJson(**verified);
  replay.results = verify::CompareResults(evidence.result, result);
  result["replay"] = report::ReplayJson(replay);
  session.Print(result, report::ReplayText(replay, result));
  return replay.reproduced() ? 0 : 1;
}

}  // namespace sluice::cli
