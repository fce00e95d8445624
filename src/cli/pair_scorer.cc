#include "cli/pair_scorer.h"

#include <fmt/format.h>

#include "checkpoint/reordered_rows.h"
#include "cli/run_forward.h"
#include "infer/model_spec.h"
#include "infer/total_variation_sink.h"

namespace sluice::cli {
namespace {

using checkpoint::Checkpoint;

constexpr char kWhat[] = "behaviour";

class LocalScorer final : public PairScorer {
 public:
  static Result<std::unique_ptr<PairScorer>> Open(Session& session, std::shared_ptr<const Checkpoint> a,
                                                  std::shared_ptr<const Checkpoint> b, uint64_t shared,
                                                  std::vector<std::vector<uint32_t>> challenges) {
    std::unique_ptr<LocalScorer> scorer(new LocalScorer(session, std::move(a), std::move(b), challenges.size()));
    infer::TokenBatch batch(std::move(challenges));
    std::vector<uint32_t> first_scored(batch.sequences().size(), 0);
    std::vector<uint64_t> wanted = infer::TotalVariationSink::WantedTiles(batch, first_scored);
    SLUICE_ASSIGN(scorer->lease_, session.budget.Lease(infer::TotalVariationSink::MemoryBytes(wanted.size()),
                                                       "what is kept of each token for the scores"));
    infer::PassOptions options = MakePassOptions(session);
    options.head_runs = 2;
    SLUICE_ASSIGN(scorer->pass_, infer::ForwardPass::Open({scorer->a_.get(), scorer->b_.get()}, std::move(batch),
                                                          std::move(wanted), options));
    scorer->sink_.emplace(scorer->pass_->batch(), shared, std::move(first_scored));
    return scorer;
  }

  std::string PlanText() const override {
    return ForwardPlanText(pass_->plan(), kWhat) +
           (pass_->plan().heads_kept
                ? "  heads    read once and kept, for normalisers and differences\n"
                : "  heads    read twice, for normalisers and for differences: memory holds no more\n");
  }
  nlohmann::ordered_json PlanJson() const override {
    nlohmann::ordered_json json = ForwardPlanJson(pass_->plan());
    json["heads_kept"] = pass_->plan().heads_kept;
    return json;
  }
  double PredictedSeconds() const override { return pass_->plan().seconds; }

  Result<ChallengeScores> Run() override {
    SLUICE_ASSIGN(const infer::PassStats stats, RunForward(session_, *pass_, &*sink_, kWhat));
    ChallengeScores scored{.scores = {}, .bytes_read = stats.bytes_read};
    scored.scores.reserve(num_challenges_);
    for (uint64_t i = 0; i < num_challenges_; ++i) {
      SLUICE_ASSIGN(const double score, sink_->Score(i));
      scored.scores.push_back(score);
    }
    return scored;
  }

 private:
  LocalScorer(Session& session, std::shared_ptr<const Checkpoint> a, std::shared_ptr<const Checkpoint> b,
              uint64_t num_challenges)
      : session_(session), a_(std::move(a)), b_(std::move(b)), num_challenges_(num_challenges) {}

  Session& session_;
  const std::shared_ptr<const Checkpoint> a_, b_;
  const uint64_t num_challenges_;
  MemoryLease lease_;
  std::unique_ptr<infer::ForwardPass> pass_;
  std::optional<infer::TotalVariationSink> sink_;
};

Result<std::shared_ptr<const Checkpoint>> InOrder(std::shared_ptr<const Checkpoint> model,
                                                  const std::vector<uint32_t>& order) {
  if (order.empty()) return model;
  return checkpoint::ReorderRows(std::move(model), order);
}

}  // namespace

Result<std::unique_ptr<PairScorer>> MakeLocalScorer(Session& session, std::shared_ptr<const Checkpoint> a,
                                                    std::shared_ptr<const Checkpoint> b,
                                                    const verify::behaviour::VocabularyAlignment& alignment,
                                                    std::vector<std::vector<uint32_t>> challenges) {
  SLUICE_ASSIGN(a, InOrder(std::move(a), alignment.order_a));
  SLUICE_ASSIGN(b, InOrder(std::move(b), alignment.order_b));
  return LocalScorer::Open(session, std::move(a), std::move(b), alignment.shared, std::move(challenges));
}

Result<uint64_t> VocabularyRows(const Checkpoint& model) {
  if (model.config() == nullptr) {
    return FailIn(ErrorCode::kUnsupported, model.ref(),
                  "has no config.json, so it cannot be run: --level tensors compares the weights");
  }
  auto spec = infer::SpecOf(*model.config());
  if (!spec) return Fail(std::move(spec.error()).In(model.ref()));
  return spec->vocab;
}

}  // namespace sluice::cli
