// Verification: the result of comparing two models, or one with what its maker stated of it. report/ turns it into text
// and JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "verify/behaviour/behaviour_result.h"
#include "verify/change_summary.h"
#include "verify/config_diff.h"
#include "verify/sample_result.h"
#include "verify/tensor_diff.h"
#include "verify/verdict.h"

namespace sluice::verify {

struct Verification {
  std::string ref_a, ref_b;    // as the user wrote them
  std::string note_a, note_b;  // how a side was computed: "seed 7, arithmetic exact, as merged/ states"; mostly empty
  Level asked = Level::kAuto;
  Level level = Level::kConfig;  // reached: not kAuto
  Verdict verdict = Verdict::kUndecided;
  ConfigDiff config;
  std::optional<SampleResult> sample;    // at the level fingerprint, and where auto went on from there
  std::optional<TensorSummary> summary;  // at the level tensors
  std::vector<TensorDiff> unequal;       // all tensors that are not identical, sorted by name
  std::optional<ChangeSummary> changes;  // at the level tensors, unless it stopped early
  GridCounts grids_a, grids_b;
  std::optional<behaviour::BehaviourResult> behaviour;  // at the level behaviour
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

// `verify MERGED --sample p --facts q`: parts of a merge made again from its parents, held against its statement.
struct MergeAudit {
  std::string ref, statement;  // the folder and the statement's file
  Verdict verdict = Verdict::kUndecided;
  uint64_t nonce = 0;
  std::vector<std::string> contradictions;  // what the folder's papers say against each other, sentence by sentence
  // --sample: chunks of 1 MiB, drawn from all.
  bool sampled = false;
  uint64_t chunks = 0, all_chunks = 0;
  std::vector<std::string> not_recomputed;  // tensors of which a drawn chunk is not what the recipe makes
  std::vector<std::string> not_written;     // ... is not in the folder as stated
  // --facts: tensors that have any, drawn from all of those.
  bool looked_at_facts = false;
  uint64_t tensors = 0, all_tensors = 0;
  std::vector<std::string> other_facts;  // tensors whose facts are not those of the parents
  uint64_t budget_bytes = 0, peak_bytes = 0;
  double seconds = 0;
  uint64_t bytes_read = 0;

  // The smallest share of all chunks, or tensors, that would be noticed with a probability of 99%.
  static double NoticedShare(uint64_t drawn, uint64_t all);
};

// kSameSample where nothing was found.
void DecideAudit(MergeAudit* audit);

// From the roots and the tensors that differ; sets `verdict`.
void DecideStatement(StatementCheck* check);

}  // namespace sluice::verify
