// Makes a system call of the output fail in a test, at its n-th time.
//
//   tests::DiskFault fault({.call = io::WriteCall::kWrite, .nth = 3, .error_number = ENOSPC});
//   ... whatever writes ...
//   EXPECT_TRUE(fault.happened());
#pragma once

#include <atomic>
#include <cerrno>
#include <optional>
#include <string>

#include "io/write_calls.h"

namespace sluice::tests {

class DiskFault final : public io::WriteFaults {
 public:
  struct Options {
    io::WriteCall call = io::WriteCall::kWrite;
    int nth = 1;  // counted among the calls of this kind with a matching path
    int error_number = ENOSPC;
    bool once = false;  // else all later ones fail too
    std::string path_contains = {};
    std::optional<uint64_t> free_bytes = {};  // what the check of free space sees; no call fails if nth is 0
  };
  explicit DiskFault(Options options) : options_(std::move(options)) { io::SetWriteFaults(this); }
  ~DiskFault() override { io::SetWriteFaults(nullptr); }

  int Before(io::WriteCall call, const std::string& path) override {
    if (options_.nth == 0 || call != options_.call || path.find(options_.path_contains) == std::string::npos) return 0;
    const int n = ++calls_;
    if (n < options_.nth || (options_.once && n > options_.nth)) return 0;
    happened_ = true;
    return options_.error_number;
  }
  std::optional<uint64_t> FreeBytes() override { return options_.free_bytes; }

  bool happened() const { return happened_; }
  int calls() const { return calls_; }

 private:
  const Options options_;
  std::atomic<int> calls_ = 0;
  std::atomic<bool> happened_ = false;
};

}  // namespace sluice::tests
