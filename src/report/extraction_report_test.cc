#include "report/extraction_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ExtractionResult Result() {
  ExtractionResult result;
  result.adapter = "lora";
  result.finetune = "tuned";
  result.base = "base";
  result.rank = 8;
  result.layers = {{.name = "a.weight", .rank = 8, .relative_error = 0.25, .energy = 0.9375, .relative_change = 0.01},
                   {.name = "b.weight", .rank = 4, .relative_error = 0.5, .energy = 0.75, .relative_change = {}}};
  result.not_captured = {{.name = "norm.weight", .reason = "one dimension", .relative_change = 0.125, .energy = 0.5}};
  result.unread = {"ids"};
  result.unchanged = 3;
  result.relative_error = 0.75;
  result.files = {{"adapter_config.json", 10}, {"adapter_model.safetensors", 1000}};
  return result;
}

TEST(ExtractionReport, Json) {
  const nlohmann::ordered_json json = ExtractionJson(Result());
  EXPECT_EQ(json["tensors"][0].dump(),
            R"({"name":"a.weight","rank":8,"relative_error":0.25,"energy":0.9375,"relative_change":0.01})");
  EXPECT_TRUE(json["tensors"][1]["relative_change"].is_null());
  EXPECT_EQ(json["not_captured"].dump(),
            R"([{"name":"norm.weight","reason":"one dimension","relative_change":0.125,"energy":0.5}])");
  EXPECT_EQ(json["not_compared"].dump(), R"(["ids"])");
  EXPECT_EQ(json["unchanged"], 3);
  EXPECT_EQ(json["files"][1]["bytes"], 1000);
}

TEST(ExtractionReport, TextHasTheWorstLayersFirstAndWhatIsLeftOut) {
  ExtractionResult result = Result();
  const std::string text = ExtractionText(result);
  EXPECT_LT(text.find("b.weight"), text.find("a.weight"));
  EXPECT_THAT(text, HasSubstr("norm.weight"));
  EXPECT_THAT(text, HasSubstr("50%"));
  EXPECT_THAT(text, HasSubstr("base+lora"));
  EXPECT_THAT(text, Not(HasSubstr("more;")));
  result.layers.resize(30, result.layers[0]);
  EXPECT_THAT(ExtractionText(result), HasSubstr("and 20 more; --json"));
  result.not_captured.clear();
  EXPECT_THAT(ExtractionText(result), Not(HasSubstr("not captured")));
}

}  // namespace
}  // namespace sluice::report
