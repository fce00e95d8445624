#include "kernels/combination.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

struct Inputs {
  std::vector<std::vector<float>> arrays;  // the base first
  std::vector<const float*> x;
  const float* base = nullptr;

  Inputs(size_t num_models, uint64_t count, bool has_base, bool specials) {
    for (size_t m = 0; m <= num_models; ++m) {
      arrays.push_back(OddFloats(count + 1, static_cast<uint32_t>(m), specials));
      if (m > 0) x.push_back(arrays.back().data() + 1);
    }
    if (has_base) base = arrays[0].data() + 1;
  }
};

// A NaN's bits may differ.
void ExpectSame(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    ASSERT_EQ(std::bit_cast<uint64_t>(a[i]), std::bit_cast<uint64_t>(b[i])) << i;
  }
}

TEST(Combination, InnerProductsAtEveryTarget) {
  for (const bool specials : {false, true}) {
    for (const size_t num_models : {1, 2, 3, 4, 5, 9, 400}) {
      const uint64_t most = num_models > 9 ? 40 : 700;
      for (const bool has_base : {false, true}) {
        const Inputs inputs(num_models, most, has_base, specials);
        for (const uint64_t first : {0, 3, 32}) {
          for (const uint64_t count :
               {uint64_t{0}, uint64_t{1}, uint64_t{7}, uint64_t{8}, uint64_t{13}, most - 1, most}) {
            std::vector<double> expected(num_models * (num_models + 1) / 2 * kProductLanes, 0.25);
            reference::AddInnerProducts(inputs.base, inputs.x, first, count, expected.data());
            ForEachTarget([&] {
              std::vector<double> lanes(expected.size(), 0.25);
              AddInnerProducts(inputs.base, inputs.x, first, count, lanes.data());
              ExpectSame(lanes, expected);
            });
          }
        }
      }
    }
  }
}

TEST(Combination, CombinesAtEveryTarget) {
  constexpr uint64_t kCount = 150;
  for (const bool specials : {false, true}) {
    for (const size_t num_models : {0, 1, 2, 5}) {
      for (const bool has_base : {false, true}) {
        const Inputs inputs(num_models, kCount, has_base, specials);
        std::vector<std::vector<double>> factors;
        std::vector<const double*> of_models;
        for (size_t m = 0; m < num_models; ++m) {
          const std::vector<float> numbers = OddFloats(kCount, static_cast<uint32_t>(m) + 50, specials);
          factors.emplace_back(numbers.begin(), numbers.end());
        }
        for (const auto& of_model : factors) of_models.push_back(of_model.data() + 1);
        for (const bool by_element : {false, true}) {
          for (uint64_t count = 0; count < kCount - 1; count += count < 20 ? 1 : 43) {
            std::vector<float> expected(kCount, 7);
            reference::Combine(inputs.base, inputs.x, of_models.data(), by_element, count, expected.data());
            ForEachTarget([&] {
              std::vector<float> out(kCount, 7);
              Combine(inputs.base, inputs.x, of_models.data(), by_element, count, out.data());
              ASSERT_TRUE(SameBits(out, expected)) << count << " models " << num_models;
            });
          }
        }
      }
    }
  }
}

// What is too large for f32, and nothing at all.
TEST(Combination, OverflowsAndZerosAtEveryTarget) {
  const std::vector<float> x(16, 3e38f), zeros(16, -0.0f);
  const double two = 2, minus_two = -2;
  const float* const of_x[] = {x.data()};
  const float* const of_zeros[] = {zeros.data()};
  ForEachTarget([&] {
    std::vector<float> out(16);
    const double* factors = &two;
    Combine(nullptr, of_x, &factors, false, 16, out.data());
    EXPECT_EQ(out[0], INFINITY);
    factors = &minus_two;
    Combine(nullptr, of_x, &factors, false, 16, out.data());
    EXPECT_EQ(out[5], -INFINITY);
    factors = &two;
    Combine(nullptr, of_zeros, &factors, false, 16, out.data());
    EXPECT_TRUE(std::signbit(out[3]));
  });
}

}  // namespace
}  // namespace sluice::kernels
