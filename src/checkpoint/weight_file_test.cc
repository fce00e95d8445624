// PyTorch files where a model has nothing else: alone, in shards, and beside other things.
#include "checkpoint/weight_file.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_ref.h"
#include "checkpoint/testing/tiny_models.h"
#include "graph/graph.h"
#include "tests/support/torch_builder.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;
namespace p = tests::pickle;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using tests::TempDir;
using tests::TestTensor;
using tests::TinyLlama;

// One file of these tensors, a storage each.
void WriteTorch(const std::string& path, std::span<const TestTensor> tensors) {
  const std::map<std::string, std::string> storages = {
      {"F32", "FloatStorage"}, {"F16", "HalfStorage"}, {"BF16", "BFloat16Storage"}};
  std::vector<std::pair<p::Ops, p::Ops>> items;
  std::vector<std::pair<std::string, std::string>> data;
  for (const TestTensor& tensor : tensors) {
    const std::string key = std::to_string(data.size());
    std::vector<int64_t> shape(tensor.shape.begin(), tensor.shape.end()), stride(shape.size(), 1);
    for (size_t i = shape.size(); i-- > 1;) stride[i - 1] = stride[i] * shape[i];
    const int64_t elements = shape.empty() ? 1 : shape[0] * stride[0];
    items.emplace_back(p::Text(tensor.name), p::Tensor(storages.at(tensor.dtype), key, elements, 0, shape, stride));
    data.emplace_back(key, std::string(tensor.bytes.begin(), tensor.bytes.end()));
  }
  tests::WriteText(path, tests::TorchFileBytes(p::Pickle(p::Dict(items, p::OrderedDict())), data));
}

// A tiny Llama with its weights in PyTorch files.
std::string MakeTorchLlama(const std::string& dir, const TinyLlama& options) {
  tests::MakeTinyLlama(dir, {.seed = options.seed});
  fs::remove(dir + "/model.safetensors");
  const std::vector<TestTensor> tensors = tests::TinyLlamaTensors(options);
  const auto shards = static_cast<size_t>(options.shards);
  if (shards == 1) {
    WriteTorch(dir + "/pytorch_model.bin", tensors);
    return dir;
  }
  std::string map;
  for (size_t shard = 0; shard < shards; ++shard) {
    const std::string file = fmt::format("pytorch_model-{:05}-of-{:05}.bin", shard + 1, shards);
    const size_t begin = shard * tensors.size() / shards, end = (shard + 1) * tensors.size() / shards;
    WriteTorch(dir + "/" + file, std::span(tensors).subspan(begin, end - begin));
    for (size_t i = begin; i < end; ++i)
      map += fmt::format("{}\"{}\":\"{}\"", i == 0 ? "" : ",", tensors[i].name, file);
  }
  tests::WriteText(dir + "/pytorch_model.bin.index.json", fmt::format("{{\"weight_map\":{{{}}}}}", map));
  return dir;
}

std::shared_ptr<const Checkpoint> Open(const std::string& ref) {
  auto checkpoint = OpenCheckpoint(ref, {});
  EXPECT_TRUE(checkpoint) << checkpoint.error().ToString();
  return checkpoint ? *checkpoint : nullptr;
}
std::string ErrorOf(const std::string& ref, ErrorCode code) {
  const auto checkpoint = OpenCheckpoint(ref, {});
  EXPECT_FALSE(checkpoint);
  if (checkpoint) return "";
  EXPECT_STREQ(CodeName(checkpoint.error().code), CodeName(code)) << checkpoint.error().ToString();
  return checkpoint.error().ToString();
}
std::vector<std::string> ProblemsOf(const Checkpoint& checkpoint) {
  std::vector<std::string> texts;
  for (const Problem& problem : checkpoint.problems())
    texts.push_back(problem.file + "|" + problem.tensor + "|" + problem.message);
  return texts;
}

void ExpectTensors(const Checkpoint& checkpoint, const std::vector<TestTensor>& tensors) {
  ASSERT_EQ(checkpoint.tensors().size(), tensors.size());
  for (const TestTensor& tensor : tensors) {
    const auto place = checkpoint.tensors().Find(tensor.name);
    ASSERT_TRUE(place) << tensor.name;
    EXPECT_EQ(checkpoint.tensors()[*place].encoding.name(), tensor.dtype);
    EXPECT_TRUE(std::ranges::equal(checkpoint.tensors()[*place].shape, tensor.shape));
    graph::Graph graph;
    const auto* node = dynamic_cast<const graph::StoredNode*>(checkpoint.MakeNode(*place, &graph));
    ASSERT_NE(node, nullptr);  // read in place
    const graph::Range range = node->BytesOf({0, node->num_elements()});
    std::vector<uint8_t> bytes(range.size());
    EXPECT_TRUE(node->source().Read(range.begin, bytes));
    EXPECT_EQ(bytes, tensor.bytes) << tensor.name;
  }
}

