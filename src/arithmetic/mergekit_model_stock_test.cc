#include "arithmetic/mergekit_model_stock.h"

#include <cmath>

#include <gtest/gtest.h>

#include "arithmetic/testing/node_runner.h"
#include "arithmetic/testing/torch_numbers.h"

namespace sluice::arithmetic {
namespace {

using tests::kTorchTypes;
using tests::TorchDigest;
using tests::TorchModel;

// What mergekit 0.1.4 makes, by tools/goldens/torch_tables.py model_stock: whole tensors within one window and over
// several (the last), rows within blocks and over them, more than four pairs of models.
struct Case {
  std::vector<uint64_t> shape;
  uint64_t models;
  bool filter_wise;
  const char* digests[3];
};
const Case kCases[] = {
    {{70001}, 2, false, {"e6d85d5616843ec5", "fd3b380109750699", "a857c98230c3227b"}},
    {{300, 1000}, 3, false, {"a2134f5fbb0ef78b", "623f1c8dde14e6ec", "6e3f0efcfcecd1ba"}},
    {{300, 1000}, 5, false, {"fc1b84b6a2f24c27", "6c30eb03a1d7494c", "67bac823a527cc3f"}},
    {{97, 88}, 2, true, {"50740f57ac0de117", "9c00e7c59c05d854", "c8f9a20538c2c2b1"}},
    {{97, 88}, 5, true, {"99afe6ec162f3aab", "5dccc15815c8e25c", "ebe20ff95bef84aa"}},
    {{33, 5000}, 4, true, {"4343329f18a9f008", "b21c9b9e4ec831bc", "51fa58c3ee86c128"}},
    {{3, 70000}, 2, true, {"d11f6b3609e393a0", "ee89b73fa5e8b642", "091ec13021bb0fe0"}},
    {{1000}, 3, true, {"131555ba7148f5a9", "589d355c44578039", "905880504f7e29ac"}},
    {{40, 1}, 5, true, {"7c58c6f23e1ecf29", "2e441b183ea7af7c", "39181c3f20b8d078"}},
    {{2, 3, 50}, 2, true, {"1e295457ae7165a3", "7f81c4fbe9c90a5d", "143031817625d2c2"}},
    {{3000011}, 3, false, {"24e7441367904b87", "2ed1f2e50a7d12db", "47c336a605726603"}},
};

TEST(MergekitModelStock, HasMergekitsBits) {
  for (const Case& of : kCases) {
    const uint64_t count = tests::NumElements(of.shape);
    for (int t = 0; t < 3; ++t) {
      std::vector<std::vector<float>> models;
      for (uint64_t m = 0; m <= of.models; ++m) models.push_back(TorchModel(kTorchTypes[t], count, m));
      for (const tests::RunOptions& way : tests::kTorchWays) {
        graph::Graph graph;
        std::vector<const graph::Node*> x;
        for (uint64_t m = 1; m <= of.models; ++m) x.push_back(tests::AddFloats(&graph, models[m]));
        const Vectors vectors = of.filter_wise ? Vectors::Rows(of.shape) : Vectors::Whole(count);
        const graph::Node* merged =
            AddMergekitModelStock(&graph, kTorchTypes[t], vectors, tests::AddFloats(&graph, models[0]), x);
        EXPECT_EQ(TorchDigest(tests::NodeRunner(way).RunF32(merged)), of.digests[t])
            << count << " elements, " << of.models << " models, type " << t;
      }
    }
  }
}

// Of the norms' chain no block is read twice.
TEST(StockFact, ReadsTheTensorOnceInWindows) {
  constexpr uint64_t kCount = 3000011;  // 46 blocks; of three models 42 are a window
  graph::Graph graph;
  std::vector<const graph::Node*> deltas;
  for (uint64_t m = 1; m <= 3; ++m) {
    deltas.push_back(tests::AddFloats(&graph, TorchModel(WorkingType::kF32, kCount, m)));
  }
  const StockFact fact(WorkingType::kF32, Vectors::Whole(kCount), deltas);
  tests::NodeRunner runner;
  runner.Fold(fact);
  EXPECT_EQ(fact.max_passes(), 2);
  EXPECT_EQ(runner.passes(), 2);
  EXPECT_EQ(runner.blocks_read(), 46u);
}

// mergekit divides by zero where the models' differences add up to nothing: 1 + (N - 1) cos = 0.
TEST(MergekitModelStock, IsNanWhereDifferencesAreOpposite) {
  graph::Graph graph;
  const graph::Node* base = tests::AddFloats(&graph, {1, 2, 3});
  const std::vector<const graph::Node*> x = {tests::AddFloats(&graph, {2, 2, 3}), tests::AddFloats(&graph, {0, 2, 3})};
  const graph::Node* merged = AddMergekitModelStock(&graph, WorkingType::kF32, Vectors::Whole(3), base, x);
  for (const float value : tests::NodeRunner().RunF32(merged)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace sluice::arithmetic
