// sluice COMMAND ...: see program.h. What holds for the whole process is set up here, once.
#include <sys/resource.h>

#include <string>
#include <vector>

#include "base/memory_budget.h"
#include "cli/program.h"
#include "cli/signals.h"

namespace {

// A recipe of ten models in 200 shards each opens two descriptors a file: more than the usual soft limit of 1,024.
void RaiseFileLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) {
  sluice::TameAllocator();
  RaiseFileLimit();
  const std::atomic<bool>& cancelled = sluice::cli::WatchSignals();
  return sluice::cli::RunProgram(std::vector<std::string>(argv + 1, argv + argc), cancelled);
}
