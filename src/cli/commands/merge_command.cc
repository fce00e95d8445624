// sluice merge RECIPE -o DIR: the writer and the digest in one pass over the checkpoint that the recipe makes.
#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <memory>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "checkpoint/shard_plan.h"
#include "cli/command.h"
#include "cli/fold_facts.h"
#include "cli/pass_trace.h"
#include "cli/watched_files.h"
#include "cli/write_checkpoint.h"
#include "generated/version.h"
#include "io/atomic_file.h"
#include "kernels/sha256.h"
#include "merge/diagnostics.h"
#include "merge/distance_sink.h"
#include "merge/method.h"
#include "merge/model_card.h"
#include "merge/recipe_checkpoint.h"
#include "merge/statement.h"
#include "report/merge_page.h"
#include "report/model_report.h"
#include "stream/planner.h"
#include "verify/nan_sink.h"

namespace sluice::cli::commands {
namespace {

struct Values {
  std::string recipe, folder, explain, arithmetic, lora_merge_dtype, nan = "keep", report;
  std::optional<uint64_t> seed;
  std::vector<std::string> set;
  bool check = false, list_methods = false;
  WriteRequest write;
  RefusedOptions refused;
  std::vector<std::pair<CLI::Option*, std::string>> no_ops;  // mergekit's, with what to say of each
};

constexpr char kDetails[] =
    R"(The recipe is mergekit's YAML, read as it is; `sluice: {seed: 7}` in it sets the seed, and --seed wins over that.
All errors of a recipe are told at once, with line and column, before a weight is read. DIR gets shards and
index, config.json and the tokenizer of the base, mergekit_config.yml (the recipe verbatim), README.md (a model card)
and sluice_merge.json (recipe, seed, arithmetic, parents and roots), from which `sluice verify DIR RECIPE` makes the
merge again.
Nothing stands under the name before it is whole and synced. An interrupted merge is kept beside DIR, and --resume goes
on with it: what is finished is not read again, and the files are those of a merge in one run. The result does not
depend on --threads, --max-memory, the parents' shards or the machine.

Examples:
  sluice merge recipe.yml -o merged/
  sluice merge recipe.yml --check                        only validate: files, shapes, parameters
  sluice merge recipe.yml -o merged/ --dry-run           bytes, peak memory and time, without merging
  sluice merge recipe.yml -o merged/ --max-memory 256MiB --seed 7
  sluice merge recipe.yml -o merged/ --resume            after a Ctrl-C, a full disk or a power cut
  sluice merge recipe.yml -o merged/ --report merged.html
  sluice verify merged/ recipe.yml                       prove it
)";

// What was found of whole parents for each tensor of the catalogue, in the order in which its node has them: facts of
// the pass, and of tensors that an earlier run finished, found again where the keys in its journal are not theirs any
// more.
Result<std::vector<graph::FactRecords>> FactsOfTensors(Session& session,
                                                       const std::shared_ptr<const merge::RecipeCheckpoint>& recipe,
                                                       const PassReport& pass) {
  std::map<graph::Key, graph::FactRecord> known(pass.facts.begin(), pass.facts.end());
  std::vector<graph::FactRecords> facts(recipe->tensors().size());
  std::vector<uint32_t> lacking;
  for (uint32_t i = 0; i < facts.size(); ++i) {
    graph::Graph graph;
    for (const graph::Fact* fact : stream::CollectFacts(std::array{recipe->MakeNode(i, &graph)})) {
      facts[i].emplace_back(fact->key(), graph::FactRecord());
    }
    if (!std::ranges::all_of(facts[i], [&](const auto& fact) { return known.contains(fact.first); })) {
      lacking.push_back(i);
    }
  }
  if (!lacking.empty()) {
    session.Note(
        fmt::format("the files' devices have other numbers than in the earlier run: the facts of {} tensors that it "
                    "finished are found again",
                    lacking.size()));
    SLUICE_ASSIGN(const PassReport again, FoldFacts(session, recipe, lacking, "facts"));
    known.insert(again.facts.begin(), again.facts.end());
  }
  for (graph::FactRecords& of_tensor : facts) {
    for (auto& [key, record] : of_tensor) record = known.at(key);
  }
  return facts;
}

// What the recipe says without effect, or has done otherwise than it may seem.
void NoteOf(const merge::RecipeCheckpoint& recipe, const Session& session) {
  for (const checkpoint::Problem& problem : recipe.problems()) {
    if (problem.severity == checkpoint::Problem::Severity::kNote) session.Note(problem.file + ": " + problem.message);
  }
}

Result<int> Check(const merge::RecipeCheckpoint& recipe, Session& session) {
  SLUICE_TRY(session.CheckHeadersFit());
  nlohmann::ordered_json json;
  json["check"] = true;
  json["method"] = recipe.recipe().method->name;
  json["arithmetic"] = recipe.arithmetic();
  json["seed"] = recipe.seed();
  json["tensors"] = recipe.tensors().size();
  json["bytes"] = recipe.tensors().total_bytes();
  json["problems"] = nlohmann::ordered_json::array();
  for (const checkpoint::Problem& problem : recipe.problems()) json["problems"].push_back(problem.message);
  session.Print(json, fmt::format("{}: can be merged: {} of {} parents, {} tensors, {}\n", recipe.ref(),
                                  recipe.recipe().method->name, recipe.parents().size(),
                                  FormatCount(recipe.tensors().size()), FormatBytes(recipe.tensors().total_bytes())));
  return 0;
}

// What a merge is made of: one that was interrupted goes on only under the same. Whatever changes a byte of the output
// must be here.
checkpoint::JournalBinding BindingOf(const merge::RecipeCheckpoint& recipe, const WatchedFiles& files) {
  const auto short_hash = [](kernels::Sha256* hash) { return kernels::ToHex(hash->Finish()).substr(0, 32); };
  kernels::Sha256 hash;
  hash.UpdateLengthPrefixed(recipe.recipe().text);
  hash.UpdateLengthPrefixed(recipe.recipe().document);
  for (const std::string& override : recipe.recipe().overrides) hash.UpdateLengthPrefixed(override);
  checkpoint::JournalBinding binding;
  binding.items = {{"the version of sluice", kVersion},
                   {"the recipe", short_hash(&hash)},
                   {"the seed", fmt::format("{}", recipe.seed())},
                   {"the arithmetic", recipe.arithmetic()}};
  if (recipe.lora_merge_dtype().valid()) {
    binding.items.push_back({"--lora-merge-dtype", std::string(recipe.lora_merge_dtype().name())});
  }
  hash.Update(recipe.config() == nullptr ? std::string() : recipe.config()->Pretty());
  for (const checkpoint::SideFile& side : recipe.side_files()) {
    hash.UpdateLengthPrefixed(side.name);
    if (side.path.empty()) hash.UpdateLengthPrefixed(side.bytes);
  }
  binding.items.push_back({"the config or tokenizer", short_hash(&hash)});
  files.AddTo(&binding);
  return binding;
}

// With --force what stands under the output's name goes when the merge is whole: it must not be what the merge is of.
Result<void> CheckHoldsNoParent(const merge::RecipeCheckpoint& recipe, const std::string& output) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path folder = fs::canonical(output, error);
  if (error) return {};
  for (const checkpoint::Checkpoint::File& file : recipe.files()) {
    const fs::path path = fs::canonical(file.path, error);
    if (error || std::ranges::mismatch(folder, path).in1 != folder.end()) continue;
    return Fail(ErrorCode::kUsage,
                fmt::format("-o {}: the merge reads {}, which --force would remove with what else is "
                            "there: choose another folder",
                            output, file.path));
  }
  return {};
}

