#include "cli/audit_merge.h"

#include <algorithm>
#include <array>
#include <bit>
#include <ctime>
#include <filesystem>
#include <iterator>
#include <map>
#include <random>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/memory_budget.h"
#include "checkpoint/digest_tree.h"
#include "cli/fold_facts.h"
#include "cli/run_pass.h"
#include "cli/watched_files.h"
#include "io/byte_source.h"
#include "io/file_stamp.h"
#include "kernels/sha256.h"
#include "merge/recipe_checkpoint.h"
#include "merge/statement.h"
#include "stream/checkpoint_groups.h"
#include "stream/digest_sink.h"
#include "stream/planner.h"
#include "verify/sampled_checkpoint.h"

namespace sluice::cli {
namespace {

using kernels::Hash256;
using verify::TensorSample;
namespace fs = std::filesystem;

std::string TimeText(int64_t nanoseconds) {
  constexpr int64_t kSecond = 1'000'000'000;
  return fmt::format("{:%Y-%m-%d %H:%M:%S}.{:09}", fmt::gmtime(static_cast<std::time_t>(nanoseconds / kSecond)),
                     nanoseconds % kSecond);
}

class Auditor {
 public:
  Auditor(Session& session, const AuditRequest& request) : session_(session), request_(request) {}

  Result<std::optional<verify::MergeAudit>> Run() {
    audit_.ref = request_.folder;
    audit_.statement = (fs::path(request_.folder) / merge::kStatementFile).string();
    audit_.nonce = request_.nonce ? *request_.nonce : std::random_device()();
    std::error_code error;
    for (const char* paper : {merge::kStatementFile, merge::kRecipeFile}) {
      const fs::path path = fs::path(request_.folder) / paper;
      if (fs::exists(path, error)) SLUICE_TRY(watched_papers_.Add(path.string()));
    }
    SLUICE_ASSIGN(statement_, merge::ReadStatement(request_.folder));
    SLUICE_ASSIGN(merged_, session_.Open(request_.folder));
    SLUICE_ASSIGN(watched_, WatchedFiles::Of(*merged_, ""));
    session_.WarnOf(*merged_);
    SLUICE_TRY(CheckPapers());
    SLUICE_TRY(OpenRecipe());
    if (Align()) {
      if (request_.sample) {
        SLUICE_ASSIGN(const bool ran, Sample());
        if (!ran) return std::nullopt;
      }
      if (request_.facts) {
        SLUICE_ASSIGN(const bool ran, CheckFacts());
        if (!ran) return std::nullopt;
      }
    }
    for (const WatchedFiles* watched : {&watched_papers_, &watched_, &watched_parents_}) {
      SLUICE_TRY(watched->CheckUnchanged());
    }
    return Done();
  }

 private:
  std::optional<verify::MergeAudit> Done() {
    verify::DecideAudit(&audit_);
    audit_.budget_bytes = session_.options.max_memory_bytes;
    audit_.peak_bytes = PeakResidentBytes();
    audit_.seconds = session_.seconds();
    return audit_;
  }

