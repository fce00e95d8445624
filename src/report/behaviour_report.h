// Text and JSON of `verify --level behaviour`. docs/formats/json.md describes the fields.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "report/table.h"
#include "verify/verification.h"

namespace sluice::report {

// The object `behaviour` of the answer.
nlohmann::ordered_json BehaviourJson(const verify::behaviour::BehaviourResult& result);
// Lines of two cells: what was asked, what came out, what it could have told.
Table BehaviourTable(const verify::behaviour::BehaviourResult& result);
// The most differing challenges; empty where none differs.
Table ToldTable(const verify::behaviour::BehaviourResult& result);
// The whole answer: the verdict on the first line. with_config: also what headers tell, which is not known of parts
// that were joined.
std::string BehaviourText(const verify::Verification& result, bool with_config = true);

// Before the run: least numbers, power and commitment. The JSON's keys are those of a plan.
nlohmann::ordered_json BehaviourPlanJson(const verify::behaviour::BehaviourResult& result);
std::string BehaviourPlanText(const verify::behaviour::BehaviourResult& result);

// A line of how it stands, while it runs.
std::string StandingText(const verify::behaviour::PathPoint& standing, uint64_t challenges);

// What is printed for the verdict: its name, or PART 1/2 of a part that is no failure.
std::string BehaviourVerdictText(const verify::Verification& result);

}  // namespace sluice::report
