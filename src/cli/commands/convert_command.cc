// sluice convert REF -o DIR|F: a checkpoint in another container, other shards, another dtype.
#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "base/units.h"
#include "cli/checkpoint_view.h"
#include "cli/command.h"
#include "cli/recipe_options.h"
#include "cli/rename_options.h"
#include "cli/write_checkpoint.h"
#include "formats/gguf.h"
#include "quant/encoding.h"
#include "report/model_report.h"
#include "tokenizer/gguf_tokenizer_files.h"
#include "tokenizer/gguf_tokenizer_keys.h"

namespace sluice::cli::commands {
namespace {

struct Values {
  std::string ref, dtype;
  RecipeOptions recipe;
  RenameOptions rename;
  std::vector<std::string> set;
  WriteRequest write;
};

constexpr char kDetails[] =
    R"(-o X is a file where X ends in .safetensors or .gguf, else a folder with index, config.json and tokenizer files.
Nothing stands under the name before it is whole and synced. A cast rounds to nearest even, once; finite numbers that it
makes infinite are counted for each tensor, and told. A GGUF file carries config and tokenizer in its keys, for
llama.cpp and its kin; its vectors are F32, and --dtype is of its matrices.
A rule of --rename matches whole names. A * in OLD stands for one or more characters without a dot, as the number of a
layer, and the n-th * in NEW for the same text. Of several rules the first that matches a tensor wins, those of
--rename before those of --rename-file; a rule that matches no tensor is an error, and so are two tensors of one name.
--to comes after them. It sets what config.json calls the model, and drops auto_map; Python files are never copied.

Examples:
  sluice convert model/ -o four/ --out-shard-size 5GB       other shards, the same root
  sluice convert model.gguf -o model/ --dtype bfloat16      quantised blocks are decoded
  sluice convert model/ -o model.gguf --dtype q8_0          with tokenizer and chat template
  sluice convert recipe.yml -o merged.safetensors           a merge without its papers
  sluice convert model/ -o long/ --set max_position_embeddings=32768
  sluice convert Yi-34B/ -o llama/ --to llama               Yi's first releases, as Llama
  sluice convert model/ -o plain/ --rename 'base.model.*.weight=model.*.weight'
)";

// Quantised blocks have no name in safetensors: say what to do before the writer merely refuses.
Result<void> RefuseBlocks(const checkpoint::Checkpoint& checkpoint) {
  for (size_t i = 0; i < checkpoint.tensors().size(); ++i) {
    const checkpoint::TensorInfo tensor = checkpoint.tensors()[i];
    if (!tensor.encoding.is_block() || tensor.encoding->safetensors_rank >= 0) continue;
    return Fail(
        ErrorCode::kUnsupported,
        fmt::format("{}: {} is stored as {}, which safetensors has no dtype for; decode it with --dtype bfloat16, "
                    "float16 or float32",
                    checkpoint.ref(), tensor.name, tensor.encoding.name()));
  }
  return {};
}

// The tokenizer of a GGUF, as files. Where that cannot be, the weights are worth writing all the same.
void AddTokenizerFiles(const checkpoint::Checkpoint& model, CheckpointView* view, Session& session) {
  if (model.embedded_tokenizer().empty()) return;
  const auto files = [&]() -> Result<std::vector<checkpoint::SideFile>> {
    SLUICE_ASSIGN(auto source, io::OpenFile(model.files()[0].path));
    SLUICE_ASSIGN(const auto gguf, formats::GgufFile::Open(std::move(source)));
    return tokenizer::TokenizerFilesOf(*gguf);
  }();
  if (files) return view->SetSideFiles(*files);
  session.Warn("the output has no tokenizer: " + files.error().ToString());
}

// The whole of a GGUF file, planned. Where the tokenizer cannot go along, the weights are worth writing all the same.
Result<std::shared_ptr<const checkpoint::GgufExport>> PlanGguf(
    const std::shared_ptr<const checkpoint::Checkpoint>& model, quant::Encoding dtype, Session& session) {
  const auto num_rows = model->config() == nullptr ? std::nullopt : model->config()->GetInt("vocab_size");
  auto header = tokenizer::GgufTokenizerKeys(*model, num_rows.value_or(0));
  if (!header) {
    session.Warn("the output has no tokenizer: " + header.error().ToString());
    header = formats::GgufHeader();
  }
  SLUICE_ASSIGN(auto gguf, checkpoint::GgufExport::Make(model, dtype, std::move(*header)));
  for (const std::string& note : gguf->notes()) session.Note(note);
  return gguf;
}

Result<quant::Encoding> ReadDtype(const std::string& name, bool is_gguf) {
  if (name.empty()) return quant::Encoding();
  quant::Encoding dtype = quant::FloatByDtypeName(name);
  if (is_gguf && (name == "q8_0" || name == "Q8_0")) dtype = quant::EncodingByName("Q8_0");
  if (dtype.valid()) return dtype;
  return Fail(ErrorCode::kUsage,
              fmt::format("--dtype {}: write bfloat16, float16, float32 or, for a GGUF file, q8_0", name));
}

void WarnOfOverflows(const std::vector<report::TensorOverflow>& overflows, Session& session) {
  constexpr size_t kShown = 5;
  for (size_t i = 0; i < std::min(kShown, overflows.size()); ++i) {
    session.Warn(fmt::format("{}: {}", overflows[i].name, report::OverflowText(overflows[i])));
  }
  if (overflows.size() > kShown) {
    session.Warn(fmt::format("and {} more tensors with numbers that became infinite; --json lists them all",
                             FormatCount(overflows.size() - kShown)));
  }
}

Result<int> Run(const Values& values, Session& session) {
  SLUICE_ASSIGN(const bool is_file, IsFileOutput(values.write.output));
  const bool is_gguf = values.write.output.ends_with(".gguf");
  SLUICE_ASSIGN(const quant::Encoding dtype, ReadDtype(values.dtype, is_gguf));
  SLUICE_ASSIGN(const auto rules, values.rename.Rules());
  SLUICE_ASSIGN(auto checkpoint, values.recipe.Open(session, values.ref));
  session.WarnOf(*checkpoint);
  SLUICE_ASSIGN(checkpoint, values.rename.Apply(session, checkpoint, rules));
  if (dtype.valid() && !is_gguf) {
    SLUICE_ASSIGN(checkpoint, checkpoint::CastTo(checkpoint, dtype));
  }
  if (!is_gguf) SLUICE_TRY(RefuseBlocks(*checkpoint));
  const auto view = std::make_shared<CheckpointView>(checkpoint);
  SLUICE_TRY(view->SetConfig(values.set));
  if (!is_file) AddTokenizerFiles(*checkpoint, view.get(), session);
  WriteRequest write = values.write;
  write.count_overflows = dtype.valid() && !dtype.is_block();
  if (is_gguf) {
    SLUICE_ASSIGN(write.gguf, PlanGguf(view, dtype, session));
  }
  SLUICE_ASSIGN(const auto written, WriteCheckpoint(session, view, write));
  if (written) WarnOfOverflows(written->overflows, session);
  if (written) session.Print(report::ConvertJson(*written), report::ConvertText(*written));
  return 0;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  values->write.what = "convert";
  app.add_option("REF", values->ref, "A folder, .safetensors, .gguf, .index.json or recipe.yml")
      ->required()
      ->group("Arguments");
  app.add_option("-o", values->write.output, "The folder, or the .safetensors or .gguf file, to write")
      ->type_name("DIR|FILE")
      ->required()
      ->group("Options");
  app.add_option("--dtype", values->dtype,
                 "Cast every float tensor: bfloat16, float16, float32 (bf16, f16, f32); of a GGUF's matrices also q8_0")
      ->type_name("TYPE")
      ->group("Options");
  app.add_option("--out-shard-size", values->write.shard_size,
                 "Most bytes of a shard, as 5GB, 5B or 2.5GiB (default 5GB)")
      ->type_name("SIZE")
      ->group("Options");
  app.add_option("--set", values->set, "Set a key of config.json; the value is JSON, else text. Repeatable")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false)
      ->group("Options");
  values->rename.Add(app);
  app.add_flag("--force", values->write.force, "Replace an output that exists")->group("Options");
  values->recipe.Add(app);
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& convert_command() {
  static constexpr Command kCommand{
      .name = "convert",
      .summary = "Write a checkpoint in other shards, another container or another dtype",
      .synopsis = "convert REF -o DIR|FILE.safetensors|FILE.gguf [--dtype TYPE] [options]",
      .details = kDetails,
      .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
