// How tensors of a GGUF differ from those of a folder: rows of Q and K in another order, norms with 1 added.
#pragma once

#include <cstdint>

#include <fmt/format.h>

#include "graph/graph.h"

namespace sluice::checkpoint {

// llama.cpp's converter stores a head's rows as reshape(2, head_dim / 2) transposed, so that the two numbers that
// rotary embedding turns together are neighbours. Row r of Hugging Face's tensor is row SourceRow(r) of GGUF's.
class LlamaHeadRows final : public graph::RowMap {
 public:
  LlamaHeadRows(uint64_t num_heads, uint64_t head_dim) : num_heads_(num_heads), head_dim_(head_dim) {}
  uint64_t SourceRow(uint64_t row) const override {
    const uint64_t head = row / head_dim_, in_head = row % head_dim_, half = head_dim_ / 2;
    return head * head_dim_ + in_head % half * 2 + in_head / half;
  }
  uint64_t num_rows() const override { return num_heads_ * head_dim_; }

 private:
  uint64_t num_heads_, head_dim_;
};

// The other way round: row r of GGUF's tensor is row SourceRow(r) of Hugging Face's.
class GgufHeadRows final : public graph::RowMap {
 public:
  GgufHeadRows(uint64_t num_heads, uint64_t head_dim) : num_heads_(num_heads), head_dim_(head_dim) {}
  uint64_t SourceRow(uint64_t row) const override {
    const uint64_t head = row / head_dim_, in_head = row % head_dim_, half = head_dim_ / 2;
    return head * head_dim_ + in_head % 2 * half + in_head / 2;
  }
  uint64_t num_rows() const override { return num_heads_ * head_dim_; }

 private:
  uint64_t num_heads_, head_dim_;
};

// x + addend, f32: Gemma's norms multiply by 1 + w, and llama.cpp's converter adds the 1. Taking it off again is exact
// for every w that is a bfloat16 of 2^-16 or more, or 0: the converter's sum is.
class AddNode final : public graph::Node {
 public:
  AddNode(const graph::Node* input, float addend)
      : Node(fmt::format("add {}", addend), quant::F32(), input->num_elements(), {input}), addend_(addend) {}
  void Compute(const graph::ComputeArgs& args) const override {
    auto* out = reinterpret_cast<float*>(args.out);
    inputs()[0]->encoding()->decode(args.in[0].data, args.range.size(), out);
    for (uint64_t i = 0; i < args.range.size(); ++i) out[i] += addend_;
  }
  double NanosecondsPerElement() const override { return 0.2; }

 private:
  float addend_;
};

}  // namespace sluice::checkpoint
