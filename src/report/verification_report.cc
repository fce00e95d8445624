#include "report/verification_report.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/units.h"
#include "checkpoint/catalogue.h"
#include "kernels/sha256.h"
#include "report/change_report.h"
#include "report/table.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;
using verify::TensorClass;
using verify::TensorDiff;

constexpr size_t kMostRows = 20;  // of a list in text; JSON has all

ordered_json Both(const auto& a, const auto& b) { return {{"a", a}, {"b", b}}; }
ordered_json TextOrNull(const std::string& text) { return text.empty() ? ordered_json(nullptr) : ordered_json(text); }

ordered_json ConfigJson(const verify::ConfigDiff& config) {
  ordered_json json;
  json["same_architecture"] = config.SameArchitecture();
  json["same_config"] = config.SameConfig();
  json["same_tokenizer"] = config.SameTokenizer();
  json["same_encodings"] = config.SameEncodings();
  json["architecture"] = {{"a", TextOrNull(config.architecture_a)}, {"b", TextOrNull(config.architecture_b)}};
  json["parameters"] = Both(config.parameters_a, config.parameters_b);
  json["tensors"] = Both(config.num_tensors_a, config.num_tensors_b);
  json["bytes"] = Both(config.bytes_a, config.bytes_b);
  json["keys"] = ordered_json::array();
  for (const auto& key : config.keys) {
    json["keys"].push_back(
        {{"key", key.key}, {"a", TextOrNull(key.a)}, {"b", TextOrNull(key.b)}, {"architectural", key.architectural}});
  }
  json["side_files"] = ordered_json::array();
  for (const auto& file : config.side_files) {
    json["side_files"].push_back(
        {{"name", file.name}, {"in_a", file.in_a}, {"in_b", file.in_b}, {"tokenizer", file.tokenizer}});
  }
  json["shapes"] = ordered_json::array();
  for (const auto& shape : config.shapes)
    json["shapes"].push_back({{"name", shape.name}, {"a", shape.a}, {"b", shape.b}});
  json["only_in_a"] = config.only_in_a;
  json["only_in_b"] = config.only_in_b;
  json["possibly_tied"] = config.possibly_tied;
  json["encodings"] = ordered_json::array();
  for (const auto& [pair, count] : config.encodings) {
    json["encodings"].push_back({{"a", pair.first}, {"b", pair.second}, {"tensors", count}});
  }
  return json;
}

ordered_json SummaryJson(const verify::Verification& result) {
  ordered_json json;
  json["a"]["ref"] = result.ref_a;
  json["b"]["ref"] = result.ref_b;
  if (!result.note_a.empty()) json["a"]["computed"] = result.note_a;
  if (!result.note_b.empty()) json["b"]["computed"] = result.note_b;
  if (!result.summary) return json;
  const verify::TensorSummary& summary = *result.summary;
  if (!summary.stopped_early) {
    json["a"]["root"] = kernels::ToHex(summary.model_root_a);
    json["a"]["weights_root"] = kernels::ToHex(summary.weights_root_a);
    json["b"]["root"] = kernels::ToHex(summary.model_root_b);
    json["b"]["weights_root"] = kernels::ToHex(summary.weights_root_b);
  }
  json["stopped_early"] = summary.stopped_early;
  json["tensors"] = summary.tensors;
  for (int i = 0; i < verify::kNumTensorClasses; ++i) {
    json[verify::TensorClassName(static_cast<TensorClass>(i))] = summary.counts[i];
  }
  json["elements"] = summary.elements;
  json["changed_elements"] = summary.changed_elements;
  json["rounded_side"] = verify::RoundedSideName(summary.rounded);
  json["rounded_mixed"] = summary.rounded_mixed;
  json["atol"] = result.atol;
  json["rtol"] = result.rtol;
  AddChangesJson(result, &json);
  return json;
}

