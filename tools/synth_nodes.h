// Synthetic weights as nodes and checkpoints: seeded values out of nothing, and a seeded update of a stored model.
//
// Any element is a function of (seed, tensor's name, index), in integers and single f32 operations: the same bytes on
// every machine, at any tile size and thread count.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/counter_rng.h"
#include "base/units.h"
#include "checkpoint/checkpoint.h"
#include "graph/graph.h"
#include "kernels/sha256.h"
#include "kernels/task_vectors.h"

namespace sluice::tools {

// Draws numbers close to the standard normal: the sum of four 16-bit uniforms, scaled (never beyond 3.5 sigma).
class NormalDraws {
 public:
  NormalDraws(uint64_t seed, std::string_view tensor) {
    kernels::Sha256 sha;
    sha.UpdateLengthPrefixed("sluice synthetic weights 1");
    sha.UpdateU64(seed);
    sha.UpdateLengthPrefixed(tensor);
    const kernels::Hash256 hash = sha.Finish();
    std::memcpy(&first_, hash.data(), sizeof first_);
    std::memcpy(&second_, hash.data() + sizeof first_, sizeof second_);
  }
  static constexpr uint64_t ScratchBytes(uint64_t elements) { return 2 * RoundUp(elements, 32) * sizeof(uint32_t); }

  // Draws for `range`, which begins at a multiple of 32; Value(i) is that of element range.begin + i.
  void Draw(graph::Range range, uint8_t* scratch) {
    words_ = reinterpret_cast<uint32_t*>(scratch);
    stride_ = RoundUp(range.size(), 32);
    kernels::RandomMaskWords(first_, range.begin, range.size(), words_);
    kernels::RandomMaskWords(second_, range.begin, range.size(), words_ + stride_);
  }
  float Value(uint64_t i) const {
    const uint32_t a = words_[i], b = words_[stride_ + i];
    const auto sum = static_cast<int32_t>((a & 0xFFFF) + (a >> 16) + (b & 0xFFFF) + (b >> 16)) - 2 * 0xFFFF;
    return static_cast<float>(sum) * kPerSigma;  // the sum has 19 bits: exact in f32
  }

 private:
  static constexpr float kPerSigma = 1.0f / 37837.0f;  // sigma of the sum: 65536 / sqrt(3)
  PhiloxKey first_, second_;
  uint32_t* words_ = nullptr;
  uint64_t stride_ = 0;
};

// mean + sigma * normal, f32, out of nothing.
class NoiseNode final : public graph::Node {
 public:
  NoiseNode(uint64_t seed, std::string name, float mean, float sigma, uint64_t num_elements)
      : Node(fmt::format("synthetic {} {} {} {}", seed, name, mean, sigma), quant::F32(), num_elements, {}),
        seed_(seed),
        name_(std::move(name)),
        mean_(mean),
        sigma_(sigma) {}
  uint64_t ScratchBytes() const override { return NormalDraws::ScratchBytes(graph::kPieceElements); }
  double NanosecondsPerElement() const override { return 3; }
  void Compute(const graph::ComputeArgs& args) const override {
    NormalDraws draws(seed_, name_);
    draws.Draw(args.range, args.scratch);
    auto* out = reinterpret_cast<float*>(args.out);
    for (uint64_t i = 0; i < args.range.size(); ++i) out[i] = mean_ + sigma_ * draws.Value(i);
  }

 private:
  uint64_t seed_;
  std::string name_;
  float mean_, sigma_;
};

// Root mean square of a tensor's finite elements; f64, a slot per block, added in index order.
class RootMeanSquareFact final : public graph::Fact {
 public:
  explicit RootMeanSquareFact(const graph::Node* f32_input) : Fact("root mean square", {f32_input}) {}
  uint64_t StateBytes(int) const override { return CeilDiv(num_elements(), graph::kBlockElements) * sizeof(double); }
  double NanosecondsPerElement() const override { return 1; }
  std::unique_ptr<graph::Fold> Begin(int) const override { return std::make_unique<Sum>(num_elements()); }

 private:
  class Sum final : public graph::Fold {
   public:
    explicit Sum(uint64_t num_elements)
        : num_elements_(num_elements), blocks_(CeilDiv(num_elements, graph::kBlockElements)) {}
    void Add(int, graph::Range piece, std::span<const graph::View> in) override {
      double sum = blocks_[piece.begin / graph::kBlockElements];
      for (uint64_t i = 0; i < piece.size(); ++i) {
        float x;
        std::memcpy(&x, in[0].data + i * sizeof x, sizeof x);
        if (std::isfinite(x)) sum += static_cast<double>(x) * static_cast<double>(x);
      }
      blocks_[piece.begin / graph::kBlockElements] = sum;
    }
    bool Finish(graph::FactValue* value) override {
      double sum = 0;
      for (double block : blocks_) sum += block;
      *value = {num_elements_ == 0 ? 0 : std::sqrt(sum / static_cast<double>(num_elements_))};
      return true;
    }

   private:
    uint64_t num_elements_;
    std::vector<double> blocks_;
  };
};

// x + scale * rms(x) * normal, f32: a stand-in for training.
class UpdateNode final : public graph::Node {
 public:
  UpdateNode(uint64_t seed, std::string name, float scale, const graph::Node* f32_input)
      : Node(fmt::format("synthetic update {} {} {}", seed, name, scale), quant::F32(), f32_input->num_elements(),
             {f32_input}),
        seed_(seed),
        name_(std::move(name)),
        scale_(scale) {
    AddFact(std::make_unique<RootMeanSquareFact>(f32_input));
  }
  uint64_t ScratchBytes() const override { return NormalDraws::ScratchBytes(graph::kPieceElements); }
  double NanosecondsPerElement() const override { return 3; }
  void Compute(const graph::ComputeArgs& args) const override {
    NormalDraws draws(seed_, name_);
    draws.Draw(args.range, args.scratch);
    const float sigma = scale_ * static_cast<float>((*args.facts[0])[0]);
    auto* out = reinterpret_cast<float*>(args.out);
    for (uint64_t i = 0; i < args.range.size(); ++i) {
      float x;
      std::memcpy(&x, args.in[0].data + i * sizeof x, sizeof x);
      out[i] = x + sigma * draws.Value(i);
    }
  }

 private:
  uint64_t seed_;
  std::string name_;
  float scale_;
};

}  // namespace sluice::tools
