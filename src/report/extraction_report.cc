#include "report/extraction_report.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "report/table.h"

namespace sluice::report {
namespace {

using nlohmann::ordered_json;

constexpr size_t kShown = 10;

ordered_json Optional(const std::optional<double>& value) { return value ? ordered_json(*value) : ordered_json(); }
std::string Percent(const std::optional<double>& part) { return part ? fmt::format("{:.4g}%", *part * 100) : "-"; }

std::string More(size_t all) {
  return all > kShown ? fmt::format("  and {} more; --json lists them all\n", FormatCount(all - kShown)) : "";
}

}  // namespace

ordered_json ExtractionJson(const ExtractionResult& result) {
  ordered_json json;
  json["adapter"] = result.adapter;
  json["finetune"] = result.finetune;
  json["base"] = result.base;
  json["rank"] = result.rank;
  json["seed"] = result.seed;
  json["relative_error"] = result.relative_error;
  json["tensors"] = ordered_json::array();
  for (const ExtractionResult::Layer& layer : result.layers) {
    json["tensors"].push_back({{"name", layer.name},
                               {"rank", layer.rank},
                               {"relative_error", layer.relative_error},
                               {"energy", layer.energy},
                               {"relative_change", Optional(layer.relative_change)}});
  }
  json["not_captured"] = ordered_json::array();
  for (const ExtractionResult::Left& left : result.not_captured) {
    json["not_captured"].push_back({{"name", left.name},
                                    {"reason", left.reason},
                                    {"relative_change", Optional(left.relative_change)},
                                    {"energy", left.energy}});
  }
  json["unchanged"] = result.unchanged;
  json["not_compared"] = result.unread;
  json["files"] = ordered_json::array();
  for (const checkpoint::WrittenFile& file : result.files) {
    json["files"].push_back({{"file", file.name}, {"bytes", file.size_bytes}});
  }
  json["bytes_read"] = result.bytes_read;
  json["bytes_written"] = result.bytes_written;
  json["seconds"] = result.seconds;
  json["peak_memory_bytes"] = result.peak_memory_bytes;
  return json;
}

std::string ExtractionText(const ExtractionResult& result) {
  Table table({"", ""});
  table.AddRow({"layers", fmt::format("{} of rank {}", FormatCount(result.layers.size()), result.rank)});
  table.AddRow({"error", fmt::format("{} of the difference, all tensors together", Percent(result.relative_error))});
  table.AddRow({"unchanged", fmt::format("{} tensors", FormatCount(result.unchanged))});
  table.AddRow({"read", FormatBytes(result.bytes_read)});
  table.AddRow({"written", FormatBytes(result.bytes_written)});
  table.AddRow({"took", fmt::format("{}, {} of memory at most", FormatSeconds(result.seconds),
                                    FormatMemory(result.peak_memory_bytes))});
  std::string text = result.adapter + "\n" + table.ToString("  ");

  std::vector<ExtractionResult::Layer> layers = result.layers;
  std::ranges::stable_sort(layers, std::ranges::greater(), &ExtractionResult::Layer::relative_error);
  Table worst({"layers, worst first", ">rank", ">error", ">changed by"});
  for (size_t i = 0; i < std::min(kShown, layers.size()); ++i) {
    worst.AddRow({layers[i].name, fmt::format("{}", layers[i].rank), Percent(layers[i].relative_error),
                  Percent(layers[i].relative_change)});
  }
  text += "\n" + worst.ToString("  ") + More(layers.size());

  if (!result.not_captured.empty()) {
    std::vector<ExtractionResult::Left> rest = result.not_captured;
    std::ranges::stable_sort(rest, std::ranges::greater(), &ExtractionResult::Left::energy);
    Table left({"not captured", "because it is", ">changed by", ">of the difference"});
    for (size_t i = 0; i < std::min(kShown, rest.size()); ++i) {
      left.AddRow({rest[i].name, rest[i].reason, Percent(rest[i].relative_change), Percent(rest[i].energy)});
    }
    text += "\n" + left.ToString("  ") + More(rest.size());
  }
  return text + fmt::format("\n  the fine-tune again, as near as this comes: {}+{}\n", result.base, result.adapter);
}

}  // namespace sluice::report
