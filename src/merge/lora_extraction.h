// Extracting a PEFT adapter (LoRA) from a fine-tune: of each layer's difference D from its base the nearest matrix of
// low rank, as two factors (randomised_svd.h). Here is which tensors are asked for; extraction_sinks.h does the work,
// and docs/lora.md tells it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/architecture.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/shard_plan.h"
#include "stream/stream.h"

namespace sluice::merge {

struct ExtractionOptions {
  uint64_t rank = 0;
  bool include_embeddings = false;                                   // embeddings and the head too
  std::function<checkpoint::Part(std::string_view tensor)> part_of;  // of the model
};

// A float tensor that both models have.
struct TensorPair {
  uint32_t finetune = 0, base = 0;  // in the catalogues
  std::string name;
  std::string obstacle;  // why no adapter can hold its difference, or is to; empty: it is a layer
  // Of a layer:
  std::string module;              // by PEFT's name
  uint64_t rows = 0, columns = 0;  // as stored
  uint64_t rank = 0;               // what was asked for, or the smaller dimension
  bool is_embedding = false;       // lora_embedding_A and _B
  bool transposed = false;         // its factors make the transpose of what is stored: embeddings, GPT-2's layers
  bool is_layer() const { return obstacle.empty(); }
};

struct ExtractionPairs {
  std::vector<TensorPair> pairs;    // by name
  std::vector<std::string> unread;  // tensors without an arithmetic (integers): not compared
};

// kUnsupported where they are not of one architecture, or a tensor is missing on either side or has another shape (a
// vocabulary that grew): names it. kUsage: a rank of 0, or above what any layer can have.
Result<ExtractionPairs> PairTensors(const checkpoint::Checkpoint& finetune, const checkpoint::Checkpoint& base,
                                    const ExtractionOptions& options);

// Groups of pairs: the difference in F32 (one rounding), and with_base the base in F32 behind it.
class DifferenceGroups final : public stream::GroupSource {
 public:
  // order: indices into `pairs`, which outlives it. Each comes `repeats` times in a row.
  DifferenceGroups(const checkpoint::Checkpoint& finetune, const checkpoint::Checkpoint& base,
                   const std::vector<TensorPair>& pairs, std::vector<uint32_t> order, uint32_t repeats, bool with_base)
      : finetune_(finetune),
        base_(base),
        pairs_(pairs),
        order_(std::move(order)),
        repeats_(repeats),
        with_base_(with_base) {}
  size_t size() const override { return order_.size() * repeats_; }
  std::string name(size_t group) const override { return pair(group).name; }
  void Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const override;
  const TensorPair& pair(size_t group) const { return pairs_[order_[group / repeats_]]; }

 private:
  const checkpoint::Checkpoint& finetune_;
  const checkpoint::Checkpoint& base_;
  const std::vector<TensorPair>& pairs_;
  const std::vector<uint32_t> order_;
  const uint32_t repeats_;
  const bool with_base_;
};

// The adapter's file: F32 factors, A before B of each layer.
struct AdapterForm {
  checkpoint::Catalogue tensors;
  checkpoint::ShardPlan plan;    // of a folder with adapter_model.safetensors
  std::vector<uint32_t> layers;  // indices into the pairs, in the order in which their factors are written
};
// `captured`: indices of layers in `pairs`; at least one.
Result<AdapterForm> PlanAdapter(const std::vector<TensorPair>& pairs, const std::vector<uint32_t>& captured);

// adapter_config.json. `layers`: those that the adapter has.
std::string AdapterConfigText(const checkpoint::Checkpoint& base, const std::vector<TensorPair>& pairs,
                              const std::vector<uint32_t>& layers, uint64_t rank);

}  // namespace sluice::merge
