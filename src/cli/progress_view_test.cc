#include "cli/progress_view.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <thread>

namespace sluice::cli {
namespace {

TEST(ProgressViewTest, LineTellsShareRateTimeAndMemory) {
  const std::string line = ProgressView::Line("merge", 500'000'000, 1'000'000'000, 2.0, 64 << 20, 100);
  EXPECT_NE(line.find("merge"), std::string::npos);
  EXPECT_NE(line.find("50%"), std::string::npos) << line;
  EXPECT_NE(line.find("250 MB/s"), std::string::npos) << line;
  EXPECT_NE(line.find("ETA 2"), std::string::npos) << line;
  EXPECT_NE(line.find("64"), std::string::npos) << line;
  EXPECT_NE(line.find("[####"), std::string::npos) << line;
}

TEST(ProgressViewTest, LineFitsAnyTerminal) {
  for (const int columns : {1, 10, 40, 79, 200}) {
    for (const uint64_t done : {uint64_t{0}, uint64_t{1}, uint64_t{999}, uint64_t{1000}, uint64_t{5000}}) {
      EXPECT_LE(ProgressView::Line("digest", done, 1000, 0.5, 1 << 30, columns).size(), static_cast<size_t>(columns));
    }
  }
}

TEST(ProgressViewTest, NothingToReadIsDone) {
  EXPECT_NE(ProgressView::Line("digest", 0, 0, 0.1, 1 << 20, 80).find("100%"), std::string::npos);
}

// What a view writes while it sees `tiles` tiles, 5 ms apart.
std::string Shown(ProgressStyle style, int tiles) {
  std::FILE* file = std::tmpfile();
  {
    ProgressView view(style, "merge", 1000, file);
    for (int i = 0; i < tiles; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      view.OnTile({.payload_bytes = static_cast<uint64_t>(i), .moved_bytes = 0, .out_bytes = 0, .fact_passes = 0});
    }
  }
  std::rewind(file);
  std::string text(1 << 16, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

TEST(ProgressViewTest, QuietWritesNothing) { EXPECT_EQ(Shown(ProgressStyle::kNone, 50), ""); }

TEST(ProgressViewTest, ABarIsDrawnAtMostTenTimesASecondAndCleared) {
  const std::string text = Shown(ProgressStyle::kBar, 60);  // 0.3 s and more
  size_t drawn = 0;
  for (size_t at = 0; (at = text.find("merge", at)) != std::string::npos; ++at) ++drawn;
  EXPECT_GE(drawn, 1u);
  EXPECT_LT(drawn, 30u);  // on a slow machine 60 tiles take longer, but never 5 ms an update
  EXPECT_TRUE(text.ends_with("\r\x1b[K")) << "the bar stays behind";
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

TEST(ProgressViewTest, APipeGetsNoLineBeforeTenSeconds) { EXPECT_EQ(Shown(ProgressStyle::kLines, 40), ""); }

}  // namespace
}  // namespace sluice::cli
