// Verification: the result of comparing two models, or one with what its maker stated of it. report/ turns it into text
// and JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "verify/config_diff.h"
#include "verify/tensor_diff.h"
#include "verify/verdict.h"

namespace sluice::verify {

struct Verification {
  std::string ref_a, ref_b;    // as the user wrote them
  std::string note_a, note_b;  // how a side was computed: "seed 7, arithmetic exact, as merged/ states"; mostly empty
  Level asked = Level::kAuto;
  Level level = Level::kConfig;  // reached: kConfig or kTensors
  Verdict verdict = Verdict::kUndecided;
  ConfigDiff config;
  std::optional<TensorSummary> summary;  // at the level tensors
  std::vector<TensorDiff> unequal;       // all tensors that are not identical, sorted by name
  double atol = 0, rtol = 0;
  uint64_t budget_bytes = 0, peak_bytes = 0;
  double seconds = 0;
  uint64_t bytes_read = 0;  // of weights
};

// `verify MERGED`: the folder's own roots beside those that its statement names.
struct StatementCheck {
  std::string ref, statement;  // the folder and the statement's file
  Verdict verdict = Verdict::kUndecided;
  kernels::Hash256 root{}, weights_root{};
  kernels::Hash256 stated_root{}, stated_weights_root{};
  uint64_t tensors = 0, bytes = 0;
  std::vector<std::string> changed, missing,
      extra;  // tensors whose roots differ, that only the statement has, that it has not
  uint64_t budget_bytes = 0, peak_bytes = 0;
  double seconds = 0;
  uint64_t bytes_read = 0;
};

// From the roots and the tensors that differ; sets `verdict`.
void DecideStatement(StatementCheck* check);

}  // namespace sluice::verify
