// SLUICE_CHECK: for our own mistakes only. Prints the condition with its place and aborts; never for bad input.
#pragma once

namespace sluice {
[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);
}  // namespace sluice

#define SLUICE_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::sluice::CheckFailed(#condition, __FILE__, __LINE__))