TEST(TorchFolder, OpensOneAndMoreFilesAlike) {
  TempDir dir;
  for (const int shards : {1, 3}) {
    const TinyLlama options{.shards = shards};
    const auto model = Open(MakeTorchLlama(dir / fmt::format("m{}", shards), options));
    ASSERT_TRUE(model);
    EXPECT_EQ(model->kind(), "pytorch");
    EXPECT_EQ(model->files().size(), static_cast<size_t>(shards));
    EXPECT_EQ(model->config()->architecture(), "LlamaForCausalLM");
    EXPECT_EQ(model->side_files().size(), 3u);
    EXPECT_THAT(ProblemsOf(*model), IsEmpty());
    ExpectTensors(*model, tests::TinyLlamaTensors(options));
  }
  ExpectTensors(*Open(dir / "m3/pytorch_model.bin.index.json"), tests::TinyLlamaTensors({}));
  const auto alone = Open(dir / "m3/pytorch_model-00002-of-00003.bin");
  EXPECT_THAT(ProblemsOf(*alone), ElementsAre(HasSubstr("opened alone: it is number 2 of 3 files")));
}

TEST(TorchFolder, FilesOfAnyNameThatPeopleGive) {
  TempDir dir;
  const std::vector<TestTensor> tensors = {tests::RandomTensor("w", "F32", {2, 3}, 1)};
  for (const std::string name : {"x.bin", "x.pt", "x.pth", "x.ckpt", "blob"}) {
    WriteTorch(dir / name, tensors);
    const auto model = Open(dir / name);
    ASSERT_TRUE(model);
    EXPECT_EQ(model->kind(), "pytorch");
    ExpectTensors(*model, tensors);
    fs::remove(dir / name);
  }
  tests::WriteText(dir / "optimizer.pt", "x");  // what a trainer leaves beside a model is not the model
  tests::WriteText(dir / "training_args.bin", "x");
  WriteTorch(dir / "weights.pth", tensors);
  ExpectTensors(*Open(dir.path()), tensors);
  WriteTorch(dir / "other.pth", tensors);
  EXPECT_THAT(ErrorOf(dir.path(), ErrorCode::kNotFound),
              HasSubstr("2 PyTorch files (other.pth, weights.pth), none is named pytorch_model.bin"));
  WriteTorch(dir / "pytorch_model.bin", tensors);
  const auto model = Open(dir.path());
  ASSERT_TRUE(model);
  EXPECT_THAT(ProblemsOf(*model), ::testing::Contains(HasSubstr("not read, and not counted: other.pth, weights.pth")));
}

TEST(TorchFolder, SafetensorsComeFirst) {
  TempDir dir;
  const std::string path = MakeTorchLlama(dir / "m", {.seed = 2, .shards = 2});
  tests::WriteShards(path, tests::TinyLlamaTensors({.seed = 1}), 2);
  const auto model = Open(path);
  ASSERT_TRUE(model);
  EXPECT_EQ(model->kind(), "safetensors");
  ExpectTensors(*model, tests::TinyLlamaTensors({.seed = 1}));
  EXPECT_THAT(ProblemsOf(*model), ElementsAre(HasSubstr("most likely the same weights a second time")));
}

TEST(TorchFolder, TheIndexIsHeldAgainstTheFiles) {
  TempDir dir;
  const std::string path = MakeTorchLlama(dir / "m", {.shards = 3});
  fs::remove(path + "/pytorch_model-00002-of-00003.bin");
  EXPECT_THAT(ErrorOf(path, ErrorCode::kNotFound),
              HasSubstr("1 of the 3 files that the index names is not there: pytorch_model-00002-of-00003.bin"));
  WriteTorch(path + "/pytorch_model-00002-of-00003.bin", {});
  EXPECT_THAT(ErrorOf(path, ErrorCode::kCorrupt), HasSubstr("tensors are not in the file that the index maps them to"));
  fs::remove(path + "/pytorch_model.bin.index.json");
  EXPECT_THAT(ErrorOf(path, ErrorCode::kNotFound), HasSubstr("but no pytorch_model.bin.index.json that says"));
}

TEST(TorchFolder, RemarksBecomeProblems) {
  TempDir dir;
  const p::Ops tensor = p::Tensor("FloatStorage", "0", 6, 0, {6}, {1});
  tests::WriteText(
      dir / "x.bin",
      tests::TorchFileBytes(p::Pickle(p::Dict({{p::Text("a"), tensor}, {p::Text("b"), tensor}, {p::Text("c"), "N"}})),
                            {{"0", std::string(24, 'x')}}));
  const auto model = Open(dir / "x.bin");
  ASSERT_TRUE(model);
  ASSERT_EQ(model->problems().size(), 2u);
  EXPECT_EQ(model->problems()[0].severity, Problem::Severity::kWarning);
  EXPECT_EQ(model->problems()[0].tensor, "c");
  EXPECT_EQ(model->problems()[1].severity, Problem::Severity::kNote);
  EXPECT_THAT(model->problems()[1].message, HasSubstr("share the bytes of others, this one those of a"));
  EXPECT_EQ(model->problems()[1].file, "x.bin");
}

}  // namespace
}  // namespace sluice::checkpoint
