// LayerWeights: a layer's tensors as the transformer takes them, in memory that a stream leased, until they are let go.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/catalogue.h"
#include "infer/model_spec.h"
#include "infer/row_assembler.h"
#include "kernels/product.h"
#include "stream/stream.h"

namespace sluice::infer {

// y = W x + b; rows as stored.
struct LoadedProduct {
  std::span<const uint8_t* const> rows;
  uint64_t columns = 0;
  kernels::WeightFormat format;
  std::span<const float> bias;  // empty: none
};

struct LayerWeights {
  LoadedProduct q, k, v, o, gate, up, down;
  // Empty where the layer has none.
  std::span<const float> input_norm, post_attention_norm, mlp_norm, post_mlp_norm, q_norm, k_norm;
};

// How the products read an encoding. kUnsupported where its numbers cannot be decoded.
Result<kernels::WeightFormat> FormatOf(quant::Encoding encoding);

// Tensors by name, as they come out of a stream.
class LoadedTensors {
 public:
  // A tensor that will come: of rank 2 it, or so many of its rows, is kept as it lies in the leases, of rank 1 it is
  // copied to f32.
  void Expect(const checkpoint::TensorInfo& tensor, uint64_t num_rows);
  // The next piece of a tensor; what it lies in is to be kept.
  void Add(const std::string& name, const stream::View& view);
  void Keep(stream::Lease lease);  // for as long as this lives

  // Both must have come whole.
  const RowAssembler& matrix(const std::string& name) const;
  std::span<const float> vector(const std::string& name) const;  // empty for an empty name

  // The first tensor, by name, that has a NaN; empty: none. Decodes all: slow.
  std::string FirstWithNan() const;

 private:
  struct Vector {
    quant::Encoding encoding;
    std::vector<float> values;
  };
  std::map<std::string, RowAssembler> matrices_;
  std::map<std::string, Vector> vectors_;
  std::vector<stream::Lease> leases_;
};

Result<LayerWeights> WeightsOf(const LayerSpec& layer, const LoadedTensors& tensors);
Result<LoadedProduct> ProductOf(const ProductSpec& spec, const LoadedTensors& tensors);

}  // namespace sluice::infer
