#include "verify/file_check.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "base/workers.h"
#include "checkpoint/folder.h"
#include "checkpoint/folder_index.h"
#include "checkpoint/folder_listing.h"
#include "checkpoint/hub_cache.h"
#include "checkpoint/model_config.h"
#include "checkpoint/weight_file.h"
#include "formats/gguf.h"
#include "formats/json_reader.h"
#include "formats/recognise.h"
#include "formats/zip_archive.h"
#include "io/byte_source.h"
#include "verify/known_digest.h"
#include "verify/shard_agreement.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;
using checkpoint::FolderIndex;
using checkpoint::Listing;
using checkpoint::ModelConfig;
using checkpoint::WeightFile;
using formats::Printable;

constexpr std::string_view kIndexEnding = ".index.json";

bool IsWeights(std::string_view name) {
  return name.ends_with(".safetensors") || name.ends_with(".gguf") || checkpoint::IsTorchWeights(name);
}

// An error without the file's own path, which the table has.
std::string TextOf(const Error& error, const std::string& path) {
  std::string text = error.ToString();
  while (text.starts_with(path + ": ")) text.erase(0, path.size() + 2);
  return text;
}

class Checker {
 public:
  Checker(std::string folder, std::string only, const std::atomic<bool>& cancelled)
      : only_(std::move(only)), cancelled_(cancelled) {
    check_.folder = std::move(folder);
  }

  Result<FileCheck> Run(int threads) {
    SLUICE_ASSIGN(listing_, checkpoint::ListFolder(check_.folder));
    FindIndex();
    for (const std::string& name : Names()) {
      check_.files.push_back({});
      check_.files.back().name = name;
    }
    headers_.resize(check_.files.size());
    bytes_read_.resize(check_.files.size());
    Workers workers(std::max(1, std::min<int>(threads, static_cast<int>(check_.files.size()))));
    workers.ParallelFor(check_.files.size(), [this](uint64_t i, int) { CheckFile(i); });
    if (cancelled_) return Fail(ErrorCode::kCancelled, "interrupted");
    for (const uint64_t bytes : bytes_read_) check_.bytes_read += bytes;
    CompareShards();
    NoteCommits();
    SetFetchCommand(&check_);
    return std::move(check_);
  }

 private:
  void FindIndex() {
    if (!only_.empty() && !only_.ends_with(kIndexEnding)) return;
    std::vector<std::string> indices = listing_.EndingIn(".safetensors.index.json");
    if (indices.empty() && listing_.EndingIn(".safetensors").empty()) indices = listing_.EndingIn(".bin.index.json");
    if (only_.ends_with(kIndexEnding)) indices = {only_};
    if (indices.size() != 1) return;
    index_name_ = indices.front();
    const std::string path = listing_.PathOf(index_name_);
    const auto text = io::ReadWholeFile(path);
    if (!text) return;  // which the check of the file itself tells
    if (auto index = FolderIndex::Parse(*text, path)) index_ = std::move(*index);
  }

  std::set<std::string> Names() const {
    if (!only_.empty() && !only_.ends_with(kIndexEnding)) return {only_};
    std::set<std::string> names;
    if (index_) names.insert(index_->files().begin(), index_->files().end());
    const bool all = checkpoint::SnapshotOf(check_.folder).has_value();
    const auto add = [&](const std::string& name) {
      if (all || IsWeights(name) || name.ends_with(".json") || checkpoint::IsSideFile(name)) names.insert(name);
    };
    for (const auto& [name, size] : listing_.size_bytes) add(name);
    for (const auto& [name, target] : listing_.dangling) add(name);
    return names;
  }

  // Of a file that is not there: how many tensors the index maps to it.
  std::string Affected(const std::string& name) const {
    uint64_t count = 0;
    for (size_t i = 0; index_ && i < index_->size(); ++i) count += index_->files()[index_->file_of(i)] == name;
    return count == 0 ? "" : fmt::format("; {} of the {} tensors of the index are in it", count, index_->size());
  }

