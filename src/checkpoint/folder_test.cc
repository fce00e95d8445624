#include "checkpoint/folder.h"

#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/stored_checkpoint.h"
#include "checkpoint/testing/tiny_models.h"
#include "io/recording_source.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using tests::TempDir;
using tests::TinyLlama;

std::shared_ptr<const Checkpoint> Open(const std::string& path, const OpenOptions& options = {}) {
  auto checkpoint = OpenFolder(path, options);
  EXPECT_TRUE(checkpoint) << checkpoint.error().ToString();
  return checkpoint ? *checkpoint : nullptr;
}

std::string ErrorOf(const std::string& path, ErrorCode code) {
  const auto checkpoint = OpenFolder(path, {});
  EXPECT_FALSE(checkpoint);
  if (checkpoint) return "";
  EXPECT_STREQ(CodeName(checkpoint.error().code), CodeName(code)) << checkpoint.error().ToString();
  EXPECT_THAT(checkpoint.error().ToString(), HasSubstr(path));
  return checkpoint.error().ToString();
}

std::vector<std::string> ProblemsOf(const Checkpoint& checkpoint) {
  std::vector<std::string> texts;
  for (const Problem& problem : checkpoint.problems()) {
    const char* severity = problem.severity == Problem::Severity::kNote      ? "note"
                           : problem.severity == Problem::Severity::kWarning ? "warning"
                                                                             : "error";
    texts.push_back(fmt::format("{}|{}|{}|{}", severity, problem.file, problem.tensor, problem.message));
  }
  return texts;
}

std::vector<uint8_t> BytesOf(const Checkpoint& checkpoint, const std::string& name) {
  const auto place = checkpoint.tensors().Find(name);
  if (!place) return {};
  graph::Graph graph;
  const auto* node = dynamic_cast<const graph::StoredNode*>(checkpoint.MakeNode(*place, &graph));
  EXPECT_NE(node, nullptr);
  const graph::Range range = node->BytesOf({0, node->num_elements()});
  std::vector<uint8_t> bytes(range.size());
  EXPECT_TRUE(node->source().Read(range.begin, bytes));
  return bytes;
}

void ExpectTensors(const Checkpoint& checkpoint, const std::vector<tests::TestTensor>& tensors) {
  ASSERT_EQ(checkpoint.tensors().size(), tensors.size());
  for (const tests::TestTensor& tensor : tensors) {
    const auto place = checkpoint.tensors().Find(tensor.name);
    ASSERT_TRUE(place) << tensor.name;
    const TensorInfo info = checkpoint.tensors()[*place];
    EXPECT_EQ(info.encoding.name(), tensor.dtype);
    EXPECT_TRUE(std::ranges::equal(info.shape, tensor.shape));
    EXPECT_EQ(BytesOf(checkpoint, tensor.name), tensor.bytes) << tensor.name;
  }
}

TEST(Folder, OpensOneAndMoreShardsAlike) {
  TempDir dir;
  for (const int shards : {1, 4}) {
    const TinyLlama options{.shards = shards};
    const std::string path = tests::MakeTinyLlama(dir / fmt::format("m{}", shards), options);
    const auto model = Open(path);
    ASSERT_TRUE(model);
    ExpectTensors(*model, tests::TinyLlamaTensors(options));
    EXPECT_THAT(ProblemsOf(*model), ::testing::IsEmpty());
    EXPECT_EQ(model->kind(), "safetensors");
    EXPECT_EQ(model->ref(), path);
    EXPECT_EQ(model->files().size(), static_cast<size_t>(shards));
    EXPECT_EQ(model->config()->architecture(), "LlamaForCausalLM");
    EXPECT_EQ(model->config()->PredictedParameters(), model->tensors().total_elements());
    ASSERT_EQ(model->side_files().size(), 3u);
    EXPECT_EQ(model->side_files()[0].name, "generation_config.json");
    EXPECT_EQ(model->side_files()[2].path, path + "/tokenizer_config.json");
  }
  // By the index itself, and without the folder's name.
  const auto by_index = OpenIndex(dir / "m4/model.safetensors.index.json", {});
  ASSERT_TRUE(by_index) << by_index.error().ToString();
  ExpectTensors(**by_index, tests::TinyLlamaTensors({}));
  const fs::path before = fs::current_path();
  fs::current_path(dir / "m4");
  EXPECT_TRUE(OpenFolder(".", {}));
  EXPECT_TRUE(OpenIndex("model.safetensors.index.json", {}));
  fs::current_path(before);
}

