#include "verify/verdict.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "verify/verification.h"

namespace sluice::verify {

const char* VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kIdentical:
      return "IDENTICAL";
    case Verdict::kEqualAfterCast:
      return "EQUAL_AFTER_CAST";
    case Verdict::kRounded:
      return "ROUNDED";
    case Verdict::kSameWeights:
      return "SAME_WEIGHTS";
    case Verdict::kSameArchitectureDifferentWeights:
      return "SAME_ARCHITECTURE_DIFFERENT_WEIGHTS";
    case Verdict::kDifferentArchitecture:
      return "DIFFERENT_ARCHITECTURE";
    case Verdict::kSameSample:
      return "SAME_SAMPLE";
    case Verdict::kDifferentFiles:
      return "DIFFERENT_FILES";
    case Verdict::kSameConfig:
      return "SAME_CONFIG";
    case Verdict::kSameBehaviour:
      return "SAME_BEHAVIOUR";
    case Verdict::kDifferentBehaviour:
      return "DIFFERENT_BEHAVIOUR";
    case Verdict::kInvalid:
      return "INVALID";
    case Verdict::kUndecided:
      return "UNDECIDED";
  }
  SLUICE_CHECK(false);
}

const char* LevelName(Level level) {
  switch (level) {
    case Level::kAuto:
      return "auto";
    case Level::kConfig:
      return "config";
    case Level::kFingerprint:
      return "fingerprint";
    case Level::kTensors:
      return "tensors";
    case Level::kBehaviour:
      return "behaviour";
  }
  SLUICE_CHECK(false);
}

int VerdictExitStatus(Verdict verdict) {
  switch (verdict) {
    case Verdict::kIdentical:
    case Verdict::kEqualAfterCast:
    case Verdict::kSameSample:
    case Verdict::kSameConfig:
    case Verdict::kSameBehaviour:
      return 0;
    case Verdict::kRounded:
    case Verdict::kSameWeights:
    case Verdict::kSameArchitectureDifferentWeights:
    case Verdict::kDifferentArchitecture:
    case Verdict::kDifferentFiles:
    case Verdict::kDifferentBehaviour:
      return 1;
    case Verdict::kInvalid:
      return 3;
    case Verdict::kUndecided:
      return 5;
  }
  SLUICE_CHECK(false);
}

bool ConfigEndsAuto(const ConfigDiff& config) { return !config.SameArchitecture(); }

Verdict DecideConfig(const ConfigDiff& config) {
  if (!config.SameArchitecture()) return Verdict::kDifferentArchitecture;
  // A file without a config says nothing of its architecture beyond the shapes.
  if (config.has_config_a != config.has_config_b) return Verdict::kUndecided;
  if (!config.SameConfig() || !config.SameTokenizer()) return Verdict::kDifferentArchitecture;
  return Verdict::kSameConfig;
}

Verdict DecideFingerprint(const ConfigDiff& config, const SampleResult& sample) {
  const bool own_head = std::ranges::any_of(sample.differing, [](const DifferingTensor& tensor) {
    return tensor.tied && tensor.state == BlockState::kChanged;
  });
  if (!config.SameArchitecture() || own_head) return Verdict::kDifferentArchitecture;
  if (sample.SurelyDiffers()) return Verdict::kSameArchitectureDifferentWeights;
  if (!sample.Equal()) return Verdict::kUndecided;
  const Verdict of_config = DecideConfig(config);
  return of_config == Verdict::kSameConfig ? Verdict::kSameSample : of_config;
}

bool SampleEndsAuto(const SampleResult& sample) { return sample.SurelyDiffers(); }

Verdict DecideTensors(const ConfigDiff& config, const TensorSummary& tensors) {
  if (tensors.SameModelRoot()) return Verdict::kIdentical;
  const bool other_set = tensors.count(TensorClass::kShapeDiffers) + tensors.count(TensorClass::kOnlyInA) +
                             tensors.count(TensorClass::kOnlyInB) + tensors.count(TensorClass::kRenamed) >
                         0;
  if (other_set || !config.SameArchitecture()) return Verdict::kDifferentArchitecture;
  if (tensors.count(TensorClass::kChanged) + tensors.count(TensorClass::kWithinTolerance) > 0 ||
      tensors.rounded_mixed) {
    return Verdict::kSameArchitectureDifferentWeights;
  }
  if (tensors.count(TensorClass::kRounded) > 0) return Verdict::kRounded;
  if (!config.SameConfig() || !config.SameTokenizer()) return Verdict::kSameWeights;
  if (tensors.count(TensorClass::kEqualAfterCast) > 0) return Verdict::kEqualAfterCast;
  // Everything that was compared agrees, yet the roots do not: never IDENTICAL.
  return Verdict::kSameWeights;
}

