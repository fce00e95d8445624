#include "checkpoint/indexed_folder.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "base/units.h"
#include "formats/recognise.h"
#include "io/byte_source.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;
using formats::Printable;
using Severity = Problem::Severity;

}  // namespace

Result<void> IndexedFolder::Open() {
  const std::string path = folder_.PathOf(index_name_);
  SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(path));
  SLUICE_ASSIGN(index_, FolderIndex::Parse(text, path));
  SLUICE_TRY(CheckFilesExist());
  found_.assign(index_.size(), false);
  elsewhere_.assign(index_.size(), kNowhere);
  for (uint32_t file = 0; file < index_.files().size(); ++file) SLUICE_TRY(ReadShard(file));
  SLUICE_TRY(CheckTensorsFound());
  ReportShardNumbers();
  ReportTotals();
  return {};
}

Result<void> IndexedFolder::CheckFilesExist() const {
  const auto& files = index_.files();
  std::vector<std::string> missing;
  std::vector<uint64_t> tensors_in(files.size());
  std::string first_tensor;
  uint64_t affected = 0;
  for (size_t i = 0; i < index_.size(); ++i) ++tensors_in[index_.file_of(i)];
  for (size_t file = 0; file < files.size(); ++file) {
    std::error_code ignored;
    if (fs::exists(folder_.PathOf(files[file]), ignored)) continue;
    missing.push_back(files[file]);
    affected += tensors_in[file];
  }
  if (missing.empty()) return {};
  for (size_t i = 0; i < index_.size() && first_tensor.empty(); ++i) {
    if (files[index_.file_of(i)] == missing.front()) first_tensor = Printable(index_.tensor(i));
  }
  std::string message = fmt::format(
      "{} of the {} files that the index names {} not there: {}; {} of {} tensors are affected, {} is the first{}",
      missing.size(), files.size(), missing.size() == 1 ? "is" : "are", JoinNames(missing), affected, index_.size(),
      first_tensor, MissingAdvice(folder_, missing));
  // The safetensors were removed, or never fetched, and PyTorch's form of them was.
  if (const auto torch = folder_.Where(IsTorchWeights); missing.size() == files.size() && !torch.empty()) {
    const auto torch_index = folder_.EndingIn(".bin.index.json");
    message += fmt::format(", or open the PyTorch weights that are there by their name, {}",
                           folder_.PathOf(torch_index.empty() ? torch.front() : torch_index.front()));
  }
  return FailIn(ErrorCode::kNotFound, folder_.PathOf(index_name_), std::move(message));
}

Result<void> IndexedFolder::ReadShard(uint32_t file) {
  const std::string& name = index_.files()[file];
  uint32_t number = 0;
  SLUICE_ASSIGN(const WeightFile header, add_file_(name, &number));
  std::vector<std::string> unmapped, doubled;
  uint64_t unmapped_bytes = 0;
  for (size_t i = 0; i < header.size(); ++i) {
    const formats::StoredTensor tensor = header[i];
    const auto place = index_.Find(tensor.name);
    if (!place) {
      unmapped.emplace_back(tensor.name);
      unmapped_bytes += tensor.end - tensor.begin;
    } else if (index_.file_of(*place) == file) {
      found_[*place] = true;
      checkpoint_->AddTensor(number, tensor);
    } else {
      elsewhere_[*place] = file;
      doubled.emplace_back(tensor.name);
    }
  }
  if (!unmapped.empty()) {
    checkpoint_->AddProblem(
        Severity::kWarning, name, unmapped.front(),
        fmt::format("{} tensors ({}) are in this file but not in the index, and so not in the model: {}",
                    unmapped.size(), FormatBytes(unmapped_bytes), JoinNames(unmapped)));
  }
  if (!doubled.empty()) {
    checkpoint_->AddProblem(
        Severity::kWarning, name, doubled.front(),
        fmt::format("{} tensors are in this file though the index maps them to another: {}; the other is read",
                    doubled.size(), JoinNames(doubled)));
  }
  return {};
}

Result<void> IndexedFolder::CheckTensorsFound() const {
  uint64_t missing = 0;
  size_t first = 0;
  for (size_t i = index_.size(); i-- > 0;) {
    if (found_[i]) continue;
    ++missing;
    first = i;
  }
  if (missing == 0) return {};
  const std::string& mapped = index_.files()[index_.file_of(first)];
  const std::string there = elsewhere_[first] == kNowhere
                                ? "it is in none of the files"
                                : fmt::format("it is in {}", Printable(index_.files()[elsewhere_[first]]));
  return FailIn(ErrorCode::kCorrupt, folder_.PathOf(index_name_),
                fmt::format("{} of {} tensors are not in the file that the index maps them to: {} is not in {}, {}; "
                            "the index is stale, "
                            "or the files are of two versions: fetch the index and its files again",
                            missing, index_.size(), Printable(index_.tensor(first)), Printable(mapped), there));
}

// Gaps in -of-N, and files that do not agree on N.
void IndexedFolder::ReportShardNumbers() {
  std::map<std::pair<std::string, uint64_t>, std::vector<uint64_t>> sets;
  for (const std::string& file : index_.files()) {
    if (const auto shard = ParseShardName(file)) sets[{shard->prefix, shard->count}].push_back(shard->number);
  }
  for (auto& [set, numbers] : sets) {
    std::sort(numbers.begin(), numbers.end());
    const auto& [prefix, count] = set;
    uint64_t missing = 0, first = 0, expected = 1;
    for (const uint64_t number : numbers) {
      if (number > expected && missing == 0) first = expected;
      if (number > expected) missing += number - expected;
      expected = number + 1;
    }
    if (expected <= count) {
      if (missing == 0) first = expected;
      missing += count - expected + 1;
    }
    if (missing > 0) {
      checkpoint_->AddProblem(
          Severity::kWarning, index_name_, "",
          fmt::format("the index names no tensor of {} of the {} files {}-*-of-*; number {} is the first", missing,
                      count, Printable(prefix), first));
    }
    if (numbers.front() == 0 || numbers.back() > count) {
      checkpoint_->AddProblem(Severity::kWarning, index_name_, "",
                              fmt::format("file number {} of {} does not exist by its own name",
                                          numbers.front() == 0 ? 0 : numbers.back(), count));
    }
  }
  if (sets.size() > 1) {
    checkpoint_->AddProblem(Severity::kWarning, index_name_, "",
                            fmt::format("the index names files of {} different sets of shards", sets.size()));
  }
}

void IndexedFolder::ReportTotals() {
  const auto compare = [&](const char* what, std::optional<uint64_t> said, uint64_t counted) {
    if (!said || *said == counted) return;
    checkpoint_->AddProblem(Severity::kWarning, index_name_, "",
                            fmt::format("{} is {}, the headers have {}; nothing here relies on it", what,
                                        FormatCount(*said), FormatCount(counted)));
  };
  compare("total_size", index_.total_size(), checkpoint_->tensors().total_bytes());
  compare("total_parameters", index_.total_parameters(), checkpoint_->tensors().total_elements());
}

}  // namespace sluice::checkpoint
