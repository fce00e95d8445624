#include "kernels/narrow_product.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/testing/each_target.h"
#include "kernels/testing/odd_floats.h"

namespace sluice::kernels {
namespace {

std::vector<double> Numbers(uint64_t count, uint32_t seed) {
  const std::vector<float> high = OddFloats(count, seed, false), low = OddFloats(count, seed + 100, false);
  std::vector<double> numbers(count);
  for (uint64_t i = 0; i < count; ++i) numbers[i] = high[i] + 1e-8 * low[i];  // more digits than f32 has
  return numbers;
}

TEST(NarrowProduct, ReferenceByHand) {
  const std::vector<double> left = {1, 2, 3, 4, 5, 6};  // [2][3], or [3][2] the other way round
  std::vector<double> right(2 * 8, 0), out(3 * 8, 0);
  right[0] = 10;
  right[8] = 100;
  out[8] = 1000;
  reference::AddNarrowProduct({.left = left.data(),
                               .row_stride = 1,
                               .term_stride = 3,
                               .right = right.data(),
                               .rows = 3,
                               .terms = 2,
                               .columns = 8,
                               .out = out.data()});
  EXPECT_EQ(out[0], 410);
  EXPECT_EQ(out[8], 1000 + 20 + 500);
  EXPECT_EQ(out[16], 630);
  EXPECT_EQ(out[1], 0);
}

TEST(NarrowProduct, EveryTargetGivesTheReferencesBitsHoweverItIsCut) {
  for (const uint64_t rows : {1, 3, 4, 9}) {
    for (const uint64_t terms : {1, 2, 7, 100}) {
      for (const uint64_t columns : {8, 16, 40}) {
        for (const bool turned : {false, true}) {
          const std::vector<double> left = Numbers(rows * terms, 1), right = Numbers(terms * columns, 2);
          const std::vector<double> before = Numbers(rows * columns, 3);
          NarrowProductArgs args = {.left = left.data(),
                                    .row_stride = turned ? 1 : terms,
                                    .term_stride = turned ? rows : 1,
                                    .right = right.data(),
                                    .rows = rows,
                                    .terms = terms,
                                    .columns = columns};
          std::vector<double> expected = before, out;
          args.out = expected.data();
          reference::AddNarrowProduct(args);
          ForEachTarget([&] {
            out = before;
            args.out = out.data();
            AddNarrowProduct(args);
            EXPECT_EQ(out, expected) << rows << " " << terms << " " << columns;
            out = before;  // the first terms, then the rest
            NarrowProductArgs first = args, rest = args;
            first.terms = terms / 2;
            rest.terms = terms - first.terms;
            rest.left += first.terms * args.term_stride;
            rest.right += first.terms * columns;
            AddNarrowProduct(first);
            AddNarrowProduct(rest);
            EXPECT_EQ(out, expected) << rows << " " << terms << " " << columns;
          });
        }
      }
    }
  }
}

}  // namespace
}  // namespace sluice::kernels
