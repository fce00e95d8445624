#include "cli/keep_evidence.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include <fmt/format.h>

#include "checkpoint/model_ref.h"
#include "cli/compare_behaviour.h"
#include "cli/compare_models.h"
#include "generated/version.h"
#include "io/atomic_file.h"
#include "io/byte_source.h"
#include "io/output_folder.h"
#include "kernels/sha256.h"
#include "merge/statement.h"
#include "report/model_report.h"
#include "verify/file_manifest.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;
using Form = VerifyRequest::Form;
using Json = nlohmann::ordered_json;

constexpr std::array<std::pair<Form, const char*>, 6> kForms = {{{Form::kModels, "models"},
                                                                 {Form::kFingerprint, "fingerprint"},
                                                                 {Form::kStatement, "statement"},
                                                                 {Form::kSignature, "signature"},
                                                                 {Form::kAudit, "audit"},
                                                                 {Form::kBehaviour, "behaviour"}}};
constexpr std::array kLevels = {verify::Level::kAuto, verify::Level::kConfig, verify::Level::kFingerprint,
                                verify::Level::kTensors};
constexpr char kFingerprintPaper[] = "fingerprint.json";
constexpr char kSignaturePaper[] = "signature.sig";
constexpr char kKeyPaper[] = "key.pem";
constexpr char kManifestPaper[] = "manifest.json";
constexpr char kPromptsPaper[] = "prompts.txt";

const char* FormName(Form form) {
  return std::ranges::find(kForms, form, [](const auto& entry) { return entry.first; })->second;
}

Json NumberOrNull(const auto& value) { return value ? Json(*value) : Json(nullptr); }

Json OptionsJson(const VerifyRequest& request) {
  switch (request.form) {
    case Form::kModels:
      return {{"level", verify::LevelName(request.level)},
              {"atol", request.atol},
              {"rtol", request.rtol},
              {"detect", request.sample.aim.detect},
              {"confidence", request.sample.aim.confidence}};
    case Form::kSignature: {
      // The signature itself is left out where it lies in the model; in the bundle it has no such place.
      std::vector<std::string> ignored = request.signature.ignored;
      if (const auto path = checkpoint::LocalPathOf(request.sides[0].ref)) {
        if (auto own = verify::PathInModel(*path, request.signature.signature)) ignored.push_back(std::move(*own));
      }
      return {{"ignored", ignored},
              {"allow_symlinks", request.signature.allow_symlinks},
              {"manifest", !request.signature.manifest.empty()}};
    }
    case Form::kAudit:
      return {{"sample", NumberOrNull(request.audit_sample)}, {"facts", NumberOrNull(request.audit_facts)}};
    case Form::kBehaviour: {
      const BehaviourRequest& asked = request.behaviour;
      const bool has_prompts = !asked.prompts.empty(), is_part = asked.share.parts > 0;
      return {{"level", verify::LevelName(request.level)},
              {"gamma", asked.gamma},
              {"alpha", asked.alpha},
              {"challenges", asked.challenges},
              {"challenge_tokens", has_prompts ? Json(nullptr) : Json(asked.challenge_tokens)},
              {"prompts", has_prompts},
              {"part", is_part ? Json{{"part", asked.share.part}, {"parts", asked.share.parts}} : Json(nullptr)}};
    }
    case Form::kFingerprint:
    case Form::kStatement:
      break;
  }
  return Json::object();
}

Json PlanJson(const VerifyRequest& request, const Verified& verified) {
  if (request.form == Form::kAudit) return {{"nonce", verified.audit_nonce}};
  if (request.form == Form::kBehaviour) return verified.json.at("behaviour").at("commitment");
  if (!verified.comparison || !verified.comparison->sample) return nullptr;
  const verify::SampleResult& sample = *verified.comparison->sample;
  return {{"nonce", sample.nonce},
          {"detectable_fraction", sample.aim.detect},
          {"confidence", sample.aim.confidence},
          {"block_elements", verify::kSampleBlockElements},
          {"draws", sample.num_draws},
          {"blocks", sample.blocks},
          {"all_blocks", sample.all_blocks}};
}

