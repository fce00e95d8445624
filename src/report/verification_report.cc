#include "report/verification_report.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "base/units.h"
#include "checkpoint/catalogue.h"
#include "kernels/sha256.h"
#include "report/behaviour_report.h"
#include "report/change_report.h"
#include "report/config_report.h"
#include "report/fingerprint_report.h"
#include "report/table.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;
using verify::TensorClass;
using verify::TensorDiff;

ordered_json Both(const auto& a, const auto& b) { return {{"a", a}, {"b", b}}; }

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

std::string ClassWords(TensorClass tensor_class) {
  switch (tensor_class) {
    case TensorClass::kShapeDiffers:
      return "of another shape";
    case TensorClass::kOnlyInA:
      return "only in A";
    case TensorClass::kOnlyInB:
      return "only in B";
    default:
      break;
  }
  std::string name = verify::TensorClassName(tensor_class);
  std::ranges::replace(name, '_', ' ');
  return name;
}

std::string TensorsFinding(const verify::TensorSummary& summary) {
  if (summary.stopped_early) return "stopped at the first difference";
  std::vector<std::string> parts;
  for (int i = 0; i < verify::kNumTensorClasses; ++i) {
    if (summary.counts[i] == 0) continue;
    parts.push_back(fmt::format("{} {}", FormatCount(summary.counts[i]), ClassWords(static_cast<TensorClass>(i))));
  }
  return parts.empty() ? "no tensors" : fmt::format("{}", fmt::join(parts, ", "));
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
  return ClassWords(tensor.tensor_class);
}

// Whether the table of what the headers do not have in common has it already.
bool IsListedWithConfig(const verify::ConfigDiff& config, const TensorDiff& tensor) {
  switch (tensor.tensor_class) {
    case TensorClass::kShapeDiffers:
      return std::ranges::binary_search(config.shapes, tensor.name, {}, &verify::ShapeDifference::name);
    case TensorClass::kOnlyInA:
      return std::ranges::binary_search(config.only_in_a, tensor.name);
    case TensorClass::kOnlyInB:
      return std::ranges::binary_search(config.only_in_b, tensor.name);
    default:
      return false;
  }
}

}  // namespace

Table TensorTable(const verify::Verification& result) {
  std::vector<TensorDiff> unequal = result.unequal;
  // Nothing is to be seen of numbers that are equal.
  std::erase_if(unequal, [&](const TensorDiff& tensor) {
    return tensor.tensor_class == TensorClass::kEqualAfterCast || IsListedWithConfig(result.config, tensor);
  });
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
      if (stats.changed == 0) odd.emplace_back("bits of NaN, or the sign of zero");
      if (stats.nan_a + stats.nan_b > 0) odd.push_back(fmt::format("NaN {}/{}", stats.nan_a, stats.nan_b));
      if (stats.inf_a + stats.inf_b > 0) odd.push_back(fmt::format("Inf {}/{}", stats.inf_a, stats.inf_b));
      row.push_back(fmt::format("{}", fmt::join(odd, ", ")));
    } else if (tensor.first_changed) {
      row.push_back(fmt::format("from element {} on", *tensor.first_changed));
    }
    table.AddRow(std::move(row));
  }
  NoteMore(unequal.size(), &table);
  return table;
}

namespace {

std::string ProvesText(const verify::Verification& result) {
  const std::string text = verify::Proves(result.verdict, result.level);
  if (result.verdict != verify::Verdict::kSameSample || !result.sample) return text;
  return fmt::format("{}: {}",
                     result.sample->equal_after_cast > 0 ? "what was drawn is equal, number for number" : text,
                     result.sample->Bound());
}

std::string FooterText(double seconds, uint64_t bytes_read, uint64_t peak_bytes, uint64_t budget_bytes) {
  return fmt::format("\n  took {}, read {} of weights, {} of memory at most (budget {})\n", FormatSeconds(seconds),
                     FormatBytes(bytes_read), FormatMemory(peak_bytes), FormatMemory(budget_bytes));
}

}  // namespace