  // The leaves that the statement names must give its roots, those its root; and the recipe beside it must be its own.
  Result<void> CheckPapers() {
    std::vector<checkpoint::TensorDigest> digests;
    for (const merge::Statement::Tensor& stated : statement_.tensors) {
      checkpoint::TensorDigest digest;
      digest.name = stated.name;
      if (!kernels::FromHex(stated.root, &digest.root))
        return Fail(ErrorCode::kCorrupt, audit_.statement + ": no root");
      if (stated.leaves.empty()) {
        digest.leaves = {digest.root};
      } else {
        for (size_t at = 0; at < stated.leaves.size(); at += 64) {
          kernels::FromHex(stated.leaves.substr(at, 64), &digest.leaves.emplace_back());
        }
        if (checkpoint::TensorRoot(digest.leaves) != digest.root) {
          audit_.contradictions.push_back(
              fmt::format("the statement's leaves of {} do not give its root", stated.name));
        }
      }
      if (const auto place = merged_->tensors().Find(stated.name)) {
        const checkpoint::TensorInfo tensor = merged_->tensors()[*place];
        digest.encoding = std::string(tensor.encoding.name());
        digest.shape.assign(tensor.shape.begin(), tensor.shape.end());
        digest.size_bytes = tensor.size_bytes();
      }
      digests.push_back(std::move(digest));
    }
    for (const checkpoint::TensorDigest& digest : digests) leaves_of_[digest.name] = digest.leaves;
    for (const merge::Statement::Tensor& stated : statement_.tensors) stated_[stated.name] = &stated;
    SLUICE_ASSIGN(const checkpoint::ModelDigest model, checkpoint::MakeModelDigest(std::move(digests), *merged_));
    if (kernels::ToHex(model.weights_root) != statement_.weights_root) {
      audit_.contradictions.push_back("the statement's roots of tensors do not give its weights_root");
    } else if (kernels::ToHex(model.model_root) != statement_.root) {
      audit_.contradictions.push_back(
          "the folder's config or tokenizer is not what the statement's root was made with");
    }
    const fs::path recipe = fs::path(request_.folder) / merge::kRecipeFile;
    std::error_code error;
    if (fs::exists(recipe, error)) {
      SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(recipe.string(), merge::kMaxRecipeBytes));
      if (text != statement_.recipe_text) {
        audit_.contradictions.push_back(
            fmt::format("{} is not the recipe that the statement holds", merge::kRecipeFile));
      }
    }
    return {};
  }

  Result<void> OpenRecipe() {
    checkpoint::OpenOptions open = MakeOpenOptions(statement_.seed, statement_.arithmetic, statement_.lora_merge_dtype);
    auto opened = merge::OpenRecipe(merge::RecipeOf(statement_), open);
    if (!opened) return Fail(WithChangedFiles(std::move(opened.error())));
    recipe_ = std::move(*opened);
    // The statement has the recipe; its file may be gone.
    SLUICE_ASSIGN(watched_parents_, WatchedFiles::Of(*recipe_, recipe_->recipe().path));
    NoteChangedFiles();
    for (const merge::RecipeCheckpoint::ParentInfo& parent : recipe_->parents()) {
      const auto stated = std::ranges::find(statement_.parents, parent.reference, &merge::Statement::Parent::reference);
      if (stated == statement_.parents.end() || stated->size_bytes == parent.size_bytes) continue;
      const bool told = std::ranges::any_of(
          audit_.changed_parents, [&](const verify::ChangedParent& one) { return one.parent == parent.reference; });
      if (told) continue;
      audit_.changed_parents.push_back(
          {parent.reference, parent.path,
           fmt::format("{} bytes of tensors, {} at the merge", parent.size_bytes, stated->size_bytes)});
    }
    return {};
  }

  // As the recipe writes it; empty for a file that lies in none (the parent of a parent).
  std::string ParentOf(const std::string& file) const {
    for (const merge::RecipeCheckpoint::ParentInfo& parent : recipe_->parents()) {
      std::error_code error;
      const fs::path place = fs::absolute(parent.path, error).lexically_normal();
      const auto [end, rest] = std::ranges::mismatch(place, fs::path(file));
      if (end == place.end() || (std::next(end) == place.end() && end->empty())) return parent.reference;
    }
    return "";
  }

  // By their names, as parents may lie elsewhere now; those of one name in their order.
  void NoteChangedFiles() {
    if (statement_.files.empty()) return;  // a statement of before
    const std::vector<merge::Statement::File> now = merge::FilesOfParents(*recipe_);
    std::multimap<std::string, const merge::Statement::File*> there;
    for (const merge::Statement::File& file : now) there.emplace(fs::path(file.path).filename().string(), &file);
    const auto note = [&](const std::string& file, std::string how) {
      audit_.changed_parents.push_back({ParentOf(file), file, std::move(how)});
    };
    for (const merge::Statement::File& file : statement_.files) {
      const auto place = there.find(fs::path(file.path).filename().string());
      if (place == there.end()) {
        note(file.path, "is not among the parents' files any more");
        continue;
      }
      const merge::Statement::File& found = *place->second;
      if (found.size_bytes != file.size_bytes) {
        note(found.path, fmt::format("{} bytes, {} at the merge", found.size_bytes, file.size_bytes));
      } else if (found.modified_nanoseconds != file.modified_nanoseconds) {
        note(found.path, fmt::format("modified {}, the one that was merged {}", TimeText(found.modified_nanoseconds),
                                     TimeText(file.modified_nanoseconds)));
      }
      there.erase(place);
    }
    for (const auto& [name, file] : there) note(file->path, "was not among the parents' files at the merge");
  }

