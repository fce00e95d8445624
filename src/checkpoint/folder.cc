#include "checkpoint/folder.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/units.h"
#include "checkpoint/architecture.h"
#include "checkpoint/folder_index.h"
#include "checkpoint/scaled_checkpoint.h"
#include "checkpoint/stored_checkpoint.h"
#include "checkpoint/weight_file.h"
#include "formats/recognise.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;
using formats::Printable;
using Severity = Problem::Severity;

constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kIndexEnding = ".safetensors.index.json";
constexpr std::string_view kModelName = "model.safetensors";
constexpr std::string_view kTorchIndexName = "pytorch_model.bin.index.json";
constexpr std::string_view kTorchModelName = "pytorch_model.bin";

constexpr std::array<std::string_view, 11> kSideFiles = {
    "added_tokens.json",       "chat_template.jinja", "chat_template.json",
    "generation_config.json",  "merges.txt",          "preprocessor_config.json",
    "special_tokens_map.json", "tokenizer.json",      "tokenizer.model",
    "tokenizer_config.json",   "vocab.json"};

// Regular files of a folder, links followed, by name.
struct Listing {
  std::string path;
  std::map<std::string, uint64_t, std::less<>> size_bytes;

  bool Has(std::string_view name) const { return size_bytes.find(name) != size_bytes.end(); }
  std::string PathOf(std::string_view name) const { return (fs::path(path) / name).string(); }
  std::vector<std::string> Where(auto wanted) const {
    std::vector<std::string> names;
    for (const auto& [name, size] : size_bytes) {
      if (wanted(std::string_view(name))) names.push_back(name);
    }
    return names;
  }
  std::vector<std::string> EndingIn(std::string_view ending) const {
    return Where([&](std::string_view name) { return name.ends_with(ending); });
  }
  uint64_t Bytes(const std::vector<std::string>& names) const {
    uint64_t total = 0;
    for (const std::string& name : names) total += size_bytes.find(name)->second;
    return total;
  }
};

Result<Listing> List(const std::string& path) {
  Listing listing{path.empty() ? "." : path, {}};
  std::error_code error;
  fs::directory_iterator entries(listing.path, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    std::error_code ignored;  // a link that leads nowhere is not there
    if (!entries->is_regular_file(ignored) || ignored) continue;
    const uint64_t size = entries->file_size(ignored);
    if (!ignored) listing.size_bytes.emplace(entries->path().filename().string(), size);
  }
  if (error) {
    const ErrorCode code = error == std::errc::no_such_file_or_directory ? ErrorCode::kNotFound : ErrorCode::kRead;
    return Fail(Error{code, fmt::format("the folder cannot be listed: {}", error.message()), {path}});
  }
  return listing;
}

// "a, b, c and 4 more".
std::string Join(const std::vector<std::string>& names, size_t most = 3) {
  const size_t shown = names.size() <= most + 1 ? names.size() : most;
  std::string text;
  for (size_t i = 0; i < shown; ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", Printable(names[i]));
  if (shown < names.size()) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

tl::unexpected<Error> FailIn(ErrorCode code, const std::string& place, std::string message) {
  return Fail(Error{code, std::move(message), {place}});
}

// config.json and side files of a folder.
Result<void> AddCompanions(const Listing& folder, StoredCheckpoint* checkpoint) {
  if (folder.Has("config.json")) {
    const std::string path = folder.PathOf("config.json");
    SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(path));
    SLUICE_ASSIGN(auto config, ModelConfig::Parse(text, path));
    checkpoint->SetConfig(std::move(config));
  }
  for (const auto& [name, size] : folder.size_bytes) {
    if (!IsSideFile(name)) continue;
    checkpoint->AddSideFile({name, folder.PathOf(name)});
    constexpr uint64_t kMostOfPointer = 1024;
    if (size > kMostOfPointer) continue;
    SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(folder.PathOf(name)));
    if (formats::IsLfsPointer(text)) {
      checkpoint->AddProblem(Severity::kError, name, "", formats::Recognise(text).message);
    }
  }
  return {};
}

struct Tie {
  std::string file, dropped, kept;
};

