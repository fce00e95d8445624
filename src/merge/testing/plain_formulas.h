// The merge methods as plain scalar formulas over whole tensors in memory: what the contract test (method_test.cc)
// holds every method to.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "merge/method.h"

namespace sluice::tests {

using Floats = std::vector<float>;

struct MethodSettings {
  std::vector<double> weight, density;  // per model
  bool normalize = false;
  double rescale = 0;  // 0, 1, kDensityWord
  double lambda = 1;
  uint64_t seed = 5;
  std::string tensor = "model.layers.0.mlp.up_proj.weight";
  std::map<std::string, double> other = {};  // parameters by name, before all of these
  uint64_t columns = 0;                      // of a matrix; 0: the tensor has one dimension
  bool with_base = true;                     // where the base is optional

  // Of model m, as a method's parameters have it.
  double Value(const merge::ParameterInfo& info, size_t m) const;
  double Other(const std::string& name, double otherwise) const;
};

// Whether the method's formula is held to the last bit. Where inner products decide, their order of sums is the
// method's own, and the formula's result is one rounding away at most.
bool IsExact(const merge::Method& method);

// `base` is not looked at where the method has none.
Floats PlainFormula(const merge::Method& method, const Floats& base, const std::vector<Floats>& x,
                    const MethodSettings& settings);

// Those of model_stock, slerp and the like (spherical_formulas.cc).
Floats SphericalFormula(const std::string& name, const Floats& base, const std::vector<Floats>& x,
                        const MethodSettings& settings);

}  // namespace sluice::tests
