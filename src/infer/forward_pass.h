// ForwardPass: models over tokens, a layer at a time: all tokens pass a layer while the next is read, so each weight is
// read once however many tokens, sequences and models there are. The logits of the tiles that are wanted go to a sink.
//
//   embeddings of all models -> layer 0 of each model, layer 1 of each, ... -> heads, panel by panel, side by side
//
// Memory: one layer and what is read ahead of it, hidden states of all tokens and models, and the working arrays of a
// chunk of tokens. A sink that must see a tile's logits more than once (head_runs) sees the same bits each time; the
// heads stay in memory for that where they fit, and are read again where not. Where hidden states outgrow the budget,
// sequences pass in rounds, with as many weights as fit kept from one to the next, or hidden states go to a temporary
// file (pass_layout.h). Numbers depend on none of that.
#pragma once

#include <algorithm>
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
#include "infer/layer_weights.h"
#include "infer/model_spec.h"
#include "infer/pass_groups.h"
#include "infer/pass_layout.h"
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
    int run = 0;  // of PassOptions::head_runs
  };
  // From any worker; the panels of one tile come one after the other, in order, and all of one run before the next
  // run's. Tiles need not be in the same run.
  virtual void Take(const Panel& panel) = 0;
  // After each panel of all tiles of a round, from the thread that runs the pass: an error ends it.
  virtual Result<void> Checkpoint() { return {}; }
};

struct PassOptions {
  int num_threads = 1;
  MemoryBudget* budget = nullptr;
  const std::atomic<bool>* cancelled = nullptr;
  io::ReaderKind reader = io::ReaderKind::kAuto;
  int head_runs = 1;                      // how often a sink is given each logit
  uint64_t max_chunk_tiles = 32;          // of tokens that pass a layer at once: 512 tokens
  uint64_t max_round_tiles = UINT64_MAX;  // of tokens whose hidden states are in memory
  uint64_t max_kept_bytes = UINT64_MAX;   // of weights that stay from one round to the next
  Spill spill = Spill::kIfFewerBytes;     // hidden states to a file
};

struct PassPlan {
  stream::Plan stream;  // read_bytes and seconds of all rounds
  uint64_t num_tokens = 0, num_logit_tokens = 0;
  uint64_t chunk_tiles = 0, num_rounds = 0;
  uint64_t hidden_bytes = 0;  // of the largest round
  uint64_t kept_bytes = 0;    // of weights that are read once for all rounds and runs, though there are several
  bool heads_kept = false;    // each panel of the heads is read once, though head_runs is more than 1
  uint64_t workspace_bytes = 0;
  bool spilled = false;              // hidden states are in a file
  uint64_t spill_moved_bytes = 0;    // written to it and read from it
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
  // Once. kCorrupt where a NaN shows: names the model, the step and the first tensor that has one.
  Result<PassStats> Run(LogitSink* sink, ProgressFunction progress = nullptr);

 private:
  struct Model {
    const checkpoint::Checkpoint* checkpoint;
    ModelSpec spec;
    double layer_operations = 0;  // of all tokens, on average
    std::unique_ptr<HiddenStates> hidden;
    std::unique_ptr<Transformer> transformer;
  };
  // Sequences that pass all layers together. Hidden states are those of its tiles, from first_tile on.
  struct Round {
    uint64_t first_tile, num_tiles;
    std::vector<TokenBatch::Chunk> chunks;
    std::vector<uint64_t> wanted_tiles;
    std::vector<PassStep> embeddings;  // of each model
  };
  struct TokenPlace {
    uint32_t id;
    uint32_t place;  // 16 tile + lane, in the round
  };
  static constexpr uint64_t kPlaceBytes = kernels::kTileTokens * sizeof(TokenPlace);  // a tile's, for embeddings

  ForwardPass(TokenBatch batch, std::vector<uint64_t> wanted_tiles, const PassOptions& options);
  Result<void> AddModel(const checkpoint::Checkpoint& checkpoint);
  // How the heads meet the tokens. kByPanel: each panel all tokens, once for each run. kByTokens: some tokens all
  // panels, whose logits then wait in memory for all runs, so that they are computed once; the heads must be kept.
  enum class HeadOrder { kByPanel, kByTokens };
  // Floats of working arrays for chunks of so many tiles.
  struct Working {
    uint64_t layer_floats = 0, head_floats = 0, load_floats = 0;
    uint64_t size_bytes = 0;  // with tables and the order of tokens
  };
  Working WorkingOf(uint64_t chunk_tiles, bool spill, HeadOrder order) const;
  // Tiles that meet a panel of the head at once, on one worker.
  static uint64_t HeadTiles(uint64_t chunk_tiles) { return std::min<uint64_t>(chunk_tiles, 8); }
  uint64_t HeadTurnTiles(uint64_t chunk_tiles) const;  // of tokens whose logits are in memory at a time: kByTokens
  uint64_t SpillMovedBytes(HeadOrder order) const;
  void ChooseTiles();
  Result<PassLayout> LayOut();
  void AddRounds(const PassLayout& layout);
  Result<void> Provide(const PassLayout& layout);  // memory and the stream
  void CountRepeats();
  uint64_t TokensIn(const std::vector<uint64_t>& tiles) const;
  std::vector<TokenPlace> TokensById(const Round& round) const;

  template <class Use>
  Result<void> Receive(const PassStep& step, const Use& use);
  // The tensors of a step: kept from an earlier time, or from the stream.
  Result<std::shared_ptr<const LoadedTensors>> Load(size_t step);
  Result<void> RunRound(const Round& round, LogitSink* sink);
  Result<void> RunEmbedding(const Round& round, const PassStep& step);
  Result<void> RunLayer(const Round& round, size_t step);
  Result<void> RunFinalNorm(const Round& round, size_t step);
  // One panel of the vocabulary, of all models that have it: steps [first_step, end_step).
  Result<void> RunHeads(const Round& round, int run, size_t first_step, size_t end_step, LogitSink* sink);
  Result<void> RunHeadsByTokens(const Round& round, LogitSink* sink);
  Result<LoadedProduct> PanelOf(size_t step, const LoadedTensors& tensors) const;
  static bool ComputeLogits(const Model& model, const LoadedProduct& panel, const float* in, uint64_t num_tiles,
                            float* out, float* scratch);
  Result<void> ReportNan(const Model& model, const std::string& step, const LoadedTensors& tensors) const;
  void Progress(double operations);

  TokenBatch batch_;
  std::vector<uint64_t> wanted_tiles_;
  PassOptions options_;
  PassPlan plan_;
  std::vector<Model> models_;
  std::unique_ptr<PassGroups> groups_;
  uint64_t tile_bytes_ = 0;       // of the stream, at most
  uint64_t in_flight_bytes_ = 0;  // most that must be leased from the stream at one time, but for what is kept
  std::vector<Round> rounds_;
  std::unique_ptr<Workers> workers_;
  FloatArena workspace_, head_buffers_, load_buffer_;
  uint64_t load_floats_ = 0;  // of load_buffer_; none where hidden states are in memory
  std::unique_ptr<stream::Stream> stream_;
  HeadOrder head_order_ = HeadOrder::kByPanel;
  std::vector<bool> is_kept_;                               // by step
  std::vector<std::shared_ptr<const LoadedTensors>> kept_;  // by step; null until it was read
  ProgressFunction progress_;
  double operations_done_ = 0;
};

}  // namespace sluice::infer
