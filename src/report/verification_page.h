// The page of `verify --report`: the verdict, what was compared and what that proves, where the two differ and how
// much. Pure: the same input gives the same bytes.
#pragma once

#include <string>
#include <vector>

#include "verify/verification.h"

namespace sluice::report {

struct VerificationPage {
  verify::Verification result;
  std::vector<std::string> tensors;  // the names of all tensors that both sides have in one shape
};

std::string HtmlOf(const VerificationPage& page);
// The same of a result that need not be copied.
std::string HtmlOf(const verify::Verification& result, const std::vector<std::string>& tensors);

}  // namespace sluice::report
