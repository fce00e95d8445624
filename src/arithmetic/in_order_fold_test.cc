#include "arithmetic/in_order_fold.h"

#include <cstring>
#include <numeric>

#include <gtest/gtest.h>

#include "arithmetic/testing/node_runner.h"
#include "graph/graph.h"

namespace sluice::arithmetic {
namespace {

// In each of two steps a chain that any other order of numbers changes.
class ChainFold final : public InOrderFold {
 public:
  ChainFold(uint64_t num_elements, int num_workers) : InOrderFold(num_elements, 1, num_workers) {}

 private:
  uint64_t num_rows() const override { return 1; }
  void Compute(graph::Range piece, std::span<const graph::View> in, float* const* rows) const override {
    std::memcpy(rows[0], in[0].data, piece.size() * sizeof(float));
  }
  void Take(uint64_t begin, uint64_t count, const float* const* rows) override {
    EXPECT_EQ(begin, taken_);
    taken_ = begin + count;
    for (uint64_t i = 0; i < count; ++i) chain_ = chain_ * 31 + static_cast<uint32_t>(rows[0][i]);
  }
  bool EndStep(graph::FactValue* value) override {
    EXPECT_EQ(taken_, num_elements());
    taken_ = 0;
    value->push_back(chain_);
    return ++steps_ == 2;
  }

  uint64_t taken_ = 0;
  uint32_t chain_ = 7;
  int steps_ = 0;
};

class ChainFact final : public graph::Fact {
 public:
  explicit ChainFact(const graph::Node* x) : Fact("chain", {x}) {}
  int max_passes() const override { return InOrderFold::MaxPasses(num_elements(), 2); }
  uint64_t StateBytes(int num_workers) const override {
    return InOrderFold::StateBytes(num_elements(), 1, num_workers);
  }
  double NanosecondsPerElement() const override { return 1; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override {
    return std::make_unique<ChainFold>(num_elements(), num_workers);
  }
};

TEST(InOrderFold, TakesAllInOrderHoweverBlocksCome) {
  for (const uint64_t n : {uint64_t{0}, uint64_t{5}, graph::kBlockElements, 40 * graph::kBlockElements + 77}) {
    graph::Graph graph;
    std::vector<float> numbers(n);
    std::iota(numbers.begin(), numbers.end(), 0.0f);
    const graph::Node* x = tests::AddFloats(&graph, numbers);
    std::vector<double> expected;
    uint32_t chain = 7;
    for (int step = 0; step < 2; ++step) {
      for (const float number : numbers) chain = chain * 31 + static_cast<uint32_t>(number);
      expected.push_back(chain);
    }
    for (const bool backwards : {false, true}) {
      for (const int threads : {1, 3}) {
        tests::NodeRunner runner({.threads = threads, .backwards = backwards});
        EXPECT_EQ(runner.Fold(ChainFact(x)), expected) << n << backwards << threads;
        if (!backwards && threads == 1) EXPECT_LE(runner.passes(), 2);  // one for each step
      }
    }
  }
}

}  // namespace
}  // namespace sluice::arithmetic
