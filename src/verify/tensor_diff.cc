#include "verify/tensor_diff.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "base/check.h"

namespace sluice::verify {

const char* TensorClassName(TensorClass tensor_class) {
  switch (tensor_class) {
    case TensorClass::kIdentical:
      return "identical";
    case TensorClass::kEqualAfterCast:
      return "equal_after_cast";
    case TensorClass::kRounded:
      return "rounded";
    case TensorClass::kWithinTolerance:
      return "within_tolerance";
    case TensorClass::kChanged:
      return "changed";
    case TensorClass::kNotComparable:
      return "not_comparable";
    case TensorClass::kShapeDiffers:
      return "shape_differs";
    case TensorClass::kRenamed:
      return "renamed";
    case TensorClass::kTied:
      return "tied";
    case TensorClass::kOnlyInA:
      return "only_in_a";
    case TensorClass::kOnlyInB:
      return "only_in_b";
  }
  SLUICE_CHECK(false);
}

const char* RoundedSideName(RoundedSide side) {
  switch (side) {
    case RoundedSide::kNone:
      return "none";
    case RoundedSide::kA:
      return "a";
    case RoundedSide::kB:
      return "b";
    case RoundedSide::kEither:
      return "either";
  }
  SLUICE_CHECK(false);
}

TensorSummary Summarise(const std::vector<TensorDiff>& unequal, uint64_t identical_tensors,
                        uint64_t identical_elements) {
  TensorSummary summary;
  summary.tensors = identical_tensors;
  summary.counts[static_cast<int>(TensorClass::kIdentical)] = identical_tensors;
  summary.elements = identical_elements;
  bool a_possible = true, b_possible = true;
  for (const TensorDiff& tensor : unequal) {
    ++summary.tensors;
    ++summary.counts[static_cast<int>(tensor.tensor_class)];
    summary.elements += tensor.num_elements;
    if (tensor.stats) summary.changed_elements += tensor.stats->changed;
    if (tensor.tensor_class == TensorClass::kRounded) {
      a_possible &= tensor.rounded == RoundedSide::kA || tensor.rounded == RoundedSide::kEither;
      b_possible &= tensor.rounded == RoundedSide::kB || tensor.rounded == RoundedSide::kEither;
    }
  }
  if (summary.count(TensorClass::kRounded) > 0) {
    summary.rounded_mixed = !a_possible && !b_possible;
    if (a_possible && b_possible) {
      summary.rounded = RoundedSide::kEither;
    } else if (a_possible) {
      summary.rounded = RoundedSide::kA;
    } else if (b_possible) {
      summary.rounded = RoundedSide::kB;
    }
  }
  return summary;
}

void ResolveTiedAndRenamed(const std::vector<std::string>& tied_a, const std::vector<std::string>& tied_b,
                           std::vector<TensorDiff>* tensors) {
  const std::set<std::string_view> in_tied_a(tied_a.begin(), tied_a.end()), in_tied_b(tied_b.begin(), tied_b.end());
  using Content = std::tuple<std::string, std::vector<uint64_t>, kernels::Hash256>;
  std::map<Content, std::vector<TensorDiff*>> only_in_b;
  for (TensorDiff& tensor : *tensors) {
    const bool tied = (tensor.tensor_class == TensorClass::kOnlyInA && in_tied_a.contains(tensor.name)) ||
                      (tensor.tensor_class == TensorClass::kOnlyInB && in_tied_b.contains(tensor.name));
    if (tied) {
      tensor.tensor_class = TensorClass::kTied;
    } else if (tensor.tensor_class == TensorClass::kOnlyInB) {
      only_in_b[{tensor.encoding_b, tensor.shape_b, tensor.digest_b}].push_back(&tensor);
    }
  }
  std::set<const TensorDiff*> folded;  // B's entry of a renamed pair: A's tells of both
  for (TensorDiff& tensor : *tensors) {
    if (tensor.tensor_class != TensorClass::kOnlyInA) continue;
    const auto found = only_in_b.find({tensor.encoding_a, tensor.shape_a, tensor.digest_a});
    if (found == only_in_b.end() || found->second.empty()) continue;
    TensorDiff* other = found->second.front();
    found->second.erase(found->second.begin());
    tensor.tensor_class = TensorClass::kRenamed;
    tensor.other_name = other->name;
    tensor.encoding_b = other->encoding_b;
    tensor.shape_b = other->shape_b;
    tensor.digest_b = other->digest_b;
    folded.insert(other);
  }
  if (folded.empty()) return;
  std::vector<TensorDiff> kept;
  kept.reserve(tensors->size() - folded.size());
  for (TensorDiff& tensor : *tensors) {
    if (!folded.contains(&tensor)) kept.push_back(std::move(tensor));
  }
  *tensors = std::move(kept);
}

std::vector<std::vector<stream::LockstepGroups::Member>> Alignment::Members(const checkpoint::Checkpoint& a,
                                                                            const checkpoint::Checkpoint& b) const {
  std::vector<std::vector<stream::LockstepGroups::Member>> members(groups.size());
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].a >= 0) members[i].push_back({&a, static_cast<uint32_t>(groups[i].a)});
    if (groups[i].b >= 0) members[i].push_back({&b, static_cast<uint32_t>(groups[i].b)});
  }
  return members;
}

Alignment Align(const checkpoint::Catalogue& a, const checkpoint::Catalogue& b) {
  Alignment alignment;
  size_t i = 0, j = 0;
  while (i < a.size() || j < b.size()) {
    const int order = i == a.size() ? 1 : j == b.size() ? -1 : a[i].name.compare(b[j].name);
    if (order < 0) {
      alignment.groups.push_back({.a = static_cast<int64_t>(i++)});
    } else if (order > 0) {
      alignment.groups.push_back({.b = static_cast<int64_t>(j++)});
    } else {
      const checkpoint::TensorInfo x = a[i], y = b[j];
      if (std::ranges::equal(x.shape, y.shape)) {
        alignment.groups.push_back({.a = static_cast<int64_t>(i), .b = static_cast<int64_t>(j)});
      } else {
        alignment.groups.push_back({.a = static_cast<int64_t>(i), .in_other = true});
        alignment.groups.push_back({.b = static_cast<int64_t>(j), .in_other = true});
      }
      ++i, ++j;
    }
  }
  return alignment;
}

}  // namespace sluice::verify
