#include "verify/signature_check.h"

#include <algorithm>

namespace sluice::verify {
namespace {

Verdict DecideManifest(const ManifestCheck& check) {
  if (check.same()) return Verdict::kIdentical;
  if (check.same_weights) return Verdict::kSameWeights;
  const bool same_tensors = std::ranges::all_of(check.differences, [](const ManifestDifference& difference) {
    return difference.change == ManifestChange::kChanged;
  });
  return same_tensors ? Verdict::kSameArchitectureDifferentWeights : Verdict::kDifferentArchitecture;
}

}  // namespace

void DecideSignature(SignatureCheck* check) {
  check->verdict = Verdict::kIdentical;
  if (!check->comparison.same()) {
    check->verdict = Verdict::kDifferentFiles;
  } else if (check->statement && check->statement->verdict != Verdict::kIdentical) {
    check->verdict = check->statement->verdict;
  } else if (check->manifest) {
    check->verdict = DecideManifest(*check->manifest);
  }
}

}  // namespace sluice::verify
