// Ctrl-C and kill: the first asks for an orderly end, the second ends at once.
#pragma once

#include <atomic>

namespace sluice::cli {

// SIGINT and SIGTERM set the flag returned, once; after that they have their default effect. Call once, in main.
const std::atomic<bool>& WatchSignals();

}  // namespace sluice::cli