ordered_json TensorJson(const TensorDiff& tensor, bool with_digests) {
  ordered_json json;
  json["name"] = tensor.name;
  json["class"] = verify::TensorClassName(tensor.tensor_class);
  if (!tensor.other_name.empty()) json["other_name"] = tensor.other_name;
  const auto add_side = [&](const char* side, const std::string& encoding, const auto& shape, const auto& digest) {
    if (encoding.empty()) return;
    json[side]["encoding"] = encoding;
    json[side]["shape"] = shape;
    if (with_digests) json[side]["digest"] = kernels::ToHex(digest);
  };
  add_side("a", tensor.encoding_a, tensor.shape_a, tensor.digest_a);
  add_side("b", tensor.encoding_b, tensor.shape_b, tensor.digest_b);
  if (tensor.tensor_class == TensorClass::kRounded) json["rounded_side"] = verify::RoundedSideName(tensor.rounded);
  if (tensor.first_changed) json["first_changed"] = *tensor.first_changed;
  if (tensor.stats) {
    const verify::DifferenceStats& stats = *tensor.stats;
    json["elements"] = stats.elements;
    json["changed"] = stats.changed;
    json["max_abs"] = stats.max_abs;
    json["relative_l2"] = std::isfinite(stats.relative_l2) ? ordered_json(stats.relative_l2) : ordered_json(nullptr);
    json["cosine"] = stats.cosine;
    json["nan"] = Both(stats.nan_a, stats.nan_b);
    json["inf"] = Both(stats.inf_a, stats.inf_b);
  }
  AddDetailsJson(tensor, &json);
  return json;
}

std::string Short(const kernels::Hash256& hash) { return kernels::ToHex(hash).substr(0, 16) + "…"; }

std::string ConfigFinding(const verify::ConfigDiff& config) {
  if (config.has_config_a != config.has_config_b) {
    return fmt::format("{} has no config.json", config.has_config_a ? "B" : "A");
  }
  if (config.SameConfig())
    return config.architecture_a.empty() ? "none on either side" : "same, " + config.architecture_a;
  const auto architectural = std::ranges::count_if(config.keys, &verify::KeyDifference::architectural);
  return fmt::format("{} of its keys differ, {} of them change the forward pass", config.keys.size(), architectural);
}

std::string TokenizerFinding(const verify::ConfigDiff& config) {
  if (config.SameTokenizer()) return config.tokenizer_hash_a == kernels::HashText("") ? "none on either side" : "same";
  return "differs";
}

