#include "arithmetic/torch_softmax.h"

#include <bit>
#include <cmath>
#include <limits>

#include "arithmetic/plain_math.h"

namespace sluice::arithmetic {
namespace {

constexpr uint64_t kLanes = 8;

float PowerOfTwo(int exponent) { return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23); }

// What is left of 8 lanes: halves, quarters, and the two.
float SumOfLanes(const float* lanes) {
  const auto half = [&](int i) { return lanes[i] + lanes[i + 4]; };
  return (half(0) + half(2)) + (half(1) + half(3));
}

// Torch adds numbers behind the last whole vector to the first lanes.
float SumOfF32(std::span<const float> values) {
  float lanes[kLanes] = {};
  if (values.size() < kLanes) {
    for (const float value : values) lanes[0] += value;
    return lanes[0];
  }
  for (uint64_t i = 0; i < values.size(); ++i) lanes[i % kLanes] += values[i];
  return SumOfLanes(lanes);
}

// Of halves, one by one to the lanes' sum.
float SumOfHalves(std::span<const float> values) {
  float lanes[kLanes] = {};
  const uint64_t lanes_end = values.size() - values.size() % kLanes;
  for (uint64_t i = 0; i < lanes_end; ++i) lanes[i % kLanes] += values[i];
  float sum = SumOfLanes(lanes);
  for (uint64_t i = lanes_end; i < values.size(); ++i) sum += values[i];
  return sum;
}

}  // namespace

float TorchExp(float x) {
  if (std::isnan(x)) return x;
  if (x < -104) return 0;
  const float multiple = std::nearbyint(x * 1.442695040888963407f);
  float rest = std::fma(multiple, -0.693145751953125f, x);
  rest = std::fma(multiple, -1.428606765330187045e-06f, rest);
  float sum = 0.000198527617612853646278381f;
  for (const float coefficient : {0.00139304355252534151077271f, 0.00833336077630519866943359f,
                                  0.0416664853692054748535156f, 0.166666671633720397949219f, 0.5f}) {
    sum = std::fma(sum, rest, coefficient);
  }
  sum = 1 + std::fma(rest * rest, sum, rest);
  const int exponent = static_cast<int>(multiple), half = exponent >> 1;  // two factors: the product may be subnormal
  return sum * PowerOfTwo(half) * PowerOfTwo(exponent - half);
}

void TorchSoftmax(WorkingType type, std::span<const float> x, float* out) {
  float most = -std::numeric_limits<float>::infinity();
  for (const float value : x) most = value > most || std::isnan(value) ? value : most;
  const uint64_t vectors_end = type == WorkingType::kF32 ? x.size() : x.size() - x.size() % kLanes;
  for (uint64_t i = 0; i < x.size(); ++i) {
    const float value = x[i] - most;
    out[i] = i < vectors_end ? TorchExp(value) : static_cast<float>(PlainExp(static_cast<double>(value)));
  }
  const std::span<const float> exps(out, x.size());
  const float factor = 1 / (type == WorkingType::kF32 ? SumOfF32(exps) : SumOfHalves(exps));
  WithType(type, [&]<WorkingType kType>() {
    for (uint64_t i = 0; i < x.size(); ++i) out[i] = RoundTo<kType>(out[i] * factor);
  });
}

float TorchLog(float x) {
  if (x == 0) return -std::numeric_limits<float>::infinity();
  if (!(x > 0) || std::isinf(x)) return x > 0 ? x : std::numeric_limits<float>::quiet_NaN();
  return static_cast<float>(PlainLog(static_cast<double>(x)));
}

}  // namespace sluice::arithmetic
