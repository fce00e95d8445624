#include "merge/method.h"

#include <array>
#include <cmath>

#include <fmt/format.h>

#include "base/check.h"
#include "generated/methods_table.inc"

namespace sluice::merge {
namespace {

std::string RangeText(const ParameterInfo& parameter) {
  switch (parameter.type) {
    case ParameterType::kBool:
      return "true or false";
    case ParameterType::kBoolOrDensity:
      return "true, false or `density`";
    case ParameterType::kNumber:
      break;
  }
  constexpr double kMost = std::numeric_limits<float>::max();
  if (parameter.min == -kMost && parameter.max == kMost) return "any number";
  if (parameter.max == kMost) return fmt::format("{} or more", parameter.min);
  return fmt::format("{} to {}", parameter.min, parameter.max);
}

std::string DefaultText(const ParameterInfo& parameter) {
  if (!parameter.default_value) return "required";
  if (parameter.type == ParameterType::kNumber) return fmt::format("{}", *parameter.default_value);
  if (*parameter.default_value == kDensityWord) return "`density`";
  return *parameter.default_value != 0 ? "true" : "false";
}

}  // namespace

const ParameterInfo* Method::Find(std::string_view parameter) const {
  for (const ParameterInfo& info : parameters) {
    if (info.name == parameter) return &info;
  }
  return nullptr;
}

size_t Method::Index(std::string_view parameter) const {
  const ParameterInfo* info = Find(parameter);
  SLUICE_CHECK(info != nullptr);
  return static_cast<size_t>(info - parameters.data());
}

std::span<const Method* const> AllMethods() {
  static const std::vector<const Method*> all = [] {
    std::vector<const Method*> methods;
    methods.reserve(std::size(methods::kTable));
    for (const auto make : methods::kTable) methods.push_back(&make());
    return methods;
  }();
  return all;
}

const Method* FindMethod(std::string_view name) {
  for (const Method* method : AllMethods()) {
    if (method->name == name) return method;
  }
  return nullptr;
}

std::span<const std::string_view> UnsupportedMethods() {
  static constexpr std::array<std::string_view, 4> kNames = {"arcee_fusion", "ram", "ramplus_tl", "sce"};
  return kNames;
}

std::string MethodPage(const Method& method) {
  std::string page = fmt::format("# {}\n\n{}\n\n```\n{}\n```\n\n", method.name, method.summary, method.formula);
  page += fmt::format("Source: {}\n\n", method.paper);
  const char* base = method.needs_base ? "required" : method.takes_base ? "optional" : "not used by the arithmetic";
  page += fmt::format("Base model: {}. Models{}: {}{}.\n\n", base,
                      method.needs_base || method.takes_base ? " beside it" : "", method.min_models,
                      method.max_models == 0 ? " or more" : fmt::format(" to {}", method.max_models));
  page += "| parameter | where | values | default | |\n|---|---|---|---|---|\n";
  for (const ParameterInfo& parameter : method.parameters) {
    page += fmt::format("| `{}` | {} | {} | {} | {}{} |\n", parameter.name,
                        parameter.scope == ParameterScope::kModel ? "each model, or top level" : "top level",
                        RangeText(parameter), DefaultText(parameter),
                        parameter.used ? "" : "not used, accepted: ", parameter.help);
  }
  page += fmt::format("\nMemory: {} bytes for each input and element under way (a worker has {} elements under way).\n",
                      method.bytes_per_element, graph::kPieceElements);
  if (!method.differences.empty()) page += fmt::format("\nDiffers from mergekit on purpose: {}\n", method.differences);
  return page;
}

}  // namespace sluice::merge