  void CheckFile(size_t i) {
    CheckedFile& file = check_.files[i];
    if (cancelled_) return;
    const std::string path = listing_.PathOf(file.name);
    if (const auto link = listing_.dangling.find(file.name); link != listing_.dangling.end()) {
      file.state = FileState::kMissing;
      file.message = fmt::format(
          "a link to {}, where there is nothing: the download was not finished, or the cache "
          "was cleaned",
          Printable(link->second));
      return;
    }
    auto opened = io::OpenFile(path);
    if (!opened) {
      file.state = opened.error().code == ErrorCode::kNotFound ? FileState::kMissing : FileState::kDamaged;
      file.message = opened.error().code == ErrorCode::kNotFound ? "not there" + Affected(file.name)
                                                                 : TextOf(opened.error(), path);
      return;
    }
    const auto done = CheckContent(*opened, i);
    if (done || done.error().code == ErrorCode::kCancelled) return;
    file.state = FileState::kDamaged;  // a sector that cannot be read
    file.message = TextOf(done.error(), path);
  }

  Result<void> CheckContent(const std::shared_ptr<const io::ByteSource>& opened, size_t i) {
    const io::ByteSource& source = *opened;
    CheckedFile& file = check_.files[i];
    file.size_bytes = source.size_bytes();
    std::string first(std::min<uint64_t>(source.size_bytes(), 4096), '\0');
    SLUICE_TRY(source.Read(0, {reinterpret_cast<uint8_t*>(first.data()), first.size()}));
    const formats::Recognised kind = formats::Recognise(first);
    if (kind.kind == formats::FileKind::kLfsPointer || kind.kind == formats::FileKind::kHtml) {
      file.state = kind.kind == formats::FileKind::kHtml ? FileState::kDamaged : FileState::kPointer;
      file.message = kind.message;
      return {};
    }
    SLUICE_TRY(CheckStructure(opened, i));
    if (file.state == FileState::kTruncated) return {};
    if (const auto known = FindKnownDigest(check_.folder, file.name)) return CheckDigest(source, *known, i);
    if (file.state == FileState::kWellFormed && checkpoint::IsTorchWeights(file.name)) return CheckCrcs(source, i);
    return {};
  }

