#include "report/change_report.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "base/units.h"
#include "report/tensor_kind.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;
using verify::RankKind;

constexpr size_t kMostRanges = 8;      // of token rows, in text
constexpr size_t kMostRowTensors = 4;  // tensors whose rows are told in text
constexpr double kWorthTelling = 0.5;  // of changed elements at one unit, to say so

// Distances of a bucket: 1, 2, 3-4, 5-8.
std::pair<uint64_t, uint64_t> BucketRange(int bucket) {
  if (bucket == 0) return {1, 1};
  return {(uint64_t{1} << (bucket - 1)) + 1, uint64_t{1} << bucket};
}

ordered_json UnitsJson(const kernels::UnitDistances& distances) {
  ordered_json buckets = ordered_json::array();
  for (int i = 0; i < kernels::kUnitBuckets; ++i) {
    if (distances.counts[static_cast<size_t>(i)] == 0) continue;
    const auto [from, to] = BucketRange(i);
    buckets.push_back({{"from", from}, {"to", to}, {"elements", distances.counts[static_cast<size_t>(i)]}});
  }
  return buckets;
}

ordered_json PlaceJson(const std::optional<verify::FilePlace>& place) {
  if (!place) return nullptr;
  return {{"file", place->file}, {"byte", place->byte}};
}

ordered_json GridJson(const verify::GridCounts& counts) {
  ordered_json json;
  json["looked_at"] = counts.looked_at;
  for (size_t i = 0; i < verify::kGrids.size(); ++i) json[std::string(verify::kGrids[i])] = counts.on[i];
  return json;
}

std::string Percent(uint64_t part, uint64_t whole) {
  const double percent = 100 * static_cast<double>(part) / static_cast<double>(whole);
  // Never all, where it is not all.
  return part == whole ? "all" : percent > 99.99 ? "over 99.99%" : fmt::format("{:.3g}%", percent);
}

std::string LayersText(const verify::ChangeSummary& changes) {
  std::vector<std::string> changed, unchanged;
  for (const verify::PartChange& part : changes.parts) {
    const std::string name(verify::PartName(part.part));
    if (part.changed == 0) {
      unchanged.push_back(name);
      continue;
    }
    std::string text = name;
    if (!part.layers.empty()) {
      text += part.layers.size() == changes.layers ? " of all layers" : " of layers " + verify::RangesText(part.layers);
    }
    changed.push_back(fmt::format("{} ({} of {} tensors)", text, part.changed, part.tensors));
  }
  std::string text = fmt::format("{}", fmt::join(changed, ", "));
  if (!unchanged.empty()) text += fmt::format("; not {}", fmt::join(unchanged, ", "));
  return text;
}

std::string RowsText(const verify::TensorDiff& tensor) {
  const verify::RowChanges& rows = *tensor.details.rows;
  std::vector<std::string> ranges;
  for (size_t i = 0; i < std::min(rows.ranges.size(), kMostRanges); ++i) {
    const auto [first, last] = rows.ranges[i];
    ranges.push_back(first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last));
  }
  std::string text =
      fmt::format("{} of {} rows of {} changed", FormatCount(rows.changed), FormatCount(rows.rows), tensor.name);
  text += fmt::format(": {}", fmt::join(ranges, ", "));
  if (rows.num_ranges > ranges.size()) text += fmt::format(" and {} more ranges", rows.num_ranges - ranges.size());
  return text;
}

// A vocabulary that one side has more of.
std::string AddedRowsText(const verify::TensorDiff& tensor) {
  if (tensor.tensor_class != verify::TensorClass::kShapeDiffers || tensor.shape_a.size() != 2 ||
      tensor.shape_b.size() != 2 || tensor.shape_a[1] != tensor.shape_b[1]) {
    return "";
  }
  const bool more_in_b = tensor.shape_b[0] > tensor.shape_a[0];
  const uint64_t more = more_in_b ? tensor.shape_b[0] - tensor.shape_a[0] : tensor.shape_a[0] - tensor.shape_b[0];
  return fmt::format("{} has {} rows more of {}", more_in_b ? "B" : "A", FormatCount(more), tensor.name);
}

}  // namespace