double MergeAudit::NoticedShare(uint64_t drawn, uint64_t all) {
  if (drawn == 0) return 1;
  if (drawn >= all) return 0;
  return 1 - std::pow(0.01, 1 / static_cast<double>(drawn));
}

void DecideAudit(MergeAudit* audit) {
  const bool is_good = audit->contradictions.empty() && audit->not_recomputed.empty() && audit->not_written.empty() &&
                       audit->other_facts.empty();
  audit->verdict = is_good ? Verdict::kSameSample : Verdict::kSameArchitectureDifferentWeights;
}

void DecideStatement(StatementCheck* check) {
  if (check->root == check->stated_root && check->weights_root == check->stated_weights_root) {
    check->verdict = Verdict::kIdentical;
  } else if (check->weights_root == check->stated_weights_root) {
    check->verdict = Verdict::kSameWeights;
  } else if (check->missing.empty() && check->extra.empty()) {
    check->verdict = Verdict::kSameArchitectureDifferentWeights;
  } else {
    check->verdict = Verdict::kDifferentArchitecture;
  }
}

std::string Proves(Verdict verdict, Level level) {
  switch (verdict) {
    case Verdict::kIdentical:
      return "every byte of every tensor was read and both have the same model root: equal weights, effective config "
             "and "
             "tokenizer";
    case Verdict::kEqualAfterCast:
      return "every byte was read: all numbers are equal, only their encodings differ, and the cast loses nothing; "
             "config and "
             "tokenizer are the same";
    case Verdict::kRounded:
      return "every byte was read: each tensor that differs is the other side's, rounded once into another format";
    case Verdict::kSameWeights:
      return "every byte was read: the weights are equal; the config or the tokenizer is another";
    case Verdict::kSameArchitectureDifferentWeights:
      return "same architecture and shapes; at least one weight differs";
    case Verdict::kDifferentArchitecture:
      switch (level) {
        case Level::kTensors:
          return "the tensors, their shapes or the config's architecture differ";
        case Level::kFingerprint:
          return "the headers, the config or the tokenizer differ, or a head that one side alone stores is no copy of "
                 "the embedding";
        default:
          return "the headers, the config or the tokenizer differ";
      }
    case Verdict::kSameSample:
      return "what was drawn is equal, byte for byte";
    case Verdict::kDifferentFiles:
      return "the files are not those that were signed";
    case Verdict::kSameConfig:
      return "same architecture, tensor names, shapes, effective config and tokenizer; parameters were counted from "
             "headers";
    case Verdict::kSameBehaviour:
    case Verdict::kDifferentBehaviour:
    case Verdict::kInvalid:
      break;
    case Verdict::kUndecided:
      return level == Level::kFingerprint ? "what was drawn leaves open whether they differ by more than a rounding, "
                                            "or lacks a config to compare"
                                          : "nothing: what was read does not tell";
  }
  SLUICE_CHECK(false);
}

std::string DoesNotProve(Verdict verdict, Level level) {
  switch (verdict) {
    case Verdict::kIdentical:
      return "where the weights come from, or that they are any good";
    case Verdict::kEqualAfterCast:
      return "that a program which computes in the stored encodings gives the same outputs";
    case Verdict::kRounded:
      return "that outputs are equal: rounding changes them, mostly a little";
    case Verdict::kSameWeights:
      return "that outputs are equal: config and tokenizer decide what the weights compute";
    case Verdict::kSameArchitectureDifferentWeights:
      return level == Level::kFingerprint
                 ? "how much the rest differs: most of it was not read; --level tensors compares every byte"
                 : "how much outputs differ: see the table of tensors for its causes";
    case Verdict::kDifferentArchitecture:
      switch (level) {
        case Level::kTensors:
          return "that outputs differ on every prompt";
        case Level::kFingerprint:
          return "anything about the weights that were not drawn";
        default:
          return "anything about the weights: none was read";
      }
    case Verdict::kSameSample:
      return "anything about what was not drawn";
    case Verdict::kDifferentFiles:
      return "who changed them, or whether it matters";
    case Verdict::kSameConfig:
      return "anything about the weights: none was read";
    case Verdict::kSameBehaviour:
    case Verdict::kDifferentBehaviour:
    case Verdict::kInvalid:
      break;
    case Verdict::kUndecided:
      return level == Level::kFingerprint ? "that one side is the other, rounded: --level tensors tells"
                                          : "that the two are equal, or that they differ";
  }
  SLUICE_CHECK(false);
}

}  // namespace sluice::verify
