#include "cli/compare_models.h"

#include <array>
#include <filesystem>

#include <fmt/format.h>

#include "base/memory_budget.h"
#include "cli/run_pass.h"
#include "io/byte_source.h"
#include "report/behaviour_page.h"
#include "report/verification_page.h"
#include "report/verification_report.h"
#include "stream/checkpoint_groups.h"
#include "verify/comparison_sink.h"

namespace sluice::cli {
namespace {

// Reads every byte of both and fills in summary, tensors and verdict. False with --dry-run.
Result<bool> CompareTensors(Session& session, const VerifyRequest& request, std::array<VerifiedSide, 2>* sides,
                            verify::Verification* result) {
  const checkpoint::Checkpoint &a = *(*sides)[0].model, &b = *(*sides)[1].model;
  const verify::Alignment alignment = verify::Align(a.tensors(), b.tensors());
  const stream::LockstepGroups groups(alignment.Members(a, b));
  verify::ComparisonSink sink(a, b, alignment,
                              {.num_threads = session.options.threads,
                               .budget = &session.budget,
                               .atol = request.atol,
                               .rtol = request.rtol,
                               .first_difference = request.first_difference});
  Result<PassReport> pass = RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, "verify");
  if (!pass && !(sink.stopped_early() && !session.cancelled)) return Fail(std::move(pass.error()));
  if (pass && !pass->ran) return false;

  result->level = verify::Level::kTensors;
  result->unequal = sink.Unequal();
  if (sink.stopped_early()) {
    result->bytes_read = sink.bytes_read();
    result->summary = verify::Summarise(result->unequal, 0, 0);
    result->summary->stopped_early = true;
  } else {
    result->bytes_read += pass->stats.payload_bytes;
    SLUICE_ASSIGN(checkpoint::ModelDigest digest_a, checkpoint::MakeModelDigest(sink.DigestsOfA(), a));
    SLUICE_ASSIGN(checkpoint::ModelDigest digest_b, checkpoint::MakeModelDigest(sink.DigestsOfB(), b));
    verify::ResolveTiedAndRenamed(digest_a.tied, digest_b.tied, &result->unequal);
    result->summary = verify::Summarise(result->unequal, sink.identical_tensors(), sink.identical_elements());
    result->changes = verify::SummariseChanges(a, result->unequal);
    result->grids_a = sink.GridsOf(0);
    result->grids_b = sink.GridsOf(1);
    result->summary->weights_root_a = digest_a.weights_root;
    result->summary->weights_root_b = digest_b.weights_root;
    result->summary->model_root_a = digest_a.model_root;
    result->summary->model_root_b = digest_b.model_root;
    (*sides)[0].digest = std::move(digest_a);
    (*sides)[1].digest = std::move(digest_b);
  }
  result->verdict = verify::DecideTensors(result->config, *result->summary);
  return true;
}

}  // namespace

Verified Answer(const Session& session, verify::Verification result) {
  result.budget_bytes = session.options.max_memory_bytes;
  result.peak_bytes = PeakResidentBytes();
  result.seconds = session.seconds();
  Verified verified{.json = report::VerificationJson(result),
                    .text = report::VerificationText(result),
                    .status = verify::VerdictExitStatus(result.verdict)};
  verified.comparison = std::move(result);
  return verified;
}

Result<VerifiedSide> OpenSide(Session& session, const VerifySide& side, const std::string& name) {
  VerifiedSide opened{.name = name};
  SLUICE_ASSIGN(opened.model, session.Open(side.ref, side.seed, side.arithmetic, side.lora_merge_dtype));
  session.WarnOf(*opened.model);
  SLUICE_ASSIGN(opened.watched, WatchedFiles::Of(*opened.model, ""));
  return opened;
}

namespace {

// `verify B --against F`.
Result<std::optional<Verified>> CompareAgainst(Session& session, const VerifyRequest& request) {
  SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(request.against, verify::kMaxFingerprintBytes));
  SLUICE_ASSIGN(verify::Fingerprint fingerprint, verify::ParseFingerprint(text, request.against));
  SLUICE_ASSIGN(VerifiedSide side, OpenSide(session, request.sides[0], "b"));

