#include "verify/nan_sink.h"

#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "base/memory_budget.h"
#include "stream/checkpoint_groups.h"
#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

using tests::EncodedTensor;

TEST(NanSinkTest, CountsEachTensorsNansAndNoInfinities) {
  constexpr uint64_t kLarge = 900'000;
  std::vector<float> large(kLarge, 1.0f), clean = {1, INFINITY, -INFINITY, 0};
  large[0] = large[100'000] = large[kLarge - 1] = std::nanf("");
  const std::vector<float> small = {std::nanf(""), 2, 3, 4};
  // Any bits: integers have no NaN.
  const tests::MemoryTensor ids = {"ids", "I64", {2}, std::vector<uint8_t>(16, 0xFF)};
  const auto model = tests::MakeMemoryCheckpoint(
      "m", {EncodedTensor("large", "BF16", {kLarge}, large), EncodedTensor("clean", "F32", {4}, clean),
            EncodedTensor("small", "F16", {4}, small), ids});
  const std::vector<uint32_t> order = {3, 2, 1, 0};
  const stream::CheckpointGroups groups(*model, order);
  NanSink sink(model->tensors(), order, 2);
  MemoryBudget budget(uint64_t{1} << 30);
  stream::StreamOptions options;
  options.num_threads = 2;
  options.budget = &budget;
  options.wants = sink.wants();
  auto stream = stream::Stream::Open(groups, options);
  ASSERT_TRUE(stream.has_value());
  stream::Sink* const sinks[] = {&sink};
  ASSERT_TRUE(stream::Pump(**stream, sinks).has_value());
  for (uint32_t place = 0; place < 4; ++place) EXPECT_EQ(sink.Of(place), std::vector<uint64_t>({1, 3, 0, 0})[place]);
  const auto counts = sink.Counts();
  ASSERT_EQ(counts.size(), 2u);
  EXPECT_EQ(counts[0].name, "large");
  EXPECT_EQ(counts[0].nans, 3u);
  EXPECT_EQ(counts[1].name, "small");
  EXPECT_EQ(counts[1].nans, 1u);
}

// A resumed merge: the first tensors do not pass again.
TEST(NanSinkTest, TakesUpWhatWasCountedBefore) {
  const auto model =
      tests::MakeMemoryCheckpoint("m", {EncodedTensor("a", "F32", {2}, {1, 2}), EncodedTensor("b", "F32", {1}, {0}),
                                        EncodedTensor("c", "F32", {2}, {std::nanf(""), 2})});
  const std::vector<uint32_t> order = {1, 0, 2};
  NanSink sink(model->tensors(), order, 1);
  sink.Restore(0, 1);
  sink.Restore(1, 0);
  EXPECT_EQ(sink.Of(2), std::nullopt);
  const stream::CheckpointGroups groups(*model, {2});
  MemoryBudget budget(uint64_t{1} << 30);
  stream::StreamOptions options;
  options.budget = &budget;
  options.wants = sink.wants();
  auto stream = stream::Stream::Open(groups, options);
  ASSERT_TRUE(stream.has_value());
  stream::Sink* const sinks[] = {&sink};
  ASSERT_TRUE(stream::Pump(**stream, sinks).has_value());
  const auto counts = sink.Counts();
  ASSERT_EQ(counts.size(), 2u);
  EXPECT_EQ(counts[0].name, "b");
  EXPECT_EQ(counts[0].nans, 1u);
  EXPECT_EQ(counts[1].name, "c");
  EXPECT_EQ(sink.Of(2), 1u);
}

}  // namespace
}  // namespace sluice::verify
