#include "checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <filesystem>

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
  if (writer->plan_.one_file) {
    SLUICE_ASSIGN(auto file, io::AtomicFile::Create(path, options.force));
    writer->file_.emplace(std::move(file));
    SLUICE_TRY(io::CheckFreeSpace(writer->file_->folder(), writer->plan_.file_bytes()));
  } else {
    SLUICE_ASSIGN(auto folder, io::OutputFolder::Create(path, options.force));
    writer->folder_.emplace(std::move(folder));
    SLUICE_TRY(io::CheckFreeSpace(writer->folder_->partial_path(), writer->plan_.file_bytes() + kSideFilesBytes));
  }
  for (const ShardPlan::Shard& shard : writer->plan_.shards) {
    SLUICE_TRY(io::CreateAllocated(writer->PathOf(shard.file_name), shard.size_bytes()));
  }
  const uint64_t buffer_bytes = BufferBytes(writer->plan_);
  writer->writer_ = std::make_unique<io::BlockWriter>(
      io::BlockWriter::Options{.buffer_bytes = buffer_bytes, .allow_direct = options.allow_direct});
  SLUICE_TRY(writer->OpenShard());
  SLUICE_TRY(writer->SkipToContent());
  return writer;
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
