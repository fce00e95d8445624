#include "checkpoint/hub_cache.h"

#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using tests::TempDir;

constexpr const char* kCommit = "0123abcd0123abcd0123abcd0123abcd0123abcd";
constexpr const char* kOther = "0123ffff0123abcd0123abcd0123abcd0123abcd";

using Values = std::vector<std::pair<std::string, std::string>>;

// The environment as these variables make it, until the end of the test.
class Variables {
 public:
  explicit Variables(const Values& values) {
    for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"}) {
      const char* before = std::getenv(name);
      before_.emplace_back(name, before == nullptr ? "" : before);
      unsetenv(name);
    }
    for (const auto& [name, value] : values) setenv(name.c_str(), value.c_str(), 1);
  }
  Variables(const Variables&) = delete;
  ~Variables() {
    for (const auto& [name, value] : before_) {
      value.empty() ? unsetenv(name.c_str()) : setenv(name.c_str(), value.c_str(), 1);
    }
  }

 private:
  std::vector<std::pair<std::string, std::string>> before_;
};

// A cache as huggingface_hub leaves it: blobs, and snapshots of relative links to them.
class HubCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(repository_ + "/refs/pr");
    tests::WriteText(repository_ + "/refs/main", kCommit);
    tests::WriteText(repository_ + "/refs/pr/1", std::string(kOther) + "\n");
    Snapshot(kCommit, {.shards = 2});
    Snapshot(kOther, {.seed = 2});
  }
  void Snapshot(const std::string& commit, const tests::TinyLlama& options) {
    const std::string plain = tests::MakeTinyLlama(dir_ / ("plain-" + commit), options);
    const std::string snapshot = repository_ + "/snapshots/" + commit;
    fs::create_directories(snapshot);
    fs::create_directories(repository_ + "/blobs");
    for (const auto& entry : fs::directory_iterator(plain)) {
      const std::string name = entry.path().filename().string();
      const std::string blob = commit.substr(0, 8) + "-" + name;  // what a blob is called does not matter here
      fs::rename(entry.path(), repository_ + "/blobs/" + blob);
      fs::create_symlink("../../blobs/" + blob, snapshot + "/" + name);
    }
  }
  std::string ErrorOf(const std::string& ref) {
    const auto checkpoint = OpenCheckpoint(ref, {});
    EXPECT_FALSE(checkpoint);
    return checkpoint ? "" : checkpoint.error().ToString();
  }

  TempDir dir_;
  const Variables variables_ = Variables(Values{{"HF_HUB_CACHE", dir_ / "hub"}});
  const std::string repository_ = dir_ / "hub/models--org--name";
};

TEST_F(HubCacheTest, OpensByNameByRevisionAndByPath) {
  const std::string snapshots = repository_ + "/snapshots/";
  for (const auto& [ref, commit] :
       std::vector<std::pair<std::string, std::string>>{{"org/name", kCommit},
                                                        {"org/name@main", kCommit},
                                                        {"org/name@pr/1", kOther},
                                                        {std::string("org/name@") + kOther, kOther},
                                                        {"org/name@0123a", kCommit},
                                                        {snapshots + kCommit, kCommit},
                                                        {snapshots + kOther + "/", kOther}}) {
    const auto checkpoint = OpenCheckpoint(ref, {});
    ASSERT_TRUE(checkpoint) << checkpoint.error().ToString();
    EXPECT_EQ((*checkpoint)->ref(), ref);
    EXPECT_EQ((*checkpoint)->tensors().size(), 21u);
    EXPECT_EQ((*checkpoint)->files().size(), commit == kCommit ? 2u : 1u);
    EXPECT_THAT((*checkpoint)->files().front().path, HasSubstr(commit));
    EXPECT_THAT((*checkpoint)->problems(), ::testing::IsEmpty());
  }
  // A file of a snapshot by itself, and the blob behind it, whose name has no ending.
  EXPECT_TRUE(OpenCheckpoint(snapshots + kOther + "/model.safetensors", {}));
  EXPECT_TRUE(OpenCheckpoint(repository_ + "/blobs/0123ffff-model.safetensors", {}));
}

TEST_F(HubCacheTest, ALocalPathOfThatNameComesFirst) {
  const fs::path before = fs::current_path();
  fs::current_path(dir_.path());
  tests::MakeTinyLlama("org/name", {.layers = 1});
  const auto checkpoint = OpenCheckpoint("org/name", {});
  fs::current_path(before);
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ((*checkpoint)->tensors().size(), 12u);
}

