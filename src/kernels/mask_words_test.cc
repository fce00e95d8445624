#include "kernels/mask_words.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "kernels/select.h"
#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

std::vector<uint32_t> Words(uint64_t count) {
  std::mt19937 random(5);
  std::vector<uint32_t> words(count);
  for (uint32_t& word : words) word = static_cast<uint32_t>(random());
  words[3] = 0xFFFFFFFF;
  words[4] = 0;
  return words;
}

TEST(MaskWords, BandsAtEveryTarget) {
  constexpr uint64_t kCount = 300, kFirst = 1000;
  const std::vector<float> fine = OddFloats(kCount, 1, true), coarse = CoarseFloats(kCount, 1);
  for (const std::vector<float>* x : {&fine, &coarse}) {
    const std::vector<float> base = CoarseFloats(kCount, 2);
    for (const uint64_t of_top : {1, 20, 200}) {
      for (const uint64_t of_bottom : {7, 20, 299}) {
        const auto place = [&](uint64_t i, uint64_t last_tie) {
          return MagnitudePlace{reference::MagnitudeBits((*x)[i], base[i]), last_tie};
        };
        for (const uint64_t tie : {uint64_t{0}, kFirst, kFirst + of_top, kFirst + 150, uint64_t{1} << 40}) {
          const MagnitudePlace top = place(of_top, tie), bottom = place(of_bottom, kFirst + of_bottom);
          for (const int which : {0, 1, 2, 3}) {
            for (uint64_t count = 0; count < kCount; count += count < 40 ? 1 : 53) {
              const auto mask = [&](auto function) {
                std::vector<uint32_t> bits(kCount / 32 + 2, 9);
                function(which & 1 ? &top : nullptr, which & 2 ? &bottom : nullptr, kFirst, count, x->data(),
                         base.data(), bits.data());
                return bits;
              };
              const std::vector<uint32_t> expected = mask(reference::BandMaskBits);
              ForEachTarget([&] { ASSERT_EQ(mask(BandMaskBits), expected) << count << " which " << which; });
            }
          }
        }
      }
    }
  }
}

TEST(MaskWords, RanksAtEveryTarget) {
  constexpr uint64_t kCount = 300;
  const std::vector<float> x = OddFloats(kCount, 1, true), base = CoarseFloats(kCount, 2);
  std::vector<float> others(kCount);
  Magnitudes(x.data(), base.data(), kCount, others.data());
  for (uint64_t i = 0; i < kCount; i += 3) others[i] = others[(i + 1) % kCount];  // the rest are ties
  constexpr uint64_t kAll = uint64_t{1} << 32;
  const std::pair<uint64_t, uint64_t> bounds[] = {{0, 0},           {0, 1},    {0, kAll},     {kAll, kAll},
                                                  {kAll / 4, kAll}, {1, 1000}, {0, kAll - 1}, {kAll / 3, kAll / 2}};
  for (const auto& [low, high] : bounds) {
    for (const bool keeps_ties : {false, true}) {
      for (uint64_t count = 0; count < kCount; count += count < 40 ? 1 : 53) {
        const auto mask = [&, low = low, high = high](auto function) {
          std::vector<uint32_t> words = Words(kCount);
          function(low, high, keeps_ties, count, x.data(), base.data(), others.data(), words.data());
          return words;
        };
        const std::vector<uint32_t> expected = mask(reference::RankMaskWords);
        ForEachTarget([&] { ASSERT_EQ(mask(RankMaskWords), expected) << count << " from " << low << " to " << high; });
      }
    }
  }
}

TEST(MaskWords, RowsAtEveryTarget) {
  constexpr uint64_t kAll = uint64_t{1} << 32;
  for (const auto& [unit, num_units] :
       {std::pair<uint64_t, uint64_t>{1, 37}, {2, 3}, {4, 5}, {8, 1}, {16, 5}, {256, 2}}) {
    const uint64_t columns = unit * num_units;
    const std::vector<float> x = OddFloats(columns + 1, 1, true);
    std::vector<float> base = CoarseFloats(columns + 1, 2);
    for (uint64_t i = 0; i < columns; i += 3) base[i] = x[i] + 0.5f;  // ties, but for rounding
    for (const uint64_t unit_shift : {uint64_t{0}, uint64_t{1}, num_units - 1}) {
      for (const uint64_t shift : {uint64_t{0}, uint64_t{1}, unit / 2, unit - 1}) {
        if (unit_shift >= num_units || shift >= unit) continue;
        const RowTurn turn = {unit, num_units, unit_shift, shift};
        for (const auto& [low, high] : {std::pair<uint64_t, uint64_t>{0, kAll}, {0, 0}, {kAll / 4, kAll / 2}}) {
          std::vector<uint32_t> expected = Words(columns + 8);
          reference::RankRowWords(low, high, turn, &x[1], &base[1], expected.data());
          ForEachTarget([&, low = low, high = high] {
            std::vector<uint32_t> words = Words(columns + 8);
            RankRowWords(low, high, turn, &x[1], &base[1], words.data());
            ASSERT_EQ(words, expected) << "units of " << unit << " by " << unit_shift << " and " << shift;
          });
        }
      }
    }
  }
}

TEST(MaskWords, BitsAtEveryTarget) {
  constexpr uint64_t kMost = 300, kAll = uint64_t{1} << 32;
  const std::vector<uint32_t> words = Words(kMost + 1);
  for (const uint64_t below : {uint64_t{0}, uint64_t{1}, kAll / 3, kAll - 1, kAll}) {
    for (uint64_t count = 0; count < kMost; count += count < 70 ? 1 : 53) {
      std::vector<uint32_t> expected((count + 31) / 32 + 1, 9);
      for (uint64_t i = 0; i < count; ++i) {
        if (i % 32 == 0) expected[i / 32] = 0;
        if (words[i + 1] < below) expected[i / 32] |= uint32_t{1} << i % 32;
      }
      ForEachTarget([&] {
        std::vector<uint32_t> bits(expected.size(), 9);
        MaskBits(&words[1], below, count, bits.data());
        ASSERT_EQ(bits, expected) << count << " below " << below;
      });
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
