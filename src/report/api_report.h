// Text and JSON of `verify --level behaviour` where a side is a model behind a server. docs/formats/json.md describes
// the fields.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "verify/api_model/api_result.h"
#include "verify/verdict.h"

namespace sluice::report {

struct ApiRun {
  verify::Verdict verdict = verify::Verdict::kInvalid;
  double seconds = 0;
  uint64_t bytes_read = 0, peak_bytes = 0, budget_bytes = 0;
};

nlohmann::ordered_json ApiJson(const verify::api_model::ApiResult& result, const ApiRun& run);
std::string ApiText(const verify::api_model::ApiResult& result, const ApiRun& run);

// Before the run: the floor that is attainable, and what it will cost.
nlohmann::ordered_json ApiPlanJson(const verify::api_model::ApiResult& result);
std::string ApiPlanText(const verify::api_model::ApiResult& result);

}  // namespace sluice::report
