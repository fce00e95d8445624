// sequential_tables FOLDER: prints the tables of docs/sequential_test.md and writes its two plots into FOLDER. Seeded:
// the same bytes each time. Half a minute.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "report/svg_chart.h"
#include "stand_alone_svg.h"
#include "verify/sequential_test/sequential_decision.h"
#include "verify/sequential_test/sequential_power.h"
#include "verify/testing/rival_rules.h"
#include "verify/testing/score_sources.h"

namespace {

using namespace sluice::verify::sequential_test;
using sluice::report::ChartSeries;
using sluice::report::LineChart;

constexpr double kGamma = 0.025, kAlpha = 0.01;
constexpr uint64_t kMost = 1024;
constexpr int kRuns = 2000;

class BettingRule : public RivalRule {
 public:
  BettingRule() : RivalRule("betting (sluice)"), test_({.gamma = kGamma, .alpha = kAlpha}) {}
  Outcome Add(double score) override { return test_.Add(score).has_value() ? test_.outcome() : Outcome::kInvalid; }

 private:
  SequentialTest test_;
};

std::vector<std::unique_ptr<RivalRule>> AllRules() {
  std::vector<std::unique_ptr<RivalRule>> rules;
  rules.push_back(std::make_unique<BettingRule>());
  rules.push_back(std::make_unique<EmpiricalBernsteinRule>(kGamma, kAlpha));
  rules.push_back(std::make_unique<HoeffdingRule>(kGamma, kAlpha, kMost));
  rules.push_back(std::make_unique<FixedNumberRule>(kGamma, kAlpha, kMost));
  return rules;
}

struct Tally {
  std::string name;
  int right = 0, wrong = 0;
  std::vector<uint64_t> stops;  // of each run; kMost + 1: undecided
  double MeanStop() const {
    double sum = 0;
    for (const uint64_t stop : stops) sum += static_cast<double>(std::min(stop, kMost));
    return sum / static_cast<double>(stops.size());
  }
  std::string Median() const {
    std::vector<uint64_t> sorted = stops;
    std::ranges::sort(sorted);
    const uint64_t median = sorted[sorted.size() / 2];
    return median > kMost ? "-" : fmt::format("{}", median);
  }
};

// All rules on the same sequences.
std::vector<Tally> Race(const ScoreSource& source, double mean) {
  std::mt19937_64 words(1024);
  std::vector<Tally> tallies;
  for (const auto& rule : AllRules()) tallies.push_back({rule->name(), 0, 0, {}});
  std::vector<double> scores(kMost);
  for (int run = 0; run < kRuns; ++run) {
    for (double& score : scores) score = source.draw(&words);
    const auto rules = AllRules();
    for (size_t i = 0; i < rules.size(); ++i) {
      Outcome outcome = Outcome::kUndecided;
      uint64_t t = 0;
      while (t < kMost && outcome == Outcome::kUndecided) outcome = rules[i]->Add(scores[t++]);
      const Outcome right = mean < kGamma ? Outcome::kSame : Outcome::kDifferent;
      tallies[i].right += outcome == right ? 1 : 0;
      tallies[i].wrong += outcome != right && outcome != Outcome::kUndecided ? 1 : 0;
      tallies[i].stops.push_back(outcome == Outcome::kUndecided ? kMost + 1 : t);
    }
  }
  return tallies;
}

uint64_t ConstantBet(double gamma, double cap, double score) {
  return static_cast<uint64_t>(std::ceil(-std::log(kAlpha) / std::log1p(cap / (1 - gamma) * (gamma - score))));
}

// Maurer and Pontil 2009, theorem 4, with no variance: 7 ln(2/alpha) / (3 (n - 1)) <= gamma.
uint64_t FixedBernstein(double gamma) {
  return 1 + static_cast<uint64_t>(std::ceil(7 * std::log(2 / kAlpha) / (3 * gamma)));
}

uint64_t FixedHoeffding(double gamma) {
  return static_cast<uint64_t>(std::ceil(-std::log(kAlpha) / (2 * gamma * gamma)));
}

std::string OrDash(std::optional<uint64_t> value) { return value ? fmt::format("{}", *value) : "-"; }
std::string OrDash(std::optional<double> value) { return value ? fmt::format("{:.5f}", *value) : "-"; }

void PrintLeast() {
  std::puts(
      "| gamma | any rule | sluice | bet capped at .75 | at .5 | empirical Bernstein | Hoeffding | sluice, scores "
      "of gamma / 2 |\n|---|---|---|---|---|---|---|---|");
  for (const double gamma : {0.005, 0.01, 0.025, 0.05, 0.1}) {
    const Settings settings{.gamma = gamma, .alpha = kAlpha};
    fmt::print("| {} | {} | {} | {} | {} | {} | {} | {} |\n", gamma, LeastPossible(Side::kBelow, settings),
               OrDash(ChallengesForEqualScores(settings, 0, 1 << 20)), ConstantBet(gamma, 0.75, 0),
               ConstantBet(gamma, 0.5, 0), FixedBernstein(gamma), FixedHoeffding(gamma),
               OrDash(ChallengesForEqualScores(settings, gamma / 2, 1 << 20)));
  }
}

void PrintSets() {
  std::puts(
      "\n| prompts | SAME, any rule | SAME, sluice | DIFFERENT, any rule | DIFFERENT, sluice |\n|---|---|---|---|---|");
  for (const uint64_t population : {30u, 100u, 300u, 1024u, 10000u, 0u}) {
    const Settings settings{.gamma = kGamma, .alpha = kAlpha, .population = population};
    fmt::print("| {} | {} | {} | {} | {} |\n", population > 0 ? fmt::format("{}", population) : "drawn",
               LeastPossible(Side::kBelow, settings), OrDash(ChallengesForEqualScores(settings, 0, 1 << 20)),
               LeastPossible(Side::kAbove, settings), OrDash(ChallengesForEqualScores(settings, 1, 1 << 20)));
  }
}

void PrintGaps() {
  std::puts(
      "\n| n | SAME: equal scores | 0 or 1, 50% | 0 or 1, 90% | DIFFERENT: equal scores | 0 or 1, 50% | 0 or 1, "
      "90% |\n|---|---|---|---|---|---|---|");
  for (const uint64_t n : {256u, 512u, 1024u, 2048u, 4096u}) {
    const ZeroOnePower power(kGamma, kAlpha, n);
    const Settings settings{.gamma = kGamma, .alpha = kAlpha};
    fmt::print("| {} ", n);
    for (const Side side : {Side::kBelow, Side::kAbove}) {
      fmt::print("| {} | {} | {} ", OrDash(SmallestGapOfEqualScores(side, settings, n)),
                 OrDash(power.SmallestGap(side, 0.5)), OrDash(power.SmallestGap(side, 0.9)));
    }
    std::puts("|");
  }
}

void PrintRaces() {
  std::puts(
      "\n| scores | mean | betting (sluice) | empirical Bernstein | Hoeffding | fixed n = 1024 "
      "|\n|---|---|---|---|---|---|");
  const auto row = [](const ScoreSource& source, double mean) {
    fmt::print("| {} | {} ", source.name, mean);
    for (const Tally& tally : Race(source, mean)) {
      fmt::print("| {:.1f}%, {} ", 100.0 * tally.right / kRuns, tally.Median());
    }
    std::puts("|");
  };
  for (const double mean : {0.0, 0.003, 0.01, 0.02, 0.03, 0.05}) row(EqualScores(mean), mean);
  for (const double mean : {0.003, 0.01, 0.02, 0.03, 0.05}) row(UniformScores(mean), mean);
  for (const double mean : {0.003, 0.01, 0.05, 0.1}) row(PowerScores(mean), mean);
  for (const double mean : {0.003, 0.01, 0.05}) row(ZeroInflatedScores(mean), mean);
  for (const double mean : {0.003, 0.01, 0.05, 0.1}) row(ZeroOneScores(mean), mean);
}

bool WritePlots(const std::string& folder) {
  const auto names = AllRules();
  std::vector<ChartSeries> power, stopping;
  for (size_t i = 0; i < names.size(); ++i) {
    power.push_back({.name = names[i]->name(), .points = {}, .colour = i, .dots = false});
    stopping.push_back(power.back());
  }
  const ZeroOnePower exact(kGamma, kAlpha, kMost);
  for (double mean = 0; mean <= 0.0801; mean += 0.0025) {
    if (std::abs(mean - kGamma) < 1e-6) continue;
    const std::vector<Tally> rough = Race(ZeroOneScores(mean), mean), smooth = Race(UniformScores(mean), mean);
    for (size_t i = 0; i < names.size(); ++i) {
      double right = static_cast<double>(rough[i].right) / kRuns;
      if (i == 0) right = mean < kGamma ? exact.Of(mean).same : exact.Of(mean).different;
      power[i].points.push_back({mean, right});
      stopping[i].points.push_back({mean, smooth[i].MeanStop()});
    }
  }
  const bool is_good = WriteStandAloneSvg(
      folder + "/sequential_power.svg",
      {.title = "Settled rightly within 1,024 challenges, scores of 0 or 1 (gamma 0.025, alpha 0.01)",
       .x_title = "mean score",
       .y_title = "probability",
       .series = power,
       .zero_line = true});
  return WriteStandAloneSvg(folder + "/sequential_stopping.svg",
                            {.title = "Challenges until settled, 1,024 at most, scores uniform over [0, 2 mean]",
                             .x_title = "mean score",
                             .y_title = "challenges, mean",
                             .series = stopping,
                             .zero_line = true}) &&
         is_good;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: sequential_tables FOLDER\n");
    return 2;
  }
  PrintLeast();
  PrintSets();
  PrintGaps();
  PrintRaces();
  if (!WritePlots(argv[1])) {
    std::fprintf(stderr, "%s: cannot be written to\n", argv[1]);
    return 6;
  }
  return 0;
}
