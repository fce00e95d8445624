// BehaviourResult: what follows from the scores of challenges, and what could have followed from them, before any is
// asked. Pure: terms and scores in, numbers out. docs/behaviour.md, docs/sequential_test.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "verify/behaviour/challenge_set.h"
#include "verify/behaviour/vocabulary_alignment.h"
#include "verify/sequential_test/sequential_decision.h"

namespace sluice::verify::behaviour {

// What n challenges can tell, of whatever models. Numbers are nullopt where n is not enough.
struct Power {
  uint64_t least_same_any = 0, least_different_any = 0;  // no rule says so with fewer
  std::optional<uint64_t> least_same, least_different;   // the rule here, were all scores 0 (1)
  std::optional<uint64_t> same_at_003;                   // SAME, were all scores .003
  // The smallest gap between mean and gamma that n drawn challenges settle: were all scores equal; and where they are 0
  // or 1, which of all is the hardest, with a probability of 90%. Of drawn challenges, and up to kMostForGaps of them.
  std::optional<double> same_gap, different_gap, same_gap_01, different_gap_01;
  static constexpr uint64_t kMostForGaps = 16384;
};
// Before any score: a second at most.
Power PowerOf(const sequential_test::Settings& settings, uint64_t challenges);

// A point of the interval as it shrinks.
struct PathPoint {
  uint64_t challenges;
  double lower, upper;
  double capital_same, capital_different;  // natural logarithms; infinity where the null has become impossible
};

// What the scores say, in the order that was committed to.
struct Evaluation {
  sequential_test::Outcome outcome = sequential_test::Outcome::kInvalid;
  uint64_t decided_at = 0;  // challenges; 0: not decided
  uint64_t scored = 0;
  double mean = 0, largest = 0;
  std::vector<PathPoint> path;  // kPathPoints at most, the last one of all scores; empty without any
  std::string invalid;          // why it is INVALID
};
constexpr uint64_t kPathPoints = 60;
Evaluation Evaluate(const sequential_test::Settings& settings, std::span<const double> scores);
// How it stands after the first challenges, all of them good scores; one at least.
PathPoint StandingOf(const sequential_test::Settings& settings, std::span<const double> scores);
// Of a part, which decides nothing: count, mean and largest; INVALID for what is no score.
Evaluation EvaluatePart(std::span<const double> scores);

// Bytes of tokens as a line of UTF-8: a byte that is no character, or a control character, as \xNN, \n, ...
std::string ReadableText(std::string_view bytes);

// A challenge on which the two differed, and by how much.
struct ToldChallenge {
  uint64_t place = 0;  // in the committed order, from 0
  double score = 0;
  std::optional<uint64_t> line = {};  // of the file of prompts
  std::vector<uint32_t> ids = {};     // A's
  std::string text = {};              // as A's tokenizer decodes them, a ReadableText; empty without one
};
constexpr size_t kMostTold = 10;
// Places in `scores` of the largest, above 0, kMostTold at most; equal ones in order.
std::vector<uint64_t> MostDiffering(std::span<const double> scores);

struct BehaviourResult {
  sequential_test::Settings settings;
  uint64_t challenges = 0;        // of the whole run: all parts
  uint64_t challenge_tokens = 0;  // 0: prompts
  Share share;
  std::optional<Commitment> commitment;  // nothing where the run was INVALID before there was one
  // How tokens were aligned.
  std::string alignment;  // WayName
  std::string alignment_note;
  uint64_t shared_tokens = 0, only_in_a = 0, only_in_b = 0, drawable_tokens = 0;
  Power power;
  // What arithmetic alone differs by: both sides ran in one process, in one mode and instruction set, so nothing.
  double noise_floor = 0;
  std::vector<double> scores;  // of the share, in committed order
  Evaluation evaluation;       // of all challenges; of a part nothing is decided
  std::vector<ToldChallenge> most_differing;

  bool is_part() const { return share.parts > 0; }
};

// A failed run: why, for INVALID.
void MakeInvalid(std::string why, BehaviourResult* result);

// Sentences for people.
std::string BehaviourProves(const BehaviourResult& result);
std::string BehaviourDoesNotProve(const BehaviourResult& result);

}  // namespace sluice::verify::behaviour
