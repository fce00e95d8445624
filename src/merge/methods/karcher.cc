// karcher: the point on the sphere of directions with the least sum of squared angles to the models, times their mean
// length.
//
//   u_m = x_m / |x_m| over the whole tensor; models with |x_m| <= tol count for the length alone
//   u = sum_m u_m / |sum_m u_m| (the first u_m where that norm is under tol), then at most max_iter times:
//     theta_m = acos u.u_m;  T = mean_m theta_m / sin theta_m (u_m - cos theta_m u)        (theta_m < tol: none)
//     |T| < tol: done;  u = cos |T| u + sin |T| T / |T|, made one long
//   out = u mean_m |x_m|
//
// Karcher, "Riemannian center of mass and mollifier smoothing", Comm. Pure Appl. Math. 30, 1977, with the usual
// gradient step of one; as mergekit 0.1.4 has it. A base that a recipe names is one of the models.
//
// Deliberate differences from mergekit: the iteration runs on the factors of u in terms of the u_m, whose inner
// products are enough, in f64, so that angles below 3e-4 are told from none; one rounding at the end. A model opposite
// to u has no direction to go to and is passed over, where mergekit divides by zero.
#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/combination_node.h"
#include "arithmetic/mergekit_karcher.h"
#include "arithmetic/plain_math.h"
#include "merge/method.h"

namespace sluice::merge::methods {
namespace {

enum : size_t { kMaxIter, kTol };

// Vectors as factors of the units u_m of the models that have one.
class Sphere {
 public:
  Sphere(const arithmetic::Gram& gram, double tol) : gram_(gram) {
    for (size_t m = 0; m < gram.size(); ++m) {
      lengths_.push_back(gram.Norm(m));
      if (!(lengths_[m] <= tol)) units_.push_back(m);
    }
  }
  size_t size() const { return units_.size(); }
  size_t model(size_t i) const { return units_[i]; }
  double length(size_t m) const { return lengths_[m]; }

  double DotUnit(const std::vector<double>& a, size_t i) const {
    double sum = 0;
    for (size_t j = 0; j < size(); ++j) sum += a[j] * Cosine(i, j);
    return sum;
  }
  double Norm(const std::vector<double>& a) const {
    double square = 0;
    for (size_t i = 0; i < size(); ++i) square += a[i] * DotUnit(a, i);
    return square > 0 || std::isnan(square) ? std::sqrt(square) : 0;
  }

