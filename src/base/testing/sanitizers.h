// What tests of memory must know of the sanitizers.
#pragma once

#include <cstdint>

namespace sluice::tests {

// A sanitizer keeps memory of its own for what a test touches, or has let go; it counts against the budget.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr uint64_t kShadowBytes = uint64_t{48} << 20;
#else
constexpr uint64_t kShadowBytes = 0;
#endif

}  // namespace sluice::tests
