#include "report/fingerprint_report.h"

#include <gtest/gtest.h>

#include "report/verification_report.h"

namespace sluice::report {
namespace {

// Two tensors; of the first 3 of 10 blocks were drawn, one with another number in it.
verify::SampleResult Sample() {
  std::vector<verify::SampledTensor> tensors;
  verify::BlockSample sample;
  sample.num_draws = 5;
  for (const char* name : {"model.layers.0.mlp.up_proj.weight", "model.norm.weight"}) {
    verify::SampledTensor& tensor = tensors.emplace_back();
    const bool first = tensors.size() == 1;
    tensor.name = name;
    tensor.encoding_a = tensor.encoding_b = "F32";
    tensor.num_blocks = first ? 10 : 1;
    tensor.num_elements = first ? 20480 : 4;
    tensor.drawn = first ? std::vector<uint64_t>{1, 4, 7} : std::vector<uint64_t>{0};
    for (const uint64_t block : tensor.drawn) {
      std::vector<float> a(first ? 2048 : 4, 0.5f), b = a;
      a[1] = static_cast<float>(block);
      b[1] = first && block == 4 ? 9.0f : a[1];
      tensor.blocks.push_back(verify::CompareBlock(quant::F32(), reinterpret_cast<const uint8_t*>(a.data()),
                                                   quant::F32(), reinterpret_cast<const uint8_t*>(b.data()), a.size()));
    }
    sample.num_drawn += tensor.drawn.size();
    sample.num_blocks += tensor.num_blocks;
    sample.strata.push_back({tensor.num_blocks, tensor.drawn});
  }
  return verify::SummariseSample(tensors, sample, verify::Nonce(16, 0xab), {.detect = 0.5, .confidence = 0.95},
                                 nullptr);
}

TEST(FingerprintReportTest, JsonHasWhatTheDocsList) {
  const nlohmann::ordered_json json = SampleJson(Sample());
  EXPECT_EQ(json["nonce"], "abababababababababababababababab");
  EXPECT_TRUE(json["against"].is_null());
  EXPECT_EQ(json["blocks"], 4);
  EXPECT_EQ(json["all_blocks"], 11);
  EXPECT_EQ(json["identical"], 3);
  EXPECT_EQ(json["changed"], 1);
  ASSERT_EQ(json["tensors"].size(), 1u);
  EXPECT_EQ(json["tensors"][0]["first_element"], 4 * 2048);
  EXPECT_EQ(json["tensors"][0]["changed"], 1);
  ASSERT_EQ(json["statistics"].size(), 3u);  // mlp, norms, all
  EXPECT_EQ(json["statistics"][1]["part"], "norms");
  EXPECT_EQ(json["statistics"][1]["differing_at_most"], 0);  // all of it was looked at
  EXPECT_EQ(json["statistics"][2]["part"], "all");
  EXPECT_GT(json["statistics"][2]["differing_at_most"], json["statistics"][2]["differing_share"]);
}

TEST(FingerprintReportTest, TextNamesTheTensorAndTheBound) {
  const verify::SampleResult sample = Sample();
  EXPECT_EQ(SampleFinding(sample), "4 of 11 blocks: 3 equal, 1 changed");
  const std::string text = TextOf(SampleTables(sample));
  EXPECT_NE(text.find("model.layers.0.mlp.up_proj.weight"), std::string::npos) << text;
  EXPECT_NE(text.find("1 of 3"), std::string::npos) << text;
  EXPECT_NE(text.find("8,192"), std::string::npos) << text;
  EXPECT_NE(sample.Bound().find("had 50% of them been different"), std::string::npos) << sample.Bound();
}

TEST(FingerprintReportTest, AVerificationSaysWhatASampleProves) {
  verify::Verification result;
  result.sample = Sample();
  result.sample->against = "f.json";
  result.level = verify::Level::kFingerprint;
  result.verdict = verify::Verdict::kSameSample;
  const std::string text = VerificationText(result);
  EXPECT_TRUE(text.starts_with("SAME_SAMPLE  (level fingerprint)\n")) << text;
  for (const char* words :
       {"with a probability of 95% at least", "not drawn", "abababab", "had not seen the fingerprint"}) {
    EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
  }
  EXPECT_EQ(VerificationJson(result)["fingerprint"]["against"], "f.json");
}

}  // namespace
}  // namespace sluice::report
