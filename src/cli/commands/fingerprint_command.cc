// sluice fingerprint REF -o F: hashes of drawn blocks of a model, to hold other models against.
#include <memory>

#include "base/memory_budget.h"
#include "cli/command.h"
#include "cli/recipe_options.h"
#include "cli/sample_pass.h"
#include "cli/watched_files.h"
#include "io/atomic_file.h"
#include "report/fingerprint_report.h"

namespace sluice::cli::commands {
namespace {

struct Values {
  std::string ref, output;
  SampleOptions sample;
  RecipeOptions recipe;
};

constexpr char kDetails[] =
    R"(Reads a few thousand blocks of the model, drawn by a nonce, and keeps their hashes with the config's, the
tokenizer's and the tensors' names and shapes. `sluice verify OTHER --against F` reads the same blocks of another
model, whatever its shards, container and encoding.

The file proves something only of models whose makers had not seen it: whoever has it knows which blocks are
looked at. Draw the nonce after the other side has committed itself; without --nonce it comes from the system's
randomness. docs/fingerprint.md proves what finding all blocks equal says.

Examples:
  sluice fingerprint original/ -o original.fingerprint.json
  sluice verify download/ --against original.fingerprint.json
  sluice fingerprint model/ -o f.json --detect 0.0001 --confidence 0.999
  sluice fingerprint recipe.yml -o f.json --nonce $(openssl rand -hex 16)
)";

Result<int> Run(const Values& values, Session& session) {
  SLUICE_TRY(verify::CheckAim(values.sample.aim));
  SLUICE_TRY(values.sample.MakeNonce());
  SLUICE_ASSIGN(const auto model, values.recipe.Open(session, values.ref));
  session.WarnOf(*model);
  SLUICE_ASSIGN(const WatchedFiles watched, WatchedFiles::Of(*model, ""));
  SLUICE_ASSIGN(const auto taken, TakeFingerprint(session, model, values.sample));
  if (!taken) return 0;
  SLUICE_TRY(watched.CheckUnchanged());
  SLUICE_TRY(io::WriteFileAtomically(values.output, verify::FingerprintFileText(taken->fingerprint)));

  const verify::Fingerprint& fingerprint = taken->fingerprint;
  report::FingerprintResult result;
  result.ref = values.ref;
  result.output = values.output;
  result.nonce = verify::NonceText(fingerprint.nonce);
  result.aim = fingerprint.aim;
  result.tensors = fingerprint.tensors.size();
  result.num_draws = fingerprint.sample.num_draws;
  result.blocks = fingerprint.sample.num_drawn;
  result.all_blocks = fingerprint.sample.num_blocks;
  result.rows = verify::DescribeParts(TensorsOf(fingerprint), model->config(), fingerprint.aim.confidence);
  result.bytes_read = taken->bytes_read;
  result.budget_bytes = session.options.max_memory_bytes;
  result.peak_bytes = PeakResidentBytes();
  result.seconds = session.seconds();
  session.Print(report::FingerprintJson(result), report::FingerprintText(result));
  return 0;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("REF", values->ref, "A folder, .safetensors, .gguf, .index.json, recipe.yml or REF+LORA")
      ->required()
      ->group("Arguments");
  app.add_option("-o", values->output, "The file to write")->required()->type_name("FILE")->group("Options");
  app.add_option("--detect", values->sample.aim.detect,
                 "Notice that this share of all blocks differs (default: 0.001) ...")
      ->type_name("F")
      ->group("Options");
  app.add_option("--confidence", values->sample.aim.confidence, "... with this probability at least (default: 0.99)")
      ->type_name("C")
      ->group("Options");
  app.add_option("--nonce", values->sample.nonce, "32 or 64 hexadecimal digits to draw by (default: random)")
      ->type_name("HEX")
      ->group("Options");
  values->recipe.Add(app);
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& fingerprint_command() {
  static constexpr Command kCommand{.name = "fingerprint",
                                    .summary = "Hashes of a few thousand drawn blocks, to hold other models against",
                                    .synopsis = "fingerprint REF -o FILE [--detect F] [--confidence C] [--nonce HEX]",
                                    .details = kDetails,
                                    .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
