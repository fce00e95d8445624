#include "verify/sequential_test/keyed_order.h"

#include <array>

#include <gtest/gtest.h>

namespace sluice::verify::sequential_test {
namespace {

Nonce KeyOf(uint32_t number) {
  Nonce key(16);
  for (size_t i = 0; i < 4; ++i) key[i] = static_cast<uint8_t>(number >> (8 * i));
  return key;
}

// By Python's hmac and hashlib, from the header's words.
TEST(KeyedOrderTest, IsThatOfTheSpecification) {
  const Nonce key = *ParseNonce("000102030405060708090a0b0c0d0e0f");
  EXPECT_EQ(KeyedOrder(key, 10), (std::vector<uint64_t>{1, 9, 0, 6, 3, 2, 4, 7, 5, 8}));
  EXPECT_TRUE(KeyedOrder(key, 0).empty());
  EXPECT_EQ(KeyedOrder(key, 1), std::vector<uint64_t>{0});
  EXPECT_NE(KeyedOrder(key, 10), KeyedOrder(KeyOf(1), 10));
}

TEST(KeyedOrderTest, EveryOrderIsEquallyLikely) {
  std::array<int, 24> counts{};
  constexpr uint32_t kKeys = 24'000;
  for (uint32_t i = 0; i < kKeys; ++i) {
    const std::vector<uint64_t> order = KeyedOrder(KeyOf(i), 4);
    uint64_t rank = 0;
    for (size_t a = 0; a < 4; ++a) {
      uint64_t smaller = 0;
      for (size_t b = a + 1; b < 4; ++b) smaller += order[b] < order[a] ? 1 : 0;
      rank = rank * (4 - a) + smaller;
    }
    ASSERT_LT(rank, 24u);
    ++counts[rank];
  }
  double chi = 0;
  for (const int count : counts) chi += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_LT(chi, 65.3);  // 23 degrees of freedom: less than 1 in 100,000
}

}  // namespace
}  // namespace sluice::verify::sequential_test
