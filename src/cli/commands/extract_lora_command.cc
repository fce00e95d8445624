// sluice extract-lora FINETUNE --base BASE --rank r -o DIR: what a fine-tune changed, as a PEFT adapter.
#include <array>
#include <cmath>
#include <memory>
#include <numeric>
#include <set>

#include <fmt/format.h>

#include "base/memory_budget.h"
#include "base/units.h"
#include "cli/command.h"
#include "cli/recipe_options.h"
#include "cli/run_pass.h"
#include "cli/watched_files.h"
#include "io/output_folder.h"
#include "merge/extraction_sinks.h"
#include "report/extraction_report.h"
#include "verify/model_parts.h"

namespace sluice::cli::commands {
namespace {

using checkpoint::Checkpoint;

struct Values {
  std::string finetune, base, output;
  uint64_t rank = 0;
  bool include_embeddings = false, force = false;
  RecipeOptions recipe;
};

constexpr char kDetails[] =
    R"(BASE+DIR is then the fine-tune as nearly as rank r can have it, for sluice and for PEFT. Of each linear layer that
differs the difference is cut to its r largest singular values (randomised SVD, streamed: both models are read five
times where they differ, once elsewhere). The error of each layer is told, and so is what the adapter does not hold:
norms, biases, and embeddings and heads without --include-embeddings. docs/lora.md has the formulas.

--max-memory must hold the factors of the largest layer, some (in + 2 out) (r + 8) 8 bytes. The seed decides the random
test matrices; the same seed gives the same bytes at any number of threads and any budget.

Examples:
  sluice extract-lora tuned/ --base base/ --rank 16 -o lora/
  sluice verify base/+lora/ tuned/                how far that is from the fine-tune
  sluice extract-lora recipe.yml --base base/ --rank 32 -o merge_as_lora/
)";

// What both passes read, for the plan: the second is planned as if every layer differed.
class BothPasses final : public stream::GroupSource {
 public:
  BothPasses(const stream::GroupSource& first, const stream::GroupSource& second) : first_(first), second_(second) {}
  size_t size() const override { return first_.size() + second_.size(); }
  std::string name(size_t group) const override {
    return group < first_.size() ? first_.name(group) : second_.name(group - first_.size());
  }
  void Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const override {
    group < first_.size() ? first_.Build(group, graph, outs) : second_.Build(group - first_.size(), graph, outs);
  }

 private:
  const stream::GroupSource& first_;
  const stream::GroupSource& second_;
};

class Extraction {
 public:
  Extraction(const Values& values, Session& session, std::shared_ptr<const Checkpoint> finetune,
             std::shared_ptr<const Checkpoint> base, merge::ExtractionPairs pairs, std::vector<WatchedFiles> files)
      : values_(values),
        session_(session),
        files_(std::move(files)),
        finetune_(std::move(finetune)),
        base_(std::move(base)),
        pairs_(std::move(pairs.pairs)) {
    result_.adapter = values.output;
    result_.finetune = values.finetune;
    result_.base = values.base;
    result_.rank = values.rank;
    result_.seed = seed();
    result_.unread = std::move(pairs.unread);
  }

  // Nothing where only the plan was asked for.
  Result<std::optional<report::ExtractionResult>> Run() {
    SLUICE_ASSIGN(const bool planned, PlanBoth());
    if (planned) return std::nullopt;
    SLUICE_TRY(Compare());
    SLUICE_TRY(Factorise());
    Tell();
    return std::move(result_);
  }

 private:
  uint64_t seed() const { return values_.recipe.seed.value_or(0); }

  merge::DifferenceGroups GroupsOf(std::vector<uint32_t> order, uint32_t repeats, bool with_base) const {
    return {*finetune_, *base_, pairs_, std::move(order), repeats, with_base};
  }
  std::vector<uint32_t> All() const {
    std::vector<uint32_t> all(pairs_.size());
    std::iota(all.begin(), all.end(), 0);
    return all;
  }

