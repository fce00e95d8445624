#include "checkpoint/write_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "checkpoint/testing/tiny_models.h"
#include "io/testing/disk_faults.h"

namespace sluice::checkpoint {
namespace {

using ::testing::HasSubstr;

const JournalBinding kBinding = {{{"the recipe", "1234"}, {"the seed", ""}, {"/a/b.safetensors", "7 bytes"}}};

JournaledTensor Tensor(uint8_t first, size_t leaves, uint64_t tally) {
  JournaledTensor tensor{.leaves = std::vector<kernels::Hash256>(leaves), .tally = tally};
  for (auto& leaf : tensor.leaves) leaf.fill(first++);
  return tensor;
}

const std::vector<JournaledTensor> kTensors = {Tensor(1, 3, 0), Tensor(9, 0, 1), Tensor(50, 1, uint64_t{1} << 60)};
const graph::FactRecords kFacts = {{{1, 2}, {{0.5, -INFINITY, 9007199254740992.0}, ""}},
                                   {{~uint64_t{0}, 0}, {{}, std::string(64, 'a')}}};

// Three records behind the binding: two tensors; facts; a tensor and a fact.
Result<void> WriteAllOf(const std::string& path) {
  SLUICE_ASSIGN(auto journal, WriteJournal::Create(path, kBinding));
  SLUICE_TRY(journal.Append({kTensors.data(), 2}, {}));
  SLUICE_TRY(journal.Append({}, {kFacts[0]}));
  return journal.Append({kTensors.data() + 2, 1}, {kFacts[1]});
}

void ExpectSame(const JournaledTensor& a, const JournaledTensor& b) {
  EXPECT_EQ(a.leaves, b.leaves);
  EXPECT_EQ(a.tally, b.tally);
}

// What is read is a beginning of what was written.
void ExpectBeginning(const JournalContents& contents) {
  EXPECT_EQ(contents.binding.items, kBinding.items);
  ASSERT_LE(contents.tensors.size(), kTensors.size());
  for (size_t i = 0; i < contents.tensors.size(); ++i) ExpectSame(contents.tensors[i], kTensors[i]);
  ASSERT_LE(contents.facts.size(), kFacts.size());
  for (size_t i = 0; i < contents.facts.size(); ++i) EXPECT_EQ(contents.facts[i], kFacts[i]);
}

TEST(WriteJournal, TellsWhatItWasTold) {
  tests::TempDir dir;
  ASSERT_TRUE(WriteAllOf(dir / "j"));
  auto contents = ReadJournal(dir / "j");
  ASSERT_TRUE(contents) << contents.error().ToString();
  ExpectBeginning(*contents);
  EXPECT_EQ(contents->tensors.size(), 3u);
  EXPECT_EQ(contents->facts.size(), 2u);
  EXPECT_EQ(contents->size_bytes, std::filesystem::file_size(dir / "j"));
  EXPECT_FALSE(WriteJournal::Create(dir / "j", kBinding));  // never over another
  EXPECT_EQ(ReadJournal(dir / "none").error().code, ErrorCode::kNotFound);
}

TEST(WriteJournal, WhereverItIsTornItsBeginningHolds) {
  tests::TempDir dir;
  ASSERT_TRUE(WriteAllOf(dir / "j"));
  const std::string all = tests::ReadText(dir / "j");
  size_t readable = 0;
  for (size_t size = 0; size < all.size(); ++size) {
    for (const std::string& tail : {std::string(), std::string(200, '\0'), std::string(200, '\xff')}) {
      tests::WriteText(dir / "torn", all.substr(0, size) + tail);
      auto contents = ReadJournal(dir / "torn");
      if (!contents) {
        EXPECT_EQ(contents.error().code, ErrorCode::kCorrupt);
        EXPECT_THAT(contents.error().message, HasSubstr("torn"));
        continue;
      }
      ++readable;
      ExpectBeginning(*contents);
      EXPECT_LT(contents->tensors.size(), 3u);
      EXPECT_LE(contents->size_bytes, size);
    }
  }
  EXPECT_GT(readable, 3 * all.size() / 2);
}

TEST(WriteJournal, AFlippedByteEndsIt) {
  tests::TempDir dir;
  ASSERT_TRUE(WriteAllOf(dir / "j"));
  const std::string all = tests::ReadText(dir / "j");
  for (size_t at = 0; at < all.size(); ++at) {
    std::string flipped = all;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    tests::WriteText(dir / "flipped", flipped);
    auto contents = ReadJournal(dir / "flipped");
    if (!contents) continue;
    ExpectBeginning(*contents);
    EXPECT_LE(contents->size_bytes, at);
  }
}

// A record of one journal in the place of one of another is none: each carries all before it in its checksum.
TEST(WriteJournal, RecordsDoNotMoveBetweenJournals) {
  tests::TempDir dir;
  ASSERT_TRUE(WriteAllOf(dir / "j"));
  auto other = WriteJournal::Create(dir / "other",
                                    {{{"the recipe", "5678"}, {"the seed", ""}, {"/a/b.safetensors", "7 bytes"}}});
  ASSERT_TRUE(other);
  const std::string begin = tests::ReadText(dir / "other"), all = tests::ReadText(dir / "j");
  tests::WriteText(dir / "mixed", begin + all.substr(begin.size()));
  auto contents = ReadJournal(dir / "mixed");
  ASSERT_TRUE(contents);
  EXPECT_TRUE(contents->empty());
}

TEST(WriteJournal, GoesOnAfterATornRecord) {
  tests::TempDir dir;
  ASSERT_TRUE(WriteAllOf(dir / "j"));
  const std::string all = tests::ReadText(dir / "j");
  tests::WriteText(dir / "j", all.substr(0, all.size() - 5));
  auto contents = ReadJournal(dir / "j");
  ASSERT_TRUE(contents);
  EXPECT_EQ(contents->tensors.size(), 2u);
  {
    auto journal = WriteJournal::Continue(dir / "j", *contents);
    ASSERT_TRUE(journal);
    ASSERT_TRUE(journal->Append({kTensors.data() + 2, 1}, {kFacts[1]}));
  }
  EXPECT_EQ(tests::ReadText(dir / "j"), all);
}

TEST(WriteJournal, AFailedRecordIsWrittenOver) {
  tests::TempDir dir;
  auto journal = WriteJournal::Create(dir / "j", kBinding);
  ASSERT_TRUE(journal);
  for (const auto call : {io::WriteCall::kWrite, io::WriteCall::kSync}) {
    tests::DiskFault fault({.call = call, .error_number = ENOSPC});
    auto result = journal->Append(kTensors, kFacts);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kWrite);
  }
  ASSERT_TRUE(journal->Append({kTensors.data(), 1}, {}));
  auto contents = ReadJournal(dir / "j");
  ASSERT_TRUE(contents);
  EXPECT_EQ(contents->tensors.size(), 1u);
}

}  // namespace
}  // namespace sluice::checkpoint
