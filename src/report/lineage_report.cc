#include "report/lineage_report.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "report/table.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;
using verify::Coefficient;
using verify::Lineage;
using verify::MergeKindFit;
using verify::Regression;
using Standing = Coefficient::Standing;

constexpr size_t kMostRows = 20;
constexpr double kSurely = 4;  // standard errors that a term of the first line is away from 0

const char* StandingName(Standing standing) {
  switch (standing) {
    case Standing::kFitted:
      return "fitted";
    case Standing::kZero:
      return "equal_to_base";
    case Standing::kAlias:
      return "alias";
  }
  return "";
}

template <class T>
ordered_json Optional(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json();
}

ordered_json FitJson(const Regression& fit) {
  ordered_json json;
  json["r_squared"] = Optional(fit.r_squared());
  json["clusters"] = fit.clusters;
  json["coefficients"] = ordered_json::array();
  for (const Coefficient& coefficient : fit.coefficients) {
    const bool fitted = coefficient.fitted();
    json["coefficients"].push_back(
        {{"value", fitted ? ordered_json(coefficient.value) : ordered_json()}, {"error", Optional(coefficient.error)}});
  }
  return json;
}

ordered_json CoefficientJson(const Lineage& lineage, size_t k) {
  const Coefficient& coefficient = lineage.overall.coefficients[k];
  const bool fitted = coefficient.fitted();
  ordered_json json;
  json["ref"] = k < lineage.num_candidates() ? lineage.candidates[k] : lineage.base;
  json["standing"] = StandingName(coefficient.standing);
  json["coefficient"] = fitted ? ordered_json(coefficient.value) : ordered_json();
  json["error"] = Optional(coefficient.error);
  json["rounding_bias"] = fitted ? ordered_json(coefficient.rounding_bias) : ordered_json();
  json["explains"] = fitted ? ordered_json(coefficient.explains) : ordered_json();
  json["own_share"] = fitted ? ordered_json(coefficient.own_share) : ordered_json();
  json["alias"] = ordered_json::array();
  for (const auto& [of, factor] : coefficient.alias) {
    json["alias"].push_back(
        {{"ref", of < lineage.num_candidates() ? lineage.candidates[of] : lineage.base}, {"factor", factor}});
  }
  if (k < lineage.num_candidates()) json["spread_between_layers"] = Optional(lineage.spread_between_layers[k]);
  return json;
}

ordered_json KindFitJson(const Lineage& lineage, const MergeKindFit& fit) {
  constexpr std::array<const char*, 3> kSums = {"sum", "consensus", "normalised"};
  ordered_json json;
  json["name"] = verify::MergeKindName(fit);
  json["sum"] = kSums[static_cast<size_t>(fit.sum)];
  json["mask"] = fit.mask == verify::MergeMask::kRandom ? "random" : "magnitude";
  json["log_likelihood"] = fit.log_likelihood;
  json["scale"] = fit.scale;
  json["noise"] = fit.noise;
  json["weights"] = ordered_json::array();
  for (size_t i = 0; i < fit.weights.size(); ++i) {
    const bool has_errors = i < fit.weight_errors.size();
    json["weights"].push_back({{"ref", lineage.candidates[lineage.kind.candidates[i]]},
                               {"weight", fit.weights[i]},
                               {"error", has_errors ? ordered_json(fit.weight_errors[i]) : ordered_json()},
                               {"density", fit.densities[i]},
                               {"density_error", has_errors ? ordered_json(fit.density_errors[i]) : ordered_json()}});
  }
  return json;
}

std::string Number(double value) { return fmt::format("{:.4f}", value); }
std::string Number(const Coefficient& coefficient) {
  return coefficient.fitted() ? Number(coefficient.value) : std::string("-");
}
// Two digits of an error, which say how many of the value mean something.
std::string Error(const std::optional<double>& error) { return error ? fmt::format("{:.2g}", *error) : "not known"; }
std::string Percent(double share) { return fmt::format("{:.4g}%", 100 * share); }

// Names of candidates without what all have in common in front, so that they tell them apart.
std::vector<std::string> ShortNames(const Lineage& lineage) {
  std::vector<std::string> names = lineage.candidates;
  for (std::string& name : names) {
    while (name.size() > 1 && name.ends_with('/')) name.pop_back();
  }
  if (names.size() < 2) return names;
  size_t common = 0;
  for (size_t at = 0; at < names[0].size(); ++at) {
    if (!std::ranges::all_of(names, [&](const std::string& n) { return at + 1 < n.size() && n[at] == names[0][at]; }))
      break;
    if (names[0][at] == '/') common = at + 1;
  }
  for (std::string& name : names) name.erase(0, common);
  return names;
}

