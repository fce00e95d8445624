#include "merge/torch_norm.h"

#include <algorithm>
#include <cmath>

namespace sluice::merge {
namespace {

constexpr uint64_t kLanes = 8;

uint64_t LanesEnd(WorkingType type, uint64_t num_elements) {
  return type == WorkingType::kF16 ? 0 : num_elements - num_elements % LanesOf(type);
}

}  // namespace

TorchNorm::TorchNorm(WorkingType type, uint64_t num_elements)
    : type_(type), num_elements_(num_elements), lanes_end_(LanesEnd(type, num_elements)) {}

void TorchNorm::Add(const float* values, uint64_t count) {
  const uint64_t end = next_ + count;
  SLUICE_CHECK(end <= num_elements_);
  for (; next_ < std::min(end, lanes_end_) && next_ % kLanes != 0; ++values) AddOne(*values);
  float lanes[kLanes];
  std::copy_n(lanes_, kLanes, lanes);
  for (; next_ + kLanes <= std::min(end, lanes_end_); next_ += kLanes, values += kLanes) {
    for (uint64_t i = 0; i < kLanes; ++i) lanes[i] += values[i] * values[i];
  }
  std::copy_n(lanes, kLanes, lanes_);
  for (; next_ < end; ++values) AddOne(*values);
}

void TorchNorm::AddOne(float value) {
  const uint64_t at = next_++;
  if (at < lanes_end_) {
    lanes_[at % kLanes] += value * value;
    return;
  }
  if (at == lanes_end_) {
    sum_ = lanes_[0];
    for (uint64_t i = 1; i < kLanes; ++i) sum_ += lanes_[i];
  }
  // Squares of halves are exact in f32, so that only f32 shows how they are added.
  const uint64_t fours_end = lanes_end_ + (num_elements_ - lanes_end_) / 4 * 4;
  sum_ = type_ == WorkingType::kF32 && at >= fours_end ? std::fma(value, value, sum_) : sum_ + value * value;
}

float TorchNorm::Finish() const {
  SLUICE_CHECK(next_ == num_elements_);
  float sum = sum_;
  if (next_ == lanes_end_) {
    sum = lanes_[0];
    for (uint64_t i = 1; i < kLanes; ++i) sum += lanes_[i];
  }
  return RoundTo(type_, std::sqrt(sum));
}

float TorchNormOf(WorkingType type, std::span<const float> values) {
  TorchNorm norm(type, values.size());
  norm.Add(values.data(), values.size());
  return norm.Finish();
}

}  // namespace sluice::merge