// The metadata of every method of this build, as it drives the recipe's validation.
int ListMethods(Session& session) {
  nlohmann::ordered_json json;
  json["methods"] = nlohmann::ordered_json::array();
  std::string text;
  for (const merge::Method* method : merge::AllMethods()) {
    nlohmann::ordered_json entry = {{"name", method->name},
                                    {"summary", method->summary},
                                    {"needs_base", method->needs_base},
                                    {"min_models", method->min_models}};
    entry["max_models"] = nullptr;
    if (method->max_models > 0) entry["max_models"] = method->max_models;
    entry["parameters"] = nlohmann::ordered_json::array();
    text += fmt::format("{}\n  {}\n", method->name, method->summary);
    for (const merge::ParameterInfo& parameter : method->parameters) {
      entry["parameters"].push_back(
          {{"name", parameter.name},
           {"scope", parameter.scope == merge::ParameterScope::kModel ? "model" : "recipe"},
           {"default",
            parameter.default_value ? nlohmann::ordered_json(*parameter.default_value) : nlohmann::ordered_json()},
           {"used", parameter.used},
           {"help", parameter.help}});
      text += fmt::format("    {:<10}  {}\n", parameter.name, parameter.help);
    }
    json["methods"].push_back(std::move(entry));
  }
  session.Print(json, text);
  return 0;
}

