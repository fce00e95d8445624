#include "infer/forward_pass.h"

#include <algorithm>
#include <chrono>
#include <mutex>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "infer/layer_weights.h"
#include "kernels/compare.h"
#include "kernels/layer_ops.h"
#include "kernels/logit_panels.h"
#include "kernels/product.h"

namespace sluice::infer {
namespace {

using kernels::kLogitPanelRows;
using kernels::kTileTokens;

// All logits of as many tiles as this holds wait for a sink's runs: enough tiles for a product that reads each weight
// from memory not too often, of vocabularies as they are.
constexpr uint64_t kMaxTurnBytes = 128 * kMiB;

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

ForwardPass::ForwardPass(TokenBatch batch, std::vector<uint64_t> wanted_tiles, const PassOptions& options)
    : batch_(std::move(batch)), wanted_tiles_(std::move(wanted_tiles)), options_(options) {
  SLUICE_CHECK(options_.budget != nullptr && options_.num_threads > 0 && options_.max_chunk_tiles > 0);
  SLUICE_CHECK(options_.head_runs > 0);
  SLUICE_CHECK(std::ranges::is_sorted(wanted_tiles_));
  SLUICE_CHECK(wanted_tiles_.empty() || wanted_tiles_.back() < batch_.num_tiles());
  SLUICE_CHECK(batch_.num_tiles() <= UINT32_MAX / kTileTokens);  // 16 GB of ids
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
  std::vector<PassGroups::Model> of_models;
  for (const Model& model : pass->models_) of_models.push_back({model.checkpoint, &model.spec});
  pass->groups_ = std::make_unique<PassGroups>(std::move(of_models), !pass->wanted_tiles_.empty());
  SLUICE_ASSIGN(const PassLayout layout, pass->LayOut());
  pass->AddRounds(layout);
  SLUICE_TRY(pass->Provide(layout));
  return pass;
}

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
  models_.push_back({&checkpoint, std::move(spec), 0, nullptr, nullptr});
  return {};
}

// A panel that is a little larger than a tile takes two of them, and those of small models are. Where all are to stay,
// tiles are as large as the panels.
void ForwardPass::ChooseTiles() {
  tile_bytes_ = stream::StreamOptions().max_tile_bytes;
  if (options_.head_runs == 1) return;
  uint64_t largest = 0;
  for (size_t step = groups_->first_head(); step < groups_->steps().size(); ++step) {
    largest = std::max(largest, groups_->SizeBytes(groups_->steps()[step]));
  }
  constexpr uint64_t kMaxTileBytes = 2 * kMiB, kUnit = 64 * kKiB;
  const uint64_t tile_bytes = RoundUp(largest + kUnit / 2, kUnit);
  if (tile_bytes <= kMaxTileBytes) tile_bytes_ = std::max(tile_bytes_, tile_bytes);
}

Result<PassLayout> ForwardPass::LayOut() {
  MemoryBudget& budget = *options_.budget;
  PassDemand demand;
  for (const auto& sequence : batch_.sequences()) {
    demand.sequence_tiles.push_back(CeilDiv(sequence.size(), kTileTokens));
  }
  demand.hidden_tile_bytes = kPlaceBytes;
  for (const Model& model : models_) demand.hidden_tile_bytes += HiddenStates::SizeBytes(1, model.spec.hidden);
  // What must be leased from the stream at one time: a layer, or a panel of each head.
  ChooseTiles();
  uint64_t panels_bytes = 0;
  uint32_t panel = UINT32_MAX;
  for (const PassStep& step : groups_->steps()) {
    const uint64_t bytes = groups_->LeasedBytes(step, tile_bytes_);
    demand.step_bytes.push_back(bytes);
    in_flight_bytes_ = std::max(in_flight_bytes_, bytes);
    if (step.kind != PassStep::Kind::kHead) continue;
    panels_bytes = (step.place == panel ? panels_bytes : 0) + bytes;
    panel = step.place;
    in_flight_bytes_ = std::max(in_flight_bytes_, panels_bytes);
  }
  demand.stream_bytes = LeasedMemory(in_flight_bytes_) + 8 * tile_bytes_;
  demand.num_head_steps = groups_->steps().size() - groups_->first_head();
  demand.head_runs = options_.head_runs;
  budget.ChargeResident();
  const uint64_t free_bytes = budget.free_bytes();
  const auto lay_out = [&](HeadOrder order) {
    demand.spill_moved_bytes = SpillMovedBytes(order);
    demand.working_bytes = [this, order](uint64_t chunk_tiles, bool spill) {
      return WorkingOf(chunk_tiles, spill, order).size_bytes;
    };
    return LayOutPass(demand, {.free_bytes = free_bytes,
                               .max_chunk_tiles = options_.max_chunk_tiles,
                               .max_round_tiles = options_.max_round_tiles,
                               .max_kept_bytes = options_.max_kept_bytes,
                               .spill = options_.spill});
  };
  PassLayout layout = lay_out(HeadOrder::kByPanel);
  if (options_.head_runs > 1 && demand.num_head_steps > 0) {
    // Logits that wait save computing them again, and are not worth reading a byte more.
    PassLayout by_tokens = lay_out(HeadOrder::kByTokens);
    if (by_tokens.kept_steps >= demand.num_head_steps && by_tokens.reread_bytes <= layout.reread_bytes &&
        by_tokens.spill == layout.spill) {
      layout = std::move(by_tokens);
      head_order_ = HeadOrder::kByTokens;
    }
  }
  is_kept_.assign(groups_->steps().size(), false);
  const std::vector<size_t> order = OrderOfKeeping(demand);
  for (size_t i = 0; i < layout.kept_steps; ++i) is_kept_[order[i]] = true;
  plan_.heads_kept = options_.head_runs > 1 && layout.kept_steps >= demand.num_head_steps;
  plan_.chunk_tiles = layout.chunk_tiles;
  plan_.num_rounds = layout.num_rounds();
  plan_.spilled = layout.spill;
  plan_.spill_moved_bytes = layout.spill ? SpillMovedBytes(head_order_) : 0;
  plan_.kept_bytes = layout.kept_bytes;
  plan_.workspace_bytes = WorkingOf(layout.chunk_tiles, layout.spill, head_order_).size_bytes;
  if (plan_.workspace_bytes > free_bytes) {
    const uint64_t needed = plan_.workspace_bytes + demand.stream_bytes, smallest = budget.used_bytes() + needed;
    return Fail(ErrorCode::kBudget,
                fmt::format("--max-memory {} cannot hold this pass: the program itself and {} of weights in flight and "
                            "working arrays need {}; give --max-memory {}MiB or more",
                            FormatMemory(budget.limit_bytes()), FormatMemory(needed), FormatMemory(smallest),
                            AdvisedMib(smallest)));
  }
  return layout;
}

ForwardPass::Working ForwardPass::WorkingOf(uint64_t chunk_tiles, bool spill, HeadOrder order) const {
  Working working;
  uint64_t widest = 0, ids = 0, table_bytes = 0;
  for (const Model& model : models_) {
    working.layer_floats = std::max(
        working.layer_floats, Transformer::WorkspaceFloats(model.spec, batch_, chunk_tiles, options_.num_threads));
    widest = std::max(widest, model.spec.hidden);
    ids += model.spec.vocab;
    table_bytes += Transformer::TableBytes(model.spec, batch_);
  }
  const auto num_threads = static_cast<uint64_t>(options_.num_threads);
  const uint64_t turn_tiles = HeadTurnTiles(chunk_tiles);
  if (!wanted_tiles_.empty()) {
    // Room for each worker to widen weights, and logits: of all ids, or for each worker of a panel of each model.
    const uint64_t logits = order == HeadOrder::kByTokens
                                ? turn_tiles * ids
                                : num_threads * models_.size() * HeadTiles(chunk_tiles) * kLogitPanelRows;
    working.head_floats = logits * kTileTokens + num_threads * kernels::kProductScratchFloats;
  }
  if (spill) {
    // One chunk; the tiles that meet a panel on each worker, or those whose logits wait.
    const uint64_t head_tiles =
        order == HeadOrder::kByTokens ? models_.size() * turn_tiles : num_threads * HeadTiles(chunk_tiles);
    working.load_floats = std::max(num_threads * chunk_tiles, head_tiles) * widest * kTileTokens;
  }
  working.size_bytes = (working.layer_floats + working.head_floats + working.load_floats) * sizeof(float) +
                       table_bytes + (spill ? batch_.num_tiles() * kPlaceBytes : 0);
  return working;
}

uint64_t ForwardPass::HeadTurnTiles(uint64_t chunk_tiles) const {
  uint64_t tile_bytes = 0;
  for (const Model& model : models_) tile_bytes += model.spec.vocab * kTileTokens * sizeof(float);
  return std::clamp<uint64_t>(kMaxTurnBytes / tile_bytes, 1, chunk_tiles);
}

// Each layer reads and writes all hidden states, and each meeting of the head reads those that it needs.
uint64_t ForwardPass::SpillMovedBytes(HeadOrder order) const {
  uint64_t bytes = 0;
  for (const Model& model : models_) {
    bytes += 2 * HiddenStates::SizeBytes(batch_.num_tiles(), model.spec.hidden) * model.spec.layers.size();
    const uint64_t meetings = order == HeadOrder::kByTokens ? 1
                                                            : CeilDiv(model.spec.vocab, kLogitPanelRows) *
                                                                  static_cast<uint64_t>(options_.head_runs);
    bytes += HiddenStates::SizeBytes(wanted_tiles_.size(), model.spec.hidden) * meetings;
  }
  return bytes;
}

void ForwardPass::AddRounds(const PassLayout& layout) {
  auto wanted = wanted_tiles_.begin();
  std::vector<uint32_t> ids;
  for (size_t first = 0; const size_t end : layout.round_ends) {
    Round round;
    round.first_tile = batch_.first_tile(first);
    const uint64_t end_tile = end < batch_.sequences().size() ? batch_.first_tile(end) : batch_.num_tiles();
    round.num_tiles = end_tile - round.first_tile;
    round.chunks = batch_.Chunks(layout.chunk_tiles, first, end);
    for (; wanted != wanted_tiles_.end() && *wanted < end_tile; ++wanted) round.wanted_tiles.push_back(*wanted);
    ids.clear();
    for (size_t sequence = first; sequence < end; ++sequence) {
      ids.insert(ids.end(), batch_.sequences()[sequence].begin(), batch_.sequences()[sequence].end());
    }
    std::ranges::sort(ids);
    for (size_t model = 0; model < models_.size(); ++model)
      round.embeddings.push_back(groups_->AddEmbedding(model, ids));
    rounds_.push_back(std::move(round));
    first = end;
  }
}

Result<void> ForwardPass::Provide(const PassLayout& layout) {
  MemoryBudget& budget = *options_.budget;
  workers_ = std::make_unique<Workers>(options_.num_threads);
  const Working working = WorkingOf(layout.chunk_tiles, layout.spill, head_order_);
  const std::string what = "the forward pass' working arrays";
  SLUICE_ASSIGN(workspace_, FloatArena::Make(working.layer_floats, what, &budget));
  SLUICE_ASSIGN(head_buffers_, FloatArena::Make(working.head_floats, what, &budget));
  load_floats_ = working.load_floats;
  SLUICE_ASSIGN(load_buffer_, FloatArena::Make(load_floats_, what, &budget));

  plan_.num_tokens = batch_.num_tokens();
  plan_.num_logit_tokens = TokensIn(wanted_tiles_);
  uint64_t most_tiles = 0;
  for (const Round& round : rounds_) most_tiles = std::max(most_tiles, round.num_tiles);
  for (Model& model : models_) {
    plan_.hidden_bytes += HiddenStates::SizeBytes(most_tiles, model.spec.hidden);
    auto hidden = layout.spill ? HiddenStates::InFile(most_tiles, model.spec.hidden)
                               : HiddenStates::InMemory(most_tiles, model.spec.hidden, &budget);
    if (!hidden) return Fail(std::move(hidden.error()));
    model.hidden = std::make_unique<HiddenStates>(std::move(*hidden));
    SLUICE_ASSIGN(Transformer transformer,
                  Transformer::Make(model.spec, batch_, plan_.chunk_tiles, workers_.get(), &workspace_, &budget));
    model.transformer = std::make_unique<Transformer>(std::move(transformer));
    const double operations = Transformer::LayerOperations(model.spec, batch_);
    model.layer_operations = operations / static_cast<double>(model.spec.layers.size());
    plan_.operations += operations;
    const double head_times = head_order_ == HeadOrder::kByTokens ? 1 : options_.head_runs;
    plan_.operations += 2.0 * static_cast<double>(plan_.num_logit_tokens) * static_cast<double>(model.spec.vocab) *
                        static_cast<double>(model.spec.hidden) * head_times;
  }
  stream::StreamOptions options;
  options.num_threads = options_.num_threads;
  options.budget = options_.budget;
  options.cancelled = options_.cancelled;
  options.reader = options_.reader;
  options.max_tile_bytes = tile_bytes_;
  options.wants.held_bytes = in_flight_bytes_ + layout.kept_bytes;
  options.read_ahead_bytes = std::max(options.read_ahead_bytes, in_flight_bytes_);  // the next layer, if there is room
  SLUICE_ASSIGN(stream_, stream::Stream::Open(*groups_, options));
  kept_.resize(groups_->steps().size());

  plan_.stream = stream_->plan();
  CountRepeats();
  constexpr double kUsualRate = 1.5e9;  // of a disk, bytes a second, where the stream's plan measured none
  const double disk_rate = plan_.stream.read_bytes_per_second > 0 ? plan_.stream.read_bytes_per_second : kUsualRate;
  plan_.stream.io_seconds += static_cast<double>(plan_.spill_moved_bytes) / disk_rate;
  plan_.operations_per_second = MeasureOperationsPerSecond(options_.num_threads);
  plan_.seconds =
      std::max(plan_.stream.io_seconds, plan_.operations / plan_.operations_per_second + plan_.stream.cpu_seconds);
  return {};
}

uint64_t ForwardPass::TokensIn(const std::vector<uint64_t>& tiles) const {
  uint64_t tokens = 0;
  for (const uint64_t tile : tiles) tokens += batch_.tile(tile).num_tokens;
  return tokens;
}

// The stream's plan has every group once; the groups of steps that are not kept come again with each round, those of
// heads with each run.
void ForwardPass::CountRepeats() {
  uint64_t all_bytes = 0, again_bytes = 0;
  const auto runs = static_cast<uint64_t>(options_.head_runs);
  for (size_t i = 0; i < groups_->steps().size(); ++i) {
    const uint64_t bytes = groups_->SizeBytes(groups_->steps()[i]);
    all_bytes += bytes;
    if (!is_kept_[i]) again_bytes += bytes * (rounds_.size() * (i >= groups_->first_head() ? runs : 1) - 1);
  }
  for (const Round& round : rounds_) {
    for (const PassStep& step : round.embeddings) all_bytes += groups_->SizeBytes(step);
  }
  // What is computed reads other bytes than it has; stored weights, as many.
  const double more = static_cast<double>(again_bytes) / static_cast<double>(std::max<uint64_t>(all_bytes, 1));
  stream::Plan& plan = plan_.stream;
  plan.read_bytes = all_bytes == plan.read_bytes
                        ? all_bytes + again_bytes
                        : static_cast<uint64_t>(static_cast<double>(plan.read_bytes) * (1 + more));
  for (double* seconds : {&plan.io_seconds, &plan.cpu_seconds, &plan.seconds}) *seconds *= 1 + more;
}

// Hands every piece of a step's groups to use(piece, lease), in order within a group.
template <class Use>
Result<void> ForwardPass::Receive(const PassStep& step, const Use& use) {
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

Result<std::shared_ptr<const LoadedTensors>> ForwardPass::Load(size_t step) {
  if (kept_[step] != nullptr) return kept_[step];
  const PassStep& groups = groups_->steps()[step];
  auto tensors = std::make_shared<LoadedTensors>();
  for (uint32_t group = groups.begin; group < groups.end; ++group) {
    tensors->Expect(groups_->tensor(group), groups_->num_rows(group));
  }
  SLUICE_TRY(Receive(groups, [&](const stream::Piece& piece, const stream::Lease& lease) -> Result<void> {
    tensors->Add(std::string(groups_->tensor(piece.group).name), piece.views[0]);
    if (&piece == &lease.pieces().back()) tensors->Keep(lease);
    return {};
  }));
  if (is_kept_[step]) kept_[step] = tensors;
  return std::shared_ptr<const LoadedTensors>(std::move(tensors));
}

void ForwardPass::Progress(double operations) {
  operations_done_ += operations;
  if (progress_) progress_(std::min(1.0, operations_done_ / std::max(plan_.operations, 1.0)));
}

Result<PassStats> ForwardPass::Run(LogitSink* sink, ProgressFunction progress) {
  progress_ = std::move(progress);
  const auto start = std::chrono::steady_clock::now();
  std::vector<uint32_t> groups;
  const auto enqueue = [&](const PassStep& step) {
    groups.clear();
    for (uint32_t group = step.begin; group < step.end; ++group) groups.push_back(group);
    stream_->Enqueue(groups);
  };
  for (size_t round = 0; round < rounds_.size(); ++round) {
    for (const PassStep& step : rounds_[round].embeddings) enqueue(step);
    for (int run = 0; run < options_.head_runs; ++run) {
      for (size_t step = run == 0 ? 0 : groups_->first_head(); step < groups_->steps().size(); ++step) {
        if (!is_kept_[step] || (round == 0 && run == 0)) enqueue(groups_->steps()[step]);
      }
    }
  }
  for (const Round& round : rounds_) SLUICE_TRY(RunRound(round, sink));
  PassStats stats;
  stats.bytes_read = stream_->stats().payload_bytes;
  stats.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return stats;
}

Result<void> ForwardPass::RunRound(const Round& round, LogitSink* sink) {
  for (const PassStep& step : round.embeddings) SLUICE_TRY(RunEmbedding(round, step));
  const std::vector<PassStep>& steps = groups_->steps();
  for (size_t step = 0; step < groups_->first_head(); ++step) {
    SLUICE_CHECK(steps[step].kind == PassStep::Kind::kLayer || steps[step].kind == PassStep::Kind::kFinalNorm);
    SLUICE_TRY(steps[step].kind == PassStep::Kind::kLayer ? RunLayer(round, step) : RunFinalNorm(round, step));
  }
  if (head_order_ == HeadOrder::kByTokens) return RunHeadsByTokens(round, sink);
  for (int run = 0; run < options_.head_runs; ++run) {
    for (size_t step = groups_->first_head(), end; step < steps.size(); step = end) {
      end = step + 1;
      while (end < steps.size() && steps[end].place == steps[step].place) ++end;
      SLUICE_TRY(RunHeads(round, run, step, end, sink));
    }
  }
  return {};
}

std::vector<ForwardPass::TokenPlace> ForwardPass::TokensById(const Round& round) const {
  std::vector<TokenPlace> tokens;
  tokens.reserve(round.num_tiles * kTileTokens);
  for (uint64_t tile = 0; tile < round.num_tiles; ++tile) {
    const TokenBatch::Tile& place = batch_.tile(round.first_tile + tile);
    const std::vector<uint32_t>& ids = batch_.sequences()[place.sequence];
    for (uint32_t lane = 0; lane < place.num_tokens; ++lane) {
      tokens.push_back({ids[place.index * kTileTokens + lane], static_cast<uint32_t>(tile * kTileTokens + lane)});
    }
  }
  std::ranges::sort(tokens, {}, &TokenPlace::id);
  return tokens;
}

Result<void> ForwardPass::RunEmbedding(const Round& round, const PassStep& step) {
  Model& model = models_[step.model];
  const std::vector<TokenPlace> tokens = TokensById(round);
  std::vector<float> row(model.spec.hidden);
  // Lanes behind a sequence's end hold what an earlier round left there.
  for (uint64_t tile = 0; tile < round.num_tiles; ++tile) {
    for (uint64_t lane = batch_.tile(round.first_tile + tile).num_tokens; lane < kTileTokens; ++lane) {
      SLUICE_TRY(model.hidden->WriteRow(tile, lane, row.data()));
    }
  }
  std::unique_ptr<RowAssembler> rows;
  uint64_t rows_done = 0;
  return Receive(step, [&](const stream::Piece& piece, const stream::Lease&) -> Result<void> {
    const PassGroups::Group& group = groups_->group(piece.group);
    const checkpoint::TensorInfo tensor = groups_->tensor(piece.group);
    if (piece.first) {
      rows = std::make_unique<RowAssembler>(tensor.encoding, group.num_rows, model.spec.hidden);
      rows_done = 0;
    }
    rows->Add(piece.views[0]);
    for (; rows_done < rows->rows().size(); ++rows_done) {
      const auto id = static_cast<uint32_t>(group.first_row + rows_done);
      auto token = std::ranges::lower_bound(tokens, id, {}, &TokenPlace::id);
      if (token == tokens.end() || token->id != id) continue;
      tensor.encoding->decode(rows->rows()[rows_done], row.size(), row.data());
      if (kernels::CountNans(row.data(), row.size()) > 0) {
        return Fail(ErrorCode::kCorrupt, fmt::format("{}: embedding: tensor {} has a NaN in the row of token {}",
                                                     model.checkpoint->ref(), tensor.name, id));
      }
      for (; token != tokens.end() && token->id == id; ++token) {
        SLUICE_TRY(model.hidden->WriteRow(token->place / kTileTokens, token->place % kTileTokens, row.data()));
      }
    }
    return {};  // the lease may go: what this piece holds of the next row was copied
  });
}

Result<void> ForwardPass::ReportNan(const Model& model, const std::string& step, const LoadedTensors& tensors) const {
  const std::string tensor = tensors.FirstWithNan();
  const std::string where = fmt::format("{}: {}", model.checkpoint->ref(), step);
  if (tensor.empty()) {
    return Fail(ErrorCode::kCorrupt, where +
                                         ": its output is not a number, though no weight of it is: the activations "
                                         "overflowed, in it or before it");
  }
  return Fail(ErrorCode::kCorrupt, fmt::format("{}: tensor {} has a NaN, and nothing behind it would mean anything; "
                                               "`sluice verify` finds where it differs from a sound copy",
                                               where, tensor));
}

Result<void> ForwardPass::RunLayer(const Round& round, size_t step) {
  const auto& [kind, model_index, layer, begin, end] = groups_->steps()[step];
  Model& model = models_[model_index];
  SLUICE_ASSIGN(const std::shared_ptr<const LoadedTensors> tensors, Load(step));
  SLUICE_ASSIGN(const LayerWeights weights, WeightsOf(model.spec.layers[layer], *tensors));
  for (const TokenBatch::Chunk& chunk : round.chunks) {
    if (options_.cancelled != nullptr && *options_.cancelled) return Fail(ErrorCode::kCancelled, "interrupted");
    const uint64_t at = chunk.begin - round.first_tile;
    SLUICE_ASSIGN(float* x, model.hidden->Load(at, chunk.count, load_buffer_.data()));
    if (layer == 0) model.transformer->RowsToTiles(chunk.count, x);
    if (!model.transformer->RunLayer(layer, weights, chunk, x)) {
      return ReportNan(model, fmt::format("layer {}", layer), *tensors);
    }
    SLUICE_TRY(model.hidden->Store(at, chunk.count, x));
    Progress(model.layer_operations * static_cast<double>(chunk.count) / static_cast<double>(batch_.num_tiles()));
  }
  return {};
}

Result<void> ForwardPass::RunFinalNorm(const Round& round, size_t step) {
  Model& model = models_[groups_->steps()[step].model];
  SLUICE_ASSIGN(const std::shared_ptr<const LoadedTensors> tensors, Load(step));
  const std::span<const float> weight = tensors->vector(model.spec.final_norm.weight);
  for (const auto& [begin, count] : RunsOf(round.wanted_tiles, plan_.chunk_tiles)) {
    const uint64_t at = begin - round.first_tile;
    SLUICE_ASSIGN(float* x, model.hidden->Load(at, count, load_buffer_.data()));
    model.transformer->FinalNorm(weight, count, x);
    if (kernels::CountNans(x, count * model.hidden->tile_floats()) > 0) return ReportNan(model, "final norm", *tensors);
    SLUICE_TRY(model.hidden->Store(at, count, x));
  }
  return {};
}

}  // namespace sluice::infer
