#include "checkpoint/checkpoint_writer.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "io/write_calls.h"

namespace sluice::checkpoint {
namespace {

constexpr std::string_view kIndexName = "model.safetensors.index.json";
// Config, tokenizer and records beside the weights: told apart from a full disk only roughly, reserved for no one.
constexpr uint64_t kSideFilesBytes = 32 * kMiB;

std::span<const uint8_t> Bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Where the bytes of the tensor at `place` begin in its shard's file.
uint64_t OffsetOf(const Catalogue& tensors, const ShardPlan& plan, const ShardPlan::Shard& shard, uint32_t place) {
  uint64_t offset_bytes = shard.header_bytes;
  for (uint32_t at = shard.begin; at < place; ++at) {
    offset_bytes += RoundUp(tensors[plan.order[at]].size_bytes(), plan.alignment);
  }
  return offset_bytes;
}

// The plan as it stands in the files, for the binding.
Result<JournalBinding::Item> LayoutItem(const Catalogue& tensors, const ShardPlan& plan) {
  kernels::Sha256 hash;
  for (size_t shard = 0; shard < plan.shards.size(); ++shard) {
    SLUICE_ASSIGN(const std::string header, HeaderText(tensors, plan, shard));
    hash.UpdateLengthPrefixed(plan.shards[shard].file_name);
    hash.UpdateLengthPrefixed(header);
  }
  return JournalBinding::Item{"the layout of the output",
                              fmt::format("{} tensors in {} shards, {}", plan.order.size(), plan.shards.size(),
                                          kernels::ToHex(hash.Finish()).substr(0, 16))};
}

Error Differs(const std::string& path, const std::string& partial, const JournalBinding::Item& then,
              std::string_view now) {
  return Error{
      ErrorCode::kOutputExists,
      fmt::format("{}: what was begun in {} cannot be gone on with: {} has changed ({} then, {} now). Run it as "
                  "it was begun, or start from the beginning with --force and without --resume",
                  path, partial, then.what, then.value, now),
      {}};
}

Result<void> CheckBinding(const std::string& path, const std::string& partial, const JournalBinding& then,
                          const JournalBinding& now) {
  for (size_t i = 0; i < std::max(then.items.size(), now.items.size()); ++i) {
    if (i == now.items.size()) return Fail(Differs(path, partial, then.items[i], "nothing"));
    if (i == then.items.size()) return Fail(Differs(path, partial, {now.items[i].what, "nothing"}, now.items[i].value));
    if (then.items[i] == now.items[i]) continue;
    if (then.items[i].what == now.items[i].what) {
      if (now.items[i].what == JournalBinding::kDevices) continue;
      return Fail(Differs(path, partial, then.items[i], now.items[i].value));
    }
    return Fail(Differs(path, partial, {"what it is made of", then.items[i].what}, now.items[i].what));
  }
  return {};
}

// Bytes that the file system has for this file already.
uint64_t AllocatedBytes(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_blocks) * 512 : 0;
}

// Small outputs, small buffers.
uint64_t BufferBytes(const ShardPlan& plan) {
  uint64_t largest_bytes = 1;
  for (const ShardPlan::Shard& shard : plan.shards) largest_bytes = std::max(largest_bytes, shard.size_bytes());
  return std::min(io::BlockWriter::kBufferBytes, RoundUp(largest_bytes, 4096));
}

}  // namespace

