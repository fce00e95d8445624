// sluice logits REF: what the model says of every next token, in a file that anyone can compare with.
#include <memory>

#include <fmt/format.h>

#include "base/units.h"
#include "cli/command.h"
#include "cli/recipe_options.h"
#include "cli/run_forward.h"
#include "cli/tokenizer_reference.h"
#include "infer/ids_file.h"
#include "infer/logits_file.h"
#include "io/byte_source.h"

namespace sluice::cli::commands {
namespace {

struct Values {
  std::string ref, ids, output, tokenizer;
  std::vector<std::string> texts;
  RecipeOptions recipe;
  RefusedOptions refused;
  bool last = false, force = false, parse_special = false;
};

constexpr char kDetails[] =
    R"(Writes `logits`, F32 [sequences, tokens, vocab], as safetensors. Each weight is read once, a layer at a time,
however many sequences there are (but where the budget makes several rounds of them: --dry-run tells); a recipe is
merged as its layers are needed and nothing of it is written.

--ids takes `input_ids`, I64 [sequences, tokens], from a safetensors file and needs no tokenizer. --text takes
files of UTF-8, each a sequence of its own, and adds the special tokens that the model's tokenizer adds.

Examples:
  sluice logits model/ --ids ids.safetensors -o logits.safetensors
  sluice logits model.gguf --text prompt.txt --last -o next.safetensors
  sluice logits recipe.yml --text prompt.txt -o logits.safetensors --max-memory 4GiB
)";

Result<std::vector<std::vector<uint32_t>>> Sequences(const Values& values, const checkpoint::Checkpoint& checkpoint,
                                                     Session& session) {
  if (!values.ids.empty()) return infer::ReadIdsFile(values.ids);
  SLUICE_ASSIGN(const auto tokenizer, OpenTokenizerFor(values.tokenizer, checkpoint, session));
  std::vector<std::vector<uint32_t>> sequences;
  for (const std::string& path : values.texts) {
    SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(path));
    auto ids = tokenizer->Encode(text, {.add_special = true, .parse_special = values.parse_special});
    if (!ids) return Fail(std::move(ids.error()).In(path));
    if (ids->empty()) return Fail(ErrorCode::kUsage, path + ": there are no tokens in it; give a text of one at least");
    sequences.push_back(std::move(*ids));
  }
  return sequences;
}

Result<int> Run(const Values& values, Session& session) {
  SLUICE_TRY(values.refused.Check());
  if (values.ids.empty() == values.texts.empty()) {
    return Fail(ErrorCode::kUsage, "give the tokens: either --ids FILE.safetensors or --text FILE");
  }
  if (!values.output.ends_with(".safetensors")) {
    return Fail(ErrorCode::kUsage, fmt::format("-o {}: the logits are written as safetensors; give a name that ends in "
                                               ".safetensors",
                                               values.output));
  }
  SLUICE_ASSIGN(const auto checkpoint, values.recipe.Open(session, values.ref));
  session.WarnOf(*checkpoint);
  SLUICE_ASSIGN(auto sequences, Sequences(values, *checkpoint, session));
  infer::TokenBatch batch(std::move(sequences));
  SLUICE_TRY(infer::LogitsFile::CheckLengths(batch, values.last));
  std::vector<uint64_t> wanted = infer::LogitsFile::WantedTiles(batch, values.last);
  SLUICE_ASSIGN(const auto pass, infer::ForwardPass::Open({checkpoint.get()}, std::move(batch), std::move(wanted),
                                                          MakePassOptions(session)));
  if (session.options.dry_run) {
    PrintForwardPlan(session, pass->plan(), "logits");
    return 0;
  }
  SLUICE_ASSIGN(const auto file, infer::LogitsFile::Create(values.output, values.force, pass->batch(),
                                                           pass->spec(0).vocab, values.last));
  SLUICE_ASSIGN(const infer::PassStats stats, RunForward(session, *pass, file.get(), "logits"));
  SLUICE_TRY(file->Commit());

  nlohmann::ordered_json json;
  json["tokens"] = pass->plan().num_tokens;
  json["sequences"] = pass->batch().sequences().size();
  json["vocab"] = pass->spec(0).vocab;
  json["compute"] = "f32";
  json["bytes_read"] = stats.bytes_read;
  json["seconds"] = session.seconds();
  json["peak_memory_bytes"] = PeakResidentBytes();
  json["file"] = values.output;
  session.Print(json, fmt::format("{}: logits of {} tokens in {} {}, vocabulary {}, in {}\n", values.output,
                                  FormatCount(pass->plan().num_tokens), pass->batch().sequences().size(),
                                  pass->batch().sequences().size() == 1 ? "sequence" : "sequences",
                                  FormatCount(pass->spec(0).vocab), FormatSeconds(session.seconds())));
  return 0;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("REF", values->ref, "A folder, .safetensors, .gguf, .index.json or recipe.yml")
      ->required()
      ->group("Arguments");
  app.add_option("--ids", values->ids, "Token ids: input_ids, I64 [sequences, tokens], in a safetensors file")
      ->type_name("FILE")
      ->group("Options");
  app.add_option("-f,--text", values->texts, "A text, UTF-8; repeatable, each a sequence of its own")
      ->type_name("FILE")
      ->allow_extra_args(false)
      ->group("Options");
  app.add_option("-o", values->output, "The .safetensors file to write")
      ->type_name("FILE")
      ->required()
      ->group("Options");
  app.add_option("--tokenizer", values->tokenizer, "A model or tokenizer file that reads --text (default REF's)")
      ->type_name("REF")
      ->group("Options");
  app.add_flag("--last", values->last, "The logits of each sequence's last token alone")->group("Options");
  app.add_flag("--parse-special", values->parse_special, "Special tokens spelled out in a text are tokens")
      ->group("Options");
  app.add_flag("--force", values->force, "Replace an output that exists")->group("Options");
  values->recipe.Add(app);
  values->refused.Add(app, "--compute");
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& logits_command() {
  static constexpr Command kCommand{
      .name = "logits",
      .summary = "What a model says of every next token, written for comparison",
      .synopsis = "logits REF (--ids FILE | --text FILE) -o FILE.safetensors [--last] [options]",
      .details = kDetails,
      .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
