// sluice verify A B: are they the same, and if not, what differs; sluice verify MERGED: is it what its maker sealed.
#include <array>
#include <charconv>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "base/memory_budget.h"
#include "checkpoint/digest_tree.h"
#include "cli/audit_merge.h"
#include "cli/check_folder.h"
#include "cli/command.h"
#include "cli/run_pass.h"
#include "cli/sample_pass.h"
#include "cli/watched_files.h"
#include "io/atomic_file.h"
#include "io/byte_source.h"
#include "kernels/sha256.h"
#include "merge/statement.h"
#include "report/audit_report.h"
#include "report/verification_page.h"
#include "report/verification_report.h"
#include "stream/checkpoint_groups.h"
#include "verify/comparison_sink.h"
#include "verify/verification.h"

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
  std::string report;
  SignatureRequest signature;
  RefusedOptions refused;
};

constexpr char kDetails[] =
    R"(Levels, cheapest first; each says what it proves and what it does not:
  config       headers and JSON: architecture, names, shapes, tokenizer, parameters
  fingerprint  a few thousand blocks, drawn by a nonce: a change of --detect of all blocks or more is noticed
               with a probability of --confidence
  tensors      every byte: equality tensor by tensor, or exactly how they differ
  auto         these in turn, until a difference is found that no rounding explains or all is read (default);
               without the fingerprint where that would save no reading

Verdicts and exit status:
  0  IDENTICAL, EQUAL_AFTER_CAST; SAME_CONFIG, SAME_SAMPLE where config, fingerprint or --against was asked for
  1  ROUNDED, SAME_WEIGHTS, SAME_ARCHITECTURE_DIFFERENT_WEIGHTS, DIFFERENT_ARCHITECTURE, DIFFERENT_FILES
  5  UNDECIDED

verify B --against F reads the blocks that F names, a file of `sluice fingerprint A -o F`, and nothing else.
verify MERGED (one folder) computes its root and compares it with sluice_merge.json, the statement beside it.
verify MERGED --sample P --facts Q makes parts of the merge again from its parents, by that statement.
verify MODEL --signature model.sig --key pub.pem tells whether the files are those that were signed: IDENTICAL, or
DIFFERENT_FILES with what was changed, is missing or was added (docs/signatures.md). Where the folder is a merge
its statement is checked in the same read.
verify MERGED RECIPE makes the merge again, with the seed and the arithmetic of that statement, and compares
every byte.

Examples:
  sluice verify original/ copy/
  sluice verify model.gguf model-bf16/ --level tensors
  sluice verify a/ b/ --level fingerprint --detect 0.0001
  sluice verify download/ --against original.fingerprint.json
  sluice verify merged/ recipe.yml
  sluice verify merged/ --sample 0.01 --facts 0.1
  sluice verify model/ --signature model/model.sig --key pub.pem
  sluice verify a/ b/ --atol 1e-6 --rtol 1e-3 --json
)";

Result<verify::Level> ReadLevel(const std::string& name) {
  if (name == "auto") return verify::Level::kAuto;
  if (name == "config") return verify::Level::kConfig;
  if (name == "fingerprint") return verify::Level::kFingerprint;
  if (name == "tensors") return verify::Level::kTensors;
  if (name == "behaviour") {
    return Fail(
        ErrorCode::kUnsupported,
        "--level behaviour is not supported yet; config, fingerprint and tensors compare the models themselves");
  }
  return Fail(ErrorCode::kUsage, fmt::format("--level {}: write auto, config, fingerprint or tensors", name));
}

bool IsRecipeRef(const std::string& ref) {
  const std::string path = ref.substr(0, ref.find('#'));
  return path.ends_with(".yml") || path.ends_with(".yaml");
}

bool HasStatement(const std::string& ref) {
  std::error_code error;
  return std::filesystem::is_regular_file(std::filesystem::path(ref) / merge::kStatementFile, error);
}

// What a side is opened with.
struct Side {
  std::string ref;
  std::optional<uint64_t> seed;
  std::optional<std::string> arithmetic;
  std::string lora_merge_dtype;  // only ever a statement's
  std::string note;
};

