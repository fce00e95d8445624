// PassGroups: the tensors that a pass takes of its models, in the order in which it takes them, as a stream wants them:
// whole tensors of layers, ranges of rows of embeddings and heads.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "infer/model_spec.h"
#include "stream/stream.h"

namespace sluice::infer {

// Groups [begin, end) that are wanted together, and let go together.
struct PassStep {
  enum class Kind { kEmbedding, kLayer, kFinalNorm, kHead };
  Kind kind;
  uint32_t model;
  uint32_t place;  // of a layer in its model, of a panel in the vocabulary
  uint32_t begin, end;
};

// The checkpoint has every tensor that its spec names, in the shape and in an encoding that the pass can take.
// kCorrupt, kUnsupported, naming the tensor.
Result<void> CheckTensors(const checkpoint::Checkpoint& checkpoint, const ModelSpec& spec);

class PassGroups final : public stream::GroupSource {
 public:
  struct Group {
    const checkpoint::Checkpoint* checkpoint;
    size_t tensor;
    uint64_t first_row = 0, num_rows = 0;  // 0 rows: all of it
  };
  struct Model {
    const checkpoint::Checkpoint* checkpoint;
    const ModelSpec* spec;
  };

  // Layer by layer, the models taking turns; then, where logits are wanted, the final norms and panel by panel the
  // heads. Tensors must have been checked; models outlive it.
  PassGroups(std::vector<Model> models, bool with_heads);
  const std::vector<PassStep>& steps() const { return steps_; }
  size_t first_head() const { return first_head_; }  // step from which on all are panels of heads

  // The rows of a model's embedding for `ids`, ascending: panels of rows around them. Before the stream is opened.
  PassStep AddEmbedding(size_t model, const std::vector<uint32_t>& ids);

  const Group& group(size_t i) const { return groups_[i]; }
  checkpoint::TensorInfo tensor(size_t i) const { return groups_[i].checkpoint->tensors()[groups_[i].tensor]; }
  uint64_t num_rows(size_t i) const;               // of a matrix or a part of one
  uint64_t SizeBytes(const PassStep& step) const;  // of its tensors and parts of tensors
  // Memory that a step's tiles occupy while they are leased, with what their slots leave free.
  uint64_t LeasedBytes(const PassStep& step, uint64_t tile_bytes) const;

  size_t size() const override { return groups_.size(); }
  std::string name(size_t i) const override;
  void Build(size_t i, graph::Graph* graph, std::vector<const graph::Node*>* outs) const override;
  uint64_t granule(size_t i) const override;

 private:
  void AddHeads();
  uint64_t GroupBytes(size_t i) const;

  std::vector<Model> models_;
  std::vector<Group> groups_;
  std::vector<PassStep> steps_;
  size_t first_head_ = 0;
};

}  // namespace sluice::infer
