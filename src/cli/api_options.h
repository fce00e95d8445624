// Options of `verify` for sides that are models behind servers.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/result.h"
#include "cli/verified.h"

namespace sluice::cli {

// --api-top and its like, into `request`, which outlives `app`.
void AddApiOptions(CLI::App& app, ApiRequest* request);
// What was given of them, by name; empty: nothing.
std::string GivenApiOption(const CLI::App& app);
// kUsage for values that are none.
Result<void> CheckApiValues(const ApiRequest& request);

}  // namespace sluice::cli