uint64_t CheckpointWriter::MemoryBytes(const ShardPlan& plan) {
  return BufferBytes(plan) * io::BlockWriter::kNumBuffers;
}

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::Create(const std::string& path, const Catalogue& tensors,
                                                                   const WriteOptions& options) {
  SLUICE_ASSIGN(ShardPlan plan, path.ends_with(".safetensors")
                                    ? PlanOneFile(tensors, std::filesystem::path(path).filename().string())
                                    : PlanShards(tensors, options.max_shard_bytes));
  return Create(path, tensors, std::move(plan), options);
}

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::Create(const std::string& path, const Catalogue& tensors,
                                                                   ShardPlan plan, const WriteOptions& options) {
  std::unique_ptr<CheckpointWriter> writer(new CheckpointWriter(tensors, std::move(plan)));
  WriteOptions bound = options;
  if (writer->plan_.one_file) {
    SLUICE_CHECK(!options.journal);
    SLUICE_ASSIGN(auto file, io::AtomicFile::Create(path, options.force));
    writer->file_.emplace(std::move(file));
    SLUICE_TRY(io::CheckFreeSpace(writer->file_->folder(), writer->plan_.file_bytes()));
  } else {
    if (bound.journal) {
      SLUICE_ASSIGN(auto layout, LayoutItem(tensors, writer->plan_));
      bound.journal->items.push_back(std::move(layout));
    }
    SLUICE_TRY(writer->FindLeftover(path, bound));
    const std::string& partial = writer->folder_->partial_path();
    uint64_t needed_bytes = kSideFilesBytes;
    for (const ShardPlan::Shard& shard : writer->plan_.shards) {
      const uint64_t there_bytes = std::min(shard.size_bytes(), AllocatedBytes(writer->PathOf(shard.file_name)));
      needed_bytes += shard.size_bytes() - there_bytes;
    }
    SLUICE_TRY(io::CheckFreeSpace(partial, needed_bytes));
  }
  for (const ShardPlan::Shard& shard : writer->plan_.shards) {
    if (shard.end <= writer->first_place() && shard.end > shard.begin) continue;  // whole already
    SLUICE_TRY(io::CreateAllocated(writer->PathOf(shard.file_name), shard.size_bytes()));
  }
  if (bound.journal) {
    const std::string journal = writer->PathOf(kJournalFile);
    SLUICE_ASSIGN(WriteJournal opened, writer->folder_->has_leftover()
                                           ? WriteJournal::Continue(journal, writer->resumed_)
                                           : WriteJournal::Create(journal, *bound.journal));
    writer->journal_.emplace(std::move(opened));
    SLUICE_TRY(writer->folder_->SyncEntries());
  }
  const uint64_t buffer_bytes = BufferBytes(writer->plan_);
  writer->writer_ = std::make_unique<io::BlockWriter>(
      io::BlockWriter::Options{.buffer_bytes = buffer_bytes, .allow_direct = options.allow_direct});
  SLUICE_TRY(writer->first_place() > 0 ? writer->OpenShardAtFirstPlace() : writer->OpenShard());
  SLUICE_TRY(writer->SkipToContent());
  return writer;
}

// The folder, and what of an earlier run may stay in it.
Result<void> CheckpointWriter::FindLeftover(const std::string& path, const WriteOptions& options) {
  io::OutputFolder::Options folder_options{.force = options.force};
  if (options.journal) {
    folder_options.journal = kJournalFile;
    folder_options.resume = options.resume;
    // A run that had named the output and not yet removed its journal: going on with that does the rest.
    std::error_code error;
    if (const std::string published = path + "/" + kJournalFile;
        options.resume && std::filesystem::exists(published, error)) {
      const auto contents = ReadJournal(published);
      folder_options.take_back = contents && CheckBinding(path, path, contents->binding, *options.journal);
    }
  }
  SLUICE_ASSIGN(auto folder, io::OutputFolder::Create(path, folder_options));
  folder_.emplace(std::move(folder));
  if (!folder_->has_leftover()) return {};

  const std::string& partial = folder_->partial_path();
  auto contents = ReadJournal(PathOf(kJournalFile));
  if (!contents && contents.error().code != ErrorCode::kCorrupt) return Fail(std::move(contents).error());
  if (!contents || contents->empty()) return folder_->Clear();  // a run that ended before anything was finished
  if (options.resume) {
    SLUICE_TRY(CheckBinding(path, partial, contents->binding, *options.journal));
    if (contents->tensors.size() > plan_.order.size()) {
      return Fail(ErrorCode::kCorrupt, fmt::format("{}: tells of more tensors than the output has; start from the "
                                                   "beginning with --force and without --resume",
                                                   PathOf(kJournalFile)));
    }
    if (contents->binding.Devices() != options.journal->Devices()) {
      // A key might be that of another file's fact now; and one recorded now, of another's when the devices change
      // back.
      contents->facts.clear();
      keeps_facts_ = false;
      if (contents->empty()) {
        keeps_facts_ = true;
        return folder_->Clear();
      }
    }
    resumed_ = std::move(*contents);
    return PrepareLeftover();
  }
  if (options.force) return folder_->Clear();
  return Fail(
      ErrorCode::kOutputExists,
      fmt::format("{}: an interrupted run left {} of {} tensors finished in {}: go on from there with --resume, "
                  "or start from the beginning with --force",
                  path, contents->tensors.size(), plan_.order.size(), partial));
}