TEST(Folder, ReadsHeadersAlone) {
  TempDir dir;
  const std::string path = tests::MakeTinyLlama(dir / "m", {.hidden = 256, .shards = 2});
  std::vector<std::shared_ptr<const io::RecordingSource>> sources;
  OpenOptions options;
  options.open_source = [&](const std::string& file) -> Result<std::shared_ptr<const io::ByteSource>> {
    SLUICE_ASSIGN(auto inner, io::OpenFile(file));
    sources.push_back(std::make_shared<io::RecordingSource>(inner));
    return sources.back();
  };
  ASSERT_TRUE(Open(path, options));
  ASSERT_EQ(sources.size(), 2u);
  for (const auto& source : sources) {
    uint64_t read = 0;
    for (const auto& one : source->reads()) read += one.size_bytes;
    EXPECT_LE(read, 4096u);
    EXPECT_GT(source->size_bytes(), 100'000u);
  }
}

TEST(Folder, WithoutIndexTheOnlyFile) {
  TempDir dir;
  const tests::TestTensor w = tests::RandomTensor("w", "F32", {2, 2}, 1);
  tests::WriteSafetensors(dir / "weights.safetensors", {w});
  auto model = Open(dir.path());
  ASSERT_TRUE(model);
  ExpectTensors(*model, {w});
  EXPECT_EQ(model->config(), nullptr);
  EXPECT_THAT(ProblemsOf(*model), ::testing::ElementsAre(HasSubstr("there is no config.json")));

  // With a model.safetensors beside it that one is the model, and the other is reported.
  tests::WriteSafetensors(dir / "model.safetensors", {w, tests::RandomTensor("v", "F32", {1}, 1)});
  model = Open(dir.path());
  ASSERT_TRUE(model);
  EXPECT_EQ(model->tensors().size(), 2u);
  EXPECT_THAT(ProblemsOf(*model), ::testing::Contains(::testing::StartsWith(
                                      "warning|weights.safetensors||not read, and not counted: weights.safetensors")));

  fs::remove(dir / "model.safetensors");
  tests::WriteSafetensors(dir / "other.safetensors", {w});
  EXPECT_THAT(ErrorOf(dir.path(), ErrorCode::kNotFound),
              HasSubstr("2 safetensors files (other.safetensors, weights.safetensors)"));
}

TEST(Folder, ShardsWithoutTheirIndex) {
  TempDir dir;
  const std::string path = tests::MakeTinyLlama(dir / "m", {.shards = 3});
  fs::remove(path + "/model.safetensors.index.json");
  EXPECT_THAT(ErrorOf(path, ErrorCode::kNotFound),
              HasSubstr("no model.safetensors.index.json that says which tensor is where"));
  fs::remove(path + "/model-00001-of-00003.safetensors");
  fs::remove(path + "/model-00003-of-00003.safetensors");
  EXPECT_THAT(ErrorOf(path, ErrorCode::kNotFound), HasSubstr("model-00002-of-00003.safetensors is one of 3 files"));
  const auto alone = OpenSafetensorsFile(path + "/model-00002-of-00003.safetensors", {});
  ASSERT_TRUE(alone);
  EXPECT_THAT(ProblemsOf(**alone), ::testing::ElementsAre(HasSubstr("opened alone: it is number 2 of 3 files")));
}

TEST(Folder, WhatIsNoModel) {
  TempDir dir;
  EXPECT_THAT(ErrorOf(dir / "absent", ErrorCode::kNotFound), HasSubstr("No such file or directory"));
  fs::create_directory(dir / "empty");
  EXPECT_THAT(ErrorOf(dir / "empty", ErrorCode::kNotFound), HasSubstr("there are no files in the folder"));
  fs::create_directory(dir / "config");
  tests::WriteText(dir / "config/config.json", "{}");
  tests::WriteText(dir / "config/training_args.bin", "x");
  EXPECT_THAT(ErrorOf(dir / "config", ErrorCode::kNotFound),
              HasSubstr("there are no weights in the folder (it has config.json, training_args.bin)"));
  tests::WriteText(dir / "config/pytorch_model.bin", "x");
  EXPECT_THAT(ErrorOf(dir / "config", ErrorCode::kCorrupt), HasSubstr("pytorch_model.bin: not a PyTorch file"));
  fs::remove(dir / "config/pytorch_model.bin");
  tests::WriteText(dir / "config/m.gguf", "x");
  EXPECT_THAT(ErrorOf(dir / "config", ErrorCode::kNotFound), HasSubstr("name the file itself (m.gguf)"));
  tests::WriteText(dir / "file", "x");
  EXPECT_FALSE(OpenFolder(dir / "file", {}));
}

TEST(Folder, WeightsTwiceCountOnce) {
  TempDir dir;
  const std::string path = tests::MakeTinyLlama(dir / "m", {.shards = 2});
  tests::WriteText(path + "/pytorch_model-00001-of-00001.bin", std::string(1000, 'x'));
  tests::WriteText(path + "/training_args.bin", "x");
  tests::WriteSafetensors(path + "/consolidated.safetensors", {});
  const auto model = Open(path);
  ASSERT_TRUE(model);
  ExpectTensors(*model, tests::TinyLlamaTensors({}));
  EXPECT_THAT(
      ProblemsOf(*model),
      ::testing::ElementsAre("note|consolidated.safetensors||not read, and not counted: consolidated.safetensors, "
                             "pytorch_model-00001-of-00001.bin (1.02 kB), most likely the same weights a second time"));
}

// As Mistral publishes its models: once in shards, once in a file of its own names.
TEST(Folder, ConsolidatedBesideAndAlone) {
  TempDir dir;
  const std::string path = tests::MakeTinyLlama(dir / "m", {.shards = 2});
  const tests::TestTensor own = tests::RandomTensor("layers.0.attention.wq.weight", "F32", {2, 2}, 1);
  tests::WriteSafetensors(path + "/consolidated.safetensors", {own});
  const auto model = Open(path);
  ASSERT_TRUE(model);
  ExpectTensors(*model, tests::TinyLlamaTensors({}));
  EXPECT_THAT(
      ProblemsOf(*model),
      ::testing::ElementsAre(::testing::StartsWith("note|consolidated.safetensors||not read, and not counted: ")));

  fs::create_directory(dir / "own");
  tests::WriteSafetensors(dir / "own/consolidated.safetensors", {own});
  tests::WriteText(dir / "own/params.json", "{}");
  const auto alone = Open(dir / "own");
  ASSERT_TRUE(alone);
  ExpectTensors(*alone, {own});
  EXPECT_THAT(ProblemsOf(*alone), ::testing::Contains(::testing::StartsWith(
                                      "warning|consolidated.safetensors||the tensors have Mistral's or "
                                      "Meta's own names (and params.json in place of config.json)")));
  // Beside one other file it is not the model.
  tests::WriteSafetensors(dir / "own/weights.safetensors", {tests::RandomTensor("w", "F32", {2}, 1)});
  EXPECT_EQ(Open(dir / "own")->files().front().name, "weights.safetensors");
}

TEST(Folder, SixDigitsInTheNamesOfShards) {
  TempDir dir;
  const std::string one = "model-000001-of-000002.safetensors", two = "model-000002-of-000002.safetensors";
  tests::WriteSafetensors(dir / one, {tests::RandomTensor("a", "F32", {4}, 1)});
  tests::WriteSafetensors(dir / two, {tests::RandomTensor("b", "F32", {4}, 1)});
  EXPECT_THAT(ErrorOf(dir.path(), ErrorCode::kNotFound), HasSubstr("no model.safetensors.index.json"));
  tests::WriteText(dir / "config.json", "{}");
  tests::WriteText(dir / "model.safetensors.index.json",
                   fmt::format(R"({{"weight_map":{{"a":"{}","b":"{}"}}}})", one, two));
  const auto model = Open(dir.path());
  ASSERT_TRUE(model);
  EXPECT_EQ(model->tensors().size(), 2u);
  EXPECT_THAT(ProblemsOf(*model), ::testing::IsEmpty());
}

TEST(Folder, AnIndexWhoseFilesAreGoneWherePyTorchsAre) {
  TempDir dir;
  const std::string path = tests::MakeTinyLlama(dir / "m", {.shards = 2});
  for (const char* name : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    fs::remove(path + "/" + name);
  }
  EXPECT_THAT(ErrorOf(path, ErrorCode::kNotFound), Not(HasSubstr("PyTorch")));
  tests::WriteText(path + "/pytorch_model.bin", "x");
  const std::string error = ErrorOf(path, ErrorCode::kNotFound);
  EXPECT_THAT(error,
              HasSubstr("2 of the 2 files that the index names are not there: model-00001-of-00002.safetensors, "));
  EXPECT_THAT(error, HasSubstr("fetch the missing files, or open the PyTorch weights that are there by their name, " +
                               path + "/pytorch_model.bin"));
}

TEST(Folder, DownloadsThatWereBrokenOff) {
  TempDir dir;
  const std::string path = tests::MakeTinyLlama(dir / "m", {.shards = 2});
  fs::rename(path + "/model-00002-of-00002.safetensors", path + "/model-00002-of-00002.safetensors.part");
  EXPECT_THAT(ErrorOf(path, ErrorCode::kNotFound),
              HasSubstr("1 download was not finished: model-00002-of-00002.safetensors.part; fetch the missing files"));
  // What `hf download --local-dir` leaves.
  fs::remove(path + "/model-00002-of-00002.safetensors.part");
  fs::create_directories(path + "/.cache/huggingface/download");
  tests::WriteText(path + "/.cache/huggingface/download/x.incomplete", "x");
  EXPECT_THAT(ErrorOf(path, ErrorCode::kNotFound), HasSubstr("1 download was not finished: " + path + "/.cache/"));
  fs::remove(path + "/model.safetensors.index.json");
  fs::remove(path + "/model-00001-of-00002.safetensors");
  EXPECT_THAT(ErrorOf(path, ErrorCode::kNotFound), HasSubstr("there are no weights in the folder yet; 1 download was"));
  // A model that is there has it as a note.
  const std::string whole = tests::MakeTinyLlama(dir / "whole");
  tests::WriteText(whole + "/other.gguf.part", "x");
  EXPECT_THAT(ProblemsOf(*Open(whole)),
              ::testing::ElementsAre(::testing::StartsWith("note|||1 download was not finished")));
}

TEST(Folder, MissingAndCutShards) {
  TempDir dir;
  const std::string path = tests::MakeTinyLlama(dir / "m", {.shards = 4});
  const std::string third = path + "/model-00003-of-00004.safetensors";
  const std::string whole = tests::ReadText(third);

  tests::WriteText(third, std::string_view(whole).substr(0, whole.size() - 10));
  EXPECT_THAT(ErrorOf(path, ErrorCode::kCorrupt), HasSubstr("model-00003-of-00004.safetensors: "));
  EXPECT_THAT(ErrorOf(path, ErrorCode::kCorrupt), HasSubstr("the file is truncated"));

  tests::WriteText(third, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n");
  EXPECT_THAT(ErrorOf(path, ErrorCode::kCorrupt), HasSubstr("a Git LFS pointer for 123456 bytes"));

  fs::remove(third);
  const std::string missing = ErrorOf(path, ErrorCode::kNotFound);
  EXPECT_THAT(missing,
              HasSubstr("1 of the 4 files that the index names is not there: model-00003-of-00004.safetensors; "));
  EXPECT_THAT(missing, HasSubstr("of 21 tensors are affected, model.layers.1.mlp.gate_proj.weight is the first"));

  // A link that leads nowhere, as an unfinished hub cache has it, is no file.
  fs::create_symlink(dir / "nowhere", third);
  EXPECT_THAT(ErrorOf(path, ErrorCode::kNotFound), HasSubstr("is not there"));
}

// Two tensors in two files, with an index to be written.
class IndexedFolderTest : public ::testing::Test {
 protected:
  static constexpr const char* kOne = "model-00001-of-00002.safetensors";
  static constexpr const char* kTwo = "model-00002-of-00002.safetensors";
  void SetUp() override {
    tests::WriteText(dir_ / "config.json", "{}");
    Write(kOne, {"a", "b"});
    Write(kTwo, {"c"});
  }
  void Write(const char* file, const std::vector<std::string>& names) {
    std::vector<tests::TestTensor> tensors;
    tensors.reserve(names.size());
    for (const std::string& name : names) tensors.push_back(tests::RandomTensor(name, "F32", {4}, 1));
    tests::WriteSafetensors(dir_ / file, tensors);
  }
  void WriteIndex(const std::map<std::string, std::string>& map, const std::string& metadata = "{\"total_size\":48}") {
    std::string text;
    for (const auto& [tensor, file] : map)
      text += fmt::format("{}\"{}\":\"{}\"", text.empty() ? "" : ",", tensor, file);
    tests::WriteText(dir_ / "model.safetensors.index.json",
                     fmt::format("{{\"metadata\":{},\"weight_map\":{{{}}}}}", metadata, text));
  }
  TempDir dir_;
};

TEST_F(IndexedFolderTest, IsFineAsItIs) {
  WriteIndex({{"a", kOne}, {"b", kOne}, {"c", kTwo}});
  const auto model = Open(dir_.path());
  ASSERT_TRUE(model);
  EXPECT_THAT(ProblemsOf(*model), ::testing::IsEmpty());
  EXPECT_EQ(model->tensors().size(), 3u);
}

TEST_F(IndexedFolderTest, TensorsInTheWrongFileOrNone) {
  WriteIndex({{"a", kOne}, {"b", kTwo}, {"c", kTwo}});
  EXPECT_THAT(ErrorOf(dir_.path(), ErrorCode::kCorrupt),
              HasSubstr("1 of 3 tensors are not in the file that the index maps them to: b is not in "
                        "model-00002-of-00002.safetensors, "
                        "it is in model-00001-of-00002.safetensors"));
  WriteIndex({{"a", kOne}, {"b", kOne}, {"c", kTwo}, {"d", kTwo}, {"e", kTwo}});
  EXPECT_THAT(ErrorOf(dir_.path(), ErrorCode::kCorrupt), HasSubstr("2 of 5 tensors are not"));
  EXPECT_THAT(ErrorOf(dir_.path(), ErrorCode::kCorrupt),
              HasSubstr("d is not in model-00002-of-00002.safetensors, it is in none of the files"));
  WriteIndex({{"a", "../x.safetensors"}});
  EXPECT_THAT(ErrorOf(dir_.path(), ErrorCode::kCorrupt), HasSubstr("not a file inside the folder"));
}

TEST_F(IndexedFolderTest, TensorsInTwoFilesAndTensorsUnmapped) {
  Write(kTwo, {"b", "c", "x", "y"});
  WriteIndex({{"a", kOne}, {"b", kOne}, {"c", kTwo}});
  const auto model = Open(dir_.path());
  ASSERT_TRUE(model);
  EXPECT_EQ(model->tensors().size(), 3u);
  EXPECT_THAT(
      ProblemsOf(*model),
      ::testing::ElementsAre(
          fmt::format(
              "warning|{}|x|2 tensors (32 B) are in this file but not in the index, and so not in the model: x, y",
              kTwo),
          fmt::format(
              "warning|{}|b|1 tensors are in this file though the index maps them to another: b; the other is read",
              kTwo)));
}

TEST_F(IndexedFolderTest, TotalsThatAreWrong) {
  WriteIndex({{"a", kOne}, {"b", kOne}, {"c", kTwo}}, "{\"total_size\":4800,\"total_parameters\":13}");
  const auto model = Open(dir_.path());
  ASSERT_TRUE(model);
  EXPECT_THAT(ProblemsOf(*model), ::testing::ElementsAre(HasSubstr("total_size is 4,800, the headers have 48"),
                                                         HasSubstr("total_parameters is 13, the headers have 12")));
}

TEST_F(IndexedFolderTest, GapsInTheNumbers) {
  Write("model-00004-of-00007.safetensors", {"d"});
  fs::rename(dir_ / kOne, dir_ / "model-00001-of-00007.safetensors");
  fs::rename(dir_ / kTwo, dir_ / "model-00002-of-00007.safetensors");
  WriteIndex({{"a", "model-00001-of-00007.safetensors"},
              {"b", "model-00001-of-00007.safetensors"},
              {"c", "model-00002-of-00007.safetensors"},
              {"d", "model-00004-of-00007.safetensors"}},
             "{}");
  const auto model = Open(dir_.path());
  ASSERT_TRUE(model);
  EXPECT_THAT(ProblemsOf(*model),
              ::testing::ElementsAre(HasSubstr("no tensor of 4 of the 7 files model-*-of-*; number 3 is the first")));
}

TEST_F(IndexedFolderTest, SetsThatDoNotAgree) {
  fs::rename(dir_ / kTwo, dir_ / "model-00009-of-00003.safetensors");
  WriteIndex({{"a", kOne}, {"b", kOne}, {"c", "model-00009-of-00003.safetensors"}}, "{}");
  const auto model = Open(dir_.path());
  ASSERT_TRUE(model);
  EXPECT_THAT(ProblemsOf(*model), ::testing::Contains(HasSubstr("file number 9 of 3 does not exist")));
  EXPECT_THAT(ProblemsOf(*model), ::testing::Contains(HasSubstr("2 different sets of shards")));
}

TEST_F(IndexedFolderTest, FilesThatTheIndexDoesNotName) {
  WriteIndex({{"a", kOne}, {"b", kOne}}, "{}");
  Write("model-00001-of-00003.safetensors", {"z"});
  Write("extra.safetensors", {"e"});
  const auto model = Open(dir_.path());
  ASSERT_TRUE(model);
  EXPECT_EQ(model->tensors().size(), 2u);
  EXPECT_THAT(ProblemsOf(*model),
              ::testing::ElementsAre(
                  HasSubstr("the index names no tensor of 1 of the 2 files model-*-of-*; number 2 is the first"),
                  ::testing::AllOf(::testing::StartsWith(fmt::format("warning|{}||not read", kTwo)),
                                   HasSubstr("the index maps no tensor to them: if it is stale, fetch it again")),
                  ::testing::AllOf(::testing::StartsWith("warning|model-00001-of-00003.safetensors||not read"),
                                   HasSubstr("left over from another version")),
                  ::testing::StartsWith("warning|extra.safetensors||not read")));
}

TEST_F(IndexedFolderTest, AnotherNameOfTheIndex) {
  WriteIndex({{"a", kOne}, {"b", kOne}, {"c", kTwo}});
  fs::rename(dir_ / "model.safetensors.index.json", dir_ / "consolidated.safetensors.index.json");
  EXPECT_EQ(Open(dir_.path())->tensors().size(), 3u);
  fs::copy(dir_ / "consolidated.safetensors.index.json", dir_ / "x.safetensors.index.json");
  EXPECT_THAT(ErrorOf(dir_.path(), ErrorCode::kNotFound), HasSubstr("2 indices"));
}

TEST(Folder, TiedIsANote) {
  TempDir dir;
  const std::string path = tests::MakeTinyLlama(dir / "m", {.tied = true});
  EXPECT_THAT(ProblemsOf(*Open(path)),
              ::testing::ElementsAre("note|model.safetensors|lm_head.weight|not stored: tied to the input embedding"));

  // Without a config, by what the file itself says.
  tests::WriteSafetensors(dir / "x.safetensors", {tests::RandomTensor("emb.w", "F32", {4}, 1)},
                          {{"format", "pt"}, {"head.w", "emb.w"}, {"other.w", "absent.w"}, {"emb.w", "emb.w"}});
  const auto file = OpenSafetensorsFile(dir / "x.safetensors", {});
  ASSERT_TRUE(file);
  EXPECT_THAT(ProblemsOf(**file), ::testing::ElementsAre("note|x.safetensors|head.w|not stored: tied to emb.w"));
}

TEST(Folder, SideFilesAreCarriedAndPointersAmongThemReported) {
  TempDir dir;
  const std::string path = tests::MakeTinyLlama(dir / "m", {.tokenizer = false});
  for (const char* name : {"tokenizer.model", "LICENSE", "LICENSE.txt", "NOTICE.md", "README.md", "merges.txt",
                           "special_tokens_map.json", "added_tokens.json", "vocab.json", "chat_template.jinja",
                           "chat_template.json", "preprocessor_config.json", "optimizer.pt"}) {
    tests::WriteText(path + "/" + name, "x");
  }
  tests::WriteText(path + "/tokenizer.model",
                   "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 499723\n");
  fs::create_directory(path + "/tokenizer.json");  // a folder of that name is no file
  const auto model = Open(path);
  ASSERT_TRUE(model);
  std::vector<std::string> names;
  for (const SideFile& file : model->side_files()) names.push_back(file.name);
  EXPECT_THAT(names,
              ::testing::ElementsAre("LICENSE", "LICENSE.txt", "NOTICE.md", "added_tokens.json", "chat_template.jinja",
                                     "chat_template.json", "merges.txt", "preprocessor_config.json",
                                     "special_tokens_map.json", "tokenizer.model", "vocab.json"));
  EXPECT_THAT(ProblemsOf(*model), ::testing::ElementsAre(HasSubstr("error|tokenizer.model||a Git LFS pointer")));
}

TEST(Folder, ABadConfigIsAnError) {
  TempDir dir;
  const std::string path = tests::MakeTinyLlama(dir / "m");
  tests::WriteText(path + "/config.json", "{\n\"a\": 1,\n\"a\": 2}");
  EXPECT_THAT(ErrorOf(path, ErrorCode::kCorrupt), HasSubstr("config.json: line 3, column 1"));
}

TEST(Folder, ConfigAndTensorsThatDiffer) {
  TempDir dir;
  const std::string path = tests::MakeTinyLlama(dir / "m");
  tests::WriteText(path + "/config.json", tests::TinyLlamaConfig({.layers = 3}));
  EXPECT_THAT(ProblemsOf(*Open(path)),
              ::testing::ElementsAre(::testing::StartsWith("error|model.safetensors|model.layers.2.self_attn.q_proj."
                                                           "weight|9 tensors that config.json predicts are missing")));
}

// The catalogue stays small; the bound is of bytes, derived from what is kept for each tensor.
TEST(Folder, AHundredThousandTensorsInFourShards) {
  TempDir dir;
  constexpr int kTensors = 100000, kShards = 4;
  std::string map;
  uint64_t name_bytes = 0;
  for (int shard = 0; shard < kShards; ++shard) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, kShards);
    std::string header = "{";
    for (int i = 0; i < kTensors / kShards; ++i) {
      const std::string name =
          fmt::format("model.layers.{}.mlp.experts.{}.up_proj.weight", shard * 25 + i / 1000, i % 1000);
      name_bytes += name.size();
      header += fmt::format("{}\"{}\":{{\"dtype\":\"BF16\",\"shape\":[1,1],\"data_offsets\":[{},{}]}}",
                            i == 0 ? "" : ",", name, 2 * i, 2 * i + 2);
      map += fmt::format("{}\"{}\":\"{}\"", map.empty() ? "" : ",", name, file);
    }
    header += "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    tests::WriteRawSafetensors(dir / file, header, std::string(2 * kTensors / kShards, '\0'));
  }
  tests::WriteText(dir / "model.safetensors.index.json",
                   fmt::format("{{\"metadata\":{{\"total_size\":{}}},\"weight_map\":{{{}}}}}", 2 * kTensors, map));
  const auto model = Open(dir.path());
  ASSERT_TRUE(model);
  EXPECT_EQ(model->tensors().size(), static_cast<size_t>(kTensors));
  EXPECT_THAT(ProblemsOf(*model), ::testing::ElementsAre(HasSubstr("no config.json")));
  EXPECT_LE(model->tensors().memory_bytes(), name_bytes + uint64_t{kTensors} * (40 + 16) + 1024);
}

}  // namespace
}  // namespace sluice::checkpoint
