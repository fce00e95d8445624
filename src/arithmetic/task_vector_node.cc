#include "arithmetic/task_vector_node.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <new>

#include <fmt/format.h>

#include "arithmetic/float_views.h"
#include "arithmetic/l1_fact.h"
#include "arithmetic/magnitude_fact.h"
#include "arithmetic/mask_key.h"
#include "base/check.h"
#include "base/units.h"

namespace sluice::arithmetic {
namespace {

using kernels::DeltaMask;

std::string MaskText(const TaskVectorNode::Model& model) {
  if (model.mask_is_input) return "given";
  if (model.band) return fmt::format("band {} {}", model.band->drop, model.band->keep);
  return MaskDescription(model.mask);
}

// The exact settings as text: floats by their bits.
std::string Description(const TaskVectorNode::Settings& settings, const std::vector<TaskVectorNode::Model>& models) {
  std::string text = fmt::format("task vectors {} {} {:08x}", settings.consensus, settings.normalize,
                                 std::bit_cast<uint32_t>(settings.lambda));
  for (const TaskVectorNode::Model& model : models) {
    text += fmt::format("; {:08x} {:08x} {} {} {}", std::bit_cast<uint32_t>(model.weight),
                        std::bit_cast<uint32_t>(model.scale), model.scale_by_l1, MaskText(model), model.keep);
  }
  return text;
}

struct ScratchLayout {
  uint64_t vectors, floats, copies, bits, end;  // offsets in bytes
  explicit ScratchLayout(uint64_t num_models) {
    vectors = 0;
    floats = RoundUp(num_models * sizeof(kernels::TaskVector), 64);
    copies = floats + RoundUp(kernels::TaskVectorScratchFloats(num_models) * sizeof(float), 64);
    bits = copies + (num_models + 2) * kCopyElements * sizeof(float);  // the base, the models, the result
    end = bits + num_models * kCopyElements / 8;
  }
};

}  // namespace

TaskVectorNode::TaskVectorNode(const Settings& settings, std::vector<Model> models,
                               std::vector<const graph::Node*> inputs)
    : Node(Description(settings, models), quant::F32(), inputs[0]->num_elements(), inputs),
      settings_(settings),
      models_(std::move(models)) {
  size_t next_mask = models_.size() + 1;
  for (size_t m = 0; m < models_.size(); ++m) {
    const Model& model = models_[m];
    fact_of_.push_back(-1);
    mask_of_.push_back(model.mask_is_input ? next_mask++ : 0);
    std::unique_ptr<graph::Fact> fact;
    if (model.mask.kind == DeltaMask::Kind::kMagnitude) {
      fact = std::make_unique<MagnitudeFact>(inputs[m + 1], inputs[0], model.keep, model.scale_by_l1);
    } else if (model.band) {
      fact = std::make_unique<BandFact>(inputs[m + 1], inputs[0], *model.band, model.scale_by_l1);
    } else if (model.scale_by_l1 && model.mask_is_input) {
      fact = std::make_unique<L1Fact>(inputs[m + 1], inputs[0], inputs[mask_of_[m]]);
    } else if (model.scale_by_l1) {
      fact = std::make_unique<L1Fact>(inputs[m + 1], inputs[0], model.mask);
    }
    if (fact) {
      fact_of_.back() = static_cast<int>(facts().size());
      AddFact(std::move(fact));
    }
  }
  SLUICE_CHECK(inputs.size() == next_mask);
}

uint64_t TaskVectorNode::ScratchBytes() const { return ScratchLayout(models_.size()).end; }

double TaskVectorNode::NanosecondsPerElement() const {
  double nanoseconds = 0.5;
  for (const Model& model : models_) {
    nanoseconds += model.mask_is_input ? 0.6 : model.band ? 2 : model.mask.kind == DeltaMask::Kind::kRandom ? 1.2 : 0.5;
  }
  return nanoseconds;
}

void TaskVectorNode::Compute(const graph::ComputeArgs& args) const {
  const ScratchLayout layout(models_.size());
  auto* vectors = reinterpret_cast<kernels::TaskVector*>(args.scratch + layout.vectors);
  auto* copies = reinterpret_cast<float*>(args.scratch + layout.copies);
  for (size_t m = 0; m < models_.size(); ++m) {
    const Model& model = models_[m];
    auto* vector = new (&vectors[m]) kernels::TaskVector{nullptr, model.weight, model.scale, model.mask};
    if (fact_of_[m] < 0) continue;
    const graph::FactValue& value = *args.facts[fact_of_[m]];
    size_t sums = 0;
    if (model.mask.kind == DeltaMask::Kind::kMagnitude) {
      vector->mask.threshold = std::bit_cast<float>(static_cast<uint32_t>(value[0]));
      vector->mask.last_tie = static_cast<uint64_t>(value[1]);
      sums = 2;
    } else if (model.band) {
      sums = kBandSums;
    }
    if (model.scale_by_l1) vector->scale = L1Scale(value[sums], value[sums + 1]);
  }
  std::vector<BandMask> bands(HasBands() ? models_.size() : 0);
  for (size_t m = 0; m < bands.size(); ++m) {
    if (models_[m].band) bands[m] = BandMaskOf(*models_[m].band, num_elements(), *args.facts[fact_of_[m]]);
  }
  float* result_copy = copies + (models_.size() + 1) * kCopyElements;
  const bool out_aligned = IsFloatAligned(args.out);
  const bool whole = out_aligned && AreFloatAligned(args.in) && !HasBands();
  ForAlignedParts(args.range.size(), whole, [&](uint64_t first, uint64_t count) {
    const float* base = FloatsAt(args.in[0], first, count, copies);
    const uint64_t element = args.range.begin + first;
    for (size_t m = 0; m < models_.size(); ++m) {
      vectors[m].x = FloatsAt(args.in[m + 1], first, count, copies + (m + 1) * kCopyElements);
      if (models_[m].mask_is_input) {
        vectors[m].mask.bits = MaskBitsOf(args.in[mask_of_[m]]) + first / kMaskWordBits;
      } else if (models_[m].band) {
        auto* bits = reinterpret_cast<uint32_t*>(args.scratch + layout.bits) + m * kCopyElements / kMaskWordBits;
        BandMaskBits(bands[m], element, count, vectors[m].x, base, bits);
        vectors[m].mask.bits = bits;
      }
    }
    uint8_t* out = args.out + first * sizeof(float);
    const kernels::TaskVectorArgs kernel_args = {.base = base,
                                                 .models = {vectors, models_.size()},
                                                 .consensus = settings_.consensus,
                                                 .normalize = settings_.normalize,
                                                 .lambda = settings_.lambda,
                                                 .first_element = element,
                                                 .count = count,
                                                 .out = out_aligned ? reinterpret_cast<float*>(out) : result_copy,
                                                 .scratch = reinterpret_cast<float*>(args.scratch + layout.floats)};
    kernels::TaskVectorSum(kernel_args);
    if (!out_aligned) std::memcpy(out, result_copy, count * sizeof(float));
  });
}

bool TaskVectorNode::HasBands() const {
  return std::ranges::any_of(models_, [](const Model& m) { return m.band.has_value(); });
}

}  // namespace sluice::arithmetic
