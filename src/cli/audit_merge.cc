#include "cli/audit_merge.h"

#include <algorithm>
#include <array>
#include <bit>
#include <filesystem>
#include <map>
#include <random>

#include <fmt/format.h>

#include "base/memory_budget.h"
#include "checkpoint/digest_tree.h"
#include "cli/fold_facts.h"
#include "cli/run_pass.h"
#include "io/byte_source.h"
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

class Auditor {
 public:
  Auditor(Session& session, const AuditRequest& request) : session_(session), request_(request) {}

  Result<std::optional<verify::MergeAudit>> Run() {
    audit_.ref = request_.folder;
    audit_.statement = (std::filesystem::path(request_.folder) / merge::kStatementFile).string();
    audit_.nonce = request_.nonce ? *request_.nonce : std::random_device()();
    SLUICE_ASSIGN(statement_, merge::ReadStatement(request_.folder));
    SLUICE_ASSIGN(merged_, session_.Open(request_.folder));
    session_.WarnOf(*merged_);
    SLUICE_TRY(CheckPapers());
    SLUICE_TRY(OpenRecipe());
    if (!Align()) return Done();
    if (request_.sample) {
      SLUICE_ASSIGN(const bool ran, Sample());
      if (!ran) return std::nullopt;
    }
    if (request_.facts) {
      SLUICE_ASSIGN(const bool ran, CheckFacts());
      if (!ran) return std::nullopt;
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
    const std::filesystem::path recipe = std::filesystem::path(request_.folder) / merge::kRecipeFile;
    std::error_code error;
    if (std::filesystem::exists(recipe, error)) {
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
    SLUICE_ASSIGN(recipe_, merge::OpenRecipe(merge::RecipeOf(statement_), open));
    for (const merge::RecipeCheckpoint::ParentInfo& parent : recipe_->parents()) {
      const auto stated = std::ranges::find(statement_.parents, parent.reference, &merge::Statement::Parent::reference);
      if (stated == statement_.parents.end() || stated->size_bytes == parent.size_bytes) continue;
      audit_.contradictions.push_back(
          fmt::format("the parent '{}' has {} bytes of tensors, the one of the merge had {}", parent.reference,
                      parent.size_bytes, stated->size_bytes));
    }
    return {};
  }

  // The recipe's tensors, the folder's and the statement's must be the same, or nothing can be drawn.
  bool Align() {
    for (size_t i = 0; i < recipe_->tensors().size(); ++i) {
      const checkpoint::TensorInfo tensor = recipe_->tensors()[i];
      const auto place = merged_->tensors().Find(tensor.name);
      const auto leaves = leaves_of_.find(tensor.name);
      const bool fits = place && merged_->tensors()[*place].encoding == tensor.encoding &&
                        std::ranges::equal(merged_->tensors()[*place].shape, tensor.shape) &&
                        leaves != leaves_of_.end() &&
                        leaves->second.size() == std::max<uint64_t>(verify::CountChunks(tensor), 1);
      if (!fits) {
        audit_.contradictions.push_back(fmt::format(
            "{}: the recipe, the folder and the statement do not agree about its type, shape or size", tensor.name));
      }
    }
    if (merged_->tensors().size() != recipe_->tensors().size()) {
      audit_.contradictions.push_back(fmt::format("the recipe makes {} tensors, the folder has {}",
                                                  recipe_->tensors().size(), merged_->tensors().size()));
    }
    if (statement_.tensors.size() != recipe_->tensors().size()) {
      audit_.contradictions.push_back(fmt::format("the recipe makes {} tensors, the statement tells of {}",
                                                  recipe_->tensors().size(), statement_.tensors.size()));
    }
    return audit_.contradictions.empty();
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
  std::shared_ptr<const merge::RecipeCheckpoint> recipe_;
  std::map<std::string, std::vector<Hash256>, std::less<>> leaves_of_;
  std::map<std::string_view, const merge::Statement::Tensor*> stated_;  // by name; all of the recipe's, after Align
};

}  // namespace

Result<std::optional<verify::MergeAudit>> AuditMerge(Session& session, const AuditRequest& request) {
  return Auditor(session, request).Run();
}

}  // namespace sluice::cli
