#include "verify/stored_tensors.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "kernels/sha256.h"
#include "verify/file_manifest.h"
#include "verify/testing/memory_checkpoint.h"

namespace sluice::verify {
namespace {

using tests::TempDir;

kernels::Hash256 LeafOf(const std::vector<uint8_t>& bytes, size_t begin, size_t end) {
  return kernels::HashLeaf(std::span(bytes).subspan(begin, end - begin));
}

TEST(StoredTensorsTest, RootsOfTheReadOfTheFiles) {
  TempDir dir;
  std::filesystem::create_directory(dir / "m");
  // More than a chunk, a chunk and a half, small, empty.
  const std::vector<tests::TestTensor> tensors = {tests::RandomTensor("a", "F32", {1 << 18}, 1),
                                                  tests::RandomTensor("b", "F32", {3, 1 << 17}, 2),
                                                  tests::RandomTensor("c", "BF16", {5}, 3),
                                                  {"d", "F32", {0}, {}}};
  tests::WriteShards(dir / "m", tensors, 2);
  const auto model = checkpoint::OpenCheckpoint(dir / "m", {});
  ASSERT_TRUE(model) << model.error().ToString();
  const auto files = ListModelFiles(dir / "m", {});
  HashPlan plan = PlanHashes(*files, 0);
  const auto stored = StoredTensors::AddLeaves(**model, &plan.pieces);
  ASSERT_TRUE(stored);
  const auto hashes = io::HashFiles(plan.pieces, {.num_threads = 2});
  ASSERT_TRUE(hashes);
  const auto digests = stored->Digests(**model, *hashes);
  ASSERT_EQ(digests.size(), 4u);
  EXPECT_EQ(digests[0].root, LeafOf(tensors[0].bytes, 0, 1 << 20));
  EXPECT_EQ(digests[1].root,
            kernels::HashNode(LeafOf(tensors[1].bytes, 0, 1 << 20), LeafOf(tensors[1].bytes, 1 << 20, 3 << 19)));
  EXPECT_EQ(digests[2].root, LeafOf(tensors[2].bytes, 0, 10));
  EXPECT_EQ(digests[3].root, kernels::HashBytes({}));
  EXPECT_EQ(digests[1].name, "b");
  EXPECT_EQ(digests[1].shape, (std::vector<uint64_t>{3, 1 << 17}));
  for (size_t i = 0; i < files->files.size(); ++i) {
    EXPECT_EQ((*hashes)[i].digest, kernels::HashText(tests::ReadText(files->files[i].path)));
  }
}

TEST(StoredTensorsTest, NothingWhereTensorsLieElsewhere) {
  TempDir dir;
  tests::WriteText(dir / "f", "bytes");
  std::vector<io::FilePiece> pieces = {{dir / "f", 0, 5}};
  const auto model = tests::MakeMemoryCheckpoint("m", {tests::EncodedTensor("a", "F32", {1}, {1})}, "");
  EXPECT_FALSE(StoredTensors::AddLeaves(*model, &pieces));
  EXPECT_TRUE(pieces[0].leaves.empty());
}

}  // namespace
}  // namespace sluice::verify
