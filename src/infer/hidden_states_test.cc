#include "infer/hidden_states.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

namespace sluice::infer {
namespace {

constexpr uint64_t kTiles = 5, kHidden = 24, kTileFloats = kHidden * 16;

TEST(HiddenStates, TheSameInMemoryAndInAFile) {
  MemoryBudget budget(1 << 20);
  auto memory = HiddenStates::InMemory(kTiles, kHidden, &budget);
  ASSERT_TRUE(memory);
  EXPECT_EQ(budget.used_bytes(), HiddenStates::SizeBytes(kTiles, kHidden));
  auto file = HiddenStates::InFile(kTiles, kHidden);
  ASSERT_TRUE(file) << file.error().ToString();
  EXPECT_FALSE(memory->in_file());
  EXPECT_TRUE(file->in_file());
  std::vector<float> row(kHidden), buffer(2 * kTileFloats);
  for (HiddenStates* states : {&*memory, &*file}) {
    for (uint64_t i = 0; i < kHidden; ++i) row[i] = static_cast<float>(i + 1);
    ASSERT_TRUE(states->WriteRow(3, 2, row.data()));
    auto tiles = states->Load(2, 2, buffer.data());
    ASSERT_TRUE(tiles);
    EXPECT_EQ((*tiles)[kTileFloats + 2 * kHidden + 5], 6.0f);
    EXPECT_EQ((*tiles)[kTileFloats + 3 * kHidden], 0.0f);
    (*tiles)[7] = 9;
    ASSERT_TRUE(states->Store(2, 2, *tiles));
    std::fill(buffer.begin(), buffer.end(), -1.0f);
    tiles = states->Load(2, 1, buffer.data());
    ASSERT_TRUE(tiles);
    EXPECT_EQ((*tiles)[7], 9.0f);
  }
}

TEST(HiddenStates, AFolderThatIsNotThereIsNamed) {
  const char* before = std::getenv("TMPDIR");
  const std::string kept = before != nullptr ? before : "";
  setenv("TMPDIR", "/nonexistent/folder", 1);
  const auto file = HiddenStates::InFile(kTiles, kHidden);
  before != nullptr ? setenv("TMPDIR", kept.c_str(), 1) : unsetenv("TMPDIR");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::kWrite);
  EXPECT_NE(file.error().ToString().find("/nonexistent/folder"), std::string::npos);
  EXPECT_NE(file.error().ToString().find("TMPDIR"), std::string::npos);
}

}  // namespace
}  // namespace sluice::infer