std::string ManifestText(const std::string& ref, const checkpoint::ModelDigest& digest) {
  Json json;
  json["schema"] = "sluice/digest/v1";
  json.update(report::DigestJson(report::DigestResult{.ref = ref, .digest = digest}));
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

const std::string& RefOf(const VerifyRequest& request, const std::string& side) {
  return request.sides[request.has_two_models() && side == "b" ? 1 : 0].ref;
}

std::vector<std::string> PathsRead(const VerifyRequest& request, const Verified& verified) {
  std::vector<std::string> paths = {request.against, request.signature.signature, request.signature.key,
                                    request.signature.manifest, request.behaviour.prompts};
  for (const VerifySide& side : request.sides) paths.push_back(side.ref);
  for (const VerifiedSide& side : verified.sides) {
    if (side.model == nullptr) continue;
    for (const auto& file : side.model->files()) paths.push_back(file.path);
    for (const auto& file : side.model->side_files()) paths.push_back(file.path);
    for (const std::string& path : side.model->definitions()) paths.push_back(path);
  }
  return paths;
}

tl::unexpected<Error> BadOptions(const std::string& folder, const std::string& what) {
  return FailIn(ErrorCode::kCorrupt, folder, "evidence.json: " + what);
}

// Options of a bundle by their names.
class Options {
 public:
  Options(const Json& json, std::string folder) : json_(json), folder_(std::move(folder)) {}

  Result<const Json*> At(const char* key, bool (*is_good)(const Json&)) const {
    if (!json_.is_object() || !json_.contains(key) || !is_good(json_.at(key))) {
      return BadOptions(folder_, fmt::format("options: '{}' is missing, or is none", key));
    }
    return &json_.at(key);
  }
  Result<double> Number(const char* key) const {
    SLUICE_ASSIGN(const Json* value, At(key, [](const Json& json) { return json.is_number(); }));
    return value->get<double>();
  }
  Result<uint64_t> Count(const char* key) const {
    SLUICE_ASSIGN(const Json* value, At(key, [](const Json& json) { return json.is_number_unsigned(); }));
    return value->get<uint64_t>();
  }
  Result<std::optional<double>> Share(const char* key) const {
    SLUICE_ASSIGN(const Json* value, At(key, [](const Json& json) {
                    return json.is_null() || (json.is_number() && json.get<double>() > 0 && json.get<double>() <= 1);
                  }));
    return value->is_null() ? std::optional<double>() : std::optional(value->get<double>());
  }
  Result<bool> Truth(const char* key) const {
    SLUICE_ASSIGN(const Json* value, At(key, [](const Json& json) { return json.is_boolean(); }));
    return value->get<bool>();
  }

 private:
  const Json& json_;
  const std::string folder_;
};

Result<void> ReadOptions(const verify::Evidence& evidence, const std::string& folder, VerifyRequest* request) {
  const Options options(evidence.options, folder);
  const auto paper = [&](const char* name) -> Result<std::string> {
    if (!evidence.papers.contains(name)) return BadOptions(folder, fmt::format("{} is not in it", name));
    return (fs::path(folder) / name).string();
  };
  switch (request->form) {
    case Form::kModels: {
      SLUICE_ASSIGN(const Json* level, options.At("level", [](const Json& json) { return json.is_string(); }));
      const auto found = std::ranges::find(kLevels, level->get<std::string>(),
                                           [](verify::Level one) { return std::string(verify::LevelName(one)); });
      if (found == kLevels.end()) {
        return FailIn(ErrorCode::kUnsupported, folder,
                      fmt::format("a verification at the level {} is not supported yet", level->dump()));
      }
      request->level = *found;
      SLUICE_ASSIGN(request->atol, options.Number("atol"));
      SLUICE_ASSIGN(request->rtol, options.Number("rtol"));
      SLUICE_ASSIGN(request->sample.aim.detect, options.Number("detect"));
      SLUICE_ASSIGN(request->sample.aim.confidence, options.Number("confidence"));
      SLUICE_TRY_IN(folder, verify::CheckAim(request->sample.aim));
      if (evidence.plan.is_null()) return {};
      const Options plan(evidence.plan, folder);
      SLUICE_ASSIGN(const Json* nonce, plan.At("nonce", [](const Json& json) { return json.is_string(); }));
      request->sample.nonce = nonce->get<std::string>();
      if (!verify::ParseNonce(request->sample.nonce)) return BadOptions(folder, "plan: 'nonce' is none");
      return {};
    }
    case Form::kFingerprint: {
      SLUICE_ASSIGN(request->against, paper(kFingerprintPaper));
      return {};
    }
    case Form::kSignature: {
      SLUICE_ASSIGN(request->signature.signature, paper(kSignaturePaper));
      SLUICE_ASSIGN(request->signature.key, paper(kKeyPaper));
      SLUICE_ASSIGN(request->signature.allow_symlinks, options.Truth("allow_symlinks"));
      SLUICE_ASSIGN(const bool has_manifest, options.Truth("manifest"));
      if (has_manifest) {
        SLUICE_ASSIGN(request->signature.manifest, paper(kManifestPaper));
      }
      SLUICE_ASSIGN(const Json* ignored, options.At("ignored", [](const Json& json) { return json.is_array(); }));
      for (const Json& path : *ignored) {
        if (!path.is_string()) return BadOptions(folder, "options: 'ignored' is no list of paths");
        request->signature.ignored.push_back(path.get<std::string>());
      }
      return {};
    }
    case Form::kAudit: {
      SLUICE_ASSIGN(request->audit_sample, options.Share("sample"));
      SLUICE_ASSIGN(request->audit_facts, options.Share("facts"));
      const Options plan(evidence.plan, folder);
      SLUICE_ASSIGN(const Json* nonce, plan.At("nonce", [](const Json& json) { return json.is_number_unsigned(); }));
      request->audit_nonce = nonce->get<uint64_t>();
      return {};
    }
    case Form::kBehaviour: {
      BehaviourRequest& asked = request->behaviour;
      request->level = verify::Level::kBehaviour;
      SLUICE_ASSIGN(asked.gamma, options.Number("gamma"));
      SLUICE_ASSIGN(asked.alpha, options.Number("alpha"));
      SLUICE_ASSIGN(asked.challenges, options.Count("challenges"));
      SLUICE_ASSIGN(const bool has_prompts, options.Truth("prompts"));
      if (has_prompts) {
        SLUICE_ASSIGN(asked.prompts, paper(kPromptsPaper));
      } else {
        SLUICE_ASSIGN(asked.challenge_tokens, options.Count("challenge_tokens"));
      }
      SLUICE_ASSIGN(const Json* part, options.At("part", [](const Json&) { return true; }));
      if (!part->is_null()) {
        const Options share(*part, folder);
        SLUICE_ASSIGN(asked.share.part, share.Count("part"));
        SLUICE_ASSIGN(asked.share.parts, share.Count("parts"));
        if (asked.share.part == 0 || asked.share.part > asked.share.parts) return BadOptions(folder, "'part' is none");
      }
      if (!evidence.plan.is_null()) {
        const Options plan(evidence.plan, folder);
        SLUICE_ASSIGN(const Json* key, plan.At("key", [](const Json& json) { return json.is_string(); }));
        asked.key = key->get<std::string>();
      }
      SLUICE_TRY_IN(folder, CheckBehaviourRequest(asked));
      return {};
    }
    case Form::kStatement:
      return {};
  }
  return {};
}

}  // namespace

