#include "infer/pass_groups.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "base/units.h"
#include "graph/row_range.h"
#include "infer/layer_weights.h"
#include "kernels/logit_panels.h"

namespace sluice::infer {
namespace {

using kernels::kLogitPanelRows;

// Rows of the embedding that are fetched together where one of them is wanted. A multiple of 32 elements whatever the
// width, so that computed tensors can be cut there (graph/node.h).
constexpr uint64_t kEmbeddingPanelRows = 64;

// The tensor must be there, of this shape.
Result<void> CheckTensor(const checkpoint::Checkpoint& checkpoint, const std::string& name,
                         std::vector<uint64_t> shape) {
  const auto index = checkpoint.tensors().Find(name);
  if (!index) {
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{}: the checkpoint has no such tensor, and its config asks for one of shape {}", name,
                            checkpoint::ShapeText(shape)));
  }
  const checkpoint::TensorInfo info = checkpoint.tensors()[*index];
  if (!std::ranges::equal(info.shape, shape)) {
    return Fail(ErrorCode::kCorrupt, fmt::format("{}: has shape {}, and the config asks for {}", name,
                                                 checkpoint::ShapeText(info.shape), checkpoint::ShapeText(shape)));
  }
  auto format = FormatOf(info.encoding);
  if (!format) return Fail(std::move(format.error()).In(name));
  return {};
}

Result<void> CheckProduct(const checkpoint::Checkpoint& checkpoint, const ProductSpec& product) {
  if (!product) return {};
  SLUICE_TRY(CheckTensor(checkpoint, product.weight, {product.out, product.in}));
  if (!product.bias.empty()) SLUICE_TRY(CheckTensor(checkpoint, product.bias, {product.out}));
  return {};
}

Result<void> CheckNorm(const checkpoint::Checkpoint& checkpoint, const NormSpec& norm) {
  if (norm) SLUICE_TRY(CheckTensor(checkpoint, norm.weight, {norm.size}));
  return {};
}

}  // namespace

Result<void> CheckTensors(const checkpoint::Checkpoint& checkpoint, const ModelSpec& spec) {
  SLUICE_TRY(CheckTensor(checkpoint, spec.embedding, {spec.vocab, spec.hidden}));
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    for (const ProductSpec* product : {&attention.q, &attention.k, &attention.v, &attention.qkv, &attention.o,
                                       &layer.mlp.gate, &layer.mlp.up, &layer.mlp.gate_up, &layer.mlp.down}) {
      SLUICE_TRY(CheckProduct(checkpoint, *product));
    }
    for (const NormSpec* norm : {&layer.input_norm, &layer.post_attention_norm, &layer.mlp_norm, &layer.post_mlp_norm,
                                 &attention.q_norm, &attention.k_norm}) {
      SLUICE_TRY(CheckNorm(checkpoint, *norm));
    }
  }
  SLUICE_TRY(CheckNorm(checkpoint, spec.final_norm));
  return CheckProduct(checkpoint, spec.head);
}

PassGroups::PassGroups(std::vector<Model> models, bool with_heads) : models_(std::move(models)) {
  size_t most_layers = 0;
  for (const Model& model : models_) most_layers = std::max(most_layers, model.spec->layers.size());
  for (uint32_t layer = 0; layer < most_layers; ++layer) {
    for (uint32_t model = 0; model < models_.size(); ++model) {
      const auto& [checkpoint, spec] = models_[model];
      if (layer >= spec->layers.size()) continue;
      const auto begin = static_cast<uint32_t>(groups_.size());
      for (const std::string& name : TensorsOf(spec->layers[layer])) {
        groups_.push_back({checkpoint, *checkpoint->tensors().Find(name)});
      }
      steps_.push_back({PassStep::Kind::kLayer, model, layer, begin, static_cast<uint32_t>(groups_.size())});
    }
  }
  if (with_heads) AddHeads();
  while (first_head_ < steps_.size() && steps_[first_head_].kind != PassStep::Kind::kHead) ++first_head_;
}

