// sluice digest REF: one number for a model, and one for each of its tensors.
#include <array>
#include <memory>

#include "checkpoint/digest_tree.h"
#include "cli/command.h"
#include "cli/recipe_options.h"
#include "cli/run_pass.h"
#include "cli/watched_files.h"
#include "io/atomic_file.h"
#include "io/byte_source.h"
#include "report/model_report.h"
#include "stream/checkpoint_groups.h"
#include "stream/digest_sink.h"
#include "verify/digest_manifest.h"

namespace sluice::cli::commands {
namespace {

struct Values {
  std::string ref, output, check;
  RecipeOptions recipe;
};

constexpr char kDetails[] =
    R"(The root does not depend on shards, file names or the container, only on tensors (names, encodings, shapes,
bytes), effective config and tokenizer. docs/formats/digest.md tells how to compute it without sluice.
weights_root is the part of it that the tensors make.

With --check the exit status is 0 where everything is as in the manifest and 1 where it is not: tensors that
changed, are missing, extra or renamed are named, and whether config or tokenizer are others. A manifest whose
roots do not follow from its entries was tampered with: 3, before anything is read.

Examples:
  sluice digest model/
  sluice digest model/ -o model.manifest.json
  sluice digest download/ --check model.manifest.json
  sluice digest recipe.yml                  the root that `sluice merge recipe.yml` will write
)";

Result<int> Run(const Values& values, Session& session) {
  // Looked at before hours of reading.
  checkpoint::ModelDigest stated{};
  if (!values.check.empty()) {
    SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(values.check));
    SLUICE_ASSIGN(stated, verify::ParseDigestManifest(text, values.check));
  }
  SLUICE_ASSIGN(const auto checkpoint, values.recipe.Open(session, values.ref));
  session.WarnOf(*checkpoint);
  SLUICE_ASSIGN(const WatchedFiles watched, WatchedFiles::Of(*checkpoint, ""));
  const stream::CheckpointGroups groups(*checkpoint);
  stream::DigestSink sink(checkpoint->tensors());
  SLUICE_ASSIGN(const PassReport pass, RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, "digest"));
  if (!pass.ran) return 0;

  report::DigestResult result;
  result.ref = values.ref;
  SLUICE_ASSIGN(result.digest, checkpoint::MakeModelDigest(sink.Digests(), *checkpoint));
  SLUICE_TRY(watched.CheckUnchanged());
  result.seconds = session.seconds();
  result.bytes_read = pass.stats.payload_bytes;

  nlohmann::ordered_json json = report::DigestJson(result);
  std::string text = report::DigestText(result);
  if (!values.output.empty()) {
    nlohmann::ordered_json file;
    file["schema"] = "sluice/digest/v1";
    file.update(json);
    SLUICE_TRY(io::WriteFileAtomically(values.output, file.dump(2) + "\n"));
  }
  int status = 0;
  if (!values.check.empty()) {
    const verify::ManifestCheck check = verify::CompareWithManifest(result.digest, stated, values.check);
    json["check"] = report::ManifestCheckJson(check);
    text += report::ManifestCheckText(check);
    status = check.same() ? 0 : 1;
  }
  session.Print(json, text);
  return status;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("REF", values->ref, "A folder, .safetensors, .gguf, .index.json or recipe.yml")
      ->required()
      ->group("Arguments");
  app.add_option("-o", values->output, "Write the JSON object to this file too: a manifest")
      ->type_name("FILE")
      ->group("Options");
  app.add_option("--check", values->check, "Compare with a manifest; exit 1 where something differs")
      ->type_name("FILE")
      ->group("Options");
  values->recipe.Add(app);
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& digest_command() {
  static constexpr Command kCommand{.name = "digest",
                                    .summary = "One number for a model, and one for each tensor, whatever its shards",
                                    .synopsis = "digest REF [-o manifest.json] [--check manifest.json] [options]",
                                    .details = kDetails,
                                    .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