bool IsSure(const Coefficient& coefficient) {
  return coefficient.fitted() && coefficient.error && std::abs(coefficient.value) > kSurely * *coefficient.error;
}

// Whether the regression's coefficients are the weights, or only what they come to.
bool AreEffective(const Lineage& lineage) {
  return !lineage.kind.fits.empty() && lineage.kind.fits[0].sum != verify::MergeSum::kSum;
}

std::string FirstLine(const Lineage& lineage, const std::vector<std::string>& names) {
  const std::optional<double> r_squared = lineage.overall.r_squared();
  if (!r_squared) return fmt::format("{} = {}: no number differs\n", lineage.model, lineage.base);
  std::vector<std::pair<double, std::string>> terms;
  if (!lineage.kind.fits.empty()) {
    const MergeKindFit& fit = lineage.kind.fits[0];
    for (size_t i = 0; i < fit.weights.size(); ++i) {
      terms.emplace_back(fit.weights[i], names[lineage.kind.candidates[i]]);
    }
  } else {
    for (size_t k = 0; k < lineage.num_candidates(); ++k) {
      if (IsSure(lineage.overall.coefficients[k])) terms.emplace_back(lineage.overall.coefficients[k].value, names[k]);
    }
  }
  std::ranges::stable_sort(terms, std::ranges::greater(), [](const auto& term) { return std::abs(term.first); });
  std::string text = fmt::format("{} = {}", lineage.model, lineage.base);
  for (const auto& [value, name] : terms) {
    text += fmt::format(" {} {:.3f} {}", value < 0 ? "-" : "+", std::abs(value), name);
  }
  if (terms.empty()) text += " + nothing of the candidates";
  if (!lineage.kind.fits.empty() && !terms.empty()) {
    text += fmt::format(" ({})", lineage.kind.equally_good() > 1 ? "the kind is not certain" : lineage.kind.name());
  }
  return text + fmt::format("; R^2 {:.4f}, unexplained {}\n", *r_squared, Percent(1 - *r_squared));
}

std::string CandidatesTable(const Lineage& lineage, const std::vector<std::string>& names) {
  const bool effective = AreEffective(lineage);
  Table table(
      {"candidate", effective ? ">effective coefficient" : ">coefficient", ">± standard error", ">explains", ""});
  std::vector<std::string> all = names;
  all.push_back("(the base itself)");
  for (size_t k = 0; k < all.size(); ++k) {
    const Coefficient& coefficient = lineage.overall.coefficients[k];
    std::vector<std::string> remarks;
    if (coefficient.standing == Standing::kZero) remarks.emplace_back("equal to the base: nothing can be said of it");
    if (coefficient.standing == Standing::kAlias) {
      std::vector<std::string> of;
      for (const auto& [other, factor] : coefficient.alias)
        of.push_back(fmt::format("{:.4g} x {}", factor, all[other]));
      remarks.push_back(
          fmt::format("cannot be told from {}: left out, what it has is in theirs", fmt::join(of, " + ")));
    }
    if (coefficient.fitted()) {
      if (coefficient.own_share < 0.1) {
        remarks.push_back(fmt::format("only {} of its difference is its own: the others' share the rest",
                                      Percent(coefficient.own_share)));
      }
      if (k < names.size() && lineage.spread_between_layers[k].value_or(0) > 0) {
        remarks.push_back(fmt::format("differs between layers by {:.2g}", *lineage.spread_between_layers[k]));
      }
      if (k == names.size() && IsSure(coefficient) && std::abs(coefficient.value) > 1e-3) {
        remarks.emplace_back("not 0: the weights do not sum to 1, or the model has another base");
      } else if (!IsSure(coefficient)) {
        remarks.emplace_back("0 within its error");
      }
    }
    table.AddRow({all[k], Number(coefficient), coefficient.fitted() ? Error(coefficient.error) : "-",
                  coefficient.fitted() ? Percent(coefficient.explains) : "-",
                  fmt::format("{}", fmt::join(remarks, "; "))});
  }
  return table.ToString("  ");
}

