#include "verify/difference.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/task_vectors.h"

namespace sluice::verify {

bool SameValues(const float* x, const float* y, uint64_t count) {
  if (std::memcmp(x, y, count * sizeof(float)) == 0) return true;
  for (uint64_t i = 0; i < count; ++i) {
    if (std::bit_cast<uint32_t>(x[i]) != std::bit_cast<uint32_t>(y[i]) && !(std::isnan(x[i]) && std::isnan(y[i]))) {
      return false;
    }
  }
  return true;
}

bool IsRounding(quant::Encoding encoding, const float* values, const uint8_t* stored, const float* decoded,
                uint64_t count, uint8_t* bytes, float* again) {
  encoding->encode(values, count, bytes);
  if (std::memcmp(bytes, stored, encoding.BytesOf(count)) == 0) return true;
  encoding->decode(bytes, count, again);  // NaN may carry another payload
  return SameValues(again, decoded, count);
}

bool WithinTolerance(const float* a, const float* b, uint64_t count, double atol, double rtol) {
  for (uint64_t i = 0; i < count; ++i) {
    const double x = a[i], y = b[i];
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    if (!(std::abs(x - y) <= atol + rtol * std::abs(y)) || std::isinf(y)) return false;
  }
  return true;
}

uint64_t FirstDifferent(const float* a, const float* b, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    if (a[i] != b[i] && !(std::isnan(a[i]) && std::isnan(b[i]))) return i;
  }
  return count;
}

DifferenceSums DifferenceSums::Of(const kernels::DifferenceLanes& block) {
  return {.a_squared = kernels::SumLanes(block.a_squared),
          .b_squared = kernels::SumLanes(block.b_squared),
          .product = kernels::SumLanes(block.product),
          .difference_squared = kernels::SumLanes(block.difference_squared),
          .max_abs = *std::ranges::max_element(block.max_abs),
          .changed = block.changed,
          .nan_a = block.nan_a,
          .nan_b = block.nan_b,
          .inf_a = block.inf_a,
          .inf_b = block.inf_b};
}

void DifferenceSums::Add(const DifferenceSums& next) {
  a_squared += next.a_squared;
  b_squared += next.b_squared;
  product += next.product;
  difference_squared += next.difference_squared;
  squared_binades += next.squared_binades;
  max_abs = std::max(max_abs, next.max_abs);
  changed += next.changed;
  nan_a += next.nan_a;
  nan_b += next.nan_b;
  inf_a += next.inf_a;
  inf_b += next.inf_b;
}

DifferenceStats DifferenceSums::ToStats(uint64_t elements) const {
  DifferenceStats stats{.elements = elements,
                        .changed = changed,
                        .nan_a = nan_a,
                        .nan_b = nan_b,
                        .inf_a = inf_a,
                        .inf_b = inf_b,
                        .max_abs = max_abs};
  const double a = std::sqrt(a_squared), b = std::sqrt(b_squared);
  if (difference_squared > 0) {
    stats.relative_l2 = a > 0 ? std::sqrt(difference_squared) / a : std::numeric_limits<double>::infinity();
  }
  if (a == 0 && b == 0) {
    stats.cosine = 1;
  } else {
    stats.cosine = a > 0 && b > 0 ? std::clamp(product / a / b, -1.0, 1.0) : 0;
  }
  return stats;
}

}  // namespace sluice::verify
