// PairScorer: where the scores of challenges come from. All that the level `behaviour` knows of how two models are
// asked; challenges, commitment, test, evidence and reports are the same whatever is behind it.
//
// To add another kind of side (a server that tells some probabilities): write a PairScorer for it, and choose it in
// compare_behaviour.cc (MakeScorer), by what the references are. Where only bounds of a score are known,
// ChallengeScores::upper has the upper ones and `scores` the lower: DIFFERENT is to be told by the lower, SAME by the
// upper, by a test of bounds in place of SequentialTest (compare_behaviour.cc, Decide). A failure is an error, never a
// score: kCorrupt ends in the verdict INVALID.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "cli/session.h"
#include "verify/behaviour/vocabulary_alignment.h"

namespace sluice::cli {

struct ChallengeScores {
  std::vector<double> scores;      // of each challenge, in order: in [0, 1]
  std::vector<double> upper = {};  // where `scores` are lower bounds; empty: they are exact
  uint64_t bytes_read = 0;         // of weights
};

class PairScorer {
 public:
  virtual ~PairScorer() = default;
  // What it will take, for people and for --dry-run.
  virtual std::string PlanText() const = 0;
  virtual nlohmann::ordered_json PlanJson() const = 0;
  virtual double PredictedSeconds() const = 0;
  // Once. kCorrupt where a model gives no distribution (a NaN).
  virtual Result<ChallengeScores> Run() = 0;
};

// How it stands: the scores of the first challenges, where the pass makes several rounds of them: eight times at
// most, from the thread that runs it.
using ScoresSoFar = std::function<void(std::span<const double>)>;

// Two checkpoints over `challenges` (ids of the alignment's numbering): layer by layer in lockstep, each weight read
// once per model whatever the number of challenges, but where --max-memory makes rounds. Scores are total variation,
// averaged over all positions of a challenge (infer/total_variation_sink.h). Models and session outlive it.
// kUnsupported, kCorrupt, kBudget: as infer::ForwardPass::Open.
Result<std::unique_ptr<PairScorer>> MakeLocalScorer(Session& session, std::shared_ptr<const checkpoint::Checkpoint> a,
                                                    std::shared_ptr<const checkpoint::Checkpoint> b,
                                                    const verify::behaviour::VocabularyAlignment& alignment,
                                                    std::vector<std::vector<uint32_t>> challenges,
                                                    ScoresSoFar scores_so_far = nullptr);

// Rows of a model's vocabulary, by its config. kUnsupported without one, or for an architecture that cannot be run.
Result<uint64_t> VocabularyRows(const checkpoint::Checkpoint& model);

}  // namespace sluice::cli
