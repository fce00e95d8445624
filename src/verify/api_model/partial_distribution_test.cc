#include "verify/api_model/partial_distribution.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::verify::api_model {
namespace {

using ::testing::HasSubstr;

double TotalVariation(const std::vector<double>& p, const std::vector<double>& q) {
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += std::abs(p[i] - q[i]);
  return sum / 2;
}

// The k likeliest of p, as a server lists them.
PartialDistribution Top(const std::vector<double>& p, size_t k) {
  std::vector<uint32_t> ids(p.size());
  std::iota(ids.begin(), ids.end(), 0u);
  std::ranges::sort(ids, [&](uint32_t a, uint32_t b) { return p[a] > p[b]; });
  ids.resize(std::min(k, ids.size()));
  PartialDistribution top;
  top.cap = p[ids.back()];
  std::ranges::sort(ids);
  for (const uint32_t id : ids) top.known.push_back({id, p[id]});
  return top;
}

std::vector<double> Draw(size_t size, double spread, std::mt19937_64* words) {
  std::normal_distribution<double> normal(0, spread);
  std::vector<double> p(size);
  for (double& x : p) x = std::exp(normal(*words));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

// Holds for whatever was not told: many pairs, near and far, sharp and flat, at all k.
TEST(PartialDistributionTest, TheTruthLiesBetweenTheBounds) {
  std::mt19937_64 words(3);
  double tightest = 1, widest = 0;
  for (int run = 0; run < 4000; ++run) {
    const size_t size = 2 + words() % 60;
    const std::vector<double> p = Draw(size, 0.01 + run % 5, &words);
    std::vector<double> q = Draw(size, 0.01 + run % 3, &words);
    if (run % 2 == 0) {  // near p
      for (size_t i = 0; i < size; ++i) q[i] = 0.97 * p[i] + 0.03 * q[i];
    }
    const double truth = TotalVariation(p, q);
    const PartialDistribution partial_p = Top(p, 1 + words() % size), partial_q = Top(q, 1 + words() % size);
    ASSERT_TRUE(CheckPartial(partial_p));
    const auto [lower, upper] = TotalVariationBounds(partial_p, partial_q);
    ASSERT_LE(lower, truth + 1e-12);
    ASSERT_GE(upper, truth - 1e-12);
    ASSERT_LE(lower, upper);
    tightest = std::min(tightest, upper - lower);
    widest = std::max(widest, upper - lower);
    const auto [same_lower, same_upper] = TotalVariationBounds(partial_q, partial_p);
    ASSERT_NEAR(same_lower, lower, 1e-12) << "symmetric";
    ASSERT_NEAR(same_upper, upper, 1e-12);
  }
  EXPECT_LT(tightest, 1e-9);
  EXPECT_GT(widest, 0.5);
}

// Over five ids all completions can be tried: the lower bound is the smallest distance that there is, to the grid.
TEST(PartialDistributionTest, TheLowerBoundIsAttainedWhereOneSideIsKnown) {
  std::mt19937_64 words(5);
  constexpr int kSteps = 40;
  for (int run = 0; run < 60; ++run) {
    const std::vector<double> p = Draw(5, 1, &words);
    const PartialDistribution all = Top(p, 5), part = Top(Draw(5, 1, &words), 2);
    std::vector<double> q(5, 0.0);
    std::vector<size_t> open;
    for (uint32_t id = 0; id < 5; ++id) {
      if (const auto* entry = part.Find(id))
        q[id] = entry->probability;
      else
        open.push_back(id);
    }
    const double rest = part.Rest();
    double least = 1, most = 0;
    for (int i = 0; i <= kSteps; ++i) {
      for (int j = 0; i + j <= kSteps; ++j) {
        q[open[0]] = rest * i / kSteps;
        q[open[1]] = rest * j / kSteps;
        q[open[2]] = rest - q[open[0]] - q[open[1]];
        if (std::max({q[open[0]], q[open[1]], q[open[2]]}) > part.cap + 1e-12) continue;
        least = std::min(least, TotalVariation(p, q));
        most = std::max(most, TotalVariation(p, q));
      }
    }
    const auto [lower, upper] = TotalVariationBounds(all, part);
    EXPECT_LE(lower, least + 1e-12);
    EXPECT_NEAR(lower, least, 2 * rest / kSteps) << "a step moves two of three by rest / kSteps each";
    EXPECT_GE(upper, most - 1e-12);
  }
}

TEST(PartialDistributionTest, WithEverythingKnownBothAreTheDistance) {
  std::mt19937_64 words(7);
  for (int run = 0; run < 100; ++run) {
    const std::vector<double> p = Draw(40, 2, &words), q = Draw(40, 1, &words);
    const auto [lower, upper] = TotalVariationBounds(Top(p, 40), Top(q, 40));
    EXPECT_NEAR(lower, TotalVariation(p, q), 1e-12);
    EXPECT_NEAR(upper, TotalVariation(p, q), 1e-12);
  }
}

TEST(PartialDistributionTest, OfOneModelAgainstItselfTheFloorIsTheRest) {
  std::mt19937_64 words(9);
  const std::vector<double> p = Draw(1000, 1, &words);
  for (const size_t k : {1u, 5u, 20u, 500u}) {
    const PartialDistribution top = Top(p, k);
    const auto [lower, upper] = TotalVariationBounds(Top(p, 1000), top);
    EXPECT_NEAR(lower, 0, 1e-12);
    EXPECT_NEAR(upper, top.Rest(), 1e-12);
  }
}

// What another list's cap adds: ids that one side gives much and the other does not even list.
TEST(PartialDistributionTest, TheCapRaisesTheLowerBound) {
  PartialDistribution p{.known = {{1, 0.5}, {2, 0.3}, {3, 0.2}}, .cap = 0};
  PartialDistribution q{.known = {{1, 0.5}}, .cap = 0.05};
  EXPECT_NEAR(TotalVariationBounds(p, q).lower, 0.4, 1e-12) << "2 and 3 have 0.05 at most on the other side";
  q.cap = 1;
  EXPECT_NEAR(TotalVariationBounds(p, q).lower, 0, 1e-12);
}

TEST(PartialDistributionTest, SumsAboveOneWidenTheBounds) {
  const PartialDistribution p{.known = {{1, 0.5}, {2, 0.5}}, .cap = 0};
  const PartialDistribution q{.known = {{1, 0.5005}, {2, 0.5002}}, .cap = 0};
  ASSERT_TRUE(CheckPartial(q));
  const auto [lower, upper] = TotalVariationBounds(p, q);
  EXPECT_EQ(lower, 0);
  EXPECT_NEAR(upper, 0.0007, 1e-9);
}

TEST(PartialDistributionTest, LiesAreFound) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const auto error = [](PartialDistribution distribution) {
    const auto checked = CheckPartial(distribution);
    if (checked) return std::string("no error");
    EXPECT_EQ(checked.error().code, ErrorCode::kCorrupt);
    return checked.error().message;
  };
  EXPECT_THAT(error({.known = {{1, 1.01}}}), HasSubstr("token 1 has the probability 1.01"));
  EXPECT_THAT(error({.known = {{1, -0.1}}}), HasSubstr("which is none"));
  EXPECT_THAT(error({.known = {{1, kNan}}}), HasSubstr("which is none"));
  EXPECT_THAT(error({.known = {{1, 0.1}, {1, 0.1}}}), HasSubstr("token 1 is listed twice"));
  EXPECT_THAT(error({.known = {{1, 0.6}, {2, 0.6}}}), HasSubstr("the probabilities of 2 tokens sum up to 1.2"));
  EXPECT_THAT(error({.known = {{1, 0.6}}, .cap = kNan}), HasSubstr("least"));
  EXPECT_EQ(error({.known = {{1, 1.0000005}}}), "no error") << "a logarithm of 0 with f32's rounding";
  EXPECT_EQ(error({}), "no error");
}

// Data processing: no partition shows more than there is; the finest shows all.
TEST(PartialDistributionTest, TheCoarseDistanceBoundsFromBelow) {
  std::mt19937_64 words(11);
  for (int run = 0; run < 300; ++run) {
    const std::vector<double> p = Draw(30, 2, &words), q = Draw(30, 1, &words);
    const PartialDistribution all_p = Top(p, 30), all_q = Top(q, 30);
    std::vector<uint32_t> ids;
    double before = 0;
    for (uint32_t id = 0; id < 30; ++id) {
      ids.push_back(id);
      const auto distance = CoarseDistance(all_p, all_q, ids);
      ASSERT_TRUE(distance);
      EXPECT_LE(*distance, TotalVariation(p, q) + 1e-12);
      EXPECT_GE(*distance, before - 1e-12) << "a finer partition shows no less";
      before = *distance;
    }
    EXPECT_NEAR(before, TotalVariation(p, q), 1e-12);
  }
  const PartialDistribution one{.known = {{1, 0.5}}};
  const std::vector<uint32_t> two = {1, 2};
  EXPECT_FALSE(CoarseDistance(one, one, two)) << "what was not scored cannot be compared";
}

}  // namespace
}  // namespace sluice::verify::api_model
