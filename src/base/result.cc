#include "base/result.h"

#include "base/check.h"

namespace sluice {

const char* CodeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
      return "usage";
    case ErrorCode::kRecipe:
      return "recipe";
    case ErrorCode::kOutputExists:
      return "output_exists";
    case ErrorCode::kUnsupported:
      return "unsupported";
    case ErrorCode::kNotFound:
      return "not_found";
    case ErrorCode::kCorrupt:
      return "corrupt";
    case ErrorCode::kRead:
      return "read";
    case ErrorCode::kBudget:
      return "budget";
    case ErrorCode::kWrite:
      return "write";
    case ErrorCode::kCancelled:
      return "cancelled";
  }
  SLUICE_CHECK(false);
}

int ExitStatus(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
    case ErrorCode::kRecipe:
    case ErrorCode::kOutputExists:
    case ErrorCode::kUnsupported:
      return 2;
    case ErrorCode::kNotFound:
    case ErrorCode::kCorrupt:
    case ErrorCode::kRead:
      return 3;
    case ErrorCode::kBudget:
      return 4;
    case ErrorCode::kWrite:
      return 6;
    case ErrorCode::kCancelled:
      return 130;
  }
  SLUICE_CHECK(false);
}

std::string Error::ToString() const {
  std::string text;
  for (const std::string& outer : context) text += outer + ": ";
  return text + message;
}

Error&& Error::In(std::string outer) && {
  context.insert(context.begin(), std::move(outer));
  return std::move(*this);
}

}  // namespace sluice
