#include "arithmetic/topk_fact.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "arithmetic/testing/node_runner.h"
#include "arithmetic/testing/torch_numbers.h"

namespace sluice::arithmetic {
namespace {

using tests::TorchDigest;
using tests::TorchNumbers;

// Of tools/goldens/torch_tables.py topk: few different numbers, so that the last of the k are chosen among equal ones.
struct Case {
  uint64_t count, k;
  const char* digest;
};
constexpr Case kCases[] = {
    {10, 3, "d18ca84bb3821aae"},     {100, 1, "08a976a11117612e"},     {1000, 15, "25ba4d7eb03c518c"},
    {1000, 700, "f2f36a79786df189"}, {70001, 900, "4c6cf4b0b6beb28f"},
};

TEST(TopkFact, KeepsWhatTorchKeeps) {
  for (const Case& of : kCases) {
    std::vector<float> numbers = TorchNumbers(WorkingType::kF32, of.count, of.count);
    for (float& number : numbers) number = std::nearbyint(std::abs(number) * 16);
    const auto nonzero = static_cast<double>(of.count - std::ranges::count(numbers, 0.0f));
    const double share = (static_cast<double>(of.k) + 0.25) / nonzero;
    ASSERT_LT(share, 1);
    const tests::RunOptions otherwise = {.piece_elements = 96, .threads = 2, .backwards = true, .misalign_bytes = 2};
    for (const tests::RunOptions& options : {tests::RunOptions{}, otherwise}) {
      graph::Graph graph;
      const graph::Node* mask = AddTopkMask(&graph, tests::AddFloats(&graph, numbers), share);
      EXPECT_EQ(TorchDigest(tests::NodeRunner(options).RunF32(mask)), of.digest) << of.k << " of " << of.count;
    }
  }
}

TEST(TopkFact, KeepsNoneWhereTheShareIsLessThanOne) {
  graph::Graph graph;
  const graph::Node* mask = AddTopkMask(&graph, tests::AddFloats(&graph, {1, 2, 3, 0}), 0.3);
  EXPECT_EQ(tests::NodeRunner().RunF32(mask), (std::vector<float>{0, 0, 0, 0}));
}

TEST(TopkFact, CountsWhatIsNotZero) {
  graph::Graph graph;
  const graph::Node* mask = AddTopkMask(&graph, tests::AddFloats(&graph, {1, 0, 3, 0, 0, 0}), 0.5);
  EXPECT_EQ(tests::NodeRunner().RunF32(mask), (std::vector<float>{0, 0, 1, 0, 0, 0}));
}

}  // namespace
}  // namespace sluice::arithmetic
