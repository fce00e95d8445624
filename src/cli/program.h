// The program behind main: arguments in, exit status out.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "base/result.h"

namespace sluice::cli {

// Finds the command, reads its arguments, runs it and tells of errors. `arguments` without the program's name.
int RunProgram(const std::vector<std::string>& arguments, const std::atomic<bool>& cancelled);

// "sluice: error: ..." on stderr, the errors of a recipe one a line; with `json` the error object on stdout too.
void TellError(const Error& error, bool json);

}  // namespace sluice::cli