ordered_json VerificationJson(const verify::Verification& result) {
  ordered_json json;
  const verify::behaviour::BehaviourResult* const behaviour = result.behaviour ? &*result.behaviour : nullptr;
  // A part has no verdict of its own.
  const bool is_part = behaviour != nullptr && behaviour->is_part() && behaviour->evaluation.invalid.empty();
  json["verdict"] = is_part ? ordered_json(nullptr) : ordered_json(verify::VerdictName(result.verdict));
  json["level"] = verify::LevelName(result.level);
  json["proves"] = behaviour != nullptr ? verify::behaviour::BehaviourProves(*behaviour) : ProvesText(result);
  json["does_not_prove"] = behaviour != nullptr ? verify::behaviour::BehaviourDoesNotProve(*behaviour)
                                                : verify::DoesNotProve(result.verdict, result.level);
  json["config"] = ConfigJson(result.config);
  json["summary"] = SummaryJson(result);
  json["tensors"] = ordered_json::array();
  const bool with_digests = result.summary && !result.summary->stopped_early;
  for (const TensorDiff& tensor : result.unequal) json["tensors"].push_back(TensorJson(tensor, with_digests));
  if (result.sample) json["fingerprint"] = SampleJson(*result.sample);
  if (behaviour != nullptr) json["behaviour"] = BehaviourJson(*behaviour);
  json["memory"] = {{"budget", result.budget_bytes}, {"peak", result.peak_bytes}};
  json["seconds"] = result.seconds;
  json["bytes_read"] = result.bytes_read;
  return json;
}

Table LevelsTable(const verify::Verification& result) {
  Table table({"compared", "found", "an agreement proves", "and does not prove"});
  AddConfigRows(result.config, &table);
  if (result.sample) {
    const verify::SampleAim& aim = result.sample->aim;
    table.AddRow({"fingerprint", SampleFinding(*result.sample),
                  fmt::format("a change of {:.6g}% is seen ({:.6g}%)", 100 * aim.detect, 100 * aim.confidence),
                  "anything about other blocks"});
  }
  if (result.summary) {
    table.AddRow({"tensors", TensorsFinding(*result.summary), "equality of every byte", "where they come from"});
  } else {
    table.AddRow({"tensors", "not read", "", ""});
  }
  return table;
}

std::string VerificationText(const verify::Verification& result) {
  if (result.behaviour) return BehaviourText(result);
  std::string text =
      fmt::format("{}  (level {})\n\n", verify::VerdictName(result.verdict), verify::LevelName(result.level));
  Table sides({"", "", ""});
  const bool roots = result.summary && !result.summary->stopped_early;
  sides.AddRow({"A", result.ref_a, roots ? "root " + Short(result.summary->model_root_a) : ""});
  sides.AddRow({"B", result.ref_b, roots ? "root " + Short(result.summary->model_root_b) : ""});
  text += sides.ToString("  ");
  if (!result.note_a.empty()) text += fmt::format("  A was computed with {}\n", result.note_a);
  if (!result.note_b.empty()) text += fmt::format("  B was computed with {}\n", result.note_b);

  text += "\n" + LevelsTable(result).ToString("  ");
  text += fmt::format("\n  proves          {}\n  does not prove  {}\n", ProvesText(result),
                      verify::DoesNotProve(result.verdict, result.level));
  if (result.sample) {
    if (result.verdict != verify::Verdict::kSameSample) {
      text += fmt::format("  drawn           {}\n", result.sample->Bound());
    }
    text += fmt::format("  nonce           {}\n", result.sample->nonce);
    if (!result.sample->against.empty()) {
      text += "  holds           only if the makers of B had not seen the fingerprint, which names its blocks\n";
    }
  }
  if (result.summary && (result.atol > 0 || result.rtol > 0)) {
    text += fmt::format("  tolerance       |a - b| <= {} + {} |b|: {} of the tensors that differ are within it\n",
                        result.atol, result.rtol, result.summary->count(TensorClass::kWithinTolerance));
  }
  text += TextOf(ChangeLines(result));
  for (const std::string& warning : GridWarnings(result)) text += TextOf({{"warning", warning}});
  if (result.summary && result.summary->stopped_early) {
    for (const TensorDiff& tensor : result.unequal) text += TextOf(FirstDifferenceLines(tensor));
  }
  text += TextOf(ConfigTables(result.config, result.level == verify::Level::kConfig));
  if (result.sample) text += TextOf(SampleTables(*result.sample));
  if (result.summary) text += TextOf({TensorTable(result)});
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
  NoteMore(rows, &tensors);
  text += TextOf({tensors});
  return text + FooterText(result.seconds, result.bytes_read, result.peak_bytes, result.budget_bytes);
}

}  // namespace sluice::report
