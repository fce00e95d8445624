// ProgressView: how a pass is going, on stderr: a bar on a terminal (at most 10 times a second), a line every 10
// seconds in a pipe, nothing with --quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include "stream/sink.h"

namespace sluice::cli {

enum class ProgressStyle { kNone, kBar, kLines };
// kNone where quiet; else by what stderr is.
ProgressStyle StyleOf(bool quiet);

// A line of its own, in place of a bar that may stand there; nothing for kNone.
void PrintAboveBar(ProgressStyle style, const std::string& line, std::FILE* out = stderr);

class ProgressView final : public stream::ProgressListener {
 public:
  ProgressView(ProgressStyle style, std::string what, uint64_t read_bytes, std::FILE* out = stderr);
  ~ProgressView() override;  // clears the bar
  void OnTile(const stream::StreamStats& stats) override;

  // "merge  [#######.......]  47%  1.62 GB/s  ETA 12 s  131 MiB", cut to `columns`.
  static std::string Line(const std::string& what, uint64_t done_bytes, uint64_t all_bytes, double seconds,
                          uint64_t resident_bytes, int columns);

 private:
  using Clock = std::chrono::steady_clock;
  const ProgressStyle style_;
  const std::string what_;
  const uint64_t read_bytes_;
  std::FILE* const out_;
  const Clock::time_point started_ = Clock::now();
  Clock::time_point shown_ = started_;
  bool drawn_ = false;
};

}  // namespace sluice::cli
