#include "verify/verdict.h"

#include <gtest/gtest.h>

namespace sluice::verify {
namespace {

kernels::Hash256 Hash(uint8_t value) {
  kernels::Hash256 hash{};
  hash[0] = value;
  return hash;
}

ConfigDiff SameConfigs() {
  ConfigDiff config;
  config.has_config_a = config.has_config_b = true;
  return config;
}

// Two sides of `counts` tensors by class, whose roots differ unless everything is identical.
TensorSummary Summary(std::initializer_list<std::pair<TensorClass, uint64_t>> counts) {
  TensorSummary summary;
  bool differ = false;
  for (const auto& [tensor_class, count] : counts) {
    summary.counts[static_cast<int>(tensor_class)] = count;
    summary.tensors += count;
    differ |= tensor_class != TensorClass::kIdentical && tensor_class != TensorClass::kTied;
  }
  summary.weights_root_b = summary.model_root_b = Hash(differ ? 1 : 0);
  return summary;
}

TEST(VerdictTest, IdenticalNeedsEqualModelRoots) {
  TensorSummary summary = Summary({{TensorClass::kIdentical, 3}});
  EXPECT_EQ(DecideTensors(SameConfigs(), summary), Verdict::kIdentical);
  EXPECT_EQ(VerdictExitStatus(Verdict::kIdentical), 0);
  // Equal bytes everywhere under another model root: never IDENTICAL.
  summary.model_root_b = Hash(1);
  EXPECT_EQ(DecideTensors(SameConfigs(), summary), Verdict::kSameWeights);
}

TEST(VerdictTest, AStoppedComparisonIsNeverIdentical) {
  TensorSummary summary = Summary({{TensorClass::kChanged, 1}});
  summary.model_root_b = summary.weights_root_b = Hash(0);  // never computed: both zero
  summary.stopped_early = true;
  EXPECT_EQ(DecideTensors(SameConfigs(), summary), Verdict::kSameArchitectureDifferentWeights);
}

TEST(VerdictTest, EqualWeightsUnderAnotherConfigAreSameWeightsOrAnotherArchitecture) {
  TensorSummary summary = Summary({{TensorClass::kIdentical, 3}});
  summary.model_root_b = Hash(1);
  ConfigDiff tokenizer = SameConfigs();
  tokenizer.tokenizer_hash_b = Hash(1);
  EXPECT_EQ(DecideTensors(tokenizer, summary), Verdict::kSameWeights);
  ConfigDiff plain_key = SameConfigs();
  plain_key.config_hash_b = Hash(1);
  plain_key.keys = {{"eos_token_id", "1", "2", false}};
  EXPECT_EQ(DecideTensors(plain_key, summary), Verdict::kSameWeights);
  ConfigDiff theta = SameConfigs();
  theta.config_hash_b = Hash(1);
  theta.keys = {{"rope_theta", "1e4", "5e6", true}};
  EXPECT_EQ(DecideTensors(theta, summary), Verdict::kDifferentArchitecture);
  EXPECT_EQ(VerdictExitStatus(Verdict::kSameWeights), 1);
  EXPECT_EQ(VerdictExitStatus(Verdict::kDifferentArchitecture), 1);
}

TEST(VerdictTest, ACastIsEqualOnlyWithTheSameConfigAndTokenizer) {
  const TensorSummary summary = Summary({{TensorClass::kIdentical, 1}, {TensorClass::kEqualAfterCast, 2}});
  EXPECT_EQ(DecideTensors(SameConfigs(), summary), Verdict::kEqualAfterCast);
  EXPECT_EQ(VerdictExitStatus(Verdict::kEqualAfterCast), 0);
  ConfigDiff tokenizer = SameConfigs();
  tokenizer.tokenizer_hash_b = Hash(1);
  EXPECT_EQ(DecideTensors(tokenizer, summary), Verdict::kSameWeights);
}

TEST(VerdictTest, RoundedNeedsOneDirection) {
  TensorSummary summary = Summary({{TensorClass::kEqualAfterCast, 2}, {TensorClass::kRounded, 2}});
  summary.rounded = RoundedSide::kB;
  EXPECT_EQ(DecideTensors(SameConfigs(), summary), Verdict::kRounded);
  EXPECT_EQ(VerdictExitStatus(Verdict::kRounded), 1);
  summary.rounded_mixed = true;
  EXPECT_EQ(DecideTensors(SameConfigs(), summary), Verdict::kSameArchitectureDifferentWeights);
}

TEST(VerdictTest, ChangedOrTolerableTensorsAreDifferentWeights) {
  for (const TensorClass c : {TensorClass::kChanged, TensorClass::kWithinTolerance}) {
    EXPECT_EQ(DecideTensors(SameConfigs(), Summary({{TensorClass::kIdentical, 5}, {TensorClass::kRounded, 1}, {c, 1}})),
              Verdict::kSameArchitectureDifferentWeights);
  }
  EXPECT_EQ(VerdictExitStatus(Verdict::kSameArchitectureDifferentWeights), 1);
}

TEST(VerdictTest, WhatIsNotComparableIsUndecidedUnlessAnotherTensorChanged) {
  const TensorClass open = TensorClass::kNotComparable;
  EXPECT_EQ(DecideTensors(SameConfigs(), Summary({{TensorClass::kIdentical, 5}, {open, 1}})), Verdict::kUndecided);
  EXPECT_EQ(DecideTensors(SameConfigs(), Summary({{TensorClass::kRounded, 5}, {open, 1}})), Verdict::kUndecided);
  EXPECT_EQ(DecideTensors(SameConfigs(), Summary({{TensorClass::kChanged, 1}, {open, 1}})),
            Verdict::kSameArchitectureDifferentWeights);
  EXPECT_EQ(DecideTensors(SameConfigs(), Summary({{TensorClass::kOnlyInA, 1}, {open, 1}})),
            Verdict::kDifferentArchitecture);
}

TEST(VerdictTest, TensorsThatOneSideLacksAreAnotherArchitectureUnlessTied) {
  for (const TensorClass c :
       {TensorClass::kOnlyInA, TensorClass::kOnlyInB, TensorClass::kShapeDiffers, TensorClass::kRenamed}) {
    EXPECT_EQ(DecideTensors(SameConfigs(), Summary({{TensorClass::kIdentical, 5}, {c, 1}})),
              Verdict::kDifferentArchitecture);
  }
  EXPECT_EQ(DecideTensors(SameConfigs(), Summary({{TensorClass::kIdentical, 5}, {TensorClass::kTied, 1}})),
            Verdict::kIdentical);
}

TEST(VerdictTest, ConfigLevelHasItsOwnWords) {
  EXPECT_EQ(DecideConfig(SameConfigs()), Verdict::kSameConfig);
  EXPECT_EQ(VerdictExitStatus(Verdict::kSameConfig), 0);

  ConfigDiff shapes = SameConfigs();
  shapes.shapes = {{"w", {2}, {3}}};
  EXPECT_EQ(DecideConfig(shapes), Verdict::kDifferentArchitecture);
  EXPECT_TRUE(ConfigEndsAuto(shapes));

  ConfigDiff tokenizer = SameConfigs();
  tokenizer.tokenizer_hash_b = Hash(1);
  EXPECT_EQ(DecideConfig(tokenizer), Verdict::kDifferentArchitecture);
  EXPECT_FALSE(ConfigEndsAuto(tokenizer));  // auto goes on: it may be SAME_WEIGHTS

  ConfigDiff no_config = SameConfigs();
  no_config.has_config_b = false;
  no_config.config_hash_b = Hash(1);
  EXPECT_EQ(DecideConfig(no_config), Verdict::kUndecided);

  ConfigDiff head = SameConfigs();
  head.possibly_tied = {"lm_head.weight"};
  EXPECT_EQ(DecideConfig(head), Verdict::kUndecided);
  EXPECT_FALSE(ConfigEndsAuto(head));
  EXPECT_EQ(VerdictExitStatus(Verdict::kUndecided), 5);

  ConfigDiff encodings = SameConfigs();
  encodings.encodings[{"BF16", "F32"}] = 3;
  EXPECT_EQ(DecideConfig(encodings), Verdict::kSameConfig);
  EXPECT_FALSE(encodings.SameEncodings());
}

TEST(VerdictTest, NoConfigLevelTextSpeaksOfWeightsBeingEqual) {
  EXPECT_EQ(Proves(Verdict::kSameConfig, Level::kConfig).find("weight"), std::string::npos);
  EXPECT_NE(DoesNotProve(Verdict::kSameConfig, Level::kConfig).find("none was read"), std::string::npos);
}

SampleResult SampleOf(std::vector<DifferingTensor> differing, RoundedSide side = RoundedSide::kNone) {
  SampleResult sample;
  sample.blocks = 10;
  sample.all_blocks = 100;
  for (const DifferingTensor& tensor : differing) {
    (tensor.state == BlockState::kChanged   ? sample.changed
     : tensor.state == BlockState::kRounded ? sample.rounded
                                            : sample.unknown) += 1;
  }
  sample.identical = 10 - differing.size();
  sample.rounded_side = side;
  sample.differing = std::move(differing);
  return sample;
}

DifferingTensor TensorOf(BlockState state, bool tied = false) {
  DifferingTensor tensor;
  tensor.name = "w";
  tensor.state = state;
  tensor.tied = tied;
  return tensor;
}

TEST(VerdictTest, ASampleNeverSaysWhatOnlyEveryByteCan) {
  const ConfigDiff same = SameConfigs();
  EXPECT_EQ(DecideFingerprint(same, SampleOf({})), Verdict::kSameSample);
  EXPECT_EQ(VerdictExitStatus(Verdict::kSameSample), 0);
  EXPECT_FALSE(SampleEndsAuto(SampleOf({})));
  const SampleResult changed = SampleOf({TensorOf(BlockState::kChanged)});
  EXPECT_EQ(DecideFingerprint(same, changed), Verdict::kSameArchitectureDifferentWeights);
  EXPECT_TRUE(SampleEndsAuto(changed));
  for (const SampleResult& open :
       {SampleOf({TensorOf(BlockState::kRounded)}, RoundedSide::kB), SampleOf({TensorOf(BlockState::kUnknown)})}) {
    EXPECT_EQ(DecideFingerprint(same, open), Verdict::kUndecided);
    EXPECT_FALSE(SampleEndsAuto(open));
  }
  // A is rounded in one tensor, B in another: no one rounding explains both.
  EXPECT_TRUE(SampleEndsAuto(SampleOf({TensorOf(BlockState::kRounded)}, RoundedSide::kNone)));
  EXPECT_EQ(DecideFingerprint(same, SampleOf({TensorOf(BlockState::kChanged, true)})), Verdict::kDifferentArchitecture);
  ConfigDiff tokenizer = SameConfigs();
  tokenizer.tokenizer_hash_b = Hash(1);
  EXPECT_EQ(DecideFingerprint(tokenizer, SampleOf({})), Verdict::kDifferentArchitecture);
  ConfigDiff none = SameConfigs();
  none.has_config_b = false;
  EXPECT_EQ(DecideFingerprint(none, SampleOf({})), Verdict::kUndecided);
}

}  // namespace
}  // namespace sluice::verify
