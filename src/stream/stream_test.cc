#include "stream/stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <random>

#include "base/testing/sanitizers.h"
#include "base/units.h"
#include "graph/row_range.h"
#include "io/recording_source.h"
#include "kernels/convert.h"
#include "stream/sink.h"
#include "stream/testing/memory_model.h"

namespace sluice::stream {
namespace {

using graph::FactValue;
using graph::Node;
using tests::Budget;
using tests::Collector;
using tests::FunctionGroups;
using tests::MemorySource;
using tests::Model;
using tests::Options;
using tests::TimesRead;

// A fact: the sum of a tensor in f64, over `passes` passes of which all but the last see every third block only.
class SumFact final : public graph::Fact {
 public:
  SumFact(const Node* x, int passes) : Fact("sum", {x}), passes_(passes) {}
  int max_passes() const override { return passes_; }
  uint64_t StateBytes(int) const override { return 8 * (num_elements() / graph::kBlockElements + 1); }
  double NanosecondsPerElement() const override { return 1; }
  std::unique_ptr<graph::Fold> Begin(int) const override {
    class SumFold final : public graph::Fold {
     public:
      SumFold(uint64_t blocks, int passes) : sums_(blocks), passes_left_(passes) {}
      bool Wants(uint64_t block) const override { return passes_left_ == 1 || block % 3 == 0; }
      void Add(int, Range piece, std::span<const View> in) override {
        ASSERT_TRUE(Wants(piece.begin / graph::kBlockElements));
        ASSERT_EQ(in[0].range, piece);
        for (uint64_t i = 0; i < piece.size(); ++i) {
          float value;
          std::memcpy(&value, in[0].data + 4 * i, 4);
          sums_[piece.begin / graph::kBlockElements] += static_cast<double>(value);
        }
      }
      bool Finish(FactValue* value) override {
        *value = {std::accumulate(sums_.begin(), sums_.end(), 0.0)};
        std::fill(sums_.begin(), sums_.end(), 0.0);
        return --passes_left_ == 0;
      }

     private:
      std::vector<double> sums_;
      int passes_left_;
    };
    return std::make_unique<SumFold>((num_elements() + graph::kBlockElements - 1) / graph::kBlockElements, passes_);
  }