void PassGroups::AddHeads() {
  const auto add = [&](PassStep::Kind kind, uint32_t model, uint32_t place, const std::string& name, uint64_t first_row,
                       uint64_t num_rows) {
    const checkpoint::Checkpoint* checkpoint = models_[model].checkpoint;
    const auto begin = static_cast<uint32_t>(groups_.size());
    groups_.push_back({checkpoint, *checkpoint->tensors().Find(name), first_row, num_rows});
    steps_.push_back({kind, model, place, begin, begin + 1});
  };
  uint64_t most_vocab = 0;
  for (uint32_t model = 0; model < models_.size(); ++model) {
    most_vocab = std::max(most_vocab, models_[model].spec->vocab);
    add(PassStep::Kind::kFinalNorm, model, 0, models_[model].spec->final_norm.weight, 0, 0);
  }
  for (uint64_t first_id = 0; first_id < most_vocab; first_id += kLogitPanelRows) {
    for (uint32_t model = 0; model < models_.size(); ++model) {
      const ModelSpec& spec = *models_[model].spec;
      if (first_id >= spec.vocab) continue;
      add(PassStep::Kind::kHead, model, static_cast<uint32_t>(first_id / kLogitPanelRows), spec.head.weight, first_id,
          std::min(kLogitPanelRows, spec.vocab - first_id));
    }
  }
}

PassStep PassGroups::AddEmbedding(size_t model, const std::vector<uint32_t>& ids) {
  const auto& [checkpoint, spec] = models_[model];
  const size_t tensor = *checkpoint->tensors().Find(spec->embedding);
  const auto first_group = static_cast<uint32_t>(groups_.size());
  // Runs of neighbouring panels that an id wants, in pieces of a bounded size.
  uint64_t begin = 0, end = 0;
  const auto add_run = [&] {
    if (end > begin) groups_.push_back({checkpoint, tensor, begin, std::min(end, spec->vocab) - begin});
  };
  for (const uint32_t id : ids) {
    const uint64_t panel = RoundDown(id, kEmbeddingPanelRows);
    if (panel + kEmbeddingPanelRows == end) continue;
    if (panel != end || end - begin >= kLogitPanelRows) {
      add_run();
      begin = panel;
    }
    end = panel + kEmbeddingPanelRows;
  }
  add_run();
  return {PassStep::Kind::kEmbedding, static_cast<uint32_t>(model), 0, first_group,
          static_cast<uint32_t>(groups_.size())};
}

uint64_t PassGroups::num_rows(size_t i) const {
  return groups_[i].num_rows > 0 ? groups_[i].num_rows : tensor(i).shape[0];
}

uint64_t PassGroups::GroupBytes(size_t i) const {
  const checkpoint::TensorInfo info = tensor(i);
  return info.shape.size() == 2 ? info.encoding.BytesOf(num_rows(i) * info.shape[1]) : info.size_bytes();
}

uint64_t PassGroups::SizeBytes(const PassStep& step) const {
  uint64_t bytes = 0;
  for (uint32_t group = step.begin; group < step.end; ++group) bytes += GroupBytes(group);
  return bytes;
}

uint64_t PassGroups::LeasedBytes(const PassStep& step, uint64_t tile_bytes) const {
  uint64_t bytes = 0;
  for (uint32_t group = step.begin; group < step.end; ++group) {
    const uint64_t size_bytes = GroupBytes(group);
    bytes += size_bytes < tile_bytes ? size_bytes + 8 * kKiB : RoundUp(size_bytes, tile_bytes) + tile_bytes;
  }
  return RoundUp(bytes, tile_bytes);  // steps share no slot
}

std::string PassGroups::name(size_t i) const {
  return fmt::format("{}: {}", groups_[i].checkpoint->ref(), tensor(i).name);
}

void PassGroups::Build(size_t i, graph::Graph* graph, std::vector<const graph::Node*>* outs) const {
  const Group& group = groups_[i];
  const graph::Node* node = group.checkpoint->MakeNode(group.tensor, graph);
  if (group.num_rows > 0) {
    node = graph->Add(std::make_unique<graph::RowGatherNode>(
        fmt::format("range {} {}", group.first_row, group.num_rows), node, tensor(i).shape[1],
        std::make_shared<graph::RowRange>(group.first_row, group.num_rows)));
  }
  outs->push_back(node);
}

uint64_t PassGroups::granule(size_t i) const {
  const checkpoint::TensorInfo info = tensor(i);
  return info.shape.size() == 2 && info.shape[1] % 32 == 0 ? info.shape[1] : 0;
}

}  // namespace sluice::infer
