// How tokens pass through models in the memory there is: how many at once (chunks), how many wait between layers in
// memory (rounds), and which weights stay from one round to the next. Pure arithmetic on sizes.
//
//   everything waits in memory          one round, each weight read once
//   it does not fit                     rounds of whole sequences; each reads again what was not kept of the weights,
//                                       or all in one round with hidden states in a file: whichever moves fewer bytes
//
// Where the head passes more than once (a distance between distributions needs their normalisers first), its panels are
// what is kept first: each is read again in every round, and in one round too.
//
// No number of the model's output depends on any of this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace sluice::infer {

struct PassDemand {
  std::vector<uint64_t> sequence_tiles;  // of each sequence
  uint64_t hidden_tile_bytes = 0;        // hidden states of one tile, of all models
  std::vector<uint64_t> step_bytes;      // memory that each layer and each panel of a head takes, in order
  size_t num_head_steps = 0;             // the last so many are panels of heads
  int head_runs = 1;                     // how often they pass in a round
  uint64_t stream_bytes = 0;             // what the stream needs to deliver one step and read ahead
  uint64_t spill_moved_bytes = 0;        // written and read where all hidden states wait in a file
  // Working arrays of chunks of so many tiles.
  std::function<uint64_t(uint64_t chunk_tiles, bool spill)> working_bytes;
};

// Whether hidden states wait in a file: where that moves fewer bytes than reading weights again; only where there is no
// other way; always.
enum class Spill { kIfFewerBytes, kIfForced, kAlways };

struct PassLimits {
  uint64_t free_bytes = 0;
  uint64_t max_chunk_tiles = 32;
  uint64_t max_round_tiles = UINT64_MAX;  // a sequence that is longer is a round of its own
  uint64_t max_kept_bytes = UINT64_MAX;
  Spill spill = Spill::kIfFewerBytes;
};

struct PassLayout {
  uint64_t chunk_tiles = 1;
  bool spill = false;
  std::vector<size_t> round_ends;  // round r has the sequences [round_ends[r - 1], round_ends[r])
  size_t kept_steps = 0;           // so many, the first in order of keeping, stay in memory once they were read
  uint64_t kept_bytes = 0;         // of step_bytes
  uint64_t reread_bytes = 0;       // of step_bytes: what passes beyond each step's first time

  size_t num_rounds() const { return round_ends.size(); }
};

// The steps in the order in which they are kept: as they pass, but panels of heads first where those pass more often.
std::vector<size_t> OrderOfKeeping(const PassDemand& demand);

// Where nothing fits: the layout of least memory, for the stream to refuse with the smallest budget that would do.
PassLayout LayOutPass(const PassDemand& demand, const PassLimits& limits);

// What a stream sets aside for bytes that its consumer keeps leased: slots are not always full.
uint64_t LeasedMemory(uint64_t kept_bytes);

}  // namespace sluice::infer
