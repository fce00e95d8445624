#include "infer/transformer.h"

#include <algorithm>
#include <atomic>

#include "base/check.h"
#include "base/units.h"
#include "kernels/attention.h"
#include "kernels/compare.h"
#include "kernels/layer_ops.h"
#include "kernels/product.h"

namespace sluice::infer {
namespace {

using kernels::kTileTokens;

// Products are divided among workers by rows, finely enough that none waits long for the last.
constexpr uint64_t kTurnsPerWorker = 4;

static_assert(kRopeTileTokens == kTileTokens);

// Sizes of the working arrays, in floats.
struct Sizes {
  uint64_t key_tiles, scratch, hidden, attention_or_ffn, keys;

  Sizes(const ModelSpec& spec, const TokenBatch& batch, uint64_t chunk_tiles) {
    uint64_t features = 0, key_features = 0;
    for (const LayerSpec& layer : spec.layers) {
      features = std::max({features, layer.attention.heads * layer.attention.head_dim, layer.mlp.ffn});
      key_features = std::max(key_features, layer.attention.kv_heads * layer.attention.head_dim);
    }
    // Whichever sequences a chunk has: several whole ones, or a part of one and the keys of what came before it.
    key_tiles = std::min(batch.num_tiles(), std::max(chunk_tiles, CeilDiv(batch.longest(), kTileTokens)));
    scratch = std::max(kernels::kProductScratchFloats, kernels::kAttentionScratchFloats);
    hidden = chunk_tiles * spec.hidden * kTileTokens;
    attention_or_ffn = chunk_tiles * features * kTileTokens;
    keys = key_tiles * key_features * kTileTokens;
  }
};

// Of one table of cosines or sines.
uint64_t TableFloats(const RopeSpec& rope, const TokenBatch& batch) {
  return FloatArena::RoundedFloats(RoundUp(batch.longest(), kTileTokens) * (rope.rotary_dim / 2));
}

}  // namespace

uint64_t Transformer::WorkspaceFloats(const ModelSpec& spec, const TokenBatch& batch, uint64_t chunk_tiles,
                                      int num_threads) {
  const Sizes sizes(spec, batch, chunk_tiles);
  return sizes.scratch * static_cast<uint64_t>(num_threads) + 2 * (sizes.hidden + sizes.attention_or_ffn + sizes.keys);
}

uint64_t Transformer::TableBytes(const ModelSpec& spec, const TokenBatch& batch) {
  uint64_t floats = 0;
  for (const RopeSpec& rope : spec.ropes) floats += 2 * TableFloats(rope, batch);
  return floats * sizeof(float);
}

Result<Transformer> Transformer::Make(const ModelSpec& spec, const TokenBatch& batch, uint64_t chunk_tiles,
                                      Workers* workers, FloatArena* workspace, MemoryBudget* budget) {
  const Sizes sizes(spec, batch, chunk_tiles);
  Transformer transformer(spec, batch, workers);
  transformer.chunk_tiles_ = chunk_tiles;
  transformer.key_tiles_ = sizes.key_tiles;
  workspace->Rewind();
  for (int worker = 0; worker < workers->num_threads(); ++worker) {
    transformer.scratch_.push_back(workspace->Take(sizes.scratch));
  }
  transformer.normed_ = workspace->Take(sizes.hidden);
  transformer.added_ = workspace->Take(sizes.hidden);
  transformer.queries_ = transformer.gate_ = workspace->Take(sizes.attention_or_ffn);
  transformer.attended_ = transformer.up_ = workspace->Take(sizes.attention_or_ffn);
  transformer.keys_ = workspace->Take(sizes.keys);
  transformer.values_ = workspace->Take(sizes.keys);
  SLUICE_ASSIGN(transformer.tables_,
                FloatArena::Make(TableBytes(spec, batch) / sizeof(float), "tables of rotary embedding", budget));
  for (const RopeSpec& rope : spec.ropes) {
    RopeTables tables;
    tables.cosines = transformer.tables_.Take(TableFloats(rope, batch));
    tables.sines = transformer.tables_.Take(TableFloats(rope, batch));
    transformer.ropes_.push_back(tables);
  }
  return transformer;
}

double Transformer::LayerOperations(const ModelSpec& spec, const TokenBatch& batch) {
  const auto tokens = static_cast<double>(batch.num_tokens());
  double total = 0;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    for (const ProductSpec* product : {&attention.q, &attention.k, &attention.v, &attention.qkv, &attention.o,
                                       &layer.mlp.gate, &layer.mlp.up, &layer.mlp.gate_up, &layer.mlp.down}) {
      total += 2 * tokens * static_cast<double>(product->out) * static_cast<double>(product->in);
    }
    for (const auto& sequence : batch.sequences()) {
      const auto length = static_cast<double>(sequence.size());
      const double window = attention.window == 0 ? length : static_cast<double>(attention.window);
      const double pairs = length <= window ? length * (length + 1) / 2 : window * (length - window / 2);
      total += 4 * pairs * static_cast<double>(attention.heads * attention.head_dim);
    }
  }
  return total;
}

