#include "cli/progress_view.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/memory_budget.h"
#include "base/units.h"

namespace sluice::cli {
namespace {

constexpr std::chrono::milliseconds kBarInterval{100};
constexpr std::chrono::seconds kLineInterval{10};
constexpr char kClearLine[] = "\r\x1b[K";

int TerminalColumns() {
  winsize size = {};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

ProgressStyle StyleOf(bool quiet) {
  if (quiet) return ProgressStyle::kNone;
  return isatty(STDERR_FILENO) == 1 ? ProgressStyle::kBar : ProgressStyle::kLines;
}

void PrintAboveBar(ProgressStyle style, const std::string& line, std::FILE* out) {
  if (style == ProgressStyle::kNone) return;
  fmt::print(out, "{}{}\n", style == ProgressStyle::kBar ? kClearLine : "", line);
}

ProgressView::ProgressView(ProgressStyle style, std::string what, uint64_t read_bytes, std::FILE* out)
    : style_(style), what_(std::move(what)), read_bytes_(read_bytes), out_(out) {}

ProgressView::~ProgressView() {
  if (drawn_) fmt::print(out_, "{}", kClearLine);
}

void ProgressView::OnTile(const stream::StreamStats& stats) {
  if (style_ == ProgressStyle::kNone) return;
  const Clock::time_point now = Clock::now();
  if (now - shown_ < (style_ == ProgressStyle::kBar ? Clock::duration(kBarInterval) : Clock::duration(kLineInterval))) {
    return;
  }
  shown_ = now;
  const double seconds = std::chrono::duration<double>(now - started_).count();
  const bool bar = style_ == ProgressStyle::kBar;
  const std::string line =
      Line(what_, stats.payload_bytes, read_bytes_, seconds, ResidentBytes(), bar ? TerminalColumns() - 1 : 0);
  if (bar) {
    fmt::print(out_, "{}{}", kClearLine, line);
    drawn_ = true;
  } else {
    fmt::print(out_, "{}\n", line);
  }
  std::fflush(out_);
}

std::string ProgressView::Line(const std::string& what, uint64_t done_bytes, uint64_t all_bytes, double seconds,
                               uint64_t resident_bytes, int columns) {
  const double share =
      all_bytes == 0 ? 1.0 : std::min(1.0, static_cast<double>(done_bytes) / static_cast<double>(all_bytes));
  const double rate = seconds > 0 ? static_cast<double>(done_bytes) / seconds : 0;
  const std::string eta = share > 0 && share < 1 ? "ETA " + FormatSeconds(seconds * (1 - share) / share)
                                                 : std::string(share < 1 ? "ETA ?" : "");
  std::string text =
      fmt::format("{:3.0f}%  {}  {}  {}", 100 * share, FormatRate(rate), eta, FormatMemory(resident_bytes));
  if (columns <= 0) return what + "  " + text;  // a pipe: no bar
  const int room = columns - static_cast<int>(what.size() + text.size()) - 6;
  if (room >= 10) {
    const int width = std::min(room, 40), full = static_cast<int>(share * width);
    text = fmt::format("[{}{}]  {}", std::string(full, '#'), std::string(width - full, '.'), text);
  }
  text = what + "  " + text;
  if (text.size() > static_cast<size_t>(columns)) text.resize(columns);
  return text;
}

}  // namespace sluice::cli
