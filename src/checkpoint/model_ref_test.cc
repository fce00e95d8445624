#include "checkpoint/model_ref.h"

#include <cstdlib>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/testing/tiny_models.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using tests::TempDir;

std::string ErrorOf(const std::string& ref, ErrorCode code) {
  const auto checkpoint = OpenCheckpoint(ref, {});
  EXPECT_FALSE(checkpoint) << ref;
  if (checkpoint) return "";
  EXPECT_STREQ(CodeName(checkpoint.error().code), CodeName(code)) << checkpoint.error().ToString();
  return checkpoint.error().ToString();
}

// A variable of the environment for one test.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (old_) {
      setenv(name_, old_->c_str(), 1);
    } else {
      unsetenv(name_);
    }
  }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

TEST(OpenCheckpoint, ByWhatThePathIs) {
  TempDir dir;
  const std::string one = tests::MakeTinyLlama(dir / "one");
  const std::string two =
      tests::MakeTinyLlama(dir / "two+x", {.shards = 2});  // a path is a path, whatever is in its name
  for (const std::string& ref :
       {one, one + "/", one + "/model.safetensors", two, two + "/model.safetensors.index.json"}) {
    const auto checkpoint = OpenCheckpoint(ref, {});
    ASSERT_TRUE(checkpoint) << checkpoint.error().ToString();
    EXPECT_EQ((*checkpoint)->tensors().size(), 21u);
    EXPECT_EQ((*checkpoint)->ref(), ref);
    EXPECT_NE((*checkpoint)->config(), nullptr);
  }
  // A file without a config beside it.
  fs::copy(one + "/model.safetensors", dir / "x.safetensors");
  EXPECT_EQ((*OpenCheckpoint(dir / "x.safetensors", {}))->config(), nullptr);
  EXPECT_TRUE((*OpenCheckpoint(dir / "x.safetensors", {}))->problems().empty());
  // A blob of a hub cache has no ending.
  fs::copy(one + "/model.safetensors", dir / "5f3c");
  EXPECT_EQ((*OpenCheckpoint(dir / "5f3c", {}))->tensors().size(), 21u);
}

TEST(OpenCheckpoint, OpenersComeFirst) {
  TempDir dir;
  const std::string model = tests::MakeTinyLlama(dir / "m");
  int asked = 0;
  OpenOptions options;
  options.openers.push_back([&](const std::string& ref,
                                const OpenOptions& given) -> std::optional<Result<std::shared_ptr<const Checkpoint>>> {
    ++asked;
    EXPECT_EQ(given.seed, 7u);
    if (!ref.ends_with(".yml")) return std::nullopt;
    return Fail(ErrorCode::kRecipe, "mine");
  });
  options.seed = 7;
  EXPECT_TRUE(OpenCheckpoint(model, options));
  const auto recipe = OpenCheckpoint("absent.yml", options);
  ASSERT_FALSE(recipe);
  EXPECT_EQ(recipe.error().code, ErrorCode::kRecipe);
  EXPECT_EQ(asked, 2);
}

TEST(OpenCheckpoint, RefusalsSayWhatToDo) {
  TempDir dir;
  const Variable cache("HF_HUB_CACHE", dir / "cache");
  EXPECT_THAT(ErrorOf("", ErrorCode::kNotFound), HasSubstr("empty reference"));
  EXPECT_THAT(ErrorOf(dir / "absent", ErrorCode::kNotFound), HasSubstr("no such file or folder"));
  EXPECT_THAT(ErrorOf("./absent/x", ErrorCode::kNotFound), HasSubstr("no such file or folder"));
  EXPECT_THAT(ErrorOf("absent/recipe.yml", ErrorCode::kNotFound), HasSubstr("no such file or folder"));
  EXPECT_THAT(ErrorOf("absent", ErrorCode::kNotFound), HasSubstr("no such file or folder"));
  EXPECT_THAT(ErrorOf("org/name", ErrorCode::kNotFound), HasSubstr("fetch it with `hf download org/name`"));
  EXPECT_THAT(ErrorOf("org/name@v1.0", ErrorCode::kNotFound), HasSubstr("`hf download org/name --revision v1.0`"));
  EXPECT_THAT(ErrorOf("hf://org/name@v2", ErrorCode::kUnsupported),
              HasSubstr("hf:// is not supported yet: download the model with `hf download org/name --revision v2`"));
  EXPECT_THAT(ErrorOf("s3://bucket/x", ErrorCode::kUnsupported), HasSubstr("s3:// is not supported yet"));
  EXPECT_THAT(ErrorOf("https://host/x", ErrorCode::kUnsupported), HasSubstr("https:// is not supported yet"));
  EXPECT_THAT(ErrorOf("org/name+lora/path", ErrorCode::kNotFound), HasSubstr("fetch it with `hf download lora/path`"));
  EXPECT_THAT(ErrorOf("./c++/model", ErrorCode::kNotFound),
              HasSubstr("no folder /model that could be applied to ./c+"));
  tests::WriteText(dir / "r.yml", "x");
  EXPECT_THAT(ErrorOf(dir / "r.yml", ErrorCode::kUnsupported), HasSubstr("a recipe cannot be used here"));
  tests::WriteText(dir / "pytorch_model.bin", "x");
  EXPECT_THAT(ErrorOf(dir / "pytorch_model.bin", ErrorCode::kCorrupt), HasSubstr("not a PyTorch file"));
  tests::WriteText(dir / "config.json", "{}");
  EXPECT_THAT(ErrorOf(dir / "config.json", ErrorCode::kUnsupported), HasSubstr("name the folder"));
  tests::WriteText(dir / "notes.txt", "These are just notes.");
  EXPECT_THAT(ErrorOf(dir / "notes.txt", ErrorCode::kUnsupported), HasSubstr("a text file, not a model"));
  tests::WriteText(dir / "empty", "");
  EXPECT_THAT(ErrorOf(dir / "empty", ErrorCode::kCorrupt), HasSubstr("the file is empty"));
}

TEST(OpenCheckpoint, FromTheHubCache) {
  TempDir dir;
  const Variable cache("HF_HUB_CACHE", dir.path());
  const std::string repository = dir / "models--org--name";
  tests::MakeTinyLlama(repository + "/snapshots/0123abcd");
  EXPECT_FALSE(OpenCheckpoint("org/name", {}));
  fs::create_directories(repository + "/refs/pr");
  tests::WriteText(repository + "/refs/main", "0123abcd\n");
  tests::WriteText(repository + "/refs/pr/1", "0123abcd");
  for (const char* ref : {"org/name", "org/name@main", "org/name@0123abcd", "org/name@pr/1"}) {
    const auto checkpoint = OpenCheckpoint(ref, {});
    ASSERT_TRUE(checkpoint) << checkpoint.error().ToString();
    EXPECT_EQ((*checkpoint)->ref(), ref);
    EXPECT_EQ((*checkpoint)->tensors().size(), 21u);
  }
  EXPECT_FALSE(OpenCheckpoint("org/name@other", {}));
  EXPECT_FALSE(OpenCheckpoint("org/name@../x", {}));
  // What a ref file says is not trusted as a path.
  tests::WriteText(repository + "/refs/main", "../../..");
  EXPECT_FALSE(OpenCheckpoint("org/name", {}));
}

}  // namespace
}  // namespace sluice::checkpoint
