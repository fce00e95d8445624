#include "cli/write_checkpoint.h"

#include "base/memory_budget.h"
#include "base/units.h"
#include "checkpoint/checkpoint_writer.h"
#include "checkpoint/digest_tree.h"
#include "checkpoint/shard_plan.h"
#include "cli/checkpoint_view.h"
#include "stream/cast_groups.h"
#include "stream/checkpoint_groups.h"
#include "stream/digest_sink.h"
#include "stream/writer_sink.h"
#include "verify/overflow_sink.h"

namespace sluice::cli {

namespace {

Error Interrupted(const std::string& output) {
  return {ErrorCode::kCancelled,
          "interrupted; nothing was left under the final name " + output +
              ". Resuming is not supported yet, so run the command again",
          {}};
}

// What passes: each tensor in the plan's order and, where overflows are counted, what it is cast from.
class WriteGroups {
 public:
  WriteGroups(const checkpoint::Checkpoint& checkpoint, const std::vector<uint32_t>& order, bool count_overflows,
              int num_threads)
      : tensors_(checkpoint, order) {
    if (!count_overflows) return;
    casts_.emplace(tensors_);
    overflows_.emplace(*casts_, num_threads);
  }
  const stream::GroupSource& source() const {
    return casts_ ? static_cast<const stream::GroupSource&>(*casts_) : tensors_;
  }
  void AddSink(std::vector<stream::Sink*>* sinks) {
    if (overflows_) sinks->push_back(&*overflows_);
  }
  std::vector<report::TensorOverflow> Overflows() const {
    std::vector<report::TensorOverflow> result;
    if (!overflows_) return result;
    for (const auto& [name, to, count] : overflows_->Counts()) result.push_back({name, std::string(to.name()), count});
    return result;
  }

 private:
  stream::CheckpointGroups tensors_;
  std::optional<stream::CastGroups> casts_;
  std::optional<verify::OverflowSink> overflows_;
};

}  // namespace

Result<bool> IsFileOutput(const std::string& output) {
  if (output.empty()) return Fail(ErrorCode::kUsage, "the name of the output is empty");
  if (output.ends_with(".gguf")) {
    return Fail(ErrorCode::kUnsupported,
                output + ": writing GGUF is not supported yet; give a folder or a .safetensors file");
  }
  return output.ends_with(".safetensors");
}

Result<std::optional<report::WriteResult>> WriteCheckpoint(
    Session& session, const std::shared_ptr<const checkpoint::Checkpoint>& checkpoint, const WriteRequest& request) {
  SLUICE_ASSIGN(const bool is_file, IsFileOutput(request.output));
  checkpoint::WriteOptions options;
  options.force = request.force;
  if (!request.shard_size.empty()) {
    auto size = ParseShardSize(request.shard_size);
    if (!size) return Fail(std::move(size.error()).In("--out-shard-size"));
    if (*size == 0) return Fail(ErrorCode::kUsage, "--out-shard-size: a shard of no bytes holds no tensor");
    options.max_shard_bytes = *size;
  }

  if (session.options.dry_run) {
    SLUICE_ASSIGN(const checkpoint::ShardPlan shards,
                  is_file ? checkpoint::PlanOneFile(checkpoint->tensors(), request.output)
                          : checkpoint::PlanShards(checkpoint->tensors(), options.max_shard_bytes));
    WriteGroups groups(*checkpoint, shards.order, request.count_overflows, session.options.threads);
    stream::DigestSink digests(checkpoint->tensors(), shards.order);
    std::vector<stream::Sink*> sinks = request.sinks;
    sinks.push_back(&digests);
    groups.AddSink(&sinks);
    stream::Wants wants = stream::Together(sinks);
    const stream::Wants write = stream::WriterSink::WantsFor(shards);
    wants.own_bytes += write.own_bytes;
    wants.write_bytes += write.write_bytes;
    wants.nanoseconds_per_byte += write.nanoseconds_per_byte;
    SLUICE_TRY(PlanPass(session, groups.source(), wants, request.what));
    return std::nullopt;
  }

  SLUICE_ASSIGN(const auto writer,
                checkpoint::CheckpointWriter::Create(request.output, checkpoint->tensors(), options));
  WriteGroups groups(*checkpoint, writer->plan().order, request.count_overflows, session.options.threads);
  stream::WriterSink write(writer.get());
  stream::DigestSink digests(checkpoint->tensors(), writer->plan().order);
  std::vector<stream::Sink*> sinks = {&write, &digests};
  sinks.insert(sinks.end(), request.sinks.begin(), request.sinks.end());
  groups.AddSink(&sinks);
  Result<PassReport> ran = RunPass(session, groups.source(), sinks, request.what);
  if (!ran && ran.error().code == ErrorCode::kCancelled) return Fail(Interrupted(request.output));
  SLUICE_ASSIGN(const PassReport pass, std::move(ran));
  if (request.accept) SLUICE_TRY(request.accept());

  // The root of what will be found under the name, not of where it came from.
  CheckpointView written(checkpoint);
  written.AsWritten(writer->is_folder());
  report::WriteResult result;
  SLUICE_ASSIGN(result.digest, checkpoint::MakeModelDigest(digests.Digests(), written));
  if (writer->is_folder()) {
    SLUICE_TRY(writer->AddFilesOf(written));
    if (request.papers) {
      SLUICE_ASSIGN(const auto papers, request.papers(result.digest, pass));
      for (const auto& [name, bytes] : papers) SLUICE_TRY(writer->AddFile(name, bytes));
    }
  }
  if (session.cancelled) return Fail(Interrupted(request.output));
  SLUICE_ASSIGN(result.files, writer->Commit());
  result.output = request.output;
  result.overflows = groups.Overflows();
  for (const checkpoint::WrittenFile& file : result.files) result.bytes_written += file.size_bytes;
  result.bytes_read = pass.stats.payload_bytes;
  result.seconds = session.seconds();
  result.peak_memory_bytes = PeakResidentBytes();
  return result;
}

}  // namespace sluice::cli
