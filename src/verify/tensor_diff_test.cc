#include "verify/tensor_diff.h"

#include <gtest/gtest.h>

#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

using tests::EncodedTensor;
using tests::MakeMemoryCheckpoint;

TensorDiff OnlyInA(std::string name, uint8_t digest) {
  TensorDiff diff;
  diff.name = std::move(name);
  diff.tensor_class = TensorClass::kOnlyInA;
  diff.encoding_a = "BF16";
  diff.shape_a = {2, 2};
  diff.digest_a[0] = digest;
  return diff;
}

TensorDiff OnlyInB(std::string name, uint8_t digest) {
  TensorDiff diff;
  diff.name = std::move(name);
  diff.tensor_class = TensorClass::kOnlyInB;
  diff.encoding_b = "BF16";
  diff.shape_b = {2, 2};
  diff.digest_b[0] = digest;
  return diff;
}

TensorDiff Rounded(RoundedSide side) {
  TensorDiff diff;
  diff.tensor_class = TensorClass::kRounded;
  diff.rounded = side;
  return diff;
}

TEST(TensorDiffTest, AlignsByNameAndKeepsOtherShapesApart) {
  const auto a = MakeMemoryCheckpoint(
      "a", {EncodedTensor("both", "BF16", {2, 2}, {1, 2, 3, 4}), EncodedTensor("only_a", "F32", {1}, {1}),
            EncodedTensor("reshaped", "F32", {4}, {1, 2, 3, 4})});
  const auto b = MakeMemoryCheckpoint(
      "b", {EncodedTensor("both", "F32", {2, 2}, {1, 2, 3, 4}), EncodedTensor("reshaped", "F32", {2, 2}, {1, 2, 3, 4}),
            EncodedTensor("zzz_only_b", "F32", {1}, {1})});
  const Alignment alignment = Align(a->tensors(), b->tensors());
  ASSERT_EQ(alignment.groups.size(), 5u);
  EXPECT_EQ(alignment.groups[0].a, 0);  // both, whatever the encoding
  EXPECT_EQ(alignment.groups[0].b, 0);
  EXPECT_EQ(alignment.groups[1].a, 1);  // only_a
  EXPECT_EQ(alignment.groups[1].b, -1);
  EXPECT_FALSE(alignment.groups[1].in_other);
  EXPECT_EQ(alignment.groups[2].a, 2);  // reshaped: each side for itself, although the elements are as many
  EXPECT_EQ(alignment.groups[2].b, -1);
  EXPECT_TRUE(alignment.groups[2].in_other);
  EXPECT_EQ(alignment.groups[3].b, 1);
  EXPECT_TRUE(alignment.groups[3].in_other);
  EXPECT_EQ(alignment.groups[4].b, 2);
  EXPECT_EQ(alignment.groups[4].a, -1);

  const auto members = alignment.Members(*a, *b);
  ASSERT_EQ(members[0].size(), 2u);
  EXPECT_EQ(members[0][0].checkpoint, a.get());
  EXPECT_EQ(members[0][1].checkpoint, b.get());
  ASSERT_EQ(members[3].size(), 1u);
  EXPECT_EQ(members[3][0].checkpoint, b.get());
}

TEST(TensorDiffTest, FindsRenamedAndTiedTensors) {
  std::vector<TensorDiff> tensors = {OnlyInA("lm_head.weight", 9), OnlyInA("old", 1), OnlyInA("other", 2),
                                     OnlyInB("new", 1), OnlyInB("third", 3)};
  ResolveTiedAndRenamed({"lm_head.weight"}, {}, &tensors);
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[0].tensor_class, TensorClass::kTied);
  EXPECT_EQ(tensors[1].tensor_class, TensorClass::kRenamed);
  EXPECT_EQ(tensors[1].other_name, "new");
  EXPECT_EQ(tensors[1].encoding_b, "BF16");
  EXPECT_EQ(tensors[2].tensor_class, TensorClass::kOnlyInA);
  EXPECT_EQ(tensors[3].tensor_class, TensorClass::kOnlyInB);
}

TEST(TensorDiffTest, ARenamedTensorHasOnePartner) {
  std::vector<TensorDiff> tensors = {OnlyInA("x", 1), OnlyInA("y", 1), OnlyInB("z", 1)};
  ResolveTiedAndRenamed({}, {}, &tensors);
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].tensor_class, TensorClass::kRenamed);
  EXPECT_EQ(tensors[1].tensor_class, TensorClass::kOnlyInA);
}

TEST(TensorDiffTest, SummaryTellsWhichSideIsRounded) {
  EXPECT_EQ(Summarise({Rounded(RoundedSide::kB), Rounded(RoundedSide::kEither)}, 0, 0).rounded, RoundedSide::kB);
  EXPECT_EQ(Summarise({Rounded(RoundedSide::kA)}, 0, 0).rounded, RoundedSide::kA);
  EXPECT_EQ(Summarise({Rounded(RoundedSide::kEither)}, 0, 0).rounded, RoundedSide::kEither);
  const TensorSummary mixed = Summarise({Rounded(RoundedSide::kA), Rounded(RoundedSide::kB)}, 0, 0);
  EXPECT_EQ(mixed.rounded, RoundedSide::kNone);
  EXPECT_TRUE(mixed.rounded_mixed);
  EXPECT_FALSE(Summarise({}, 3, 30).rounded_mixed);
}

TEST(TensorDiffTest, SummaryCounts) {
  TensorDiff changed;
  changed.tensor_class = TensorClass::kChanged;
  changed.num_elements = 10;
  changed.stats = DifferenceStats{.elements = 10, .changed = 4};
  const TensorSummary summary = Summarise({changed, OnlyInA("x", 1)}, 5, 50);
  EXPECT_EQ(summary.tensors, 7u);
  EXPECT_EQ(summary.count(TensorClass::kIdentical), 5u);
  EXPECT_EQ(summary.count(TensorClass::kChanged), 1u);
  EXPECT_EQ(summary.count(TensorClass::kOnlyInA), 1u);
  EXPECT_EQ(summary.elements, 60u);
  EXPECT_EQ(summary.changed_elements, 4u);
}

}  // namespace
}  // namespace sluice::verify
