#include "kernels/infinities.h"

#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/convert.h"
#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

TEST(Infinities, OfEveryHalfAndBfloat) {
  std::vector<uint16_t> all(1 << 16);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const auto* bytes = reinterpret_cast<const uint8_t*>(all.data());
  for (const auto& [bits, decode] :
       {std::pair(kF16Infinity, &reference::F16ToF32), std::pair(kBf16Infinity, &reference::Bf16ToF32)}) {
    for (const uint16_t word : all) {
      const auto* one = reinterpret_cast<const uint8_t*>(&word);
      ASSERT_EQ(reference::CountMagnitudes16(one, 1, bits), std::isinf(decode(word)) ? 1u : 0u) << word;
    }
    ForEachTarget([&, bits = bits] { EXPECT_EQ(CountMagnitudes16(bytes, all.size(), bits), 2u); });
  }
}

TEST(Infinities, EveryTargetAndLength) {
  std::vector<float> values = OddFloats(8300, 1, true);
  for (size_t i = 0; i < values.size(); i += 7) values[i] = i % 2 == 0 ? INFINITY : -INFINITY;
  uint64_t expected = 0;
  for (const float value : values) expected += std::isinf(value) ? 1 : 0;
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  EXPECT_EQ(reference::CountMagnitudes32(bytes, values.size(), kF32Infinity), expected);
  for (const uint64_t count : {0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 1000, 8299}) {
    for (const uint64_t shift : {0, 1}) {  // any alignment
      ForEachTarget([&] {
        ASSERT_EQ(CountMagnitudes32(bytes + shift, count, kF32Infinity),
                  reference::CountMagnitudes32(bytes + shift, count, kF32Infinity));
        ASSERT_EQ(CountMagnitudes16(bytes + shift, count, kBf16Infinity),
                  reference::CountMagnitudes16(bytes + shift, count, kBf16Infinity));
      });
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
