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

std::unique_ptr<stream::GroupSource> GroupsOf(const checkpoint::Checkpoint& checkpoint, const WriteRequest& request,
                                              const std::vector<uint32_t>& order) {
  if (request.groups) return request.groups(order);
  return std::make_unique<stream::CheckpointGroups>(checkpoint, order);
}

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
  auto groups = GroupsOf(checkpoint, request, plan.order);
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

void PlanSinks(const WriteRequest& request, stream::Sink* digests, OverflowCount* overflows,
               std::vector<stream::Sink*>* sinks) {
  sinks->push_back(digests);
  sinks->insert(sinks->end(), request.sinks.begin(), request.sinks.end());
  overflows->AddSink(sinks);
}

Result<PassReport> Plan(Session& session, const Form& form, const WriteRequest& request) {
  OverflowCount overflows(*form.groups, request.count_overflows, session.options.threads);
  stream::DigestSink digests(form.tensors, form.plan.order, form.digested_outs);
  std::vector<stream::Sink*> sinks;
  PlanSinks(request, &digests, &overflows, &sinks);
  stream::Wants wants = stream::Together(sinks);
  const stream::Wants write = stream::WriterSink::WantsFor(form.plan);
  wants.own_bytes += write.own_bytes;
  wants.write_bytes += write.write_bytes;
  wants.nanoseconds_per_byte += write.nanoseconds_per_byte;
  return PlanPass(session, overflows.groups(), wants, request.what);
}

// One output on its way, from where an earlier run ended.
class Writing {
 public:
  Writing(Session& session, const std::shared_ptr<const checkpoint::Checkpoint>& checkpoint,
          const WriteRequest& request, Form& form, checkpoint::CheckpointWriter* writer)
      : session_(session), checkpoint_(checkpoint), request_(request), form_(form), writer_(*writer) {}

  Result<report::WriteResult> Run() {
    SLUICE_ASSIGN(const PassReport pass, Pass());
    if (request_.check_inputs) SLUICE_TRY(request_.check_inputs());
    if (request_.accept) {
      auto accepted = request_.accept();
      refused_ = !accepted;
      SLUICE_TRY(std::move(accepted));
    }
    // The root of what will be found under the name, not of where it came from.
    CheckpointView written(checkpoint_);
    written.AsWritten(writer_.is_folder());
    const checkpoint::Checkpoint& as_written = request_.gguf != nullptr ? request_.gguf->as_read() : written;
    SLUICE_ASSIGN(result_.digest, checkpoint::MakeModelDigest(std::move(digests_), as_written));
    if (writer_.is_folder()) {
      SLUICE_TRY(writer_.AddFilesOf(written));
      if (request_.papers) {
        SLUICE_ASSIGN(const auto papers, request_.papers(result_.digest, pass));
        for (const auto& [name, bytes] : papers) SLUICE_TRY(writer_.AddFile(name, bytes));
      }
    }
    if (session_.cancelled) return Fail(ErrorCode::kCancelled, "");
    SLUICE_ASSIGN(result_.files, writer_.Commit());
    result_.output = request_.output;
    for (const checkpoint::WrittenFile& file : result_.files) result_.bytes_written += file.size_bytes;
    result_.bytes_read = pass.stats.payload_bytes;
    result_.seconds = session_.seconds();
    result_.peak_memory_bytes = PeakResidentBytes();
    return std::move(result_);
  }

  // What went wrong, with what is left of the work and how to go on with it.
  Error Unfinished(Error error) {
    const bool unchanged = !request_.check_inputs || request_.check_inputs();
    const std::string kept = writer_.KeepUnfinished(finished_any_ && unchanged && !refused_);
    if (error.code == ErrorCode::kCancelled) {
      error.message = fmt::format("interrupted; nothing was left under the final name {}", request_.output);
      if (writer_.journal() == nullptr) error.message += ". Resuming is not supported yet, so run the command again";
      if (writer_.journal() != nullptr && kept.empty()) error.message += ": run the command again";
    }
    if (!kept.empty()) {
      error.message += fmt::format(
          ". {} of {} tensors are finished and kept in {}: the same command with --resume goes on from there; to give "
          "them up, remove that folder",
          num_finished_, writer_.plan().order.size(), kept);
    }
    return error;
  }

