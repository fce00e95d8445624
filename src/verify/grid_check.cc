#include "verify/grid_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace sluice::verify {
namespace {

constexpr double kEnoughBits = 40;
constexpr int kMostCodes = 24;  // half precision scales on either side of a quotient that rounding can leave

// x = step t, |t| <= levels, with one number at `levels` (the reference quantisers' way) or one less (after a search
// for the best scale); or x = step t + offset, 0 <= t <= levels, with numbers at both ends.
struct Grid {
  int levels;
  bool has_offset;
};
constexpr Grid kGridLevels[kGrids.size()] = {{8, false}, {15, true}, {16, false}, {31, true}, {127, false}};

class Block {
 public:
  Block(quant::Encoding stored, const float* values) : stored_(stored), values_(values) {}

  // `numbers` as they would be read back from storage.
  void Round(float* numbers, uint64_t count) const {
    if (stored_ == quant::F32()) return;
    uint8_t bytes[2 * 64];
    stored_->encode(numbers, count, bytes);
    stored_->decode(bytes, count, numbers);
  }

  // Scales of half precision, above 0, of which scale * factor + offset is `value` when it is stored.
  std::vector<float> Scales(float value, float factor, float offset) const {
    std::vector<float> scales;
    const float quotient = (value - offset) / factor;
    if (!(std::fabs(quotient) < 65504.0f)) return scales;
    uint8_t bytes[2];
    quant::F16()->encode(&quotient, 1, bytes);
    const int middle = bytes[0] | (bytes[1] & 0x7F) << 8;
    float codes[2 * kMostCodes], rounded[2 * kMostCodes];
    int count = 0;
    for (int code = std::max(1, middle - kMostCodes); code < std::min(0x7C00, middle + kMostCodes); ++code) {
      const uint8_t half[2] = {static_cast<uint8_t>(code), static_cast<uint8_t>(code >> 8)};
      quant::F16()->decode(half, 1, &codes[count]);
      rounded[count] = codes[count] * factor + offset;
      ++count;
    }
    Round(rounded, static_cast<uint64_t>(count));
    for (int i = 0; i < count; ++i) {
      if (rounded[i] == value) scales.push_back(codes[i]);
    }
    return scales;
  }

  // Numbers of half precision that are `value` when they are stored.
  std::vector<float> Offsets(float value) const {
    std::vector<float> offsets = Scales(std::fabs(value), 1, 0);
    if (value < 0) {
      for (float& offset : offsets) offset = -offset;
    }
    if (value == 0) offsets = {0.0f};
    return offsets;
  }

  bool Fits(float step, float offset, int least, int most) const {
    float numbers[kGridElements];
    for (uint64_t i = 0; i < kGridElements; ++i) {
      const float t = std::nearbyint((values_[i] - offset) / step);
      if (!(t >= static_cast<float>(least) && t <= static_cast<float>(most))) return false;
      const float product = step * t;
      numbers[i] = product + offset;
    }
    Round(numbers, kGridElements);
    return std::equal(numbers, numbers + kGridElements, values_);
  }

  // -log2 of the probability that numbers of random digits, in the binades where these are, lie on a grid of this step.
  // Numbers that are there twice, zeros and the `given` ones tell nothing.
  double Bits(float step, float given, float also_given) const {
    float distinct[kGridElements];
    std::copy_n(values_, kGridElements, distinct);
    std::sort(distinct, distinct + kGridElements);
    const float* const end = std::unique(distinct, distinct + kGridElements);
    double bits = 0;
    for (const float* x = distinct; x != end; ++x) {
      if (*x == 0 || *x == given || *x == also_given) continue;
      int exponent = 0;
      std::frexp(*x, &exponent);  // |x| in [2^(exponent - 1), 2^exponent)
      const double binade = std::ldexp(1.0, exponent - 1);
      int digits = stored_->significand_bits - 1;
      if (stored_ == quant::F16()) digits = std::min(digits, exponent - 1 + 24);  // subnormal numbers
      bits += std::max(0.0, digits - std::log2(binade / step + 1));
    }
    return bits;
  }

  GridFinding Find(int index) const {
    const Grid grid = kGridLevels[index];
    const auto [least, most] = std::minmax_element(values_, values_ + kGridElements);
    if (!std::isfinite(*least) || !std::isfinite(*most)) return {};
    if (*least == 0 && *most == 0) return {.fits = 1u << index};
    GridFinding finding;
    const auto note = [&](float step, size_t tried, float given, float also_given) {
      finding.fits = 1u << index;
      if (Bits(step, given, also_given) - std::log2(static_cast<double>(tried)) > kEnoughBits)
        finding.told = 1u << index;
    };
    if (!grid.has_offset) {
      const float largest = std::max(-*least, *most), given = *most == largest ? *most : *least;
      for (const int at : {grid.levels, grid.levels - 1}) {
        const std::vector<float> scales = Scales(largest, static_cast<float>(at), 0);
        for (const float scale : scales) {
          if (!Fits(scale, 0, -grid.levels, grid.levels)) continue;
          note(scale, 2 * 2 * kMostCodes, given, given);
          return finding;
        }
      }
      return finding;
    }
    if (*least == *most) return {.fits = 1u << index};
    for (const float offset : Offsets(*least)) {
      const std::vector<float> scales = Scales(*most, static_cast<float>(grid.levels), offset);
      for (const float scale : scales) {
        if (!Fits(scale, offset, 0, grid.levels)) continue;
        note(scale, size_t{2 * kMostCodes} * 2 * kMostCodes, *least, *most);
        return finding;
      }
    }
    return finding;
  }

 private:
  quant::Encoding stored_;
  const float* values_;
};

}  // namespace

bool CanLieOnGrid(quant::Encoding stored) {
  return stored == quant::F32() || stored == quant::F16() || stored == quant::BF16();
}

GridFinding FindGrids(quant::Encoding stored, const float* values, uint32_t wanted) {
  const Block block(stored, values);
  GridFinding all;
  for (int i = 0; i < static_cast<int>(kGrids.size()); ++i) {
    if ((wanted >> i & 1) == 0) continue;
    const GridFinding one = block.Find(i);
    all.fits |= one.fits;
    all.told |= one.told;
  }
  return all;
}

}  // namespace sluice::verify