  // With --dry-run prints the plan and returns true. Else only finds out whether the budget will do, before hours of
  // reading.
  Result<bool> PlanBoth() {
    std::vector<uint32_t> layers = All();
    std::erase_if(layers, [this](uint32_t i) { return !pairs_[i].is_layer(); });
    SLUICE_ASSIGN(const merge::AdapterForm form, merge::PlanAdapter(pairs_, layers));
    const std::vector<merge::TensorChange> none(pairs_.size());
    const merge::FactorSink sink(pairs_, form, none, seed(), session_.options.threads, nullptr);
    const merge::DifferenceGroups compared = GroupsOf(All(), 1, true),
                                  factorised = GroupsOf(form.layers, merge::RandomisedSvd::kPasses, false);
    if (session_.options.dry_run) {
      SLUICE_TRY(PlanPass(session_, BothPasses(compared, factorised), sink.wants(), "extract-lora"));
      return true;
    }
    stream::StreamOptions options;
    options.num_threads = session_.options.threads;
    options.wants = sink.wants();
    options.budget = &session_.budget;
    SLUICE_TRY(stream::Stream::Open(factorised, options));
    return false;
  }

  Result<void> Compare() {
    const merge::DifferenceGroups groups = GroupsOf(All(), 1, true);
    merge::DifferenceSink sink(groups);
    SLUICE_ASSIGN(const PassReport pass, RunPass(session_, groups, std::array<stream::Sink*, 1>{&sink}, "compare"));
    result_.bytes_read += pass.stats.payload_bytes;
    changes_ = sink.changes();
    return {};
  }

  Result<void> Factorise() {
    std::vector<uint32_t> captured = All();
    std::erase_if(captured, [this](uint32_t i) { return !pairs_[i].is_layer() || changes_[i].difference == 0; });
    if (captured.empty()) {
      const bool any = std::ranges::any_of(changes_, [](const auto& change) { return change.difference > 0; });
      return Fail(ErrorCode::kUnsupported,
                  fmt::format("no layer of {} differs from {}{}: there is nothing to extract", values_.finetune,
                              values_.base, any ? ", only tensors that an adapter does not hold" : ""));
    }
    SLUICE_ASSIGN(const merge::AdapterForm form, merge::PlanAdapter(pairs_, captured));
    SLUICE_ASSIGN(const auto writer, checkpoint::CheckpointWriter::Create(values_.output, form.tensors, form.plan,
                                                                          {.force = values_.force}));
    const merge::DifferenceGroups groups = GroupsOf(form.layers, merge::RandomisedSvd::kPasses, false);
    merge::FactorSink sink(pairs_, form, changes_, seed(), session_.options.threads, writer.get());
    SLUICE_ASSIGN(const PassReport pass,
                  RunPass(session_, groups, std::array<stream::Sink*, 1>{&sink}, "extract-lora"));
    result_.bytes_read += pass.stats.payload_bytes;
    extracted_ = sink.layers();
    SLUICE_TRY(
        writer->AddFile("adapter_config.json", merge::AdapterConfigText(*base_, pairs_, form.layers, values_.rank)));
    // Each pass saw the same weights.
    for (const WatchedFiles& files : files_) SLUICE_TRY(files.CheckUnchanged());
    if (session_.cancelled) return Fail(ErrorCode::kCancelled, "interrupted; nothing was written");
    SLUICE_ASSIGN(result_.files, writer->Commit());
    return {};
  }

  void Tell() {
    const auto relative = [](const merge::TensorChange& change) -> std::optional<double> {
      return change.base == 0 ? std::nullopt : std::optional(std::sqrt(change.difference / change.base));
    };
    double whole = 0, missed = 0;
    for (const merge::TensorChange& change : changes_) whole += change.difference;
    std::set<uint32_t> captured;
    for (const merge::ExtractedLayer& layer : extracted_) {
      const merge::TensorPair& pair = pairs_[layer.pair];
      captured.insert(layer.pair);
      missed += (1 - layer.energy) * changes_[layer.pair].difference;
      result_.layers.push_back({.name = pair.name,
                                .rank = pair.rank,
                                .relative_error = layer.relative_error,
                                .energy = layer.energy,
                                .relative_change = relative(changes_[layer.pair])});
      if (pair.rank == values_.rank) continue;
      session_.Note(fmt::format("{}: its factors are of rank {}, the most that {} rows and {} columns have", pair.name,
                                pair.rank, pair.rows, pair.columns));
    }
    std::ranges::sort(result_.layers, {}, &report::ExtractionResult::Layer::name);
    for (uint32_t i = 0; i < pairs_.size(); ++i) {
      if (captured.contains(i)) continue;
      if (changes_[i].difference == 0) {
        ++result_.unchanged;
        continue;
      }
      missed += changes_[i].difference;
      result_.not_captured.push_back({.name = pairs_[i].name,
                                      .reason = pairs_[i].obstacle,
                                      .relative_change = relative(changes_[i]),
                                      .energy = changes_[i].difference / whole});
    }
    result_.relative_error = std::sqrt(missed / whole);
    if (!result_.not_captured.empty()) {
      session_.Warn(
          fmt::format("{} of the tensors that differ are not in the adapter, with {:.4g}% of the difference; "
                      "--include-embeddings adds embeddings and heads",
                      FormatCount(result_.not_captured.size()), 100 * NotCapturedEnergy()));
    }
    for (const checkpoint::WrittenFile& file : result_.files) result_.bytes_written += file.size_bytes;
    result_.seconds = session_.seconds();
    result_.peak_memory_bytes = PeakResidentBytes();
  }
  double NotCapturedEnergy() const {
    double energy = 0;
    for (const auto& left : result_.not_captured) energy += left.energy;
    return energy;
  }

