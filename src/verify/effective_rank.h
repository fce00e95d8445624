// EffectiveRank: of how many directions the difference of two matrices consists, beside the noise that rounding makes.
// docs/verify_tensors.md derives what is here.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace sluice::verify {

enum class RankKind {
  kNotSketched,     // `reason` says why
  kWithinRounding,  // no direction stands out, and all of it is no larger than rounding to nearest can make
  kLow,             // `rank` directions, and what is left is no larger than rounding to nearest can make
  kSparse,          // the same, but so few elements changed that chance alone makes such directions
  kFull,            // more is left than that, or more directions stand out than the sketch can tell
};
const char* RankKindName(RankKind kind);  // "not_sketched", "within_rounding", "low", "sparse", "full"

struct EffectiveRank {
  RankKind kind = RankKind::kNotSketched;
  std::string reason;
  uint64_t rank = 0;     // directions that stand out; of kFull: at least
  uint64_t most = 0;     // the sketch tells ranks below this
  double explained = 0;  // their part of |D|^2, 0 to 1
  double residual_ulps =
      0;  // what is left: the root of its mean square, in units in the last place of the coarser side
  double least_singular = 0;  // a singular value of D above this would have stood out
};

// What is known of a difference D. S is a sketch of D of `rows` rows whose E |S|^2 is |D|^2.
struct RankEvidence {
  std::span<const double> eigenvalues;  // of S^T S, in any order
  uint64_t rows = 0, columns = 0;       // of S, without those that are always zero
  uint64_t least_dimension = 0;         // of D: its rows or its columns, whichever are fewer
  double changed_share = 1;             // of D's elements, those that are not 0
  double squared_ulps = 0;              // sum of ulp^2 over the elements of D, of the coarser side
};
EffectiveRank RankOf(const RankEvidence& evidence);

// How many of the eigenvalues (descending, of a Gram matrix of noise and some directions) are above the edge of the
// noise; at most half of them. `margin`: in units of Tracy and Widom's law.
uint64_t CountAboveNoise(std::span<const double> eigenvalues, double margin);

// Where noise ends of which `count` eigenvalues have this mean and this mean square.
double NoiseEdge(double mean, double mean_square, uint64_t count, double margin);

// Tracy and Widom's law for real matrices: beyond it are 2e-6 of the largest eigenvalues of noise.
constexpr double kNoiseMargin = 6;

// Eigenvalues of the symmetric `gram` [width][width], descending; those below 0 as 0.
void SymmetricEigenvalues(std::span<const double> gram, uint64_t width, std::span<double> eigenvalues);

}  // namespace sluice::verify
