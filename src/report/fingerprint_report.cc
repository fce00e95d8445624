#include "report/fingerprint_report.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/units.h"
#include "checkpoint/catalogue.h"
#include "report/config_report.h"
#include "report/table.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;
using verify::BlockState;
using verify::DifferingTensor;
using verify::Estimate;
using verify::SideStatistics;

ordered_json NumberOrNull(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr); }

ordered_json EstimateJson(const Estimate& estimate) {
  return {{"value", NumberOrNull(estimate.value)},
          {"margin", estimate.margin ? NumberOrNull(*estimate.margin) : ordered_json(nullptr)}};
}

ordered_json SideJson(const std::optional<SideStatistics>& side) {
  if (!side) return nullptr;
  return {{"mean", EstimateJson(side->mean)},
          {"std", EstimateJson(side->deviation)},
          {"least", side->least},
          {"most", side->most},
          {"nan", side->nan},
          {"inf", side->infinite}};
}

ordered_json RowJson(const verify::SampleRow& row, bool both_sides) {
  const verify::SampleStatistics& statistics = row.statistics;
  ordered_json json;
  json["part"] = row.name;
  json["tensors"] = statistics.tensors;
  json["blocks"] = statistics.blocks;
  json["all_blocks"] = statistics.all_blocks;
  if (both_sides) {
    json["differing"] = statistics.differing;
    json["differing_share"] = statistics.differing_share;
    json["differing_at_most"] = statistics.differing_at_most;
  }
  json["beyond_extremes_at_most"] = statistics.beyond_extremes;
  json["a"] = SideJson(statistics.a);
  if (!both_sides) return json;
  json["b"] = SideJson(statistics.b);
  json["relative_l2"] = statistics.relative_l2 ? EstimateJson(*statistics.relative_l2) : ordered_json(nullptr);
  return json;
}

const char* StateName(BlockState state) {
  switch (state) {
    case BlockState::kRounded:
      return "rounded";
    case BlockState::kUnknown:
      return "unknown";
    default:
      return "changed";
  }
}

ordered_json DifferingJson(const DifferingTensor& tensor) {
  ordered_json json;
  json["name"] = tensor.name;
  json["class"] = StateName(tensor.state);
  json["tied"] = tensor.tied;
  json["encoding"] = {{"a", tensor.encoding_a}, {"b", tensor.encoding_b}};
  json["blocks"] = tensor.blocks;
  json["all_blocks"] = tensor.all_blocks;
  json["differing"] = tensor.differing;
  json["first_element"] = tensor.first_element;
  if (tensor.state == BlockState::kRounded) json["rounded_side"] = verify::RoundedSideName(tensor.rounded_side);
  if (tensor.stats) {
    json["elements"] = tensor.stats->elements;
    json["changed"] = tensor.stats->changed;
    json["max_abs"] = tensor.stats->max_abs;
    json["relative_l2"] = NumberOrNull(tensor.stats->relative_l2);
  }
  return json;
}

std::string WithMargin(const Estimate& estimate) {
  if (!estimate.margin) return fmt::format("{:.3g}", estimate.value);
  return fmt::format("{:.3g} ± {:.1g}", estimate.value, *estimate.margin);
}

std::string Percent(double share) { return fmt::format("{:.3g}%", 100 * share); }

std::string Blocks(uint64_t blocks, uint64_t all) {
  return fmt::format("{} of {}", FormatCount(blocks), FormatCount(all));
}

std::string StateText(const DifferingTensor& tensor) {
  switch (tensor.state) {
    case BlockState::kRounded:
      return tensor.rounded_side == verify::RoundedSide::kA   ? "A is B rounded"
             : tensor.rounded_side == verify::RoundedSide::kB ? "B is A rounded"
                                                              : "each the other rounded";
    case BlockState::kUnknown:
      return "other numbers, perhaps rounded";
    default:
      return tensor.tied ? "no copy of the embedding" : "changed";
  }
}

