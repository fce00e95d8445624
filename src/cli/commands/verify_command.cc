// sluice verify A B: are they the same, and if not, what differs; sluice verify MERGED: is it what its maker sealed.
#include <array>
#include <filesystem>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "base/memory_budget.h"
#include "checkpoint/digest_tree.h"
#include "cli/audit_merge.h"
#include "cli/command.h"
#include "cli/run_pass.h"
#include "kernels/sha256.h"
#include "merge/statement.h"
#include "report/audit_report.h"
#include "report/verification_report.h"
#include "stream/checkpoint_groups.h"
#include "stream/digest_sink.h"
#include "verify/comparison_sink.h"
#include "verify/verification.h"

namespace sluice::cli::commands {
namespace {

struct Values {
  std::vector<std::string> refs;
  std::string level = "auto", arithmetic;
  std::optional<uint64_t> seed;
  double atol = 0, rtol = 0;
  bool first_difference = false;
  std::optional<double> sample, facts;
  std::optional<uint64_t> nonce;
  RefusedOptions refused;
};

constexpr char kDetails[] =
    R"(Levels, cheapest first; each says what it proves and what it does not:
  config    headers and JSON: architecture, names, shapes, tokenizer, parameters
  tensors   every byte: equality tensor by tensor, or exactly how they differ
  auto      config, and tensors unless another architecture was found (default)

Verdicts and exit status:
  0  IDENTICAL, EQUAL_AFTER_CAST; SAME_CONFIG where --level config was asked for
  1  ROUNDED, SAME_WEIGHTS, SAME_ARCHITECTURE_DIFFERENT_WEIGHTS, DIFFERENT_ARCHITECTURE
  5  UNDECIDED

verify MERGED (one folder) computes its root and compares it with sluice_merge.json, the statement beside it.
verify MERGED --sample P --facts Q makes parts of the merge again from its parents, by that statement.
verify MERGED RECIPE makes the merge again, with the seed and the arithmetic of that statement, and compares
every byte.

Examples:
  sluice verify original/ copy/
  sluice verify model.gguf model-bf16/ --level tensors
  sluice verify merged/ recipe.yml
  sluice verify merged/ --sample 0.01 --facts 0.1
  sluice verify a/ b/ --atol 1e-6 --rtol 1e-3 --json
)";

Result<verify::Level> ReadLevel(const std::string& name) {
  if (name == "auto") return verify::Level::kAuto;
  if (name == "config") return verify::Level::kConfig;
  if (name == "tensors") return verify::Level::kTensors;
  if (name == "fingerprint" || name == "behaviour") {
    return Fail(ErrorCode::kUnsupported, fmt::format("--level {} is not supported yet; use config or tensors", name));
  }
  return Fail(ErrorCode::kUsage, fmt::format("--level {}: write auto, config or tensors", name));
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
  std::string note;
};

// A recipe beside a merged folder is computed as that folder states, unless flags say otherwise.
Result<void> TakeFromStatement(const Values& values, const std::string& merged, Session& session, Side* recipe) {
  SLUICE_ASSIGN(const merge::Statement statement, merge::ReadStatement(merged));
  if (!recipe->seed) recipe->seed = statement.seed;
  if (!recipe->arithmetic) recipe->arithmetic = statement.arithmetic;
  recipe->note = fmt::format("seed {} and {} arithmetic, {}", *recipe->seed, *recipe->arithmetic,
                             values.seed && !values.arithmetic.empty() ? "as given" : "as " + merged + " states");
  if (!statement.recipe_overrides.empty()) {
    session.Note(fmt::format("{} was merged with --set {}; the recipe is compared as it stands", merged,
                             fmt::join(statement.recipe_overrides, " --set ")));
  }
  return {};
}

Result<kernels::Hash256> ReadHash(const std::string& hex, const std::string& file) {
  kernels::Hash256 hash;
  if (!kernels::FromHex(hex, &hash)) return Fail(ErrorCode::kCorrupt, file + ": '" + hex + "' is no root");
  return hash;
}

Result<int> VerifyStatement(const Values& values, Session& session) {
  const std::string& ref = values.refs[0];
  std::error_code error;
  if (std::filesystem::exists(ref, error) && !std::filesystem::is_directory(ref, error)) {
    return Fail(ErrorCode::kUsage, ref + " is no merged folder; to compare two models: sluice verify A B");
  }
  if (values.level == "config") {
    return Fail(ErrorCode::kUsage, "--level config compares two models; one folder and its statement need every byte");
  }
  SLUICE_ASSIGN(const auto checkpoint, session.Open(ref));
  session.WarnOf(*checkpoint);
  SLUICE_ASSIGN(const merge::Statement statement, merge::ReadStatement(ref));
  verify::StatementCheck check;
  check.ref = ref;
  check.statement = (std::filesystem::path(ref) / merge::kStatementFile).string();
  SLUICE_ASSIGN(check.stated_root, ReadHash(statement.root, check.statement));
  SLUICE_ASSIGN(check.stated_weights_root, ReadHash(statement.weights_root, check.statement));

  const stream::CheckpointGroups groups(*checkpoint);
  stream::DigestSink sink(checkpoint->tensors());
  SLUICE_ASSIGN(const PassReport pass, RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, "verify"));
  if (!pass.ran) return 0;
  SLUICE_ASSIGN(const checkpoint::ModelDigest digest, checkpoint::MakeModelDigest(sink.Digests(), *checkpoint));
  check.root = digest.model_root;
  check.weights_root = digest.weights_root;
  check.tensors = digest.tensors.size();
  check.bytes = digest.size_bytes;
  if (!statement.tensors.empty()) {
    std::map<std::string_view, std::string_view> stated;
    for (const auto& tensor : statement.tensors) stated.emplace(tensor.name, tensor.root);
    for (const checkpoint::TensorDigest& tensor : digest.tensors) {
      const auto found = stated.find(tensor.name);
      if (found == stated.end()) {
        check.extra.push_back(tensor.name);
        continue;
      }
      if (found->second != kernels::ToHex(tensor.root)) check.changed.push_back(tensor.name);
      stated.erase(found);
    }
    for (const auto& [name, root] : stated) check.missing.emplace_back(name);
  }
  verify::DecideStatement(&check);
  check.budget_bytes = session.options.max_memory_bytes;
  check.peak_bytes = PeakResidentBytes();
  check.seconds = session.seconds();
  check.bytes_read = pass.stats.payload_bytes;
  session.Print(report::StatementCheckJson(check), report::StatementCheckText(check));
  return verify::VerdictExitStatus(check.verdict);
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
    result->bytes_read = pass->stats.payload_bytes;
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
    if (values.refs.size() != 1) {
      return Fail(ErrorCode::kUsage, "--sample and --facts look at one merged folder and its statement");
    }
    SLUICE_ASSIGN(const auto audit, AuditMerge(session, {values.refs[0], values.sample, values.facts, values.nonce}));
    if (!audit) return 0;
    session.Print(report::AuditJson(*audit), report::AuditText(*audit));
    return verify::VerdictExitStatus(audit->verdict);
  }
  if (values.nonce) return Fail(ErrorCode::kUsage, "--nonce goes with --sample and --facts");
  if (values.refs.size() == 1) return VerifyStatement(values, session);

  const std::optional<std::string> arithmetic =
      values.arithmetic.empty() ? std::nullopt : std::optional(values.arithmetic);
  std::array<Side, 2> sides;
  for (int i = 0; i < 2; ++i) sides[i] = {values.refs[i], values.seed, arithmetic, ""};
  for (int i = 0; i < 2; ++i) {
    if (IsRecipeRef(sides[i].ref) && HasStatement(sides[1 - i].ref)) {
      SLUICE_TRY(TakeFromStatement(values, sides[1 - i].ref, session, &sides[i]));
    }
  }
  SLUICE_ASSIGN(const auto a, session.Open(sides[0].ref, sides[0].seed, sides[0].arithmetic));
  session.WarnOf(*a);
  SLUICE_ASSIGN(const auto b, session.Open(sides[1].ref, sides[1].seed, sides[1].arithmetic));
  session.WarnOf(*b);

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
  } else {
    SLUICE_ASSIGN(const bool ran, CompareTensors(values, *a, *b, session, &result));
    if (!ran) return 0;
  }
  result.budget_bytes = session.options.max_memory_bytes;
  result.peak_bytes = PeakResidentBytes();
  result.seconds = session.seconds();
  session.Print(report::VerificationJson(result), report::VerificationText(result));
  return verify::VerdictExitStatus(result.verdict);
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("REF", values->refs, "Two models, or one merged folder with its statement")
      ->required()
      ->expected(1, 1 << 20)
      ->group("Arguments");
  app.add_option("--level", values->level, "auto, config or tensors")->type_name("LEVEL")->group("Options");
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
  app.add_option("--nonce", values->nonce, "What --sample and --facts draw by (default: random, and told)")
      ->type_name("N")
      ->group("Options");
  for (const char* name : {"--against", "--report", "--evidence", "--replay", "--gamma", "--alpha", "--challenges",
                           "--challenge-tokens", "--prompts"}) {
    values->refused.Add(app, name);
  }
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& verify_command() {
  static constexpr Command kCommand{.name = "verify",
                                    .summary = "Whether two models are the same, and if not, exactly what differs",
                                    .synopsis = "verify A B [--level LEVEL] [options]   or   verify MERGED",
                                    .details = kDetails,
                                    .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
