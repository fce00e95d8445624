#include "verify/file_manifest.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "checkpoint/testing/tiny_models.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;
using tests::TempDir;
using tests::WriteText;

std::vector<std::string> NamesOf(const ModelFiles& files) {
  std::vector<std::string> names;
  for (const ModelFiles::File& file : files.files) names.push_back(file.name);
  return names;
}

ManifestEntry Entry(const std::string& name, uint64_t begin = 0, uint64_t end = 0, char content = 'x') {
  return {name, begin, end, kernels::HashText(std::string(1, content))};
}

TEST(FileManifestTest, FilesAreSortedByTheirParts) {
  TempDir dir;
  fs::create_directories(dir / "m/d/e");
  fs::create_directories(dir / "m/.git/objects");
  for (const char* name : {"d/f", "d.x", "z", "d/e/g", ".hidden", ".git/objects/o", ".gitignore", ".gitx"}) {
    WriteText(dir / ("m/" + std::string(name)), name);
  }
  const auto files = ListModelFiles(dir / "m", {.ignored = GitPaths()});
  ASSERT_TRUE(files);
  EXPECT_EQ(NamesOf(*files), (std::vector<std::string>{".gitx", ".hidden", "d/e/g", "d/f", "d.x", "z"}));
  EXPECT_EQ(files->ignored, (std::vector<std::string>{".git/objects/o", ".gitignore"}));
  EXPECT_EQ(files->model_name, "m");
  EXPECT_EQ(files->size_bytes, 5u + 7 + 5 + 3 + 3 + 1);
  EXPECT_EQ(ListModelFiles((dir / "m/d") + "/../", {})->model_name, "m");
}

TEST(FileManifestTest, AModelThatIsOneFile) {
  TempDir dir;
  WriteText(dir / "m.gguf", "bytes");
  const auto files = ListModelFiles(dir / "m.gguf", {.ignored = GitPaths()});
  ASSERT_TRUE(files);
  EXPECT_EQ(NamesOf(*files), std::vector<std::string>{"."});
  EXPECT_EQ(files->model_name, "m.gguf");
}

TEST(FileManifestTest, LinksAndOtherThings) {
  TempDir dir;
  fs::create_directories(dir / "m");
  WriteText(dir / "blob", "bytes");
  fs::create_symlink("../blob", dir / "m/link");
  auto files = ListModelFiles(dir / "m", {});
  ASSERT_FALSE(files);
  EXPECT_EQ(files.error().code, ErrorCode::kUsage);
  EXPECT_NE(files.error().ToString().find("--allow-symlinks"), std::string::npos);
  EXPECT_TRUE(ListModelFiles(dir / "m", {.ignored = {"link"}}));
  files = ListModelFiles(dir / "m", {.allow_symlinks = true});
  ASSERT_TRUE(files);
  EXPECT_EQ(files->size_bytes, 5u);

  fs::create_symlink("nowhere", dir / "m/dangling");
  EXPECT_EQ(ListModelFiles(dir / "m", {.allow_symlinks = true}).error().code, ErrorCode::kUsage);
  fs::remove(dir / "m/dangling");
  fs::create_directory_symlink("..", dir / "m/folder");
  EXPECT_NE(ListModelFiles(dir / "m", {.allow_symlinks = true}).error().ToString().find("a folder"), std::string::npos);
  fs::remove(dir / "m/folder");
  WriteText(dir / "m/\xff", "");
  EXPECT_NE(ListModelFiles(dir / "m", {.allow_symlinks = true}).error().ToString().find("UTF-8"), std::string::npos);
  EXPECT_EQ(ListModelFiles(dir / "absent", {}).error().code, ErrorCode::kNotFound);
}

TEST(FileManifestTest, WhereAFileLiesInAModel) {
  TempDir dir;
  fs::create_directories(dir / "m/sub");
  EXPECT_EQ(PathInModel(dir / "m", dir / "m/model.sig"), "model.sig");
  EXPECT_EQ(PathInModel((dir / "m") + "/", dir / "m/sub/../sub/s"), "sub/s");
  EXPECT_EQ(PathInModel(dir / "m", dir / "model.sig"), std::nullopt);
  EXPECT_EQ(PathInModel(dir / "m", dir / "mm/model.sig"), std::nullopt);
}