std::string ShapesFinding(const verify::ConfigDiff& config) {
  if (config.SameTensorSet() && config.possibly_tied.empty()) {
    return fmt::format("same {} tensors, {} parameters", FormatCount(config.num_tensors_a),
                       FormatCount(config.parameters_a));
  }
  std::vector<std::string> parts;
  if (!config.shapes.empty()) parts.push_back(fmt::format("{} of another shape", config.shapes.size()));
  if (!config.only_in_a.empty()) parts.push_back(fmt::format("{} only in A", config.only_in_a.size()));
  if (!config.only_in_b.empty()) parts.push_back(fmt::format("{} only in B", config.only_in_b.size()));
  if (!config.possibly_tied.empty()) parts.push_back(config.possibly_tied.front() + " on one side, perhaps tied");
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string EncodingFinding(const verify::ConfigDiff& config) {
  std::vector<std::string> parts;
  parts.reserve(config.encodings.size());
  for (const auto& [pair, count] : config.encodings) {
    parts.push_back(pair.first == pair.second ? fmt::format("{} {}", count, pair.first)
                                              : fmt::format("{} {} against {}", count, pair.first, pair.second));
  }
  return parts.empty() ? "no tensors" : fmt::format("{}", fmt::join(parts, ", "));
}

std::string TensorsFinding(const verify::TensorSummary& summary) {
  if (summary.stopped_early) return "stopped at the first difference";
  std::vector<std::string> parts;
  for (int i = 0; i < verify::kNumTensorClasses; ++i) {
    if (summary.counts[i] == 0) continue;
    std::string name = verify::TensorClassName(static_cast<TensorClass>(i));
    std::ranges::replace(name, '_', ' ');
    parts.push_back(fmt::format("{} {}", FormatCount(summary.counts[i]), name));
  }
  return parts.empty() ? "no tensors" : fmt::format("{}", fmt::join(parts, ", "));
}

std::string Cut(std::string text) {
  constexpr size_t kMost = 60;
  if (text.size() > kMost) text = text.substr(0, kMost - 1) + "…";
  return text.empty() ? "-" : text;
}

void AddMore(size_t count, std::string* text) {
  if (count > kMostRows) *text += fmt::format("  ... and {} more; --json lists all\n", count - kMostRows);
}

std::string ConfigDetails(const verify::ConfigDiff& config) {
  std::string text;
  if (!config.keys.empty()) {
    Table table({"key of the config", "A", "B", ""});
    for (const auto& key : config.keys) {
      table.AddRow({key.key, Cut(key.a), Cut(key.b), key.architectural ? "changes the forward pass" : ""});
    }
    text += "\n" + table.ToString("  ");
  }
  if (!config.side_files.empty()) {
    Table table({"file beside the weights", "", ""});
    for (const auto& file : config.side_files) {
      table.AddRow({file.name,
                    file.in_a && file.in_b ? "differs"
                    : file.in_a            ? "only in A"
                                           : "only in B",
                    file.tokenizer ? "tokenizer" : ""});
    }
    text += "\n" + table.ToString("  ");
  }
  Table tensors({"tensor", "A", "B"});
  size_t rows = 0;
  const auto add = [&](std::string name, std::string a, std::string b) {
    if (rows++ < kMostRows) tensors.AddRow({std::move(name), std::move(a), std::move(b)});
  };
  for (const auto& shape : config.shapes)
    add(shape.name, checkpoint::ShapeText(shape.a), checkpoint::ShapeText(shape.b));
  for (const auto& name : config.only_in_a) add(name, "has it", "-");
  for (const auto& name : config.only_in_b) add(name, "-", "has it");
  if (!tensors.empty()) text += "\n" + tensors.ToString("  ");
  AddMore(rows, &text);
  return text;
}

std::string ClassText(const TensorDiff& tensor) {
  switch (tensor.tensor_class) {
    case TensorClass::kRounded:
      switch (tensor.rounded) {
        case verify::RoundedSide::kA:
          return "A is B rounded";
        case verify::RoundedSide::kB:
          return "B is A rounded";
        default:
          return "each the other rounded";
      }
    case TensorClass::kRenamed:
      return "named " + tensor.other_name + " in B";
    case TensorClass::kTied:
      return "a stored copy of the embedding";
    default:
      break;
  }
  std::string name = verify::TensorClassName(tensor.tensor_class);
  std::ranges::replace(name, '_', ' ');
  return name;
}

// The largest changes first: what a person wants to see of hundreds.
std::string TensorDetails(std::vector<TensorDiff> unequal) {
  // Nothing is to be seen of numbers that are equal.
  std::erase_if(unequal, [](const TensorDiff& tensor) { return tensor.tensor_class == TensorClass::kEqualAfterCast; });
  if (unequal.empty()) return "";
  const auto rank = [](const TensorDiff& tensor) {
    if (tensor.tensor_class == TensorClass::kRounded) return 3;
    if (tensor.tensor_class == TensorClass::kWithinTolerance) return 2;
    return tensor.stats ? 1 : 0;
  };
  std::ranges::stable_sort(unequal, [&](const TensorDiff& x, const TensorDiff& y) {
    if (rank(x) != rank(y)) return rank(x) < rank(y);
    return x.stats && y.stats && x.stats->relative_l2 > y.stats->relative_l2;
  });
  Table table({"tensor", "encodings", "what", ">changed", ">max |d|", ">|d|/|A|", ">cosine", ">rank", ""});
  for (size_t i = 0; i < std::min(unequal.size(), kMostRows); ++i) {
    const TensorDiff& tensor = unequal[i];
    std::string encodings = tensor.encoding_a.empty() ? tensor.encoding_b : tensor.encoding_a;
    if (!tensor.encoding_a.empty() && !tensor.encoding_b.empty() && tensor.encoding_a != tensor.encoding_b) {
      encodings += "/" + tensor.encoding_b;
    }
    std::vector<std::string> row = {tensor.name, encodings, ClassText(tensor)};
    if (tensor.stats) {
      const verify::DifferenceStats& stats = *tensor.stats;
      const double share =
          stats.elements == 0 ? 0 : static_cast<double>(stats.changed) / static_cast<double>(stats.elements);
      row.push_back(fmt::format("{} ({:.3g}%)", FormatCount(stats.changed), 100 * share));
      row.push_back(fmt::format("{:.3g}", stats.max_abs));
      row.push_back(fmt::format("{:.3g}", stats.relative_l2));
      row.push_back(fmt::format("{:.6f}", stats.cosine));
      row.push_back(RankText(tensor));
      std::vector<std::string> odd;
      if (stats.nan_a + stats.nan_b > 0) odd.push_back(fmt::format("NaN {}/{}", stats.nan_a, stats.nan_b));
      if (stats.inf_a + stats.inf_b > 0) odd.push_back(fmt::format("Inf {}/{}", stats.inf_a, stats.inf_b));
      row.push_back(fmt::format("{}", fmt::join(odd, ", ")));
    } else if (tensor.first_changed) {
      row.push_back(fmt::format("from element {} on", *tensor.first_changed));
    }
    table.AddRow(std::move(row));
  }
  std::string text = "\n" + table.ToString("  ");
  AddMore(unequal.size(), &text);
  return text;
}

std::string FooterText(double seconds, uint64_t bytes_read, uint64_t peak_bytes, uint64_t budget_bytes) {
  return fmt::format("\n  took {}, read {} of weights, {} of memory at most (budget {})\n", FormatSeconds(seconds),
                     FormatBytes(bytes_read), FormatMemory(peak_bytes), FormatMemory(budget_bytes));
}

}  // namespace