void Transformer::RunProducts(std::initializer_list<ProductJob> jobs, uint64_t count) {
  struct Turn {
    const ProductJob* job;
    uint64_t begin, rows;
  };
  uint64_t all_rows = 0;
  for (const ProductJob& job : jobs) all_rows += job.weights->rows.size();
  const uint64_t share = CeilDiv(all_rows, kTurnsPerWorker * static_cast<uint64_t>(workers_->num_threads()));
  const uint64_t step = std::min(RoundUp(share, kernels::kProductRowStep), kernels::kProductPanelRows);
  std::vector<Turn> turns;
  for (const ProductJob& job : jobs) {
    const uint64_t rows = job.weights->rows.size();
    for (uint64_t begin = 0; begin < rows; begin += step) turns.push_back({&job, begin, std::min(step, rows - begin)});
  }
  workers_->ParallelFor(turns.size(), [&](uint64_t index, int worker) {
    const auto& [job, begin, rows] = turns[index];
    const LoadedProduct& weights = *job->weights;
    kernels::Product({.rows = weights.rows.data() + begin,
                      .num_rows = rows,
                      .columns = weights.columns,
                      .format = weights.format,
                      .bias = weights.bias.empty() ? nullptr : weights.bias.data() + begin,
                      .in = job->in,
                      .in_tile_floats = weights.columns * kTileTokens,
                      .out = job->out + begin * kTileTokens,
                      .out_tile_floats = weights.rows.size() * kTileTokens,
                      .num_tiles = count,
                      .scratch = scratch_[worker]});
  });
}

void Transformer::Norm(const NormSpec& norm, std::span<const float> weight, const float* in, float* out) const {
  SLUICE_CHECK(weight.size() == norm.size);
  kernels::RmsNorm(in, weight.data(), norm.add_one ? 1.0f : 0.0f, norm.eps, norm.size, out);
}

bool Transformer::RunLayer(size_t layer, const LayerWeights& weights, const TokenBatch::Chunk& chunk, float* x) {
  const LayerSpec& spec = spec_.layers[layer];
  const AttentionSpec& attention = spec.attention;
  const uint64_t tile = spec_.hidden * kTileTokens;
  const uint64_t keys_tile = attention.kv_heads * attention.head_dim * kTileTokens;
  const uint64_t first_slot = chunk.begin - chunk.keys_begin;
  SLUICE_CHECK(chunk.count <= chunk_tiles_ && first_slot + chunk.count <= key_tiles_);

  workers_->ParallelFor(chunk.count, [&](uint64_t t, int) {
    Norm(spec.input_norm, weights.input_norm, x + t * tile, normed_ + t * tile);
  });
  RunProducts({{&weights.q, normed_, queries_},
               {&weights.k, normed_, keys_ + first_slot * keys_tile},
               {&weights.v, normed_, values_ + first_slot * keys_tile}},
              chunk.count);
  RotateChunk(attention, weights, chunk);
  AttendChunk(attention, chunk);
  RunProducts({{&weights.o, attended_, added_}}, chunk.count);
  workers_->ParallelFor(chunk.count, [&](uint64_t t, int) {
    float *to = x + t * tile, *added = added_ + t * tile;
    if (spec.post_attention_norm) Norm(spec.post_attention_norm, weights.post_attention_norm, added, added);
    kernels::AddTiles(to, added, tile, to);
    Norm(spec.mlp_norm, weights.mlp_norm, to, normed_ + t * tile);
  });
  RunProducts({{&weights.gate, normed_, gate_}, {&weights.up, normed_, up_}}, chunk.count);
  workers_->ParallelFor(chunk.count, [&](uint64_t t, int) {
    const uint64_t count = spec.mlp.ffn * kTileTokens;
    float* gate = gate_ + t * count;
    const auto multiply = spec.mlp.activation == Activation::kSilu ? kernels::SiluMultiply : kernels::GeluTanhMultiply;
    multiply(gate, up_ + t * count, count, gate);
  });
  RunProducts({{&weights.down, gate_, added_}}, chunk.count);
  std::atomic<bool> has_nan = false;
  workers_->ParallelFor(chunk.count, [&](uint64_t t, int) {
    float *to = x + t * tile, *added = added_ + t * tile;
    if (spec.post_mlp_norm) Norm(spec.post_mlp_norm, weights.post_mlp_norm, added, added);
    kernels::AddTiles(to, added, tile, to);
    if (kernels::CountNans(to, tile) > 0) has_nan = true;
  });
  return !has_nan;
}

const Transformer::RopeTables& Transformer::TablesFor(const AttentionSpec& attention, uint64_t sequence) {
  const RopeSpec& rope = spec_.ropes[attention.rope];
  RopeTables& tables = ropes_[attention.rope];
  // Each sequence for itself: it is to give the same alone.
  const uint64_t num_positions = DependsOnLength(rope) ? batch_.sequences()[sequence].size() : batch_.longest();
  if (tables.num_positions != num_positions) {
    const RopeFrequencies frequencies = FrequenciesOf(rope, num_positions);
    const uint64_t size = RopeTableSize(frequencies, 0, num_positions);
    FillRopeTables(frequencies, 0, num_positions, {tables.cosines, size}, {tables.sines, size});
    tables.num_positions = num_positions;
  }
  return tables;
}

