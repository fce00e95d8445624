// TorchStream: a part of torch's stream of words that several workers read, in any order, as often as they like.
//
// The stream can be walked only forwards. Kept are places to walk from: where readers last stopped, and some evenly
// spread. Readers that go through a tensor together, strip by strip, hardly ever walk more than a strip.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <mutex>

#include "arithmetic/torch_generator.h"

namespace sluice::arithmetic {

class TorchStream {
 public:
  // Words [first, first + count) of the seed's stream. Nothing is computed before the first Read.
  TorchStream(uint32_t seed, uint64_t first, uint64_t count);

  // Words [begin, begin + count) of this part. Thread-safe; the same words however it is asked.
  void Read(uint64_t begin, uint64_t count, uint32_t* words) const;

  // Most that one holds.
  static constexpr uint64_t kMaxBytes = 128 << 10;

 private:
  const uint32_t seed_;
  const uint64_t first_, spacing_;
  mutable std::mutex mutex_;
  mutable std::list<TorchGenerator> recent_;               // the newest first
  mutable std::map<uint64_t, TorchGenerator> milestones_;  // by multiple of spacing_
};

}  // namespace sluice::arithmetic
