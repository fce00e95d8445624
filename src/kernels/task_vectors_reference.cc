// The formulas of task_vectors.h, one element at a time: what the vector forms are held to, bit for bit.
#include <bit>
#include <cmath>

#include "kernels/select.h"
#include "kernels/task_vectors.h"

namespace sluice::kernels {

uint32_t RandomMaskWord(PhiloxKey key, uint64_t element) {
  const uint64_t counter = element / 32 * 8 + element % 8;
  const auto words = Philox4x32({static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0}, key);
  return words[element % 32 / 8];
}

double SumLanes(const double (&lanes)[16]) {
  double sums[16];
  for (int i = 0; i < 16; ++i) sums[i] = lanes[i];
  for (int distance = 8; distance > 0; distance /= 2) {
    for (int i = 0; i < distance; ++i) sums[i] += sums[i + distance];
  }
  return std::isnan(sums[0]) ? std::bit_cast<double>(uint64_t{0x7FF8} << 48) : sums[0];
}

namespace reference {
namespace {

float Canonical(float value) { return std::isnan(value) ? std::bit_cast<float>(0x7FC00000u) : value; }
double Canonical(double value) { return std::isnan(value) ? std::bit_cast<double>(uint64_t{0x7FF8} << 48) : value; }

// Element i of a call whose first is first_element.
bool Keeps(const DeltaMask& mask, float x, float base, uint64_t first_element, uint64_t i) {
  const uint64_t element = first_element + i;
  switch (mask.kind) {
    case DeltaMask::Kind::kAll:
      return true;
    case DeltaMask::Kind::kRandom:
      return RandomMaskWord(mask.key, element) < mask.keep_below;
    case DeltaMask::Kind::kMagnitude: {
      const uint32_t magnitude = MagnitudeBits(x, base), threshold = MagnitudeBits(mask.threshold, 0);
      return magnitude > threshold || (magnitude == threshold && element <= mask.last_tie);
    }
    case DeltaMask::Kind::kGiven:
      return (mask.bits[i / 32] >> i % 32 & 1) != 0;
  }
  return false;
}

}  // namespace

void TaskVectorSum(const TaskVectorArgs& args) {
  for (uint64_t i = 0; i < args.count; ++i) {
    const float base = args.base[i];
    const auto product = [&](const TaskVector& model) {
      const bool keep = Keeps(model.mask, model.x[i], base, args.first_element, i);
      const float delta = keep ? (model.x[i] - base) * model.scale : 0.0f;
      return model.weight * delta;
    };
    float sum = 0, mixed = 0, divisor = 0;
    for (size_t m = 0; m < args.models.size(); ++m) {
      sum = m == 0 ? product(args.models[m]) : sum + product(args.models[m]);
    }
    if (args.consensus) {
      for (const TaskVector& model : args.models) {
        const float p = product(model);
        if (sum >= 0 ? p > 0 : p < 0) {
          mixed += p;
          divisor += model.weight;
        }
      }
      if (divisor == 0) divisor = 1;
    } else {
      mixed = sum;
      for (const TaskVector& model : args.models) divisor += model.weight;
      if (std::fabs(divisor) < 1e-8f) divisor = 1;
    }
    if (args.normalize) mixed = mixed / divisor;
    args.out[i] = Canonical(base + args.lambda * mixed);
  }
}

void AccumulateL1(const float* x, const float* base, const DeltaMask& mask, uint64_t first_element, uint64_t count,
                  L1Lanes* lanes) {
  for (uint64_t i = 0; i < count; ++i) {
    const double magnitude = std::fabs(x[i] - base[i]);
    lanes->all[i % 16] += magnitude;
    if (Keeps(mask, x[i], base[i], first_element, i)) lanes->kept[i % 16] += magnitude;
  }
  for (int i = 0; i < 16; ++i) {
    lanes->all[i] = Canonical(lanes->all[i]);
    lanes->kept[i] = Canonical(lanes->kept[i]);
  }
}

void RandomMaskWords(PhiloxKey key, uint64_t first_element, uint64_t count, uint32_t* words) {
  for (uint64_t i = 0; i < (count + 31) / 32 * 32; ++i) words[i] = RandomMaskWord(key, first_element + i);
}

void WeightedSum(std::span<const float* const> x, std::span<const float> weights, float divisor, uint64_t count,
                 float* out) {
  for (uint64_t i = 0; i < count; ++i) {
    float sum = 0;
    for (size_t m = 0; m < x.size(); ++m) {
      const float product = weights[m] * x[m][i];
      sum = m == 0 ? product : sum + product;
    }
    out[i] = Canonical(divisor == 1 ? sum : sum / divisor);
  }
}

}  // namespace reference
}  // namespace sluice::kernels