ordered_json VerificationJson(const verify::Verification& result) {
  ordered_json json;
  json["verdict"] = verify::VerdictName(result.verdict);
  json["level"] = verify::LevelName(result.level);
  json["proves"] = verify::Proves(result.verdict, result.level);
  json["does_not_prove"] = verify::DoesNotProve(result.verdict, result.level);
  json["config"] = ConfigJson(result.config);
  json["summary"] = SummaryJson(result);
  json["tensors"] = ordered_json::array();
  const bool with_digests = result.summary && !result.summary->stopped_early;
  for (const TensorDiff& tensor : result.unequal) json["tensors"].push_back(TensorJson(tensor, with_digests));
  json["memory"] = {{"budget", result.budget_bytes}, {"peak", result.peak_bytes}};
  json["seconds"] = result.seconds;
  json["bytes_read"] = result.bytes_read;
  return json;
}

std::string VerificationText(const verify::Verification& result) {
  std::string text =
      fmt::format("{}  (level {})\n\n", verify::VerdictName(result.verdict), verify::LevelName(result.level));
  Table sides({"", "", ""});
  const bool roots = result.summary && !result.summary->stopped_early;
  sides.AddRow({"A", result.ref_a, roots ? "root " + Short(result.summary->model_root_a) : ""});
  sides.AddRow({"B", result.ref_b, roots ? "root " + Short(result.summary->model_root_b) : ""});
  text += sides.ToString("  ");
  if (!result.note_a.empty()) text += fmt::format("  A was computed with {}\n", result.note_a);
  if (!result.note_b.empty()) text += fmt::format("  B was computed with {}\n", result.note_b);

  Table table({"compared", "found", "an agreement proves", "and does not prove"});
  table.AddRow({"config", ConfigFinding(result.config), "the same effective config", "anything about weights"});
  table.AddRow({"tokenizer", TokenizerFinding(result.config), "the same tokenizer files", "anything about weights"});
  table.AddRow({"headers", ShapesFinding(result.config), "the same names and shapes", "anything about weights"});
  table.AddRow({"encodings", EncodingFinding(result.config), "the same number formats", "anything about weights"});
  if (result.summary) {
    table.AddRow({"tensors", TensorsFinding(*result.summary), "equality of every byte", "where they come from"});
  } else {
    table.AddRow({"tensors", "not read", "", ""});
  }
  text += "\n" + table.ToString("  ");
  text += fmt::format("\n  proves          {}\n  does not prove  {}\n", verify::Proves(result.verdict, result.level),
                      verify::DoesNotProve(result.verdict, result.level));
  if (result.summary && (result.atol > 0 || result.rtol > 0)) {
    text += fmt::format("  tolerance       |a - b| <= {} + {} |b|: {} of the tensors that differ are within it\n",
                        result.atol, result.rtol, result.summary->count(TensorClass::kWithinTolerance));
  }
  text += ChangesText(result) + GridWarnings(result);
  if (result.summary && result.summary->stopped_early) {
    for (const TensorDiff& tensor : result.unequal) text += FirstDifferenceText(tensor);
  }
  text += ConfigDetails(result.config);
  if (result.summary) text += TensorDetails(result.unequal);
  return text + FooterText(result.seconds, result.bytes_read, result.peak_bytes, result.budget_bytes);
}

