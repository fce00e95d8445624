// HiddenStates: what waits between two layers, of every token of a pass: [tile][hidden][16] f32. In memory, or in a
// temporary file without a name where it outgrows the budget.
#pragma once

#include <cstdint>
#include <string>

#include "base/memory_budget.h"
#include "base/result.h"
#include "infer/float_arena.h"
#include "io/write_calls.h"

namespace sluice::infer {

class HiddenStates {
 public:
  static uint64_t SizeBytes(uint64_t num_tiles, uint64_t hidden);

  // All zero. In memory: leased from the budget. kBudget; kWrite where the folder (TMPDIR, else /var/tmp) cannot hold
  // it.
  static Result<HiddenStates> InMemory(uint64_t num_tiles, uint64_t hidden, MemoryBudget* budget);
  static Result<HiddenStates> InFile(uint64_t num_tiles, uint64_t hidden);

  bool in_file() const { return memory_.data() == nullptr; }
  uint64_t tile_floats() const { return tile_floats_; }

  // Before the first layer a tile holds the embeddings of its tokens as rows, [16][hidden]: puts one there. Thread-safe
  // for distinct rows.
  Result<void> WriteRow(uint64_t tile, uint64_t lane, const float* row);

  // Tiles [begin, begin + count): where they are, or copied to `buffer`, which must hold them.
  Result<float*> Load(uint64_t begin, uint64_t count, float* buffer);
  // Puts back what Load gave.
  Result<void> Store(uint64_t begin, uint64_t count, const float* tiles);

 private:
  HiddenStates(uint64_t num_tiles, uint64_t hidden);

  uint64_t num_tiles_, hidden_, tile_floats_;
  FloatArena memory_;
  io::OwnedFd file_;
  std::string folder_;
};

}  // namespace sluice::infer
