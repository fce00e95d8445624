// What became of a tensor between two checkpoints, and the sum of it over all tensors.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "kernels/sha256.h"
#include "stream/checkpoint_groups.h"
#include "verify/tensor_details.h"

namespace sluice::verify {

enum class TensorClass {
  kIdentical,        // the same encoding, the same bytes
  kEqualAfterCast,   // other encodings of the same numbers
  kRounded,          // one side is the other, rounded once: to nearest even, or as Q8_0 is made
  kWithinTolerance,  // |a - b| <= atol + rtol |b| everywhere, where a tolerance was asked for
  kChanged,
  kNotComparable,  // other encodings, and numbers of one are not known here (F64, integers): equal or not is open
  kShapeDiffers,
  kRenamed,  // only one side has the name; the other has the same bytes under another
  kTied,     // only one side stores it: a copy of its embedding, which model_root leaves out
  kOnlyInA,
  kOnlyInB,
};
constexpr int kNumTensorClasses = 11;
const char* TensorClassName(TensorClass tensor_class);  // "identical", "equal_after_cast", ...

// Which side is the rounding of the other. kEither: each is the other's, as with BF16 against F16 of some tensors.
enum class RoundedSide { kNone, kA, kB, kEither };
const char* RoundedSideName(RoundedSide side);  // "none", "a", "b", "either"

// Over all elements of a tensor, in f64. Where either side is not finite an element counts in changed (unless both are
// NaN or the same infinity), nan_* and inf_*, and leaves max_abs, relative_l2 and cosine alone.
struct DifferenceStats {
  uint64_t elements = 0;
  uint64_t changed = 0;  // a != b as numbers: +0 equals -0, NaN equals NaN
  uint64_t nan_a = 0, nan_b = 0, inf_a = 0, inf_b = 0;
  double max_abs = 0;      // max |a - b|
  double relative_l2 = 0;  // |a - b| / |a|, Euclidean; 0 where both are 0, infinite where only |a| is
  double cosine = 0;       // a.b / (|a| |b|); 1 where both are 0, 0 where one is
};

// Where an element lies.
struct FilePlace {
  std::string file;
  uint64_t byte = 0;
};

struct TensorDiff {
  std::string name;
  TensorClass tensor_class = TensorClass::kIdentical;
  std::string other_name;              // renamed: the other side's; tied: what it is a copy of
  std::string encoding_a, encoding_b;  // empty: that side has no such tensor
  std::vector<uint64_t> shape_a, shape_b;
  uint64_t num_elements = 0;  // of tensors that both sides have in one shape
  kernels::Hash256 digest_a{}, digest_b{};
  RoundedSide rounded = RoundedSide::kNone;
  std::optional<DifferenceStats> stats;  // of compared tensors that are unequal, where both encodings have numbers
  std::optional<uint64_t>
      first_changed;  // least index in the flat tensor of an element that differs, where it is known
  std::optional<FilePlace> place_a, place_b;  // of that element (or of its block), where the side is stored bytes
  TensorDetails details;
  std::string grid_a, grid_b;  // that the side's numbers lie on; empty: none
};

struct TensorSummary {
  uint64_t tensors = 0;                              // names in A or B
  std::array<uint64_t, kNumTensorClasses> counts{};  // by TensorClass
  uint64_t elements = 0;                             // of tensors that both sides have in one shape
  uint64_t changed_elements = 0;                     // of these, where they were compared as numbers
  RoundedSide rounded = RoundedSide::kNone;          // of all rounded tensors; kNone also where they disagree
  bool rounded_mixed = false;                        // A is rounded in some tensors, B in others
  bool stopped_early = false;                        // at the first difference
  kernels::Hash256 weights_root_a{}, weights_root_b{}, model_root_a{}, model_root_b{};

  uint64_t count(TensorClass c) const { return counts[static_cast<int>(c)]; }
  bool SameWeightsRoot() const { return !stopped_early && weights_root_a == weights_root_b; }
  bool SameModelRoot() const { return !stopped_early && model_root_a == model_root_b; }
};

// Counts by class, elements, and which side is rounded. Roots are the caller's to fill in. `unequal`: every tensor that
// is not identical; those that are come as numbers.
TensorSummary Summarise(const std::vector<TensorDiff>& unequal, uint64_t identical_tensors,
                        uint64_t identical_elements);

// After all bytes were read: what only one side has becomes tied (its name is in that side's `tied`) or renamed (the
// other side has a tensor of the same encoding, shape and digest that this side lacks).
void ResolveTiedAndRenamed(const std::vector<std::string>& tied_a, const std::vector<std::string>& tied_b,
                           std::vector<TensorDiff>* tensors);

// Which tensors meet: the same name and the same shape go in lockstep, whatever their encodings; the rest alone.
struct AlignedGroup {
  int64_t a = -1, b = -1;  // index into that side's tensors(); -1: not in this group
  bool in_other = false;   // alone because the shapes differ, not because the other side has no such name
};
struct Alignment {
  std::vector<AlignedGroup> groups;  // sorted by name; A before B where shapes differ
  std::vector<std::vector<stream::LockstepGroups::Member>> Members(const checkpoint::Checkpoint& a,
                                                                   const checkpoint::Checkpoint& b) const;
};
Alignment Align(const checkpoint::Catalogue& a, const checkpoint::Catalogue& b);

}  // namespace sluice::verify
