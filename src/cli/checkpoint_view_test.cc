#include "cli/checkpoint_view.h"

#include <gtest/gtest.h>

#include "verify/testing/memory_checkpoint.h"

namespace sluice::cli {
namespace {

std::shared_ptr<const checkpoint::Checkpoint> Model(const std::string& config) {
  return tests::MakeMemoryCheckpoint("m", {tests::EncodedTensor("w", "F32", {2}, {1, 2})}, config);
}

TEST(CheckpointViewTest, SetChangesNestedAndPlainKeysAndKeepsTheRest) {
  CheckpointView view(Model(R"({"hidden_size": 64, "rope_scaling": {"type": "linear", "factor": 2}})"));
  ASSERT_TRUE(view.SetConfig({"hidden_size=128", "rope_scaling.factor=4.5", "new.inner=[1,2]", "name=plain text"}));
  EXPECT_EQ(
      view.config()->json().dump(),
      R"({"hidden_size":128,"rope_scaling":{"type":"linear","factor":4.5},"new":{"inner":[1,2]},"name":"plain text"})");
  EXPECT_EQ(view.tensors().size(), 1u);
}

TEST(CheckpointViewTest, SetRefusesWhatCannotBeSet) {
  CheckpointView view(Model(R"({"hidden_size": 64})"));
  for (const char* bad : {"nonsense", "=5", "hidden_size.inner=1", "a.=1"}) {
    const Result<void> result = view.SetConfig({bad});
    ASSERT_FALSE(result.has_value()) << bad;
    EXPECT_EQ(result.error().code, ErrorCode::kUsage);
  }
  CheckpointView without(Model(""));
  EXPECT_FALSE(without.SetConfig({"a=1"}).has_value());
  EXPECT_TRUE(without.SetConfig({}).has_value());
}

TEST(CheckpointViewTest, AFileCarriesNoPapersAndAFolderItsConfig) {
  CheckpointView file(Model(R"({"hidden_size": 64})")), folder(Model(R"({"hidden_size": 64})"));
  file.AsWritten(/*folder=*/false);
  folder.AsWritten(/*folder=*/true);
  EXPECT_EQ(file.config(), nullptr);
  EXPECT_NE(folder.config(), nullptr);
}

}  // namespace
}  // namespace sluice::cli
