// PrintLong: Session::Print of a result that is too long to be held as text.
#pragma once

#include <string_view>

#include "base/result.h"
#include "cli/session.h"
#include "formats/json_text.h"

namespace sluice::cli {

// `json`, to which "schema" is prepended, with --json, piece by piece; else `text`. kWrite.
Result<void> PrintLong(Session& session, const formats::LongObject& json, std::string_view text);

}  // namespace sluice::cli
