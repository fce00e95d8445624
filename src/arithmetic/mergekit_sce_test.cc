#include "arithmetic/mergekit_sce.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "arithmetic/testing/node_runner.h"
#include "arithmetic/testing/torch_numbers.h"

namespace sluice::arithmetic {
namespace {

using tests::kTorchTypes;
using tests::TorchDigest;
using tests::TorchModel;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Of tools/goldens/torch_tables.py variance.
struct VarianceCase {
  uint64_t count, models;
  const char* digests[3];
};
constexpr VarianceCase kVariances[] = {
    {1000, 1, {"fc19b19971194257", "fc19b19971194257", "fc19b19971194257"}},
    {1000, 2, {"5510260cee195170", "e88a8ab166f274c5", "c8879b343b70849e"}},
    {70001, 3, {"de274e1acbb197d9", "d8e68d3c2db62e53", "fd6171966a30cd1c"}},
    {5000, 5, {"a0c44835773ead6a", "28501d82fb9c1a6c", "3114367a16b1724d"}},
    {5000, 8, {"2b653ca0984943fc", "6f7a9d7eb0981893", "82e06568175f731b"}},
};

// What mergekit 0.1.4 makes, by tools/goldens/torch_tables.py sce; where it keeps no position of several
// models, which gives it one dimension too many, the first of the copies.
struct Case {
  std::vector<uint64_t> shape;
  uint64_t models;
  double select_topk;
  const char* digests[3];
};
const Case kCases[] = {
    {{1000}, 1, 1.0, {"6e71a4266784c218", "3a27d3e7ea23617f", "a8d621663952c138"}},
    {{97, 88}, 3, 1.0, {"b33bd3b2aaea75bb", "a020838e0d5971cf", "2ff4d09662b92807"}},
    {{97, 88}, 3, 0.3, {"f46823ef60688b3a", "12087d5526f58b7d", "8e1178fe787c8844"}},
    {{97, 88}, 3, 0.01, {"da5a6454a592398d", "314533de1cf8701c", "373d7adfaecf5f1c"}},
    {{97, 88}, 3, 0.0, {"50d68e907f117c95", "77cecb857f87fc48", "361015f56f09f5e3"}},
    {{97, 88}, 1, 0.5, {"50d68e907f117c95", "77cecb857f87fc48", "361015f56f09f5e3"}},
    {{97, 88}, 3, 1e-06, {"50d68e907f117c95", "77cecb857f87fc48", "361015f56f09f5e3"}},
    {{300, 1000}, 5, 0.5, {"f14c1005e043421a", "8bdc7598b818deb3", "bf467766c349b10f"}},
    {{2, 3, 50}, 6, 0.7, {"66b427d242ff3a58", "fa45e9693d9200d5", "7799aa66fab54292"}},
    {{70001}, 2, 0.999, {"cace1b2981aca564", "89bcc00b574174b3", "20e0758629c5c418"}},
};

TEST(TorchVariance, IsTorchs) {
  for (const VarianceCase& of : kVariances) {
    for (int t = 0; t < 3; ++t) {
      graph::Graph graph;
      std::vector<const graph::Node*> inputs;
      for (uint64_t m = 0; m < of.models; ++m) {
        inputs.push_back(tests::AddFloats(&graph, tests::TorchNumbers(kTorchTypes[t], of.count, of.count + m)));
      }
      const graph::Node* variance = AddTorchVariance(&graph, kTorchTypes[t], inputs);
      EXPECT_EQ(TorchDigest(tests::NodeRunner().RunF32(variance)), of.digests[t])
          << of.count << " elements, " << of.models << " models, type " << t;
    }
  }
}

TEST(MergekitSce, HasMergekitsBits) {
  for (const Case& of : kCases) {
    const uint64_t count = tests::NumElements(of.shape);
    for (int t = 0; t < 3; ++t) {
      std::vector<std::vector<float>> models;
      for (uint64_t m = 0; m <= of.models; ++m) models.push_back(TorchModel(kTorchTypes[t], count, m));
      for (const tests::RunOptions& way : tests::kTorchWays) {
        graph::Graph graph;
        std::vector<const graph::Node*> x;
        for (uint64_t m = 1; m <= of.models; ++m) x.push_back(tests::AddFloats(&graph, models[m]));
        const graph::Node* merged =
            AddMergekitSce(&graph, kTorchTypes[t], of.select_topk, tests::AddFloats(&graph, models[0]), x);
        EXPECT_EQ(TorchDigest(tests::NodeRunner(way).RunF32(merged)), of.digests[t])
            << count << " elements, " << of.models << " models, topk " << of.select_topk << ", type " << t;
      }
    }
  }
}

// Equal models: no variance, nothing to select; all weigh the same.
TEST(MergekitSce, LeavesTheBaseWhereNothingVaries) {
  for (const double select_topk : {0.0, 0.5}) {
    graph::Graph graph;
    const std::vector<float> base = {1, -2, 3}, x = {2, -2, 1};
    const graph::Node* merged = AddMergekitSce(&graph, WorkingType::kBf16, select_topk, tests::AddFloats(&graph, base),
                                               {tests::AddFloats(&graph, x), tests::AddFloats(&graph, x)});
    EXPECT_EQ(tests::NodeRunner().RunF32(merged), base);
  }
}

TEST(MergekitSce, NanStaysNan) {
  graph::Graph graph;
  const graph::Node* merged = AddMergekitSce(&graph, WorkingType::kF32, 1, tests::AddFloats(&graph, {1, 2}),
                                             {tests::AddFloats(&graph, {kNan, 3}), tests::AddFloats(&graph, {1, 4})});
  EXPECT_TRUE(std::isnan(tests::NodeRunner().RunF32(merged)[0]));
}

}  // namespace
}  // namespace sluice::arithmetic
