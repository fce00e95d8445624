// A GGUF model, of one file or in parts, as a checkpoint: Hugging Face's names, shapes slowest dimension first, rows of
// Q and K back in Hugging Face's order, norms without the 1 that GGUF adds to Gemma's, config.json from the keys.
// Blocks stay as they are stored. Names and shapes are those of the architecture's data (architecture.h).
// docs/formats/gguf.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_parts.h"
#include "checkpoint/model_ref.h"
#include "formats/gguf.h"
#include "graph/graph.h"

namespace sluice::checkpoint {

// What OpenGguf returns. Immutable; thread-safe.
class GgufCheckpoint final : public Checkpoint {
 public:
  static Result<std::shared_ptr<const Checkpoint>> Open(const std::string& path, const OpenOptions& options);

  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override;
  // All keys, those of the tokenizer too, read from the file when they are asked for.
  const formats::GgufFile& file() const { return parts_.head(); }

 private:
  struct Place {
    const formats::GgufFile* file;
    uint64_t offset;
    quant::Encoding stored;
    uint64_t num_heads;  // rows are permuted in so many heads; 0: as they stand
    bool one_more;       // each number is 1 more than Hugging Face's
  };
  explicit GgufCheckpoint(GgufParts parts) : parts_(std::move(parts)) {}
  Result<void> AddTensors(const GgufModel& model);
  Result<void> AddTensor(const GgufModel& model, const GgufParts::Tensor& part, std::vector<Place>* places);
  void ReportMissing(const GgufModel& model);
  Result<void> AddTokenizer();

  const GgufParts parts_;
  std::vector<Place> places_;  // in the catalogue's order
  uint64_t head_dim_ = 0;
};

}  // namespace sluice::checkpoint