  verify::Verification result;
  result.ref_a = fmt::format("{}, as {} has it", fingerprint.model, request.against);
  result.ref_b = request.sides[0].ref;
  result.asked = result.level = verify::Level::kFingerprint;
  SLUICE_ASSIGN(const verify::ModelHeaders headers, verify::HeadersOf(*side.model));
  result.config = verify::DiffHeaders(fingerprint.headers(), headers);
  SLUICE_ASSIGN(result.sample, CompareWithFingerprint(session, fingerprint, request.against, side.model));
  if (!result.sample) return std::nullopt;
  SLUICE_TRY(side.watched->CheckUnchanged());
  result.bytes_read = result.sample->bytes_read;
  result.verdict = verify::DecideFingerprint(result.config, *result.sample);
  result.unequal = verify::ChangedTensors(*result.sample);
  Verified verified = Answer(session, std::move(result));
  VerifiedSide stated{.name = "a"};
  stated.fingerprint = std::move(fingerprint);
  verified.sides.push_back(std::move(stated));
  if (request.for_evidence) verified.papers["fingerprint.json"] = text;
  verified.sides.push_back(std::move(side));
  return verified;
}

// Drawn blocks of both, where that was asked for or may spare `auto` the reading of all. True where it has decided.
Result<bool> CompareDrawn(Session& session, const VerifyRequest& request, std::array<VerifiedSide, 2>* sides,
                          verify::Verification* result) {
  const auto &a = (*sides)[0].model, &b = (*sides)[1].model;
  if (request.level == verify::Level::kAuto) {
    // A tolerance, and the first difference, are questions about every element.
    if (session.options.dry_run || request.first_difference || request.atol > 0 || request.rtol > 0) return false;
    if (!IsWorthSampling(*a, *b, request.sample.aim)) return false;
  }
  KeptPrints prints;
  SLUICE_ASSIGN(result->sample,
                CompareSamples(session, a, b, request.sample, request.for_evidence ? &prints : nullptr));
  if (!result->sample) return true;
  (*sides)[0].fingerprint = std::move(prints[0]);
  (*sides)[1].fingerprint = std::move(prints[1]);
  result->bytes_read = result->sample->bytes_read;
  result->level = verify::Level::kFingerprint;
  result->verdict = verify::DecideFingerprint(result->config, *result->sample);
  result->unequal = verify::ChangedTensors(*result->sample);
  return request.level == verify::Level::kFingerprint || verify::SampleEndsAuto(*result->sample);
}

Result<std::optional<Verified>> ComparePair(Session& session, const VerifyRequest& request) {
  std::array<VerifiedSide, 2> sides;
  SLUICE_ASSIGN(sides[0], OpenSide(session, request.sides[0], "a"));
  SLUICE_ASSIGN(sides[1], OpenSide(session, request.sides[1], "b"));
  std::error_code error;
  if (std::filesystem::equivalent(request.sides[0].ref, request.sides[1].ref, error) && !error) {
    session.Note("A and B are one path; they are compared all the same");
  }

  verify::Verification result;
  result.ref_a = request.sides[0].ref;
  result.ref_b = request.sides[1].ref;
  result.note_a = request.sides[0].note;
  result.note_b = request.sides[1].note;
  result.asked = request.level;
  result.atol = request.atol;
  result.rtol = request.rtol;
  SLUICE_ASSIGN(result.config, verify::DiffConfigs(*sides[0].model, *sides[1].model));
  bool decided = false;
  if (request.level == verify::Level::kConfig ||
      (request.level == verify::Level::kAuto && verify::ConfigEndsAuto(result.config))) {
    SLUICE_TRY(session.CheckHeadersFit());
    result.level = verify::Level::kConfig;
    result.verdict = verify::DecideConfig(result.config);
    decided = true;
  } else if (request.level != verify::Level::kTensors) {
    SLUICE_ASSIGN(decided, CompareDrawn(session, request, &sides, &result));
    if (decided && !result.sample) return std::nullopt;
  }
  if (!decided) {
    SLUICE_ASSIGN(const bool ran, CompareTensors(session, request, &sides, &result));
    if (!ran) return std::nullopt;
  }
  for (const VerifiedSide& side : sides) SLUICE_TRY(side.watched->CheckUnchanged());
  Verified verified = Answer(session, std::move(result));
  for (VerifiedSide& side : sides) verified.sides.push_back(std::move(side));
  return verified;
}

}  // namespace

Result<std::optional<Verified>> CompareModels(Session& session, const VerifyRequest& request) {
  return request.form == VerifyRequest::Form::kFingerprint ? CompareAgainst(session, request)
                                                           : ComparePair(session, request);
}

std::string PageOf(const Verified& verified) {
  if (verified.comparison->behaviour) return report::BehaviourPage(*verified.comparison);
  const checkpoint::Checkpoint &a = *verified.sides[0].model, &b = *verified.sides[1].model;
  report::VerificationPage page{.result = *verified.comparison, .tensors = {}};
  for (const verify::AlignedGroup& group : verify::Align(a.tensors(), b.tensors()).groups) {
    if (group.a >= 0 && group.b >= 0) page.tensors.emplace_back(a.tensors()[static_cast<size_t>(group.a)].name);
  }
  return report::HtmlOf(page);
}

}  // namespace sluice::cli
