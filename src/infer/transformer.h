// Transformer: the arithmetic of a model's layers over chunks of tiles (kernels/tile.h), f32. It is handed weights and
// tokens; where they come from is not its business. A token's numbers depend on its sequence up to it and on nothing
// else: not on chunks, threads, budget or the other sequences.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/result.h"
#include "base/workers.h"
#include "infer/float_arena.h"
#include "infer/layer_weights.h"
#include "infer/model_spec.h"
#include "infer/token_batch.h"

namespace sluice::infer {

class Transformer {
 public:
  // Works in `workspace`, WorkspaceFloats of it, which models that take turns layer by layer may share; leases the
  // tables of its rotary embedding, TableBytes. All that it is given outlives it.
  static Result<Transformer> Make(const ModelSpec& spec, const TokenBatch& batch, uint64_t chunk_tiles,
                                  Workers* workers, FloatArena* workspace, MemoryBudget* budget);
  static uint64_t WorkspaceFloats(const ModelSpec& spec, const TokenBatch& batch, uint64_t chunk_tiles,
                                  int num_threads);
  static uint64_t TableBytes(const ModelSpec& spec, const TokenBatch& batch);

  // x: [chunk.count][hidden][16], in place. False where a NaN comes out. Keys and values of a sequence stay until its
  // next chunk: a layer must see all chunks of batch.Chunks(chunk_tiles) in order.
  bool RunLayer(size_t layer, const LayerWeights& weights, const TokenBatch::Chunk& chunk, float* x);

  // Embeddings as rows, [count][16][hidden], to tiles in place, times the model's scale.
  void RowsToTiles(uint64_t count, float* x);
  void FinalNorm(std::span<const float> weight, uint64_t count, float* x);

  // Operations (a multiplication and an addition are two) of all layers, weights' products and attention.
  static double LayerOperations(const ModelSpec& spec, const TokenBatch& batch);

 private:
  // Cosines and sines of positions 0 .. of one RopeSpec.
  struct RopeTables {
    uint64_t num_positions = 0;  // that the frequencies were chosen for; 0: none yet
    float *cosines = nullptr, *sines = nullptr;
  };
  struct ProductJob {
    const LoadedProduct* weights;
    const float* in;
    float* out;
  };

  Transformer(const ModelSpec& spec, const TokenBatch& batch, Workers* workers)
      : spec_(spec), batch_(batch), workers_(workers) {}
  // Each [count] tiles of the product's columns to [count] of its rows; jobs run side by side.
  void RunProducts(std::initializer_list<ProductJob> jobs, uint64_t count);
  void Norm(const NormSpec& norm, std::span<const float> weight, const float* in, float* out) const;
  void RotateChunk(const AttentionSpec& attention, const LayerWeights& weights, const TokenBatch::Chunk& chunk);
  void AttendChunk(const AttentionSpec& attention, const TokenBatch::Chunk& chunk);
  const RopeTables& TablesFor(const AttentionSpec& attention, uint64_t sequence);

  const ModelSpec& spec_;
  const TokenBatch& batch_;
  Workers* workers_;
  FloatArena tables_;
  std::vector<float*> scratch_;                     // by worker
  float *normed_ = nullptr, *added_ = nullptr;      // [chunk][hidden][16]
  float *queries_ = nullptr, *attended_ = nullptr;  // [chunk][heads head_dim][16]
  float *gate_ = nullptr, *up_ = nullptr;           // [chunk][ffn][16], in the place of the two above
  float *keys_ = nullptr, *values_ = nullptr;       // [tiles of keys][kv_heads head_dim][16]
  std::vector<const float*> key_pointers_, value_pointers_;
  uint64_t chunk_tiles_ = 0, key_tiles_ = 0;  // for which there is room
  std::vector<RopeTables> ropes_;
};

}  // namespace sluice::infer
