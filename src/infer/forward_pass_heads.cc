// The last part of a pass: the heads' products, whose logits a sink takes.
#include <algorithm>
#include <mutex>

#include "base/units.h"
#include "infer/forward_pass.h"
#include "kernels/compare.h"
#include "kernels/layer_ops.h"
#include "kernels/logit_panels.h"
#include "kernels/product.h"

namespace sluice::infer {

using kernels::kLogitPanelRows;
using kernels::kTileTokens;

Result<LoadedProduct> ForwardPass::PanelOf(size_t step, const LoadedTensors& tensors) const {
  const PassStep& panel = groups_->steps()[step];
  ProductSpec spec = models_[panel.model].spec.head;
  spec.out = groups_->num_rows(panel.begin);
  return ProductOf(spec, tensors);
}

// in: [num_tiles][hidden][16], out: [num_tiles][rows][16]. False where a NaN comes out.
bool ForwardPass::ComputeLogits(const Model& model, const LoadedProduct& panel, const float* in, uint64_t num_tiles,
                                float* out, float* scratch) {
  const uint64_t rows = panel.rows.size(), count = num_tiles * rows * kTileTokens;
  kernels::Product({.rows = panel.rows.data(),
                    .num_rows = rows,
                    .columns = panel.columns,
                    .format = panel.format,
                    .in = in,
                    .in_tile_floats = model.hidden->tile_floats(),
                    .out = out,
                    .out_tile_floats = rows * kTileTokens,
                    .num_tiles = num_tiles,
                    .scratch = scratch});
  if (kernels::CountNans(out, count) > 0) return false;
  const float cap = model.spec.final_softcap;
  if (cap != 0) kernels::SoftCap(out, cap, count, out);
  return true;
}

Result<void> ForwardPass::RunHeads(const Round& round, int run, size_t first_step, size_t end_step, LogitSink* sink) {
  if (options_.cancelled != nullptr && *options_.cancelled) return Fail(ErrorCode::kCancelled, "interrupted");
  std::vector<LoadedProduct> heads(models_.size());
  std::vector<std::shared_ptr<const LoadedTensors>> loaded;
  double operations = 0;
  for (size_t step = first_step; step < end_step; ++step) {
    SLUICE_ASSIGN(loaded.emplace_back(), Load(step));
    LoadedProduct& head = heads[groups_->steps()[step].model];
    SLUICE_ASSIGN(head, PanelOf(step, *loaded.back()));
    operations += 2 * static_cast<double>(head.rows.size() * head.columns);
  }

  const uint64_t head_tiles = HeadTiles(plan_.chunk_tiles);
  const std::vector<TileRun> turns = RunsOf(round.wanted_tiles, head_tiles);
  const uint64_t logits_floats = head_tiles * kLogitPanelRows * kTileTokens;
  const uint64_t worker_floats = models_.size() * logits_floats + kernels::kProductScratchFloats;
  const uint64_t load_floats = load_floats_ / static_cast<uint64_t>(workers_->num_threads());
  const auto first_id = static_cast<uint32_t>(groups_->steps()[first_step].place * kLogitPanelRows);
  std::mutex mutex;
  Result<void> failed;
  std::vector<std::atomic<bool>> with_nan(models_.size());
  workers_->ParallelFor(turns.size(), [&](uint64_t index, int worker) {
    const TileRun& turn = turns[index];
    float* logits = head_buffers_.data() + static_cast<uint64_t>(worker) * worker_floats;
    std::vector<LogitSink::Panel::Logits> of_models(models_.size());
    for (size_t m = 0; m < models_.size(); ++m) {
      const uint64_t rows = heads[m].rows.size();
      float* out = logits + m * logits_floats;
      of_models[m] = {out, rows};
      if (rows == 0) continue;
      auto in = models_[m].hidden->Load(turn.begin - round.first_tile, turn.count,
                                        load_buffer_.data() + static_cast<uint64_t>(worker) * load_floats);
      if (!in) {
        const std::lock_guard lock(mutex);
        failed = Fail(std::move(in.error()));
        return;
      }
      float* scratch = logits + models_.size() * logits_floats;
      if (!ComputeLogits(models_[m], heads[m], *in, turn.count, out, scratch)) with_nan[m] = true;
    }
    std::vector<LogitSink::Panel::Logits> of_tile(models_.size());
    for (uint64_t t = 0; t < turn.count; ++t) {
      for (size_t m = 0; m < models_.size(); ++m) {
        of_tile[m] = {of_models[m].values + t * of_models[m].rows * kTileTokens, of_models[m].rows};
      }
      sink->Take({turn.begin + t, first_id, of_tile, run});
    }
  });
  SLUICE_TRY(failed);
  for (size_t step = first_step; step < end_step; ++step) {
    const uint32_t m = groups_->steps()[step].model;
    if (with_nan[m]) return ReportNan(models_[m], "head", *loaded[step - first_step]);
  }
  Progress(operations * static_cast<double>(TokensIn(round.wanted_tiles)));
  return sink->Checkpoint();
}

Result<void> ForwardPass::RunHeadsByTokens(const Round& round, LogitSink* sink) {
  const size_t first_step = groups_->first_head(), num_panels = groups_->steps().size() - first_step;
  const uint64_t turn_tiles = HeadTurnTiles(plan_.chunk_tiles), head_tiles = HeadTiles(plan_.chunk_tiles);
  std::vector<LoadedProduct> panels(num_panels);
  std::vector<std::shared_ptr<const LoadedTensors>> loaded(num_panels);
  double operations = 0;  // of a token
  uint64_t most_panels = 0;
  for (size_t i = 0; i < num_panels; ++i) {
    SLUICE_ASSIGN(loaded[i], Load(first_step + i));
    SLUICE_ASSIGN(panels[i], PanelOf(first_step + i, *loaded[i]));
    operations += 2 * static_cast<double>(panels[i].rows.size() * panels[i].columns);
    most_panels = std::max(most_panels, uint64_t{groups_->steps()[first_step + i].place} + 1);
  }
  // Logits of a turn: model by model, in it panel by panel, [tiles of the turn][rows][16] each.
  std::vector<float*> of_model;
  float* scratch = head_buffers_.data();
  uint64_t load_floats = 0;
  std::vector<float*> load_to;
  for (const Model& model : models_) {
    of_model.push_back(scratch);
    scratch += model.spec.vocab * turn_tiles * kTileTokens;
    load_to.push_back(load_buffer_.data() + load_floats);
    if (load_floats_ > 0) load_floats += turn_tiles * model.hidden->tile_floats();
  }
  const auto logits_at = [&](uint32_t model, uint64_t place, uint64_t turn_count) {
    return of_model[model] + place * kLogitPanelRows * turn_count * kTileTokens;
  };

  for (const TileRun& turn : RunsOf(round.wanted_tiles, turn_tiles)) {
    if (options_.cancelled != nullptr && *options_.cancelled) return Fail(ErrorCode::kCancelled, "interrupted");
    std::vector<const float*> in;
    for (size_t m = 0; m < models_.size(); ++m) {
      SLUICE_ASSIGN(in.emplace_back(), models_[m].hidden->Load(turn.begin - round.first_tile, turn.count, load_to[m]));
    }
    const uint64_t parts = CeilDiv(turn.count, head_tiles);  // of a panel, for as many workers
    std::vector<std::atomic<bool>> with_nan(num_panels);
    workers_->ParallelFor(num_panels * parts, [&](uint64_t index, int worker) {
      const uint64_t i = index / parts, begin = index % parts * head_tiles;
      const PassStep& step = groups_->steps()[first_step + i];
      const Model& model = models_[step.model];
      float* out = logits_at(step.model, step.place, turn.count) + begin * panels[i].rows.size() * kTileTokens;
      if (!ComputeLogits(model, panels[i], in[step.model] + begin * model.hidden->tile_floats(),
                         std::min(head_tiles, turn.count - begin), out,
                         scratch + static_cast<uint64_t>(worker) * kernels::kProductScratchFloats)) {
        with_nan[i] = true;
      }
    });
    for (size_t i = 0; i < num_panels; ++i) {
      if (with_nan[i]) return ReportNan(models_[groups_->steps()[first_step + i].model], "head", *loaded[i]);
    }
    workers_->ParallelFor(turn.count, [&](uint64_t t, int) {
      std::vector<LogitSink::Panel::Logits> of_tile(models_.size());
      for (int run = 0; run < options_.head_runs; ++run) {
        for (uint64_t place = 0; place < most_panels; ++place) {
          const uint64_t first_id = place * kLogitPanelRows;
          for (uint32_t m = 0; m < models_.size(); ++m) {
            const uint64_t vocab = models_[m].spec.vocab;
            const uint64_t rows = first_id < vocab ? std::min(kLogitPanelRows, vocab - first_id) : 0;
            of_tile[m] = {rows == 0 ? nullptr : logits_at(m, place, turn.count) + t * rows * kTileTokens, rows};
          }
          sink->Take({turn.begin + t, static_cast<uint32_t>(first_id), of_tile, run});
        }
      }
    });
    uint64_t tokens = 0;
    for (uint64_t t = 0; t < turn.count; ++t) tokens += batch_.tile(turn.begin + t).num_tokens;
    Progress(operations * static_cast<double>(tokens));
    SLUICE_TRY(sink->Checkpoint());
  }
  return {};
}

}  // namespace sluice::infer
