#include "checkpoint/reordered_rows.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>

#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"

namespace sluice::checkpoint {
namespace {

std::shared_ptr<const Checkpoint> Open(const std::string& path) {
  auto model = OpenCheckpoint(path, {});
  EXPECT_TRUE(model) << model.error().ToString();
  return *model;
}

// Whose needs of the input, range by range, make up row `row` of a tensor of so many columns.
graph::Range NeedOfRow(const Checkpoint& model, const std::string& name, uint64_t row, uint64_t columns) {
  graph::Graph graph;
  const graph::Node* node = model.MakeNode(*model.tensors().Find(name), &graph);
  graph::NeedList needs;
  node->Needs({row * columns, (row + 1) * columns}, &needs);
  EXPECT_EQ(needs.needs().size(), 1u);
  return needs.needs()[0].range;
}

TEST(ReorderRows, MovesRowsOfTokensAlone) {
  const tests::TempDir dir;
  const auto model = Open(tests::MakeTinyLlama(dir / "model"));
  std::vector<uint32_t> order(96);
  std::iota(order.rbegin(), order.rend(), 0);
  const auto moved = ReorderRows(model, order);
  ASSERT_TRUE(moved) << moved.error().ToString();
  EXPECT_EQ((*moved)->tensors().size(), model->tensors().size());
  EXPECT_EQ((*moved)->ref(), model->ref());
  for (size_t i = 0; i < model->tensors().size(); ++i) {
    const std::string name((*moved)->tensors()[i].name);
    graph::Graph graph;
    const graph::Node* node = (*moved)->MakeNode(i, &graph);
    EXPECT_EQ(node->encoding(), model->tensors()[i].encoding);
    const bool moves = name == "lm_head.weight" || name == "model.embed_tokens.weight";
    EXPECT_EQ(dynamic_cast<const graph::StoredNode*>(node) == nullptr, moves) << name;
    if (moves) EXPECT_EQ(NeedOfRow(**moved, name, 5, 64), (graph::Range{90 * 64, 91 * 64}));
  }
}

// Two orders are two computations, one order is one.
TEST(ReorderRows, NodesTellOrdersApart) {
  const tests::TempDir dir;
  const auto model = Open(tests::MakeTinyLlama(dir / "model", {.tied = true}));
  std::vector<uint32_t> order(96), other(96);
  std::iota(order.rbegin(), order.rend(), 0);
  std::iota(other.begin(), other.end(), 0);
  std::swap(other[3], other[4]);
  graph::Graph graph;
  const size_t embedding = *model->tensors().Find("model.embed_tokens.weight");
  const graph::Node* one = (*ReorderRows(model, order))->MakeNode(embedding, &graph);
  EXPECT_EQ((*ReorderRows(model, order))->MakeNode(embedding, &graph), one);
  EXPECT_NE((*ReorderRows(model, other))->MakeNode(embedding, &graph), one);
}

TEST(ReorderRows, NothingMovesForNothing) {
  const tests::TempDir dir;
  const auto model = Open(tests::MakeTinyLlama(dir / "model"));
  std::vector<uint32_t> order(96);
  std::iota(order.begin(), order.end(), 0);
  EXPECT_EQ(*ReorderRows(model, order), model);
}

TEST(ReorderRows, WhatIsNoOrderIsRefused) {
  const tests::TempDir dir;
  const auto model = Open(tests::MakeTinyLlama(dir / "model"));
  std::vector<uint32_t> order(96);
  std::iota(order.begin(), order.end(), 0);
  const auto expect = [&](std::vector<uint32_t> bad, const std::string& text) {
    const auto moved = ReorderRows(model, std::move(bad));
    ASSERT_FALSE(moved);
    EXPECT_EQ(moved.error().code, ErrorCode::kUsage);
    EXPECT_NE(moved.error().ToString().find(text), std::string::npos) << moved.error().ToString();
  };
  std::vector<uint32_t> bad = order;
  bad[10] = 11;
  expect(bad, "id 11 is twice");
  bad[10] = 96;
  expect(bad, "id 96 is not to be");
  bad.pop_back();
  expect(bad, "95 ids for a vocabulary of 96");
}

TEST(ReorderRows, WithoutAConfigNothingIsKnown) {
  const tests::TempDir dir;
  tests::WriteSafetensors(dir / "model.safetensors", {tests::RandomTensor("w", "F32", {4, 8}, 1)});
  const auto moved = ReorderRows(Open(dir / "model.safetensors"), {1, 0, 2, 3});
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(moved.error().ToString().find("config.json"), std::string::npos) << moved.error().ToString();
}

}  // namespace
}  // namespace sluice::checkpoint
