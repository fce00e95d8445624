// sluice inspect REF: what a model is, from its headers and its config; with --check, whether its files are whole.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "cli/command.h"
#include "cli/run_pass.h"
#include "graph/node.h"
#include "io/byte_source.h"
#include "kernels/sha256.h"
#include "merge/statement.h"
#include "report/inspection_report.h"
#include "stream/checkpoint_groups.h"
#include "stream/digest_sink.h"
#include "verify/file_check.h"
#include "verify/inspection.h"

namespace sluice::cli::commands {
namespace {

namespace fs = std::filesystem;

struct Values {
  std::vector<std::string> refs;
  CLI::Option* tensors = nullptr;
  std::vector<std::string> globs;  // none where --tensors stands alone
  bool check = false;
};

constexpr char kDetails[] =
    R"(Reads no weights: 100,000 tensors take well under a second. Parameters are counted from the headers, and
what the config predicts stands beside them. Problems of a checkpoint (a shard that the index leaves out, the
same weights twice in a folder) are listed and leave the exit status at 0.

--tensors lists all tensors, or those whose names match one of the patterns behind it (* any characters,
? one); give it after REF.

--check reads the files, also of a folder that does not open: it holds them against the digests in a hub
cache's blob names or a download's metadata, the roots in sluice_merge.json or a manifest of `sluice digest`,
checksums of .bin files, and headers, index and config against each other. Damaged, truncated and missing
files, Git LFS pointers and shards of another revision are told apart, and which to fetch again. The exit
status is 3 where something is wrong. docs/checkpoints.md tells the rest.

Examples:
  sluice inspect model/
  sluice inspect model.gguf --tensors '*.q_proj.*'
  sluice inspect org/name --check           of the local hub cache
  sluice inspect recipe.yml --json          what the merge would be, before it is made
)";

// Columns of the terminal that stdout is; 0: it is none.
size_t TerminalColumns() {
  winsize size = {};
  return isatty(STDOUT_FILENO) == 1 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

Result<std::string> RefOf(const Values& values) {
  // `--tensors REF` was how the flag could be written before it took patterns.
  if (values.refs.empty() && values.globs.size() == 1) return values.globs.front();
  if (values.refs.size() == 1) return values.refs.front();
  if (!values.refs.empty()) return Fail(ErrorCode::kUsage, "one REF at a time");
  return Fail(ErrorCode::kUsage, values.globs.empty() ? "REF is required" : "REF is required, before --tensors");
}

std::vector<size_t> Matching(const checkpoint::Catalogue& tensors, const std::vector<std::string>& globs) {
  std::vector<size_t> places;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string_view name = tensors[i].name;
    const bool wanted = globs.empty() || std::ranges::any_of(globs, [&](const std::string& glob) {
                          return report::MatchesGlob(name, glob);
                        });
    if (wanted) places.push_back(i);
  }
  return places;
}

// Roots of tensors, by name, that a file in the folder states of them.
struct StatedRoots {
  std::string file;
  std::map<std::string, std::string> by_tensor;
};

Result<StatedRoots> FindStatedRoots(const std::string& folder) {
  StatedRoots stated;
  std::error_code error;
  if (fs::is_regular_file(fs::path(folder) / merge::kStatementFile, error)) {
    SLUICE_ASSIGN(const merge::Statement statement, merge::ReadStatement(folder));
    stated.file = merge::kStatementFile;
    for (const auto& tensor : statement.tensors) stated.by_tensor.emplace(tensor.name, tensor.root);
    return stated;
  }
  for (fs::directory_iterator entries(folder, error); !error && entries != fs::directory_iterator();
       entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (!name.ends_with("manifest.json") || !entries->is_regular_file(error)) continue;
    SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(entries->path().string()));
    const auto json = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || json.value("schema", nlohmann::ordered_json()) != "sluice/digest/v1") continue;
    stated.file = name;
    for (const auto& tensor : json.value("tensors", nlohmann::ordered_json::array())) {
      if (tensor.is_object() && tensor.contains("name") && tensor["name"].is_string() && tensor.contains("digest") &&
          tensor["digest"].is_string()) {
        stated.by_tensor.emplace(tensor["name"].get<std::string>(), tensor["digest"].get<std::string>());
      }
    }
    return stated;
  }
  return stated;
}