Result<void> CheckHoldsNothingRead(const std::string& folder, const std::vector<std::string>& paths) {
  std::error_code error;
  const fs::path place = fs::canonical(folder, error);
  if (error) return {};
  for (const std::string& path : paths) {
    if (path.empty()) continue;
    const fs::path read = fs::canonical(path, error);
    if (error || std::ranges::mismatch(place, read).in1 != place.end()) continue;
    return Fail(ErrorCode::kUsage,
                fmt::format("--evidence {}: the verification reads {}, which --force would remove with what else is "
                            "there: choose another folder",
                            folder, path));
  }
  return {};
}

Result<void> CheckEvidenceRequest(const VerifyRequest& request, const std::string& folder, bool force) {
  if (request.first_difference) {
    return Fail(ErrorCode::kUsage,
                "--evidence keeps what can be computed again, with the roots of what was read; --first-difference "
                "stops where it happens to meet one: leave it away");
  }
  if (request.form == Form::kSignature) {
    const auto path = checkpoint::LocalPathOf(request.sides[0].ref);
    if (path && verify::PathInModel(*path, folder)) {
      return Fail(ErrorCode::kUsage,
                  fmt::format("--evidence {}: it would be one more file of the model that is signed: choose a folder "
                              "outside of it",
                              folder));
    }
  }
  SLUICE_TRY(CheckHoldsNothingRead(folder, PathsRead(request, {})));
  if (!request.behaviour.commitment.empty()) {
    std::error_code error;
    if (!force && fs::exists(request.behaviour.commitment, error)) {
      return FailIn(ErrorCode::kOutputExists, request.behaviour.commitment,
                    "exists: it may be another run's commitment; choose another folder, or give --force");
    }
    SLUICE_TRY(io::CheckWritable(request.behaviour.commitment));
  }
  auto place = io::OutputFolder::Create(folder, force);
  if (!place) return Fail(std::move(place.error()));
  return {};
}

