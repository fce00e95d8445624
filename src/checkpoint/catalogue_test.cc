#include "checkpoint/catalogue.h"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace sluice::checkpoint {
namespace {

TEST(Catalogue, SortsByBytesAndFinds) {
  Catalogue catalogue;
  const std::vector<uint64_t> matrix = {2, 3}, vector = {5}, scalar;
  catalogue.Add("model.layers.10.w", quant::BF16(), matrix, 6);
  catalogue.Add("\u00e9", quant::F32(), scalar, 1);
  catalogue.Add("model.layers.2.w", quant::F32(), vector, 5);
  catalogue.Add("Z", quant::EncodingByName("U8"), vector, 5);
  EXPECT_EQ(catalogue.Sort(), (std::vector<uint32_t>{3, 0, 2, 1}));
  ASSERT_EQ(catalogue.size(), 4u);
  EXPECT_EQ(catalogue[1].name, "model.layers.10.w");
  EXPECT_EQ(catalogue[1].encoding, quant::BF16());
  EXPECT_EQ(ShapeText(catalogue[1].shape), "[2, 3]");
  EXPECT_EQ(ShapeText(catalogue[3].shape), "[]");
  EXPECT_EQ(catalogue[1].size_bytes(), 12u);
  EXPECT_EQ(catalogue.total_elements(), 17u);
  EXPECT_EQ(catalogue.total_bytes(), 12u + 4 + 20 + 5);
  EXPECT_EQ(catalogue.Find("model.layers.2.w"), 2u);
  EXPECT_EQ(catalogue.Find("\u00e9"), 3u);
  EXPECT_EQ(catalogue.Find("model.layers.2"), std::nullopt);
  EXPECT_EQ(catalogue.Find(""), std::nullopt);
  EXPECT_EQ(catalogue.Find("\xff"), std::nullopt);
}

// 40 bytes of entry, 16 of shape and the name: nothing else for each tensor, and no more than that once sorted.
TEST(Catalogue, AHundredThousandTensorsTakeAFewMiB) {
  Catalogue catalogue;
  const std::vector<uint64_t> shape = {14336, 4096};
  uint64_t name_bytes = 0;
  for (int i = 0; i < 100000; ++i) {
    const std::string name = fmt::format("model.layers.{}.mlp.experts.{}.up_proj.weight", i / 1000, i % 1000);
    name_bytes += name.size();
    catalogue.Add(name, quant::BF16(), shape, shape[0] * shape[1]);
  }
  catalogue.Sort();
  EXPECT_LE(catalogue.memory_bytes(), name_bytes + 100000 * (40 + 16) + 1024);
  EXPECT_LE(catalogue.memory_bytes(), uint64_t{12} << 20);
}

}  // namespace
}  // namespace sluice::checkpoint
