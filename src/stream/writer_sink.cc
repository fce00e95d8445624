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
    const quant::Encoding encoding = writer_.tensor(piece.group).encoding;
    SLUICE_TRY(writer_.Append(piece.group, encoding.BytesOf(piece.range.begin),
                              {piece.views[out_].data, encoding.BytesOf(piece.range.size())}));
  }
  return {};
}

}  // namespace sluice::stream