std::string KindText(const Lineage& lineage, const std::vector<std::string>& names) {
  if (!lineage.kind.not_fitted.empty())
    return fmt::format("\n  kind of merge: not fitted, {}\n", lineage.kind.not_fitted);
  const MergeKindFit& best = lineage.kind.fits[0];
  const bool is_normalised = best.sum == verify::MergeSum::kNormalised;
  std::string text = fmt::format("\n  kind of merge: {}, by a sample of {} numbers\n", lineage.kind.name(),
                                 FormatCount(lineage.kind.elements));
  Table weights({"candidate", is_normalised ? ">weight, of a sum of 1" : ">weight", ">±", ">density", ">±"});
  for (size_t i = 0; i < best.weights.size(); ++i) {
    const bool has_errors = i < best.weight_errors.size();
    weights.AddRow({names[lineage.kind.candidates[i]], Number(best.weights[i]),
                    has_errors ? Error(best.weight_errors[i]) : "", fmt::format("{:.3f}", best.densities[i]),
                    has_errors ? Error(best.density_errors[i]) : ""});
  }
  text += weights.ToString("    ");
  if (is_normalised) text += fmt::format("    lambda {:.4g}\n", best.scale);
  Table kinds({"kind", ">likelihood against the best, nats a number", ""});
  for (size_t i = 0; i < lineage.kind.fits.size(); ++i) {
    const MergeKindFit& fit = lineage.kind.fits[i];
    kinds.AddRow({verify::MergeKindName(fit), fmt::format("{:.3g}", fit.log_likelihood - best.log_likelihood),
                  i > 0 && i < lineage.kind.equally_good() ? "as good: the numbers cannot tell" : ""});
  }
  return text + "\n" + kinds.ToString("    ");
}

// A line of shades for each candidate, a layer a character, from 0 to the largest coefficient of all.
std::string LayersText(const Lineage& lineage, const std::vector<std::string>& names) {
  std::vector<const verify::LineageLayer*> layers;
  for (const verify::LineageLayer& layer : lineage.layers) {
    if (layer.number) layers.push_back(&layer);
  }
  if (layers.size() < 2) return "";
  constexpr std::array<const char*, 6> kShades = {"·", "░", "▒", "▓", "█", "█"};
  double largest = 0;
  for (const auto* layer : layers) {
    for (size_t k = 0; k < names.size(); ++k) {
      if (layer->fit.coefficients[k].fitted()) largest = std::max(largest, layer->fit.coefficients[k].value);
    }
  }
  if (!(largest > 0)) return "";
  std::string text = fmt::format("\n  by layer, {} to {}, each from 0 (·) to {:.3g} (█), - below 0\n",
                                 *layers.front()->number, *layers.back()->number, largest);
  Table lines({"", "", ">least", ">most"});
  for (size_t k = 0; k < names.size(); ++k) {
    std::string line;
    double least = INFINITY, most = -INFINITY;
    for (const auto* layer : layers) {
      const Coefficient& coefficient = layer->fit.coefficients[k];
      if (!coefficient.fitted()) {
        line += " ";
        continue;
      }
      least = std::min(least, coefficient.value);
      most = std::max(most, coefficient.value);
      const double level = coefficient.value / largest;
      line += level < -0.05 ? "-" : kShades[static_cast<size_t>(std::clamp(level, 0.0, 1.0) * 5)];
    }
    const bool any = least <= most;
    lines.AddRow({names[k], line, any ? Number(least) : "-", any ? Number(most) : "-"});
  }
  text += lines.ToString("    ");

  const bool differs =
      std::ranges::any_of(lineage.spread_between_layers, [](const auto& s) { return s.value_or(0) > 0; });
  if (!differs) return text;
  std::vector<std::string> headings = {"layer"};
  for (const std::string& name : names) headings.push_back(">" + Shorten(name, 12));
  headings.emplace_back(">R^2");
  Table table(headings);
  const size_t step = (layers.size() + kMostRows - 1) / kMostRows;
  for (size_t i = 0; i < layers.size(); i += step) {
    std::vector<std::string> row = {fmt::format("{}", *layers[i]->number)};
    for (size_t k = 0; k < names.size(); ++k) row.push_back(Number(layers[i]->fit.coefficients[k]));
    const std::optional<double> r_squared = layers[i]->fit.r_squared();
    row.push_back(r_squared ? fmt::format("{:.4f}", *r_squared) : "-");
    table.AddRow(std::move(row));
  }
  text += "\n" + table.ToString("    ");
  if (step > 1) text += fmt::format("    one layer of {}; --json has all\n", step);
  return text;
}

