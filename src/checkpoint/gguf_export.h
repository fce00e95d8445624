// GgufExport: any checkpoint of an architecture that GGUF knows, as the tensors and keys of a GGUF file; the other way
// round of gguf_checkpoint.h, and like it held to files of llama.cpp's own converter. docs/formats/gguf.md.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/shard_plan.h"
#include "formats/gguf_header.h"
#include "graph/graph.h"
#include "quant/encoding.h"

namespace sluice::checkpoint {

// Immutable; thread-safe. Memory: the file's header, three times while it is made.
class GgufExport {
 public:
  // `header` comes with the tokenizer's keys, if there are any. Matrices are written in `encoding` (invalid: as they
  // are stored; Q8_0 takes rows of whole blocks, others stay F16), vectors in F32, as llama.cpp's converter has it.
  // kUnsupported names the architecture, tensor or key of config.json that GGUF has no place for; kCorrupt a tensor
  // that is missing.
  static Result<std::shared_ptr<const GgufExport>> Make(std::shared_ptr<const Checkpoint> model,
                                                        quant::Encoding encoding, formats::GgufHeader header);

  // What opening the file gives: its names and shapes, config and tokenizer tables; the header alone is there, so its
  // nodes must not be read.
  const Checkpoint& as_read() const { return *as_read_; }
  // One file, in the model's order. plan.order: indices into as_read().tensors().
  ShardPlan Plan(std::string file_name) const;

  // Tensor i of as_read(), from the model: as the file holds it, and as it will be read.
  const graph::Node* MakeStoredNode(size_t i, graph::Graph* graph) const;
  const graph::Node* MakeReadNode(size_t i, graph::Graph* graph) const;

  // Whether they are two: its rows or numbers stand otherwise in the file.
  bool IsRearranged(size_t i) const { return tensors_[i].num_heads != 0 || tensors_[i].one_more; }

  // What the file cannot say, and what changed: for the user.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Tensor {
    size_t source;  // in the model
    quant::Encoding encoding;
    uint64_t num_heads = 0;  // rows are permuted in so many heads; 0: as they stand
    bool one_more = false;
  };
  class Maker;
  GgufExport() = default;

  std::shared_ptr<const Checkpoint> model_, as_read_;
  std::vector<Tensor> tensors_;  // by index into as_read_->tensors()
  std::vector<uint32_t> order_;  // as the file has them
  uint64_t head_dim_ = 0;
  std::shared_ptr<const std::string> header_;
  std::vector<std::string> notes_;
};

}  // namespace sluice::checkpoint