// One of the folder's weight files.
Result<WeightFile> AddFile(const Listing& folder, const std::string& name, const OpenOptions& options,
                           StoredCheckpoint* checkpoint, std::vector<Tie>* ties, uint32_t* number) {
  SLUICE_ASSIGN(auto source, options.open_source(folder.PathOf(name)));
  SLUICE_ASSIGN(WeightFile file, WeightFile::Read(*source, name));
  *number = checkpoint->AddFile(name, std::move(source));
  checkpoint->SetKind(file.kind());
  for (const auto& remark : file.remarks()) {
    checkpoint->AddProblem(remark.is_warning ? Severity::kWarning : Severity::kNote, name, remark.tensor,
                           remark.message);
  }
  const formats::SafetensorsHeader* header = file.safetensors();
  if (header == nullptr) return file;
  // Tensors that were dropped as copies of others stand here, dropped = kept; whether they are is seen when all are
  // read.
  for (size_t i = 0; i < header->metadata_size(); ++i) {
    const auto [dropped, kept] = header->metadata(i);
    if (kept.find('.') != std::string_view::npos) ties->push_back({name, std::string(dropped), std::string(kept)});
  }
  return file;
}

Result<void> AddWholeFile(const Listing& folder, const std::string& name, const OpenOptions& options,
                          StoredCheckpoint* checkpoint, std::vector<Tie>* ties) {
  uint32_t number = 0;
  SLUICE_ASSIGN(const WeightFile file, AddFile(folder, name, options, checkpoint, ties, &number));
  for (size_t i = 0; i < file.size(); ++i) checkpoint->AddTensor(number, file[i]);
  return {};
}

// Weights in the folder that were not read, so that nobody counts them twice or takes them for read.
void ReportOtherWeights(const Listing& folder, StoredCheckpoint* checkpoint) {
  const auto is_read = [&](std::string_view name) {
    return std::any_of(checkpoint->files().begin(), checkpoint->files().end(),
                       [&](const Checkpoint::File& file) { return file.name == name; });
  };
  const auto unread =
      folder.Where([&](std::string_view name) { return name.ends_with(".safetensors") && !is_read(name); });
  if (!unread.empty()) {
    checkpoint->AddProblem(Severity::kWarning, unread.front(), "",
                           fmt::format("not read, and not counted: {} ({}) beside the model's own files", Join(unread),
                                       FormatBytes(folder.Bytes(unread))));
  }
  const auto twice = folder.Where(
      [&](std::string_view name) { return (IsTorchWeights(name) || name.ends_with(".gguf")) && !is_read(name); });
  if (!twice.empty()) {
    checkpoint->AddProblem(Severity::kNote, twice.front(), "",
                           fmt::format("not read, and not counted: {} ({}), most likely the same weights a second time",
                                       Join(twice), FormatBytes(folder.Bytes(twice))));
  }
}

Result<std::shared_ptr<const Checkpoint>> Finish(const Listing& folder, const std::string& file, bool is_whole,
                                                 const std::vector<Tie>& ties,
                                                 std::shared_ptr<StoredCheckpoint> checkpoint) {
  checkpoint->Finish();
  if (is_whole && checkpoint->config() != nullptr) {
    CompareWithConfig(*checkpoint->config(), checkpoint->tensors(), file, checkpoint->mutable_problems());
  }
  std::set<std::string> told;
  for (const Problem& problem : checkpoint->problems()) {
    if (problem.severity == Severity::kNote) told.insert(problem.tensor);
  }
  const Catalogue& tensors = checkpoint->tensors();
  for (const Tie& tie : ties) {
    if (tensors.Find(tie.dropped) || !tensors.Find(tie.kept) || !told.insert(tie.dropped).second) continue;
    checkpoint->AddProblem(Severity::kNote, tie.file, tie.dropped, fmt::format("not stored: tied to {}", tie.kept));
  }
  if (is_whole && checkpoint->config() == nullptr) {
    checkpoint->AddProblem(Severity::kWarning, "", "", fmt::format("there is no config.json in {}", folder.path));
  }
  return DecodeScaled(std::move(checkpoint), file, is_whole);
}

// Joins an index with the headers of the files that it names.
class IndexedFolder {
 public:
  IndexedFolder(const Listing& folder, std::string index_name, const OpenOptions& options, StoredCheckpoint* checkpoint,
                std::vector<Tie>* ties)
      : folder_(folder), index_name_(std::move(index_name)), options_(options), checkpoint_(checkpoint), ties_(ties) {}