std::string GapsText(const Lineage& lineage, const std::vector<std::string>& names) {
  if (lineage.gaps.empty()) return "";
  Table table({"tensor", "not looked at"});
  for (size_t i = 0; i < std::min(kMostRows, lineage.gaps.size()); ++i) {
    const verify::LineageGap& gap = lineage.gaps[i];
    table.AddRow({gap.tensor, gap.candidate < 0
                                  ? gap.reason
                                  : fmt::format("{}: {}", names[static_cast<size_t>(gap.candidate)], gap.reason)});
  }
  std::string text = "\n" + table.ToString("  ");
  if (lineage.gaps.size() > kMostRows) {
    text += fmt::format("  and {} more; --json lists them all\n", FormatCount(lineage.gaps.size() - kMostRows));
  }
  return text;
}

}  // namespace

ordered_json LineageJson(const Lineage& lineage) {
  ordered_json json;
  json["model"] = lineage.model;
  json["base"] = lineage.base;
  json["r_squared"] = Optional(lineage.overall.r_squared());
  json["rounding_share"] = Optional(lineage.rounding_share);
  json["base_doubtful"] = lineage.is_base_doubtful;
  json["elements"] = lineage.elements;
  json["equal_to_base"] = lineage.equal_to_base;
  json["clusters"] = lineage.overall.clusters;
  json["candidates"] = ordered_json::array();
  for (size_t k = 0; k < lineage.num_candidates(); ++k) json["candidates"].push_back(CoefficientJson(lineage, k));
  json["base_itself"] = CoefficientJson(lineage, lineage.num_candidates());
  ordered_json kind;
  kind["name"] = lineage.kind.fits.empty() ? ordered_json() : ordered_json(lineage.kind.name());
  kind["not_fitted"] = lineage.kind.not_fitted.empty() ? ordered_json() : ordered_json(lineage.kind.not_fitted);
  kind["elements"] = lineage.kind.elements;
  kind["equally_good"] = lineage.kind.equally_good();
  kind["fits"] = ordered_json::array();
  for (const MergeKindFit& fit : lineage.kind.fits) kind["fits"].push_back(KindFitJson(lineage, fit));
  json["kind"] = std::move(kind);
  json["layers"] = ordered_json::array();
  for (const verify::LineageLayer& layer : lineage.layers) {
    ordered_json one = {{"layer", Optional(layer.number)}, {"tensors", layer.tensors}, {"elements", layer.elements}};
    one.update(FitJson(layer.fit));
    json["layers"].push_back(std::move(one));
  }
  json["tensors"] = ordered_json::array();
  for (const verify::LineageTensorFit& tensor : lineage.tensors) {
    ordered_json one = {{"name", tensor.name}, {"elements", tensor.elements}};
    one.update(FitJson(tensor.fit));
    json["tensors"].push_back(std::move(one));
  }
  json["not_looked_at"] = ordered_json::array();
  for (const verify::LineageGap& gap : lineage.gaps) {
    const bool is_whole = gap.candidate < 0;
    json["not_looked_at"].push_back(
        {{"tensor", gap.tensor},
         {"candidate",
          is_whole ? ordered_json() : ordered_json(lineage.candidates[static_cast<size_t>(gap.candidate)])},
         {"reason", gap.reason}});
  }
  json["memory"] = {{"budget", lineage.budget_bytes}, {"peak", lineage.peak_bytes}};
  json["seconds"] = lineage.seconds;
  json["bytes_read"] = lineage.bytes_read;
  return json;
}

std::string LineageText(const Lineage& lineage) {
  const std::vector<std::string> names = ShortNames(lineage);
  std::string text = FirstLine(lineage, names) + "\n" + CandidatesTable(lineage, names);
  text += fmt::format("\n  {} numbers were compared in {} tensors, {} of them equal to the base's\n",
                      FormatCount(lineage.elements), FormatCount(lineage.tensors.size()),
                      Percent(static_cast<double>(lineage.equal_to_base) /
                              static_cast<double>(std::max<uint64_t>(lineage.elements, 1))));
  if (lineage.rounding_share) {
    text += fmt::format("  rounding the model to its own encoding makes about {} unexplained\n",
                        Percent(*lineage.rounding_share));
  }
  if (lineage.is_base_doubtful) {
    text += fmt::format("  the candidates differ from {} by nearly the same: it may not be what they were made from\n",
                        lineage.base);
  }
  text += KindText(lineage, names) + LayersText(lineage, names) + GapsText(lineage, names);
  return text + fmt::format("\n  took {}, read {} of weights, {} of memory at most (budget {})\n",
                            FormatSeconds(lineage.seconds), FormatBytes(lineage.bytes_read),
                            FormatMemory(lineage.peak_bytes), FormatMemory(lineage.budget_bytes));
}

}  // namespace sluice::report
