// Sums that the libraries under mergekit make in one chain, from a tensor's first element to its last: with one thread
// and 256-bit vectors. Unlike torch.sum's tree (torch_sum.h) no part of one can be made without what comes before it,
// so numbers must be given in order; how many at a time does not matter.
//
// The orders were found by experiment (numbers that cancel out all but what is added after them) and are compared with
// the libraries' own results in the test: torch 2.15, numpy 2.4 with OpenBLAS 0.3.31's Haswell kernels, and MKL 2024.2
// as it treats AMD's processors (Intel's have other kernels, of other orders).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "arithmetic/working_type.h"

namespace sluice::arithmetic {

// Cuts what comes in pieces of any length into groups of kGroup; what is left over is kept.
template <uint64_t kGroup>
class Groups {
 public:
  // body(x, y): kGroup numbers of each.
  template <class Body>
  void Add(const float* x, const float* y, uint64_t count, const Body& body) {
    while (count > 0) {
      if (kept_ == 0 && count >= kGroup) {
        body(x, y);
        x += kGroup, y += kGroup, count -= kGroup;
        continue;
      }
      x_[kept_] = *x++;
      y_[kept_] = *y++;
      --count;
      if (++kept_ < kGroup) continue;
      kept_ = 0;
      body(x_.data(), y_.data());
    }
  }
  const float* x() const { return x_.data(); }
  const float* y() const { return y_.data(); }
  uint64_t kept() const { return kept_; }

 private:
  std::array<float, kGroup> x_, y_;
  uint64_t kept_ = 0;
};

// torch.norm along the last dimension of a tensor, and of whole tensors: 8 lanes (bf16: the second half of a vector of
// 16 after the first), lanes and leftover elements in order, the square root, one rounding to the type. f16: no lanes.
class TorchNorm {
 public:
  explicit TorchNorm(WorkingType type) : type_(type) {}
  void Add(const float* x, uint64_t count);
  float Finish() const;

 private:
  WorkingType type_;
  std::array<float, 8> lanes_ = {};
  Groups<8> of_f32_;
  Groups<16> of_bf16_;
};

// Of an array.
float TorchNormOf(WorkingType type, std::span<const float> values);

// torch.dot. f32: MKL's, four vectors of four, no fused steps; not rounded. bf16, f16: torch's own, eight vectors of
// eight in f32, then vectors of sixteen in halves, then numbers; rounded to the type.
class TorchDot {
 public:
  explicit TorchDot(WorkingType type) : type_(type) {}
  void Add(const float* x, const float* y, uint64_t count);
  float Finish() const;

 private:
  float FinishF32() const;
  float FinishHalf() const;

  WorkingType type_;
  std::array<float, 64> lanes_ = {};
  Groups<16> of_f32_;
  Groups<64> of_half_;
};

// numpy.dot of f32: OpenBLAS's, four vectors of eight in fused steps; what is left over, less than 32, in f64.
class OpenBlasDot {
 public:
  void Add(const float* x, const float* y, uint64_t count);
  float Finish() const;

 private:
  std::array<float, 32> lanes_ = {};
  Groups<32> groups_;
};

// numpy.sum of f32: halves of halves (cut at multiples of eight) down to 128 numbers at most, which eight lanes add up.
class NumpySum {
 public:
  explicit NumpySum(uint64_t num_elements);
  void Add(const float* x, uint64_t count);
  float Finish() const;

 private:
  struct Half {  // of a sum whose left half is under way, or known
    uint64_t right;
    float left = 0;
    bool left_is_known = false;
  };
  void Descend(uint64_t count);
  void EndLeaf();

  std::vector<Half> halves_;
  std::array<float, 128> leaf_;
  uint64_t leaf_size_ = 0, in_leaf_ = 0;
  float sum_ = 0;
};

}  // namespace sluice::arithmetic
