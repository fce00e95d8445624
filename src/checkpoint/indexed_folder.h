// IndexedFolder: joins an index with the headers of the files that it names, and finds where they do not agree.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/folder_index.h"
#include "checkpoint/folder_listing.h"
#include "checkpoint/stored_checkpoint.h"
#include "checkpoint/weight_file.h"

namespace sluice::checkpoint {

class IndexedFolder {
 public:
  // Adds a file to the checkpoint, without its tensors, and says its number there.
  using AddFile = std::function<Result<WeightFile>(const std::string& name, uint32_t* number)>;

  IndexedFolder(const Listing& folder, std::string index_name, AddFile add_file, StoredCheckpoint* checkpoint)
      : folder_(folder), index_name_(std::move(index_name)), add_file_(std::move(add_file)), checkpoint_(checkpoint) {}

  // Adds the tensors that the index maps, each from the file that it maps it to; what is odd becomes a problem.
  // kNotFound where files are missing, kCorrupt where the index is malformed or tensors are not where it says.
  Result<void> Open();

 private:
  static constexpr uint32_t kNowhere = UINT32_MAX;

  Result<void> CheckFilesExist() const;
  Result<void> ReadShard(uint32_t file);
  Result<void> CheckTensorsFound() const;
  void ReportShardNumbers();
  void ReportTotals();

  const Listing& folder_;
  const std::string index_name_;
  const AddFile add_file_;
  StoredCheckpoint* checkpoint_;
  FolderIndex index_;
  std::vector<bool> found_;          // of each tensor of the index: whether it is in its file
  std::vector<uint32_t> elsewhere_;  // another file where it is
};

}  // namespace sluice::checkpoint