  const Values& values_;
  Session& session_;
  const std::vector<WatchedFiles> files_;
  const std::shared_ptr<const Checkpoint> finetune_, base_;
  const std::vector<merge::TensorPair> pairs_;
  std::vector<merge::TensorChange> changes_;  // by pair
  std::vector<merge::ExtractedLayer> extracted_;
  report::ExtractionResult result_;
};

Result<void> CheckOutput(const Values& values) {
  if (values.output.empty()) return Fail(ErrorCode::kUsage, "the name of the output is empty");
  if (values.output.ends_with(".safetensors") || values.output.ends_with(".gguf")) {
    return Fail(ErrorCode::kUsage, fmt::format("-o {}: an adapter is a folder, with adapter_config.json beside its "
                                               "weights; give the folder's name",
                                               values.output));
  }
  SLUICE_TRY(io::OutputFolder::Create(values.output, values.force));  // before hours of reading; nothing is left
  return {};
}

Result<int> Run(const Values& values, Session& session) {
  SLUICE_ASSIGN(const auto base, values.recipe.Open(session, values.base));
  session.WarnOf(*base);
  SLUICE_ASSIGN(const auto finetune, values.recipe.Open(session, values.finetune));
  session.WarnOf(*finetune);
  std::vector<WatchedFiles> files;
  for (const Checkpoint* model : {base.get(), finetune.get()}) {
    SLUICE_ASSIGN(WatchedFiles watched, WatchedFiles::Of(*model, ""));
    files.push_back(std::move(watched));
  }
  const verify::ModelParts parts(base->config() == nullptr ? nullptr : checkpoint::ArchitectureOf(*base->config()));
  merge::ExtractionOptions options;
  options.rank = values.rank;
  options.include_embeddings = values.include_embeddings;
  options.part_of = [&](std::string_view tensor) { return parts.Of(tensor); };
  SLUICE_ASSIGN(merge::ExtractionPairs pairs, merge::PairTensors(*finetune, *base, options));
  SLUICE_TRY(CheckOutput(values));
  SLUICE_ASSIGN(const auto result,
                Extraction(values, session, finetune, base, std::move(pairs), std::move(files)).Run());
  if (result) session.Print(report::ExtractionJson(*result), report::ExtractionText(*result));
  return 0;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("FINETUNE", values->finetune, "The model to be taken apart: any reference, a recipe too")
      ->required()
      ->group("Arguments");
  app.add_option("--base", values->base, "The model that it was made from: any reference")
      ->type_name("REF")
      ->required()
      ->group("Options");
  app.add_option("-r,--rank", values->rank, "Rank of the factors; a smaller layer's own where that is less")
      ->type_name("N")
      ->required()
      ->group("Options");
  app.add_option("-o", values->output, "The folder to write: adapter_config.json, adapter_model.safetensors")
      ->type_name("DIR")
      ->required()
      ->group("Options");
  app.add_flag("--include-embeddings", values->include_embeddings, "Embeddings and the head too")->group("Options");
  app.add_flag("--force", values->force, "Replace an output that exists")->group("Options");
  app.add_option("--seed", values->recipe.seed, "Of the random test matrices, and of recipes (default 0)")
      ->type_name("N")
      ->group("Options");
  app.add_option("--arithmetic", values->recipe.arithmetic, "Where FINETUNE or BASE is a recipe: exact or mergekit")
      ->type_name("MODE")
      ->group("Options");
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& extract_lora_command() {
  static constexpr Command kCommand{.name = "extract-lora",
                                    .summary = "What a fine-tune changed, as a PEFT adapter of low rank",
                                    .synopsis = "extract-lora FINETUNE --base BASE --rank N -o DIR [options]",
                                    .details = kDetails,
                                    .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
