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
#include "verify/digest_manifest.h"
#include "verify/model_signature.h"
#include "verify/stored_tensors.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

// Of 100,000 files it is some 20 MB.
constexpr uint64_t kMaxBundleBytes = uint64_t{256} << 20;

// A statement and what comes of it.
struct Stated {
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

Result<std::shared_ptr<const checkpoint::Checkpoint>> OpenModel(Session& session, const std::string& ref) {
  SLUICE_ASSIGN(auto model, session.Open(ref));
  session.WarnOf(*model);
  return model;
}

Result<Stated> ReadStated(const std::string& ref) {
  Stated stated;
  SLUICE_ASSIGN(stated.statement, merge::ReadStatement(ref));
  verify::StatementCheck& check = stated.check;
  check.ref = ref;
  check.statement = (fs::path(ref) / merge::kStatementFile).string();
  SLUICE_ASSIGN(check.stated_root, ReadHash(stated.statement.root, check.statement));
  SLUICE_ASSIGN(check.stated_weights_root, ReadHash(stated.statement.weights_root, check.statement));
  return stated;
}

void CompareWithStatement(const checkpoint::ModelDigest& digest, Stated* stated) {
  verify::StatementCheck& check = stated->check;
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
}

// By the stream, where the files are not read whole. Nothing with --dry-run.
Result<std::optional<checkpoint::ModelDigest>> ReadDigest(Session& session, const checkpoint::Checkpoint& model,
                                                          uint64_t* bytes_read) {
  const stream::CheckpointGroups groups(model);
  stream::DigestSink sink(model.tensors());
  SLUICE_ASSIGN(const PassReport pass, RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, "verify"));
  if (!pass.ran) return std::nullopt;
  *bytes_read += pass.stats.payload_bytes;
  SLUICE_ASSIGN(auto digest, checkpoint::MakeModelDigest(sink.Digests(), model));
  return std::optional(std::move(digest));
}

Result<std::optional<Verified>> CheckStatement(Session& session, const std::string& ref) {
  VerifiedSide side{.name = "model"};
  SLUICE_ASSIGN(side.model, OpenModel(session, ref));
  SLUICE_ASSIGN(Stated stated, ReadStated(ref));
  SLUICE_ASSIGN(side.watched, WatchedFiles::Of(*side.model, ""));
  SLUICE_ASSIGN(side.digest, ReadDigest(session, *side.model, &stated.check.bytes_read));
  if (!side.digest) return std::nullopt;
  SLUICE_TRY(side.watched->CheckUnchanged());
  CompareWithStatement(*side.digest, &stated);
  stated.check.budget_bytes = session.options.max_memory_bytes;
  stated.check.peak_bytes = PeakResidentBytes();
  stated.check.seconds = session.seconds();
  Verified verified{.json = {.json = report::StatementCheckJson(stated.check)},
                    .text = report::StatementCheckText(stated.check),
                    .status = verify::VerdictExitStatus(stated.check.verdict)};
  verified.sides.push_back(std::move(side));
  return verified;
}

// What else is asked of a signed model's tensors: its statement's roots, a manifest's. Answered by the read of its
// files where that can be, else by another.
class TensorQuestions {
 public:
  // A model that does not open is an error() for later: a file of it may have been changed, which is the better answer.
  Result<void> Open(Session& session, const std::string& path, const std::string& manifest) {
    if (!manifest.empty()) {
      SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(manifest));
      SLUICE_ASSIGN(manifest_, verify::ParseDigestManifest(text, manifest));
      manifest_path_ = manifest;
      manifest_text_ = text;
    }
    if (!manifest_ && !HasStatement(path)) return {};
    const auto opened = [&]() -> Result<void> {
      if (HasStatement(path)) {
        SLUICE_ASSIGN(stated_, ReadStated(path));
      }
      SLUICE_ASSIGN(model_, OpenModel(session, path));
      return {};
    }();
    if (!opened) error_ = opened.error();
    return {};
  }

  void AddLeaves(std::vector<io::FilePiece>* pieces) {
    if (model_ != nullptr) stored_ = verify::StoredTensors::AddLeaves(*model_, pieces);
  }

  Result<void> Answer(Session& session, std::span<const io::PieceHashes> hashes, verify::SignatureCheck* check,
                      VerifiedSide* side) {
    if (model_ == nullptr) return {};
    std::optional<checkpoint::ModelDigest> digest;
    if (stored_) {
      SLUICE_ASSIGN(digest, checkpoint::MakeModelDigest(stored_->Digests(*model_, hashes), *model_));
    } else {
      SLUICE_ASSIGN(digest, ReadDigest(session, *model_, &check->bytes_read));
    }
    if (!digest) return {};
    if (stated_) {
      CompareWithStatement(*digest, &*stated_);
      check->statement = stated_->check;
    }
    if (manifest_) check->manifest = verify::CompareWithManifest(*digest, *manifest_, manifest_path_);
    side->model = model_;
    side->digest = std::move(digest);
    return {};
  }

  const std::optional<Error>& error() const { return error_; }
  const std::string& manifest_text() const { return manifest_text_; }  // empty: none was given

 private:
  std::shared_ptr<const checkpoint::Checkpoint> model_;  // null where nothing is asked, or it does not open
  std::optional<Stated> stated_;
  std::optional<checkpoint::ModelDigest> manifest_;
  std::string manifest_path_, manifest_text_;
  std::optional<verify::StoredTensors> stored_;
  std::optional<Error> error_;
};

