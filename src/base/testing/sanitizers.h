// What tests of memory must know of the sanitizers.
#pragma once

#include <cstdint>

namespace sluice::tests {

// ThreadSanitizer's shadow of what a test touches becomes resident while the test runs, and counts against its budget.
#ifdef __SANITIZE_THREAD__
constexpr uint64_t kShadowBytes = uint64_t{48} << 20;
#else
constexpr uint64_t kShadowBytes = 0;
#endif

}  // namespace sluice::tests