// Empty where no number was drawn.
Table StatisticsTable(const std::vector<verify::SampleRow>& rows, const verify::SampleAim& aim, bool both_sides) {
  const bool any = std::ranges::any_of(rows, [](const verify::SampleRow& row) {
    return row.statistics.blocks > 0 && (row.statistics.a || row.statistics.b);
  });
  Table table(both_sides ? std::vector<std::string>{"drawn", ">blocks", ">differ", ">at most", ">mean A", ">mean B",
                                                    ">std A", ">std B", ">|d|/|A|"}
                         : std::vector<std::string>{"drawn", ">blocks", ">mean", ">std", ">least", ">most"});
  if (!any) return table;
  const verify::SampleRow& all = rows.back();
  for (const verify::SampleRow& row : rows) {
    // One part is all there is.
    if (rows.size() == 2 && &row != &all) continue;
    const verify::SampleStatistics& found = row.statistics;
    const auto side = [](const std::optional<SideStatistics>& which, Estimate SideStatistics::*of) {
      return which ? WithMargin((*which).*of) : "-";
    };
    std::vector<std::string> cells = {row.name, Blocks(found.blocks, found.all_blocks)};
    if (both_sides) {
      cells.push_back(FormatCount(found.differing));
      cells.push_back(Percent(found.differing_at_most));
      cells.push_back(side(found.a, &SideStatistics::mean));
      cells.push_back(side(found.b, &SideStatistics::mean));
      cells.push_back(side(found.a, &SideStatistics::deviation));
      cells.push_back(side(found.b, &SideStatistics::deviation));
      cells.push_back(found.relative_l2 ? WithMargin(*found.relative_l2) : "-");
    } else {
      cells.push_back(side(found.a, &SideStatistics::mean));
      cells.push_back(side(found.a, &SideStatistics::deviation));
      cells.push_back(found.a ? fmt::format("{:.3g}", found.a->least) : "-");
      cells.push_back(found.a ? fmt::format("{:.3g}", found.a->most) : "-");
    }
    table.AddRow(std::move(cells));
  }
  if (all.statistics.blocks == all.statistics.all_blocks) return table;
  std::string note = fmt::format("± and \"at most\" hold with a confidence of {:.6g}%, over blocks of {} elements",
                                 100 * aim.confidence, verify::kSampleBlockElements);
  const auto& extremes = all.statistics.a ? all.statistics.a : all.statistics.b;
  if (extremes) {
    note += fmt::format(
        ";\n  {} seen: {:.3g} to {:.3g}; at most {} of the blocks have a number above, and as many one below",
        both_sides ? (all.statistics.a ? "of A" : "of B") : "numbers", extremes->least, extremes->most,
        Percent(all.statistics.beyond_extremes));
  }
  table.SetNote(std::move(note));
  return table;
}

}  // namespace

ordered_json SampleJson(const verify::SampleResult& sample) {
  ordered_json json;
  json["nonce"] = sample.nonce;
  json["against"] = sample.against.empty() ? ordered_json(nullptr) : ordered_json(sample.against);
  json["detectable_fraction"] = sample.aim.detect;
  json["confidence"] = sample.aim.confidence;
  json["block_elements"] = verify::kSampleBlockElements;
  json["draws"] = sample.num_draws;
  json["blocks"] = sample.blocks;
  json["all_blocks"] = sample.all_blocks;
  json["bytes_read"] = sample.bytes_read;
  json["bound"] = sample.Bound();
  json["identical"] = sample.identical;
  json["equal_after_cast"] = sample.equal_after_cast;
  json["rounded"] = sample.rounded;
  json["unknown"] = sample.unknown;
  json["changed"] = sample.changed;
  json["rounded_side"] = verify::RoundedSideName(sample.rounded_side);
  json["tensors"] = ordered_json::array();
  for (const DifferingTensor& tensor : sample.differing) json["tensors"].push_back(DifferingJson(tensor));
  json["statistics"] = ordered_json::array();
  for (const verify::SampleRow& row : sample.rows) json["statistics"].push_back(RowJson(row, true));
  return json;
}

