#include "arithmetic/mask_key.h"

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/task_vectors.h"

namespace sluice::arithmetic {
namespace {

// The rows of a table of docs/formats/mask.md with so many columns, blanks and back quotes taken off.
std::vector<std::vector<std::string>> Rows(size_t columns) {
  std::ifstream page(SLUICE_SOURCE_DIR "/docs/formats/mask.md");
  std::vector<std::vector<std::string>> rows;
  std::string line;
  while (std::getline(page, line)) {
    if (!line.starts_with("| ")) continue;
    std::vector<std::string> cells;
    std::istringstream stream(line.substr(1));
    std::string cell;
    while (std::getline(stream, cell, '|')) {
      cell.erase(0, cell.find_first_not_of(" `"));
      cell.erase(cell.find_last_not_of(" `") + 1);
      cells.push_back(cell);
    }
    if (cells.size() == columns && cells[0].find_first_not_of("0123456789.") == std::string::npos)
      rows.push_back(cells);
  }
  return rows;
}

TEST(MaskKey, IsThePagesKey) {
  const auto rows = Rows(6);
  ASSERT_GE(rows.size(), 4u);
  for (const auto& row : rows) {
    const PhiloxKey key = MaskKey(std::stoull(row[0]), row[1], std::stoull(row[2]));
    EXPECT_EQ(key.k0, std::stoul(row[3], nullptr, 16)) << row[1];
    EXPECT_EQ(key.k1, std::stoul(row[4], nullptr, 16)) << row[1];
    std::istringstream words(row[5]);
    std::string word;
    for (const uint64_t element :
         {uint64_t{0}, uint64_t{1}, uint64_t{8}, uint64_t{31}, uint64_t{32}, (uint64_t{1} << 35) + 9}) {
      ASSERT_TRUE(words >> word);
      EXPECT_EQ(kernels::RandomMaskWord(key, element), std::stoul(word, nullptr, 16)) << row[1] << " " << element;
    }
  }
}

TEST(MaskKey, EveryPartCounts) {
  const PhiloxKey key = MaskKey(1, "a", 2);
  const auto differs = [&](const PhiloxKey& other) { return key.k0 != other.k0 || key.k1 != other.k1; };
  EXPECT_TRUE(differs(MaskKey(2, "a", 2)));
  EXPECT_TRUE(differs(MaskKey(1, "b", 2)));
  EXPECT_TRUE(differs(MaskKey(1, "a", 3)));
  EXPECT_TRUE(differs(MaskKey(1, "a2", 0)));  // lengths keep the parts apart
}

TEST(KeepBelow, IsThePages) {
  const auto rows = Rows(2);
  ASSERT_GE(rows.size(), 6u);
  for (const auto& row : rows) EXPECT_EQ(KeepBelow(std::stod(row[0])), std::stoull(row[1])) << row[0];
}

}  // namespace
}  // namespace sluice::arithmetic
