#include "verify/change_summary.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <map>
#include <set>

#include <fmt/format.h>

#include "checkpoint/architecture.h"

namespace sluice::verify {
namespace {

std::optional<uint64_t> NumberOf(std::string_view component) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(component.data(), component.data() + component.size(), number);
  if (component.empty() || error != std::errc() || end != component.data() + component.size()) return std::nullopt;
  return number;
}

bool HasChanged(const TensorDiff& tensor) { return tensor.stats && tensor.stats->changed > 0; }

struct Places {
  std::set<std::string> kinds;
  std::set<uint64_t> layers;

  void Add(std::string_view tensor) {
    kinds.insert(KindOfName(tensor));
    if (const auto layer = LayerOf(tensor)) layers.insert(*layer);
  }
  std::string Text() const {
    constexpr size_t kMostKinds = 10;
    const std::vector<std::string> named(kinds.begin(), std::next(kinds.begin(), std::min(kinds.size(), kMostKinds)));
    std::string text = fmt::format("{}", fmt::join(named, ", "));
    if (kinds.size() > named.size()) text += fmt::format(" and {} other kinds", kinds.size() - named.size());
    if (layers.empty()) return text;
    return text + fmt::format(" of layer{} {}", layers.size() == 1 ? "" : "s",
                              RangesText(std::vector<uint64_t>(layers.begin(), layers.end())));
  }
};

// A sentence about matrices of low rank, `by_rank`; `others`: changed tensors that are not among them.
std::string LowRankSentence(const std::map<uint64_t, uint64_t>& by_rank, const Places& places, uint64_t others) {
  uint64_t total = 0;
  for (const auto& [rank, count] : by_rank) total += count;
  const uint64_t lowest = by_rank.begin()->first, highest = by_rank.rbegin()->first;
  const std::string ranks = lowest == highest ? fmt::format("{}", highest) : fmt::format("{} to {}", lowest, highest);
  std::string sentence = fmt::format("the changes are of rank {} on {}", ranks, places.Text());
  // A LoRA has one rank; a weak module of it may show fewer directions, none shows more.
  const uint64_t at_highest = by_rank.rbegin()->second;
  if (at_highest * 10 >= total * 9) {
    sentence += fmt::format(": a LoRA of rank {} merged in", highest);
    if (at_highest < total)
      sentence += fmt::format("; {} of {} matrices show fewer directions", total - at_highest, total);
  } else {
    sentence += ": changes of low rank, as merged adapters make them";
  }
  if (others > 0) sentence += fmt::format("; {} other tensor{} changed in another way", others, others == 1 ? "" : "s");
  return sentence;
}

}  // namespace

std::optional<uint64_t> LayerOf(std::string_view tensor) {
  for (size_t begin = 0; begin <= tensor.size();) {
    const size_t end = std::min(tensor.find('.', begin), tensor.size());
    if (const auto number = NumberOf(tensor.substr(begin, end - begin))) return number;
    begin = end + 1;
  }
  return std::nullopt;
}

std::string KindOfName(std::string_view tensor) {
  std::string_view rest = tensor;
  while (true) {
    const size_t dot = rest.rfind('.');
    const std::string_view last = dot == std::string_view::npos ? rest : rest.substr(dot + 1);
    if (last != "weight" && last != "bias" && !NumberOf(last)) return std::string(last);
    if (dot == std::string_view::npos) return std::string(tensor);
    rest = rest.substr(0, dot);
  }
}

std::string RangesText(const std::vector<uint64_t>& numbers) {
  std::vector<std::string> ranges;
  for (size_t i = 0; i < numbers.size();) {
    size_t j = i;
    while (j + 1 < numbers.size() && numbers[j + 1] == numbers[j] + 1) ++j;
    ranges.push_back(i == j ? fmt::format("{}", numbers[i]) : fmt::format("{}-{}", numbers[i], numbers[j]));
    i = j + 1;
  }
  return fmt::format("{}", fmt::join(ranges, ", "));
}