// A recipe beside a merged folder is computed as that folder states, unless flags say otherwise.
Result<void> TakeFromStatement(const Values& values, const std::string& merged, Session& session, Side* recipe) {
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

// Reads every byte of both and fills in summary, tensors and verdict. False with --dry-run.
Result<bool> CompareTensors(const Values& values, const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b,
                            Session& session, verify::Verification* result) {
  const verify::Alignment alignment = verify::Align(a.tensors(), b.tensors());
  const stream::LockstepGroups groups(alignment.Members(a, b));
  verify::ComparisonSink sink(a, b, alignment,
                              {.num_threads = session.options.threads,
                               .budget = &session.budget,
                               .atol = values.atol,
                               .rtol = values.rtol,
                               .first_difference = values.first_difference});
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
    SLUICE_ASSIGN(const checkpoint::ModelDigest digest_a, checkpoint::MakeModelDigest(sink.DigestsOfA(), a));
    SLUICE_ASSIGN(const checkpoint::ModelDigest digest_b, checkpoint::MakeModelDigest(sink.DigestsOfB(), b));
    verify::ResolveTiedAndRenamed(digest_a.tied, digest_b.tied, &result->unequal);
    result->summary = verify::Summarise(result->unequal, sink.identical_tensors(), sink.identical_elements());
    result->changes = verify::SummariseChanges(a, result->unequal);
    result->grids_a = sink.GridsOf(0);
    result->grids_b = sink.GridsOf(1);
    result->summary->weights_root_a = digest_a.weights_root;
    result->summary->weights_root_b = digest_b.weights_root;
    result->summary->model_root_a = digest_a.model_root;
    result->summary->model_root_b = digest_b.model_root;
  }
  result->verdict = verify::DecideTensors(result->config, *result->summary);
  return true;
}

SampleOptions SampleOptionsOf(const Values& values) {
  SampleOptions options{values.nonce, {}};
  if (values.detect) options.aim.detect = *values.detect;
  if (values.confidence) options.aim.confidence = *values.confidence;
  return options;
}

Result<void> WritePage(const std::string& path, const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b,
                       const verify::Verification& result) {
  report::VerificationPage page{.result = result, .tensors = {}};
  for (const verify::AlignedGroup& group : verify::Align(a.tensors(), b.tensors()).groups) {
    if (group.a >= 0 && group.b >= 0) page.tensors.emplace_back(a.tensors()[static_cast<size_t>(group.a)].name);
  }
  return io::WriteFileAtomically(path, report::HtmlOf(page));
}

void Measure(const Session& session, verify::Verification* result) {
  result->budget_bytes = session.options.max_memory_bytes;
  result->peak_bytes = PeakResidentBytes();
  result->seconds = session.seconds();
}

int Print(Session& session, verify::Verification* result) {
  Measure(session, result);
  session.Print(report::VerificationJson(*result), report::VerificationText(*result));
  return verify::VerdictExitStatus(result->verdict);
}

// `verify B --against F`.
Result<int> VerifyAgainst(const Values& values, verify::Level level, Session& session) {
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
  SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(values.against, verify::kMaxFingerprintBytes));
  SLUICE_ASSIGN(const verify::Fingerprint fingerprint, verify::ParseFingerprint(text, values.against));
  const std::optional<std::string> arithmetic =
      values.arithmetic.empty() ? std::nullopt : std::optional(values.arithmetic);
  SLUICE_ASSIGN(const auto model, session.Open(values.refs[0], values.seed, arithmetic));
  session.WarnOf(*model);
  SLUICE_ASSIGN(const WatchedFiles watched, WatchedFiles::Of(*model, ""));

  verify::Verification result;
  result.ref_a = fmt::format("{}, as {} has it", fingerprint.model, values.against);
  result.ref_b = values.refs[0];
  result.asked = result.level = verify::Level::kFingerprint;
  SLUICE_ASSIGN(const verify::ModelHeaders headers, verify::HeadersOf(*model));
  result.config = verify::DiffHeaders(fingerprint.headers(), headers);
  SLUICE_ASSIGN(result.sample, CompareWithFingerprint(session, fingerprint, values.against, model));
  if (!result.sample) return 0;
  SLUICE_TRY(watched.CheckUnchanged());
  result.bytes_read = result.sample->bytes_read;
  result.verdict = verify::DecideFingerprint(result.config, *result.sample);
  result.unequal = verify::ChangedTensors(*result.sample);
  return Print(session, &result);
}