  // What the file's own format says. An error only where the file cannot be read.
  Result<void> CheckStructure(const std::shared_ptr<const io::ByteSource>& opened, size_t i) {
    const io::ByteSource& source = *opened;
    CheckedFile& file = check_.files[i];
    const auto wrong = [&](const Error& error) -> Result<void> {
      if (error.code == ErrorCode::kRead) return Fail(error);
      file.message = TextOf(error, source.name());
      if (error.code == ErrorCode::kUnsupported) return {};  // in order for others, as far as we can see
      // In these words the parsers tell it.
      const bool short_of = file.message.find("truncated") != std::string::npos ||
                            file.message.find("cut short") != std::string::npos || source.size_bytes() == 0;
      file.state = short_of ? FileState::kTruncated : FileState::kDamaged;
      return {};
    };
    if (file.name.ends_with(".gguf")) {
      file.checked_by = "its header";
      const auto gguf = formats::GgufFile::Open(opened);
      return gguf ? Result<void>() : wrong(gguf.error());
    }
    if (IsWeights(file.name)) {
      file.checked_by = "its header";
      auto header = WeightFile::Read(source, file.name);
      if (!header) return wrong(header.error());
      headers_[i] = std::move(*header);
      return {};
    }
    if (!file.name.ends_with(".json")) return {};
    file.checked_by = "its JSON";
    SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(source.name()));
    bytes_read_[i] += text.size();
    if (file.name == "config.json") {
      auto config = ModelConfig::Parse(text, source.name());
      if (!config) return wrong(config.error());
      config_ = std::move(*config);
      return {};
    }
    if (file.name == index_name_) {
      const auto index = FolderIndex::Parse(text, source.name());
      return index ? Result<void>() : wrong(index.error());
    }
    formats::JsonReader json(text);
    if (json.Skip() && json.End()) return {};
    const auto place = formats::LineColumnAt(text, json.offset());
    const bool is_cut = json.error() == formats::JsonError::kEnd;
    auto told = wrong({ErrorCode::kCorrupt,
                       fmt::format("line {}, column {}: {}{}", place.line, place.column, json.message(),
                                   is_cut ? ": the file is truncated" : ""),
                       {}});
    // What trainers write beside a model has NaN in it, and nobody's model is the worse for it.
    if (!is_cut && !checkpoint::IsSideFile(file.name)) file.state = FileState::kWellFormed;
    return told;
  }

  Result<void> CheckDigest(const io::ByteSource& source, const KnownDigest& known, size_t i) {
    CheckedFile& file = check_.files[i];
    SLUICE_ASSIGN(const std::string digest, DigestOfFile(source, known.kind, cancelled_));
    bytes_read_[i] += source.size_bytes();
    file.checked_by = KindName(known.kind);
    if (!known.commit.empty()) commits_.Set(file.name, known.commit);
    if (digest == known.hex) {
      file.state = FileState::kWhole;
      if (!file.message.empty()) file.message = "as it was published, but: " + file.message;
      return {};
    }
    file.state = FileState::kDamaged;
    file.message = fmt::format("its {} is {}, by {} it should be {}: bytes were changed, on the way or on the disk{}{}",
                               KindName(known.kind), digest, known.origin, known.hex, file.message.empty() ? "" : "; ",
                               file.message);
    return {};
  }

  // Of the entries whose CRC the writer did not leave out.
  Result<void> CheckCrcs(const io::ByteSource& source, size_t i) {
    CheckedFile& file = check_.files[i];
    auto zip = formats::ZipDirectory::Read(source);
    if (!zip || !zip->ResolveEntries(source)) return {};
    std::vector<uint8_t> buffer(kMiB);
    uint64_t checked = 0, wrong = 0;
    std::string first;
    for (size_t e = 0; e < zip->size(); ++e) {
      const formats::ZipEntry& entry = (*zip)[e];
      if (entry.crc32 == 0 || entry.size_bytes == 0) continue;
      uint32_t crc = 0;
      for (uint64_t at = 0; at < entry.size_bytes;) {
        if (cancelled_) return Fail(ErrorCode::kCancelled, "interrupted");
        const std::span<uint8_t> part(buffer.data(), std::min<uint64_t>(buffer.size(), entry.size_bytes - at));
        SLUICE_TRY(source.Read(entry.data_offset + at, part));
        crc = formats::Crc32(part, crc);
        at += part.size();
      }
      bytes_read_[i] += entry.size_bytes;
      ++checked;
      if (crc == entry.crc32) continue;
      if (wrong++ == 0) first = Printable(entry.name);
    }
    if (checked == 0) {
      file.message = "its writer left the checksums out: nothing is known that its bytes could be held against";
      return {};
    }
    file.checked_by = "CRC-32";
    if (wrong == 0) {
      if (checked == zip->size()) file.state = FileState::kWhole;
      return {};
    }
    file.state = FileState::kDamaged;
    file.message = fmt::format(
        "{} of {} entries have another CRC-32 than the archive says, {} is the first: bytes were "
        "changed, on the way or on the disk",
        wrong, checked, first);
    return {};
  }

  void CompareShards() {
    if (!only_.empty() && !only_.ends_with(kIndexEnding)) return;
    std::vector<Shard> shards;
    for (size_t i = 0; i < headers_.size(); ++i) {
      // Beside an index, only what it names is the model.
      const bool is_model =
          !index_ || std::ranges::find(index_->files(), check_.files[i].name) != index_->files().end();
      if (headers_[i] && is_model && !check_.files[i].bad()) shards.push_back({check_.files[i].name, &*headers_[i]});
    }
    const auto tell = [this](const std::string& name, std::string why) {
      for (CheckedFile& file : check_.files) {
        if (file.name != name || file.bad()) continue;
        file.state = FileState::kOtherRevision;
        file.message = std::move(why) + OtherSnapshots(name);
        return;
      }
    };
    if (index_) CompareWithIndex(*index_, index_name_, shards, tell);
    if (config_ != nullptr) CompareWithConfig(*config_, shards, tell);
  }

  // Other snapshots of the cache that have the very same file.
  std::string OtherSnapshots(const std::string& name) const {
    const auto snapshot = checkpoint::SnapshotOf(check_.folder);
    std::error_code error;
    if (!snapshot) return "";
    const fs::path blob = fs::read_symlink(fs::path(check_.folder) / name, error).filename();
    if (error) return "";
    for (fs::directory_iterator other(fs::path(snapshot->repository) / "snapshots", error);
         !error && other != fs::directory_iterator(); other.increment(error)) {
      std::error_code ignored;
      if (other->path().filename() == snapshot->hub.revision) continue;
      if (fs::read_symlink(other->path() / name, ignored).filename() == blob && !ignored) {
        return fmt::format("; snapshot {} has the same file", other->path().filename().string());
      }
    }
    return "";
  }

  // A download of a part of the files at another commit.
  void NoteCommits() {
    std::map<std::string, std::vector<std::string>> files_at;
    for (const auto& [name, commit] : commits_.Get()) files_at[commit].push_back(name);
    if (files_at.size() < 2) return;
    const auto most = std::max_element(files_at.begin(), files_at.end(),
                                       [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
    for (CheckedFile& file : check_.files) {
      for (const auto& [commit, names] : files_at) {
        if (commit == most->first || std::ranges::find(names, file.name) == names.end()) continue;
        file.message += fmt::format("{}downloaded at commit {}, most files at {}", file.message.empty() ? "" : "; ",
                                    commit, most->first);
      }
    }
  }

  // Filled by several threads.
  class Commits {
   public:
    void Set(const std::string& name, const std::string& commit) {
      const std::lock_guard lock(mutex_);
      commits_[name] = commit;
    }
    const std::map<std::string, std::string>& Get() const { return commits_; }

   private:
    std::mutex mutex_;
    std::map<std::string, std::string> commits_;
  };

  const std::string only_;  // a file's name, or an index's; empty: the whole folder
  const std::atomic<bool>& cancelled_;
  FileCheck check_;
  Listing listing_;
  std::string index_name_;
  std::optional<FolderIndex> index_;
  std::shared_ptr<const ModelConfig> config_;
  std::vector<std::optional<WeightFile>> headers_;
  std::vector<uint64_t> bytes_read_;
  Commits commits_;
};

std::string ShellWords(const std::vector<std::string>& names, std::string_view separator) {
  return fmt::format("{}", fmt::join(names, separator));
}

}  // namespace

