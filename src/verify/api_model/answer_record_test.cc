#include "verify/api_model/answer_record.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::verify::api_model {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<uint32_t> kChallenge = {1, 2, 3}, kPositions = {1, 2};
const std::vector<std::vector<uint32_t>> kIds = {{4}, {5, 6}};
const std::vector<PartialDistribution> kAnswers = {{.known = {{1, 0.1}, {7, 1.0 / 3}}, .cap = 0.1},
                                                   {.known = {}, .cap = 1}};

std::string Written() {
  AnswerWriter writer(
      "api+https://host/v1#m", "00ff", "abcd",
      {.shape = AnswerShape::kEcho, .prompt_ids = true, .num_top = 5, .scores_ids = true, .mean_rest = 0.5},
      "m-sk-secret-key", "sk-secret-key");
  writer.Add({kChallenge, kPositions, {}}, kAnswers);
  writer.Add({kChallenge, kPositions, kIds}, kAnswers);
  return writer.Text();
}

TEST(AnswerRecordTest, GivesBackWhatWasAnsweredBitByBit) {
  const std::string text = Written();
  EXPECT_EQ(text, Written());
  EXPECT_THAT(text, Not(HasSubstr("sk-secret-key")));
  EXPECT_THAT(text, HasSubstr("m-[key]"));
  auto record = AnswerRecord::Parse(text);
  ASSERT_TRUE(record) << record.error().ToString();
  EXPECT_EQ(record->ref(), "api+https://host/v1#m");
  EXPECT_EQ(record->key(), "00ff");
  EXPECT_EQ(record->run_id(), "abcd");
  EXPECT_EQ(record->offer().shape, AnswerShape::kEcho);
  EXPECT_EQ(record->offer().num_top, 5u);
  EXPECT_TRUE(record->offer().scores_ids);
  EXPECT_EQ(record->offer().mean_rest, 0.5);
  for (const auto& ids : {std::vector<std::vector<uint32_t>>(), kIds}) {
    const auto answers = record->Next({kChallenge, kPositions, ids});
    ASSERT_TRUE(answers) << answers.error().ToString();
    EXPECT_EQ(*answers, kAnswers);
  }
  const auto more = record->Next({kChallenge, kPositions, {}});
  ASSERT_FALSE(more);
  EXPECT_THAT(more.error().message, HasSubstr("one more was asked for"));
}

TEST(AnswerRecordTest, AnAnswerBelongsToItsRequest) {
  for (const auto& [challenge, positions, ids] :
       {std::tuple(std::vector<uint32_t>{1, 2, 4}, kPositions, std::vector<std::vector<uint32_t>>()),
        std::tuple(kChallenge, std::vector<uint32_t>{1}, std::vector<std::vector<uint32_t>>()),
        std::tuple(kChallenge, kPositions, kIds)}) {
    auto record = AnswerRecord::Parse(Written());
    ASSERT_TRUE(record);
    const auto answers = record->Next({challenge, positions, ids});
    ASSERT_FALSE(answers);
    EXPECT_THAT(answers.error().message, HasSubstr("another request"));
  }
}

// Every byte is held by something: what is written in it, or the closing line.
TEST(AnswerRecordTest, AChangedByteIsFound) {
  const std::string text = Written();
  for (size_t i = 0; i < text.size(); ++i) {
    std::string changed = text;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(AnswerRecord::Parse(changed)) << i << " " << changed.substr(i, 20);
  }
  for (size_t size = 0; size < text.size(); ++size) EXPECT_FALSE(AnswerRecord::Parse(text.substr(0, size))) << size;
  EXPECT_FALSE(AnswerRecord::Parse(text + "{}\n"));
}

}  // namespace
}  // namespace sluice::verify::api_model
