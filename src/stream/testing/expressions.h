// Tensors that are computed from others, by nodes with facts over any of them: built as nodes, and computed plainly.
// For tests of the stream.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "stream/testing/memory_model.h"

namespace sluice::tests {

using graph::FactValue;
using graph::Range;
using graph::View;

constexpr uint64_t kBlock = graph::kBlockElements;

// A fact: an integer hash of every element that it is to see, and of its place, in each of its passes.

struct FactKind {
  int passes = 1, most_passes = 1;
  int every = 1;  // all passes but the last look at each so-manieth block only
  auto operator<=>(const FactKind&) const = default;
  bool Wants(int pass, uint64_t block, uint64_t num_blocks) const {
    if (pass + 1 >= passes || every == 1) return true;
    return every == 0 ? block + 1 == num_blocks : block % static_cast<uint64_t>(every) == 0;
  }
  std::string Describe() const {
    return std::to_string(passes) + " of " + std::to_string(most_passes) + " every " + std::to_string(every);
  }
};

inline uint64_t Hash(const uint8_t* floats, Range range, uint64_t input) {
  uint64_t hash = 0;
  for (uint64_t i = range.begin; i < range.end; ++i) {
    uint32_t bits;
    std::memcpy(&bits, floats + 4 * (i - range.begin), 4);
    hash += bits * (2 * i + 1) * (input + 1);
  }
  return hash;
}

inline uint64_t AfterPass(uint64_t state, uint64_t hash) { return (state * 31 + hash) ^ (hash >> 29); }
inline double ValueOf(uint64_t state) { return static_cast<double>(state >> 11); }
// What a node multiplies by.
inline float FactorOf(double value) { return 1 + static_cast<float>(static_cast<uint64_t>(value) % 1024) / 1024; }

class HashFact final : public graph::Fact {
 public:
  HashFact(std::vector<const Node*> inputs, FactKind kind)
      : Fact("hash " + kind.Describe(), std::move(inputs)), kind_(kind) {}
  int max_passes() const override { return kind_.most_passes; }
  uint64_t StateBytes(int) const override { return 16 * (num_elements() / kBlock + 1); }
  double NanosecondsPerElement() const override { return 1; }
  std::unique_ptr<graph::Fold> Begin(int) const override {
    return std::make_unique<HashFold>(kind_, num_elements(), inputs().size());
  }

 private:
  class HashFold final : public graph::Fold {
   public:
    HashFold(FactKind kind, uint64_t num_elements, size_t num_inputs)
        : kind_(kind),
          num_elements_(num_elements),
          num_inputs_(num_inputs),
          seen_((num_elements + kBlock - 1) / kBlock) {}
    bool Wants(uint64_t block) const override { return kind_.Wants(pass_, block, seen_.size()); }
    void Add(int, Range piece, std::span<const View> in) override {
      const uint64_t block = piece.begin / kBlock;
      EXPECT_TRUE(Wants(block));
      EXPECT_EQ(seen_[block], piece.begin - block * kBlock);  // in order, each once
      seen_[block] += piece.size();
      ASSERT_EQ(in.size(), num_inputs_);
      uint64_t hash = 0;
      for (size_t i = 0; i < in.size(); ++i) {
        ASSERT_EQ(in[i].range, piece);
        hash += Hash(in[i].data, piece, i);
      }
      hash_ += hash;
    }
    bool Finish(FactValue* value) override {
      for (uint64_t block = 0; block < seen_.size(); ++block) {
        const uint64_t size = std::min(kBlock, num_elements_ - block * kBlock);
        EXPECT_EQ(seen_[block], Wants(block) ? size : 0);
        seen_[block] = 0;
      }
      state_ = AfterPass(state_, hash_);
      hash_ = 0;
      *value = {ValueOf(state_)};
      return ++pass_ == kind_.passes;
    }

   private:
    const FactKind kind_;
    const uint64_t num_elements_;
    const size_t num_inputs_;
    std::vector<uint64_t> seen_;
    std::atomic<uint64_t> hash_ = 0;
    uint64_t state_ = 0;
    int pass_ = 0;
  };
  const FactKind kind_;
};

// x + y times what the facts say.
class MixNode final : public Node {
 public:
  struct Looks {
    std::vector<const Node*> at;
    FactKind kind;
  };
  MixNode(const std::string& name, const Node* x, const Node* y, std::vector<Looks> facts)
      : Node(name, quant::F32(), x->num_elements(), {x, y}) {
    for (Looks& fact : facts) AddFact(std::make_unique<HashFact>(std::move(fact.at), fact.kind));
  }
  void Compute(const graph::ComputeArgs& args) const override {
    float factor = 1;
    for (const FactValue* fact : args.facts) factor *= FactorOf(fact->at(0));
    for (uint64_t i = 0; i < args.range.size(); ++i) {
      float x, y;
      std::memcpy(&x, args.in[0].data + 4 * i, 4);
      std::memcpy(&y, args.in[1].data + 4 * i, 4);
      const float out = x + y * factor;
      std::memcpy(args.out + 4 * i, &out, 4);
    }
  }
  double NanosecondsPerElement() const override { return 1; }
};

// Rows as they stand up to half of them, then from all over the tensor.
class Scatter final : public graph::RowMap {
 public:
  Scatter(uint64_t first, uint64_t rows, uint64_t of_rows, bool scattered)
      : first_(first), rows_(rows), of_rows_(of_rows), scattered_(scattered) {}
  uint64_t SourceRow(uint64_t row) const override {
    if (!scattered_ || row < rows_ / 2) return first_ + row;
    return (first_ + row * 37 + 11) % of_rows_;
  }
  uint64_t num_rows() const override { return rows_; }

