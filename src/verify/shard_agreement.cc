#include "verify/shard_agreement.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "checkpoint/expected_tensors.h"
#include "formats/recognise.h"

namespace sluice::verify {
namespace {

using checkpoint::ModelConfig;
using checkpoint::ShapeText;
using formats::Printable;

constexpr std::string_view kAnother = "it is of another revision than the rest";

struct Misfit {
  size_t shard;
  std::string why;
};

// Shapes by names with "*" for every number; empty where the config does not tell them.
std::map<std::string, std::vector<uint64_t>, std::less<>> ShapesOf(const ModelConfig& config) {
  std::map<std::string, std::vector<uint64_t>, std::less<>> shapes;
  const auto model = checkpoint::Expect(config);
  // What is quantised has shapes of its own.
  if (!model || config.json().contains("quantization_config")) return shapes;
  for (const checkpoint::ExpectedTensor& tensor : model->tensors) {
    if (!tensor.shape) continue;
    for (const std::string_view prefix : PrefixesOf(*model->architecture, &config)) {
      shapes.emplace(fmt::format("{}{}", tensor.has_prefix ? prefix : "", tensor.name), *tensor.shape);
    }
  }
  return shapes;
}

std::string EncodingOf(const ModelConfig& config) {
  const std::string dtype = config.GetString("torch_dtype");
  return dtype == "bfloat16" ? "BF16" : dtype == "float16" ? "F16" : dtype == "float32" ? "F32" : "";
}

}  // namespace

void CompareWithIndex(const checkpoint::FolderIndex& index, const std::string& index_name,
                      const std::vector<Shard>& shards, const Disagreement& tell) {
  std::vector<Misfit> misfits;
  for (size_t s = 0; s < shards.size(); ++s) {
    const auto& files = index.files();
    const auto file = std::lower_bound(files.begin(), files.end(), shards[s].name);
    if (file == files.end() || *file != shards[s].name) continue;
    const auto number = static_cast<uint32_t>(file - files.begin());
    std::set<std::string_view> here;
    uint64_t mapped = 0, missing = 0, others = 0;
    std::string first;
    for (size_t i = 0; i < shards[s].header->size(); ++i) {
      const std::string_view name = (*shards[s].header)[i].name;
      here.insert(name);
      const auto place = index.Find(name);
      if (!place || index.file_of(*place) != number) ++others;
    }
    for (size_t i = 0; i < index.size(); ++i) {
      if (index.file_of(i) != number) continue;
      ++mapped;
      if (here.contains(index.tensor(i))) continue;
      if (missing++ == 0) first = Printable(index.tensor(i));
    }
    if (missing == 0) continue;
    misfits.push_back({s, fmt::format("{} of the {} tensors that the index maps to it are not in it, {} is the first, "
                                      "and {} are in it that the index does not map to it",
                                      missing, mapped, first, others)});
  }
  if (misfits.size() > 1 && misfits.size() == shards.size()) {
    tell(index_name, fmt::format("none of the {} files has what the index maps to it: the index is of another revision "
                                 "than they are; of {}: {}",
                                 shards.size(), shards[misfits[0].shard].name, misfits[0].why));
    return;
  }
  for (const Misfit& misfit : misfits) {
    tell(shards[misfit.shard].name, fmt::format("{}: {}", misfit.why, kAnother));
  }
}

void CompareWithConfig(const ModelConfig& config, const std::vector<Shard>& shards, const Disagreement& tell) {
  const auto shapes = ShapesOf(config);
  std::vector<Misfit> misfits;
  size_t comparable = 0;
  for (size_t s = 0; s < shards.size(); ++s) {
    uint64_t known = 0, other = 0;
    std::string first;
    for (size_t i = 0; i < shards[s].header->size(); ++i) {
      const formats::StoredTensor tensor = (*shards[s].header)[i];
      const auto shape = shapes.find(checkpoint::NumberPattern(tensor.name));
      if (shape == shapes.end()) continue;
      ++known;
      if (std::ranges::equal(shape->second, tensor.shape)) continue;
      if (other++ > 0) continue;
      first = fmt::format("{} is {}, config.json asks for {}", Printable(tensor.name), ShapeText(tensor.shape),
                          ShapeText(shape->second));
    }
    if (known > 0) ++comparable;
    if (other > 0) misfits.push_back({s, fmt::format("{} tensors have another shape: {}", other, first)});
  }
  if (!misfits.empty() && misfits.size() == comparable) {
    tell("config.json", fmt::format("it does not describe these weights; in {}, {}: config.json is of another revision "
                                    "than they are, or they are of another model",
                                    shards[misfits[0].shard].name, misfits[0].why));
  } else {
    for (const Misfit& misfit : misfits) {
      tell(shards[misfit.shard].name, fmt::format("{}: {}", misfit.why, kAnother));
    }
  }

  // Vectors are often kept in F32, whatever the matrices are.
  const std::string expected = EncodingOf(config);
  std::vector<std::pair<size_t, std::string>> without;
  size_t with = 0;
  for (size_t s = 0; s < shards.size() && !expected.empty(); ++s) {
    std::set<std::string_view> encodings;
    for (size_t i = 0; i < shards[s].header->size(); ++i) {
      const formats::StoredTensor tensor = (*shards[s].header)[i];
      if (tensor.shape.size() >= 2) encodings.insert(tensor.encoding.name());
    }
    if (encodings.contains(expected)) {
      ++with;
    } else if (!encodings.empty()) {
      without.emplace_back(s, std::string(*encodings.begin()));
    }
  }
  if (with <= without.size()) return;
  for (const auto& [s, encoding] : without) {
    tell(shards[s].name, fmt::format("its matrices are {}, those of the other files and of config.json {}: {}",
                                     encoding, expected, kAnother));
  }
}

}  // namespace sluice::verify
