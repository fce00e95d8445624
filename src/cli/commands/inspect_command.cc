// sluice inspect REF: what a model is, from its headers and its config alone.
#include <memory>

#include "cli/command.h"
#include "report/model_report.h"
#include "verify/inspection.h"

namespace sluice::cli::commands {
namespace {

struct Values {
  std::string ref;
  bool tensors = false;
};

constexpr char kDetails[] =
    R"(Reads no weights: 100,000 tensors take well under a second. Parameters are counted from the headers, and
what the config predicts stands beside them. Problems of a checkpoint (a shard that the index leaves out, the
same weights twice in a folder) are listed and leave the exit status at 0.

Examples:
  sluice inspect model/
  sluice inspect model.gguf --tensors
  sluice inspect recipe.yml --json          what the merge would be, before it is made
)";

Result<int> Run(const Values& values, Session& session) {
  SLUICE_ASSIGN(const auto checkpoint, session.Open(values.ref));
  SLUICE_TRY(session.CheckHeadersFit());
  const verify::Inspection inspection = verify::Inspect(*checkpoint);
  nlohmann::ordered_json json = report::InspectionJson(inspection);
  std::string text = report::InspectionText(inspection);
  if (values.tensors) {
    json["tensors"] = report::TensorListJson(checkpoint->tensors());
    text += "\n" + report::TensorListText(checkpoint->tensors());
  }
  session.Print(json, text);
  return 0;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("REF", values->ref, "A folder, .safetensors, .gguf, .index.json or recipe.yml")
      ->required()
      ->group("Arguments");
  app.add_flag("--tensors", values->tensors, "List every tensor: name, encoding, shape, bytes")->group("Options");
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& inspect_command() {
  static constexpr Command kCommand{.name = "inspect",
                                    .summary = "What a model is: architecture, parameters, encodings, shards, problems",
                                    .synopsis = "inspect REF [--tensors] [options]",
                                    .details = kDetails,
                                    .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