 private:
  double Cosine(size_t i, size_t j) const {
    if (i == j) return 1;
    return gram_(units_[i], units_[j]) / (lengths_[units_[i]] * lengths_[units_[j]]);
  }
  const arithmetic::Gram& gram_;
  std::vector<double> lengths_;
  std::vector<size_t> units_;
};

// One step of the iteration: whether u moved.
bool Step(const Sphere& sphere, double tol, std::vector<double>* u) {
  const size_t k = sphere.size();
  std::vector<double> tangent(k);
  for (size_t i = 0; i < k; ++i) {
    const double cosine = std::clamp(sphere.DotUnit(*u, i), -1.0, 1.0);
    const double theta = arithmetic::PlainAcos(cosine), sine = arithmetic::PlainSin(theta);
    if (theta < tol || sine < 1e-12) continue;
    const double factor = theta / sine / static_cast<double>(k);
    tangent[i] += factor;
    for (size_t j = 0; j < k; ++j) tangent[j] -= factor * cosine * (*u)[j];
  }
  const double norm = sphere.Norm(tangent);
  if (norm < tol || norm == 0) return false;
  const double cosine = arithmetic::PlainCos(norm), sine = arithmetic::PlainSin(norm) / norm;
  for (size_t i = 0; i < k; ++i) (*u)[i] = cosine * (*u)[i] + sine * tangent[i];
  const double length = sphere.Norm(*u);
  if (length > tol) {
    for (double& factor : *u) factor /= length;
  }
  return true;
}

void Factors(int max_iter, double tol, const arithmetic::Gram& gram, std::span<double> factors) {
  const Sphere sphere(gram, tol);
  std::fill(factors.begin(), factors.end(), 0.0);
  if (sphere.size() == 0) return;
  std::vector<double> u(sphere.size(), 1.0 / static_cast<double>(sphere.size()));
  const double norm = sphere.Norm(u);
  if (norm < tol) {
    std::ranges::fill(u, 0.0);
    u[0] = 1;
  } else {
    for (double& factor : u) factor /= norm;
  }
  for (int i = 0; i < max_iter && Step(sphere, tol, &u); ++i) {
  }
  double length = 0;
  for (size_t m = 0; m < gram.size(); ++m) length += sphere.length(m) / static_cast<double>(gram.size());
  for (size_t i = 0; i < sphere.size(); ++i) factors[sphere.model(i)] = length * u[i] / sphere.length(sphere.model(i));
}

const graph::Node* Build(const BuildArgs& args) {
  std::vector<const graph::Node*> x;
  for (const ModelInput& model : args.models) x.push_back(model.node);
  if (x.size() == 1) return x[0];
  const auto max_iter = static_cast<int>((*args.parameters)[kMaxIter]);
  const double tol = (*args.parameters)[kTol];
  const arithmetic::Combination combination = {
      fmt::format("karcher {} {:016x}", max_iter, std::bit_cast<uint64_t>(tol)),
      [max_iter, tol](const arithmetic::Gram& gram, std::span<double> factors) {
        Factors(max_iter, tol, gram, factors);
      }};
  return args.graph->Add(std::make_unique<arithmetic::CombinationNode>(
      nullptr, x, arithmetic::Vectors::Whole(x[0]->num_elements()), combination));
}

const graph::Node* BuildAsMergekit(const BuildArgs& args) {
  std::vector<const graph::Node*> x;
  for (const ModelInput& model : args.models) x.push_back(model.node);
  if (x.size() == 1) return x[0];
  const arithmetic::MergekitKarcher karcher = {.type = arithmetic::WorkingTypeOf(args.working),
                                               .max_iter = static_cast<uint64_t>((*args.parameters)[kMaxIter]),
                                               .tol = (*args.parameters)[kTol]};
  return arithmetic::AddMergekitKarcher(args.graph, karcher, x);
}

}  // namespace

const Method& karcher() {
  static const Method method = {
      .name = "karcher",
      .summary = "The direction with the least sum of squared angles to the models, times their mean length.",
      .formula =
          "u_m = x_m / |x_m| over the whole tensor;  u = sum_m u_m / |sum_m u_m|, then at most max_iter times:\n"
          "  theta_m = acos u.u_m;  T = mean_m theta_m / sin theta_m (u_m - cos theta_m u);  |T| < tol: done\n"
          "  u = cos |T| u + sin |T| T / |T|\n"
          "out = u mean_m |x_m|",
      .paper =
          "Karcher, \"Riemannian center of mass and mollifier smoothing\", Comm. Pure Appl. Math. 30, 1977, as "
          "mergekit "
          "0.1.4 has it: equal weights, the base one of the models.",
      .differences =
          "the iteration runs on inner products in f64, one rounding at the end; a model opposite to the mean is "
          "passed over. --arithmetic mergekit: none in bf16 and f16, but where a cosine or sine of the step lies at "
          "the "
          "edge of two numbers; in f32 angles as MKL has them, but for one unit in the last place of up to 2 of 1,000; "
          "the order of MKL's dot product is that on AMD's processors.",
      .parameters = {{.name = "max_iter",
                      .scope = ParameterScope::kRecipe,
                      .min = 0,
                      .max = 1000000,
                      .default_value = 10,
                      .help = "most steps of the iteration"},
                     {.name = "tol",
                      .scope = ParameterScope::kRecipe,
                      .min = 0,
                      .default_value = 1e-5,
                      .help = "angles and lengths below it are nothing"}},
      .build = Build,
      .build_as_mergekit = BuildAsMergekit,
  };
  return method;
}

}  // namespace sluice::merge::methods
