#include "arithmetic/ordered_sums.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace sluice::arithmetic {
namespace {

// Vectors of `count`, a power of two, halved until one number is left: each half is added to the other.
float Fold(float* lanes, uint64_t count) {
  for (uint64_t half = count / 2; half > 0; half /= 2) {
    for (uint64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

#if defined(__x86_64__)
// The same as below, as one instruction for each eight numbers.
__attribute__((target("avx2,fma"))) void AddFused(const float* x, const float* y, float* lanes) {
  for (uint64_t i = 0; i < 32; ++i) lanes[i] = __builtin_fmaf(x[i], y[i], lanes[i]);
}
#endif

void AddFusedPlain(const float* x, const float* y, float* lanes) {
  for (uint64_t i = 0; i < 32; ++i) lanes[i] = std::fma(x[i], y[i], lanes[i]);
}

using FusedStep = void (*)(const float*, const float*, float*);
FusedStep ChooseFusedStep() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AddFused;
#endif
  return AddFusedPlain;
}

}  // namespace

void TorchNorm::Add(const float* x, uint64_t count) {
  switch (type_) {
    case WorkingType::kF32: {
      std::array<float, 8> lanes = lanes_;
      of_f32_.Add(x, x, count, [&](const float* group, const float*) {
        for (uint64_t i = 0; i < 8; ++i) lanes[i] += group[i] * group[i];
      });
      lanes_ = lanes;
      return;
    }
    case WorkingType::kBf16: {
      std::array<float, 8> lanes = lanes_;
      of_bf16_.Add(x, x, count, [&](const float* group, const float*) {
        for (uint64_t i = 0; i < 8; ++i) lanes[i] += group[i] * group[i];
        for (uint64_t i = 0; i < 8; ++i) lanes[i] += group[i + 8] * group[i + 8];
      });
      lanes_ = lanes;
      return;
    }
    case WorkingType::kF16: {
      float sum = lanes_[0];
      for (uint64_t i = 0; i < count; ++i) sum += x[i] * x[i];
      lanes_[0] = sum;
      return;
    }
  }
}

// Of up to seven f32 numbers a compiler made a vector of the first four, if there are four, and fused the others'
// steps; squares of the halves are exact, fused or not.
float TorchNorm::Finish() const {
  float sum = lanes_[0];
  for (uint64_t i = 1; i < 8; ++i) sum += lanes_[i];
  if (type_ == WorkingType::kF32) {
    const float* x = of_f32_.x();
    uint64_t i = 0;
    if (of_f32_.kept() >= 4) {
      for (; i < 4; ++i) sum += x[i] * x[i];
    }
    for (; i < of_f32_.kept(); ++i) sum = std::fma(x[i], x[i], sum);
  } else {
    const float* x = of_bf16_.x();
    for (uint64_t i = 0; i < of_bf16_.kept(); ++i) sum += x[i] * x[i];
  }
  return RoundTo(type_, std::sqrt(sum));
}

float TorchNormOf(WorkingType type, std::span<const float> values) {
  TorchNorm norm(type);
  norm.Add(values.data(), values.size());
  return norm.Finish();
}

void TorchDot::Add(const float* x, const float* y, uint64_t count) {
  if (type_ == WorkingType::kF32) {
    of_f32_.Add(x, y, count, [&](const float* a, const float* b) {
      for (uint64_t i = 0; i < 16; ++i) lanes_[i] += a[i] * b[i];
    });
  } else {
    of_half_.Add(x, y, count, [&](const float* a, const float* b) {
      for (uint64_t i = 0; i < 64; ++i) lanes_[i] += a[i] * b[i];
    });
  }
}

float TorchDot::Finish() const { return type_ == WorkingType::kF32 ? FinishF32() : RoundTo(type_, FinishHalf()); }

float TorchDot::FinishF32() const {
  float sums[16];
  std::copy_n(lanes_.data(), 16, sums);
  const float *x = of_f32_.x(), *y = of_f32_.y();
  uint64_t left = of_f32_.kept();
  for (const uint64_t width : {8, 4, 1}) {
    for (; left >= width; left -= width, x += width, y += width) {
      for (uint64_t i = 0; i < width; ++i) sums[i] += x[i] * y[i];
    }
  }
  float lanes[4];
  for (uint64_t i = 0; i < 4; ++i) lanes[i] = sums[i] + sums[i + 4] + sums[i + 8] + sums[i + 12];
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

float TorchDot::FinishHalf() const {
  float sums[64], rest[8] = {};
  std::copy_n(lanes_.data(), 64, sums);
  float sum = Fold(sums, 64);
  const float *x = of_half_.x(), *y = of_half_.y();
  uint64_t left = of_half_.kept();
  for (; left >= 16; left -= 16, x += 16, y += 16) {
    for (uint64_t i = 0; i < 8; ++i) rest[i] += x[i] * y[i];
    for (uint64_t i = 0; i < 8; ++i) rest[i] += x[i + 8] * y[i + 8];
  }
  sum += Fold(rest, 8);
  for (uint64_t i = 0; i < left; ++i) sum += x[i] * y[i];
  return sum;
}

void OpenBlasDot::Add(const float* x, const float* y, uint64_t count) {
  static const FusedStep step = ChooseFusedStep();
  groups_.Add(x, y, count, [&](const float* a, const float* b) { step(a, b, lanes_.data()); });
}

float OpenBlasDot::Finish() const {
  float vectors[4][4];
  for (uint64_t v = 0; v < 4; ++v) {
    for (uint64_t i = 0; i < 4; ++i) vectors[v][i] = lanes_[8 * v + i] + lanes_[8 * v + i + 4];
  }
  float lanes[4];
  for (uint64_t i = 0; i < 4; ++i) lanes[i] = (vectors[0][i] + vectors[1][i]) + (vectors[2][i] + vectors[3][i]);
  const float whole = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
  double rest = 0;
  for (uint64_t i = 0; i < groups_.kept(); ++i) rest += static_cast<double>(groups_.x()[i] * groups_.y()[i]);
  return static_cast<float>(rest + static_cast<double>(whole));
}

NumpySum::NumpySum(uint64_t num_elements) {
  if (num_elements > 0) Descend(num_elements);
}

void NumpySum::Descend(uint64_t count) {
  while (count > leaf_.size()) {
    const uint64_t left = count / 2 - count / 2 % 8;
    halves_.push_back({.right = count - left});
    count = left;
  }
  leaf_size_ = count;
  in_leaf_ = 0;
}

void NumpySum::Add(const float* x, uint64_t count) {
  while (count > 0) {
    SLUICE_CHECK(in_leaf_ < leaf_size_);
    const uint64_t taken = std::min(count, leaf_size_ - in_leaf_);
    std::copy_n(x, taken, leaf_.data() + in_leaf_);
    in_leaf_ += taken;
    x += taken;
    count -= taken;
    if (in_leaf_ == leaf_size_) EndLeaf();
  }
}

void NumpySum::EndLeaf() {
  float sum = -0.0f;
  uint64_t i = 0;
  if (leaf_size_ >= 8) {
    float lanes[8];
    std::copy_n(leaf_.data(), 8, lanes);
    for (i = 8; i + 8 <= leaf_size_; i += 8) {
      for (uint64_t lane = 0; lane < 8; ++lane) lanes[lane] += leaf_[i + lane];
    }
    sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  }
  for (; i < leaf_size_; ++i) sum += leaf_[i];
  for (; !halves_.empty() && halves_.back().left_is_known; halves_.pop_back()) sum = halves_.back().left + sum;
  if (halves_.empty()) {
    sum_ = sum;
    leaf_size_ = 0;
    return;
  }
  halves_.back().left = sum;
  halves_.back().left_is_known = true;
  Descend(halves_.back().right);
}

// numpy adds to 0, which -0 alone shows.
float NumpySum::Finish() const { return 0.0f + sum_; }

}  // namespace sluice::arithmetic
