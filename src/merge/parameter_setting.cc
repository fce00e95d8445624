#include "merge/parameter_setting.h"

#include <algorithm>

namespace sluice::merge {
namespace {

std::optional<double> Given(const ParameterSettings& settings, size_t parameter, std::string_view tensor, double t) {
  if (parameter >= settings.size() || !settings[parameter]) return std::nullopt;
  return settings[parameter]->At(tensor, t);
}

}  // namespace

std::optional<double> ParameterSetting::At(std::string_view tensor, double t) const {
  for (const Case& c : cases_) {
    if (c.filter && *c.filter != "*" && tensor.find(*c.filter) == std::string_view::npos) continue;
    const double place = t * static_cast<double>(c.values.size() - 1);
    const auto first = static_cast<size_t>(place);
    const size_t second = std::min(c.values.size() - 1, first + 1);
    const double share = place - static_cast<double>(first);
    if (share == 0) return c.values[first];
    return (1 - share) * c.values[first] + share * c.values[second];
  }
  return std::nullopt;
}

bool ParameterSetting::Has(double value) const {
  return std::ranges::any_of(cases_,
                             [&](const Case& c) { return std::ranges::find(c.values, value) != c.values.end(); });
}

SliceParameters::SliceParameters(const Method* method, std::vector<const ParameterSettings*> scopes,
                                 std::vector<const ParameterSettings*> sources)
    : method_(method), scopes_(std::move(scopes)), sources_(std::move(sources)) {
  for (const auto* list : {&scopes_, &sources_}) {
    for (const ParameterSettings* settings : *list) {
      are_constant_ &= std::ranges::all_of(
          *settings, [](const std::optional<ParameterSetting>& setting) { return !setting || setting->is_constant(); });
    }
  }
}

std::optional<double> SliceParameters::InScopes(size_t parameter, std::string_view tensor, double t) const {
  for (const ParameterSettings* scope : scopes_) {
    if (const auto value = Given(*scope, parameter, tensor, t)) return value;
  }
  return method_->parameters[parameter].default_value;
}

ParameterValues SliceParameters::OfModel(size_t source, std::string_view tensor, double t,
                                         std::string_view* missing) const {
  ParameterValues values;
  for (size_t i = 0; i < method_->parameters.size(); ++i) {
    const ParameterInfo& info = method_->parameters[i];
    if (info.scope == ParameterScope::kRecipe) {
      values.push_back(info.default_value.value_or(0));
      continue;
    }
    std::optional<double> value = Given(*sources_[source], i, tensor, t);
    if (!value) value = InScopes(i, tensor, t);
    if (!value && missing->empty()) *missing = info.name;
    values.push_back(value.value_or(kBadValue));
  }
  return values;
}

ParameterValues SliceParameters::OfRecipe(std::string_view tensor, double t, std::string_view* missing) const {
  ParameterValues values;
  for (size_t i = 0; i < method_->parameters.size(); ++i) {
    const ParameterInfo& info = method_->parameters[i];
    if (info.scope == ParameterScope::kModel) {
      values.push_back(info.default_value.value_or(0));
      continue;
    }
    const std::optional<double> value = InScopes(i, tensor, t);
    if (!value && missing->empty()) *missing = info.name;
    values.push_back(value.value_or(kBadValue));
  }
  return values;
}

}  // namespace sluice::merge