  // Parents that the recipe no longer fits: which of their files are others, where they lie where they were.
  Error WithChangedFiles(Error error) const {
    std::vector<std::string> changed;
    for (const merge::Statement::File& file : statement_.files) {
      const auto stamp = io::StampOf(file.path);
      const bool is_same =
          stamp && stamp->size_bytes == file.size_bytes && stamp->modified_nanoseconds == file.modified_nanoseconds;
      if (stamp && !is_same) changed.push_back(file.path);
    }
    if (!changed.empty()) {
      error.message += fmt::format("; not as they were at the merge: {}", fmt::join(changed, ", "));
    }
    return error;
  }

  // The recipe's tensors, the folder's and the statement's must be the same, or nothing can be drawn. What the recipe
  // makes of changed parents is not held against the folder.
  bool Align() {
    const auto has_leaves = [&](const checkpoint::TensorInfo& tensor) {
      const auto leaves = leaves_of_.find(tensor.name);
      return leaves != leaves_of_.end() && leaves->second.size() == std::max<uint64_t>(verify::CountChunks(tensor), 1);
    };
    const checkpoint::Catalogue &made = recipe_->tensors(), &written = merged_->tensors();
    std::vector<std::string>* of_recipe = audit_.changed_parents.empty() ? &audit_.contradictions : &audit_.not_made;
    for (size_t i = 0; i < written.size(); ++i) {
      const checkpoint::TensorInfo tensor = written[i];
      if (!has_leaves(tensor)) {
        audit_.contradictions.push_back(
            fmt::format("{}: the folder and the statement do not agree about its size", tensor.name));
      }
      const auto place = made.Find(tensor.name);
      if (place &&
          (made[*place].encoding != tensor.encoding || !std::ranges::equal(made[*place].shape, tensor.shape))) {
        of_recipe->push_back(
            fmt::format("{}: the recipe and the folder do not agree about its type or shape", tensor.name));
      }
    }
    for (size_t i = 0; i < made.size(); ++i) {
      if (!written.Find(made[i].name)) {
        of_recipe->push_back(fmt::format("{}: the recipe makes it, the folder does not have it", made[i].name));
      }
    }
    if (written.size() != made.size()) {
      of_recipe->push_back(fmt::format("the recipe makes {} tensors, the folder has {}", made.size(), written.size()));
    }
    if (statement_.tensors.size() != written.size()) {
      audit_.contradictions.push_back(fmt::format("the folder has {} tensors, the statement tells of {}",
                                                  written.size(), statement_.tensors.size()));
    }
    return audit_.contradictions.empty() && audit_.not_made.empty();
  }

  const merge::Statement::Tensor& Stated(std::string_view name) const { return *stated_.at(name); }

  // The statement's facts of a tensor by the keys that they have here.
  Result<std::vector<std::pair<graph::Key, const graph::FactRecord*>>> StatedFacts(uint32_t tensor) const {
    graph::Graph graph;
    const graph::Node* node = recipe_->MakeNode(tensor, &graph);
    const std::vector<const graph::Fact*> wanted = stream::CollectFacts(std::array{node});
    const merge::Statement::Tensor& stated = Stated(recipe_->tensors()[tensor].name);
    if (wanted.size() != stated.facts.size()) {
      return Fail(ErrorCode::kCorrupt, fmt::format("{}: {} has {} facts, its method looks at {}", audit_.statement,
                                                   stated.name, stated.facts.size(), wanted.size()));
    }
    std::vector<std::pair<graph::Key, const graph::FactRecord*>> facts;
    for (size_t i = 0; i < wanted.size(); ++i) facts.emplace_back(wanted[i]->key(), &stated.facts[i]);
    return facts;
  }

