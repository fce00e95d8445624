// The page of `verify --level behaviour --report`: the verdict, the confidence sequence as it shrinks, the capital, and
// the challenges on which the two differ most. Pure: the same input gives the same bytes.
#pragma once

#include <string>

#include "verify/verification.h"

namespace sluice::report {

// `result` has a behaviour. with_config: also what headers tell, which is not known of parts that were joined.
std::string BehaviourPage(const verify::Verification& result, bool with_config = true);

}  // namespace sluice::report