// The signature is looked at before a file is: one that is not the key's ends it.
Result<verify::FileManifest> ReadSignature(Session& session, const SignatureRequest& request,
                                           verify::SignatureCheck* check, std::map<std::string, std::string>* papers) {
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
  (*papers)["signature.sig"] = text;
  (*papers)["key.pem"] = key.pem();
  if (bundle.key_hint.empty()) {
    session.Note(request.signature +
                 ": does not name its key, as bundles of before 1.0 do not; it was checked all the "
                 "same");
  }
  return manifest;
}

Result<std::optional<Verified>> CheckSigned(Session& session, const std::string& ref, const SignatureRequest& request) {
  verify::SignatureCheck check;
  check.ref = ref;
  SLUICE_ASSIGN(const std::string path, checkpoint::LocalPathOf(ref));
  std::map<std::string, std::string> papers;
  SLUICE_ASSIGN(const verify::FileManifest manifest, ReadSignature(session, request, &check, &papers));
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

  TensorQuestions questions;
  SLUICE_TRY(questions.Open(session, path, request.manifest));
  if (manifest.shard_bytes == 0) questions.AddLeaves(&plan.pieces);
  SLUICE_ASSIGN(const auto hashes, HashModel(session, files, plan.pieces, "verify"));
  if (!hashes) return std::nullopt;
  for (size_t i = 0; i < plan.entries.size(); ++i) plan.entries[i].digest = (*hashes)[i].digest;
  check.bytes_read = files.size_bytes;
  VerifiedSide side{.name = "model"};
  SLUICE_TRY(questions.Answer(session, *hashes, &check, &side));
  check.comparison = verify::CompareFiles(manifest, plan.entries);
  if (questions.error() && check.comparison.same()) return Fail(*questions.error());
  check.ignored = std::move(files.ignored);
  check.files = files.files.size();
  check.bytes = files.size_bytes;
  verify::DecideSignature(&check);
  check.budget_bytes = session.options.max_memory_bytes;
  check.peak_bytes = PeakResidentBytes();
  check.seconds = session.seconds();
  for (const verify::ModelFiles::File& file : files.files) {
    side.files.push_back({file.name, file.stamp.size_bytes});
  }
  if (manifest.shard_bytes == 0) {  // an entry is a file
    for (size_t i = 0; i < side.files.size(); ++i) side.files[i].digest = plan.entries[i].digest;
  }
  Verified verified{.json = {.json = report::SignatureCheckJson(check)},
                    .text = report::SignatureCheckText(check),
                    .status = verify::VerdictExitStatus(check.verdict)};
  if (!questions.manifest_text().empty()) papers["manifest.json"] = questions.manifest_text();
  verified.papers = std::move(papers);
  verified.sides.push_back(std::move(side));
  return verified;
}

}  // namespace

Result<std::optional<Verified>> CheckFolder(Session& session, const VerifyRequest& request) {
  const std::string& ref = request.sides[0].ref;
  if (request.form == VerifyRequest::Form::kSignature) return CheckSigned(session, ref, request.signature);
  std::error_code error;
  if (fs::exists(ref, error) && !fs::is_directory(ref, error)) {
    return Fail(ErrorCode::kUsage, ref + " is no merged folder; to compare two models: sluice verify A B");
  }
  return CheckStatement(session, ref);
}

}  // namespace sluice::cli