ChangeSummary SummariseChanges(const checkpoint::Checkpoint& a, const std::vector<TensorDiff>& unequal) {
  const ModelParts parts(a.config() == nullptr ? nullptr : checkpoint::ArchitectureOf(*a.config()));
  ChangeSummary summary;
  struct Tally {
    uint64_t tensors = 0, changed = 0;
    Places places;
  };
  std::map<Part, Tally> tallies;
  for (size_t i = 0; i < a.tensors().size(); ++i) {
    const std::string_view name = a.tensors()[i].name;
    ++tallies[parts.Of(name)].tensors;
    if (const auto layer = LayerOf(name)) summary.layers = std::max(summary.layers, *layer + 1);
  }

  std::map<uint64_t, uint64_t> by_rank;
  Places low;
  uint64_t others = 0;
  std::set<std::string> unit_encodings;
  for (const TensorDiff& tensor : unequal) {
    const bool has_changed = HasChanged(tensor) || tensor.tensor_class == TensorClass::kChanged;
    if (!has_changed) continue;
    const Part part = parts.Of(tensor.name);
    Tally& tally = tallies[part];
    ++tally.changed;
    tally.places.Add(tensor.name);
    if (tensor.details.units) {
      unit_encodings.insert(tensor.details.units->encoding);
      summary.units.Add(tensor.details.units->distances);
      summary.units_changed += tensor.details.units->distances.total() + tensor.details.units->same;
    }
    const auto& rank = tensor.details.rank;
    bool is_low = false;
    if (rank && rank->kind != RankKind::kNotSketched) {
      ++summary.sketched;
      // A few rows that changed are a matrix of low rank too, but that is not what to say of them.
      const auto& rows = tensor.details.rows;
      const bool is_rows = rows && rows->changed <= rank->rank;
      is_low = rank->kind == RankKind::kLow && !is_rows;
      summary.low += rank->kind == RankKind::kLow ? 1 : 0;
      summary.sparse += rank->kind == RankKind::kSparse ? 1 : 0;
      summary.full += rank->kind == RankKind::kFull ? 1 : 0;
      summary.within_rounding += rank->kind == RankKind::kWithinRounding ? 1 : 0;
    }
    if (is_low) {
      ++by_rank[rank->rank];
      low.Add(tensor.name);
    } else {
      ++others;
    }
  }
  for (auto& [part, tally] : tallies) {
    summary.parts.push_back({part,
                             tally.tensors,
                             tally.changed,
                             {tally.places.layers.begin(), tally.places.layers.end()},
                             {tally.places.kinds.begin(), tally.places.kinds.end()}});
  }
  if (unit_encodings.size() == 1) {
    summary.unit_encoding = *unit_encodings.begin();
  } else {
    summary.units = {};
    summary.units_changed = 0;
  }
  if (!by_rank.empty()) {
    summary.lowest_rank = by_rank.begin()->first;
    summary.highest_rank = by_rank.rbegin()->first;
  }
  uint64_t of_low_rank = 0;
  for (const auto& [rank, count] : by_rank) of_low_rank += count;
  if (of_low_rank > 0 && of_low_rank >= summary.full + summary.within_rounding + summary.sparse) {
    summary.sentence = LowRankSentence(by_rank, low, others);
  } else if (summary.full > 0 && summary.full >= of_low_rank + summary.within_rounding + summary.sparse) {
    summary.sentence = fmt::format("the changes are of full rank on {} of {} changed matrices: no adapter of low rank",
                                   summary.full, summary.sketched);
  } else if (summary.within_rounding > 0 && summary.within_rounding >= of_low_rank + summary.full + summary.sparse) {
    summary.sentence = fmt::format(
        "on {} of {} changed matrices the changes are no larger than one rounding makes, and have no direction: as "
        "of weights that were rounded again, or trained a little",
        summary.within_rounding, summary.sketched);
  } else if (summary.sparse > 0 && summary.sparse >= of_low_rank + summary.full + summary.within_rounding) {
    summary.sentence = fmt::format("on {} of {} changed matrices few elements changed: as of edits, not of training",
                                   summary.sparse, summary.sketched);
  }
  return summary;
}

}  // namespace sluice::verify
