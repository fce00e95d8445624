#include "infer/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace sluice::infer {
namespace {

// What follows rounds to f32 where transformers does: an angle is a frequency times a position, so a frequency that is
// off by its last bit is off by 0.01 radians at position 100,000. Powers are taken in f64 and rounded once.
float Power(float base, float exponent) {
  return static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
}

// theta^(2 i / dim)
std::vector<float> Wavelengths(float theta, uint64_t dim) {
  std::vector<float> result(dim / 2);
  for (uint64_t i = 0; i < result.size(); ++i) {
    result[i] = Power(theta, static_cast<float>(2 * i) / static_cast<float>(dim));
  }
  return result;
}

std::vector<float> Inverse(const std::vector<float>& wavelengths) {
  std::vector<float> result(wavelengths.size());
  std::transform(wavelengths.begin(), wavelengths.end(), result.begin(), [](float x) { return 1.0f / x; });
  return result;
}

std::vector<float> Linear(const RopeSpec& spec) {
  std::vector<float> result = Inverse(Wavelengths(static_cast<float>(spec.theta), spec.rotary_dim));
  for (float& frequency : result) frequency /= static_cast<float>(spec.factor);
  return result;
}

// "NTK-aware": a larger base for sequences longer than the model was trained on, so that the slowest frequency is
// stretched by as much as the sequence is longer and the fastest stays.
std::vector<float> Dynamic(const RopeSpec& spec, uint64_t num_positions) {
  auto theta = static_cast<float>(spec.theta);
  if (num_positions > spec.max_positions) {
    const float stretch =
        static_cast<float>(spec.factor) * static_cast<float>(num_positions) / static_cast<float>(spec.max_positions) -
        static_cast<float>(spec.factor - 1);
    const auto dim = static_cast<double>(spec.rotary_dim);
    theta *= Power(stretch, static_cast<float>(dim / (dim - 2)));
  }
  return Inverse(Wavelengths(theta, spec.rotary_dim));
}

// The dimension that turns `rotations` times over the original context.
double DimensionOf(double rotations, const RopeSpec& spec) {
  const auto dim = static_cast<double>(spec.rotary_dim), length = static_cast<double>(spec.original_max_positions);
  return dim * std::log(length / (rotations * 2 * std::numbers::pi)) / (2 * std::log(spec.theta));
}

// Fast dimensions as they are, slow ones interpolated, a ramp between them.
std::vector<float> Yarn(const RopeSpec& spec) {
  double low = DimensionOf(spec.beta_fast, spec), high = DimensionOf(spec.beta_slow, spec);
  if (spec.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(spec.rotary_dim) - 1);
  if (low == high) high += 0.001;  // a step
  const std::vector<float> wavelengths = Wavelengths(static_cast<float>(spec.theta), spec.rotary_dim);
  std::vector<float> result(wavelengths.size());
  for (size_t i = 0; i < result.size(); ++i) {
    const float ramp =
        std::clamp((static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f, 1.0f);
    const float keep = 1.0f - ramp;
    const float interpolated = 1.0f / (static_cast<float>(spec.factor) * wavelengths[i]);
    result[i] = interpolated * (1.0f - keep) + (1.0f / wavelengths[i]) * keep;
  }
  return result;
}

// By wavelength: short ones as they are, long ones divided by the factor, between the two blended.
std::vector<float> Llama3(const RopeSpec& spec) {
  const auto length = static_cast<double>(spec.original_max_positions);
  const auto longest = static_cast<float>(length / spec.low_freq_factor);
  const auto shortest = static_cast<float>(length / spec.high_freq_factor);
  std::vector<float> result = Inverse(Wavelengths(static_cast<float>(spec.theta), spec.rotary_dim));
  for (float& frequency : result) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
    const float slow = frequency / static_cast<float>(spec.factor);
    if (wavelength > longest) {
      frequency = slow;
    } else if (wavelength >= shortest) {
      const float smooth = (static_cast<float>(length) / wavelength - static_cast<float>(spec.low_freq_factor)) /
                           static_cast<float>(spec.high_freq_factor - spec.low_freq_factor);
      frequency = (1.0f - smooth) * frequency / static_cast<float>(spec.factor) + smooth * frequency;
    }
  }
  return result;
}

std::vector<float> Longrope(const RopeSpec& spec, uint64_t num_positions) {
  const auto& factors = num_positions > spec.original_max_positions ? spec.long_factor : spec.short_factor;
  SLUICE_CHECK(factors.size() == spec.rotary_dim / 2);
  std::vector<float> wavelengths = Wavelengths(static_cast<float>(spec.theta), spec.rotary_dim);
  for (size_t i = 0; i < wavelengths.size(); ++i) wavelengths[i] *= static_cast<float>(factors[i]);
  return Inverse(wavelengths);
}

std::vector<float> InverseFrequencies(const RopeSpec& spec, uint64_t num_positions) {
  switch (spec.type) {
    case RopeType::kDefault:
      return Inverse(Wavelengths(static_cast<float>(spec.theta), spec.rotary_dim));
    case RopeType::kLinear:
      return Linear(spec);
    case RopeType::kDynamic:
      return Dynamic(spec, num_positions);
    case RopeType::kYarn:
      return Yarn(spec);
    case RopeType::kLlama3:
      return Llama3(spec);
    case RopeType::kLongrope:
      return Longrope(spec, num_positions);
  }
  SLUICE_CHECK(false);
}

}  // namespace

bool DependsOnLength(const RopeSpec& spec) {
  return spec.type == RopeType::kDynamic || spec.type == RopeType::kLongrope;
}

RopeFrequencies FrequenciesOf(const RopeSpec& spec, uint64_t num_positions) {
  SLUICE_CHECK(spec.rotary_dim > 0 && spec.rotary_dim % 2 == 0);
  return {InverseFrequencies(spec, num_positions), static_cast<float>(spec.attention_factor)};
}

uint64_t RopeTableSize(const RopeFrequencies& frequencies, uint64_t begin, uint64_t end) {
  SLUICE_CHECK(begin % kRopeTileTokens == 0 && begin <= end);
  return (end - begin + kRopeTileTokens - 1) / kRopeTileTokens * kRopeTileTokens * frequencies.inverse.size();
}

void FillRopeTables(const RopeFrequencies& frequencies, uint64_t begin, uint64_t end, std::span<float> cosines,
                    std::span<float> sines) {
  const uint64_t size = RopeTableSize(frequencies, begin, end);
  SLUICE_CHECK(cosines.size() == size && sines.size() == size);
  uint64_t i = 0;
  for (uint64_t tile = begin; tile < end; tile += kRopeTileTokens) {
    for (const float frequency : frequencies.inverse) {
      for (uint64_t token = 0; token < kRopeTileTokens; ++token, ++i) {
        // The angle is an f32, as in transformers; its cosine is that of the f32.
        const double angle = frequency * static_cast<float>(tile + token);
        cosines[i] = static_cast<float>(std::cos(angle)) * frequencies.attention_factor;
        sines[i] = static_cast<float>(std::sin(angle)) * frequencies.attention_factor;
      }
    }
  }
}

}  // namespace sluice::infer
