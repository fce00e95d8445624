// sluice perplexity REF...: how well models foretell a text, and how surely one does so better than another.
#include <algorithm>
#include <memory>

#include <fmt/ranges.h>

#include "cli/command.h"
#include "cli/recipe_options.h"
#include "cli/run_forward.h"
#include "cli/tokenizer_reference.h"
#include "infer/perplexity_sink.h"
#include "infer/perplexity_stats.h"
#include "io/atomic_file.h"
#include "io/byte_source.h"
#include "report/perplexity_page.h"
#include "report/perplexity_report.h"
#include "tokenizer/open_tokenizer.h"

namespace sluice::cli::commands {
namespace {

constexpr uint64_t kMostTokens = uint64_t{1} << 40;

struct Values {
  std::vector<std::string> refs, texts;
  std::string convention = "llama512", report, tokenizer;
  RecipeOptions recipe;
  uint64_t context = 0, chunks = 0;
  bool parse_special = false;
  RefusedOptions refused;
};

constexpr char kDetails[] =
    R"(Conventions, each named in the output with what it does about BOS:
  llama512   llama.cpp's: windows of --context (512) tokens, the second half of each scored, the tail dropped;
             BOS in place of a window's first token where the tokenizer adds one
  hf-stride  transformers': windows of --context (1024) that move by 512, each scoring what is new in it
  exl2       exllamav2's: rows of --context (2048), all but the first token scored

Several models read the same tokens side by side, and each is compared with the first, token by token: the
difference of ln PPL with its paired error, KL divergence, the right token's probability, the share of tokens with
one top token. Errors take tokens as independent. The text is taken as it is, its last newline included; several
texts are joined by two newlines. Each weight is read once, however long the text (but where the budget makes
several rounds of it: --dry-run tells); a recipe is merged as its layers are needed, and nothing of it is written.

Examples:
  sluice perplexity model/ --text wiki.txt
  sluice perplexity base/ merged/ recipe.yml --text wiki.txt --report ppl.html
  sluice perplexity model.gguf --text wiki.txt --convention hf-stride --context 2048 --max-memory 8GiB
)";

struct Text {
  std::vector<uint32_t> ids;
  bool adds_bos = false;
  std::optional<uint32_t> bos;
};

Result<std::string> ReadTexts(const std::vector<std::string>& paths) {
  std::string joined;
  for (const std::string& path : paths) {
    SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(path));
    if (&path != &paths.front()) joined += "\n\n";
    joined += text;
  }
  return joined;
}

Result<std::vector<uint32_t>> Encode(const tokenizer::Tokenizer& tokenizer, const std::string& text,
                                     const Values& values, bool add_special) {
  auto ids = tokenizer.Encode(text, {.add_special = add_special, .parse_special = values.parse_special});
  if (!ids) return Fail(std::move(ids.error()).In(fmt::format("{}", fmt::join(values.texts, ", "))));
  return std::move(*ids);
}

// Whether the model's own tokenizer, where it has one, makes of the text what is measured on.
Result<void> CheckTokenizer(const checkpoint::Checkpoint& model, const std::string& first_ref, const std::string& text,
                            const Text& wanted, const Values& values, bool add_special, Session& session) {
  auto opened = tokenizer::OpenTokenizer(model);
  if (!opened && opened.error().code == ErrorCode::kNotFound) {
    session.Note(fmt::format("{} has no tokenizer; that of {} is taken for it", model.ref(), first_ref));
    return {};
  }
  if (!opened) return Fail(std::move(opened.error()).In(model.ref()));
  const tokenizer::Tokenizer& tokenizer = **opened;
  const bool bos_differs = add_special && tokenizer.adds_bos() != wanted.adds_bos;
  if (bos_differs) {
    session.Warn(fmt::format("{} {} BOS, unlike {}: all models read the tokens of the first", model.ref(),
                             tokenizer.adds_bos() ? "adds" : "does not add", first_ref));
    add_special = false;
  }
  SLUICE_ASSIGN(const std::vector<uint32_t> ids, Encode(tokenizer, text, values, add_special));
  const bool behind_bos = bos_differs && wanted.adds_bos && wanted.bos && wanted.ids.size() > ids.size();
  const auto [ours, theirs] =
      std::mismatch(wanted.ids.begin() + (behind_bos ? 1 : 0), wanted.ids.end(), ids.begin(), ids.end());
  if (ours == wanted.ids.end() && theirs == ids.end()) return {};
  return Fail(
      ErrorCode::kUsage,
      fmt::format("{} and {} make different tokens of the text, from token {} on: models with different tokenizers "
                  "cannot be compared token by token; measure each alone, or choose one with --tokenizer",
                  first_ref, model.ref(), theirs - ids.begin()));
}

