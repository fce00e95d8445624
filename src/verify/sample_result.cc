#include "verify/sample_result.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "checkpoint/architecture.h"
#include "verify/config_diff.h"
#include "verify/model_parts.h"

namespace sluice::verify {
namespace {

StratumFacts FactsOf(const SampledTensor& tensor) { return {tensor.num_elements, tensor.num_blocks, tensor.blocks}; }

// Which side may be the rounding of the other, of what two lists of blocks say together.
struct Roundable {
  bool a = true, b = true;
  RoundedSide side() const {
    return a && b ? RoundedSide::kEither : a ? RoundedSide::kA : b ? RoundedSide::kB : RoundedSide::kNone;
  }
};

std::optional<DifferingTensor> DifferenceOf(const SampledTensor& tensor, Roundable* all) {
  DifferingTensor found;
  Roundable roundable;
  DifferenceSums sums;
  uint64_t elements = 0, unknown = 0, changed = 0;
  bool has_sums = true;
  for (size_t i = 0; i < tensor.blocks.size(); ++i) {
    const BlockComparison& block = tensor.blocks[i];
    elements += block.elements;
    has_sums &= block.has_sums;
    sums.Add(block.sums);
    if (!block.Differs()) continue;
    if (found.differing++ == 0) found.first_element = tensor.drawn[i] * kSampleBlockElements;
    unknown += block.state == BlockState::kUnknown ? 1 : 0;
    changed += block.state == BlockState::kChanged ? 1 : 0;
    if (block.state != BlockState::kRounded) continue;
    roundable.a &= block.a_is_rounded;
    roundable.b &= block.b_is_rounded;
  }
  if (found.differing == 0) return std::nullopt;
  found.name = tensor.name;
  found.encoding_a = tensor.encoding_a;
  found.encoding_b = tensor.encoding_b;
  found.shape = tensor.shape;
  found.tied = tensor.tied;
  found.blocks = tensor.blocks.size();
  found.all_blocks = tensor.num_blocks;
  if (has_sums) found.stats = sums.ToStats(elements);
  if (changed > 0 || roundable.side() == RoundedSide::kNone) {
    found.state = BlockState::kChanged;
  } else if (unknown > 0) {
    found.state = BlockState::kUnknown;
  } else {
    found.state = BlockState::kRounded;
    found.rounded_side = roundable.side();
    all->a &= roundable.a;
    all->b &= roundable.b;
  }
  return found;
}

}  // namespace

std::vector<TensorPair> PairTensors(const checkpoint::Catalogue& a, const checkpoint::Catalogue& b) {
  std::vector<TensorPair> pairs;
  size_t i = 0, j = 0;
  // A head that the other side lacks.
  const auto pair_tied = [&](const checkpoint::Catalogue& with, size_t place, const checkpoint::Catalogue& without,
                             bool in_a) {
    const auto embedding = EmbeddingOf(with, with[place]);
    if (!embedding) return;
    const auto other = without.Find(with[*embedding].name);
    if (!other || !std::ranges::equal(without[*other].shape, with[place].shape)) return;
    pairs.push_back(
        {std::string(with[place].name), static_cast<uint32_t>(place), static_cast<uint32_t>(*embedding), true, in_a});
  };
  while (i < a.size() || j < b.size()) {
    const int order = i == a.size() ? 1 : j == b.size() ? -1 : a[i].name.compare(b[j].name);
    if (order < 0) {
      pair_tied(a, i++, b, true);
    } else if (order > 0) {
      pair_tied(b, j++, a, false);
    } else {
      if (std::ranges::equal(a[i].shape, b[j].shape)) {
        pairs.push_back({std::string(a[i].name), static_cast<uint32_t>(i), static_cast<uint32_t>(j), false});
      }
      ++i, ++j;
    }
  }
  return pairs;
}

bool SampleResult::SurelyDiffers() const {
  const bool has_rounded = std::ranges::any_of(
      differing, [](const DifferingTensor& tensor) { return tensor.state == BlockState::kRounded; });
  return std::ranges::any_of(differing,
                             [](const DifferingTensor& tensor) { return tensor.state == BlockState::kChanged; }) ||
         (has_rounded && rounded_side == RoundedSide::kNone);
}

std::string SampleResult::Bound() const {
  if (IsCensus()) return fmt::format("all {} blocks were looked at", FormatCount(all_blocks));
  return fmt::format(
      "{} of {} blocks were drawn and looked at; had {:.6g}% of them been different, it would have been noticed with a "
      "probability of {:.6g}% at least",
      FormatCount(blocks), FormatCount(all_blocks), 100 * aim.detect, 100 * aim.confidence);
}

SampleResult SummariseSample(const std::vector<SampledTensor>& tensors, const BlockSample& sample, const Nonce& nonce,
                             const SampleAim& aim, const checkpoint::ModelConfig* config) {
  SampleResult result;
  result.nonce = NonceText(nonce);
  result.aim = aim;
  result.num_draws = sample.num_draws;
  Roundable roundable;
  for (const SampledTensor& tensor : tensors) {
    SLUICE_CHECK(tensor.blocks.size() == tensor.drawn.size());
    result.blocks += tensor.blocks.size();
    result.all_blocks += tensor.num_blocks;
    for (const BlockComparison& block : tensor.blocks) {
      switch (block.state) {
        case BlockState::kIdentical:
          ++result.identical;
          break;
        case BlockState::kEqualAfterCast:
          ++result.equal_after_cast;
          break;
        case BlockState::kRounded:
          ++result.rounded;
          break;
        case BlockState::kUnknown:
          ++result.unknown;
          break;
        case BlockState::kChanged:
          ++result.changed;
          break;
      }
    }
    if (auto difference = DifferenceOf(tensor, &roundable)) result.differing.push_back(std::move(*difference));
  }
  if (result.rounded > 0) result.rounded_side = roundable.side();
  result.rows = DescribeParts(tensors, config, aim.confidence);
  return result;
}

std::vector<TensorDiff> ChangedTensors(const SampleResult& sample) {
  std::vector<TensorDiff> changed;
  for (const DifferingTensor& tensor : sample.differing) {
    if (tensor.state != BlockState::kChanged) continue;
    TensorDiff diff;
    diff.name = tensor.name;
    diff.tensor_class = TensorClass::kChanged;
    diff.encoding_a = tensor.encoding_a;
    diff.encoding_b = tensor.encoding_b;
    diff.shape_a = diff.shape_b = tensor.shape;
    changed.push_back(std::move(diff));
  }
  return changed;
}

std::vector<SampleRow> DescribeParts(const std::vector<SampledTensor>& tensors, const checkpoint::ModelConfig* config,
                                     double confidence) {
  const ModelParts parts(config == nullptr ? nullptr : checkpoint::ArchitectureOf(*config));
  std::map<Part, std::vector<StratumFacts>> by_part;
  std::vector<StratumFacts> all;
  for (const SampledTensor& tensor : tensors) {
    if (tensor.num_blocks == 0 || tensor.tied) continue;  // tied: both are of one side
    by_part[parts.Of(tensor.name)].push_back(FactsOf(tensor));
    all.push_back(FactsOf(tensor));
  }
  std::vector<SampleRow> rows;
  for (const auto& [part, strata] : by_part)
    rows.push_back({std::string(PartName(part)), Describe(strata, confidence)});
  rows.push_back({"all", Describe(all, confidence)});
  return rows;
}

}  // namespace sluice::verify
