#include "cli/signals.h"

#include <csignal>

namespace sluice::cli {
namespace {

std::atomic<bool> cancelled{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // so that a signal handler may store to it

void Cancel(int) { cancelled.store(true); }

}  // namespace

const std::atomic<bool>& WatchSignals() {
  struct sigaction action = {};
  action.sa_handler = Cancel;
  action.sa_flags =
      static_cast<int>(SA_RESETHAND);  // no SA_RESTART: a blocking wait ends with EINTR and looks at the flag
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  // A reader that goes away (`sluice digest x | head`) is an error of the write, not the end of a merge.
  std::signal(SIGPIPE, SIG_IGN);
  return cancelled;
}

}  // namespace sluice::cli
