#include "infer/row_assembler.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

namespace sluice::infer {
namespace {

TEST(RowAssembler, RowsAcrossAnyCut) {
  const quant::Encoding encoding = quant::EncodingByName("Q8_0");
  constexpr uint64_t kRows = 11, kColumns = 96, kBlock = 32;
  std::vector<uint8_t> bytes(encoding.BytesOf(kRows * kColumns));
  std::iota(bytes.begin(), bytes.end(), 0);
  const uint64_t num_blocks = kRows * kColumns / kBlock, row_bytes = encoding.BytesOf(kColumns);
  for (uint64_t step = 1; step <= num_blocks; ++step) {
    RowAssembler assembler(encoding, kRows, kColumns);
    std::vector<std::vector<uint8_t>>
        tiles;  // each in memory of its own: a row across two cannot be a pointer into one
    for (uint64_t block = 0; block < num_blocks; block += step) {
      const uint64_t end = std::min(block + step, num_blocks);
      tiles.emplace_back(bytes.begin() + encoding.BytesOf(block * kBlock),
                         bytes.begin() + encoding.BytesOf(end * kBlock));
      EXPECT_FALSE(assembler.complete());
      assembler.Add({tiles.back().data(), {block * kBlock, end * kBlock}});
      EXPECT_EQ(assembler.rows().size(), end * kBlock / kColumns);
    }
    EXPECT_TRUE(assembler.complete());
    ASSERT_EQ(assembler.rows().size(), kRows);
    for (uint64_t row = 0; row < kRows; ++row) {
      EXPECT_EQ(std::memcmp(assembler.rows()[row], bytes.data() + row * row_bytes, row_bytes), 0) << row << " " << step;
    }
  }
}

TEST(RowAssembler, WholeRowsStayWhereTheyAre) {
  const std::vector<float> values(8 * 64, 1.0f);
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  RowAssembler assembler(quant::F32(), 8, 64);
  assembler.Add({bytes, {0, 8 * 64}});
  for (uint64_t row = 0; row < 8; ++row) EXPECT_EQ(assembler.rows()[row], bytes + row * 256);
}

}  // namespace
}  // namespace sluice::infer
