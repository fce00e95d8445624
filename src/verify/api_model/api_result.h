// ApiResult: what a comparison with a model behind a server was asked, found that it can tell, and found. report/ turns
// it into text and JSON. docs/api_models.md.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "verify/api_model/api_model.h"
#include "verify/behaviour/challenge_set.h"
#include "verify/sequential_test/sequential_decision.h"

namespace sluice::verify::api_model {

struct ApiSide {
  std::string ref;
  bool is_api = false;
  bool from_record = false;  // its answers come from a file
  ApiOffer offer = {};
  ApiCost cost = {};  // predicted, of all challenges
  std::string answering_model = {};
  io::HttpStats stats = {};  // the probe's requests included
};

struct ApiResult {
  sequential_test::Settings settings;
  uint64_t challenges = 0;        // asked at most
  uint64_t challenge_tokens = 0;  // 0: prompts
  uint64_t positions = 0;         // scored of each challenge, the last ones; 0: all
  uint64_t coarse_ids = 0;        // of the coarsened distance; 0: bounds of total variation
  std::array<ApiSide, 2> sides;
  std::optional<behaviour::Commitment> commitment;
  uint64_t least_same = 0, least_different = 0;  // no rule says so with fewer challenges
  // What the lists leave out, on average, of the probe: the upper bound of two equal models. 0 of coarsened distances.
  double floor = 0;

  sequential_test::Outcome outcome = sequential_test::Outcome::kInvalid;
  std::string invalid;  // why
  uint64_t scored = 0, decided_at = 0;
  double mean_lower = 0, mean_upper = 1;          // of the scores' bounds
  double interval_lower = 0, interval_upper = 1;  // of the mean score; each limit at 1 - alpha
  double log_capital_same = 0, log_capital_different = 0;
  uint64_t repeats = 0;  // requests that were asked twice, and answered alike

  bool can_say_same() const { return floor < settings.gamma; }
};

// Sentences for people.
std::string ApiProves(const ApiResult& result);
std::string ApiDoesNotProve(const ApiResult& result);

}  // namespace sluice::verify::api_model
