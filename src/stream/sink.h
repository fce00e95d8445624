// Sink: whatever consumes tensors. Pump moves a stream into sinks; several sinks share one pass.
#pragma once

#include <span>

#include "base/result.h"
#include "stream/stream.h"

namespace sluice::stream {

class Sink {
 public:
  virtual ~Sink() = default;
  virtual Wants wants() const { return {}; }
  // Tiles in queue order, from the consumer's thread. May keep the lease, or hand work on it to stream.Post.
  virtual Result<void> Take(const Lease& lease, Stream& stream) = 0;
  // After the last tile and after all posted work.
  virtual Result<void> End() = 0;
  // Instead of End where the pass ends with an error, also after all posted work: leases that it kept must go.
  virtual void Abandon() {}
};

// What all of them want together.
Wants Together(std::span<Sink* const> sinks);

// Seen by whoever shows progress; called from the consumer's thread after each tile.
class ProgressListener {
 public:
  virtual ~ProgressListener() = default;
  virtual void OnTile(const StreamStats& stats) = 0;
};

// Enqueues all groups once and takes them to the end of every sink. The first error wins; then every sink is abandoned.
Result<void> Pump(Stream& stream, std::span<Sink* const> sinks, ProgressListener* progress = nullptr);

}  // namespace sluice::stream