 private:
  int passes_;
};

// out = x + y / sum(x)
class ScaleNode final : public Node {
 public:
  ScaleNode(const Node* x, const Node* y, int passes) : Node("scale", quant::F32(), x->num_elements(), {x, y}) {
    AddFact(std::make_unique<SumFact>(x, passes));
  }
  void Compute(const graph::ComputeArgs& args) const override {
    const double sum = args.facts[0]->at(0);
    for (uint64_t i = 0; i < args.range.size(); ++i) {
      float x, y;
      std::memcpy(&x, args.in[0].data + 4 * i, 4);
      std::memcpy(&y, args.in[1].data + 4 * i, 4);
      const float out = static_cast<float>(x + y / sum);
      std::memcpy(args.out + 4 * i, &out, 4);
    }
  }
  double NanosecondsPerElement() const override { return 1; }
};

const std::vector<uint64_t> kSizes = {5, 70000, 65536 * 7 + 12345, 0, 1, 65536, 3 * 65536, 999, 65536 * 5 + 32};

TEST(Stream, StoredTensorsComeWholeInOrderAndAreReadOnce) {
  const Model model(kSizes, 1);
  const FunctionGroups groups(
      kSizes.size(), [&](size_t i, graph::Graph* graph) { return std::vector<const Node*>{model.Add(i, graph)}; });
  for (const int threads : {1, 3}) {
    model.source->Clear();
    MemoryBudget budget = Budget(64 * kMiB);
    auto stream = Stream::Open(groups, Options(&budget, threads));
    ASSERT_TRUE(stream) << stream.error().ToString();
    EXPECT_EQ((*stream)->plan().payload_bytes, model.bytes());
    EXPECT_EQ((*stream)->plan().read_bytes, model.bytes());
    Collector collector;
    Sink* sinks[] = {&collector};
    ASSERT_TRUE(Pump(**stream, sinks));
    ASSERT_EQ(collector.order.size(), kSizes.size());
    for (uint32_t i = 0; i < kSizes.size(); ++i) {
      EXPECT_EQ(collector.order[i], i);
      ASSERT_EQ(collector.data[i][0].size(), kSizes[i]);
      for (uint64_t k = 0; k < kSizes[i]; ++k) ASSERT_EQ(collector.data[i][0][k], model.Value(i, k)) << i << " " << k;
    }
    EXPECT_EQ((*stream)->stats().payload_bytes, model.bytes());
    EXPECT_EQ(TimesRead(model), std::vector<int>{1});
    EXPECT_EQ((*stream)->stats().out_bytes, model.bytes());
  }
}

// Values do not depend on budget, threads, passes or what is held; reads do as the plan says.
TEST(Stream, FactsAreFoldedBeforeValuesAtAnyBudgetAndThreadCount) {
  for (const int passes : {1, 2, 3}) {
    std::map<uint32_t, std::vector<std::vector<float>>> expected;
    for (const uint64_t working : {8 * kMiB, 12 * kMiB, 64 * kMiB}) {
      for (const int threads : {1, 2, 4}) {
        for (const bool hold : {false, true}) {
          const Model x(kSizes, 2), y(kSizes, 3);
          const FunctionGroups groups(kSizes.size(), [&](size_t i, graph::Graph* graph) {
            return std::vector<const Node*>{
                graph->Add(std::make_unique<ScaleNode>(x.Add(i, graph), y.Add(i, graph), passes))};
          });
          MemoryBudget budget = Budget(working + tests::kShadowBytes);
          StreamOptions options = Options(&budget, threads);
          options.hold = hold ? Hold::kAlways : Hold::kNever;
          auto stream = Stream::Open(groups, options);
          ASSERT_TRUE(stream) << stream.error().ToString();
          Collector collector;
          Sink* sinks[] = {&collector};
          const auto pumped = Pump(**stream, sinks);
          ASSERT_TRUE(pumped) << pumped.error().ToString();
          if (expected.empty()) {
            for (uint32_t i = 0; i < kSizes.size(); ++i) {
              double sum = 0;  // in blocks, as the fold sums
              for (uint64_t begin = 0; begin < kSizes[i]; begin += graph::kBlockElements) {
                double block = 0;
                for (uint64_t k = begin; k < std::min(begin + graph::kBlockElements, kSizes[i]); ++k)
                  block += x.Value(i, k);
                sum += block;
              }
              auto& out = expected[i].emplace_back();
              for (uint64_t k = 0; k < kSizes[i]; ++k)
                out.push_back(static_cast<float>(x.Value(i, k) + y.Value(i, k) / sum));
            }
          }
          EXPECT_EQ(collector.data, expected) << passes << " passes, " << threads << " threads, " << working;
          if (hold && working == 64 * kMiB) {
            EXPECT_EQ(TimesRead(x), std::vector<int>{1});
            EXPECT_EQ(TimesRead(y), std::vector<int>{1});
          }
          if (!hold && passes == 1) {
            EXPECT_EQ(TimesRead(x),
                      (std::vector<int>{1, 2}));  // small tensors once, large ones for the fact and the values
            EXPECT_EQ(TimesRead(y), std::vector<int>{1});
          }
        }
      }
    }
  }
}

TEST(Stream, ASecondPassKnowsItsFactsAndReadsEachByteOnce) {
  const Model x(kSizes, 2), y(kSizes, 3);
  const FunctionGroups groups(kSizes.size(), [&](size_t i, graph::Graph* graph) {
    return std::vector<const Node*>{graph->Add(std::make_unique<ScaleNode>(x.Add(i, graph), y.Add(i, graph), 1))};
  });
  MemoryBudget budget = Budget(12 * kMiB);
  auto stream = Stream::Open(groups, Options(&budget));
  ASSERT_TRUE(stream);
  Collector first, second;
  Sink* first_sinks[] = {&first};
  Sink* second_sinks[] = {&second};
  ASSERT_TRUE(Pump(**stream, first_sinks));
  x.source->Clear();
  y.source->Clear();
  ASSERT_TRUE(Pump(**stream, second_sinks));
  EXPECT_EQ(first.data, second.data);
  EXPECT_EQ(TimesRead(x), std::vector<int>{1});
  EXPECT_EQ(TimesRead(y), std::vector<int>{1});
}

// A stream that is given another's facts folds nothing, and is planned so.
TEST(Stream, KnownFactsAreNotFoldedAgain) {
  const Model x(kSizes, 2), y(kSizes, 3);
  const FunctionGroups groups(kSizes.size(), [&](size_t i, graph::Graph* graph) {
    return std::vector<const Node*>{graph->Add(std::make_unique<ScaleNode>(x.Add(i, graph), y.Add(i, graph), 2))};
  });
  std::map<uint32_t, std::vector<std::vector<float>>> expected;
  graph::FactRecords facts;
  for (const bool known : {false, true}) {
    x.source->Clear();
    MemoryBudget budget = Budget(12 * kMiB);
    StreamOptions options = Options(&budget);
    options.known_facts = facts;
    options.hold = Hold::kNever;
    auto stream = Stream::Open(groups, options);
    ASSERT_TRUE(stream);
    EXPECT_EQ((*stream)->plan().fact_read_bytes == 0, known);
    Collector collector;
    Sink* sinks[] = {&collector};
    ASSERT_TRUE(Pump(**stream, sinks));
    if (!known) {
      expected = collector.data;
      facts = (*stream)->facts();
      EXPECT_GT((*stream)->stats().fact_passes, 0u);
    } else {
      EXPECT_EQ(collector.data, expected);
      EXPECT_EQ((*stream)->facts(), facts);
      EXPECT_EQ((*stream)->stats().fact_passes, 0u);
      EXPECT_EQ(TimesRead(x), std::vector<int>{1});
    }
  }
}

// A fact of many numbers (here: each block's sum) is gone with the group that needed it, but for its record.
class BlockSumsFact final : public graph::Fact {
 public:
  explicit BlockSumsFact(const Node* x) : Fact("block sums", {x}) {}
  uint64_t StateBytes(int) const override { return 8 * (num_elements() / graph::kBlockElements + 1); }
  double NanosecondsPerElement() const override { return 1; }
  std::unique_ptr<graph::Fold> Begin(int) const override {
    class BlockSums final : public graph::Fold {
     public:
      explicit BlockSums(uint64_t blocks) : sums_(blocks) {}
      void Add(int, Range piece, std::span<const View> in) override {
        for (uint64_t i = 0; i < piece.size(); ++i) {
          float value;
          std::memcpy(&value, in[0].data + 4 * i, 4);
          sums_[piece.begin / graph::kBlockElements] += static_cast<double>(value);
        }
      }
      bool Finish(FactValue* value) override {
        *value = sums_;
        return true;
      }

     private:
      std::vector<double> sums_;
    };
    return std::make_unique<BlockSums>((num_elements() + graph::kBlockElements - 1) / graph::kBlockElements);
  }
};

// out = x - the sum of its block.
class LessSumNode final : public Node {
 public:
  explicit LessSumNode(const Node* x) : Node("less sum", quant::F32(), x->num_elements(), {x}) {
    AddFact(std::make_unique<BlockSumsFact>(x));
  }
  void Compute(const graph::ComputeArgs& args) const override {
    const auto sum = static_cast<float>(args.facts[0]->at(args.range.begin / graph::kBlockElements));
    for (uint64_t i = 0; i < args.range.size(); ++i) {
      float x;
      std::memcpy(&x, args.in[0].data + 4 * i, 4);
      x -= sum;
      std::memcpy(args.out + 4 * i, &x, 4);
    }
  }
  double NanosecondsPerElement() const override { return 1; }
};

TEST(Stream, AFactOfManyNumbersIsRememberedByItsHashAndFoldedAgain) {
  const Model x({65536 * 70, 65536 * 2}, 2);  // of 70 numbers, and of two
  const FunctionGroups groups(2, [&](size_t i, graph::Graph* graph) {
    return std::vector<const Node*>{graph->Add(std::make_unique<LessSumNode>(x.Add(i, graph)))};
  });
  MemoryBudget budget = Budget(64 * kMiB + tests::kShadowBytes);
  auto stream = Stream::Open(groups, Options(&budget));
  ASSERT_TRUE(stream);
  Collector first, second;
  Sink* sinks[] = {&first};
  ASSERT_TRUE(Pump(**stream, sinks));
  EXPECT_EQ((*stream)->stats().fact_passes, 2u);
  const graph::FactRecords facts = (*stream)->facts();
  ASSERT_EQ(facts.size(), 2u);
  EXPECT_EQ(facts[0].second.has_value() + facts[1].second.has_value(), 1);
  sinks[0] = &second;
  ASSERT_TRUE(Pump(**stream, sinks));
  EXPECT_EQ((*stream)->stats().fact_passes, 3u);
  EXPECT_EQ(first.data, second.data);
  EXPECT_EQ((*stream)->facts(), facts);

  StreamOptions options = Options(&budget);  // another stream: what has no value is folded there
  options.known_facts = facts;
  stream->reset();
  stream = Stream::Open(groups, options);
  ASSERT_TRUE(stream);
  Collector third;
  sinks[0] = &third;
  ASSERT_TRUE(Pump(**stream, sinks));
  EXPECT_EQ((*stream)->stats().fact_passes, 1u);
  EXPECT_EQ(first.data, third.data);
}

// The same group twice in the queue, the second before the first one's facts can be known.
TEST(Stream, AGroupQueuedTwiceIsFoldedOnce) {
  const Model x({65536 * 4}, 2), y({65536 * 4}, 3);
  const FunctionGroups groups(1, [&](size_t i, graph::Graph* graph) {
    return std::vector<const Node*>{graph->Add(std::make_unique<ScaleNode>(x.Add(i, graph), y.Add(i, graph), 2))};
  });
  MemoryBudget budget = Budget(12 * kMiB);
  auto stream = Stream::Open(groups, Options(&budget));
  ASSERT_TRUE(stream);
  const std::vector<uint32_t> queue{0, 0, 0};
  (*stream)->Enqueue(queue);
  uint64_t elements = 0;
  for (;;) {
    auto lease = (*stream)->Next();
    ASSERT_TRUE(lease) << lease.error().ToString();
    if (!*lease) break;
    for (const Piece& piece : lease->pieces()) elements += piece.range.size();
  }
  EXPECT_EQ(elements, 3 * 65536 * 4u);
  EXPECT_EQ((*stream)->stats().fact_passes, 2u);
  EXPECT_EQ((*stream)->facts().size(), 1u);
}

TEST(Stream, OutsInLockstepShareTheirReads) {
  const Model x(kSizes, 4), y(kSizes, 5);
  const FunctionGroups groups(kSizes.size(), [&](size_t i, graph::Graph* graph) {
    const Node* a = graph->Add(std::make_unique<ScaleNode>(x.Add(i, graph), y.Add(i, graph), 1));
    const Node* b = graph->Add(std::make_unique<ScaleNode>(y.Add(i, graph), x.Add(i, graph), 1));
    return std::vector<const Node*>{a, b, x.Add(i, graph)};
  });
  MemoryBudget budget = Budget(256 * kMiB);
  auto stream = Stream::Open(groups, Options(&budget));
  ASSERT_TRUE(stream);
  Collector collector;
  Sink* sinks[] = {&collector};
  ASSERT_TRUE(Pump(**stream, sinks));
  EXPECT_EQ(TimesRead(x), std::vector<int>{1});
  EXPECT_EQ(TimesRead(y), std::vector<int>{1});
  for (uint64_t k = 0; k < kSizes[1]; ++k) ASSERT_EQ(collector.data[1][2][k], x.Value(1, k));
}

TEST(Stream, TwentyThousandSmallTensorsArePackedAndHardlyOverread) {
  const std::vector<uint64_t> sizes(20000, 37);
  const Model x(sizes, 6), y(sizes, 7);
  const FunctionGroups groups(sizes.size(), [&](size_t i, graph::Graph* graph) {
    return std::vector<const Node*>{graph->Add(std::make_unique<ScaleNode>(x.Add(i, graph), y.Add(i, graph), 2))};
  });
  MemoryBudget budget = Budget(1 * kGiB);  // not what is tested here, and sanitizers keep freed nodes
  auto stream = Stream::Open(groups, Options(&budget));
  ASSERT_TRUE(stream);
  Collector collector;
  Sink* sinks[] = {&collector};
  ASSERT_TRUE(Pump(**stream, sinks));
  EXPECT_EQ(collector.data.size(), sizes.size());
  const StreamStats stats = (*stream)->stats();
  EXPECT_EQ(stats.payload_bytes, 2 * x.bytes());
  EXPECT_LT(stats.moved_bytes, stats.payload_bytes * 12 / 10);
}

class HeadSwap final : public graph::RowMap {
 public:
  explicit HeadSwap(uint64_t rows) : rows_(rows) {}
  uint64_t SourceRow(uint64_t row) const override { return (row * 7 + 3) % rows_; }
  uint64_t num_rows() const override { return rows_; }

