// ForwardPass: models over tokens, a layer at a time: all tokens pass a layer while the next is read, so each weight is
// read once however many tokens, sequences and models there are. The logits of the tiles that are wanted go to a sink.
//
//   embeddings of all models -> layer 0 of each model, layer 1 of each, ... -> heads, panel by panel, side by side
//
// Memory: one layer and what is read ahead of it, hidden states of all tokens and models (spilled to a temporary file
// where they outgrow the budget), and the working arrays of a chunk of tokens. Numbers depend on none of that.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/memory_budget.h"
#include "base/result.h"
#include "base/workers.h"
#include "checkpoint/checkpoint.h"
#include "infer/hidden_states.h"
#include "infer/model_spec.h"
#include "infer/token_batch.h"
#include "infer/transformer.h"
#include "stream/stream.h"

namespace sluice::infer {

// Takes logits of tiles. Panels are of kernels::kLogitPanelRows ids from id 0.
class LogitSink {
 public:
  virtual ~LogitSink() = default;
  struct Panel {
    uint64_t tile;      // of the batch
    uint32_t first_id;  // of the vocabulary
    // One for each model: [rows][16]; rows is 0 where the model's vocabulary has ended.
    struct Logits {
      const float* values;
      uint64_t rows;
    };
    std::span<const Logits> models;
  };
  // From any worker; the panels of one tile come one after the other, in order.
  virtual void Take(const Panel& panel) = 0;
  // After each panel of all tiles, from the thread that runs the pass: an error ends it.
  virtual Result<void> Checkpoint() { return {}; }
};

struct PassOptions {
  int num_threads = 1;
  MemoryBudget* budget = nullptr;
  const std::atomic<bool>* cancelled = nullptr;
  io::ReaderKind reader = io::ReaderKind::kAuto;
  uint64_t max_chunk_tiles = 32;  // of tokens that pass a layer at once: 512 tokens
  bool spill = false;             // hidden states to a file even where they fit
};

struct PassPlan {
  stream::Plan stream;
  uint64_t num_tokens = 0, num_logit_tokens = 0;
  uint64_t chunk_tiles = 0;
  uint64_t hidden_bytes = 0, workspace_bytes = 0;
  bool spilled = false;              // hidden states are in a file
  double operations = 0;             // multiplications and additions, attention's included
  double operations_per_second = 0;  // measured, all threads
  double seconds = 0;                // predicted: the longer of reading and computing
};

struct PassStats {
  uint64_t bytes_read = 0;  // asked of the sources
  double seconds = 0;
};

class ForwardPass {
 public:
  // `models` outlive it. wanted_tiles: of the batch, ascending. kUnsupported, kCorrupt (a tensor is missing or has
  // another shape than the config says), kUsage (an id beyond a vocabulary), kBudget with the smallest that would do.
  static Result<std::unique_ptr<ForwardPass>> Open(std::vector<const checkpoint::Checkpoint*> models, TokenBatch batch,
                                                   std::vector<uint64_t> wanted_tiles, const PassOptions& options);
  ~ForwardPass();

  const PassPlan& plan() const { return plan_; }
  const TokenBatch& batch() const { return batch_; }
  size_t num_models() const { return models_.size(); }
  const ModelSpec& spec(size_t model) const { return models_[model].spec; }

  // From 0 to 1: the share of the operations that is done. Called by the thread that runs the pass.
  using ProgressFunction = std::function<void(double done)>;
  // Once. kCorrupt where a NaN shows: names the model, the layer and the first tensor that has one.
  Result<PassStats> Run(LogitSink* sink, ProgressFunction progress = nullptr);

 private:
  struct Model {
    const checkpoint::Checkpoint* checkpoint;
    ModelSpec spec;
    std::unique_ptr<HiddenStates> hidden;
    std::unique_ptr<Transformer> transformer;
    std::vector<float> final_norm;
  };
  // Groups [begin, end) that are wanted together, and let go together.
  struct Step {
    enum class Kind { kEmbedding, kLayer, kFinalNorm, kHead } kind;
    uint32_t model, layer_or_panel, begin, end;
  };
  class Groups;

  ForwardPass(TokenBatch batch, std::vector<uint64_t> wanted_tiles, const PassOptions& options);
  Result<void> AddModel(const checkpoint::Checkpoint& checkpoint);
  void AddSteps();
  Result<void> Provide();  // memory and the stream
  template <class Use>
  Result<void> Receive(const Step& step, const Use& use);
  Result<void> RunEmbedding(const Step& step);
  Result<void> RunLayer(const Step& step);
  Result<void> RunFinalNorm(const Step& step);
  Result<void> RunHeads(std::span<const Step> steps, LogitSink* sink);
  Result<void> ReportNan(const Model& model, size_t layer, const LoadedTensors& tensors) const;
  void Progress(double operations);

  TokenBatch batch_;
  std::vector<uint64_t> wanted_tiles_;
  PassOptions options_;
  PassPlan plan_;
  std::vector<Model> models_;
  std::unique_ptr<Groups> groups_;
  std::vector<Step> steps_;
  std::unique_ptr<Workers> workers_;
  FloatArena workspace_, head_buffers_, load_buffer_;
  uint64_t load_floats_ = 0;                                 // of load_buffer_; none where hidden states are in memory
  std::vector<std::pair<uint32_t, uint32_t>> tokens_by_id_;  // (id, 16 tile + lane), sorted
  std::unique_ptr<stream::Stream> stream_;
  ProgressFunction progress_;
  double operations_done_ = 0;
};

}  // namespace sluice::infer
