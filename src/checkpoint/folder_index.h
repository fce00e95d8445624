// model.safetensors.index.json and pytorch_model.bin.index.json: which tensor is in which file; and the names of
// shards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::checkpoint {

// What an index says. Compact: 100,000 tensors in their names and 12 bytes each.
class FolderIndex {
 public:
  // Strict JSON; kCorrupt with `file`, line and column for what is malformed: no weight_map or an empty one, a key
  // twice, a value that is no string, a path that leaves the folder, files
  // that are not all .safetensors or all .bin.
  static Result<FolderIndex> Parse(std::string_view text, const std::string& file);

  size_t size() const { return entries_.size(); }
  std::string_view tensor(size_t i) const;                       // sorted
  uint32_t file_of(size_t i) const { return entries_[i].file; }  // a place in files()
  std::optional<size_t> Find(std::string_view tensor) const;
  const std::vector<std::string>& files() const { return files_; }  // sorted, without ./ and the like
  std::optional<uint64_t> total_size() const { return total_size_; }
  std::optional<uint64_t> total_parameters() const { return total_parameters_; }

 private:
  friend class FolderIndexParser;
  struct Entry {
    uint32_t name_begin, name_size, file;
  };
  std::string names_;
  std::vector<Entry> entries_;
  std::vector<std::string> files_;
  std::optional<uint64_t> total_size_, total_parameters_;
};

// "model-00003-of-00007.safetensors" (or .bin): prefix "model", number 3, count 7. Any prefix, any number of digits.
struct ShardName {
  std::string prefix;
  uint64_t number = 0, count = 0;
};
std::optional<ShardName> ParseShardName(std::string_view file);

}  // namespace sluice::checkpoint