TEST_F(HubCacheTest, SaysWhatItHasInstead) {
  EXPECT_THAT(ErrorOf("org/other"), AllOf(HasSubstr("does not have it"), HasSubstr("`hf download org/other`")));
  EXPECT_THAT(ErrorOf("org/name@v9"),
              AllOf(HasSubstr("has other snapshots of it (0123abcd"),
                    HasSubstr("none of v9: fetch it with `hf download org/name --revision v9`")));
  EXPECT_THAT(ErrorOf("org/name@0123"), HasSubstr("2 commits in the hub cache begin with 0123"));
  EXPECT_THAT(ErrorOf("org/name@012"), HasSubstr("none of 012"));  // too short for a commit
  tests::WriteText(repository_ + "/refs/main", "../../..");        // is not trusted as a path
  EXPECT_THAT(ErrorOf("org/name"), HasSubstr("none of main"));
  fs::remove_all(repository_ + "/snapshots");
  EXPECT_THAT(ErrorOf("org/name"), HasSubstr("has no snapshot of it"));
  tests::WriteText(repository_ + "/blobs/aa.incomplete", "x");
  EXPECT_THAT(ErrorOf("org/name"), HasSubstr("has 1 unfinished download of it and no snapshot of main"));
}

TEST_F(HubCacheTest, AnUnfinishedDownloadIsNamed) {
  const std::string snapshot = repository_ + "/snapshots/" + kCommit;
  fs::remove(repository_ + "/blobs/0123abcd-model-00002-of-00002.safetensors");
  tests::WriteText(repository_ + "/blobs/aa.incomplete", "x");
  for (const std::string& ref : {std::string("org/name"), snapshot}) {
    EXPECT_THAT(ErrorOf(ref),
                AllOf(HasSubstr("1 of the 2 files that the index names is not there"),
                      HasSubstr("is a link to ../../blobs/0123abcd-model-00002-of-00002.safetensors, where there is "
                                "nothing"),
                      HasSubstr("1 download was not finished: " + repository_ + "/blobs/aa.incomplete"),
                      HasSubstr(std::string("with `hf download org/name model-00002-of-00002.safetensors --revision ") +
                                kCommit + "`")));
  }
  // Of a model in one file nothing is left.
  fs::remove(repository_ + "/blobs/0123ffff-model.safetensors");
  EXPECT_THAT(ErrorOf("org/name@pr/1"),
              AllOf(HasSubstr("there are no weights in the folder yet"), HasSubstr("model.safetensors is a link to"),
                    HasSubstr("`hf download org/name model.safetensors --revision 0123ffff")));
}

TEST(HubCache, IsWhereHuggingFacesOwnVariablesPutIt) {
  {
    const Variables v(Values{{"HF_HUB_CACHE", "/a"}, {"HF_HOME", "/b"}, {"HOME", "/h"}});
    EXPECT_EQ(HubCacheFolder(), "/a");
  }
  {
    const Variables v(Values{{"HF_HOME", "/b"}, {"XDG_CACHE_HOME", "/c"}});
    EXPECT_EQ(HubCacheFolder(), "/b/hub");
  }
  {
    const Variables v(Values{{"XDG_CACHE_HOME", "/c"}, {"HOME", "/h"}});
    EXPECT_EQ(HubCacheFolder(), "/c/huggingface/hub");
  }
  const Variables v(Values{{"HOME", "/h"}});
  EXPECT_EQ(HubCacheFolder(), "/h/.cache/huggingface/hub");
}

TEST(HubCache, NamesAndSnapshots) {
  for (const char* bad :
       {"name", "a/b/c", "/a", "a/", ".a/b", "-a/b", "a/b@", "a/b@../c", "a/b@/c", "a b/c", "a/b..c"}) {
    EXPECT_FALSE(ParseHubName(bad)) << bad;
  }
  const auto named = ParseHubName("01-ai/Yi-34B@refs/pr/2");
  ASSERT_TRUE(named);
  EXPECT_EQ(named->org + "|" + named->name + "|" + named->revision, "01-ai|Yi-34B|refs/pr/2");
  const auto snapshot = SnapshotOf("/c/models--01-ai--Yi-34B/snapshots/abc/");
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(snapshot->repository, "/c/models--01-ai--Yi-34B");
  EXPECT_EQ(FetchCommand(*snapshot, std::vector<std::string>{"a b", "c"}, true),
            "hf download 01-ai/Yi-34B 'a b' c --revision abc --force-download");
  EXPECT_EQ(FetchCommand(*SnapshotOf("/c/models--gpt2/snapshots/abc"), {}), "hf download gpt2 --revision abc");
  EXPECT_FALSE(SnapshotOf("/c/models--gpt2/other/abc"));
  EXPECT_FALSE(SnapshotOf("/c/gpt2/snapshots/abc"));
}

TEST(HubCache, DigestsByTheirLength) {
  EXPECT_EQ(BlobDigestOf(std::string(64, 'a')), BlobDigest::kSha256);
  EXPECT_EQ(BlobDigestOf(std::string(40, '0')), BlobDigest::kGitSha1);
  EXPECT_EQ(BlobDigestOf(std::string(40, 'g')), BlobDigest::kNone);
  EXPECT_EQ(BlobDigestOf("model.safetensors"), BlobDigest::kNone);
}

}  // namespace
}  // namespace sluice::checkpoint