  Result<bool> Sample() {
    audit_.sampled = true;
    for (size_t i = 0; i < recipe_->tensors().size(); ++i)
      audit_.all_chunks += verify::CountChunks(recipe_->tensors()[i]);
    const std::vector<TensorSample> samples = verify::DrawChunks(recipe_->tensors(), *request_.sample, audit_.nonce);
    for (const TensorSample& sample : samples) audit_.chunks += sample.blocks.size();
    graph::FactRecords facts;
    for (const TensorSample& sample : samples) {
      SLUICE_ASSIGN(const auto of_tensor, StatedFacts(sample.tensor));
      for (const auto& [key, fact] : of_tensor) facts.emplace_back(key, *fact);
    }
    SLUICE_ASSIGN(const bool computed,
                  HashChunks(recipe_, samples, std::move(facts), "recompute", &audit_.not_recomputed));
    if (!computed) return false;
    return HashChunks(merged_, samples, {}, "read", &audit_.not_written);
  }

  // Adds the tensors of which the drawn chunks are not the statement's.
  Result<bool> HashChunks(const std::shared_ptr<const checkpoint::Checkpoint>& model,
                          const std::vector<TensorSample>& samples, graph::FactRecords facts, const std::string& what,
                          std::vector<std::string>* other) {
    const verify::SampledCheckpoint sampled(model, samples);
    const stream::CheckpointGroups groups(sampled);
    stream::DigestSink sink(sampled.tensors());
    SLUICE_ASSIGN(const PassReport pass,
                  RunPass(session_, groups, std::array<stream::Sink*, 1>{&sink}, what, std::move(facts)));
    if (!pass.ran) return false;
    audit_.bytes_read += pass.stats.payload_bytes;
    const std::vector<checkpoint::TensorDigest> digests = sink.Digests();
    for (size_t i = 0; i < digests.size(); ++i) {
      const std::vector<Hash256>& leaves = leaves_of_.at(digests[i].name);
      std::vector<Hash256> drawn;
      for (const uint64_t chunk : samples[i].blocks) drawn.push_back(leaves[chunk]);
      if (checkpoint::TensorRoot(drawn) != digests[i].root) other->push_back(digests[i].name);
    }
    return true;
  }

  // Folds the facts of some tensors again.
  Result<bool> CheckFacts() {
    audit_.looked_at_facts = true;
    std::mt19937_64 generator(audit_.nonce + 1);
    std::vector<uint32_t> all, drawn;
    for (uint32_t i = 0; i < recipe_->tensors().size(); ++i) {
      if (!Stated(recipe_->tensors()[i].name).facts.empty()) all.push_back(i);
    }
    audit_.all_tensors = all.size();
    for (const uint32_t one : all) {
      if (static_cast<double>(generator()) < *request_.facts * 18446744073709551616.0) drawn.push_back(one);
    }
    if (drawn.empty() && !all.empty()) drawn.push_back(all[generator() % all.size()]);
    audit_.tensors = drawn.size();
    if (drawn.empty()) return true;
    SLUICE_ASSIGN(const PassReport pass, FoldFacts(session_, recipe_, drawn, "facts"));
    if (!pass.ran) return false;
    audit_.bytes_read += pass.stats.payload_bytes;
    const std::map<graph::Key, graph::FactRecord> found(pass.facts.begin(), pass.facts.end());
    for (const uint32_t one : drawn) {
      SLUICE_ASSIGN(const auto stated, StatedFacts(one));
      const bool is_same =
          std::ranges::all_of(stated, [&](const auto& fact) { return found.at(fact.first) == *fact.second; });
      if (!is_same) audit_.other_facts.emplace_back(recipe_->tensors()[one].name);
    }
    return true;
  }

  Session& session_;
  const AuditRequest& request_;
  verify::MergeAudit audit_;
  merge::Statement statement_;
  std::shared_ptr<const checkpoint::Checkpoint> merged_;
  WatchedFiles watched_papers_, watched_, watched_parents_;
  std::shared_ptr<const merge::RecipeCheckpoint> recipe_;
  std::map<std::string, std::vector<Hash256>, std::less<>> leaves_of_;
  std::map<std::string_view, const merge::Statement::Tensor*> stated_;  // by name; all of the recipe's, after Align
};

}  // namespace

Result<std::optional<verify::MergeAudit>> AuditMerge(Session& session, const AuditRequest& request) {
  return Auditor(session, request).Run();
}

}  // namespace sluice::cli
