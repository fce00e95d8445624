#include "infer/forward_pass.h"

#include <algorithm>
#include <chrono>
#include <mutex>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "infer/layer_weights.h"
#include "kernels/layer_ops.h"
#include "kernels/logit_panels.h"
#include "kernels/product.h"

namespace sluice::infer {
namespace {

using kernels::kLogitPanelRows;
using kernels::kTileTokens;

// Rows of the embedding that are fetched together where one of them is wanted. A multiple of 32 elements whatever the
// width, so that computed tensors can be cut there (graph/node.h).
constexpr uint64_t kEmbeddingPanelRows = 64;
constexpr uint64_t kMaxHeadTiles = 8;  // of tokens that meet a panel of the head at once, on one worker

// Rows [begin, begin + count) of a matrix.
class RowRange final : public graph::RowMap {
 public:
  RowRange(uint64_t begin, uint64_t count) : begin_(begin), count_(count) {}
  uint64_t SourceRow(uint64_t row) const override { return begin_ + row; }
  uint64_t num_rows() const override { return count_; }

 private:
  uint64_t begin_, count_;
};

// What this machine computes in the kind of product that a pass is made of.
double MeasureOperationsPerSecond(int num_threads) {
  constexpr uint64_t kRows = kernels::kProductPanelRows, kColumns = 512, kTiles = 8;
  std::vector<float> memory(kRows * kColumns + (kColumns + kRows) * kTiles * kTileTokens +
                            kernels::kProductScratchFloats + 64);
  float* at = reinterpret_cast<float*>(RoundUp(reinterpret_cast<uintptr_t>(memory.data()), kernels::kTileAlignment));
  const float* in = at;
  float* out = at + kColumns * kTiles * kTileTokens;
  float* scratch = out + kRows * kTiles * kTileTokens;
  const auto* weights = reinterpret_cast<const uint8_t*>(scratch + kernels::kProductScratchFloats);
  std::vector<const uint8_t*> rows;
  for (uint64_t row = 0; row < kRows; ++row) rows.push_back(weights + row * kColumns * sizeof(float));
  double best = 0;
  for (int repetition = 0; repetition < 8; ++repetition) {
    const auto start = std::chrono::steady_clock::now();
    kernels::Product({.rows = rows.data(),
                      .num_rows = kRows,
                      .columns = kColumns,
                      .in = in,
                      .in_tile_floats = kColumns * kTileTokens,
                      .out = out,
                      .out_tile_floats = kRows * kTileTokens,
                      .num_tiles = kTiles,
                      .scratch = scratch});
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, 2.0 * kRows * kColumns * kTiles * kTileTokens / std::max(seconds, 1e-9));
  }
  return best * num_threads;
}

}  // namespace

// All groups of a pass in its order: whole tensors of layers, ranges of rows of embeddings and heads.
class ForwardPass::Groups final : public stream::GroupSource {
 public:
  struct Group {
    const checkpoint::Checkpoint* checkpoint;
    size_t tensor;
    uint64_t first_row = 0, num_rows = 0;  // 0 rows: all of it
  };
  void Add(Group group) { groups_.push_back(group); }
  const Group& group(size_t i) const { return groups_[i]; }
  checkpoint::TensorInfo tensor(size_t i) const { return groups_[i].checkpoint->tensors()[groups_[i].tensor]; }
  // Bytes that a group's tiles occupy while they are leased, with what their slots leave free.
  uint64_t LeasedBytes(size_t i, uint64_t tile_bytes) const {
    const Group& group = groups_[i];
    const checkpoint::TensorInfo info = tensor(i);
    const uint64_t size_bytes =
        group.num_rows > 0 ? info.encoding.BytesOf(group.num_rows * info.shape[1]) : info.size_bytes();
    return size_bytes < tile_bytes ? size_bytes + 8 * kKiB : RoundUp(size_bytes, tile_bytes) + tile_bytes;
  }

