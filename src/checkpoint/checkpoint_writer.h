// CheckpointWriter: a folder of safetensors shards with index, config and side files, or one file, that appears under
// its name whole and synced or not at all.
//
//   auto writer = CheckpointWriter::Create("out", catalogue, {});   // space checked and reserved
//   for (uint32_t place = 0; place < writer->plan().order.size(); ++place) writer->Append(place, 0, bytes of that
//   tensor); writer->AddFilesOf(checkpoint); writer->AddFile("sluice_merge.json", text); auto written =
//   writer->Commit();
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/shard_plan.h"
#include "checkpoint/write_journal.h"
#include "io/atomic_file.h"
#include "io/block_writer.h"
#include "io/output_folder.h"

namespace sluice::checkpoint {

struct WriteOptions {
  uint64_t max_shard_bytes = kDefaultShardBytes;
  bool force = false;  // replaces what stands under the name
  bool allow_direct = true;
  // For a folder: keeps a journal, bound to this and to the plan, by which another run can go on (docs/resume.md).
  std::optional<JournalBinding> journal = {};
  bool resume = false;  // goes on where there is something to go on with
};

struct WrittenFile {
  std::string name;
  uint64_t size_bytes;
};

// One thread, but for SyncWritten and journal(). Errors are kWrite and stay. Without a Commit nothing is left under any
// name; with a journal the partial folder stays where KeepUnfinished finds it worth it.
class CheckpointWriter {
 public:
  // `path` is a file where it ends in .safetensors, else a folder. `tensors` outlives the writer. kOutputExists (also
  // for an unfinished output: of another binding with resume, of any without resume or force), kUnsupported (an
  // encoding safetensors has no dtype for), kWrite "needs X, Y free".
  static Result<std::unique_ptr<CheckpointWriter>> Create(const std::string& path, const Catalogue& tensors,
                                                          const WriteOptions& options);
  // With a plan of these tensors; options.max_shard_bytes says nothing.
  static Result<std::unique_ptr<CheckpointWriter>> Create(const std::string& path, const Catalogue& tensors,
                                                          ShardPlan plan, const WriteOptions& options);

  // plan().order: the order in which tensors must come, so that every file is written from front to back.
  const ShardPlan& plan() const { return plan_; }
  // Of the tensor at a place of the order.
  TensorInfo tensor(uint32_t place) const { return tensors_[plan_.order[place]]; }
  // What a writer of these shards holds.
  static uint64_t MemoryBytes(const ShardPlan& plan);
  bool is_folder() const { return folder_.has_value(); }

  // What an earlier run finished: tensors at the first places, which must not come again, and facts.
  const JournalContents& resumed() const { return resumed_; }
  uint32_t first_place() const { return static_cast<uint32_t>(resumed_.tensors.size()); }
  // Null where none is kept. Append tells of tensors up to what SyncWritten returned.
  WriteJournal* journal() { return journal_ ? &*journal_ : nullptr; }
  // Whether facts belong into the journal: not into one whose keys were made of other devices.
  bool keeps_facts() const { return keeps_facts_; }
  // Puts what was written onto the disk. Returns the place before which all tensors are there, whole. One thread, which
  // may be another than the writer's; as BlockWriter::SyncWritten.
  Result<uint32_t> SyncWritten();
  // For a run that ends without Commit: keeps what the journal tells of (`finished`: whether it tells of anything).
  // Returns where that is; empty where nothing is kept.
  std::string KeepUnfinished(bool finished);

  // The next bytes of the tensor at this place of the order; they follow on those before. Copied.
  Result<void> Append(uint32_t place, uint64_t offset_bytes, std::span<const uint8_t> bytes);
  // All tensors are here: index and sync. No tensor may follow.
  Result<void> FinishTensors();

  // For folders only: config.json (as config().Pretty()) and side files.
  Result<void> AddFilesOf(const Checkpoint& checkpoint);
  Result<void> AddFile(const std::string& name, std::string_view bytes);

  // Gives the output its name. The files, in the order of their names.
  Result<std::vector<WrittenFile>> Commit();

 private:
  CheckpointWriter(const Catalogue& tensors, ShardPlan plan) : tensors_(tensors), plan_(std::move(plan)) {}
  std::string PathOf(const std::string& file_name) const;
  Result<void> FindLeftover(const std::string& path, const WriteOptions& options);
  Result<void> PrepareLeftover();
  Result<void> OpenShard();
  Result<void> OpenShardAtFirstPlace();
  Result<void> SkipToContent();

  const Catalogue& tensors_;
  const ShardPlan plan_;
  std::vector<WrittenFile> files_;

  // Before the writer's thread: the partial output goes when nobody writes into it any more.
  std::optional<io::OutputFolder> folder_;
  std::optional<io::AtomicFile> file_;
  std::unique_ptr<io::BlockWriter> writer_;

  size_t shard_ = 0;           // the open one, or plan_.shards.size()
  uint32_t place_ = 0;         // where we are: the next byte is ...
  uint64_t offset_bytes_ = 0;  // ... this one of the tensor at place_
  bool finished_ = false;

  JournalContents resumed_;
  bool keeps_facts_ = true;
  std::optional<WriteJournal> journal_;
  size_t first_shard_ = 0;     // the first that the writer began
  uint32_t synced_place_ = 0;  // SyncWritten's thread alone
};

}  // namespace sluice::checkpoint
