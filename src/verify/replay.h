// Replay: a verification that was done again, beside what its evidence says: the results field by field, and whether
// the models are those that were recorded. docs/evidence.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/digest_tree.h"
#include "verify/evidence.h"
#include "verify/fingerprint.h"

namespace sluice::verify {

struct FieldDifference {
  std::string field;  // "summary.changed", "tensors[model.norm.weight].max_abs"
  std::optional<nlohmann::ordered_json> recorded = {}, now = {};  // nothing: the result has no such field
};

struct ResultComparison {
  uint64_t agree = 0;  // fields: texts, numbers, truths, nulls, and lists of these
  std::vector<FieldDifference> differ;
  // What only one of the runs could tell: ranks of matrices for whose sketches the other's budget had no room, and what
  // is said of all ranks together.
  std::vector<std::string> not_compared;
};

// Two results of `verify --json`. Left out is what a run costs (memory, seconds, bytes_read) and where things lie
// (references, paths, places in files): it may be otherwise with the same models. Lists of objects that have names are
// aligned by them, others by place. Numbers with a fraction agree within a part in 10^12.
ResultComparison CompareResults(const nlohmann::ordered_json& recorded, const nlohmann::ordered_json& now);

struct SideReplay {
  enum class State {
    kSame,     // as recorded, as far as it was read: `known_by` says how far
    kChanged,  // `changed` says what
  };
  std::string name, recorded_ref = {}, ref = {};
  State state = State::kSame;
  std::string known_by = {};              // "every byte", "drawn blocks and headers", "headers", "files"
  std::vector<std::string> changed = {};  // "config", "tokenizer", "names, encodings or shapes", "weights", "files"
  std::vector<std::string> tensors = {};  // whose bytes are others, where that is known; sorted
  std::vector<std::string> files = {};    // that are of another size, or of other bytes: a hint, no proof
};

// What is known of a side, recorded or now.
struct KnownSide {
  EvidenceSide side;
  std::optional<checkpoint::ModelDigest> digest = {};  // of its manifest
  std::optional<Fingerprint> fingerprint = {};
};
SideReplay CompareSides(const KnownSide& recorded, const KnownSide& now);

struct Replay {
  std::string folder, made_by, recorded_level;
  std::string recorded_verdict;  // empty: none, of a part of a run
  ResultComparison results;
  std::vector<SideReplay> sides;

  bool models_changed() const;
  // No field differs and no side was changed.
  bool reproduced() const { return results.differ.empty() && !models_changed(); }
  // In a sentence: what follows from both.
  std::string Finding() const;
};

}  // namespace sluice::verify