  size_t size() const override { return groups_.size(); }
  std::string name(size_t i) const override {
    return fmt::format("{}: {}", groups_[i].checkpoint->ref(), tensor(i).name);
  }
  void Build(size_t i, graph::Graph* graph, std::vector<const graph::Node*>* outs) const override {
    const Group& group = groups_[i];
    const graph::Node* node = group.checkpoint->MakeNode(group.tensor, graph);
    if (group.num_rows > 0) {
      node = graph->Add(std::make_unique<graph::RowGatherNode>(
          fmt::format("range {} {}", group.first_row, group.num_rows), node, tensor(i).shape[1],
          std::make_shared<RowRange>(group.first_row, group.num_rows)));
    }
    outs->push_back(node);
  }
  uint64_t granule(size_t i) const override {
    const checkpoint::TensorInfo info = tensor(i);
    return info.shape.size() == 2 && info.shape[1] % 32 == 0 ? info.shape[1] : 0;
  }

 private:
  std::vector<Group> groups_;
};

ForwardPass::ForwardPass(TokenBatch batch, std::vector<uint64_t> wanted_tiles, const PassOptions& options)
    : batch_(std::move(batch)), wanted_tiles_(std::move(wanted_tiles)), options_(options) {
  SLUICE_CHECK(options_.budget != nullptr && options_.num_threads > 0 && options_.max_chunk_tiles > 0);
  SLUICE_CHECK(std::ranges::is_sorted(wanted_tiles_));
  SLUICE_CHECK(wanted_tiles_.empty() || wanted_tiles_.back() < batch_.num_tiles());
}

ForwardPass::~ForwardPass() = default;

Result<std::unique_ptr<ForwardPass>> ForwardPass::Open(std::vector<const checkpoint::Checkpoint*> models,
                                                       TokenBatch batch, std::vector<uint64_t> wanted_tiles,
                                                       const PassOptions& options) {
  std::unique_ptr<ForwardPass> pass(new ForwardPass(std::move(batch), std::move(wanted_tiles), options));
  for (const checkpoint::Checkpoint* model : models) {
    auto added = pass->AddModel(*model);
    if (!added) return Fail(std::move(added.error()).In(model->ref()));
  }
  pass->AddSteps();
  SLUICE_TRY(pass->Provide());
  return pass;
}

