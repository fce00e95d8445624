// ParameterReader: the `parameters:` of a recipe's parts, read and checked against a method's metadata.
#pragma once

#include <string_view>
#include <vector>

#include "merge/diagnostics.h"
#include "merge/parameter_setting.h"
#include "merge/yaml.h"

namespace sluice::merge {

class ParameterReader {
 public:
  // `method` null: any method's parameters are known, and nothing is kept. Of a method that is not supported not even
  // their names are known: Ignore().
  ParameterReader(const Method* method, Diagnostics* diagnostics) : method_(method), diagnostics_(diagnostics) {}
  void Ignore() { ignore_ = true; }

  // kModel: a model's own parameters. kRecipe: those of a slice, a module or the recipe, which hold both kinds.
  // Empty without a method. A value that is wrong is kBadValue, and an error tells of it.
  ParameterSettings Read(const YamlNode& node, ParameterScope scope);

 private:
  const ParameterInfo* Find(std::string_view name) const;
  void UnknownParameter(const YamlNode& key);
  ParameterSetting ReadSetting(const YamlNode& node, const ParameterInfo& info);
  std::vector<double> ReadValues(const YamlNode& node, const ParameterInfo& info);
  double ReadValue(const YamlNode& node, const ParameterInfo& info);
  void Error(Mark mark, std::string message) { diagnostics_->AddError(mark, std::move(message)); }

  const Method* method_;
  Diagnostics* diagnostics_;
  bool ignore_ = false;
  std::vector<std::string_view> noted_;  // unused parameters told of once
};

// 'text' of a scalar, or what kind of node it is.
std::string Quoted(const YamlNode& node);

}  // namespace sluice::merge
