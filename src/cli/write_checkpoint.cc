#include "cli/write_checkpoint.h"

#include <filesystem>

#include <fmt/format.h>

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

// The tensors of a GGUF file: as it holds them and, where that is another order or number, as they are read from it.
class GgufGroups final : public stream::GroupSource {
 public:
  GgufGroups(const checkpoint::GgufExport& gguf, std::vector<uint32_t> order) : gguf_(gguf), order_(std::move(order)) {}
  size_t size() const override { return order_.size(); }
  std::string name(size_t group) const override { return std::string(gguf_.as_read().tensors()[order_[group]].name); }
  void Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const override {
    outs->push_back(gguf_.MakeStoredNode(order_[group], graph));
    if (gguf_.IsRearranged(order_[group])) outs->push_back(gguf_.MakeReadNode(order_[group], graph));
  }
  // Which out of each group is what will be read.
  std::vector<uint8_t> ReadOuts() const {
    std::vector<uint8_t> outs;
    outs.reserve(order_.size());
    for (const uint32_t tensor : order_) outs.push_back(gguf_.IsRearranged(tensor) ? 1 : 0);
    return outs;
  }

 private:
  const checkpoint::GgufExport& gguf_;
  std::vector<uint32_t> order_;
};

// What is written where, and from which groups.
struct Form {
  const checkpoint::Catalogue& tensors;
  checkpoint::ShardPlan plan;
  std::unique_ptr<stream::GroupSource> groups;
  std::vector<uint8_t> digested_outs = {};  // of the groups; empty: the first of each
};

Result<Form> FormOf(const checkpoint::Checkpoint& checkpoint, const WriteRequest& request, uint64_t max_shard_bytes) {
  const std::string file_name = std::filesystem::path(request.output).filename().string();
  SLUICE_ASSIGN(const bool is_file, IsFileOutput(request.output));
  if (is_file && !request.shard_size.empty()) {
    return Fail(ErrorCode::kUsage, fmt::format("--out-shard-size is for folders, and {} is one file", request.output));
  }
  if (request.gguf != nullptr) {
    checkpoint::ShardPlan plan = request.gguf->Plan(file_name);
    auto groups = std::make_unique<GgufGroups>(*request.gguf, plan.order);
    std::vector<uint8_t> outs = groups->ReadOuts();
    return Form{request.gguf->as_read().tensors(), std::move(plan), std::move(groups), std::move(outs)};
  }
  SLUICE_ASSIGN(checkpoint::ShardPlan plan, is_file ? checkpoint::PlanOneFile(checkpoint.tensors(), file_name)
                                                    : checkpoint::PlanShards(checkpoint.tensors(), max_shard_bytes));
  auto groups = std::make_unique<stream::CheckpointGroups>(checkpoint, plan.order);
  return Form{checkpoint.tensors(), std::move(plan), std::move(groups)};
}

// Counts overflows of casts, where that is wanted: what is cast passes beside each tensor then.
class OverflowCount {
 public:
  OverflowCount(const stream::GroupSource& groups, bool wanted, int num_threads) : groups_(groups) {
    if (!wanted) return;
    casts_.emplace(groups);
    sink_.emplace(*casts_, num_threads);
  }
  const stream::GroupSource& groups() const {
    return casts_ ? static_cast<const stream::GroupSource&>(*casts_) : groups_;
  }
  void AddSink(std::vector<stream::Sink*>* sinks) {
    if (sink_) sinks->push_back(&*sink_);
  }
  std::vector<report::TensorOverflow> Overflows() const {
    std::vector<report::TensorOverflow> result;
    if (!sink_) return result;
    for (const auto& [name, to, count] : sink_->Counts()) result.push_back({name, std::string(to.name()), count});
    return result;
  }

 private:
  const stream::GroupSource& groups_;
  std::optional<stream::CastGroups> casts_;
  std::optional<verify::OverflowSink> sink_;
};

}  // namespace

Result<bool> IsFileOutput(const std::string& output) {
  if (output.empty()) return Fail(ErrorCode::kUsage, "the name of the output is empty");
  return output.ends_with(".safetensors") || output.ends_with(".gguf");
}

Result<std::optional<report::WriteResult>> WriteCheckpoint(
    Session& session, const std::shared_ptr<const checkpoint::Checkpoint>& checkpoint, const WriteRequest& request) {
  checkpoint::WriteOptions options;
  options.force = request.force;
  if (!request.shard_size.empty()) {
    auto size = ParseShardSize(request.shard_size);
    if (!size) return Fail(std::move(size.error()).In("--out-shard-size"));
    if (*size == 0) return Fail(ErrorCode::kUsage, "--out-shard-size: a shard of no bytes holds no tensor");
    options.max_shard_bytes = *size;
  }

  SLUICE_ASSIGN(const Form form, FormOf(*checkpoint, request, options.max_shard_bytes));
  OverflowCount overflows(*form.groups, request.count_overflows, session.options.threads);
  stream::DigestSink digests(form.tensors, form.plan.order, form.digested_outs);
  std::vector<stream::Sink*> sinks = {&digests};
  sinks.insert(sinks.end(), request.sinks.begin(), request.sinks.end());
  overflows.AddSink(&sinks);
  if (session.options.dry_run) {
    stream::Wants wants = stream::Together(sinks);
    const stream::Wants write = stream::WriterSink::WantsFor(form.plan);
    wants.own_bytes += write.own_bytes;
    wants.write_bytes += write.write_bytes;
    wants.nanoseconds_per_byte += write.nanoseconds_per_byte;
    SLUICE_TRY(PlanPass(session, overflows.groups(), wants, request.what));
    return std::nullopt;
  }

  SLUICE_ASSIGN(const auto writer,
                checkpoint::CheckpointWriter::Create(request.output, form.tensors, form.plan, options));
  stream::WriterSink write(writer.get());
  sinks.insert(sinks.begin(), &write);
  Result<PassReport> ran = RunPass(session, overflows.groups(), sinks, request.what);
  if (!ran && ran.error().code == ErrorCode::kCancelled) return Fail(Interrupted(request.output));
  SLUICE_ASSIGN(const PassReport pass, std::move(ran));
  if (request.accept) SLUICE_TRY(request.accept());

  // The root of what will be found under the name, not of where it came from.
  CheckpointView written(checkpoint);
  written.AsWritten(writer->is_folder());
  const checkpoint::Checkpoint& as_written = request.gguf != nullptr ? request.gguf->as_read() : written;
  report::WriteResult result;
  SLUICE_ASSIGN(result.digest, checkpoint::MakeModelDigest(digests.Digests(), as_written));
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
  result.overflows = overflows.Overflows();
  for (const checkpoint::WrittenFile& file : result.files) result.bytes_written += file.size_bytes;
  result.bytes_read = pass.stats.payload_bytes;
  result.seconds = session.seconds();
  result.peak_memory_bytes = PeakResidentBytes();
  return result;
}

}  // namespace sluice::cli