// The ids of the text by --tokenizer, else by the first model's; then the others' must agree.
Result<Text> Tokenize(const std::vector<std::shared_ptr<const checkpoint::Checkpoint>>& models, const Values& values,
                      bool add_special, Session& session) {
  SLUICE_ASSIGN(const std::string text, ReadTexts(values.texts));
  SLUICE_ASSIGN(const auto tokenizer, OpenTokenizerFor(values.tokenizer, *models.front(), session));
  Text result;
  SLUICE_ASSIGN(result.ids, Encode(*tokenizer, text, values, add_special));
  result.adds_bos = tokenizer->adds_bos();
  result.bos = tokenizer->special_ids().bos;
  for (size_t model = 1; values.tokenizer.empty() && model < models.size(); ++model) {
    SLUICE_TRY(CheckTokenizer(*models[model], models.front()->ref(), text, result, values, add_special, session));
  }
  return result;
}

std::string BosPolicy(const infer::WindowOptions& options) {
  if (!options.adds_bos || options.convention == infer::PerplexityConvention::kExl2) return "none";
  return options.convention == infer::PerplexityConvention::kLlama512 ? "replaces the first token of each window"
                                                                      : "before the text";
}

Result<int> Run(const Values& values, Session& session) {
  SLUICE_TRY(values.refused.Check());
  if (values.texts.empty()) return Fail(ErrorCode::kUsage, "give a text to measure on: --text FILE");
  const auto convention = infer::ConventionByName(values.convention);
  if (!convention) {
    return Fail(ErrorCode::kUsage,
                fmt::format("--convention {}: write llama512, hf-stride or exl2", values.convention));
  }
  std::vector<std::shared_ptr<const checkpoint::Checkpoint>> models;
  std::vector<const checkpoint::Checkpoint*> pointers;
  for (const std::string& ref : values.refs) {
    SLUICE_ASSIGN(models.emplace_back(), values.recipe.Open(session, ref));
    session.WarnOf(*models.back());
    pointers.push_back(models.back().get());
  }
  SLUICE_ASSIGN(const Text text, Tokenize(models, values, *convention != infer::PerplexityConvention::kExl2, session));
  const infer::WindowOptions options = infer::WithDefaults({.convention = *convention,
                                                            .context = values.context,
                                                            .max_windows = values.chunks,
                                                            .adds_bos = text.adds_bos && text.bos.has_value()});
  SLUICE_ASSIGN(const std::vector<infer::Window> windows, infer::PlanWindows(text.ids.size(), options));
  std::vector<std::vector<uint32_t>> sequences;
  std::vector<infer::ScoredRange> ranges;
  for (const infer::Window& window : windows) {
    sequences.emplace_back(text.ids.begin() + window.begin, text.ids.begin() + window.end);
    if (window.bos_replaced) sequences.back()[0] = *text.bos;
    ranges.push_back({window.first_scored - window.begin, window.end - window.begin});
  }
  if (!values.report.empty()) {  // that it cannot be written shows before the work
    SLUICE_TRY(io::CheckWritable(values.report));
  }
  infer::TokenBatch batch(std::move(sequences));
  auto wanted = infer::PerplexitySink::WantedTiles(batch, ranges);
  SLUICE_ASSIGN(const MemoryLease scores_lease,
                session.budget.Lease(infer::PerplexitySink::MemoryBytes(wanted.size(), models.size()),
                                     "what is kept of each token for the statistics"));
  SLUICE_ASSIGN(const auto pass,
                infer::ForwardPass::Open(pointers, std::move(batch), std::move(wanted), MakePassOptions(session)));
  for (size_t model = 1; model < models.size(); ++model) {
    if (pass->spec(model).vocab == pass->spec(0).vocab) continue;
    return Fail(
        ErrorCode::kUnsupported,
        fmt::format("{} has a vocabulary of {} and {} one of {}: comparing models of different vocabularies is not "
                    "supported yet; measure each alone",
                    values.refs[0], pass->spec(0).vocab, values.refs[model], pass->spec(model).vocab));
  }
  if (session.options.dry_run) {
    PrintForwardPlan(session, pass->plan(), "perplexity");
    return 0;
  }
  infer::PerplexitySink sink(pass->batch(), std::move(ranges), models.size());
  SLUICE_ASSIGN(const infer::PassStats stats, RunForward(session, *pass, &sink, "perplexity"));

  std::vector<infer::ModelScores> scores;
  std::vector<infer::PairScores> pairs;
  for (size_t model = 0; model < models.size(); ++model) {
    infer::TokenScores of_model = sink.Scores(model);
    scores.push_back({values.refs[model], std::move(of_model.nll), std::move(of_model.top)});
    if (model > 0) pairs.push_back({0, model, sink.Divergences(model)});
  }
  report::PerplexityReport report;
  report.text = fmt::format("{}", fmt::join(values.texts, ", "));
  report.num_tokens = text.ids.size();
  report.windows = options;
  report.num_windows = windows.size();
  report.bos = BosPolicy(options);
  report.stats = infer::StatsOf(windows, scores, pairs);
  report.notes.push_back("the text is taken as it is, its last newline included");
  if (values.texts.size() > 1) report.notes.push_back("texts are joined by two newlines");
  report.seconds = session.seconds();
  report.bytes_read = stats.bytes_read;
  report.peak_bytes = PeakResidentBytes();
  report.budget_bytes = session.options.max_memory_bytes;
  session.Print(report::PerplexityJson(report), report::PerplexityText(report));
  if (!values.report.empty()) SLUICE_TRY(io::WriteFileAtomically(values.report, report::PerplexityPage(report)));
  return 0;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("REF", values->refs, "Models: folders, .safetensors, .gguf, .index.json or recipe.yml")
      ->required()
      ->group("Arguments");
  app.add_option("-f,--text", values->texts, "The text, UTF-8; repeatable")
      ->type_name("FILE")
      ->allow_extra_args(false)
      ->group("Options");
  app.add_option("--convention", values->convention, "llama512 (default), hf-stride or exl2")
      ->type_name("NAME")
      ->group("Options");
  app.add_option("-c,--context", values->context, "Tokens of a window (default 512, 1024, 2048)")
      ->type_name("N")
      ->check(CLI::Range(uint64_t{1}, kMostTokens))
      ->group("Options");
  app.add_option("--chunks", values->chunks, "Measure the first N windows (default all)")
      ->type_name("N")
      ->check(CLI::Range(uint64_t{1}, kMostTokens))
      ->group("Options");
  app.add_option("--tokenizer", values->tokenizer,
                 "A model or tokenizer file that reads the text (default the first REF's)")
      ->type_name("REF")
      ->group("Options");
  app.add_option("--report", values->report, "Write a page with plots: one HTML file, self-contained")
      ->type_name("FILE")
      ->group("Options");
  app.add_flag("--parse-special", values->parse_special, "Special tokens spelled out in the text are tokens")
      ->group("Options");
  values->recipe.Add(app);
  values->refused.Add(app, "--kv");
  values->refused.Add(app, "--compute");
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& perplexity_command() {
  static constexpr Command kCommand{.name = "perplexity",
                                    .summary = "How well models foretell a text, each compared with the first",
                                    .synopsis = "perplexity REF... --text FILE [--convention NAME] [options]",
                                    .details = kDetails,
                                    .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