std::string SampleFinding(const verify::SampleResult& sample) {
  std::vector<std::string> parts;
  const auto add = [&](uint64_t count, const char* what) {
    if (count > 0) parts.push_back(fmt::format("{} {}", FormatCount(count), what));
  };
  add(sample.identical, "equal");
  add(sample.equal_after_cast, "equal after cast");
  add(sample.rounded, "rounded");
  add(sample.unknown, "other, perhaps rounded");
  add(sample.changed, "changed");
  if (parts.empty()) return "nothing to draw from";
  return fmt::format("{} blocks: {}", Blocks(sample.blocks, sample.all_blocks), fmt::join(parts, ", "));
}

std::vector<Table> SampleTables(const verify::SampleResult& sample) {
  Table table({"tensor", "encodings", "what was drawn of it", ">blocks that differ", ">first at element", ">|d|/|A|"});
  for (size_t i = 0; i < std::min(sample.differing.size(), kMostRows); ++i) {
    const DifferingTensor& tensor = sample.differing[i];
    table.AddRow(
        {tensor.name,
         tensor.encoding_a == tensor.encoding_b ? tensor.encoding_a : tensor.encoding_a + "/" + tensor.encoding_b,
         StateText(tensor), Blocks(tensor.differing, tensor.blocks), FormatCount(tensor.first_element),
         tensor.stats ? fmt::format("{:.3g}", tensor.stats->relative_l2) : "-"});
  }
  NoteMore(sample.differing.size(), &table);
  return {StatisticsTable(sample.rows, sample.aim, true), std::move(table)};
}

ordered_json FingerprintJson(const FingerprintResult& result) {
  ordered_json json;
  json["ref"] = result.ref;
  json["file"] = result.output;
  json["nonce"] = result.nonce;
  json["detectable_fraction"] = result.aim.detect;
  json["confidence"] = result.aim.confidence;
  json["block_elements"] = verify::kSampleBlockElements;
  json["draws"] = result.num_draws;
  json["blocks"] = result.blocks;
  json["all_blocks"] = result.all_blocks;
  json["tensors"] = result.tensors;
  json["statistics"] = ordered_json::array();
  for (const verify::SampleRow& row : result.rows) json["statistics"].push_back(RowJson(row, false));
  json["memory"] = {{"budget", result.budget_bytes}, {"peak", result.peak_bytes}};
  json["seconds"] = result.seconds;
  json["bytes_read"] = result.bytes_read;
  return json;
}

std::string FingerprintText(const FingerprintResult& result) {
  std::string text = fmt::format("{}  fingerprint of {}\n\n", result.output, result.ref);
  Table table({"", ""});
  table.AddRow({"nonce", result.nonce});
  table.AddRow({"blocks", fmt::format("{} of {} elements, of {} tensors", Blocks(result.blocks, result.all_blocks),
                                      verify::kSampleBlockElements, FormatCount(result.tensors))});
  table.AddRow(
      {"notices", result.blocks == result.all_blocks
                      ? "any change: it has every block"
                      : fmt::format("with a probability of {:.6g}% at least, that {:.6g}% of the blocks or more differ",
                                    100 * result.aim.confidence, 100 * result.aim.detect)});
  table.AddRow({"holds", "only against makers who have not seen the file: it names the blocks that are looked at"});
  text += table.ToString("  ") + TextOf({StatisticsTable(result.rows, result.aim, false)});
  text +=
      fmt::format("\n  took {}, read {} of weights, {} of memory at most (budget {})\n", FormatSeconds(result.seconds),
                  FormatBytes(result.bytes_read), FormatMemory(result.peak_bytes), FormatMemory(result.budget_bytes));
  return text;
}

}  // namespace sluice::report