TEST(FileManifestTest, Shards) {
  ModelFiles files;
  files.files = {{"a", "/a", {.size_bytes = 15}}, {"b", "/b", {.size_bytes = 0}}, {"c", "/c", {.size_bytes = 7}}};
  const HashPlan plan = PlanHashes(files, 7);
  ASSERT_EQ(plan.entries.size(), 4u);
  EXPECT_EQ(plan.entries[2].begin, 14u);
  EXPECT_EQ(plan.entries[2].end, 15u);
  EXPECT_EQ(plan.pieces[3].path, "/c");
  EXPECT_EQ(PlanHashes(files, UINT64_MAX).pieces.size(), 2u);
  EXPECT_EQ(PlanHashes(files, 0).pieces[0].end, 15u);
}

TEST(FileManifestTest, ChangedMissingAndExtraAreToldApart) {
  FileManifest stated;
  stated.entries = {Entry("a"), Entry("b"), Entry("c"), Entry("d")};
  const FileComparison same = CompareFiles(stated, {Entry("d"), Entry("c"), Entry("b"), Entry("a")});
  EXPECT_TRUE(same.same());
  EXPECT_EQ(same.unchanged, 4u);
  const FileComparison other = CompareFiles(stated, {Entry("a"), Entry("b", 0, 0, 'y'), Entry("d"), Entry("e")});
  ASSERT_EQ(other.differences.size(), 3u);
  EXPECT_EQ(other.unchanged, 2u);
  EXPECT_EQ(other.differences[0].name, "b");
  EXPECT_EQ(other.differences[0].change, FileChange::kChanged);
  EXPECT_EQ(other.differences[0].signed_digest, kernels::HashText("x"));
  EXPECT_EQ(other.differences[0].digest, kernels::HashText("y"));
  EXPECT_EQ(other.differences[1].name, "c");
  EXPECT_EQ(other.differences[1].change, FileChange::kMissing);
  EXPECT_FALSE(other.differences[1].digest);
  EXPECT_EQ(other.differences[2].name, "e");
  EXPECT_EQ(other.differences[2].change, FileChange::kExtra);
}

TEST(FileManifestTest, AFileOfShardsThatGrewIsChanged) {
  FileManifest stated;
  stated.shard_bytes = 7;
  stated.entries = {Entry("a", 0, 7), Entry("a", 7, 9), Entry("b", 0, 7)};
  const FileComparison other = CompareFiles(stated, {Entry("a", 0, 7), Entry("a", 7, 14), Entry("b", 0, 7)});
  ASSERT_EQ(other.differences.size(), 1u);
  EXPECT_EQ(other.differences[0].name, "a");
  EXPECT_EQ(other.differences[0].change, FileChange::kChanged);
  EXPECT_EQ(other.unchanged, 1u);
}

TEST(FileManifestTest, AFileThatChangesWhileItIsRead) {
  TempDir dir;
  WriteText(dir / "f", "before");
  const auto files = ListModelFiles(dir / "f", {});
  EXPECT_TRUE(CheckUnchanged(*files));
  WriteText(dir / "f", "after");
  const auto changed = CheckUnchanged(*files);
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(changed.error().ToString().find("changed while it was read"), std::string::npos);
  fs::remove(dir / "f");
  EXPECT_FALSE(CheckUnchanged(*files));
}

TEST(FileManifestTest, Names) {
  for (const char* good : {".", "a", "a/b", ".git", "a..b", "...", "a b\n"}) EXPECT_TRUE(IsManifestName(good)) << good;
  for (const char* bad : {"", "/", "/a", "a/", "a//b", "./a", "a/./b", "..", "../a", "a/.."}) {
    EXPECT_FALSE(IsManifestName(bad)) << bad;
  }
  EXPECT_FALSE(IsManifestName(std::string_view("a\0b", 3)));
}

}  // namespace
}  // namespace sluice::verify