  Result<void> Open() {
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

 private:
  static constexpr uint32_t kNowhere = UINT32_MAX;

  Result<void> CheckFilesExist() const {
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
    return FailIn(
        ErrorCode::kNotFound, folder_.PathOf(index_name_),
        fmt::format(
            "{} of the {} files that the index names {} not there: {}; {} of {} tensors are affected, {} is the "
            "first; fetch the missing files",
            missing.size(), files.size(), missing.size() == 1 ? "is" : "are", Join(missing), affected, index_.size(),
            first_tensor));
  }

  Result<void> ReadShard(uint32_t file) {
    const std::string& name = index_.files()[file];
    uint32_t number = 0;
    SLUICE_ASSIGN(const WeightFile header, AddFile(folder_, name, options_, checkpoint_, ties_, &number));
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
                      unmapped.size(), FormatBytes(unmapped_bytes), Join(unmapped)));
    }
    if (!doubled.empty()) {
      checkpoint_->AddProblem(
          Severity::kWarning, name, doubled.front(),
          fmt::format("{} tensors are in this file though the index maps them to another: {}; the other is read",
                      doubled.size(), Join(doubled)));
    }
    return {};
  }

  Result<void> CheckTensorsFound() const {
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
  void ReportShardNumbers() {
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

  void ReportTotals() {
    const auto compare = [&](const char* what, std::optional<uint64_t> said, uint64_t counted) {
      if (!said || *said == counted) return;
      checkpoint_->AddProblem(Severity::kWarning, index_name_, "",
                              fmt::format("{} is {}, the headers have {}; nothing here relies on it", what,
                                          FormatCount(*said), FormatCount(counted)));
    };
    compare("total_size", index_.total_size(), checkpoint_->tensors().total_bytes());
    compare("total_parameters", index_.total_parameters(), checkpoint_->tensors().total_elements());
  }

  const Listing& folder_;
  const std::string index_name_;
  const OpenOptions& options_;
  StoredCheckpoint* checkpoint_;
  std::vector<Tie>* ties_;
  FolderIndex index_;
  std::vector<bool> found_;          // of each tensor of the index: whether it is in its file
  std::vector<uint32_t> elsewhere_;  // another file where it is
};

Result<std::shared_ptr<const Checkpoint>> OpenByIndex(const std::string& ref, const Listing& folder,
                                                      const std::string& index_name, const OpenOptions& options) {
  std::vector<Tie> ties;
  auto checkpoint = std::make_shared<StoredCheckpoint>(ref);
  SLUICE_TRY(IndexedFolder(folder, index_name, options, checkpoint.get(), &ties).Open());
  SLUICE_TRY(AddCompanions(folder, checkpoint.get()));
  ReportOtherWeights(folder, checkpoint.get());
  return Finish(folder, index_name, /*is_whole=*/true, ties, std::move(checkpoint));
}

// A folder without safetensors or PyTorch files: what it is instead, and what to do.
tl::unexpected<Error> NoWeights(const Listing& folder) {
  if (folder.size_bytes.empty()) return FailIn(ErrorCode::kNotFound, folder.path, "there are no files in the folder");
  if (const auto gguf = folder.EndingIn(".gguf"); !gguf.empty()) {
    return FailIn(
        ErrorCode::kNotFound, folder.path,
        fmt::format("there are no safetensors files in the folder, but GGUF: name the file itself ({})", Join(gguf)));
  }
  const std::vector<std::string> names = folder.Where([](std::string_view) { return true; });
  return FailIn(
      ErrorCode::kNotFound, folder.path,
      fmt::format("there are no weights in the folder (it has {}): expected {}, {} or one .safetensors or .bin file",
                  Join(names), kIndexName, kModelName));
}

// The one file that is the model where there is no index: PyTorch's only where there is no safetensors file.
Result<std::string> ChooseFile(const Listing& folder) {
  if (folder.Has(kModelName)) return std::string(kModelName);
  if (!folder.Has(kTorchModelName) && (folder.Has("adapter_config.json") || folder.Has("adapter_model.safetensors") ||
                                       folder.Has("adapter_model.bin"))) {
    return FailIn(ErrorCode::kUnsupported, folder.path,
                  fmt::format("the folder is an adapter, not a model: name the model that it was trained on before it, "
                              "MODEL+{}",
                              folder.path));
  }
  std::vector<std::string> files = folder.EndingIn(".safetensors");
  const bool is_torch = files.empty();
  if (is_torch) files = folder.Where(IsTorchWeights);
  if (files.empty()) return NoWeights(folder);
  if (is_torch && folder.Has(kTorchModelName)) return std::string(kTorchModelName);
  const std::string_view format = is_torch ? "PyTorch" : "safetensors";
  const std::string_view index_name = is_torch ? kTorchIndexName : kIndexName;
  const auto shard = ParseShardName(files.front());
  if (files.size() > 1) {
    return FailIn(
        ErrorCode::kNotFound, folder.path,
        shard ? fmt::format("there are {} {} files ({}) but no {} that says which tensor is where: fetch the index",
                            files.size(), format, Join(files), index_name)
              : fmt::format("there are {} {} files ({}), none is named {}, and there is no index: name the "
                            "one that is meant",
                            files.size(), format, Join(files), is_torch ? kTorchModelName : kModelName));
  }
  if (shard && shard->count > 1) {
    return FailIn(
        ErrorCode::kNotFound, folder.path,
        fmt::format("{} is one of {} files; the others and {} are not there: fetch them, or name the file to open it "
                    "alone",
                    files.front(), shard->count, index_name));
  }
  return files.front();
}

// A path as folder and name.
std::pair<std::string, std::string> Split(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return {parent.empty() ? "." : parent.string(), fs::path(path).filename().string()};
}

}  // namespace