Json ResultJson(const Verified& verified) {
  Json json;
  json["schema"] = "sluice/verify/v1";
  json.update(verified.json);
  return Json::parse(json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Result<verify::EvidenceSide> DescribeVerified(Session& session, const VerifyRequest& request,
                                              const VerifiedSide& side) {
  verify::EvidenceSide described{.name = side.name, .ref = RefOf(request, side.name), .kind = "files"};
  if (side.model != nullptr) {
    SLUICE_ASSIGN(described, verify::DescribeSide(side.name, *side.model, &session.budget));
    described.ref = RefOf(request, side.name);
  } else if (side.fingerprint) {
    described = verify::DescribeHeaders(side.name, side.fingerprint->model, side.fingerprint->headers());
  }
  if (!side.files.empty()) described.files = side.files;
  if (request.form == Form::kStatement || request.form == Form::kAudit) {
    const std::string path = (fs::path(request.sides[0].ref) / merge::kStatementFile).string();
    SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(path));
    described.files.push_back({merge::kStatementFile, text.size(), kernels::HashText(text)});
  }
  if (side.model != nullptr && request.has_two_models()) {
    const VerifySide& asked = request.sides[side.name == "b" ? 1 : 0];
    described.seed = asked.seed;
    described.arithmetic = asked.arithmetic;
    described.lora_merge_dtype = asked.lora_merge_dtype;
  } else if (side.model != nullptr) {
    described.seed = request.sides[0].seed;
    described.arithmetic = request.sides[0].arithmetic;
  }
  if (side.digest) {
    described.weights_root = side.digest->weights_root;
    described.root = side.digest->model_root;
  }
  if (side.watched) SLUICE_TRY(side.watched->CheckUnchanged());
  return described;
}

Result<void> KeepEvidence(Session& session, const VerifyRequest& request, const Verified& verified,
                          const std::string& folder, bool force) {
  SLUICE_TRY(CheckHoldsNothingRead(folder, PathsRead(request, verified)));
  verify::Evidence evidence{.form = FormName(request.form),
                            .options = OptionsJson(request),
                            .plan = PlanJson(request, verified),
                            .result = ResultJson(verified),
                            .papers = verified.papers};
  for (const VerifiedSide& side : verified.sides) {
    SLUICE_ASSIGN(verify::EvidenceSide described, DescribeVerified(session, request, side));
    if (side.digest) evidence.papers[side.name + ".manifest.json"] = ManifestText(described.ref, *side.digest);
    // That of --against is a paper already.
    if (side.fingerprint && side.model != nullptr) {
      evidence.papers[side.name + ".fingerprint.json"] = verify::FingerprintFileText(*side.fingerprint);
    }
    evidence.sides.push_back(std::move(described));
  }
  if (request.has_two_models() && verified.comparison->level != verify::Level::kConfig) {
    evidence.papers["report.html"] = PageOf(verified);
  }
  return verify::WriteEvidence(folder, evidence, force, session.cancelled);
}

Result<VerifyRequest> RequestOf(const verify::Evidence& evidence, const std::string& folder,
                                const std::vector<std::string>& refs) {
  VerifyRequest request;
  const auto form =
      std::ranges::find(kForms, evidence.form, [](const auto& entry) { return std::string(entry.second); });
  if (form == kForms.end()) {
    return FailIn(
        ErrorCode::kUnsupported, folder,
        fmt::format("evidence of the form '{}' is not supported yet: {} made it", evidence.form, evidence.made_by));
  }
  request.form = form->first;
  request.for_evidence = true;
  // The side that a fingerprint stands for is not read.
  for (const verify::EvidenceSide& side : evidence.sides) {
    if (side.kind == "fingerprint") continue;
    request.sides.push_back(
        {side.ref, side.seed, side.arithmetic, side.lora_merge_dtype,
         side.seed && side.arithmetic
             ? fmt::format("seed {} and {} arithmetic, as the evidence says", *side.seed, *side.arithmetic)
             : ""});
  }
  if (request.sides.size() != (request.has_two_models() ? 2 : 1)) {
    return BadOptions(folder, fmt::format("it has {} models", request.sides.size()));
  }
  if (!refs.empty() && refs.size() != request.sides.size()) {
    return Fail(ErrorCode::kUsage, fmt::format("--replay {}: it is of {}, and {} named: name where {} now, or none",
                                               folder, request.sides.size() == 1 ? "one model" : "two models",
                                               refs.size() == 1 ? "one is" : fmt::format("{} are", refs.size()),
                                               request.sides.size() == 1 ? "it is" : "both are"));
  }
  for (size_t i = 0; i < refs.size(); ++i) request.sides[i].ref = refs[i];
  SLUICE_TRY(ReadOptions(evidence, folder, &request));
  return request;
}

}  // namespace sluice::cli
