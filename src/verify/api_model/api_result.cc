#include "verify/api_model/api_result.h"

#include <fmt/format.h>

namespace sluice::verify::api_model {
namespace {

using sequential_test::Outcome;

std::string About(const ApiResult& result) {
  const std::string what =
      result.coarse_ids > 0
          ? fmt::format("distance seen through the {} likeliest tokens of one side and the rest", result.coarse_ids)
          : std::string("total variation of next-token distributions");
  return fmt::format("the mean {} over {}", what,
                     result.settings.population > 0 ? "these prompts" : "challenges drawn so");
}

}  // namespace

std::string ApiProves(const ApiResult& result) {
  const std::string error = fmt::format(
      "with an error of {} at most, at whatever time one stops, if what the server says is what its model "
      "computes",
      result.settings.alpha);
  switch (result.outcome) {
    case Outcome::kSame:
      return fmt::format("{} is below {}, {}", About(result), result.settings.gamma, error);
    case Outcome::kDifferent:
      return fmt::format("{} is above {}, {}", About(result), result.settings.gamma, error);
    case Outcome::kUndecided:
      return fmt::format("{} lies between {:.4g} and {:.4g}, each limit with an error of {}", About(result),
                         result.interval_lower, result.interval_upper, result.settings.alpha);
    case Outcome::kInvalid:
      break;
  }
  return "nothing: the comparison failed";
}

std::string ApiDoesNotProve(const ApiResult& result) {
  if (result.outcome == Outcome::kInvalid) return "that the models are the same, or that they differ";
  if (result.outcome == Outcome::kSame && result.coarse_ids > 0) {
    return "that total variation is below it: what was measured bounds it from below only, and models that differ "
           "among "
           "other tokens are the same here; nor anything of prompts unlike these, or of what the server answers later";
  }
  if (result.outcome == Outcome::kUndecided && !result.can_say_same()) {
    return fmt::format(
        "that they differ or not: the server's lists leave out {:.3g} of the probability, so {} could never "
        "be told as the same; longer lists (--api-top) or scored tokens (--api-ids) can",
        result.floor, result.settings.gamma);
  }
  return "anything of prompts unlike these, or of what the server answers later";
}

}  // namespace sluice::verify::api_model
