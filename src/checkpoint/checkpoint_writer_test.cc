#include "checkpoint/checkpoint_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <random>

#include <nlohmann/json.hpp>

#include "checkpoint/testing/tiny_models.h"
#include "io/testing/disk_faults.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;
using io::WriteCall;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using tests::DiskFault;

std::vector<std::string> Names(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

struct Model {
  Catalogue catalogue;
  std::map<std::string, std::vector<uint8_t>> bytes;  // by name

  Model() {
    Add("embed", "BF16", {1000, 7});
    Add("empty", "F32", {0});
    Add("head", "F32", {33, 65});
    Add("norm", "F32", {});
    Add("tail", "U8", {99'999});
    Add("zero", "U8", {3, 0});
    catalogue.Sort();
  }
  void Add(const std::string& name, const std::string& dtype, const std::vector<uint64_t>& shape) {
    uint64_t num_elements = 1;
    for (const uint64_t dim : shape) num_elements *= dim;
    const quant::Encoding encoding = quant::EncodingByName(dtype);
    catalogue.Add(name, encoding, shape, num_elements);
    std::mt19937 random(static_cast<uint32_t>(bytes.size()));
    bytes[name].resize(encoding.BytesOf(num_elements));
    for (uint8_t& byte : bytes[name]) byte = static_cast<uint8_t>(random());
  }
};

// All tensors, in pieces of a seeded random size.
Result<void> AppendAll(const Model& model, CheckpointWriter* writer) {
  std::mt19937 random(5);
  for (uint32_t place = 0; place < writer->plan().order.size(); ++place) {
    const std::span<const uint8_t> bytes = model.bytes.at(std::string(writer->tensor(place).name));
    for (uint64_t at = 0; at < bytes.size();) {
      const uint64_t n = std::min<uint64_t>(1 + random() % 30'000, bytes.size() - at);
      SLUICE_TRY(writer->Append(place, at, bytes.subspan(at, n)));
      at += n;
    }
  }
  return {};
}

// What a plain reader finds in a file.
std::map<std::string, std::vector<uint8_t>> ReadTensors(const std::string& path) {
  const std::string text = tests::ReadText(path);
  uint64_t header_bytes;
  std::memcpy(&header_bytes, text.data(), 8);
  EXPECT_EQ((8 + header_bytes) % 4096, 0u);
  const auto header = nlohmann::json::parse(text.substr(8, header_bytes));
  std::map<std::string, std::vector<uint8_t>> tensors;
  uint64_t end = 0;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const uint64_t a = entry["data_offsets"][0], b = entry["data_offsets"][1];
    const auto data = text.begin() + static_cast<int64_t>(8 + header_bytes);
    tensors[name].assign(data + static_cast<int64_t>(a), data + static_cast<int64_t>(b));
    end = std::max(end, b);
  }
  EXPECT_EQ(text.size(), 8 + header_bytes + end);
  return tensors;
}

TEST(CheckpointWriter, WritesOneShard) {
  tests::TempDir dir;
  const Model model;
  auto writer = CheckpointWriter::Create(dir / "out", model.catalogue, {});
  ASSERT_TRUE(writer) << writer.error().ToString();
  EXPECT_TRUE((*writer)->is_folder());
  ASSERT_TRUE(AppendAll(model, writer->get()));
  EXPECT_FALSE(fs::exists(dir / "out"));
  ASSERT_TRUE((*writer)->AddFile("config.json", "{}\n"));
  const auto files = (*writer)->Commit();
  ASSERT_TRUE(files);
  EXPECT_THAT(Names(dir / "out"), ElementsAre("config.json", "model.safetensors"));
  EXPECT_EQ(ReadTensors(dir / "out/model.safetensors"), model.bytes);
  ASSERT_EQ(files->size(), 2u);
  EXPECT_EQ((*files)[0].name, "config.json");
  EXPECT_EQ((*files)[0].size_bytes, 3u);
  EXPECT_EQ((*files)[1].size_bytes, fs::file_size(dir / "out/model.safetensors"));
  EXPECT_THAT(Names(dir.path()), ElementsAre("out"));
}

TEST(CheckpointWriter, WritesShardsAndTheirIndex) {
  tests::TempDir dir;
  const Model model;
  auto writer = CheckpointWriter::Create(dir / "out", model.catalogue, {.max_shard_bytes = 15'000});
  ASSERT_TRUE(writer);
  ASSERT_TRUE(AppendAll(model, writer->get()));
  const auto files = (*writer)->Commit();
  ASSERT_TRUE(files);
  const auto index = nlohmann::json::parse(tests::ReadText(dir / "out/model.safetensors.index.json"));
  std::map<std::string, std::vector<uint8_t>> read;
  for (const WrittenFile& file : *files) {
    EXPECT_EQ(file.size_bytes, fs::file_size(dir / "out/" + file.name));
    if (!file.name.ends_with(".safetensors")) continue;
    for (auto& [name, bytes] : ReadTensors(dir / "out/" + file.name)) {
      EXPECT_EQ(index["weight_map"][name], file.name);
      read[name] = std::move(bytes);
    }
  }
  EXPECT_EQ(read, model.bytes);
  EXPECT_EQ(index["weight_map"].size(), model.bytes.size());
  EXPECT_EQ(index["metadata"]["total_size"], model.catalogue.total_bytes());
  EXPECT_THAT(Names(dir / "out"), ElementsAre("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                              "model-00003-of-00003.safetensors", "model.safetensors.index.json"));
}

TEST(CheckpointWriter, TheSameBytesWithAndWithoutThePageCache) {
  tests::TempDir dir;
  const Model model;
  for (const bool direct : {false, true}) {
    auto writer =
        CheckpointWriter::Create(dir / (direct ? "direct" : "buffered"), model.catalogue, {.allow_direct = direct});
    ASSERT_TRUE(writer);
    ASSERT_TRUE(AppendAll(model, writer->get()));
    ASSERT_TRUE((*writer)->Commit());
  }
  EXPECT_EQ(tests::ReadText(dir / "direct/model.safetensors"), tests::ReadText(dir / "buffered/model.safetensors"));
}

TEST(CheckpointWriter, WritesASingleFile) {
  tests::TempDir dir;
  const Model model;
  auto writer = CheckpointWriter::Create(dir / "deep/x.safetensors", model.catalogue, {.max_shard_bytes = 10});
  ASSERT_TRUE(writer) << writer.error().ToString();
  EXPECT_FALSE((*writer)->is_folder());
  ASSERT_TRUE(AppendAll(model, writer->get()));
  EXPECT_THAT(Names(dir / "deep"), ElementsAre(".x.safetensors.sluice-partial"));
  const auto files = (*writer)->Commit();
  ASSERT_TRUE(files);
  EXPECT_EQ((*files)[0].name, "x.safetensors");
  EXPECT_THAT(Names(dir / "deep"), ElementsAre("x.safetensors"));
  EXPECT_EQ(ReadTensors(dir / "deep/x.safetensors"), model.bytes);
}

TEST(CheckpointWriter, NoTensorsMakeAFileNonetheless) {
  tests::TempDir dir;
  Catalogue none;
  none.Sort();
  auto writer = CheckpointWriter::Create(dir / "out", none, {});
  ASSERT_TRUE(writer);
  ASSERT_TRUE((*writer)->Commit());
  EXPECT_THAT(ReadTensors(dir / "out/model.safetensors"), IsEmpty());
}

TEST(CheckpointWriter, CarriesConfigAndSideFiles) {
  class WithFiles final : public Checkpoint {
   public:
    explicit WithFiles(const tests::TempDir& dir) {
      config_ = ModelConfig::FromJson({{"model_type", "llama"}});
      tests::WriteText(dir / "tokenizer.json", "tokens");
      tests::WriteText(dir / "config.json", "the file on disk, not the effective config");
      side_files_ = {{"config.json", dir / "config.json"}, {"tokenizer.json", dir / "tokenizer.json"}};
    }
    const graph::Node* MakeNode(size_t, graph::Graph*) const override { return nullptr; }
  };
  tests::TempDir dir;
  const WithFiles checkpoint(dir);
  const Model model;
  auto writer = CheckpointWriter::Create(dir / "out", model.catalogue, {});
  ASSERT_TRUE(writer);
  ASSERT_TRUE(AppendAll(model, writer->get()));
  ASSERT_TRUE((*writer)->AddFilesOf(checkpoint));
  ASSERT_TRUE((*writer)->Commit());
  EXPECT_EQ(tests::ReadText(dir / "out/config.json"), checkpoint.config()->Pretty());
  EXPECT_EQ(tests::ReadText(dir / "out/tokenizer.json"), "tokens");
}

TEST(CheckpointWriter, WithoutCommitNothingIsLeft) {
  tests::TempDir dir;
  const Model model;
  for (const char* name : {"out", "x.safetensors"}) {
    auto writer = CheckpointWriter::Create(dir / name, model.catalogue, {.max_shard_bytes = 15'000});
    ASSERT_TRUE(writer);
    ASSERT_TRUE(AppendAll(model, writer->get()));
  }
  {
    auto begun = CheckpointWriter::Create(dir / "a/b/out", model.catalogue, {});
    ASSERT_TRUE(begun);
  }
  EXPECT_THAT(Names(dir.path()), IsEmpty());
}

TEST(CheckpointWriter, AFullDiskIsToldBeforeAnythingIsWritten) {
  tests::TempDir dir;
  const Model model;
  for (const char* name : {"out", "x.safetensors"}) {
    DiskFault fault({.nth = 0, .free_bytes = 1000});
    auto writer = CheckpointWriter::Create(dir / name, model.catalogue, {});
    ASSERT_FALSE(writer);
    EXPECT_EQ(writer.error().code, ErrorCode::kWrite);
    EXPECT_THAT(writer.error().message, HasSubstr("needs "));
    EXPECT_THAT(writer.error().message, HasSubstr("free"));
    EXPECT_THAT(Names(dir.path()), IsEmpty());
  }
}

TEST(CheckpointWriter, WhatIsThereIsRefusedWithoutForce) {
  tests::TempDir dir;
  const Model model;
  fs::create_directory(dir / "out");
  tests::WriteText(dir / "out/mine", "mine");
  tests::WriteText(dir / "x.safetensors", "mine");
  for (const char* name : {"out", "x.safetensors"}) {
    auto writer = CheckpointWriter::Create(dir / name, model.catalogue, {});
    ASSERT_FALSE(writer);
    EXPECT_EQ(writer.error().code, ErrorCode::kOutputExists);
    auto forced = CheckpointWriter::Create(dir / name, model.catalogue, {.force = true});
    ASSERT_TRUE(forced);
    ASSERT_TRUE(AppendAll(model, forced->get()));
    ASSERT_TRUE((*forced)->Commit());
  }
  EXPECT_THAT(Names(dir / "out"), ElementsAre("model.safetensors"));
  EXPECT_EQ(ReadTensors(dir / "x.safetensors"), model.bytes);
}

// Every call of every kind fails once, from the first to the last that a run makes: whatever fails, the error names the
// output and nothing is left, and what stood there stands.
TEST(CheckpointWriter, AnyFailureAnywhereLeavesNothing) {
  const Model model;
  int failures = 0;
  for (const std::string name : {"out", "x.safetensors"}) {
    for (const bool there : {false, true}) {
      for (const WriteCall call : {WriteCall::kOpen, WriteCall::kMakeFolder, WriteCall::kAllocate, WriteCall::kWrite,
                                   WriteCall::kTruncate, WriteCall::kSync, WriteCall::kRename}) {
        for (int nth = 1;; ++nth) {
          SCOPED_TRACE(testing::Message() << name << " " << there << " " << static_cast<int>(call) << " " << nth);
          tests::TempDir dir;
          if (there) {
            if (name == "out") fs::create_directory(dir / "out");
            tests::WriteText(name == "out" ? dir / "out/mine" : dir / name, "mine");
          }
          DiskFault fault({.call = call, .nth = nth, .error_number = call == WriteCall::kWrite ? ENOSPC : EIO});
          const Result<void> result = [&]() -> Result<void> {
            SLUICE_ASSIGN(auto writer, CheckpointWriter::Create(dir / name, model.catalogue,
                                                                {.max_shard_bytes = 15'000, .force = true}));
            SLUICE_TRY(AppendAll(model, writer.get()));
            if (writer->is_folder()) SLUICE_TRY(writer->AddFile("config.json", "{}"));
            SLUICE_TRY(writer->Commit());
            return {};
          }();
          if (!fault.happened()) {
            EXPECT_TRUE(result) << result.error().ToString();
            break;
          }
          ++failures;
          ASSERT_FALSE(result);
          EXPECT_EQ(result.error().code, ErrorCode::kWrite);
          EXPECT_THAT(result.error().message, HasSubstr(dir.path()));
          if (result.error().message.find("is on the disk") != std::string::npos && fs::exists(dir / name) && !there) {
            continue;  // the folder's own sync, after the rename: the output is whole, only not known to be durable
          }
          if (!there) {
            EXPECT_THAT(Names(dir.path()), IsEmpty());
          } else if (name == "out") {
            EXPECT_THAT(Names(dir.path()), ElementsAre("out"));
          } else {
            EXPECT_THAT(Names(dir.path()), ElementsAre("x.safetensors"));
          }
        }
      }
    }
  }
  EXPECT_GT(failures, 40);
}

TEST(CheckpointWriter, SaysWhatItHolds) {
  Catalogue large;
  const uint64_t shape[] = {uint64_t{1} << 30};
  large.Add("w", quant::BF16(), shape, shape[0]);
  large.Sort();
  const auto plan = PlanShards(large, kDefaultShardBytes);
  ASSERT_TRUE(plan);
  EXPECT_EQ(CheckpointWriter::MemoryBytes(*plan), 8u << 20);
  const Model model;
  EXPECT_LT(CheckpointWriter::MemoryBytes(*PlanShards(model.catalogue, kDefaultShardBytes)), 1u << 20);
}

}  // namespace
}  // namespace sluice::checkpoint