// The shards that the journal tells of must be there; all else but them is made again.
Result<void> CheckpointWriter::PrepareLeftover() {
  std::set<std::string> kept = {kJournalFile};
  for (const ShardPlan::Shard& shard : plan_.shards) {
    kept.insert(shard.file_name);
    SLUICE_TRY(folder_->Reclaim(shard.file_name));
    if (shard.begin >= first_place()) continue;
    const uint32_t end = std::min(shard.end, first_place());
    const uint64_t wanted_bytes = OffsetOf(tensors_, plan_, shard, end);
    std::error_code error;
    const std::string path = PathOf(shard.file_name);
    const uint64_t size_bytes = std::filesystem::file_size(path, error);
    if (error || size_bytes < wanted_bytes) {
      return Fail(ErrorCode::kOutputExists,
                  fmt::format("{}: {} bytes of it were written, and it has {}: it was changed since. Start from the "
                              "beginning with --force and without --resume",
                              path, wanted_bytes, error ? 0 : size_bytes));
    }
  }
  std::error_code error;
  std::vector<std::filesystem::path> others;
  for (std::filesystem::directory_iterator it(folder_->partial_path(), error), end; !error && it != end;
       it.increment(error)) {
    if (!kept.contains(it->path().filename().string())) others.push_back(it->path());
  }
  for (const auto& other : others) {
    if (!error) std::filesystem::remove_all(other, error);
  }
  if (!error) return {};
  return Fail(io::WriteError(folder_->partial_path(), "removing what an earlier run left", error.value()));
}

// Where the last finished tensor ends, which may be the end of its file.
Result<void> CheckpointWriter::OpenShardAtFirstPlace() {
  place_ = first_place();
  while (plan_.shards[shard_].end < place_) ++shard_;
  first_shard_ = shard_;
  synced_place_ = place_;
  for (size_t shard = 0; shard < shard_; ++shard) {
    files_.push_back({plan_.shards[shard].file_name, plan_.shards[shard].size_bytes()});
  }
  const ShardPlan::Shard& shard = plan_.shards[shard_];
  return writer_->Begin(PathOf(shard.file_name), OffsetOf(tensors_, plan_, shard, place_));
}

Result<uint32_t> CheckpointWriter::SyncWritten() {
  SLUICE_ASSIGN(const io::SyncedUpTo reached, writer_->SyncWritten());
  const size_t shard_index = std::min<size_t>(first_shard_ + reached.file, plan_.shards.size());
  if (shard_index == plan_.shards.size()) return synced_place_ = static_cast<uint32_t>(plan_.order.size());
  const ShardPlan::Shard& shard = plan_.shards[shard_index];
  synced_place_ = std::max(synced_place_, shard.begin);
  for (uint64_t at = OffsetOf(tensors_, plan_, shard, synced_place_); synced_place_ < shard.end; ++synced_place_) {
    at += RoundUp(tensors_[plan_.order[synced_place_]].size_bytes(), plan_.alignment);
    if (at > reached.offset_bytes) break;
  }
  return synced_place_;
}

std::string CheckpointWriter::KeepUnfinished(bool finished) {
  if (!journal_ || folder_->published()) return "";
  folder_->Keep(finished);
  return finished ? folder_->partial_path() : "";
}

