#include "kernels/sce_sums.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

constexpr uint64_t kCount = 150;

struct Inputs {
  std::vector<std::vector<float>> arrays;  // the base first
  std::vector<const float*> x;
  const float* base;
  std::vector<uint32_t> bits;

  Inputs(size_t num_models, bool specials) {
    for (size_t m = 0; m <= num_models; ++m) {
      arrays.push_back(specials ? OddFloats(kCount + 1, static_cast<uint32_t>(m), true)
                                : CoarseFloats(kCount + 1, static_cast<uint32_t>(m)));
      if (m > 0) x.push_back(arrays.back().data() + 1);
    }
    base = arrays[0].data() + 1;
    bits.resize((kCount + 31) / 32);
    for (uint64_t i = 0; i < kCount; ++i) {
      if (i % 5 != 1 && i % 7 != 0) bits[i / 32] |= uint32_t{1} << i % 32;
    }
  }
};

template <class Body>
void ForInputs(const Body& body) {
  for (const bool specials : {false, true}) {
    for (const size_t num_models : {1, 2, 3, 7}) {
      const Inputs inputs(num_models, specials);
      for (const uint32_t* bits : {static_cast<const uint32_t*>(nullptr), inputs.bits.data()}) {
        for (uint64_t count = 0; count < kCount; count += count < 20 ? 1 : 43) body(inputs, bits, count);
      }
    }
  }
}

TEST(Sce, VariancesAtEveryTarget) {
  ForInputs([](const Inputs& inputs, const uint32_t*, uint64_t count) {
    std::vector<float> expected(kCount, 7);
    reference::Variances(inputs.base, inputs.x, count, expected.data());
    ForEachTarget([&] {
      std::vector<float> variances(kCount, 7);
      Variances(inputs.base, inputs.x, count, variances.data());
      ASSERT_TRUE(SameBits(variances, expected)) << count;
    });
  });
}

TEST(Sce, SquaresAtEveryTarget) {
  ForInputs([](const Inputs& inputs, const uint32_t* bits, uint64_t count) {
    std::vector<double> expected(inputs.x.size() * kSquareLanes, 0.25);
    reference::AddSquares(inputs.base, inputs.x, bits, count, expected.data());
    ForEachTarget([&] {
      std::vector<double> lanes(expected.size(), 0.25);
      AddSquares(inputs.base, inputs.x, bits, count, lanes.data());
      for (size_t i = 0; i < lanes.size(); ++i) {
        if (std::isnan(lanes[i]) && std::isnan(expected[i])) continue;  // a NaN's bits may differ
        ASSERT_EQ(lanes[i], expected[i]) << count;
      }
    });
  });
}

TEST(Sce, MergesAtEveryTarget) {
  const std::vector<double> weights = {0.5, 0.25, -0.125, 0, 1e-9, 3, 0.75}, odd = {NAN, INFINITY, 1, 1, 1, 1, 1};
  ForInputs([&](const Inputs& inputs, const uint32_t* bits, uint64_t count) {
    for (const std::vector<double>* of : {&weights, &odd}) {
      std::vector<float> expected(kCount, 7);
      reference::MergeAgreeing(inputs.base, inputs.x, of->data(), bits, count, expected.data());
      ForEachTarget([&] {
        std::vector<float> out(kCount, 7);
        MergeAgreeing(inputs.base, inputs.x, of->data(), bits, count, out.data());
        ASSERT_TRUE(SameBits(out, expected)) << count << " models " << inputs.x.size();
      });
    }
  });
}

}  // namespace
}  // namespace sluice::kernels