// The checkpoint's tensors beside the roots that its folder states; marks the files of those that changed.
Result<report::RootCheck> CheckRoots(Session& session, const checkpoint::Checkpoint& checkpoint,
                                     verify::FileCheck* files) {
  report::RootCheck roots;
  const Result<StatedRoots> found = FindStatedRoots(files->folder);
  if (!found) {
    for (verify::CheckedFile& checked : files->files) {
      if (checked.name != merge::kStatementFile || checked.bad()) continue;
      checked.state = verify::FileState::kDamaged;
      checked.message = found.error().ToString();
    }
    return roots;
  }
  const StatedRoots& stated = *found;
  if (stated.by_tensor.empty()) return roots;
  const stream::CheckpointGroups groups(checkpoint);
  stream::DigestSink sink(checkpoint.tensors());
  SLUICE_ASSIGN(const PassReport pass, RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, "check"));
  if (!pass.ran) return roots;
  files->bytes_read += pass.stats.payload_bytes;
  roots.statement = stated.file;
  const std::vector<checkpoint::TensorDigest> digests = sink.Digests();
  graph::Graph graph;
  for (size_t i = 0; i < digests.size(); ++i) {
    const auto root = stated.by_tensor.find(digests[i].name);
    if (root == stated.by_tensor.end()) continue;
    ++roots.tensors;
    if (root->second == kernels::ToHex(digests[i].root)) continue;
    std::string file;
    if (const auto* stored = dynamic_cast<const graph::StoredNode*>(checkpoint.MakeNode(i, &graph))) {
      file = fs::path(stored->source().name()).filename().string();
    }
    for (verify::CheckedFile& checked : files->files) {
      if (checked.name != file || checked.bad()) continue;
      checked.state = verify::FileState::kDamaged;
      checked.checked_by = "roots of " + stated.file;
      checked.message = fmt::format("{} has another root than {} states", digests[i].name, stated.file);
    }
    roots.changed.push_back({digests[i].name, file});
  }
  return roots;
}

Result<int> Check(const std::string& ref, Session& session) {
  SLUICE_ASSIGN(const std::string path, checkpoint::LocalPathOf(ref));
  report::CheckResult result;
  SLUICE_ASSIGN(result.files, verify::CheckFiles(path, session.options.threads, session.cancelled));
  const size_t columns = TerminalColumns();
  nlohmann::ordered_json json;
  std::string text;
  if (const auto checkpoint = session.Open(ref)) {
    const verify::Inspection inspection = verify::Inspect(**checkpoint);
    json = report::InspectionJson(inspection);
    text = report::InspectionText(inspection, columns) + "\n";
    SLUICE_TRY(session.CheckHeadersFit());
    SLUICE_ASSIGN(result.roots, CheckRoots(session, **checkpoint, &result.files));
    verify::SetFetchCommand(&result.files);
  } else {
    json["ref"] = ref;
    const Error& error = checkpoint.error();
    result.failure = {error.ToString(), error.code == ErrorCode::kCorrupt || error.code == ErrorCode::kRead};
  }
  json["check"] = report::CheckJson(result);
  session.Print(json, text + report::CheckText(result, columns));
  return result.ok() ? 0 : ExitStatus(ErrorCode::kCorrupt);
}

Result<int> Run(const Values& values, Session& session) {
  SLUICE_ASSIGN(const std::string ref, RefOf(values));
  if (values.check) {
    if (values.tensors->count() > 0) return Fail(ErrorCode::kUsage, "--check and --tensors: one at a time");
    if (session.options.dry_run) return Fail(ErrorCode::kUsage, "--check has no plan: it reads every file once");
    return Check(ref, session);
  }
  SLUICE_ASSIGN(const auto checkpoint, session.Open(ref));
  SLUICE_TRY(session.CheckHeadersFit());
  const size_t columns = TerminalColumns();
  const verify::Inspection inspection = verify::Inspect(*checkpoint);
  nlohmann::ordered_json json = report::InspectionJson(inspection);
  std::string text = report::InspectionText(inspection, columns);
  if (values.tensors->count() > 0) {
    const auto globs = values.refs.empty() ? std::vector<std::string>() : values.globs;
    const std::vector<size_t> places = Matching(checkpoint->tensors(), globs);
    json["tensors"] = report::TensorListJson(checkpoint->tensors(), places);
    text += "\n" + (places.empty() ? fmt::format("  no tensor matches {}\n", fmt::join(globs, " "))
                                   : report::TensorListText(checkpoint->tensors(), places, columns));
  }
  session.Print(json, text);
  return 0;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("REF", values->refs, "A folder, .safetensors, .gguf, .index.json, recipe.yml or org/name")
      ->expected(0, 1)
      ->group("Arguments");
  values->tensors = app.add_option_function<std::vector<std::string>>(
                           "--tensors",
                           [values](const std::vector<std::string>& globs) {
                             for (const std::string& glob : globs) {
                               if (!glob.empty()) values->globs.push_back(glob);
                             }
                           },
                           "List tensors, all or by patterns: name, encoding, shape, bytes")
                        ->expected(0, 1 << 20)
                        ->type_name("[GLOB...]")
                        ->group("Options");
  app.add_flag("--check", values->check, "Read every file and tell what is damaged; exit 3 where something is")
      ->group("Options");
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& inspect_command() {
  static constexpr Command kCommand{.name = "inspect",
                                    .summary = "What a model is: architecture, parts, encodings, shards, problems",
                                    .synopsis = "inspect REF [--tensors [GLOB...]] [--check] [options]",
                                    .details = kDetails,
                                    .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