std::string CheckpointWriter::PathOf(const std::string& file_name) const {
  return folder_ ? folder_->partial_path() + "/" + file_name : file_->partial_path();
}

Result<void> CheckpointWriter::OpenShard() {
  const ShardPlan::Shard& shard = plan_.shards[shard_];
  SLUICE_TRY(writer_->Begin(PathOf(shard.file_name)));
  SLUICE_ASSIGN(const std::string header, HeaderText(tensors_, plan_, shard_));
  return writer_->Append(Bytes(header));
}

// Ends shards that are full, begins the next, and goes past tensors that have no bytes.
Result<void> CheckpointWriter::SkipToContent() {
  while (shard_ < plan_.shards.size()) {
    const ShardPlan::Shard& shard = plan_.shards[shard_];
    if (place_ < shard.end) {
      const uint64_t size_bytes = tensors_[plan_.order[place_]].size_bytes();
      if (offset_bytes_ < size_bytes) return {};
      const std::vector<uint8_t> padding(RoundUp(size_bytes, plan_.alignment) - size_bytes);
      SLUICE_TRY(writer_->Append(padding));
      ++place_;
      offset_bytes_ = 0;
      continue;
    }
    SLUICE_TRY(writer_->End());
    files_.push_back({shard.file_name, shard.size_bytes()});
    if (++shard_ < plan_.shards.size()) SLUICE_TRY(OpenShard());
  }
  return {};
}

Result<void> CheckpointWriter::Append(uint32_t place, uint64_t offset_bytes, std::span<const uint8_t> bytes) {
  if (bytes.empty()) return {};
  SLUICE_CHECK(!finished_ && place == place_ && offset_bytes == offset_bytes_);
  SLUICE_CHECK(bytes.size() <= tensors_[plan_.order[place_]].size_bytes() - offset_bytes_);
  SLUICE_TRY(writer_->Append(bytes));
  offset_bytes_ += bytes.size();
  return SkipToContent();
}

Result<void> CheckpointWriter::FinishTensors() {
  SLUICE_CHECK(!finished_ && shard_ == plan_.shards.size());
  finished_ = true;
  if (folder_ && plan_.has_index()) {
    const std::string name(kIndexName);
    uint64_t size_bytes = 0;
    SLUICE_TRY(writer_->Begin(PathOf(name)));
    SLUICE_TRY(EmitIndex(tensors_, plan_, [&](std::string_view piece) {
      size_bytes += piece.size();
      return writer_->Append(Bytes(piece));
    }));
    SLUICE_TRY(writer_->End());
    files_.push_back({name, size_bytes});
  }
  return writer_->Finish();
}

Result<void> CheckpointWriter::AddFilesOf(const Checkpoint& checkpoint) {
  SLUICE_CHECK(folder_.has_value());
  if (checkpoint.config() != nullptr) SLUICE_TRY(AddFile("config.json", checkpoint.config()->Pretty()));
  for (const SideFile& side : checkpoint.side_files()) {
    if (side.name == "config.json" || side.name == kIndexName) continue;
    if (side.path.empty()) {
      SLUICE_TRY(AddFile(side.name, side.bytes));
      continue;
    }
    SLUICE_ASSIGN(const uint64_t size_bytes, folder_->CopyFile(side.name, side.path));
    files_.push_back({side.name, size_bytes});
  }
  return {};
}

Result<void> CheckpointWriter::AddFile(const std::string& name, std::string_view bytes) {
  SLUICE_CHECK(folder_ && !name.empty() && name.find('/') == std::string::npos);
  SLUICE_TRY(folder_->WriteFile(name, bytes));
  files_.push_back({name, bytes.size()});
  return {};
}

Result<std::vector<WrittenFile>> CheckpointWriter::Commit() {
  if (!finished_) SLUICE_TRY(FinishTensors());
  SLUICE_TRY(folder_ ? folder_->Commit() : file_->Commit());
  std::sort(files_.begin(), files_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return std::move(files_);
}

}  // namespace sluice::checkpoint
