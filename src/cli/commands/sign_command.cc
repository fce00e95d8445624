// sluice sign DIR: the files of a model, signed by a key, in OpenSSF Model Signing's format.
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include <fmt/format.h>

#include "base/memory_budget.h"
#include "checkpoint/model_ref.h"
#include "cli/command.h"
#include "cli/hash_model.h"
#include "io/atomic_file.h"
#include "report/signature_report.h"
#include "verify/file_manifest.h"
#include "verify/model_signature.h"

namespace sluice::cli::commands {
namespace {

namespace fs = std::filesystem;

struct Values {
  std::string ref, key, output, passphrase_env;
  std::vector<std::string> ignored;
  bool allow_symlinks = false, force = false;
};

constexpr char kDetails[] =
    R"(Signs every file of the folder, and of the folders in it, by name and SHA-256; not git's own (.git,
.gitattributes, .github, .gitignore), nor what --ignore names. The signature is a Sigstore bundle in the format
of OpenSSF Model Signing 1.0: `model_signing verify key` of PyPI's model-signing checks it, and `sluice verify
--signature` checks theirs. One file, a GGUF say, is a model too.

KEY is an ECDSA key over P-256, P-384 or P-521, PEM. docs/signatures.md tells how to make one, and what a
signature proves.

Examples:
  sluice sign model/ --key key.pem                      writes model/model.sig
  sluice sign model.gguf --key key.pem -o model.gguf.sig
  PASS=... sluice sign model/ --key key.pem --passphrase-env PASS
  sluice verify model/ --signature model/model.sig --key pub.pem
)";

Result<std::optional<std::string>> ReadPassphrase(const std::string& name) {
  if (name.empty()) return std::nullopt;
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) {
    return Fail(ErrorCode::kUsage, fmt::format("--passphrase-env {}: there is no such environment variable", name));
  }
  return std::string(value);
}

void NoteOpenKey(const std::string& key, Session& session) {
  struct stat status;
  if (stat(key.c_str(), &status) != 0 || !S_ISREG(status.st_mode) || (status.st_mode & 044) == 0) return;
  session.Note(fmt::format("{}: others may read this private key (mode {:04o}); chmod 600 {}", key,
                           status.st_mode & 07777, key));
}

// Where the signature goes, looked at before hours of reading.
Result<std::string> OutputOf(const Values& values, const std::string& path, const Session& session) {
  std::error_code error;
  const bool is_folder = fs::is_directory(path, error);
  const std::string output = !values.output.empty() ? values.output
                             : is_folder            ? (fs::path(path) / "model.sig").string()
                                                    : path + ".sig";
  if (fs::is_directory(output, error)) return Fail(ErrorCode::kOutputExists, output + ": a folder");
  if (!values.force && fs::is_regular_file(output, error) && fs::file_size(output, error) > 0) {
    return Fail(ErrorCode::kOutputExists, output + ": exists; --force writes over it");
  }
  if (!session.options.dry_run) SLUICE_TRY(io::CheckWritable(output));
  return output;
}

Result<int> Run(const Values& values, Session& session) {
  SLUICE_ASSIGN(const std::string path, checkpoint::LocalPathOf(values.ref));
  SLUICE_ASSIGN(const std::optional<std::string> passphrase, ReadPassphrase(values.passphrase_env));
  SLUICE_ASSIGN(const verify::SigningKey key, verify::SigningKey::Load(values.key, passphrase));
  NoteOpenKey(values.key, session);
  verify::SigningResult result;
  result.ref = values.ref;
  SLUICE_ASSIGN(result.signature, OutputOf(values, path, session));

  verify::FileManifest& manifest = result.manifest;
  manifest.allow_symlinks = values.allow_symlinks;
  manifest.ignored = verify::GitPaths();
  for (const std::string& ignored : values.ignored) {
    const std::string name = fs::path(ignored).lexically_normal().generic_string();
    manifest.ignored.push_back(name.ends_with('/') ? name.substr(0, name.size() - 1) : name);
    if (!verify::IsManifestName(manifest.ignored.back())) {
      return Fail(ErrorCode::kUsage, fmt::format("--ignore {}: write a path in the model, relative to it", ignored));
    }
  }
  if (auto own = verify::PathInModel(path, result.signature)) manifest.ignored.push_back(std::move(*own));
  std::ranges::sort(manifest.ignored);
  const auto repeated = std::ranges::unique(manifest.ignored);
  manifest.ignored.erase(repeated.begin(), repeated.end());

  SLUICE_ASSIGN(verify::ModelFiles files, verify::ListModelFiles(path, {manifest.ignored, values.allow_symlinks}));
  if (files.files.empty()) return Fail(ErrorCode::kUsage, values.ref + ": has no file to sign");
  if (const auto own = verify::PathInModel(path, values.key)) {
    return Fail(ErrorCode::kUsage, fmt::format("{}: the private key lies in the model, and would go with it: keep it "
                                               "elsewhere",
                                               values.key));
  }
  manifest.model_name = files.model_name;
  verify::HashPlan plan = verify::PlanHashes(files, /*shard_bytes=*/0);
  SLUICE_ASSIGN(const auto hashes, HashModel(session, files, plan.pieces, "sign"));
  if (!hashes) return 0;
  manifest.entries = std::move(plan.entries);
  for (size_t i = 0; i < manifest.entries.size(); ++i) {
    manifest.entries[i].digest = (*hashes)[i].digest;
    result.size_bytes.push_back(files.files[i].stamp.size_bytes);
  }
  SLUICE_ASSIGN(const std::string bundle, verify::SignManifest(manifest, key));
  SLUICE_TRY(io::WriteFileAtomically(result.signature, bundle));

  result.key_hint = key.hint();
  result.curve = key.curve();
  result.ignored = std::move(files.ignored);
  result.bytes_read = files.size_bytes;
  result.seconds = session.seconds();
  result.peak_memory_bytes = PeakResidentBytes();
  session.Print(report::SigningJson(result), report::SigningText(result));
  return 0;
}

Action Declare(CLI::App& app) {
  auto values = std::make_shared<Values>();
  app.add_option("DIR", values->ref, "A folder, a file, or org/name of the hub cache")->required()->group("Arguments");
  app.add_option("--key", values->key, "The private key, PEM")->required()->type_name("FILE")->group("Options");
  app.add_option("-o", values->output, "Where the signature goes (default: DIR/model.sig, or FILE.sig)")
      ->type_name("FILE")
      ->group("Options");
  app.add_option("--passphrase-env", values->passphrase_env, "The environment variable with the key's passphrase")
      ->type_name("NAME")
      ->group("Options");
  app.add_option("--ignore", values->ignored, "Leave out this path of the model, and what is below it (repeatable)")
      ->type_name("PATH")
      ->allow_extra_args(false)
      ->group("Options");
  app.add_flag("--allow-symlinks", values->allow_symlinks, "Follow links to files, as a hub cache has them")
      ->group("Options");
  app.add_flag("--force", values->force, "Write over a signature that is there")->group("Options");
  return [values](Session& session) { return Run(*values, session); };
}

}  // namespace

const Command& sign_command() {
  static constexpr Command kCommand{.name = "sign",
                                    .summary = "Sign a model's files by a key, as OpenSSF Model Signing has it",
                                    .synopsis = "sign DIR --key KEY.pem [-o model.sig] [options]",
                                    .details = kDetails,
                                    .declare = Declare};
  return kCommand;
}

}  // namespace sluice::cli::commands
