#include "infer/layer_weights.h"

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/compare.h"

namespace sluice::infer {
namespace {

// Rows [begin, begin + count) of a product that several share.
LoadedProduct Slice(const LoadedProduct& whole, uint64_t begin, uint64_t count) {
  LoadedProduct part = whole;
  part.rows = whole.rows.subspan(begin, count);
  if (!whole.bias.empty()) part.bias = whole.bias.subspan(begin, count);
  return part;
}

}  // namespace

Result<kernels::WeightFormat> FormatOf(quant::Encoding encoding) {
  if (encoding == quant::F32()) return kernels::WeightFormat{};
  if (!encoding->is_float || encoding->decode == nullptr) {
    return Fail(ErrorCode::kUnsupported,
                fmt::format("{} weights cannot be run: sluice has no decoder for them", encoding.name()));
  }
  return kernels::WeightFormat{encoding->decode, encoding->block_elements, encoding->block_bytes};
}

void LoadedTensors::Expect(const checkpoint::TensorInfo& tensor, uint64_t num_rows) {
  const std::string name(tensor.name);
  if (tensor.shape.size() == 2) {
    matrices_.emplace(name, RowAssembler(tensor.encoding, num_rows, tensor.shape[1]));
  } else {
    Vector vector{tensor.encoding, {}};
    vector.values.reserve(tensor.num_elements);
    vectors_.emplace(name, std::move(vector));
  }
}

void LoadedTensors::Add(const std::string& name, const stream::View& view) {
  if (const auto matrix = matrices_.find(name); matrix != matrices_.end()) return matrix->second.Add(view);
  Vector& vector = vectors_.at(name);
  SLUICE_CHECK(view.range.begin == vector.values.size());
  vector.values.resize(view.range.end);
  vector.encoding->decode(view.data, view.range.size(), vector.values.data() + view.range.begin);
}

void LoadedTensors::Keep(stream::Lease lease) { leases_.push_back(std::move(lease)); }

const RowAssembler& LoadedTensors::matrix(const std::string& name) const {
  const RowAssembler& matrix = matrices_.at(name);
  SLUICE_CHECK(matrix.complete());
  return matrix;
}

std::span<const float> LoadedTensors::vector(const std::string& name) const {
  if (name.empty()) return {};
  return vectors_.at(name).values;
}

std::string LoadedTensors::FirstWithNan() const {
  std::map<std::string, bool> with_nan;
  for (const auto& [name, vector] : vectors_) {
    with_nan[name] = kernels::CountNans(vector.values.data(), vector.values.size()) > 0;
  }
  std::vector<float> row;
  for (const auto& [name, matrix] : matrices_) {
    row.resize(matrix.columns());
    for (const uint8_t* bytes : matrix.rows()) {
      matrix.encoding()->decode(bytes, row.size(), row.data());
      if (kernels::CountNans(row.data(), row.size()) == 0) continue;
      with_nan[name] = true;
      break;
    }
  }
  for (const auto& [name, has_nan] : with_nan) {
    if (has_nan) return name;
  }
  return {};
}

Result<LoadedProduct> ProductOf(const ProductSpec& spec, const LoadedTensors& tensors) {
  LoadedProduct product;
  if (!spec) return product;
  const RowAssembler& matrix = tensors.matrix(spec.weight);
  product.rows = matrix.rows();
  product.columns = matrix.columns();
  SLUICE_CHECK(product.rows.size() == spec.out && product.columns == spec.in);
  SLUICE_ASSIGN(product.format, FormatOf(matrix.encoding()));
  product.bias = tensors.vector(spec.bias);
  SLUICE_CHECK(product.bias.empty() || product.bias.size() == spec.out);
  return product;
}

Result<LayerWeights> WeightsOf(const LayerSpec& layer, const LoadedTensors& tensors) {
  LayerWeights weights;
  const AttentionSpec& attention = layer.attention;
  if (attention.qkv) {
    SLUICE_ASSIGN(const LoadedProduct qkv, ProductOf(attention.qkv, tensors));
    const uint64_t queries = attention.heads * attention.head_dim, keys = attention.kv_heads * attention.head_dim;
    weights.q = Slice(qkv, 0, queries);
    weights.k = Slice(qkv, queries, keys);
    weights.v = Slice(qkv, queries + keys, keys);
  } else {
    SLUICE_ASSIGN(weights.q, ProductOf(attention.q, tensors));
    SLUICE_ASSIGN(weights.k, ProductOf(attention.k, tensors));
    SLUICE_ASSIGN(weights.v, ProductOf(attention.v, tensors));
  }
  SLUICE_ASSIGN(weights.o, ProductOf(attention.o, tensors));
  if (layer.mlp.gate_up) {
    SLUICE_ASSIGN(const LoadedProduct both, ProductOf(layer.mlp.gate_up, tensors));
    weights.gate = Slice(both, 0, layer.mlp.ffn);
    weights.up = Slice(both, layer.mlp.ffn, layer.mlp.ffn);
  } else {
    SLUICE_ASSIGN(weights.gate, ProductOf(layer.mlp.gate, tensors));
    SLUICE_ASSIGN(weights.up, ProductOf(layer.mlp.up, tensors));
  }
  SLUICE_ASSIGN(weights.down, ProductOf(layer.mlp.down, tensors));
  weights.input_norm = tensors.vector(layer.input_norm.weight);
  weights.post_attention_norm = tensors.vector(layer.post_attention_norm.weight);
  weights.mlp_norm = tensors.vector(layer.mlp_norm.weight);
  weights.post_mlp_norm = tensors.vector(layer.post_mlp_norm.weight);
  weights.q_norm = tensors.vector(attention.q_norm.weight);
  weights.k_norm = tensors.vector(attention.k_norm.weight);
  return weights;
}

}  // namespace sluice::infer