 private:
  uint64_t first_, rows_, of_rows_;
  bool scattered_;
};

// ---------------------------------------------------------------------------------------------------------------------
// What tensors are made of, and their values, computed plainly.

struct Expression {
  enum Kind { kStored, kMix, kRows } kind = kStored;
  uint64_t num_elements = 0;
  int depth = 0;
  std::string name;
  const Model* model = nullptr;  // kStored
  size_t tensor = 0;
  const Expression *x = nullptr, *y = nullptr;  // kMix; kRows: x
  struct Looks {
    std::vector<const Expression*> at;
    FactKind kind;
  };
  std::vector<Looks> facts;
  uint64_t columns = 0;  // kRows
  std::shared_ptr<const Scatter> map;
  std::vector<float> values;

  const Node* Build(graph::Graph* graph) const {
    if (kind == kStored) return model->Add(tensor, graph);
    if (kind == kRows) {
      return graph->Add(std::make_unique<graph::RowGatherNode>(name, x->Build(graph), columns, map));
    }
    std::vector<MixNode::Looks> looks;
    for (const Looks& fact : facts) {
      looks.push_back({{}, fact.kind});
      for (const Expression* at : fact.at) looks.back().at.push_back(at->Build(graph));
    }
    return graph->Add(std::make_unique<MixNode>(name, x->Build(graph), y->Build(graph), std::move(looks)));
  }

  void Evaluate() {
    values.resize(num_elements);
    if (kind == kStored) {
      if (num_elements > 0) {
        std::memcpy(values.data(), model->memory->bytes().data() + model->offsets[tensor], 4 * num_elements);
      }
    } else if (kind == kRows) {
      for (uint64_t row = 0; row < num_elements / columns; ++row) {
        std::copy_n(x->values.begin() + static_cast<ptrdiff_t>(map->SourceRow(row) * columns), columns,
                    values.begin() + static_cast<ptrdiff_t>(row * columns));
      }
    } else {
      float factor = 1;
      for (const Looks& fact : facts) factor *= FactorOf(FactOf(fact));
      for (uint64_t i = 0; i < num_elements; ++i) values[i] = x->values[i] + y->values[i] * factor;
    }
  }

  // All that it stands on, itself too.
  void Collect(std::set<const Expression*>* seen) const {
    if (!seen->insert(this).second) return;
    if (x != nullptr) x->Collect(seen);
    if (y != nullptr) y->Collect(seen);
    for (const Looks& fact : facts) {
      for (const Expression* at : fact.at) at->Collect(seen);
    }
  }

 private:
  static double FactOf(const Looks& fact) {
    const uint64_t num_elements = fact.at[0]->num_elements, num_blocks = (num_elements + kBlock - 1) / kBlock;
    uint64_t state = 0;
    for (int pass = 0; pass < fact.kind.passes; ++pass) {
      uint64_t hash = 0;
      for (uint64_t block = 0; block < num_blocks; ++block) {
        if (!fact.kind.Wants(pass, block, num_blocks)) continue;
        const Range range{block * kBlock, std::min((block + 1) * kBlock, num_elements)};
        for (size_t i = 0; i < fact.at.size(); ++i) {
          hash += Hash(reinterpret_cast<const uint8_t*>(fact.at[i]->values.data() + range.begin), range, i);
        }
      }
      state = AfterPass(state, hash);
    }
    return ValueOf(state);
  }
};

struct Group {
  std::vector<const Expression*> outs;
  uint64_t granule = 0;
  bool has_facts = false;
  uint64_t num_elements() const { return outs[0]->num_elements; }
};

class ExpressionGroups final : public stream::GroupSource {
 public:
  explicit ExpressionGroups(const std::vector<Group>& groups) : groups_(groups) {}
  size_t size() const override { return groups_.size(); }
  std::string name(size_t group) const override { return "tensor <" + std::to_string(group) + ">"; }
  void Build(size_t group, graph::Graph* graph, std::vector<const Node*>* outs) const override {
    for (const Expression* out : groups_[group].outs) outs->push_back(out->Build(graph));
  }
  uint64_t granule(size_t group) const override { return groups_[group].granule; }

 private:
  const std::vector<Group>& groups_;
};

}  // namespace sluice::tests