Result<int> Explain(const std::string& name, Session& session) {
  const merge::Method* method = merge::FindMethod(name);
  if (method == nullptr) {
    std::vector<std::string_view> names;
    for (const merge::Method* known : merge::AllMethods()) names.push_back(known->name);
    return Fail(ErrorCode::kUsage, fmt::format("--explain {}: there is no such method{}; these are: {}", name,
                                               merge::DidYouMean(name, names), fmt::join(names, ", ")));
  }
  const std::string page = merge::MethodPage(*method);
  session.Print({{"name", method->name}, {"page", page}}, page);
  return 0;
}

// What the page of --report tells, gathered while the merge is written.
class PageFigures {
 public:
  PageFigures(const merge::RecipeCheckpoint& recipe, const CommonOptions& options)
      : recipe_(recipe), dry_run_(options.dry_run), distances_(recipe, options.threads), trace_(recipe.tensors()) {}

  void AddTo(WriteRequest* write) {
    write->groups = [this](std::vector<uint32_t> order) {
      num_passed_ = order.size();
      trace_.Follow(order);
      if (!dry_run_) trace_.Start();  // facts of whole tensors come before the first tile
      return distances_.Follow(std::move(order));
    };
    write->sinks.push_back(&distances_);
    write->sinks.push_back(&trace_);
  }
  void Note(const PassReport& pass) {
    has_run_ = pass.ran;
    plan_ = pass.plan;
    seconds_ = pass.seconds;
  }
  report::MergePage Page(const report::MergeResult& result) const {
    report::MergePage page;
    page.result = result;
    page.recipe_path = recipe_.recipe().path;
    page.recipe_text = recipe_.recipe().text;
    page.method = recipe_.recipe().method;
    page.parents = recipe_.parents();
    page.has_run = has_run_;
    if (has_run_) page.distances = distances_.Distances();
    const size_t num_passed = has_run_ ? num_passed_ : 0;
    page.num_resumed = recipe_.tensors().size() - num_passed;
    page.num_carried = num_passed - page.distances.size();
    page.plan = plan_;
    page.pass_seconds = seconds_;
    page.samples = trace_.samples();
    return page;
  }

 private:
  const merge::RecipeCheckpoint& recipe_;
  const bool dry_run_;
  merge::DistanceSink distances_;
  PassTrace trace_;
  size_t num_passed_ = 0;
  bool has_run_ = false;
  stream::Plan plan_;
  double seconds_ = 0;
};

