#include "cli/check_folder.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "base/memory_budget.h"
#include "checkpoint/digest_tree.h"
#include "checkpoint/model_ref.h"
#include "cli/hash_model.h"
#include "cli/run_pass.h"
#include "io/byte_source.h"
#include "kernels/sha256.h"
#include "merge/statement.h"
#include "report/signature_report.h"
#include "report/verification_report.h"
#include "stream/checkpoint_groups.h"
#include "stream/digest_sink.h"
#include "verify/model_signature.h"
#include "verify/stored_tensors.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

// Of 100,000 files it is some 20 MB.
constexpr uint64_t kMaxBundleBytes = uint64_t{256} << 20;

// A merged folder and what its statement says of it.
struct Stated {
  std::shared_ptr<const checkpoint::Checkpoint> checkpoint;
  merge::Statement statement;
  verify::StatementCheck check;
};

bool HasStatement(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(fs::path(path) / merge::kStatementFile, error);
}

Result<kernels::Hash256> ReadHash(const std::string& hex, const std::string& file) {
  kernels::Hash256 hash;
  if (!kernels::FromHex(hex, &hash)) return Fail(ErrorCode::kCorrupt, file + ": '" + hex + "' is no root");
  return hash;
}

Result<Stated> OpenStated(Session& session, const std::string& ref) {
  Stated stated;
  SLUICE_ASSIGN(stated.checkpoint, session.Open(ref));
  session.WarnOf(*stated.checkpoint);
  SLUICE_ASSIGN(stated.statement, merge::ReadStatement(ref));
  verify::StatementCheck& check = stated.check;
  check.ref = ref;
  check.statement = (fs::path(ref) / merge::kStatementFile).string();
  SLUICE_ASSIGN(check.stated_root, ReadHash(stated.statement.root, check.statement));
  SLUICE_ASSIGN(check.stated_weights_root, ReadHash(stated.statement.weights_root, check.statement));
  return stated;
}

// From the roots of all tensors.
Result<void> CompareWithStatement(std::vector<checkpoint::TensorDigest> tensors, Stated* stated) {
  verify::StatementCheck& check = stated->check;
  SLUICE_ASSIGN(const checkpoint::ModelDigest digest,
                checkpoint::MakeModelDigest(std::move(tensors), *stated->checkpoint));
  check.root = digest.model_root;
  check.weights_root = digest.weights_root;
  check.tensors = digest.tensors.size();
  check.bytes = digest.size_bytes;
  if (!stated->statement.tensors.empty()) {
    std::map<std::string_view, std::string_view> roots;
    for (const auto& tensor : stated->statement.tensors) roots.emplace(tensor.name, tensor.root);
    for (const checkpoint::TensorDigest& tensor : digest.tensors) {
      const auto found = roots.find(tensor.name);
      if (found == roots.end()) {
        check.extra.push_back(tensor.name);
        continue;
      }
      if (found->second != kernels::ToHex(tensor.root)) check.changed.push_back(tensor.name);
      roots.erase(found);
    }
    for (const auto& [name, root] : roots) check.missing.emplace_back(name);
  }
  verify::DecideStatement(&check);
  return {};
}

// What the stream reads, where the files are not read whole. Nothing with --dry-run.
Result<std::optional<uint64_t>> ReadForStatement(Session& session, Stated* stated) {
  const stream::CheckpointGroups groups(*stated->checkpoint);
  stream::DigestSink sink(stated->checkpoint->tensors());
  SLUICE_ASSIGN(const PassReport pass, RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, "verify"));
  if (!pass.ran) return std::nullopt;
  SLUICE_TRY(CompareWithStatement(sink.Digests(), stated));
  return std::optional(pass.stats.payload_bytes);
}

Result<int> CheckStatement(Session& session, const std::string& ref) {
  SLUICE_ASSIGN(Stated stated, OpenStated(session, ref));
  SLUICE_ASSIGN(const std::optional<uint64_t> read, ReadForStatement(session, &stated));
  if (!read) return 0;
  stated.check.budget_bytes = session.options.max_memory_bytes;
  stated.check.peak_bytes = PeakResidentBytes();
  stated.check.seconds = session.seconds();
  stated.check.bytes_read = *read;
  session.Print(report::StatementCheckJson(stated.check), report::StatementCheckText(stated.check));
  return verify::VerdictExitStatus(stated.check.verdict);
}