const char* FileStateName(FileState state) {
  switch (state) {
    case FileState::kWhole:
      return "whole";
    case FileState::kWellFormed:
      return "well_formed";
    case FileState::kMissing:
      return "missing";
    case FileState::kPointer:
      return "pointer";
    case FileState::kTruncated:
      return "truncated";
    case FileState::kDamaged:
      return "damaged";
    case FileState::kOtherRevision:
      return "other_revision";
  }
  SLUICE_CHECK(false);
}

std::vector<std::string> FileCheck::FetchAgain() const {
  std::vector<std::string> names;
  for (const CheckedFile& file : files) {
    if (file.bad()) names.push_back(file.name);
  }
  return names;
}

void SetFetchCommand(FileCheck* check) {
  const std::vector<std::string> names = check->FetchAgain();
  check->fetch_command.clear();
  if (names.empty()) return;
  std::error_code ignored;
  if (const auto snapshot = checkpoint::SnapshotOf(check->folder)) {
    check->fetch_command = checkpoint::FetchCommand(*snapshot, names, /*again=*/true);
  } else if (fs::is_directory(fs::path(check->folder) / ".cache" / "huggingface" / "download", ignored)) {
    check->fetch_command =
        fmt::format("hf download ORG/NAME {} --local-dir {} --force-download", ShellWords(names, " "), check->folder);
  } else if (fs::exists(fs::path(check->folder) / ".git", ignored)) {
    check->fetch_command = fmt::format("git -C {} lfs pull --include \"{}\"", check->folder, ShellWords(names, ","));
  }
}

Result<FileCheck> CheckFiles(const std::string& path, int threads, const std::atomic<bool>& cancelled) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) return Checker(path, "", cancelled).Run(threads);
  if (!fs::exists(status) && !fs::is_symlink(fs::symlink_status(path, error))) {
    return Fail(Error{ErrorCode::kNotFound, "there is no such file or folder: check the path", {path}});
  }
  const fs::path parent = fs::path(path).parent_path();
  return Checker(parent.empty() ? "." : parent.string(), fs::path(path).filename().string(), cancelled).Run(threads);
}

}  // namespace sluice::verify
