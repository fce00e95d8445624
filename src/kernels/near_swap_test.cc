#include "kernels/near_swap.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

TEST(NearSwap, AtEveryTarget) {
  for (const bool specials : {false, true}) {
    const std::vector<float> base = OddFloats(300, 1, specials);
    std::vector<float> x = OddFloats(300, 2, specials);
    for (size_t i = 0; i < x.size(); i += 3) x[i] = base[i];
    for (const float t : {0.0f, 1e-9f, 0.001f, 0.02f, 5.0f}) {
      for (uint64_t count = 0; count < 299; count += count < 40 ? 1 : 57) {
        std::vector<float> expected(299, 7);
        reference::SwapWhereNear(base.data() + 1, x.data() + 1, t, count, expected.data());
        ForEachTarget([&] {
          std::vector<float> out(299, 7);
          SwapWhereNear(base.data() + 1, x.data() + 1, t, count, out.data());
          ASSERT_TRUE(SameBits(out, expected)) << count << " t " << t;
        });
      }
    }
  }
}

TEST(NearSwap, IsTheFormula) {
  const float base[] = {1, 1, 2}, x[] = {1.5f, 1, 6};
  float out[3];
  SwapWhereNear(base, x, 1, 3, out);
  EXPECT_EQ(out[0], 1.5f);  // nearer than t
  EXPECT_EQ(out[1], 1.0f);
  EXPECT_EQ(out[2], 0.25f * 6 + 0.75f * 2);
}

}  // namespace
}  // namespace sluice::kernels