// The signature is looked at before a file is: one that is not the key's ends it.
Result<verify::FileManifest> ReadSignature(Session& session, const SignatureRequest& request,
                                           verify::SignatureCheck* check) {
  SLUICE_ASSIGN(const verify::PublicKey key, verify::PublicKey::Load(request.key));
  SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(request.signature, kMaxBundleBytes));
  SLUICE_ASSIGN(const verify::SignatureBundle bundle, verify::ParseBundle(text, request.signature));
  SLUICE_ASSIGN(verify::FileManifest manifest, verify::CheckSignature(bundle, key, request.signature));
  check->signature = request.signature;
  check->key = request.key;
  check->key_hint = key.hint();
  check->curve = key.curve();
  check->model_name = manifest.model_name;
  check->shard_bytes = manifest.shard_bytes;
  if (bundle.key_hint.empty()) {
    session.Note(request.signature +
                 ": does not name its key, as bundles of before 1.0 do not; it was checked all the "
                 "same");
  }
  return manifest;
}

Result<int> CheckSigned(Session& session, const std::string& ref, const SignatureRequest& request) {
  verify::SignatureCheck check;
  check.ref = ref;
  SLUICE_ASSIGN(const std::string path, checkpoint::LocalPathOf(ref));
  SLUICE_ASSIGN(const verify::FileManifest manifest, ReadSignature(session, request, &check));
  verify::ListOptions list{manifest.ignored, request.allow_symlinks || manifest.allow_symlinks};
  for (const std::string& ignored : request.ignored) {
    list.ignored.push_back(fs::path(ignored).lexically_normal().generic_string());
    if (list.ignored.back().ends_with('/')) list.ignored.back().pop_back();
    if (verify::IsManifestName(list.ignored.back())) continue;
    return Fail(ErrorCode::kUsage, fmt::format("--ignore {}: write a path in the model, relative to it", ignored));
  }
  if (auto own = verify::PathInModel(path, request.signature)) list.ignored.push_back(std::move(*own));
  SLUICE_ASSIGN(verify::ModelFiles files, verify::ListModelFiles(path, list));
  verify::HashPlan plan = verify::PlanHashes(files, manifest.shard_bytes);

  std::optional<Stated> stated;
  std::optional<Error> unstated;  // why a merge cannot be opened: a file that was changed, or signed like that
  std::optional<verify::StoredTensors> tensors;
  if (HasStatement(path)) {
    if (Result<Stated> opened = OpenStated(session, path)) {
      stated = std::move(*opened);
      if (manifest.shard_bytes == 0) tensors = verify::StoredTensors::AddLeaves(*stated->checkpoint, &plan.pieces);
    } else {
      unstated = std::move(opened.error());
    }
  }
  SLUICE_ASSIGN(const auto hashes, HashModel(session, files, plan.pieces, "verify"));
  if (!hashes) return 0;
  for (size_t i = 0; i < plan.entries.size(); ++i) plan.entries[i].digest = (*hashes)[i].digest;
  check.bytes_read = files.size_bytes;
  if (stated && tensors) {
    SLUICE_TRY(CompareWithStatement(tensors->Digests(*stated->checkpoint, *hashes), &*stated));
  } else if (stated) {
    SLUICE_ASSIGN(const std::optional<uint64_t> read, ReadForStatement(session, &*stated));
    check.bytes_read += read.value_or(0);
  }
  if (stated) check.statement = std::move(stated->check);

  check.comparison = verify::CompareFiles(manifest, plan.entries);
  if (unstated && check.comparison.same()) return Fail(std::move(*unstated));
  check.ignored = std::move(files.ignored);
  check.files = files.files.size();
  check.bytes = files.size_bytes;
  verify::DecideSignature(&check);
  check.budget_bytes = session.options.max_memory_bytes;
  check.peak_bytes = PeakResidentBytes();
  check.seconds = session.seconds();
  session.Print(report::SignatureCheckJson(check), report::SignatureCheckText(check));
  return verify::VerdictExitStatus(check.verdict);
}

}  // namespace

Result<int> CheckFolder(Session& session, const std::string& ref, const std::optional<SignatureRequest>& signature) {
  if (signature) return CheckSigned(session, ref, *signature);
  std::error_code error;
  if (fs::exists(ref, error) && !fs::is_directory(ref, error)) {
    return Fail(ErrorCode::kUsage, ref + " is no merged folder; to compare two models: sluice verify A B");
  }
  return CheckStatement(session, ref);
}

}  // namespace sluice::cli
