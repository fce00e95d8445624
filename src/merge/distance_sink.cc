#include "merge/distance_sink.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/units.h"
#include "graph/cast_node.h"
#include "kernels/compare.h"

namespace sluice::merge {
namespace {

using graph::kBlockElements;
using graph::kPieceElements;

// What a tensor is measured on, as outs of its group.
struct MeasuredOuts {
  const graph::Node* result = nullptr;
  struct Input {
    const graph::Node* node;
    size_t parent;
    ParameterValues values;
  };
  std::vector<Input> inputs;  // what the others are compared with first; empty where nothing is measured
};

void AddNodesBelow(const graph::Node* node, std::set<const graph::Node*>* nodes) {
  if (!nodes->insert(node).second) return;
  for (const graph::Node* input : node->inputs()) AddNodesBelow(input, nodes);
}

// Before it was widened: a view of stored numbers costs no memory, and decodes to the same ones.
const graph::Node* BeforeCast(const graph::Node* node) {
  const auto* cast = dynamic_cast<const graph::CastNode*>(node);
  return cast == nullptr ? node : cast->inputs()[0];
}

MeasuredOuts OutsOf(const RecipeCheckpoint& recipe, uint32_t tensor, graph::Graph* graph) {
  MeasuredOuts outs;
  outs.result = recipe.MakeNode(tensor, graph);
  std::vector<RecipeCheckpoint::Ingredient> ingredients = recipe.Ingredients(tensor, graph);
  if (ingredients.empty() || outs.result->encoding()->decode == nullptr) return outs;
  auto reference = std::ranges::find(ingredients, true, &RecipeCheckpoint::Ingredient::is_base);
  if (reference == ingredients.end()) {
    reference = std::ranges::find_if(
        ingredients, [&](const auto& ingredient) { return recipe.parents()[ingredient.parent].is_base; });
  }
  if (reference == ingredients.end()) reference = ingredients.begin();
  std::rotate(ingredients.begin(), reference, reference + 1);
  std::set<const graph::Node*> read;
  AddNodesBelow(outs.result, &read);
  for (RecipeCheckpoint::Ingredient& ingredient : ingredients) {
    const graph::Node* node = BeforeCast(ingredient.node);
    if (!read.contains(node)) {
      if (outs.inputs.empty()) return outs;  // nothing to compare with
      continue;
    }
    outs.inputs.push_back({node, ingredient.parent, std::move(ingredient.values)});
  }
  return outs;
}

double Sum(const double (&lanes)[16]) {
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

DistanceSums SumsOf(const kernels::DifferenceLanes& lanes, uint64_t elements) {
  return {Sum(lanes.difference_squared),
          Sum(lanes.a_squared),
          Sum(lanes.b_squared),
          Sum(lanes.product),
          lanes.changed,
          elements};
}

uint64_t CountChanged(const float* a, const float* b, uint64_t count) {
  uint64_t changed = 0;
  for (uint64_t i = 0; i < count; ++i) changed += a[i] != b[i] && (a[i] == a[i] || b[i] == b[i]) ? 1 : 0;
  return changed;
}

std::optional<double> Share(uint64_t part, uint64_t all) {
  if (all == 0) return std::nullopt;
  return static_cast<double>(part) / static_cast<double>(all);
}

}  // namespace

void DistanceSums::Add(const DistanceSums& other) {
  difference_squared += other.difference_squared;
  own_squared += other.own_squared;
  base_squared += other.base_squared;
  product += other.product;
  changed += other.changed;
  elements += other.elements;
}

std::optional<double> DistanceSums::RelativeL2() const {
  if (!(base_squared > 0)) return std::nullopt;
  return std::sqrt(difference_squared / base_squared);
}

std::optional<double> DistanceSums::Cosine() const {
  if (!(base_squared > 0) || !(own_squared > 0)) return std::nullopt;
  return std::clamp(product / (std::sqrt(base_squared) * std::sqrt(own_squared)), -1.0, 1.0);
}

std::optional<double> DistanceSums::Changed() const { return Share(changed, elements); }

void SignPairs::Add(const SignPairs& other) {
  same += other.same;
  all += other.all;
}

std::optional<double> SignPairs::Agreement() const { return Share(same, all); }

std::string IngredientGroups::name(size_t group) const { return std::string(recipe_.tensors()[order_[group]].name); }

void IngredientGroups::Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const {
  const MeasuredOuts measured = OutsOf(recipe_, order_[group], graph);
  outs->push_back(measured.result);
  for (const MeasuredOuts::Input& input : measured.inputs) outs->push_back(input.node);
}

// What is found of a tensor. Blocks are added in order, whatever order their tiles come in.
struct DistanceSink::Tensor {
  TensorDistances distances;
  std::vector<quant::Encoding> encodings;  // of the outs