// Drawn blocks of both, where that was asked for or may spare `auto` the reading of all. True where it has decided.
Result<bool> CompareDrawn(const Values& values, verify::Level level,
                          const std::shared_ptr<const checkpoint::Checkpoint>& a,
                          const std::shared_ptr<const checkpoint::Checkpoint>& b, Session& session,
                          verify::Verification* result) {
  const SampleOptions options = SampleOptionsOf(values);
  if (level == verify::Level::kAuto) {
    // A tolerance, and the first difference, are questions about every element.
    if (session.options.dry_run || values.first_difference || values.atol > 0 || values.rtol > 0) return false;
    if (!IsWorthSampling(*a, *b, options.aim)) return false;
  }
  SLUICE_ASSIGN(result->sample, CompareSamples(session, a, b, options));
  if (!result->sample) return true;
  result->bytes_read = result->sample->bytes_read;
  result->level = verify::Level::kFingerprint;
  result->verdict = verify::DecideFingerprint(result->config, *result->sample);
  result->unequal = verify::ChangedTensors(*result->sample);
  return level == verify::Level::kFingerprint || verify::SampleEndsAuto(*result->sample);
}

Result<int> VerifyPair(const Values& values, verify::Level level, Session& session) {
  const std::optional<std::string> arithmetic =
      values.arithmetic.empty() ? std::nullopt : std::optional(values.arithmetic);
  std::array<Side, 2> sides;
  for (int i = 0; i < 2; ++i) sides[i] = {values.refs[i], values.seed, arithmetic, "", ""};
  for (int i = 0; i < 2; ++i) {
    if (IsRecipeRef(sides[i].ref) && HasStatement(sides[1 - i].ref)) {
      SLUICE_TRY(TakeFromStatement(values, sides[1 - i].ref, session, &sides[i]));
    }
  }
  SLUICE_ASSIGN(const auto a,
                session.Open(sides[0].ref, sides[0].seed, sides[0].arithmetic, sides[0].lora_merge_dtype));
  session.WarnOf(*a);
  SLUICE_ASSIGN(const auto b,
                session.Open(sides[1].ref, sides[1].seed, sides[1].arithmetic, sides[1].lora_merge_dtype));
  session.WarnOf(*b);
  SLUICE_ASSIGN(const WatchedFiles watched_a, WatchedFiles::Of(*a, ""));
  SLUICE_ASSIGN(const WatchedFiles watched_b, WatchedFiles::Of(*b, ""));

  std::error_code error;
  if (std::filesystem::equivalent(sides[0].ref, sides[1].ref, error) && !error) {
    session.Note("A and B are one path; they are compared all the same");
  }

  verify::Verification result;
  result.ref_a = sides[0].ref;
  result.ref_b = sides[1].ref;
  result.note_a = sides[0].note;
  result.note_b = sides[1].note;
  result.asked = level;
  result.atol = values.atol;
  result.rtol = values.rtol;
  SLUICE_ASSIGN(result.config, verify::DiffConfigs(*a, *b));
  if (level == verify::Level::kConfig || (level == verify::Level::kAuto && verify::ConfigEndsAuto(result.config))) {
    SLUICE_TRY(session.CheckHeadersFit());
    result.level = verify::Level::kConfig;
    result.verdict = verify::DecideConfig(result.config);
    return Print(session, &result);
  }
  bool decided = false;
  if (level != verify::Level::kTensors) {
    SLUICE_ASSIGN(decided, CompareDrawn(values, level, a, b, session, &result));
    if (decided && !result.sample) return 0;
  }
  if (!decided) {
    SLUICE_ASSIGN(const bool ran, CompareTensors(values, *a, *b, session, &result));
    if (!ran) return 0;
  }
  SLUICE_TRY(watched_a.CheckUnchanged());
  SLUICE_TRY(watched_b.CheckUnchanged());
  if (!values.report.empty()) {
    Measure(session, &result);
    SLUICE_TRY(WritePage(values.report, *a, *b, result));
  }
  return Print(session, &result);
}