void AddDetailsJson(const verify::TensorDiff& tensor, ordered_json* json) {
  if (tensor.place_a || tensor.place_b) {
    (*json)["place"] = {{"a", PlaceJson(tensor.place_a)}, {"b", PlaceJson(tensor.place_b)}};
  }
  if (const auto& rank = tensor.details.rank) {
    ordered_json& told = (*json)["rank"];
    told["kind"] = verify::RankKindName(rank->kind);
    if (rank->kind == RankKind::kNotSketched) {
      told["reason"] = rank->reason;
    } else {
      told["rank"] = rank->rank;
      told["below"] = rank->most;
      told["explained"] = rank->explained;
      told["residual_ulps"] = rank->residual_ulps;
      told["least_singular"] = rank->least_singular;
    }
  }
  if (const auto& units = tensor.details.units) {
    (*json)["units"] = {{"encoding", units->encoding},
                        {"distances", UnitsJson(units->distances)},
                        {"sign_changes", units->distances.sign_changes},
                        {"same_once_rounded", units->same}};
  }
  if (const auto& rows = tensor.details.rows) {
    (*json)["rows"] = {
        {"rows", rows->rows}, {"changed", rows->changed}, {"ranges", rows->ranges}, {"num_ranges", rows->num_ranges}};
  }
  if (!tensor.grid_a.empty() || !tensor.grid_b.empty()) {
    (*json)["grid"] = {{"a", tensor.grid_a.empty() ? ordered_json(nullptr) : ordered_json(tensor.grid_a)},
                       {"b", tensor.grid_b.empty() ? ordered_json(nullptr) : ordered_json(tensor.grid_b)}};
  }
}

std::string RankText(const verify::TensorDiff& tensor) {
  const auto& rank = tensor.details.rank;
  if (!rank) return "";
  switch (rank->kind) {
    case RankKind::kNotSketched:
      return "-";
    case RankKind::kWithinRounding:
      return "noise";
    case RankKind::kLow:
      return fmt::format("{}", rank->rank);
    case RankKind::kSparse:
      return "few";
    case RankKind::kFull:
      return "full";
  }
  return "";
}

void AddChangesJson(const verify::Verification& result, ordered_json* json) {
  if (!result.changes) return;
  const verify::ChangeSummary& changes = *result.changes;
  ordered_json& told = (*json)["changes"];
  told["sentence"] = changes.sentence.empty() ? ordered_json(nullptr) : ordered_json(changes.sentence);
  told["layers"] = changes.layers;
  told["parts"] = ordered_json::array();
  for (const verify::PartChange& part : changes.parts) {
    told["parts"].push_back({{"part", verify::PartName(part.part)},
                             {"tensors", part.tensors},
                             {"changed", part.changed},
                             {"layers", part.layers},
                             {"kinds", part.kinds}});
  }
  told["ranks"] = {{"sketched", changes.sketched},
                   {"low", changes.low},
                   {"sparse", changes.sparse},
                   {"full", changes.full},
                   {"within_rounding", changes.within_rounding},
                   {"lowest", changes.lowest_rank},
                   {"highest", changes.highest_rank}};
  if (!changes.unit_encoding.empty()) {
    told["units"] = {{"encoding", changes.unit_encoding},
                     {"elements", changes.units_changed},
                     {"distances", UnitsJson(changes.units)},
                     {"sign_changes", changes.units.sign_changes}};
  }
  (*json)["grids"] = {{"a", GridJson(result.grids_a)}, {"b", GridJson(result.grids_b)}};
}

std::vector<ChangeLine> ChangeLines(const verify::Verification& result) {
  std::vector<ChangeLine> lines;
  if (!result.changes) return lines;
  const verify::ChangeSummary& changes = *result.changes;
  if (!changes.sentence.empty()) lines.push_back({"changes", changes.sentence});
  if (std::ranges::any_of(changes.parts, [](const auto& part) { return part.changed > 0; })) {
    lines.push_back({"where", LayersText(changes)});
  }
  const uint64_t at_one = changes.units.counts[0];
  if (changes.units_changed > 0 &&
      static_cast<double>(at_one) > kWorthTelling * static_cast<double>(changes.units_changed)) {
    std::string units = fmt::format("{} of the changed elements differ by one unit in the last place ({})",
                                    Percent(at_one, changes.units_changed), changes.unit_encoding);
    if (changes.units.sign_changes > 0) {
      units += fmt::format(", {} change{} sign", FormatCount(changes.units.sign_changes),
                           changes.units.sign_changes == 1 ? "s" : "");
    }
    lines.push_back({"units", units});
  }
  size_t told = 0;
  for (const verify::TensorDiff& tensor : result.unequal) {
    const auto& changed = tensor.details.rows;
    if (changed && changed->changed == changed->rows) continue;  // the table says it
    const std::string rows = changed ? RowsText(tensor) : AddedRowsText(tensor);
    if (!rows.empty() && told++ < kMostRowTensors) lines.push_back({"rows", rows});
  }
  return lines;
}

std::vector<ChangeLine> FirstDifferenceLines(const verify::TensorDiff& tensor) {
  std::string text = tensor.name;
  if (tensor.first_changed) {
    text += fmt::format(", element {}", *tensor.first_changed);
    if (tensor.shape_a.size() >= 2 && tensor.shape_a.back() > 0) {
      text += fmt::format(" (row {}, column {})", *tensor.first_changed / tensor.shape_a.back(),
                          *tensor.first_changed % tensor.shape_a.back());
    }
  }
  std::vector<ChangeLine> lines = {{"first", text}};
  for (const auto& [side, place] : {std::pair{"A", &tensor.place_a}, {"B", &tensor.place_b}}) {
    if (*place) lines.push_back({"", fmt::format("{}: {}, byte {}", side, (*place)->file, (*place)->byte)});
  }
  return lines;
}