void Transformer::RotateChunk(const AttentionSpec& attention, const LayerWeights& weights,
                              const TokenBatch::Chunk& chunk) {
  const uint64_t dim = attention.head_dim, head_floats = dim * kTileTokens;
  const uint64_t rotary = spec_.ropes[attention.rope].rotary_dim, table_tile = rotary / 2 * kTileTokens;
  const auto prepare = [&](float* heads, uint64_t num_heads, const NormSpec& norm, std::span<const float> weight,
                           const float* cosines, const float* sines) {
    for (uint64_t head = 0; norm && head < num_heads; ++head) {
      Norm(norm, weight, heads + head * head_floats, heads + head * head_floats);
    }
    kernels::Rope(heads, num_heads, dim, rotary, cosines, sines);
  };
  for (uint64_t begin = chunk.begin, end; begin < chunk.begin + chunk.count; begin = end) {
    const uint32_t sequence = batch_.tile(begin).sequence;
    for (end = begin + 1; end < chunk.begin + chunk.count && batch_.tile(end).sequence == sequence;) ++end;
    const RopeTables& tables = TablesFor(attention, sequence);
    workers_->ParallelFor(end - begin, [&](uint64_t i, int) {
      const uint64_t at = batch_.tile(begin + i).index * table_tile;
      const float *cosines = tables.cosines + at, *sines = tables.sines + at;
      float* queries = queries_ + (begin + i - chunk.begin) * attention.heads * head_floats;
      float* keys = keys_ + (begin + i - chunk.keys_begin) * attention.kv_heads * head_floats;
      prepare(queries, attention.heads, attention.q_norm, weights.q_norm, cosines, sines);
      prepare(keys, attention.kv_heads, attention.k_norm, weights.k_norm, cosines, sines);
    });
  }
}

void Transformer::AttendChunk(const AttentionSpec& attention, const TokenBatch::Chunk& chunk) {
  const uint64_t head_floats = attention.head_dim * kTileTokens, keys_tile = attention.kv_heads * head_floats;
  const uint64_t num_key_tiles = chunk.begin + chunk.count - chunk.keys_begin;
  key_pointers_.resize(num_key_tiles);
  value_pointers_.resize(num_key_tiles);
  for (uint64_t slot = 0; slot < num_key_tiles; ++slot) {
    key_pointers_[slot] = keys_ + slot * keys_tile;
    value_pointers_[slot] = values_ + slot * keys_tile;
  }
  const uint64_t group = attention.heads / attention.kv_heads;
  workers_->ParallelFor(chunk.count * attention.kv_heads, [&](uint64_t index, int worker) {
    // The last tiles see the most keys: first, so that no worker is left with one at the end.
    const uint64_t t = chunk.count - 1 - index / attention.kv_heads, kv_head = index % attention.kv_heads;
    const TokenBatch::Tile& tile = batch_.tile(chunk.begin + t);
    const uint64_t first_key_tile = kernels::FirstKeyTile(tile.index, attention.window);
    const uint64_t slot = batch_.first_tile(tile.sequence) + first_key_tile - chunk.keys_begin;
    const uint64_t at = (t * attention.heads + kv_head * group) * head_floats;
    kernels::Attention({.q = queries_ + at,
                        .num_heads = group,
                        .head_dim = attention.head_dim,
                        .query_tile = tile.index,
                        .keys = key_pointers_.data() + slot,
                        .values = value_pointers_.data() + slot,
                        .first_key_tile = first_key_tile,
                        .first_feature = kv_head * attention.head_dim,
                        .window = attention.window,
                        .scale = attention.scale,
                        .soft_cap = attention.softcap,
                        .out = attended_ + at,
                        .scratch = scratch_[worker]});
  });
}

void Transformer::RowsToTiles(uint64_t count, float* x) {
  const uint64_t tile = spec_.hidden * kTileTokens;
  workers_->ParallelFor(count, [&](uint64_t t, int) {
    float *rows = x + t * tile, *copy = normed_ + t * tile;
    std::copy_n(rows, tile, copy);
    const float* pointers[kTileTokens];
    for (uint64_t lane = 0; lane < kTileTokens; ++lane) pointers[lane] = copy + lane * spec_.hidden;
    kernels::RowsToTile(pointers, spec_.hidden, rows);
    if (spec_.embedding_scale != 1) kernels::ScaleTiles(rows, spec_.embedding_scale, tile, rows);
  });
}

void Transformer::FinalNorm(std::span<const float> weight, uint64_t count, float* x) {
  const uint64_t tile = spec_.hidden * kTileTokens;
  workers_->ParallelFor(count, [&](uint64_t t, int) { Norm(spec_.final_norm, weight, x + t * tile, x + t * tile); });
}

}  // namespace sluice::infer