bool IsSideFile(std::string_view name) {
  return std::find(kSideFiles.begin(), kSideFiles.end(), name) != kSideFiles.end() || name.starts_with("LICENSE") ||
         name.starts_with("NOTICE");
}

Result<std::shared_ptr<const Checkpoint>> OpenFolderAs(const std::string& ref, const std::string& path,
                                                       const OpenOptions& options) {
  SLUICE_ASSIGN(const Listing folder, List(path));
  if (folder.Has(kIndexName)) return OpenByIndex(ref, folder, std::string(kIndexName), options);
  if (!folder.Has(kModelName)) {
    const std::vector<std::string> indices = folder.EndingIn(kIndexEnding);
    if (indices.size() == 1) return OpenByIndex(ref, folder, indices.front(), options);
    if (indices.size() > 1) {
      return FailIn(ErrorCode::kNotFound, path,
                    fmt::format("there are {} indices ({}) and none is named {}: name the one that is meant",
                                indices.size(), Join(indices), kIndexName));
    }
  }
  if (folder.Has(kTorchIndexName) && folder.EndingIn(".safetensors").empty()) {
    return OpenByIndex(ref, folder, std::string(kTorchIndexName), options);
  }
  SLUICE_ASSIGN(const std::string name, ChooseFile(folder));
  std::vector<Tie> ties;
  auto checkpoint = std::make_shared<StoredCheckpoint>(ref);
  SLUICE_TRY(AddWholeFile(folder, name, options, checkpoint.get(), &ties));
  SLUICE_TRY(AddCompanions(folder, checkpoint.get()));
  ReportOtherWeights(folder, checkpoint.get());
  return Finish(folder, name, /*is_whole=*/true, ties, std::move(checkpoint));
}

Result<std::shared_ptr<const Checkpoint>> OpenFolder(const std::string& path, const OpenOptions& options) {
  return OpenFolderAs(path, path, options);
}

Result<std::shared_ptr<const Checkpoint>> OpenIndex(const std::string& path, const OpenOptions& options) {
  const auto [folder_path, name] = Split(path);
  SLUICE_ASSIGN(const Listing folder, List(folder_path));
  return OpenByIndex(path, folder, name, options);
}

Result<std::shared_ptr<const Checkpoint>> OpenTorchFile(const std::string& path, const OpenOptions& options) {
  return OpenSafetensorsFile(path, options);  // which it is, AddFile sees
}

Result<std::shared_ptr<const Checkpoint>> OpenSafetensorsFile(const std::string& path, const OpenOptions& options) {
  const auto [folder_path, name] = Split(path);
  SLUICE_ASSIGN(const Listing folder, List(folder_path));
  std::vector<Tie> ties;
  auto checkpoint = std::make_shared<StoredCheckpoint>(path);
  SLUICE_TRY(AddWholeFile(folder, name, options, checkpoint.get(), &ties));
  SLUICE_TRY(AddCompanions(folder, checkpoint.get()));
  const auto shard = ParseShardName(name);
  const bool is_whole = !shard || shard->count <= 1;
  if (!is_whole) {
    checkpoint->AddProblem(Severity::kWarning, name, "",
                           fmt::format("opened alone: it is number {} of {} files", shard->number, shard->count));
  }
  const bool has_config = checkpoint->config() != nullptr;  // asked before the move
  return Finish(folder, name, is_whole && has_config, ties, std::move(checkpoint));
}

}  // namespace sluice::checkpoint
