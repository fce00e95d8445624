// sluice verify A B: are they the same, and if not, what differs; sluice verify MERGED: is it what its maker sealed.
#include <charconv>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "cli/api_options.h"
#include "cli/behaviour_bundle.h"
#include "cli/command.h"
#include "cli/compare_behaviour.h"
#include "cli/compare_models.h"
#include "cli/keep_evidence.h"
#include "cli/replay_evidence.h"
#include "cli/run_verification.h"
#include "io/atomic_file.h"
#include "merge/statement.h"
#include "verify/api_model/api_model.h"

namespace sluice::cli::commands {
namespace {

struct Values {
  std::vector<std::string> refs;
  std::string level = "auto", arithmetic, against;
  std::optional<uint64_t> seed;
  double atol = 0, rtol = 0;
  bool first_difference = false;
  std::optional<double> sample, facts;
  std::string nonce;
  std::optional<double> detect, confidence;
  std::string report, evidence, replay;
  bool force = false;
  std::optional<double> gamma, alpha;
  std::optional<uint64_t> challenges, challenge_tokens;
  std::string prompts, part;
  bool join = false;
  SignatureRequest signature;
  ApiRequest api;
  const CLI::App* app = nullptr;
  std::vector<const CLI::Option*> not_with_replay, not_with_join;
};

constexpr char kDetails[] =
    R"(Levels, cheapest first; each says what it proves and what it does not:
  config       headers and JSON: architecture, names, shapes, tokenizer, parameters
  fingerprint  a few thousand blocks, drawn by a nonce: a change of --detect of all blocks or more is noticed
               with a probability of --confidence
  tensors      every byte: equality tensor by tensor, or exactly how they differ
  behaviour    what both compute: --challenges drawn by a key, or --prompts; a test whose errors are at most
               --alpha says whether their next-token distributions differ by less than --gamma on average
  auto         these in turn, until a difference is found that no rounding explains or all is read (default);
               without the fingerprint where that would save no reading

Verdicts and exit status:
  0  IDENTICAL, EQUAL_AFTER_CAST; SAME_CONFIG, SAME_SAMPLE, SAME_BEHAVIOUR where that level or --against was asked
     for by name
  1  ROUNDED, SAME_WEIGHTS, SAME_ARCHITECTURE_DIFFERENT_WEIGHTS, DIFFERENT_ARCHITECTURE, DIFFERENT_FILES,
     DIFFERENT_BEHAVIOUR
  3  INVALID: a model gave no numbers, or challenges could not be asked of both
  5  UNDECIDED

verify B --against F reads the blocks that F names, a file of `sluice fingerprint A -o F`, and nothing else.
verify MERGED (one folder) computes its root and compares it with sluice_merge.json, the statement beside it.
verify MERGED --sample P --facts Q makes parts of the merge again from its parents, by that statement.
verify MODEL --signature model.sig --key pub.pem tells whether the files are those that were signed: IDENTICAL, or
DIFFERENT_FILES with what was changed, is missing or was added (docs/signatures.md). Where the folder is a merge
its statement is checked in the same read.
verify MERGED RECIPE makes the merge again, with the seed and the arithmetic of that statement, and compares
every byte.
Where a side is api+https://host/v1#model, a model behind an OpenAI-compatible server (key: SLUICE_API_KEY), what it
tells of next tokens is compared (docs/api_models.md); floor and cost are printed first.
--part I/N --nonce KEY --evidence DIR asks a share of the challenges; verify --join DIR... of all shares says what
one run would have said.
--evidence DIR keeps any of these for others; verify --replay DIR does it again and exits with 0 where all of it
reproduces, 1 where it does not, 3 where a file of DIR was changed (docs/evidence.md).

Examples:
  sluice verify original/ copy/
  sluice verify model.gguf model-bf16/ --level tensors
  sluice verify a/ b/ --level fingerprint --detect 0.0001
  sluice verify download/ --against original.fingerprint.json
  sluice verify merged/ recipe.yml
  sluice verify merged/ --sample 0.01 --facts 0.1
  sluice verify model/ --signature model/model.sig --key pub.pem
  sluice verify a/ b/ --atol 1e-6 --rtol 1e-3 --json
  sluice verify a/ b/ --level behaviour --gamma 0.025 --challenges 1024
  sluice verify a/ recipe.yml --level behaviour --prompts prompts.txt --report behaviour.html
  sluice verify a/ b/ --level behaviour --part 1/2 --nonce KEY --evidence part1/
  sluice verify --join part1/ part2/
  sluice verify a/ api+https://host/v1#model --level behaviour --api-positions 1 --dry-run
  sluice verify a/ b/ --evidence proof/
  sluice verify --replay proof/
  sluice verify --replay proof/ /models/a /models/b
)";

Result<verify::Level> ReadLevel(const std::string& name) {
  if (name == "auto") return verify::Level::kAuto;
  if (name == "config") return verify::Level::kConfig;
  if (name == "fingerprint") return verify::Level::kFingerprint;
  if (name == "tensors") return verify::Level::kTensors;
  if (name == "behaviour") return verify::Level::kBehaviour;
  return Fail(ErrorCode::kUsage,
              fmt::format("--level {}: write auto, config, fingerprint, tensors or behaviour", name));
}

bool IsRecipeRef(const std::string& ref) {
  const std::string path = ref.substr(0, ref.find('#'));
  return path.ends_with(".yml") || path.ends_with(".yaml");
}

bool HasStatement(const std::string& ref) {
  std::error_code error;
  return std::filesystem::is_regular_file(std::filesystem::path(ref) / merge::kStatementFile, error);
}

// A recipe beside a merged folder is computed as that folder states, unless flags say otherwise.
Result<void> TakeFromStatement(const Values& values, const std::string& merged, Session& session, VerifySide* recipe) {
  SLUICE_ASSIGN(const merge::Statement statement, merge::ReadStatement(merged));
  if (!recipe->seed) recipe->seed = statement.seed;
  if (!recipe->arithmetic) recipe->arithmetic = statement.arithmetic;
  if (*recipe->arithmetic == statement.arithmetic) recipe->lora_merge_dtype = statement.lora_merge_dtype;
  recipe->note = fmt::format("seed {} and {} arithmetic, {}", *recipe->seed, *recipe->arithmetic,
                             values.seed && !values.arithmetic.empty() ? "as given" : "as " + merged + " states");
  if (!statement.recipe_overrides.empty()) {
    session.Note(fmt::format("{} was merged with --set {}; the recipe is compared as it stands", merged,
                             fmt::join(statement.recipe_overrides, " --set ")));
  }
  return {};
}

SampleOptions SampleOptionsOf(const Values& values) {
  SampleOptions options{values.nonce, {}};
  if (values.detect) options.aim.detect = *values.detect;
  if (values.confidence) options.aim.confidence = *values.confidence;
  return options;
}

// Models behind servers are asked, not read.
Result<void> CheckApi(const Values& values, verify::Level level) {
  const bool has_server = std::ranges::any_of(values.refs, verify::api_model::IsApiReference);
  if (const std::string given = GivenApiOption(*values.app); !given.empty() && !has_server) {
    return Fail(
        ErrorCode::kUsage,
        fmt::format("--{} is of models behind servers: it goes with a REF as api+https://host/v1#model", given));
  }
  if (!has_server) return {};
  if (level != verify::Level::kBehaviour) {
    return Fail(ErrorCode::kUsage, "a model behind a server has no weights that could be read: use --level behaviour");
  }
  if (!values.report.empty()) {
    return Fail(ErrorCode::kUnsupported, "--report is not supported where a side is a server");
  }
  for (const std::string& ref : values.refs) {
    if (!verify::api_model::IsApiReference(ref)) continue;
    if (auto good = verify::api_model::ParseApiReference(ref); !good) return Fail(std::move(good.error()));
  }
  return CheckApiValues(values.api);
}

// Options of one level alone.
Result<void> CheckBehaviourValues(const Values& values, verify::Level level) {
  const bool asked = values.gamma || values.alpha || values.challenges || values.challenge_tokens ||
                     !values.prompts.empty() || !values.part.empty();
  if (level != verify::Level::kBehaviour) {
    if (!asked) return {};
    return Fail(ErrorCode::kUsage,
                "--gamma, --alpha, --challenges, --challenge-tokens, --prompts and --part go with --level behaviour");
  }
  if (values.refs.size() != 2 || !values.against.empty()) {
    return Fail(ErrorCode::kUsage, "--level behaviour compares two models: name two");
  }
  if (values.atol > 0 || values.rtol > 0 || values.first_difference) {
    return Fail(ErrorCode::kUsage, "--atol, --rtol and --first-difference are of weights: use --level tensors");
  }
  if (values.detect || values.confidence) {
    return Fail(ErrorCode::kUsage, "--detect and --confidence are of drawn blocks: use --level fingerprint");
  }
  if (values.challenge_tokens && !values.prompts.empty()) {
    return Fail(ErrorCode::kUsage, "--challenge-tokens is of drawn challenges; --prompts are taken whole");
  }
  if (!values.part.empty()) {
    SLUICE_TRY(verify::behaviour::ParseShare(values.part));
    if (values.nonce.empty() || values.evidence.empty()) {
      return Fail(ErrorCode::kUsage,
                  "--part is of one run with others, which must have the same key and leave their scores: give --nonce "
                  "and --evidence");
    }
  }
  return {};
}

BehaviourRequest BehaviourOf(const Values& values) {
  BehaviourRequest request;
  request.gamma = values.gamma.value_or(request.gamma);
  request.alpha = values.alpha.value_or(request.alpha);
  request.challenges = values.challenges.value_or(request.challenges);
  request.challenge_tokens = values.challenge_tokens.value_or(request.challenge_tokens);
  request.prompts = values.prompts;
  request.api = values.api;
  request.key = values.nonce;
  if (!values.part.empty()) request.share = *verify::behaviour::ParseShare(values.part);  // CheckBehaviourValues did
  if (!values.evidence.empty()) {
    std::string folder = values.evidence;
    while (folder.size() > 1 && folder.ends_with('/')) folder.pop_back();
    request.commitment = folder + ".commitment.json";
  }
  return request;
}

// What does not go together, before anything is read.
Result<void> CheckValues(const Values& values, verify::Level level) {
  if (values.refs.empty()) return Fail(ErrorCode::kUsage, "REF is required: two models, or one merged folder");
  if (values.first_difference && (values.atol > 0 || values.rtol > 0)) {
    return Fail(ErrorCode::kUsage,
                "--first-difference stops at any change of a bit, so it does not go with --atol and --rtol");
  }
  if (values.refs.size() > 2) {
    return Fail(ErrorCode::kUsage,
                fmt::format("{} models are too many: name two, or one merged folder", values.refs.size()));
  }
  SLUICE_TRY(CheckApi(values, level));
  SLUICE_TRY(CheckBehaviourValues(values, level));
  if (values.sample || values.facts) {
    if (!values.signature.signature.empty()) {
      return Fail(ErrorCode::kUsage, "--signature reads every byte, --sample and --facts some: one at a time");
    }
    if (values.refs.size() != 1 || !values.against.empty()) {
      return Fail(ErrorCode::kUsage, "--sample and --facts look at one merged folder and its statement");
    }
    return {};
  }
  if ((!values.against.empty() || level == verify::Level::kFingerprint) &&
      (values.first_difference || values.atol > 0 || values.rtol > 0)) {
    return Fail(ErrorCode::kUsage,
                "--atol, --rtol and --first-difference are questions about every element: use --level tensors");
  }
  const bool is_signed = !values.signature.signature.empty();
  if (is_signed != !values.signature.key.empty()) {
    return Fail(ErrorCode::kUsage, "--signature FILE and --key PUBLIC.pem go together");
  }
  if (is_signed && (values.refs.size() != 1 || !values.against.empty())) {
    return Fail(ErrorCode::kUsage, "--signature is of the files of one model: name one, without --against");
  }
  if (!is_signed && !values.signature.manifest.empty()) {
    return Fail(ErrorCode::kUsage, "--manifest goes with --signature; alone it is `sluice digest REF --check FILE`");
  }
  if (!is_signed && (!values.signature.ignored.empty() || values.signature.allow_symlinks)) {
    return Fail(ErrorCode::kUsage, "--ignore and --allow-symlinks go with --signature");
  }
  if (!values.report.empty() && values.refs.size() == 1) {
    return Fail(ErrorCode::kUsage, "--report is of two models that are compared");
  }
  if (!values.against.empty()) {
    if (values.refs.size() != 1) {
      return Fail(ErrorCode::kUsage, "--against holds one model against the fingerprint of another: name one model");
    }
    if (level != verify::Level::kAuto && level != verify::Level::kFingerprint) {
      return Fail(ErrorCode::kUsage, fmt::format("--against is of the level fingerprint, not {}", values.level));
    }
    if (!values.nonce.empty() || values.detect || values.confidence) {
      return Fail(ErrorCode::kUsage,
                  "--against takes nonce, share and confidence from the fingerprint: leave --nonce, --detect and "
                  "--confidence away");
    }
    return {};
  }
  if (level == verify::Level::kBehaviour) return CheckBehaviourRequest(BehaviourOf(values));
  const bool draws = level == verify::Level::kFingerprint || level == verify::Level::kAuto;
  if ((!values.nonce.empty() || values.detect || values.confidence) && (!draws || values.refs.size() == 1)) {
    return Fail(
        ErrorCode::kUsage,
        "--nonce goes with --sample and --facts, with --level behaviour, and with --detect and --confidence at the "
        "levels fingerprint and auto, which compare two models");
  }
  SLUICE_TRY(verify::CheckAim(SampleOptionsOf(values).aim));
  SLUICE_TRY(SampleOptionsOf(values).MakeNonce());
  if (values.refs.size() == 1 && (level == verify::Level::kConfig || level == verify::Level::kFingerprint)) {
    return Fail(ErrorCode::kUsage,
                fmt::format("--level {} compares two models; one folder and its papers need every byte", values.level));
  }
  return {};
}

// Of --sample and --facts a whole number; of the rest CheckValues has looked at it.
Result<void> ReadAudit(const Values& values, VerifyRequest* request) {
  request->form = VerifyRequest::Form::kAudit;
  request->audit_sample = values.sample;
  request->audit_facts = values.facts;
  if (values.nonce.empty()) return {};
  const char* end = values.nonce.data() + values.nonce.size();
  uint64_t nonce = 0;
  if (const auto read = std::from_chars(values.nonce.data(), end, nonce); read.ec != std::errc() || read.ptr != end) {
    return Fail(ErrorCode::kUsage, fmt::format("--nonce {}: --sample and --facts want a whole number", values.nonce));
  }
  request->audit_nonce = nonce;
  return {};
}

Result<VerifyRequest> RequestOfValues(const Values& values, verify::Level level, Session& session) {
  using Form = VerifyRequest::Form;
  VerifyRequest request;
  const std::optional<std::string> arithmetic =
      values.arithmetic.empty() ? std::nullopt : std::optional(values.arithmetic);
  for (const std::string& ref : values.refs) request.sides.push_back({ref, values.seed, arithmetic});
  request.level = level;
  request.for_evidence = !values.evidence.empty();
  if (values.sample || values.facts) {
    SLUICE_TRY(ReadAudit(values, &request));
    return request;
  }
  if (!values.against.empty()) {
    request.form = Form::kFingerprint;
    request.against = values.against;
    return request;
  }
  if (values.refs.size() == 1) {
    request.form = values.signature.signature.empty() ? Form::kStatement : Form::kSignature;
    request.signature = values.signature;
    return request;
  }
  request.atol = values.atol;
  request.rtol = values.rtol;
  request.first_difference = values.first_difference;
  request.sample = SampleOptionsOf(values);
  if (level == verify::Level::kBehaviour) {
    request.form = Form::kBehaviour;
    request.behaviour = BehaviourOf(values);
  }
  for (size_t i = 0; i < 2; ++i) {
    if (IsRecipeRef(request.sides[i].ref) && HasStatement(request.sides[1 - i].ref)) {
      SLUICE_TRY(TakeFromStatement(values, request.sides[1 - i].ref, session, &request.sides[i]));
    }
  }
  return request;
}

Result<int> Replay(const Values& values, Session& session) {
  for (const CLI::Option* option : values.not_with_replay) {
    if (option->count() == 0) continue;
    return Fail(ErrorCode::kUsage, fmt::format("--replay does again what the evidence says was asked: leave --{} away",
                                               option->get_lnames().front()));
  }
  return ReplayEvidence(session, values.replay, values.refs);
}

Result<int> Join(const Values& values, Session& session) {
  for (const CLI::Option* option : values.not_with_join) {
    if (option->count() == 0) continue;
    return Fail(ErrorCode::kUsage, fmt::format("--join puts together what its parts have asked: leave --{} away",
                                               option->get_lnames().front()));
  }
  if (values.refs.empty()) return Fail(ErrorCode::kUsage, "--join wants the folders of all parts: name them");
  if (values.force && values.evidence.empty()) {
    return Fail(ErrorCode::kUsage, "--force replaces a folder of --evidence, and there is no --evidence");
  }
  return JoinParts(session, {values.refs, values.report, values.evidence, values.force});
}

Result<int> Run(const Values& values, Session& session) {
  if (values.join) return Join(values, session);
  if (!values.replay.empty()) return Replay(values, session);
  SLUICE_ASSIGN(const verify::Level level, ReadLevel(values.level));
  SLUICE_TRY(CheckValues(values, level));
  if (values.force && values.evidence.empty()) {
    return Fail(ErrorCode::kUsage, "--force replaces a folder of --evidence, and there is no --evidence");
  }
  SLUICE_ASSIGN(const VerifyRequest request, RequestOfValues(values, level, session));
  // That it cannot be written shows before the work.
  if (!values.report.empty()) SLUICE_TRY(io::CheckWritable(values.report));
  if (!values.evidence.empty()) SLUICE_TRY(CheckEvidenceRequest(request, values.evidence, values.force));
  SLUICE_ASSIGN(const auto verified, RunVerification(session, request));
  if (!verified) return 0;
  if (!values.report.empty()) SLUICE_TRY(io::WriteFileAtomically(values.report, PageOf(*verified)));
  if (!values.evidence.empty()) {
    SLUICE_TRY(KeepEvidence(session, request, *verified, values.evidence, values.force));
  }
  session.Print(verified->json, verified->text);
  return verified->status;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("REF", values->refs, "Two models, or one merged folder with its statement")
      ->expected(0, 1 << 20)
      ->group("Arguments");
  app.add_option("--level", values->level, "auto, config, fingerprint, tensors or behaviour")
      ->type_name("LEVEL")
      ->group("Options");
  app.add_option("--atol", values->atol,
                 "A tensor is within tolerance where |a - b| <= atol + rtol |b| holds everywhere")
      ->check(CLI::NonNegativeNumber)
      ->type_name("X")
      ->group("Options");
  app.add_option("--rtol", values->rtol, "See --atol. The verdict does not depend on either")
      ->check(CLI::NonNegativeNumber)
      ->type_name("X")
      ->group("Options");
  app.add_flag("--first-difference", values->first_difference,
               "Stop at the first byte that no cast and no rounding explains")
      ->group("Options");
  app.add_option("--seed", values->seed, "For a side that is a recipe")->type_name("N")->group("Options");
  app.add_option("--arithmetic", values->arithmetic, "For a side that is a recipe: exact or mergekit")
      ->type_name("MODE")
      ->group("Options");
  const auto is_share = CLI::Validator(
      [](std::string& text) {
        char* end = nullptr;
        const double share = std::strtod(text.c_str(), &end);
        return *end == '\0' && share > 0 && share <= 1 ? std::string() : "want a number above 0, up to 1, not " + text;
      },
      "");
  app.add_option("--sample", values->sample, "Of MERGED: make this share of its 1 MiB chunks again and compare")
      ->check(is_share)
      ->type_name("P")
      ->group("Options");
  app.add_option("--facts", values->facts, "Of MERGED: find the facts of this share of its tensors again and compare")
      ->check(is_share)
      ->type_name("Q")
      ->group("Options");
  app.add_option("--against", values->against, "Compare with a file of `sluice fingerprint` instead of a second model")
      ->type_name("FILE")
      ->group("Options");
  app.add_option("--detect", values->detect,
                 "Of drawn blocks: notice that this share of all blocks differs (default: 0.001) ...")
      ->type_name("F")
      ->group("Options");
  app.add_option("--confidence", values->confidence, "... with this probability at least (default: 0.99)")
      ->type_name("C")
      ->group("Options");
  app.add_option(
         "--nonce", values->nonce,
         "What blocks and challenges are drawn by, 32 or 64 hexadecimal digits; for --sample and --facts a whole "
         "number (default: random, and told)")
      ->type_name("N")
      ->group("Options");
  app.add_option("--gamma", values->gamma,
                 "Of behaviour: the tolerance; total variation of next-token distributions, averaged (default: 0.025)")
      ->type_name("X")
      ->group("Options");
  app.add_option("--alpha", values->alpha,
                 "Of behaviour: SAME, or DIFFERENT, is said falsely with this probability at most (default: 0.01)")
      ->type_name("X")
      ->group("Options");
  app.add_option("--challenges", values->challenges, "Of behaviour: so many at most (default: 1024)")
      ->type_name("N")
      ->group("Options");
  app.add_option("--challenge-tokens", values->challenge_tokens, "Of behaviour: tokens of a challenge (default: 64)")
      ->type_name("N")
      ->group("Options");
  app.add_option("--prompts", values->prompts, "Of behaviour: challenges are these, one a line, in keyed order")
      ->type_name("FILE")
      ->group("Options");
  app.add_option(
         "--part", values->part,
         "Of behaviour: ask the I-th of N shares of the challenges alone, for --join; with --nonce and --evidence")
      ->type_name("I/N")
      ->group("Options");
  app.add_option("--report", values->report, "Write a page of the result for people: one HTML file")
      ->type_name("FILE")
      ->group("Options");
  app.add_option("--signature", values->signature.signature,
                 "Of one model: are its files those that were signed (OpenSSF Model Signing)")
      ->type_name("FILE")
      ->group("Options");
  app.add_option("--key", values->signature.key, "With --signature: the public key, PEM")
      ->type_name("FILE")
      ->group("Options");
  app.add_option("--ignore", values->signature.ignored,
                 "With --signature: leave out this path of the model too (repeatable)")
      ->allow_extra_args(false)
      ->type_name("PATH")
      ->group("Options");
  app.add_flag("--allow-symlinks", values->signature.allow_symlinks,
               "With --signature: follow links to files, as a hub cache has them")
      ->group("Options");
  app.add_option("--manifest", values->signature.manifest,
                 "With --signature: compare with a manifest of `digest -o` too, in the same read")
      ->type_name("FILE")
      ->group("Options");
  app.add_option("--evidence", values->evidence,
                 "Write what it takes to check and repeat this: a folder with results, roots, nonce, plan and digests")
      ->type_name("DIR")
      ->group("Options");
  app.add_flag("--force", values->force, "With --evidence: replace a folder that exists")->group("Options");
  AddApiOptions(app, &values->api);
  values->app = &app;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group() == "Options") values->not_with_replay.push_back(option);
  }
  for (const CLI::Option* option : values->not_with_replay) {
    const std::string& name = option->get_lnames().front();
    if (name != "report" && name != "evidence" && name != "force") values->not_with_join.push_back(option);
  }
  values->not_with_replay.push_back(
      app.add_flag("--join", values->join, "REF are folders of --part: put the whole run together and decide")
          ->group("Options"));
  app.add_option("--replay", values->replay,
                 "Do again what a folder of --evidence holds, and compare; REF where the models are elsewhere now")
      ->type_name("DIR")
      ->group("Options");
  values->not_with_join.push_back(app.get_option("--replay"));
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& verify_command() {
  static constexpr Command kCommand{
      .name = "verify",
      .summary = "Whether two models are the same, and if not, exactly what differs",
      .synopsis =
          "verify A B [--level LEVEL] [options]  or  verify B --against F  or  verify MERGED  or  verify --replay DIR",
      .details = kDetails,
      .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