namespace {

constexpr char kStatementProves[] =
    "the folder holds what its maker sealed: weights, config and tokenizer have the root of its statement";
constexpr char kStatementNotProves[] =
    "that the statement is true: `sluice verify FOLDER recipe.yml` computes the merge again and compares every byte";

}  // namespace

ordered_json StatementCheckJson(const verify::StatementCheck& result) {
  const bool same = result.verdict == verify::Verdict::kIdentical;
  ordered_json json;
  json["verdict"] = verify::VerdictName(result.verdict);
  json["level"] = "tensors";
  json["proves"] = same ? kStatementProves : "the folder is not what its statement describes";
  json["does_not_prove"] = same ? kStatementNotProves : "which of the two was changed";
  json["config"] = ordered_json::object();
  json["summary"] = {{"ref", result.ref},
                     {"statement", result.statement},
                     {"root", kernels::ToHex(result.root)},
                     {"weights_root", kernels::ToHex(result.weights_root)},
                     {"stated_root", kernels::ToHex(result.stated_root)},
                     {"stated_weights_root", kernels::ToHex(result.stated_weights_root)},
                     {"tensors", result.tensors},
                     {"bytes", result.bytes}};
  json["tensors"] = ordered_json::array();
  for (const std::string& name : result.changed) json["tensors"].push_back({{"name", name}, {"class", "changed"}});
  for (const std::string& name : result.missing)
    json["tensors"].push_back({{"name", name}, {"class", "only_in_statement"}});
  for (const std::string& name : result.extra) json["tensors"].push_back({{"name", name}, {"class", "only_in_folder"}});
  json["memory"] = {{"budget", result.budget_bytes}, {"peak", result.peak_bytes}};
  json["seconds"] = result.seconds;
  json["bytes_read"] = result.bytes_read;
  return json;
}

std::string StatementCheckText(const verify::StatementCheck& result) {
  const bool same = result.verdict == verify::Verdict::kIdentical;
  std::string text = fmt::format("{}  (the folder and its own statement)\n\n", verify::VerdictName(result.verdict));
  Table table({"", "", ""});
  table.AddRow({"computed", kernels::ToHex(result.root), result.ref});
  table.AddRow({"stated", kernels::ToHex(result.stated_root), result.statement});
  text += table.ToString("  ");
  if (!same && result.stated_weights_root == result.weights_root) {
    text += "  the weights are those of the statement; the config or the tokenizer was changed\n";
  }
  text += fmt::format("\n  proves          {}\n  does not prove  {}\n",
                      same ? kStatementProves : "the folder is not what its statement describes",
                      same ? kStatementNotProves : "which of the two was changed");
  Table tensors({"tensor", ""});
  size_t rows = 0;
  const auto add = [&](const std::vector<std::string>& names, const char* what) {
    for (const std::string& name : names) {
      if (rows++ < kMostRows) tensors.AddRow({name, what});
    }
  };
  add(result.changed, "its bytes are not those of the statement");
  add(result.missing, "only in the statement");
  add(result.extra, "not in the statement");
  if (!tensors.empty()) text += "\n" + tensors.ToString("  ");
  AddMore(rows, &text);
  return text + FooterText(result.seconds, result.bytes_read, result.peak_bytes, result.budget_bytes);
}

}  // namespace sluice::report