 private:
  uint64_t rows_;
};

TEST(Stream, RowsAreGatheredAcrossTheWholeTensor) {
  constexpr uint64_t kRows = 701, kColumns = 320;
  const Model x({kRows * kColumns}, 8);
  const FunctionGroups groups(1, [&](size_t i, graph::Graph* graph) {
    return std::vector<const Node*>{graph->Add(
        std::make_unique<graph::RowGatherNode>("swap", x.Add(i, graph), kColumns, std::make_shared<HeadSwap>(kRows)))};
  });
  MemoryBudget budget = Budget(64 * kMiB);
  auto stream = Stream::Open(groups, Options(&budget));
  ASSERT_TRUE(stream) << stream.error().ToString();
  Collector collector;
  Sink* sinks[] = {&collector};
  const auto pumped = Pump(**stream, sinks);
  ASSERT_TRUE(pumped) << pumped.error().ToString();
  const HeadSwap map(kRows);
  for (uint64_t row = 0; row < kRows; ++row) {
    for (uint64_t column = 0; column < kColumns; ++column) {
      ASSERT_EQ(collector.data[0][0][row * kColumns + column], x.Value(0, map.SourceRow(row) * kColumns + column));
    }
  }
}

// Each row of a piece is computed by itself then, however short: what one worker may take must be enough for all.
TEST(Stream, RowsOfComputedTensorsAreGathered) {
  for (const uint64_t columns : {1, 3, 31, 96, 576, 20000}) {
    const uint64_t rows = 60000 / columns + 2;
    const Model x({rows * columns}, 9);
    const FunctionGroups groups(1, [&](size_t i, graph::Graph* graph) {
      const auto gather = [&](const Node* from) {
        return graph->Add(
            std::make_unique<graph::RowGatherNode>("swap", from, columns, std::make_shared<HeadSwap>(rows)));
      };
      const Node* once = gather(graph->AddCast(x.Add(i, graph), quant::BF16()));
      const Node* twice = gather(graph->AddCast(once, quant::F16()));
      return std::vector<const Node*>{graph->AddCast(once, quant::F32()), graph->AddCast(twice, quant::F32())};
    });
    MemoryBudget budget = Budget(64 * kMiB + tests::kShadowBytes);
    auto stream = Stream::Open(groups, Options(&budget));
    ASSERT_TRUE(stream) << stream.error().ToString();
    Collector collector;
    Sink* sinks[] = {&collector};
    const auto pumped = Pump(**stream, sinks);
    ASSERT_TRUE(pumped) << pumped.error().ToString();
    const HeadSwap map(rows);
    const auto rounded = [&](uint64_t row, uint64_t column) {  // -1 to 1: f16 has all of bf16's bits but of the least
      uint8_t bytes[2];
      const float value = x.Value(0, row * columns + column);
      quant::BF16()->encode(&value, 1, bytes);
      float back;
      quant::BF16()->decode(bytes, 1, &back);
      return back;
    };
    for (uint64_t row = 0; row < rows; ++row) {
      for (uint64_t column = 0; column < columns; ++column) {
        const float once = rounded(map.SourceRow(row), column);
        const float twice = rounded(map.SourceRow(map.SourceRow(row)), column);
        ASSERT_EQ(collector.data[0][0][row * columns + column], once) << columns;
        ASSERT_NEAR(collector.data[0][1][row * columns + column], twice, 0x1p-25) << columns;
      }
    }
  }
}

// A recipe of recipes: the sum of a tensor that itself hangs on a sum.
TEST(Stream, FactsOfComputedTensorsWaitForTheFactsBelow) {
  for (const auto& [inner, outer] : std::vector<std::pair<int, int>>{{1, 1}, {3, 1}, {1, 2}, {2, 3}}) {
    std::map<uint32_t, std::vector<std::vector<float>>> expected;
    for (const uint64_t working : {12 * kMiB, 64 * kMiB}) {
      for (const int threads : {1, 3}) {
        for (const bool hold : {false, true}) {
          const Model x(kSizes, 2), y(kSizes, 3), z(kSizes, 4);
          const FunctionGroups groups(kSizes.size(), [&](size_t i, graph::Graph* graph) {
            const Node* below = graph->Add(std::make_unique<ScaleNode>(x.Add(i, graph), y.Add(i, graph), inner));
            const Node* above = graph->Add(std::make_unique<ScaleNode>(below, z.Add(i, graph), outer));
            return std::vector<const Node*>{graph->Add(std::make_unique<ScaleNode>(above, below, 1))};
          });
          MemoryBudget budget = Budget(working + tests::kShadowBytes);
          StreamOptions options = Options(&budget, threads);
          options.hold = hold ? Hold::kAlways : Hold::kNever;
          auto stream = Stream::Open(groups, options);
          ASSERT_TRUE(stream) << stream.error().ToString();
          Collector collector;
          Sink* sinks[] = {&collector};
          const auto pumped = Pump(**stream, sinks);
          ASSERT_TRUE(pumped) << pumped.error().ToString();
          if (expected.empty()) {
            const auto sum_of = [](const std::vector<float>& values) {
              double sum = 0;  // in blocks, as the fold sums
              for (uint64_t begin = 0; begin < values.size(); begin += graph::kBlockElements) {
                double block = 0;
                for (uint64_t k = begin; k < std::min<uint64_t>(begin + graph::kBlockElements, values.size()); ++k)
                  block += static_cast<double>(values[k]);
                sum += block;
              }
              return sum;
            };
            const auto scaled = [&](const std::vector<float>& values, const std::vector<float>& others) {
              const double sum = sum_of(values);
              std::vector<float> out;
              for (uint64_t k = 0; k < values.size(); ++k)
                out.push_back(static_cast<float>(values[k] + others[k] / sum));
              return out;
            };
            for (uint32_t i = 0; i < kSizes.size(); ++i) {
              const auto values = [&](const Model& model) {
                std::vector<float> all;
                for (uint64_t k = 0; k < kSizes[i]; ++k) all.push_back(model.Value(i, k));
                return all;
              };
              const std::vector<float> below = scaled(values(x), values(y));
              expected[i].push_back(scaled(scaled(below, values(z)), below));
            }
          }
          EXPECT_EQ(collector.data, expected) << inner << ", " << outer << " passes, " << threads << " threads";
          if (hold && working == 64 * kMiB) EXPECT_EQ(TimesRead(x), std::vector<int>{1});
        }
      }
    }
  }
}

// Facts of tensors of several sizes in one group: rows are gathered from a computed tensor, and summed.
TEST(Stream, FactsOfPartsWaitForTheFactsOfTheWhole) {
  constexpr uint64_t kRows = 3000, kColumns = 96, kFirst = 1000, kCount = 1500;
  std::vector<std::vector<float>> expected;
  for (const int passes : {1, 3}) {
    for (const int threads : {1, 3}) {
      const Model x({kRows * kColumns}, 2), y({kRows * kColumns}, 3), z({kCount * kColumns}, 4);
      const FunctionGroups groups(1, [&](size_t, graph::Graph* graph) {
        const Node* whole = graph->Add(std::make_unique<ScaleNode>(x.Add(0, graph), y.Add(0, graph), passes));
        const Node* part = graph->Add(std::make_unique<graph::RowGatherNode>(
            "part", whole, kColumns, std::make_shared<graph::RowRange>(kFirst, kCount)));
        return std::vector<const Node*>{graph->Add(std::make_unique<ScaleNode>(part, z.Add(0, graph), passes))};
      });
      MemoryBudget budget = Budget(16 * kMiB + tests::kShadowBytes);
      auto stream = Stream::Open(groups, Options(&budget, threads));
      ASSERT_TRUE(stream) << stream.error().ToString();
      Collector collector;
      Sink* sinks[] = {&collector};
      const auto pumped = Pump(**stream, sinks);
      ASSERT_TRUE(pumped) << pumped.error().ToString();
      std::map<std::string, double> sums;
      for (const auto& [key, fact] : (*stream)->facts()) sums[std::to_string(key.hi)] = fact.numbers[0];
      EXPECT_EQ(sums.size(), 2u);
      ASSERT_EQ(collector.data[0][0].size(), kCount * kColumns);
      if (expected.empty()) expected = collector.data[0];
      EXPECT_EQ(collector.data[0], expected) << passes << " " << threads;
    }
  }
  // And it is the formula, but for the order of sums: of numbers up to 2 over a sum of some hundreds.
  const Model x({kRows * kColumns}, 2), y({kRows * kColumns}, 3), z({kCount * kColumns}, 4);
  double sum = 0, part_sum = 0;
  for (uint64_t k = 0; k < kRows * kColumns; ++k) sum += static_cast<double>(x.Value(0, k));
  std::vector<float> part;
  for (uint64_t k = 0; k < kCount * kColumns; ++k) {
    part.push_back(static_cast<float>(x.Value(0, k + kFirst * kColumns) + y.Value(0, k + kFirst * kColumns) / sum));
    part_sum += static_cast<double>(part.back());
  }
  for (uint64_t k = 0; k < part.size(); ++k) {
    ASSERT_NEAR(expected[0][k], part[k] + z.Value(0, k) / part_sum, 1e-6) << k;
  }
}

// A part of a computed tensor has the values that it has in the whole, though its facts are of the whole.
TEST(Stream, PartsOfATensorNeedFactsOfAllOfIt) {
  constexpr uint64_t kRows = 3000, kColumns = 96;
  const std::vector<std::pair<uint64_t, uint64_t>> parts = {{64, 64}, {0, 1024}, {1024, 1024}, {2048, 952}, {0, 3000}};
  for (const int passes : {1, 3}) {
    const Model x({kRows * kColumns}, 2), y({kRows * kColumns}, 3);
    const auto build = [&](graph::Graph* graph) {
      return graph->Add(std::make_unique<ScaleNode>(x.Add(0, graph), y.Add(0, graph), passes));
    };
    const FunctionGroups whole(1, [&](size_t, graph::Graph* graph) { return std::vector<const Node*>{build(graph)}; });
    const FunctionGroups sliced(parts.size(), [&](size_t i, graph::Graph* graph) {
      return std::vector<const Node*>{graph->Add(
          std::make_unique<graph::RowGatherNode>("from " + std::to_string(parts[i].first), build(graph), kColumns,
                                                 std::make_shared<graph::RowRange>(parts[i].first, parts[i].second)))};
    });
    Collector of_whole, of_parts;
    for (const auto& [groups, collector] : {std::pair<const FunctionGroups*, Collector*>{&whole, &of_whole},
                                            std::pair<const FunctionGroups*, Collector*>{&sliced, &of_parts}}) {
      MemoryBudget budget = Budget(16 * kMiB);
      auto stream = Stream::Open(*groups, Options(&budget, 2));
      ASSERT_TRUE(stream) << stream.error().ToString();
      Sink* sinks[] = {collector};
      const auto pumped = Pump(**stream, sinks);
      ASSERT_TRUE(pumped) << pumped.error().ToString();
      EXPECT_EQ((*stream)->facts().size(), 1u);
    }
    const std::vector<float>& expected = of_whole.data[0][0];
    for (uint32_t i = 0; i < parts.size(); ++i) {
      const auto begin = expected.begin() + static_cast<ptrdiff_t>(parts[i].first * kColumns);
      const std::vector<float> part(begin, begin + static_cast<ptrdiff_t>(parts[i].second * kColumns));
      EXPECT_EQ(of_parts.data[i][0], part) << i << ", " << passes << " passes";
    }
  }
}

TEST(Stream, ABudgetTooSmallNamesTheSmallestThatDoes) {
  const Model x(kSizes, 2), y(kSizes, 3);
  const FunctionGroups groups(kSizes.size(), [&](size_t i, graph::Graph* graph) {
    return std::vector<const Node*>{graph->Add(std::make_unique<ScaleNode>(x.Add(i, graph), y.Add(i, graph), 1))};
  });
  MemoryBudget tiny(1'000'000);
  auto refused = Stream::Open(groups, Options(&tiny));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kBudget);
  const std::string message = refused.error().ToString();
  const size_t at = message.rfind("--max-memory ");
  ASSERT_NE(at, std::string::npos) << message;
  const auto smallest = ParseSize(message.substr(at + 13, message.find(' ', at + 13) - at - 13));
  ASSERT_TRUE(smallest) << message;
  MemoryBudget enough(*smallest + 2 * kMiB);  // this process may have grown a little since
  auto stream = Stream::Open(groups, Options(&enough));
  ASSERT_TRUE(stream) << stream.error().ToString();
  Collector collector;
  Sink* sinks[] = {&collector};
  EXPECT_TRUE(Pump(**stream, sinks));
  EXPECT_LE(enough.peak_bytes(), enough.limit_bytes());
}

TEST(Stream, AConsumerThatHoldsMoreThanItSaidIsToldSo) {
  const Model model({65536 * 400}, 1);
  const FunctionGroups groups(
      1, [&](size_t i, graph::Graph* graph) { return std::vector<const Node*>{model.Add(i, graph)}; });
  MemoryBudget budget = Budget(8 * kMiB + tests::kShadowBytes);
  auto stream = Stream::Open(groups, Options(&budget));
  ASSERT_TRUE(stream);
  (*stream)->EnqueueAll();
  std::vector<Lease> held;
  for (;;) {
    auto lease = (*stream)->Next();
    if (!lease) {
      EXPECT_EQ(lease.error().code, ErrorCode::kBudget);
      break;
    }
    ASSERT_TRUE(*lease) << "held the whole tensor in a budget that cannot";
    held.push_back(std::move(*lease));
  }
  held.clear();
}

TEST(Stream, WhatWasAnnouncedCanBeHeld) {
  const Model model({65536 * 40}, 1);
  const FunctionGroups groups(
      1, [&](size_t i, graph::Graph* graph) { return std::vector<const Node*>{model.Add(i, graph)}; });
  MemoryBudget budget = Budget(48 * kMiB);
  StreamOptions options = Options(&budget);
  options.wants.held_bytes = model.bytes();
  auto stream = Stream::Open(groups, options);
  ASSERT_TRUE(stream) << stream.error().ToString();
  (*stream)->EnqueueAll();
  std::vector<Lease> held;
  for (;;) {
    auto lease = (*stream)->Next();
    ASSERT_TRUE(lease) << lease.error().ToString();
    if (!*lease) break;
    held.push_back(std::move(*lease));
  }
  uint64_t k = 0;
  for (const Lease& lease : held) {
    for (const Piece& piece : lease.pieces()) {
      for (uint64_t i = 0; i < piece.range.size(); ++i, ++k) {
        float value;
        std::memcpy(&value, piece.views[0].data + 4 * i, 4);
        ASSERT_EQ(value, model.Value(0, k));
      }
    }
  }
  EXPECT_EQ(k, model.counts[0]);
}

TEST(Stream, AReadErrorComesInOrderAndNamesTheTensor) {
  const Model model({65536 * 40}, 1);
  model.memory->FailFrom(4 * 65536 * 20);
  const FunctionGroups groups(
      1, [&](size_t i, graph::Graph* graph) { return std::vector<const Node*>{model.Add(i, graph)}; });
  MemoryBudget budget = Budget(32 * kMiB);
  auto stream = Stream::Open(groups, Options(&budget));
  ASSERT_TRUE(stream);
  (*stream)->EnqueueAll();
  uint64_t tiles = 0;
  for (;;) {
    auto lease = (*stream)->Next();
    if (!lease) {
      EXPECT_EQ(lease.error().code, ErrorCode::kRead);
      EXPECT_NE(lease.error().ToString().find("tensor 0"), std::string::npos) << lease.error().ToString();
      break;
    }
    ASSERT_TRUE(*lease);
    ++tiles;
  }
  EXPECT_GE(tiles, 18u);  // all that lie before the bad place
  EXPECT_LE(tiles, 20u);
}

TEST(Stream, AReadErrorOfSmallTensorsNamesTheOneThatWasRead) {
  const Model good({100, 200}, 1), bad({100}, 2);
  bad.memory->FailFrom(0);
  const FunctionGroups groups(3, [&](size_t i, graph::Graph* graph) {
    return std::vector<const Node*>{i == 1 ? bad.Add(0, graph) : good.Add(i / 2, graph)};
  });
  MemoryBudget budget = Budget(32 * kMiB);
  auto stream = Stream::Open(groups, Options(&budget));
  ASSERT_TRUE(stream);
  (*stream)->EnqueueAll();  // one job for all
  const auto lease = (*stream)->Next();
  ASSERT_FALSE(lease);
  EXPECT_EQ(lease.error().code, ErrorCode::kRead);
  EXPECT_NE(lease.error().ToString().find("tensor 1"), std::string::npos) << lease.error().ToString();
}

// A tensor without elements needs no read: what was read before it is not looked at again.
TEST(Stream, ATensorWithoutElementsComesAfterOneThatWasRead) {
  const Model model({65536, 0}, 1);
  model.memory->Delay(3000);
  const FunctionGroups groups(
      2, [&](size_t i, graph::Graph* graph) { return std::vector<const Node*>{model.Add(i, graph)}; });
  MemoryBudget budget = Budget(32 * kMiB);
  StreamOptions options = Options(&budget);
  options.reader = io::ReaderKind::kThreads;
  auto stream = Stream::Open(groups, options);
  ASSERT_TRUE(stream);
  for (const uint32_t group : {0, 1, 0, 1, 0, 1}) {
    const uint32_t batch[] = {group};
    (*stream)->Enqueue(batch);
    auto lease = (*stream)->Next();
    ASSERT_TRUE(lease) << lease.error().ToString();
    ASSERT_TRUE(*lease);
    EXPECT_EQ(lease->pieces()[0].range.size(), model.counts[group]);
  }
}

TEST(Stream, CancellingEndsIt) {
  const Model model({65536 * 40}, 1);
  const FunctionGroups groups(
      1, [&](size_t i, graph::Graph* graph) { return std::vector<const Node*>{model.Add(i, graph)}; });
  MemoryBudget budget = Budget(32 * kMiB);
  std::atomic<bool> cancelled = false;
  StreamOptions options = Options(&budget);
  options.cancelled = &cancelled;
  auto stream = Stream::Open(groups, options);
  ASSERT_TRUE(stream);
  (*stream)->EnqueueAll();
  ASSERT_TRUE((*stream)->Next());
  cancelled = true;
  auto lease = (*stream)->Next();
  ASSERT_FALSE(lease);
  EXPECT_EQ(lease.error().code, ErrorCode::kCancelled);
}

TEST(Stream, PostedWorkKeepsItsLease) {
  const Model model({65536 * 40}, 1);
  const FunctionGroups groups(
      1, [&](size_t i, graph::Graph* graph) { return std::vector<const Node*>{model.Add(i, graph)}; });
  MemoryBudget budget = Budget(8 * kMiB + tests::kShadowBytes);
  auto stream = Stream::Open(groups, Options(&budget));
  ASSERT_TRUE(stream);
  (*stream)->EnqueueAll();
  std::atomic<uint64_t> wrong = 0, seen = 0;
  for (;;) {
    auto lease = (*stream)->Next();
    ASSERT_TRUE(lease) << lease.error().ToString();
    if (!*lease) break;
    const Piece piece = lease->pieces()[0];
    const View view = piece.views[0];
    (*stream)->Post(std::move(*lease), [&, view](int worker) {
      EXPECT_LT(worker, 2);
      for (uint64_t i = 0; i < view.range.size(); ++i, ++seen) {
        float value;
        std::memcpy(&value, view.data + 4 * i, 4);
        wrong += value != model.Value(0, view.range.begin + i);
      }
    });
  }
  (*stream)->WaitForPosted();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(seen, model.counts[0]);
}

}  // namespace
}  // namespace sluice::stream
