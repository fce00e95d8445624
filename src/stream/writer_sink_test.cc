#include "stream/writer_sink.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoint/testing/tiny_models.h"
#include "io/testing/disk_faults.h"
#include "stream/testing/fake_stream.h"

namespace sluice::stream {
namespace {

using tests::FakeGroup;
using tests::FakeStream;

struct Model {
  checkpoint::Catalogue catalogue;
  std::vector<std::vector<uint8_t>> bytes;  // by name

  Model() {
    Add("a", "U8", 4001);
    Add("b", "BF16", 12'345);
    Add("c", "F32", 0);
    Add("d", "F32", 777);
    catalogue.Sort();
  }
  void Add(const std::string& name, const std::string& dtype, uint64_t num_elements) {
    const quant::Encoding encoding = quant::EncodingByName(dtype);
    catalogue.Add(name, encoding, {&num_elements, 1}, num_elements);
    bytes.emplace_back(encoding.BytesOf(num_elements));
    for (size_t i = 0; i < bytes.back().size(); ++i) bytes.back()[i] = static_cast<uint8_t>(i * 31 + bytes.size());
  }
  // As `order` wants them, as out number 1 of two.
  std::vector<FakeGroup> Groups(const std::vector<uint32_t>& order) const {
    std::vector<FakeGroup> groups;
    for (const uint32_t tensor : order) {
      groups.push_back({catalogue[tensor].encoding, {std::vector<uint8_t>(bytes[tensor].size()), bytes[tensor]}});
    }
    return groups;
  }
};

TEST(WriterSink, WritesWhatFlowsPast) {
  tests::TempDir dir;
  const Model model;
  for (const int pieces : {1, 5}) {
    const std::string out = dir / std::to_string(pieces);
    auto writer = checkpoint::CheckpointWriter::Create(out, model.catalogue, {.max_shard_bytes = 10'000});
    ASSERT_TRUE(writer);
    WriterSink sink(writer->get(), 1);
    FakeStream stream(model.Groups((*writer)->plan().order), {.max_pieces = pieces});
    Sink* sinks[] = {&sink};
    ASSERT_TRUE(Pump(stream, sinks));
    ASSERT_TRUE((*writer)->Commit());
    // a | b | c d: data starts at 4 KiB and is all of the rest.
    const std::vector<std::vector<size_t>> shards = {{0}, {1}, {2, 3}};
    for (size_t shard = 0; shard < shards.size(); ++shard) {
      std::string expected;
      for (const size_t tensor : shards[shard]) expected.append(model.bytes[tensor].begin(), model.bytes[tensor].end());
      const std::string file = tests::ReadText(out + "/" + (*writer)->plan().shards[shard].file_name);
      EXPECT_EQ(file.substr(4096), expected);
    }
  }
}

TEST(WriterSink, AFullDiskEndsThePass) {
  tests::TempDir dir;
  const Model model;
  {
    auto writer = checkpoint::CheckpointWriter::Create(dir / "out", model.catalogue, {.max_shard_bytes = 1});
    ASSERT_TRUE(writer);
    WriterSink sink(writer->get(), 1);
    FakeStream stream(model.Groups((*writer)->plan().order), {});
    Sink* sinks[] = {&sink};
    tests::DiskFault fault({.nth = 2, .error_number = ENOSPC});
    auto result = Pump(stream, sinks);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kWrite);
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(WriterSink, WantsItsBuffersAndTheFilesBytes) {
  const Model model;
  const auto plan = checkpoint::PlanShards(model.catalogue, checkpoint::kDefaultShardBytes);
  ASSERT_TRUE(plan);
  const Wants wants = WriterSink::WantsFor(*plan);
  EXPECT_EQ(wants.write_bytes, 4096u + 4001 + 2 * 12'345 + 4 * 777);
  EXPECT_EQ(wants.own_bytes, checkpoint::CheckpointWriter::MemoryBytes(*plan));
  EXPECT_EQ(wants.held_bytes, 0u);
}

}  // namespace
}  // namespace sluice::stream
