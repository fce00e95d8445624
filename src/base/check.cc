#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace sluice {

void CheckFailed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "sluice: a defect of the program, please report it: %s:%d: %s\n", file, line, condition);
  std::abort();
}

}  // namespace sluice