  struct Block {
    std::vector<DistanceSums> sums;  // of the result, then of each parent
    SignPairs signs;
  };
  std::mutex mutex;
  uint64_t next_block = 0;
  std::map<uint64_t, std::vector<Block>> waiting;  // by the first block

  void Add(uint64_t first_block, std::vector<Block> blocks) {
    const std::lock_guard lock(mutex);
    waiting.emplace(first_block, std::move(blocks));
    for (auto next = waiting.begin(); next != waiting.end() && next->first == next_block; next = waiting.begin()) {
      for (const Block& block : next->second) {
        distances.result.Add(block.sums[0]);
        for (size_t k = 0; k < distances.parents.size(); ++k) distances.parents[k].sums.Add(block.sums[k + 1]);
        distances.signs.Add(block.signs);
      }
      next_block += next->second.size();
      waiting.erase(next);
    }
  }
};

struct DistanceSink::Worker {
  std::vector<float> base = std::vector<float>(kPieceElements), value = base, rounded = base;
  std::vector<uint8_t> bytes = std::vector<uint8_t>(kPieceElements * sizeof(double));
  std::vector<uint32_t> above = std::vector<uint32_t>(kPieceElements), below = above;
  static constexpr uint64_t kBytes = kPieceElements * (3 * sizeof(float) + sizeof(double) + 2 * sizeof(uint32_t));
};

DistanceSink::DistanceSink(const RecipeCheckpoint& recipe, int num_threads) : recipe_(recipe), workers_(num_threads) {}

DistanceSink::~DistanceSink() = default;

std::unique_ptr<stream::GroupSource> DistanceSink::Follow(std::vector<uint32_t> order) {
  order_ = order;
  tensors_.clear();
  tensors_.resize(order_.size());
  return std::make_unique<IngredientGroups>(recipe_, std::move(order));
}

stream::Wants DistanceSink::wants() const {
  constexpr uint64_t kNameBytes = 128, kWaitingBytes = 1 * kMiB;
  const uint64_t parameters = recipe_.recipe().method->parameters.size() * sizeof(double);
  const uint64_t parents = recipe_.parents().size() * (sizeof(TensorDistances::Parent) + parameters + 16);
  stream::Wants wants;
  wants.own_bytes =
      workers_.size() * Worker::kBytes + order_.size() * (sizeof(Tensor) + kNameBytes + parents) + kWaitingBytes;
  wants.nanoseconds_per_byte = 0.8;  // decoding, five sums and signs: 1.6 ns a number of two bytes
  return wants;
}

Result<void> DistanceSink::Take(const stream::Lease& lease, stream::Stream& stream) {
  // One task for the small tensors of a lease; a large tensor's tile is a lease of its own.
  std::vector<stream::Piece> pieces;
  for (const stream::Piece& piece : lease.pieces()) {
    std::unique_ptr<Tensor>& tensor = tensors_[piece.group];
    if (tensor == nullptr) {
      tensor = std::make_unique<Tensor>();
      graph::Graph graph;
      MeasuredOuts outs = OutsOf(recipe_, order_[piece.group], &graph);
      tensor->distances.name = std::string(recipe_.tensors()[order_[piece.group]].name);
      tensor->encodings.push_back(outs.result->encoding());
      for (MeasuredOuts::Input& input : outs.inputs) {
        const bool is_reference = tensor->encodings.size() == 1;
        tensor->encodings.push_back(input.node->encoding());
        if (is_reference) {
          tensor->distances.reference = input.parent;
          tensor->distances.reference_values = std::move(input.values);
        } else {
          tensor->distances.parents.push_back({input.parent, std::move(input.values), {}});
        }
      }
    }
    if (piece.range.size() > 0 && tensor->encodings.size() > 1) pieces.push_back(piece);
  }
  if (pieces.empty()) return {};
  stream.Post(lease, [this, pieces = std::move(pieces)](int worker) {
    if (workers_[worker] == nullptr) workers_[worker] = std::make_unique<Worker>();
    for (const stream::Piece& piece : pieces) Measure(tensors_[piece.group].get(), piece, workers_[worker].get());
  });
  return {};
}

void DistanceSink::Measure(Tensor* tensor, const stream::Piece& piece, Worker* worker) {
  SLUICE_CHECK(piece.range.begin % kBlockElements == 0);
  const size_t num_parents = tensor->encodings.size() - 2;
  const bool same_encoding = tensor->encodings[0] == tensor->encodings[1];
  const bool rounds = !same_encoding && tensor->encodings[0]->encode != nullptr;
  std::vector<Tensor::Block> blocks;
  std::vector<kernels::DifferenceLanes> lanes;
  for (uint64_t begin = piece.range.begin; begin < piece.range.end; begin += kBlockElements) {
    const uint64_t block_end = std::min(begin + kBlockElements, piece.range.end);
    lanes.assign(1 + num_parents, {});
    Tensor::Block block;
    uint64_t result_changed = 0;
    for (uint64_t at = begin; at < block_end; at += kPieceElements) {
      const uint64_t count = std::min(kPieceElements, block_end - at);
      const auto decode = [&](size_t out, float* values) {
        const quant::Encoding encoding = tensor->encodings[out];
        encoding->decode(piece.views[out].data + encoding.BytesOf(at - piece.range.begin), count, values);
      };
      const float* base = worker->base.data();
      float* value = worker->value.data();
      decode(1, worker->base.data());
      decode(0, value);
      kernels::AccumulateDifference(value, base, count, &lanes[0]);
      if (rounds) {
        tensor->encodings[0]->encode(base, count, worker->bytes.data());
        tensor->encodings[0]->decode(worker->bytes.data(), count, worker->rounded.data());
        result_changed += CountChanged(value, worker->rounded.data(), count);
      }
      uint32_t* above = worker->above.data();
      uint32_t* below = worker->below.data();
      std::fill_n(above, count, 0);
      std::fill_n(below, count, 0);
      for (size_t k = 0; k < num_parents; ++k) {
        decode(2 + k, value);
        kernels::AccumulateDifference(value, base, count, &lanes[1 + k]);
        if (num_parents < 2) continue;
        for (uint64_t i = 0; i < count; ++i) {
          above[i] += value[i] > base[i] ? 1 : 0;
          below[i] += value[i] < base[i] ? 1 : 0;
        }
      }
      if (num_parents < 2) continue;
      uint64_t same_twice = 0, all_twice = 0;
      for (uint64_t i = 0; i < count; ++i) {
        const uint64_t p = above[i], n = below[i];
        same_twice += p * p + n * n - p - n;
        all_twice += (p + n) * (p + n) - p - n;
      }
      block.signs.Add({same_twice / 2, all_twice / 2});
    }
    for (const kernels::DifferenceLanes& side : lanes) block.sums.push_back(SumsOf(side, block_end - begin));
    if (rounds) block.sums[0].changed = result_changed;
    blocks.push_back(std::move(block));
  }
  tensor->Add(piece.range.begin / kBlockElements, std::move(blocks));
}

std::vector<TensorDistances> DistanceSink::Distances() const {
  std::vector<TensorDistances> all;
  for (const std::unique_ptr<Tensor>& tensor : tensors_) {
    if (tensor != nullptr && tensor->encodings.size() > 1) all.push_back(tensor->distances);
  }
  return all;
}

}  // namespace sluice::merge
