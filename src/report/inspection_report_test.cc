#include "report/inspection_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::report {
namespace {

using ::testing::HasSubstr;

TEST(InspectionReport, WithoutConfigTheArchitectureIsNull) {
  verify::Inspection inspection;
  inspection.ref = "x.safetensors";
  const auto json = InspectionJson(inspection);
  for (const char* key : {"architecture", "layers", "context", "kv_bytes_per_token", "tokenizer", "chat_template"}) {
    EXPECT_TRUE(json[key].is_null()) << key;
  }
  inspection.architecture = "LlamaForCausalLM";
  inspection.parameters = 34'388'917'248;
  inspection.parameters_from_config = 34'388'917'249;
  EXPECT_EQ(InspectionJson(inspection)["architecture"], "LlamaForCausalLM");
  EXPECT_THAT(InspectionText(inspection), HasSubstr("34,388,917,248  (the config predicts 34,388,917,249)"));
}

TEST(InspectionReport, FitsTheTerminal) {
  verify::Inspection inspection;
  inspection.ref = "m";
  inspection.side_files = std::vector<std::string>(20, "tokenizer.json");
  inspection.files = {{std::string(200, 'x') + ".safetensors", "", 5}};
  const std::string text = InspectionText(inspection, 80);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    EXPECT_LE(text.substr(begin, end - begin).size(), 82u);  // "…" is three bytes
    begin = end + 1;
  }
}

TEST(Glob, MatchesWholeNames) {
  for (const auto& [text, glob] :
       std::initializer_list<std::pair<const char*, const char*>>{{"abc", "abc"},
                                                                  {"abc", "*"},
                                                                  {"abc", "a*c"},
                                                                  {"abc", "a?c"},
                                                                  {"abc", "***"},
                                                                  {"", "*"},
                                                                  {"", ""},
                                                                  {"a.b.a.b.c", "*a.b.c"},
                                                                  {"model.layers.3.q", "*.?.q"},
                                                                  {"abab", "*ab"},
                                                                  {"a*", "a*"}}) {
    EXPECT_TRUE(MatchesGlob(text, glob)) << text << " " << glob;
  }
  for (const auto& [text, glob] : std::initializer_list<std::pair<const char*, const char*>>{
           {"abc", "ab"}, {"abc", "b*"}, {"abc", ""}, {"", "?"}, {"abc", "*b"}, {"abc", "a?"}, {"abcd", "a*c"}}) {
    EXPECT_FALSE(MatchesGlob(text, glob)) << text << " " << glob;
  }
  // No exponential search.
  EXPECT_FALSE(MatchesGlob(std::string(5000, 'a'), "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"));
}

TEST(CheckReport, SaysWhatToFetchAndWhy) {
  CheckResult check;
  check.files.folder = "model";
  check.files.files = {{"a.json", 10, verify::FileState::kWhole, "git SHA-1", ""},
                       {"b.safetensors", 20, verify::FileState::kOtherRevision, "its header", "of another revision"}};
  check.files.fetch_command = "hf download b.safetensors";
  check.roots = {"s.json", 5, {{"w", "b.safetensors"}}};
  check.failure = {"it does not open", true};
  const std::string text = CheckText(check);
  for (const char* part :
       {"1 of 2 is not whole", "other revision", "error: b.safetensors: of another revision",
        "4 of 5 tensors have the roots that s.json states", "b.safetensors: w: its bytes are not those",
        "the model cannot be opened: it does not open", "fetch again: b.safetensors\n    hf download b.safetensors"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  const auto json = CheckJson(check);
  EXPECT_EQ(json["ok"], false);
  EXPECT_EQ(json["files"][1]["state"], "other_revision");
  EXPECT_EQ(json["fetch_again"], nlohmann::ordered_json::array({"b.safetensors"}));
}

TEST(CheckReport, EachKindOfDamageIsNotOk) {
  EXPECT_TRUE(CheckResult().ok());
  CheckResult files, roots, corrupt, several;
  files.files.files = {{"a", 1, verify::FileState::kMissing, "", ""}};
  roots.roots.changed = {{"w", ""}};
  corrupt.failure = {"an error", true};
  several.failure = {"name the file that is meant", false};
  EXPECT_FALSE(files.ok());
  EXPECT_FALSE(roots.ok());
  EXPECT_FALSE(corrupt.ok());
  EXPECT_TRUE(several.ok());
  EXPECT_EQ(CheckJson(several)["opens"], false);
}

}  // namespace
}  // namespace sluice::report
