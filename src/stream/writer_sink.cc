#include "stream/writer_sink.h"

namespace sluice::stream {

Wants WriterSink::WantsFor(const checkpoint::ShardPlan& plan) {
  constexpr double kCopyNanosecondsPerByte = 0.2;
  return {.own_bytes = checkpoint::CheckpointWriter::MemoryBytes(plan),
          .write_bytes = plan.file_bytes(),
          .nanoseconds_per_byte = kCopyNanosecondsPerByte};
}

Result<void> WriterSink::Take(const Lease& lease, Stream& /*stream*/) {
  for (const Piece& piece : lease.pieces()) {
    const uint32_t place = writer_.first_place() + piece.group;
    const quant::Encoding encoding = writer_.tensor(place).encoding;
    SLUICE_TRY(writer_.Append(place, encoding.BytesOf(piece.range.begin),
                              {piece.views[out_].data, encoding.BytesOf(piece.range.size())}));
  }
  return {};
}

}  // namespace sluice::stream
