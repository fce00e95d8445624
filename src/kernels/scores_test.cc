#include "kernels/scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

// Scores that are NaN may be any.
std::vector<float> OneNaN(std::vector<float> values) {
  for (float& value : values) {
    if (std::isnan(value)) value = std::numeric_limits<float>::quiet_NaN();
  }
  return values;
}

TEST(Scores, AtEveryTarget) {
  constexpr uint64_t kCount = 300;
  for (const bool specials : {false, true}) {
    const std::vector<float> base = OddFloats(kCount, 1, specials);
    std::vector<float> x = OddFloats(kCount, 2, specials);
    for (size_t i = 0; i < x.size(); i += 3) x[i] = base[i];
    for (const float factor : {0.0f, 0.25f, 1e30f, INFINITY, NAN}) {
      for (uint64_t count = 0; count < kCount; count += count < 40 ? 1 : 57) {
        std::vector<float> scores(kCount, 7), scaled = base;
        reference::Scores(&x[1], &base[1], factor, count, scores.data());
        reference::Scale(factor, count, scaled.data());
        ForEachTarget([&] {
          std::vector<float> out(kCount, 7), numbers = base;
          Scores(&x[1], &base[1], factor, count, out.data());
          ASSERT_TRUE(SameBits(OneNaN(out), OneNaN(scores))) << count << " by " << factor;
          Scale(factor, count, numbers.data());
          ASSERT_TRUE(SameBits(OneNaN(numbers), OneNaN(scaled))) << count << " by " << factor;
        });
        for (const float threshold : {0.0f, 0.005f, INFINITY, NAN}) {
          std::vector<float> taken(kCount, 7);
          reference::TakeScored(&x[1], &base[1], factor, threshold, count, taken.data());
          ForEachTarget([&] {
            std::vector<float> out(kCount, 7);
            TakeScored(&x[1], &base[1], factor, threshold, count, out.data());
            ASSERT_TRUE(SameBits(out, taken)) << count << " by " << factor << " from " << threshold;
          });
        }
      }
    }
  }
}

TEST(Scores, TakeWhatReachesTheThreshold) {
  const float base[] = {1, 1, 1, 1}, x[] = {1.5f, 1.25f, 0.5f, NAN};
  float out[4];
  TakeScored(x, base, 2, 1, 4, out);
  EXPECT_EQ(out[0], 1.5f);
  EXPECT_EQ(out[1], 1.0f);
  EXPECT_EQ(out[2], 0.5f);
  EXPECT_EQ(out[3], 1.0f);
}

}  // namespace
}  // namespace sluice::kernels