std::vector<std::string> GridWarnings(const verify::Verification& result) {
  std::vector<std::string> warnings;
  for (const auto& [side, ref, counts] :
       {std::tuple{"A", &result.ref_a, &result.grids_a}, std::tuple{"B", &result.ref_b, &result.grids_b}}) {
    if (counts->total() == 0) continue;
    std::vector<std::string> grids;
    for (size_t i = 0; i < verify::kGrids.size(); ++i) {
      if (counts->on[i] > 0) grids.push_back(fmt::format("{} on that of {}", counts->on[i], verify::kGrids[i]));
    }
    warnings.push_back(fmt::format(
        "{} ({}) was dequantised: of its {} matrices in plain floats, {} {} on the grid of a quantisation ({})", side,
        *ref, counts->looked_at, counts->total(), counts->total() == 1 ? "lies" : "lie", fmt::join(grids, ", ")));
  }
  return warnings;
}

std::string TextOf(const std::vector<ChangeLine>& lines) {
  std::string text;
  for (const ChangeLine& line : lines) text += fmt::format("  {:<16}{}\n", line.heading, line.text);
  return text;
}

Table RankTable(const verify::Verification& result) {
  struct Tally {
    uint64_t matrices = 0, sparse = 0, full = 0, rounding = 0, not_sketched = 0;
    std::map<uint64_t, uint64_t> low;  // matrices by rank
  };
  std::map<std::pair<size_t, std::string>, Tally> tallies;
  for (const verify::TensorDiff& tensor : result.unequal) {
    const auto& rank = tensor.details.rank;
    if (!rank) continue;
    const std::string kind = KindOf(tensor.name);
    Tally& tally = tallies[{KindOrder(kind), kind}];
    ++tally.matrices;
    switch (rank->kind) {
      case RankKind::kNotSketched:
        ++tally.not_sketched;
        break;
      case RankKind::kWithinRounding:
        ++tally.rounding;
        break;
      case RankKind::kLow:
        ++tally.low[rank->rank];
        break;
      case RankKind::kSparse:
        ++tally.sparse;
        break;
      case RankKind::kFull:
        ++tally.full;
        break;
    }
  }
  const bool any_left_out =
      std::ranges::any_of(tallies, [](const auto& entry) { return entry.second.not_sketched > 0; });
  std::vector<std::string> headings = {"kind",          ">changed matrices",      ">of low rank", ">rank",
                                       ">of full rank", ">no more than rounding", ">few elements"};
  if (any_left_out) headings.emplace_back(">not looked at");
  Table table(headings);
  const auto count = [](uint64_t value) { return value == 0 ? std::string("-") : FormatCount(value); };
  for (const auto& [kind, tally] : tallies) {
    uint64_t low = 0;
    for (const auto& [rank, matrices] : tally.low) low += matrices;
    std::string ranks = "-";
    if (low > 0) {
      const uint64_t lowest = tally.low.begin()->first, highest = tally.low.rbegin()->first;
      ranks = lowest == highest ? fmt::format("{}", lowest) : fmt::format("{} to {}", lowest, highest);
    }
    std::vector<std::string> row = {kind.second,       FormatCount(tally.matrices), count(low),         ranks,
                                    count(tally.full), count(tally.rounding),       count(tally.sparse)};
    if (any_left_out) row.push_back(count(tally.not_sketched));
    table.AddRow(std::move(row));
  }
  return table;
}

Table GridTable(const verify::Verification& result) {
  std::vector<std::string> headings = {"side", "model", ">matrices in plain floats"};
  for (const std::string_view grid : verify::kGrids) headings.push_back(fmt::format(">on {}", grid));
  Table table(headings);
  if (result.grids_a.total() + result.grids_b.total() == 0) return table;
  for (const auto& [side, ref, counts] :
       {std::tuple{"A", &result.ref_a, &result.grids_a}, std::tuple{"B", &result.ref_b, &result.grids_b}}) {
    std::vector<std::string> row = {side, *ref, FormatCount(counts->looked_at)};
    for (const uint64_t on : counts->on) row.push_back(on == 0 ? "-" : FormatCount(on));
    table.AddRow(std::move(row));
  }
  return table;
}

std::string UnitBucketText(int bucket) {
  const auto [from, to] = BucketRange(bucket);
  return from == to ? FormatCount(from) : fmt::format("{} to {}", FormatCount(from), FormatCount(to));
}

}  // namespace sluice::report