Result<int> Run(const Values& values, Session& session) {
  SLUICE_TRY(values.refused.Check());
  SLUICE_ASSIGN(const verify::Level level, ReadLevel(values.level));
  if (values.first_difference && (values.atol > 0 || values.rtol > 0)) {
    return Fail(ErrorCode::kUsage,
                "--first-difference stops at any change of a bit, so it does not go with --atol and --rtol");
  }
  if (values.refs.size() > 2) {
    return Fail(ErrorCode::kUsage,
                fmt::format("{} models are too many: name two, or one merged folder", values.refs.size()));
  }
  if (values.sample || values.facts) {
    if (!values.signature.signature.empty()) {
      return Fail(ErrorCode::kUsage, "--signature reads every byte, --sample and --facts some: one at a time");
    }
    if (values.refs.size() != 1 || !values.against.empty()) {
      return Fail(ErrorCode::kUsage, "--sample and --facts look at one merged folder and its statement");
    }
    std::optional<uint64_t> nonce;
    if (!values.nonce.empty()) {
      const char* end = values.nonce.data() + values.nonce.size();
      nonce.emplace();
      if (const auto read = std::from_chars(values.nonce.data(), end, *nonce);
          read.ec != std::errc() || read.ptr != end) {
        return Fail(ErrorCode::kUsage,
                    fmt::format("--nonce {}: --sample and --facts want a whole number", values.nonce));
      }
    }
    SLUICE_ASSIGN(const auto audit, AuditMerge(session, {values.refs[0], values.sample, values.facts, nonce}));
    if (!audit) return 0;
    session.Print(report::AuditJson(*audit), report::AuditText(*audit));
    return verify::VerdictExitStatus(audit->verdict);
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
  if (!values.report.empty()) {  // that it cannot be written shows before the work
    if (values.refs.size() == 1) return Fail(ErrorCode::kUsage, "--report is of two models that are compared");
    SLUICE_TRY(io::CheckWritable(values.report));
  }
  if (!values.against.empty()) return VerifyAgainst(values, level, session);
  const bool draws = level == verify::Level::kFingerprint || level == verify::Level::kAuto;
  if ((!values.nonce.empty() || values.detect || values.confidence) && (!draws || values.refs.size() == 1)) {
    return Fail(
        ErrorCode::kUsage,
        "--nonce goes with --sample and --facts, and with --detect and --confidence at the levels fingerprint and "
        "auto, which compare two models");
  }
  SLUICE_TRY(verify::CheckAim(SampleOptionsOf(values).aim));
  SLUICE_TRY(SampleOptionsOf(values).MakeNonce());
  if (values.refs.size() == 1) {
    if (level == verify::Level::kConfig || level == verify::Level::kFingerprint) {
      return Fail(
          ErrorCode::kUsage,
          fmt::format("--level {} compares two models; one folder and its papers need every byte", values.level));
    }
    return CheckFolder(session, values.refs[0], is_signed ? std::optional(values.signature) : std::nullopt);
  }
  return VerifyPair(values, level, session);
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("REF", values->refs, "Two models, or one merged folder with its statement")
      ->required()
      ->expected(1, 1 << 20)
      ->group("Arguments");
  app.add_option("--level", values->level, "auto, config, fingerprint or tensors")
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
  app.add_option("--nonce", values->nonce,
                 "What blocks are drawn by, 32 or 64 hexadecimal digits; for --sample and --facts a whole number "
                 "(default: random, and told)")
      ->type_name("N")
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
  for (const char* name :
       {"--evidence", "--replay", "--gamma", "--alpha", "--challenges", "--challenge-tokens", "--prompts"}) {
    values->refused.Add(app, name);
  }
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& verify_command() {
  static constexpr Command kCommand{
      .name = "verify",
      .summary = "Whether two models are the same, and if not, exactly what differs",
      .synopsis = "verify A B [--level LEVEL] [options]   or   verify B --against F   or   verify MERGED",
      .details = kDetails,
      .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
