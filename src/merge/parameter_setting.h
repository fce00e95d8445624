// ParameterSetting: a parameter's value as a recipe writes it, which may differ by tensor and by layer: a number, a
// gradient over the layers of a slice, or a list of either behind filters. Where it stands (SliceParameters) decides
// what wins. Both as mergekit 0.1.4 has them.
#pragma once

#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "merge/method.h"

namespace sluice::merge {

// A parameter that is given, but wrong: an error tells of it.
constexpr double kBadValue = std::numeric_limits<double>::quiet_NaN();

class ParameterSetting {
 public:
  struct Case {
    std::optional<std::string> filter;  // a part of the names of the tensors that it is for; none or "*": of all
    std::vector<double> values;         // one, or a gradient: at least one
  };
  explicit ParameterSetting(double value) : cases_{{std::nullopt, {value}}} {}
  explicit ParameterSetting(std::vector<Case> cases) : cases_(std::move(cases)) {}

  // Of the first case that is for the tensor; nothing where none is. `t`: where the layer stands in its slice, from 0
  // to 1; between two values of a gradient lies what is between them.
  std::optional<double> At(std::string_view tensor, double t) const;
  // Whether it may be this value for some tensor.
  bool Has(double value) const;
  // Whether it is the same for all tensors.
  bool is_constant() const { return cases_.size() == 1 && !cases_[0].filter && cases_[0].values.size() == 1; }

 private:
  std::vector<Case> cases_;
};

// In the order of a method's parameters; nothing where one is not given. Empty: none is.
using ParameterSettings = std::vector<std::optional<ParameterSetting>>;

// The parameters of one slice: its sources' own, else the slice's, else the module's, else the recipe's, else the
// method's default. Refers to all of them.
class SliceParameters {
 public:
  SliceParameters(const Method* method, std::vector<const ParameterSettings*> scopes,
                  std::vector<const ParameterSettings*> sources);  // scopes: the nearest first

  // Of a source, for the tensor of that name in the source; parameters of the recipe's scope hold their defaults. A
  // parameter that is required and not given is kBadValue, and the first of them goes into *missing.
  ParameterValues OfModel(size_t source, std::string_view tensor, double t, std::string_view* missing) const;
  // Of the recipe's scope, for the tensor of that name in the result; likewise.
  ParameterValues OfRecipe(std::string_view tensor, double t, std::string_view* missing) const;
  // Whether they are the same for all tensors.
  bool are_constant() const { return are_constant_; }

 private:
  std::optional<double> InScopes(size_t parameter, std::string_view tensor, double t) const;

  const Method* method_;
  std::vector<const ParameterSettings*> scopes_, sources_;
  bool are_constant_ = true;
};

}  // namespace sluice::merge
