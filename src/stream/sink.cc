#include "stream/sink.h"

namespace sluice::stream {

Wants Together(std::span<Sink* const> sinks) {
  Wants together;
  for (const Sink* sink : sinks) {
    const Wants wants = sink->wants();
    together.held_bytes += wants.held_bytes;
    together.own_bytes += wants.own_bytes;
    together.write_bytes += wants.write_bytes;
    together.nanoseconds_per_byte += wants.nanoseconds_per_byte;
  }
  return together;
}

Result<void> Pump(Stream& stream, std::span<Sink* const> sinks, ProgressListener* progress) {
  const Result<void> taken = [&]() -> Result<void> {
    stream.EnqueueAll();
    for (;;) {
      SLUICE_ASSIGN(const Lease lease, stream.Next());
      if (!lease) return {};
      for (Sink* sink : sinks) SLUICE_TRY(sink->Take(lease, stream));
      if (progress != nullptr) progress->OnTile(stream.stats());
    }
  }();
  // Tasks look into their sinks: none may be left when we return.
  stream.WaitForPosted();
  Result<void> ended = [&]() -> Result<void> {
    SLUICE_TRY(Result<void>(taken));
    for (Sink* sink : sinks) SLUICE_TRY(sink->End());
    return {};
  }();
  if (!ended) {
    for (Sink* sink : sinks) sink->Abandon();
  }
  return ended;
}

}  // namespace sluice::stream
