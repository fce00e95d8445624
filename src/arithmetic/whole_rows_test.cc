#include "arithmetic/whole_rows.h"

#include <mutex>
#include <numeric>
#include <thread>

#include <gtest/gtest.h>

#include "base/units.h"

namespace sluice::arithmetic {
namespace {

using graph::kBlockElements;

// Element i of input k is i + k / 2.
class WholeRowsTest : public testing::TestWithParam<uint64_t> {
 protected:
  static constexpr uint64_t kElements = uint64_t{2} * 3 * 5 * 7 * 11 * 100;  // 231,000: four blocks
  static constexpr uint64_t kPiece = 96;

  void SetUp() override {
    for (int k = 0; k < 2; ++k) {
      inputs_[k].resize(kElements);
      for (uint64_t i = 0; i < kElements; ++i) inputs_[k][i] = static_cast<float>(i) + static_cast<float>(k) / 2;
    }
  }
  void AddBlock(WholeRows* rows, int worker, uint64_t block) {
    const uint64_t end = std::min((block + 1) * kBlockElements, kElements);
    for (uint64_t begin = block * kBlockElements; begin < end; begin += kPiece) {
      const graph::Range piece{begin, std::min(begin + kPiece, end)};
      const auto view = [&](int k) {
        return graph::View{reinterpret_cast<const uint8_t*>(inputs_[k].data() + begin), piece};
      };
      const graph::View views[] = {view(0), view(1)};
      rows->Add(worker, piece, views, [&](uint64_t row, std::span<const float* const> inputs) { Check(row, inputs); });
    }
  }
  void Check(uint64_t row, std::span<const float* const> inputs) {
    const uint64_t columns = GetParam();
    bool is_equal = inputs.size() == 2;
    for (size_t k = 0; k < inputs.size(); ++k) {
      is_equal &= std::equal(inputs[k], inputs[k] + columns, inputs_[k].begin() + static_cast<int64_t>(row * columns));
    }
    std::lock_guard lock(mutex_);
    EXPECT_TRUE(is_equal) << row;
    ++seen_[row];
  }

  std::vector<float> inputs_[2];
  std::mutex mutex_;
  std::vector<int> seen_ = std::vector<int>(kElements / GetParam());
};
INSTANTIATE_TEST_SUITE_P(Columns, WholeRowsTest, testing::Values(1, 7, 100, 1050, 33000, 77000, 231000));

TEST_P(WholeRowsTest, GivesEachRowOnceInAnyOrderOfBlocks) {
  for (const std::vector<uint64_t>& order : {std::vector<uint64_t>{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}}) {
    WholeRows rows(kElements, GetParam(), 2, 1);
    for (const uint64_t block : order) AddBlock(&rows, 0, block);
  }
  EXPECT_EQ(seen_, std::vector<int>(kElements / GetParam(), 3));
}

TEST_P(WholeRowsTest, GivesEachRowOnceFromSeveralWorkers) {
  WholeRows rows(kElements, GetParam(), 2, 4);
  {
    std::vector<std::jthread> threads;
    for (int worker = 0; worker < 4; ++worker) {
      threads.emplace_back([&, worker] { AddBlock(&rows, worker, static_cast<uint64_t>(3 - worker)); });
    }
  }
  EXPECT_EQ(seen_, std::vector<int>(kElements / GetParam(), 1));
}

}  // namespace
}  // namespace sluice::arithmetic