Result<int> Run(const Values& values, Session& session) {
  SLUICE_TRY(values.refused.Check());
  if (values.list_methods) return ListMethods(session);
  if (!values.explain.empty()) return Explain(values.explain, session);
  for (const auto& [option, note] : values.no_ops) {
    if (option->count() > 0) session.Note(option->get_name() + " changes nothing here: " + note);
  }
  WriteRequest write = values.write;
  if (!values.folder.empty()) {
    if (!write.output.empty()) return Fail(ErrorCode::kUsage, "the output is given twice, with -o and as an argument");
    write.output = values.folder;
  }
  if (values.nan != "keep" && values.nan != "refuse")
    return Fail(ErrorCode::kUsage, "--nan is keep or refuse, not " + values.nan);
  if (write.output.empty() && !values.check) return Fail(ErrorCode::kUsage, "no output: give -o DIR");
  if (!values.report.empty()) {  // that it cannot be written shows before the work
    if (values.check) return Fail(ErrorCode::kUsage, "--report is of a merge, and --check makes none");
    SLUICE_TRY(io::CheckWritable(values.report));
  }
  if (!values.check) {
    SLUICE_ASSIGN(const bool is_file, IsFileOutput(write.output));
    if (is_file) {
      return Fail(
          ErrorCode::kUsage,
          "a merge is a folder, with its config, recipe and statement; for one file: sluice convert RECIPE -o " +
              write.output);
    }
  }

  const auto [path, document] = merge::SplitDocument(values.recipe);
  SLUICE_ASSIGN(merge::Recipe read, merge::ReadRecipe(path, values.set, document));
  if (!values.lora_merge_dtype.empty() && !quant::FloatByDtypeName(values.lora_merge_dtype).valid()) {
    return Fail(ErrorCode::kUsage,
                fmt::format("--lora-merge-dtype {}: write bfloat16, float16 or float32", values.lora_merge_dtype));
  }
  const checkpoint::OpenOptions open =
      MakeOpenOptions(values.seed, values.arithmetic.empty() ? std::nullopt : std::optional(values.arithmetic),
                      values.lora_merge_dtype);
  SLUICE_ASSIGN(const auto recipe, merge::OpenRecipe(std::move(read), open));
  session.WarnOf(*recipe);
  NoteOf(*recipe, session);
  if (values.check) return Check(*recipe, session);
  if (write.force) SLUICE_TRY(CheckHoldsNoParent(*recipe, write.output));

  // Counting NaN takes groups in the writer's order, which is the plan's.
  uint64_t shard_bytes = checkpoint::kDefaultShardBytes;
  if (!write.shard_size.empty()) {
    auto size = ParseShardSize(write.shard_size);
    if (!size) return Fail(std::move(size.error()).In("--out-shard-size"));
    shard_bytes = *size;
  }
  SLUICE_ASSIGN(const checkpoint::ShardPlan shards, checkpoint::PlanShards(recipe->tensors(), shard_bytes));
  verify::NanSink nans(recipe->tensors(), shards.order, session.options.threads);
  write.sinks = {&nans};
  write.tally = &nans;
  std::optional<PageFigures> figures;
  if (!values.report.empty()) {
    figures.emplace(*recipe, session.options);
    figures->AddTo(&write);
  }
  SLUICE_ASSIGN(const WatchedFiles files, WatchedFiles::Of(*recipe, recipe->recipe().path));
  write.journal = BindingOf(*recipe, files);
  write.check_inputs = [&] { return files.CheckUnchanged(); };
  write.accept = [&]() -> Result<void> {
    if (values.nan != "refuse") return {};
    for (const auto& [name, count] : nans.Counts()) {
      return Fail(ErrorCode::kCorrupt,
                  fmt::format("{}: {} of the merged numbers are NaN, and --nan refuse was given; look for "
                              "NaN in the parents, or leave --nan out",
                              name, FormatCount(count)));
    }
    return {};
  };
  write.papers = [&](const checkpoint::ModelDigest& digest,
                     const PassReport& pass) -> Result<std::vector<std::pair<std::string, std::string>>> {
    if (figures) figures->Note(pass);
    merge::Statement statement = merge::MakeStatement(*recipe);
    statement.root = kernels::ToHex(digest.model_root);
    statement.weights_root = kernels::ToHex(digest.weights_root);
    SLUICE_ASSIGN(const std::vector<graph::FactRecords> facts, FactsOfTensors(session, recipe, pass));
    for (const checkpoint::TensorDigest& tensor : digest.tensors) {
      std::vector<graph::FactRecord> records;
      for (const auto& [key, record] : facts[*recipe->tensors().Find(tensor.name)]) records.push_back(record);
      statement.tensors.push_back(merge::StatementTensor(tensor, std::move(records)));
    }
    return std::vector<std::pair<std::string, std::string>>{{merge::kRecipeFile, recipe->recipe().text},
                                                            {merge::kCardFile, merge::ModelCard(statement)},
                                                            {merge::kStatementFile, merge::WriteStatement(statement)}};
  };
  SLUICE_ASSIGN(auto written, WriteCheckpoint(session, recipe, write));
  if (!written) return 0;

  report::MergeResult result;
  result.written = std::move(*written);
  result.method = recipe->recipe().method->name;
  result.arithmetic = recipe->arithmetic();
  result.seed = recipe->seed();
  for (const auto& [name, count] : nans.Counts()) result.nans.push_back({name, count});
  if (figures) {
    result.report = values.report;
    SLUICE_TRY(io::WriteFileAtomically(values.report, report::HtmlOf(figures->Page(result))));
  }
  session.Print(report::MergeJson(result), report::MergeText(result));
  return 0;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  values->write.what = "merge";
  app.add_option("RECIPE", values->recipe,
                 "A recipe in mergekit's YAML; of several documents the one without a name, or FILE#NAME")
      ->group("Arguments");
  app.add_option("DIR", values->folder, "The folder to write, as mergekit has it; the same as -o")->group("Arguments");
  app.add_option("-o", values->write.output, "The folder to write")->type_name("DIR")->group("Options");
  app.add_flag("--check", values->check, "Validate the recipe and its models; write nothing")->group("Options");
  app.add_option("--explain", values->explain, "Print what a method does, its parameters and its source")
      ->type_name("METHOD")
      ->group("Options");
  app.add_flag("--list-methods", values->list_methods, "Print the methods and their parameters")->group("Options");
  app.add_option("--seed,--random-seed", values->seed, "Seed of the random masks (default: the recipe's, else 0)")
      ->type_name("N")
      ->group("Options");
  app.add_option(
         "--arithmetic", values->arithmetic,
         "exact: inputs as stored, sums in f32, one rounding (the default); mergekit: the bits of mergekit 0.1.4")
      ->type_name("MODE")
      ->group("Options");
  app.add_option("--set", values->set, "Set a key of the recipe, as parameters.lambda=0.5. Repeatable")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false)
      ->group("Options");
  app.add_option("--out-shard-size", values->write.shard_size,
                 "Most bytes of a shard, as 5GB, 5B or 2.5GiB (default 5GB)")
      ->type_name("SIZE")
      ->group("Options");
  app.add_option("--nan", values->nan, "keep: NaN are reported for each tensor (default); refuse: they are an error")
      ->type_name("keep|refuse")
      ->group("Options");
  app.add_option("--report", values->report,
                 "Write a page of what was merged, how far all is from the base, and what it took: one HTML file")
      ->type_name("FILE")
      ->group("Options");
  app.add_flag("--resume", values->write.resume, "Go on with a merge that was interrupted; else begin")
      ->group("Options");
  app.add_flag("--force", values->write.force, "Replace an output that exists, or one that was interrupted")
      ->group("Options");
  app.add_option(
         "--lora-merge-dtype", values->lora_merge_dtype,
         "With mergekit's arithmetic: cast models to this dtype before adapters are applied to them, as mergekit "
         "does (default float32)")
      ->type_name("DTYPE")
      ->group("Options");

  // mergekit-yaml's flags that scripts carry along.
  const auto no_op = [&](const char* name, bool takes_value, std::string note) {
    CLI::Option* option = takes_value ? app.add_option(name) : app.add_flag(name);
    values->no_ops.emplace_back(option->group("mergekit's, accepted without effect")->description(note), note);
  };
  no_op("--lazy-unpickle", false, "weights are always read as they are needed");
  no_op("--copy-tokenizer", false, "tokenizer files are always carried along");
  no_op("--no-copy-tokenizer", false, "tokenizer files are always carried along");
  no_op("--lora-merge-cache", true, "nothing is cached on disk");
  no_op("--no-write-model-card", false, "README.md is written, with the root and how to check it; remove it at will");
  no_op("--cuda", false, "the merge runs on the CPU, at the disk's rate");
  app.callback([values] {
    if (values->recipe.empty() && !values->list_methods && values->explain.empty()) throw CLI::RequiredError("RECIPE");
  });
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& merge_command() {
  static constexpr Command kCommand{.name = "merge",
                                    .summary = "Merge models by a mergekit recipe, in bounded memory",
                                    .synopsis = "merge RECIPE -o DIR [--seed N] [options]",
                                    .details = kDetails,
                                    .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
