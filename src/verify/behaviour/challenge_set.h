// ChallengeSet: what two models are asked, and in which order: it follows from a key and the run's terms alone, so that
// nothing can be picked afterwards, and a third party recomputes it. docs/behaviour.md is the specification.
//
//   run id       SHA-256 of the terms as one line of JSON (TermsJson)
//   challenge i  num_tokens ids, each uniform over the shared tokens that are not special, by the words of
//                KeyedStream(key, "sluice behaviour challenge 1", "<run id> <i>"): HMAC-SHA-256(key, ... run id, i)
//   prompts      a finite set: the first n of sequential_test::KeyedOrder(key, N)
//   commitment   SHA-256 of {"key":...,"run_id":...}
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "kernels/sha256.h"
#include "verify/block_sample.h"
#include "verify/sequential_test/sequential_decision.h"

namespace sluice::verify::behaviour {

inline constexpr char kDrawGenerator[] = "sluice behaviour challenge 1";
inline constexpr char kOrderGenerator[] = "sluice behaviour order 1";

// All that a run is bound to before it begins, but for the key. Not where things lie, and not how the work is divided.
struct RunTerms {
  sequential_test::Settings settings;            // population: the number of prompts, 0 for drawn challenges
  uint64_t challenges = 0;                       // n: asked at most
  uint64_t challenge_tokens = 0;                 // of each drawn challenge; 0 for prompts
  std::optional<kernels::Hash256> prompts = {};  // SHA-256 of the file
  uint64_t drawable = 0;                         // tokens that challenges are drawn from
  kernels::Hash256 vocabulary{};                 // VocabularyAlignment::DrawableHash
  // As far as headers tell: config, tokenizer, and names, encodings and shapes (verify/evidence.h).
  struct Model {
    kernels::Hash256 config{}, tokenizer{}, headers{};
  };
  Model a, b;
};
nlohmann::ordered_json TermsJson(const RunTerms& terms);

struct Commitment {
  Nonce key;
  nlohmann::ordered_json terms;
  kernels::Hash256 run_id{};
  kernels::Hash256 hash{};
};
Commitment Commit(const Nonce& key, nlohmann::ordered_json terms);

// Challenge `index`: places in a list of `drawable` ids. O(num_tokens).
std::vector<uint32_t> DrawChallenge(const Commitment& commitment, uint64_t index, uint64_t num_tokens,
                                    std::span<const uint32_t> drawable);

struct Prompt {
  uint64_t line = 0;  // of the file, from 1
  std::string text;
};
// One a line; a byte order mark, a CR at a line's end and empty lines are dropped. kCorrupt: no prompt, or not UTF-8,
// with the line.
Result<std::vector<Prompt>> SplitPrompts(const std::string& text, const std::string& name);

// A share of a run's challenges: those in places first, first + step, ... of the committed order.
struct Share {
  uint64_t part = 0, parts = 0;  // 1 to parts; 0: all of them
  uint64_t first() const { return parts == 0 ? 0 : part - 1; }
  uint64_t step() const { return parts == 0 ? 1 : parts; }
  uint64_t CountOf(uint64_t challenges) const {
    return first() >= challenges ? 0 : (challenges - first() + step() - 1) / step();
  }
  uint64_t PlaceOf(uint64_t i) const { return first() + i * step(); }
};
// "2/5". kUsage.
Result<Share> ParseShare(const std::string& text);

}  // namespace sluice::verify::behaviour