namespace {

// The tensor of a step of the spec, as it must be.
Result<size_t> FindTensor(const checkpoint::Checkpoint& checkpoint, const std::string& name,
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
  return *index;
}

Result<void> CheckProduct(const checkpoint::Checkpoint& checkpoint, const ProductSpec& product) {
  if (!product) return {};
  SLUICE_TRY(FindTensor(checkpoint, product.weight, {product.out, product.in}));
  if (!product.bias.empty()) SLUICE_TRY(FindTensor(checkpoint, product.bias, {product.out}));
  return {};
}

Result<void> CheckNorm(const checkpoint::Checkpoint& checkpoint, const NormSpec& norm) {
  if (norm) SLUICE_TRY(FindTensor(checkpoint, norm.weight, {norm.size}));
  return {};
}

Result<void> CheckTensors(const checkpoint::Checkpoint& checkpoint, const ModelSpec& spec) {
  SLUICE_TRY(FindTensor(checkpoint, spec.embedding, {spec.vocab, spec.hidden}));
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

}  // namespace

Result<void> ForwardPass::AddModel(const checkpoint::Checkpoint& checkpoint) {
  if (checkpoint.config() == nullptr) {
    return Fail(ErrorCode::kUnsupported,
                "a checkpoint without a config.json cannot be run: its architecture is unknown");
  }
  SLUICE_ASSIGN(ModelSpec spec, SpecOf(*checkpoint.config()));
  SLUICE_TRY(CheckTensors(checkpoint, spec));
  for (size_t sequence = 0; sequence < batch_.sequences().size(); ++sequence) {
    const std::vector<uint32_t>& ids = batch_.sequences()[sequence];
    const auto beyond = std::ranges::find_if(ids, [&](uint32_t id) { return id >= spec.vocab; });
    if (beyond == ids.end()) continue;
    return Fail(
        ErrorCode::kUsage,
        fmt::format("token {} of sequence {} is id {}, and the embedding has {} rows: the tokens are of another "
                    "tokenizer",
                    beyond - ids.begin(), sequence, *beyond, spec.vocab));
  }
  models_.push_back({&checkpoint, std::move(spec), nullptr, nullptr, {}});
  return {};
}

void ForwardPass::AddSteps() {
  groups_ = std::make_unique<Groups>();
  const auto add_step = [&](Step::Kind kind, size_t model, size_t place, const auto& add_groups) {
    const auto begin = static_cast<uint32_t>(groups_->size());
    add_groups(*models_[model].checkpoint, models_[model].spec);
    steps_.push_back({kind, static_cast<uint32_t>(model), static_cast<uint32_t>(place), begin,
                      static_cast<uint32_t>(groups_->size())});
  };
  using checkpoint::Checkpoint;

  for (uint64_t tile = 0; tile < batch_.num_tiles(); ++tile) {
    const TokenBatch::Tile& place = batch_.tile(tile);
    const std::vector<uint32_t>& ids = batch_.sequences()[place.sequence];
    for (uint32_t lane = 0; lane < place.num_tokens; ++lane) {
      tokens_by_id_.emplace_back(ids[place.index * kTileTokens + lane],
                                 static_cast<uint32_t>(tile * kTileTokens + lane));
    }
  }
  std::ranges::sort(tokens_by_id_);

  for (size_t model = 0; model < models_.size(); ++model) {
    add_step(Step::Kind::kEmbedding, model, 0, [&](const Checkpoint& checkpoint, const ModelSpec& spec) {
      const size_t tensor = *checkpoint.tensors().Find(spec.embedding);
      // Runs of neighbouring panels that a token wants, in pieces of a bounded size.
      uint64_t begin = 0, end = 0;
      const auto add_run = [&] {
        if (end > begin) groups_->Add({&checkpoint, tensor, begin, std::min(end, spec.vocab) - begin});
      };
      for (const auto& [id, place] : tokens_by_id_) {
        const uint64_t panel = RoundDown(id, kEmbeddingPanelRows);
        if (panel + kEmbeddingPanelRows == end) continue;
        if (panel != end || end - begin >= kLogitPanelRows) {
          add_run();
          begin = panel;
        }
        end = panel + kEmbeddingPanelRows;
      }
      add_run();
    });
  }
  size_t most_layers = 0;
  for (const Model& model : models_) most_layers = std::max(most_layers, model.spec.layers.size());
  for (size_t layer = 0; layer < most_layers; ++layer) {
    for (size_t model = 0; model < models_.size(); ++model) {
      if (layer >= models_[model].spec.layers.size()) continue;
      add_step(Step::Kind::kLayer, model, layer, [&](const Checkpoint& checkpoint, const ModelSpec& spec) {
        for (const std::string& name : TensorsOf(spec.layers[layer])) {
          groups_->Add({&checkpoint, *checkpoint.tensors().Find(name)});
        }
      });
    }
  }
  if (wanted_tiles_.empty()) return;
  uint64_t most_vocab = 0;
  for (size_t model = 0; model < models_.size(); ++model) {
    most_vocab = std::max(most_vocab, models_[model].spec.vocab);
    add_step(Step::Kind::kFinalNorm, model, 0, [&](const Checkpoint& checkpoint, const ModelSpec& spec) {
      groups_->Add({&checkpoint, *checkpoint.tensors().Find(spec.final_norm.weight)});
    });
  }
  for (uint64_t first_id = 0; first_id < most_vocab; first_id += kLogitPanelRows) {
    for (size_t model = 0; model < models_.size(); ++model) {
      if (first_id >= models_[model].spec.vocab) continue;
      add_step(Step::Kind::kHead, model, first_id / kLogitPanelRows,
               [&](const Checkpoint& checkpoint, const ModelSpec& spec) {
                 groups_->Add({&checkpoint, *checkpoint.tensors().Find(spec.head.weight), first_id,
                               std::min(kLogitPanelRows, spec.vocab - first_id)});
               });
    }
  }
}

Result<void> ForwardPass::Provide() {
  const stream::StreamOptions defaults;
  MemoryBudget& budget = *options_.budget;

  // What must be leased from the stream at one time: a layer, or a panel of each head.
  uint64_t held_bytes = 0, panels_bytes = 0;
  uint32_t panel = 0;
  for (const Step& step : steps_) {
    uint64_t bytes = 0;
    for (uint32_t group = step.begin; group < step.end; ++group) {
      bytes += groups_->LeasedBytes(group, defaults.max_tile_bytes);
    }
    if (step.kind == Step::Kind::kLayer) held_bytes = std::max(held_bytes, bytes);
    if (step.kind == Step::Kind::kHead) {
      panels_bytes = (step.layer_or_panel == panel ? panels_bytes : 0) + bytes;
      panel = step.layer_or_panel;
      held_bytes = std::max(held_bytes, panels_bytes);
    }
  }

  plan_.num_tokens = batch_.num_tokens();
  for (const uint64_t tile : wanted_tiles_) plan_.num_logit_tokens += batch_.tile(tile).num_tokens;
  uint64_t table_bytes = 0, widest = 0;
  for (const Model& model : models_) {
    plan_.hidden_bytes += HiddenStates::SizeBytes(batch_.num_tiles(), model.spec.hidden);
    table_bytes += Transformer::TableBytes(model.spec, batch_);
    widest = std::max(widest, model.spec.hidden);
  }
  const auto num_threads = static_cast<uint64_t>(options_.num_threads);
  struct Choice {
    uint64_t chunk_tiles;
    bool spill;
    uint64_t workspace_floats, head_floats, load_floats;
  };
  const auto choice_of = [&](uint64_t chunk_tiles, bool spill) {
    Choice choice{chunk_tiles, spill, 0, 0, 0};
    for (const Model& model : models_) {
      choice.workspace_floats = std::max(
          choice.workspace_floats, Transformer::WorkspaceFloats(model.spec, batch_, chunk_tiles, options_.num_threads));
    }
    const uint64_t head_tiles = std::min(chunk_tiles, kMaxHeadTiles);
    if (!wanted_tiles_.empty()) {
      // Of each worker: logits of each model, and room to widen weights.
      choice.head_floats =
          num_threads * (models_.size() * head_tiles * kLogitPanelRows * kTileTokens + kernels::kProductScratchFloats);
    }
    // One chunk, or for each worker the tiles that meet a panel.
    if (spill) choice.load_floats = num_threads * chunk_tiles * widest * kTileTokens;
    return choice;
  };
  // The largest chunk that leaves room for the stream; hidden states go to a file rather than a chunk to one tile.
  budget.ChargeResident();
  const uint64_t stream_bytes = held_bytes / 4 * 5 + 8 * defaults.max_tile_bytes;
  const uint64_t free = budget.free_bytes();
  Choice chosen{};
  for (const bool spill : {false, true}) {
    if (!spill && options_.spill) continue;
    for (uint64_t chunk_tiles = options_.max_chunk_tiles;; chunk_tiles /= 2) {
      chosen = choice_of(chunk_tiles, spill);
      const uint64_t floats = chosen.workspace_floats + chosen.head_floats + chosen.load_floats;
      const uint64_t own = floats * sizeof(float) + table_bytes + (spill ? 0 : plan_.hidden_bytes);
      if (own + stream_bytes <= free) goto fits;
      if (chunk_tiles <= (spill ? 1 : 4)) break;
    }
  }
fits:
  plan_.chunk_tiles = chosen.chunk_tiles;
  plan_.spilled = chosen.spill;
  plan_.workspace_bytes =
      (chosen.workspace_floats + chosen.head_floats + chosen.load_floats) * sizeof(float) + table_bytes;

  workers_ = std::make_unique<Workers>(options_.num_threads);
  const std::string what = "the forward pass' working arrays";
  SLUICE_ASSIGN(workspace_, FloatArena::Make(chosen.workspace_floats, what, &budget));
  SLUICE_ASSIGN(head_buffers_, FloatArena::Make(chosen.head_floats, what, &budget));
  load_floats_ = chosen.load_floats;
  SLUICE_ASSIGN(load_buffer_, FloatArena::Make(chosen.load_floats, what, &budget));
  for (Model& model : models_) {
    auto hidden = chosen.spill ? HiddenStates::InFile(batch_.num_tiles(), model.spec.hidden)
                               : HiddenStates::InMemory(batch_.num_tiles(), model.spec.hidden, &budget);
    if (!hidden) return Fail(std::move(hidden.error()));
    model.hidden = std::make_unique<HiddenStates>(std::move(*hidden));
    SLUICE_ASSIGN(Transformer transformer,
                  Transformer::Make(model.spec, batch_, plan_.chunk_tiles, workers_.get(), &workspace_, &budget));
    model.transformer = std::make_unique<Transformer>(std::move(transformer));
    plan_.operations += Transformer::LayerOperations(model.spec, batch_);
    plan_.operations += 2.0 * static_cast<double>(plan_.num_logit_tokens) * static_cast<double>(model.spec.vocab) *
                        static_cast<double>(model.spec.hidden);
  }
  stream::StreamOptions options;
  options.num_threads = options_.num_threads;
  options.budget = options_.budget;
  options.cancelled = options_.cancelled;
  options.reader = options_.reader;
  options.wants.held_bytes = held_bytes;
  options.read_ahead_bytes = std::max(options.read_ahead_bytes, held_bytes);  // the next layer, where there is room
  SLUICE_ASSIGN(stream_, stream::Stream::Open(*groups_, options));
  plan_.stream = stream_->plan();
  plan_.operations_per_second = MeasureOperationsPerSecond(options_.num_threads);
  plan_.seconds =
      std::max(plan_.stream.io_seconds, plan_.operations / plan_.operations_per_second + plan_.stream.cpu_seconds);
  return {};
}

// Hands every piece of a step's groups to use(group, view), in order within a group.
template <class Use>
Result<void> ForwardPass::Receive(const Step& step, const Use& use) {
  for (uint32_t open = step.end - step.begin; open > 0;) {
    SLUICE_ASSIGN(const stream::Lease lease, stream_->Next());
    SLUICE_CHECK(static_cast<bool>(lease));
    for (const stream::Piece& piece : lease.pieces()) {
      SLUICE_CHECK(piece.group >= step.begin && piece.group < step.end);
      SLUICE_TRY(use(piece, lease));
      if (piece.last) --open;
    }
  }
  return {};
}

void ForwardPass::Progress(double operations) {
  operations_done_ += operations;
  if (progress_) progress_(std::min(1.0, operations_done_ / std::max(plan_.operations, 1.0)));
}

Result<PassStats> ForwardPass::Run(LogitSink* sink, ProgressFunction progress) {
  progress_ = std::move(progress);
  const auto start = std::chrono::steady_clock::now();
  std::vector<uint32_t> groups;
  for (const Step& step : steps_) {
    groups.clear();
    for (uint32_t group = step.begin; group < step.end; ++group) groups.push_back(group);
    stream_->Enqueue(groups);
  }
  for (size_t i = 0; i < steps_.size();) {
    const Step& step = steps_[i];
    size_t next = i + 1;
    switch (step.kind) {
      case Step::Kind::kEmbedding:
        SLUICE_TRY(RunEmbedding(step));
        break;
      case Step::Kind::kLayer:
        SLUICE_TRY(RunLayer(step));
        break;
      case Step::Kind::kFinalNorm:
        SLUICE_TRY(RunFinalNorm(step));
        break;
      case Step::Kind::kHead:
        while (next < steps_.size() && steps_[next].layer_or_panel == step.layer_or_panel) ++next;
        SLUICE_TRY(RunHeads(std::span(steps_).subspan(i, next - i), sink));
        break;
    }
    i = next;
  }
  PassStats stats;
  stats.bytes_read = stream_->stats().payload_bytes;
  stats.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return stats;
}

Result<void> ForwardPass::RunEmbedding(const Step& step) {
  Model& model = models_[step.model];
  std::vector<float> row(model.spec.hidden);
  std::unique_ptr<RowAssembler> rows;
  uint64_t rows_done = 0;
  return Receive(step, [&](const stream::Piece& piece, const stream::Lease&) -> Result<void> {
    const Groups::Group& group = groups_->group(piece.group);
    const checkpoint::TensorInfo tensor = groups_->tensor(piece.group);
    if (piece.first) {
      rows = std::make_unique<RowAssembler>(tensor.encoding, group.num_rows, model.spec.hidden);
      rows_done = 0;
    }
    rows->Add(piece.views[0]);
    for (; rows_done < rows->rows().size(); ++rows_done) {
      const auto id = static_cast<uint32_t>(group.first_row + rows_done);
      auto token = std::ranges::lower_bound(tokens_by_id_, std::pair<uint32_t, uint32_t>(id, 0));
      if (token == tokens_by_id_.end() || token->first != id) continue;
      tensor.encoding->decode(rows->rows()[rows_done], row.size(), row.data());
      for (; token != tokens_by_id_.end() && token->first == id; ++token) {
        SLUICE_TRY(model.hidden->WriteRow(token->second / kTileTokens, token->second % kTileTokens, row.data()));
      }
    }
    return {};  // the lease may go: what this piece holds of the next row was copied
  });
}

Result<void> ForwardPass::ReportNan(const Model& model, size_t layer, const LoadedTensors& tensors) const {
  const std::string tensor = tensors.FirstWithNan();
  const std::string where = fmt::format("{}: layer {}", model.checkpoint->ref(), layer);
  if (tensor.empty()) {
    return Fail(ErrorCode::kCorrupt, where +
                                         ": its output is not a number, though no weight of it is: the activations "
                                         "overflowed, in it or before it");
  }
  return Fail(ErrorCode::kCorrupt, fmt::format("{}: tensor {} has a NaN, and nothing behind it would mean anything; "
                                               "`sluice verify` finds where it differs from a sound copy",
                                               where, tensor));
}

Result<void> ForwardPass::RunLayer(const Step& step) {
  Model& model = models_[step.model];
  LoadedTensors tensors;
  for (uint32_t group = step.begin; group < step.end; ++group) tensors.Expect(groups_->tensor(group));
  SLUICE_TRY(Receive(step, [&](const stream::Piece& piece, const stream::Lease& lease) -> Result<void> {
    tensors.Add(std::string(groups_->tensor(piece.group).name), piece.views[0]);
    if (&piece == &lease.pieces().back()) tensors.Keep(lease);
    return {};
  }));
  SLUICE_ASSIGN(const LayerWeights weights, WeightsOf(model.spec.layers[step.layer_or_panel], tensors));
  const double operations =
      Transformer::LayerOperations(model.spec, batch_) / static_cast<double>(model.spec.layers.size());
  for (const TokenBatch::Chunk& chunk : batch_.Chunks(plan_.chunk_tiles)) {
    if (options_.cancelled != nullptr && *options_.cancelled) return Fail(ErrorCode::kCancelled, "interrupted");
    SLUICE_ASSIGN(float* x, model.hidden->Load(chunk.begin, chunk.count, load_buffer_.data()));
    if (step.layer_or_panel == 0) model.transformer->RowsToTiles(chunk.count, x);
    if (!model.transformer->RunLayer(step.layer_or_panel, weights, chunk, x)) {
      return ReportNan(model, step.layer_or_panel, tensors);
    }
    SLUICE_TRY(model.hidden->Store(chunk.begin, chunk.count, x));
    Progress(operations * static_cast<double>(chunk.count) / static_cast<double>(batch_.num_tiles()));
  }
  return {};
}

Result<void> ForwardPass::RunFinalNorm(const Step& step) {
  Model& model = models_[step.model];
  LoadedTensors tensors;
  tensors.Expect(groups_->tensor(step.begin));
  SLUICE_TRY(Receive(step, [&](const stream::Piece& piece, const stream::Lease&) -> Result<void> {
    tensors.Add(model.spec.final_norm.weight, piece.views[0]);
    return {};
  }));
  const std::span<const float> weight = tensors.vector(model.spec.final_norm.weight);
  for (size_t i = 0, next; i < wanted_tiles_.size(); i = next) {
    for (next = i + 1; next < wanted_tiles_.size() && wanted_tiles_[next] == wanted_tiles_[i] + (next - i) &&
                       next - i < plan_.chunk_tiles;) {
      ++next;
    }
    SLUICE_ASSIGN(float* x, model.hidden->Load(wanted_tiles_[i], next - i, load_buffer_.data()));
    model.transformer->FinalNorm(weight, next - i, x);
    SLUICE_TRY(model.hidden->Store(wanted_tiles_[i], next - i, x));
  }
  return {};
}

// One panel of the vocabulary, of all models that have it.
Result<void> ForwardPass::RunHeads(std::span<const Step> steps, LogitSink* sink) {
  if (options_.cancelled != nullptr && *options_.cancelled) return Fail(ErrorCode::kCancelled, "interrupted");
  struct Head {
    std::unique_ptr<RowAssembler> rows;
    LoadedProduct product;
  };
  std::vector<Head> heads(models_.size());
  std::vector<stream::Lease> leases;
  for (const Step& step : steps) {
    Head& head = heads[step.model];
    const Groups::Group& group = groups_->group(step.begin);
    const checkpoint::TensorInfo tensor = groups_->tensor(step.begin);
    head.rows = std::make_unique<RowAssembler>(tensor.encoding, group.num_rows, tensor.shape[1]);
    SLUICE_TRY(Receive(step, [&](const stream::Piece& piece, const stream::Lease& lease) -> Result<void> {
      head.rows->Add(piece.views[0]);
      leases.push_back(lease);
      return {};
    }));
    head.product.rows = head.rows->rows();
    head.product.columns = tensor.shape[1];
    SLUICE_ASSIGN(head.product.format, FormatOf(tensor.encoding));
  }

  // Runs of neighbouring wanted tiles.
  struct Turn {
    uint64_t begin, count;
  };
  const uint64_t head_tiles = std::min(plan_.chunk_tiles, kMaxHeadTiles);
  std::vector<Turn> turns;
  for (const uint64_t tile : wanted_tiles_) {
    if (!turns.empty() && turns.back().begin + turns.back().count == tile && turns.back().count < head_tiles) {
      ++turns.back().count;
    } else {
      turns.push_back({tile, 1});
    }
  }
  const uint64_t logits_floats = head_tiles * kLogitPanelRows * kTileTokens;
  const uint64_t worker_floats = models_.size() * logits_floats + kernels::kProductScratchFloats;
  const uint64_t load_floats = load_floats_ / static_cast<uint64_t>(workers_->num_threads());
  const auto first_id = static_cast<uint32_t>(steps[0].layer_or_panel * kLogitPanelRows);
  std::mutex mutex;
  Result<void> failed;
  workers_->ParallelFor(turns.size(), [&](uint64_t index, int worker) {
    const Turn& turn = turns[index];
    float* logits = head_buffers_.data() + static_cast<uint64_t>(worker) * worker_floats;
    std::vector<LogitSink::Panel::Logits> of_models(models_.size());
    for (size_t m = 0; m < models_.size(); ++m) {
      const Head& head = heads[m];
      const uint64_t rows = head.product.rows.size();
      float* out = logits + m * logits_floats;
      of_models[m] = {out, rows};
      if (rows == 0) continue;
      auto in = models_[m].hidden->Load(turn.begin, turn.count,
                                        load_buffer_.data() + static_cast<uint64_t>(worker) * load_floats);
      if (!in) {
        const std::lock_guard lock(mutex);
        failed = Fail(std::move(in.error()));
        return;
      }
      kernels::Product({.rows = head.product.rows.data(),
                        .num_rows = rows,
                        .columns = head.product.columns,
                        .format = head.product.format,
                        .in = *in,
                        .in_tile_floats = models_[m].hidden->tile_floats(),
                        .out = out,
                        .out_tile_floats = rows * kTileTokens,
                        .num_tiles = turn.count,
                        .scratch = logits + models_.size() * logits_floats});
      const float cap = models_[m].spec.final_softcap;
      if (cap != 0) kernels::SoftCap(out, cap, turn.count * rows * kTileTokens, out);
    }
    std::vector<LogitSink::Panel::Logits> of_tile(models_.size());
    for (uint64_t t = 0; t < turn.count; ++t) {
      for (size_t m = 0; m < models_.size(); ++m) {
        of_tile[m] = {of_models[m].values + t * of_models[m].rows * kTileTokens, of_models[m].rows};
      }
      sink->Take({turn.begin + t, first_id, of_tile});
    }
  });
  SLUICE_TRY(failed);
  double rows = 0;
  for (const Step& step : steps) {
    rows += static_cast<double>(heads[step.model].product.rows.size() * models_[step.model].spec.hidden);
  }
  Progress(2 * rows * static_cast<double>(plan_.num_logit_tokens));
  return sink->Checkpoint();
}

}  // namespace sluice::infer
