#include "checkpoint/folder.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/units.h"
#include "checkpoint/expected_tensors.h"
#include "checkpoint/folder_index.h"
#include "checkpoint/folder_listing.h"
#include "checkpoint/indexed_folder.h"
#include "checkpoint/scaled_checkpoint.h"
#include "checkpoint/stored_checkpoint.h"
#include "checkpoint/weight_file.h"
#include "formats/recognise.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;
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

// config.json and side files of a folder.
Result<void> AddCompanions(const Listing& folder, StoredCheckpoint* checkpoint) {
  if (folder.Has("config.json")) {
    const std::string path = folder.PathOf("config.json");
    SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(path));
    SLUICE_ASSIGN(auto config, ModelConfig::Parse(text, path));
    checkpoint->SetConfig(std::move(config));
    checkpoint->AddDefinition(path);
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

// Mistral's own names of files, beside which it publishes Hugging Face's; Meta's too.
bool IsConsolidated(std::string_view name) { return name.starts_with("consolidated"); }

// Weights in the folder that were not read, so that nobody counts them twice or takes them for read.
void ReportOtherWeights(const Listing& folder, StoredCheckpoint* checkpoint) {
  std::set<std::string, std::less<>> read;
  std::set<std::pair<std::string, uint64_t>> sets_read;  // of shards: their prefix and how many they are
  for (const Checkpoint::File& file : checkpoint->files()) {
    read.insert(file.name);
    if (const auto shard = ParseShardName(file.name)) sets_read.emplace(shard->prefix, shard->count);
  }
  std::vector<std::string> unmapped, left_over, second_form, other;
  for (const auto& [name, size] : folder.size_bytes) {
    if (read.contains(name)) continue;
    const bool is_safetensors = name.ends_with(".safetensors");
    if (is_safetensors && !IsConsolidated(name)) {
      const auto shard = ParseShardName(name);
      const bool of_set = shard && !sets_read.empty();
      (!of_set ? other : sets_read.contains({shard->prefix, shard->count}) ? unmapped : left_over).push_back(name);
    } else if (is_safetensors || IsTorchWeights(name) || name.ends_with(".gguf")) {
      second_form.push_back(name);
    }
  }
  const auto report = [&](Severity severity, const std::vector<std::string>& names, std::string_view what) {
    if (names.empty()) return;
    checkpoint->AddProblem(
        severity, names.front(), "",
        fmt::format("not read, and not counted: {} ({}){}", JoinNames(names), FormatBytes(folder.Bytes(names)), what));
  };
  report(Severity::kWarning, unmapped,
         ", by name of the model's own shards, but the index maps no tensor to them: if it is stale, fetch it again");
  report(Severity::kWarning, left_over,
         ", of another number of shards than the model's own: left over from another version, and best removed");
  report(Severity::kWarning, other, " beside the model's own files");
  report(Severity::kNote, second_form, ", most likely the same weights a second time");
  if (!folder.unfinished.empty()) {
    checkpoint->AddProblem(
        Severity::kNote, "", "",
        fmt::format("{} {} not finished, of files that the model does not need: {}", folder.unfinished.size(),
                    folder.unfinished.size() == 1 ? "download was" : "downloads were", JoinNames(folder.unfinished)));
  }
}

// Names as Mistral and Meta give them in files of their own: nothing here knows what they mean.
void ReportOwnNames(const Listing& folder, const std::string& file, StoredCheckpoint* checkpoint) {
  const Catalogue& tensors = checkpoint->tensors();
  if (!tensors.Find("tok_embeddings.weight") && !tensors.Find("layers.0.attention.wq.weight")) return;
  checkpoint->AddProblem(
      Severity::kWarning, file, "",
      fmt::format("the tensors have Mistral's or Meta's own names{}, not Hugging Face's: they can be digested and "
                  "compared, not run; fetch the model-*.safetensors that are published beside this file",
                  folder.Has("params.json") ? " (and params.json in place of config.json)" : ""));
}

Result<std::shared_ptr<const Checkpoint>> Finish(const Listing& folder, const std::string& file, bool is_whole,
                                                 const std::vector<Tie>& ties,
                                                 std::shared_ptr<StoredCheckpoint> checkpoint) {
  checkpoint->Finish();
  ReportOwnNames(folder, file, checkpoint.get());
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

Result<std::shared_ptr<const Checkpoint>> OpenByIndex(const std::string& ref, const Listing& folder,
                                                      const std::string& index_name, const OpenOptions& options) {
  std::vector<Tie> ties;
  auto checkpoint = std::make_shared<StoredCheckpoint>(ref);
  const auto add_file = [&](const std::string& name, uint32_t* number) {
    return AddFile(folder, name, options, checkpoint.get(), &ties, number);
  };
  SLUICE_TRY(IndexedFolder(folder, index_name, add_file, checkpoint.get()).Open());
  SLUICE_TRY(AddCompanions(folder, checkpoint.get()));
  ReportOtherWeights(folder, checkpoint.get());
  return Finish(folder, index_name, /*is_whole=*/true, ties, std::move(checkpoint));
}

// A folder without safetensors or PyTorch files: what it is instead, and what to do.
tl::unexpected<Error> NoWeights(const Listing& folder) {
  std::vector<std::string> missing;
  missing.reserve(folder.dangling.size());
  for (const auto& [name, target] : folder.dangling) missing.push_back(name);
  std::erase_if(missing, [](const std::string& name) {
    return !name.ends_with(".safetensors") && !name.ends_with(".gguf") && !IsTorchWeights(name);
  });
  if (!missing.empty() || !folder.unfinished.empty()) {
    return FailIn(ErrorCode::kNotFound, folder.path,
                  "there are no weights in the folder yet" + MissingAdvice(folder, missing));
  }
  if (folder.size_bytes.empty()) return FailIn(ErrorCode::kNotFound, folder.path, "there are no files in the folder");
  if (const auto gguf = folder.EndingIn(".gguf"); !gguf.empty()) {
    return FailIn(ErrorCode::kNotFound, folder.path,
                  fmt::format("there are no safetensors files in the folder, but GGUF: name the file itself ({})",
                              JoinNames(gguf)));
  }
  const std::vector<std::string> names = folder.Where([](std::string_view) { return true; });
  return FailIn(
      ErrorCode::kNotFound, folder.path,
      fmt::format("there are no weights in the folder (it has {}): expected {}, {} or one .safetensors or .bin file",
                  JoinNames(names), kIndexName, kModelName));
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
  if (std::erase_if(files, IsConsolidated) > 0 && files.empty()) {
    files = folder.Where([&](std::string_view name) {
      return IsConsolidated(name) && (is_torch ? IsTorchWeights(name) : name.ends_with(".safetensors"));
    });
  }
  const std::string_view format = is_torch ? "PyTorch" : "safetensors";
  const std::string_view index_name = is_torch ? kTorchIndexName : kIndexName;
  const auto shard = ParseShardName(files.front());
  if (files.size() > 1) {
    return FailIn(
        ErrorCode::kNotFound, folder.path,
        shard ? fmt::format("there are {} {} files ({}) but no {} that says which tensor is where: fetch the index",
                            files.size(), format, JoinNames(files), index_name)
              : fmt::format("there are {} {} files ({}), none is named {}, and there is no index: name the "
                            "one that is meant",
                            files.size(), format, JoinNames(files), is_torch ? kTorchModelName : kModelName));
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
  SLUICE_ASSIGN(const Listing folder, ListFolder(path));
  if (folder.Has(kIndexName)) return OpenByIndex(ref, folder, std::string(kIndexName), options);
  if (!folder.Has(kModelName)) {
    const std::vector<std::string> indices = folder.EndingIn(kIndexEnding);
    if (indices.size() == 1) return OpenByIndex(ref, folder, indices.front(), options);
    if (indices.size() > 1) {
      return FailIn(ErrorCode::kNotFound, path,
                    fmt::format("there are {} indices ({}) and none is named {}: name the one that is meant",
                                indices.size(), JoinNames(indices), kIndexName));
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
  SLUICE_ASSIGN(const Listing folder, ListFolder(folder_path));
  return OpenByIndex(path, folder, name, options);
}

Result<std::shared_ptr<const Checkpoint>> OpenTorchFile(const std::string& path, const OpenOptions& options) {
  return OpenSafetensorsFile(path, options);  // which it is, AddFile sees
}

Result<std::shared_ptr<const Checkpoint>> OpenSafetensorsFile(const std::string& path, const OpenOptions& options) {
  const auto [folder_path, name] = Split(path);
  SLUICE_ASSIGN(const Listing folder, ListFolder(folder_path));
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
