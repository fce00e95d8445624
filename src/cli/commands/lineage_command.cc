// sluice lineage MODEL --base X --candidates A B C: what a model was merged from, and with which weights.
#include <array>
#include <memory>

#include <fmt/format.h>

#include "base/memory_budget.h"
#include "cli/command.h"
#include "cli/recipe_options.h"
#include "cli/run_pass.h"
#include "cli/watched_files.h"
#include "kernels/gram.h"
#include "report/lineage_report.h"
#include "verify/lineage.h"

namespace sluice::cli::commands {
namespace {

struct Values {
  std::string model, base;
  std::vector<std::string> candidates;
  RecipeOptions recipe;
};

constexpr char kDetails[] =
    R"(The regression of MODEL - BASE on the candidates' differences from BASE, over all numbers in one pass: coefficients
with standard errors, by tensor, by layer and overall, and R^2. Of linear, task_arithmetic and dare_linear merges the
coefficients are the weights (times lambda). Of ties and dare_ties they are effective ones, larger than the weights;
there the weights, the densities and the kind of merge come from a fit to a fixed sample of the numbers.
A candidate that had no part comes out at 0 within its error. docs/lineage.md has the mathematics, and what it cannot
tell.

Examples:
  sluice lineage merged/ --base base/ --candidates tune-a/ tune-b/ tune-c/
  sluice lineage merged.gguf --base org/base --candidates org/a org/b --json
  sluice lineage recipe.yml --base base/ --candidates a/ base/+lora/
)";

Result<int> Run(const Values& values, Session& session) {
  constexpr size_t kMost = kernels::kMostGramVectors - 2;
  if (values.candidates.size() > kMost) {
    return Fail(ErrorCode::kUsage,
                fmt::format("{} candidates are too many: {} at most", values.candidates.size(), kMost));
  }
  std::vector<WatchedFiles> watched;
  const auto open = [&](const std::string& ref) -> Result<std::shared_ptr<const checkpoint::Checkpoint>> {
    SLUICE_ASSIGN(auto opened, values.recipe.Open(session, ref));
    session.WarnOf(*opened);
    SLUICE_ASSIGN(WatchedFiles files, WatchedFiles::Of(*opened, ""));
    watched.push_back(std::move(files));
    return opened;
  };
  SLUICE_ASSIGN(const auto model, open(values.model));
  SLUICE_ASSIGN(const auto base, open(values.base));
  std::vector<std::shared_ptr<const checkpoint::Checkpoint>> opened;
  std::vector<const checkpoint::Checkpoint*> candidates;
  for (const std::string& ref : values.candidates) {
    SLUICE_ASSIGN(auto candidate, open(ref));
    candidates.push_back(candidate.get());
    opened.push_back(std::move(candidate));
  }
  const verify::LineagePlan plan = verify::PlanLineage(*model, *base, candidates);
  if (plan.tensors.empty()) {
    return Fail(ErrorCode::kUsage, fmt::format("{} and {} have no tensor of numbers in common: nothing to compare",
                                               values.model, values.base));
  }
  const verify::LineageGroups groups(plan);
  verify::LineageSink sink(plan, session.options.threads, &session.budget);
  SLUICE_ASSIGN(const PassReport pass, RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, "lineage"));
  if (!pass.ran) return 0;
  for (const WatchedFiles& files : watched) SLUICE_TRY(files.CheckUnchanged());
  if (sink.elements() == 0) {
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{}: each of its tensors has NaN or infinities, there, in {} or in a candidate: "
                            "nothing could be compared",
                            values.model, values.base));
  }
  verify::Lineage lineage = verify::MakeLineage(plan, sink, session.options.threads);
  lineage.model = values.model;
  lineage.base = values.base;
  lineage.candidates = values.candidates;
  lineage.bytes_read = pass.stats.payload_bytes;
  lineage.budget_bytes = session.options.max_memory_bytes;
  lineage.peak_bytes = PeakResidentBytes();
  lineage.seconds = session.seconds();
  session.Print(report::LineageJson(lineage), report::LineageText(lineage));
  return 0;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("MODEL", values->model, "The model in question: any reference, a recipe too")
      ->required()
      ->group("Arguments");
  app.add_option("--base", values->base, "The model that it and the candidates were made from: any reference")
      ->type_name("REF")
      ->required()
      ->group("Options");
  app.add_option("--candidates", values->candidates, "Models that may have had a part in it")
      ->type_name("REF...")
      ->required()
      ->expected(1, 1 << 20)
      ->group("Options");
  values->recipe.Add(app);
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& lineage_command() {
  static constexpr Command kCommand{.name = "lineage",
                                    .summary = "What a model was merged from, and with which weights",
                                    .synopsis = "lineage MODEL --base BASE --candidates A B C [options]",
                                    .details = kDetails,
                                    .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
