// All tensors of a checkpoint as a stream delivers them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/units.h"
#include "checkpoint/checkpoint.h"
#include "stream/checkpoint_groups.h"
#include "stream/stream.h"

namespace sluice::tests {

struct Reading {
  int threads = 2;
  uint64_t tile_bytes = 1 << 20;
  uint64_t budget_bytes = 256 * kMiB;
};

// Bytes by name. Fails the test, and has what came before, where the stream fails.
inline std::map<std::string, std::vector<uint8_t>> ReadTensors(const checkpoint::Checkpoint& model,
                                                               const Reading& reading = {}) {
  MemoryBudget budget(ResidentBytes() + reading.budget_bytes);
  const stream::CheckpointGroups groups(model);
  stream::StreamOptions options;
  options.num_threads = reading.threads;
  options.budget = &budget;
  options.max_tile_bytes = reading.tile_bytes;
  std::map<std::string, std::vector<uint8_t>> tensors;
  auto stream = stream::Stream::Open(groups, options);
  EXPECT_TRUE(stream) << stream.error().ToString();
  if (!stream) return tensors;
  (*stream)->EnqueueAll();
  for (;;) {
    auto lease = (*stream)->Next();
    EXPECT_TRUE(lease) << lease.error().ToString();
    if (!lease || !*lease) return tensors;
    for (const stream::Piece& piece : lease->pieces()) {
      const checkpoint::TensorInfo tensor = model.tensors()[groups.tensor(piece.group)];
      std::vector<uint8_t>& bytes = tensors[std::string(tensor.name)];
      const uint8_t* const data = piece.views[0].data;
      bytes.insert(bytes.end(), data, data + tensor.encoding.BytesOf(piece.range.size()));
    }
  }
}

}  // namespace sluice::tests