 private:
  Result<PassReport> Pass() {
    const std::vector<uint32_t>& order = form_.plan.order;
    const std::vector<uint32_t> rest(order.begin() + writer_.first_place(), order.end());
    TakeUp();
    if (rest.empty() && writer_.first_place() > 0) {
      PassReport nothing;
      nothing.facts = writer_.resumed().facts;
      return nothing;
    }
    if (writer_.first_place() > 0) form_.groups = GroupsOf(*checkpoint_, request_, rest);
    OverflowCount overflows(*form_.groups, request_.count_overflows, session_.options.threads);
    stream::DigestSink digests(form_.tensors, rest, form_.digested_outs);
    stream::WriterSink write(&writer_);
    std::vector<stream::Sink*> sinks = {&write};
    PlanSinks(request_, &digests, &overflows, &sinks);
    std::optional<stream::JournalSink> journal;
    if (writer_.journal() != nullptr) {
      journal.emplace(&writer_, request_.tally);
      sinks.push_back(&*journal);
    }
    std::vector<std::vector<kernels::Hash256>> leaves_of(rest.size());  // each written once, by one worker
    digests.set_on_tensor([&](uint32_t group, std::span<const kernels::Hash256> leaves) {
      leaves_of[group].assign(leaves.begin(), leaves.end());
      if (journal) journal->OnTensor(group, leaves);
    });
    Result<PassReport> ran = RunPass(session_, overflows.groups(), sinks, request_.what, writer_.resumed().facts);
    if (journal) {
      num_finished_ = journal->num_finished();
      finished_any_ = journal->anything_recorded();
    }
    SLUICE_TRY(ran);
    std::vector<checkpoint::TensorDigest> passed = digests.Digests();
    for (size_t group = 0; group < passed.size(); ++group) {
      passed[group].leaves = std::move(leaves_of[group]);
      digests_.push_back(std::move(passed[group]));
    }
    result_.overflows = overflows.Overflows();
    return ran;
  }

  // What the journal has of tensors that do not pass again.
  void TakeUp() {
    const checkpoint::JournalContents& resumed = writer_.resumed();
    num_finished_ = writer_.first_place();
    finished_any_ = !resumed.empty();
    uint64_t size_bytes = 0;
    for (uint32_t place = 0; place < num_finished_; ++place) {
      const checkpoint::TensorInfo info = writer_.tensor(place);
      digests_.push_back({std::string(info.name), std::string(info.encoding.name()),
                          std::vector<uint64_t>(info.shape.begin(), info.shape.end()),
                          checkpoint::TensorRoot(resumed.tensors[place].leaves), info.size_bytes(),
                          resumed.tensors[place].leaves});
      if (request_.tally != nullptr) request_.tally->Restore(place, resumed.tensors[place].tally);
      size_bytes += info.size_bytes();
    }
    if (!finished_any_) return;
    session_.Note(fmt::format("{} of {} tensors ({}) and {} facts are there from an earlier run", num_finished_,
                              writer_.plan().order.size(), FormatBytes(size_bytes), resumed.facts.size()));
  }

  Session& session_;
  const std::shared_ptr<const checkpoint::Checkpoint>& checkpoint_;
  const WriteRequest& request_;
  Form& form_;
  checkpoint::CheckpointWriter& writer_;
  report::WriteResult result_;
  std::vector<checkpoint::TensorDigest> digests_;
  uint32_t num_finished_ = 0;
  bool finished_any_ = false, refused_ = false;
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
  options.journal = request.journal;
  options.resume = request.resume;
  if (!request.shard_size.empty()) {
    auto size = ParseShardSize(request.shard_size);
    if (!size) return Fail(std::move(size.error()).In("--out-shard-size"));
    if (*size == 0) return Fail(ErrorCode::kUsage, "--out-shard-size: a shard of no bytes holds no tensor");
    options.max_shard_bytes = *size;
  }

  SLUICE_ASSIGN(Form form, FormOf(*checkpoint, request, options.max_shard_bytes));
  if (session.options.dry_run) {
    SLUICE_TRY(Plan(session, form, request));
    return std::nullopt;
  }
  SLUICE_ASSIGN(const auto writer,
                checkpoint::CheckpointWriter::Create(request.output, form.tensors, form.plan, options));
  Writing writing(session, checkpoint, request, form, writer.get());
  auto result = writing.Run();
  if (!result) return Fail(writing.Unfinished(std::move(result).error()));
  return std::move(*result);
}

}  // namespace sluice::cli
