#include "cli/pair_scorer.h"

#include <algorithm>
#include <atomic>

#include <fmt/format.h>

#include "checkpoint/reordered_rows.h"
#include "cli/run_forward.h"
#include "infer/model_spec.h"
#include "infer/total_variation_sink.h"

namespace sluice::cli {
namespace {

using checkpoint::Checkpoint;

constexpr char kWhat[] = "behaviour";
constexpr uint64_t kMostTellings = 8;  // of how it stands

// Hands logits on, and tells as tiles come to their end how many have: they do so in order.
class RoundWatcher final : public infer::LogitSink {
 public:
  // num_rows: of the larger vocabulary.
  RoundWatcher(infer::TotalVariationSink* sink, uint64_t num_rows, uint64_t num_tiles,
               std::function<void(uint64_t)> on_tiles)
      : sink_(*sink),
        last_first_id_((num_rows - 1) / kernels::kLogitPanelRows * kernels::kLogitPanelRows),
        on_tiles_(std::move(on_tiles)),
        step_(std::max<uint64_t>(1, num_tiles / kMostTellings)),
        next_told_(step_) {}

  void Take(const Panel& panel) override {
    sink_.Take(panel);
    if (panel.run == 1 && panel.first_id == last_first_id_) ++done_tiles_;
  }
  Result<void> Checkpoint() override {
    SLUICE_TRY(sink_.Checkpoint());
    if (done_tiles_ < next_told_) return {};
    on_tiles_(done_tiles_);
    next_told_ = done_tiles_ + step_;
    return {};
  }

 private:
  infer::TotalVariationSink& sink_;
  const uint64_t last_first_id_;
  const std::function<void(uint64_t)> on_tiles_;
  std::atomic<uint64_t> done_tiles_ = 0;
  const uint64_t step_;
  uint64_t next_told_;
};

class LocalScorer final : public PairScorer {
 public:
  static Result<std::unique_ptr<PairScorer>> Open(Session& session, std::shared_ptr<const Checkpoint> a,
                                                  std::shared_ptr<const Checkpoint> b, uint64_t shared,
                                                  std::vector<std::vector<uint32_t>> challenges,
                                                  ScoresSoFar scores_so_far) {
    std::unique_ptr<LocalScorer> scorer(new LocalScorer(session, std::move(a), std::move(b), challenges.size()));
    scorer->scores_so_far_ = std::move(scores_so_far);
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
    RoundWatcher watcher(&*sink_, std::max(pass_->spec(0).vocab, pass_->spec(1).vocab), pass_->batch().num_tiles(),
                         [&](uint64_t tiles) { TellSoFar(tiles); });
    const bool watched = scores_so_far_ != nullptr && pass_->plan().num_rounds > 1;
    infer::LogitSink* const sink = watched ? static_cast<infer::LogitSink*>(&watcher) : &*sink_;
    SLUICE_ASSIGN(const infer::PassStats stats, RunForward(session_, *pass_, sink, kWhat));
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

  // All positions are scored, so all tiles are wanted, and those that are done are the first.
  void TellSoFar(uint64_t tiles) {
    const infer::TokenBatch& batch = pass_->batch();
    if (tiles >= batch.num_tiles()) return;
    std::vector<double> scores;
    for (uint64_t i = 0; i + 1 < num_challenges_ && batch.first_tile(i + 1) <= tiles; ++i) {
      const auto score = sink_->Score(i);
      if (!score) return;  // told at the end
      scores.push_back(*score);
    }
    if (!scores.empty()) scores_so_far_(scores);
  }

  Session& session_;
  const std::shared_ptr<const Checkpoint> a_, b_;
  const uint64_t num_challenges_;
  MemoryLease lease_;
  std::unique_ptr<infer::ForwardPass> pass_;
  std::optional<infer::TotalVariationSink> sink_;
  ScoresSoFar scores_so_far_;
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
                                                    std::vector<std::vector<uint32_t>> challenges,
                                                    ScoresSoFar scores_so_far) {
  SLUICE_ASSIGN(a, InOrder(std::move(a), alignment.order_a));
  SLUICE_ASSIGN(b, InOrder(std::move(b), alignment.order_b));
  return LocalScorer::Open(session, std::move(a), std::move(b), alignment.shared, std::move(challenges),
                           std::move(scores_so_far));
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
