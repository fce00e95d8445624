#include "verify/file_manifest.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <system_error>

#include <fmt/format.h>

#include "base/check.h"
#include "formats/json_reader.h"
#include "formats/recognise.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;
using formats::Printable;

constexpr char kWholeModel[] = ".";  // the name of a model that is one file

// As Python's pathlib sorts paths: part by part, so "a/b" comes before "a.b".
bool BeforeByParts(std::string_view a, std::string_view b) {
  return std::ranges::lexicographical_compare(
      a, b, {}, [](char c) { return c == '/' ? 0 : 1 + static_cast<uint8_t>(c); },
      [](char c) { return c == '/' ? 0 : 1 + static_cast<uint8_t>(c); });
}

bool IsIgnored(std::string_view name, const std::vector<std::string>& ignored) {
  return std::ranges::any_of(ignored, [&](const std::string& path) {
    if (path == kWholeModel) return true;
    return name.starts_with(path) && (name.size() == path.size() || name[path.size()] == '/');
  });
}

std::string NameOfModel(const std::string& path) {
  std::error_code error;
  const fs::path canonical = fs::canonical(path, error);
  return (error ? fs::path(path) : canonical).filename().string();
}

class Lister {
 public:
  Lister(const ListOptions& options, ModelFiles* files) : options_(options), files_(*files) {}

  // `name` is the folder's, with a '/' behind it; empty for the model itself.
  Result<void> ListFolder(const fs::path& folder, const std::string& name) {
    std::error_code error;
    fs::directory_iterator entries(folder, error);
    for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
      SLUICE_TRY(Take(entries->path(), name + entries->path().filename().string()));
    }
    if (error) return Fail(ErrorCode::kRead, fmt::format("{}: {}", folder.string(), error.message()));
    return {};
  }

  Result<void> Take(const fs::path& path, const std::string& name) {
    const bool ignored = IsIgnored(name, options_.ignored);
    const std::string shown = Printable(path.string());
    std::error_code error;
    const fs::file_status itself = fs::symlink_status(path, error);
    if (error) return Fail(ErrorCode::kRead, fmt::format("{}: {}", shown, error.message()));
    const fs::file_status status = fs::is_symlink(itself) ? fs::status(path, error) : itself;
    if (fs::is_directory(itself)) return ListFolder(path, name + "/");
    if (ignored) {
      files_.ignored.push_back(name);
      return {};
    }
    if (fs::is_symlink(itself)) {
      if (!fs::is_regular_file(status)) {
        return Fail(ErrorCode::kUsage,
                    fmt::format("{}: a link to {}: only links to files can be followed", shown,
                                fs::is_directory(status) ? "a folder" : "nothing that could be read"));
      }
      if (!options_.allow_symlinks) {
        return Fail(ErrorCode::kUsage, fmt::format("{}: a symbolic link; --allow-symlinks follows links to files, "
                                                   "--ignore leaves paths out",
                                                   shown));
      }
    } else if (!fs::is_regular_file(status)) {
      return Fail(ErrorCode::kUsage, shown + ": neither a file nor a folder; --ignore leaves paths out");
    }
    if (formats::FirstInvalidUtf8(name)) {
      return Fail(ErrorCode::kUsage, shown + ": its name is not UTF-8, which a signature cannot hold");
    }
    SLUICE_ASSIGN(const io::FileStamp stamp, io::StampOf(path.string()));
    files_.size_bytes += stamp.size_bytes;
    files_.files.push_back({name, path.string(), stamp});
    return {};
  }

 private:
  const ListOptions& options_;
  ModelFiles& files_;
};

}  // namespace

kernels::Hash256 FileManifest::root() const {
  kernels::Sha256 hash;
  for (const ManifestEntry& entry : entries) hash.Update(entry.digest);
  return hash.Finish();
}

std::vector<std::string> GitPaths() { return {".git", ".gitattributes", ".github", ".gitignore"}; }

Result<ModelFiles> ListModelFiles(const std::string& path, const ListOptions& options) {
  ModelFiles files;
  files.model_name = NameOfModel(path);
  Lister lister(options, &files);
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return Fail(ErrorCode::kNotFound, path + ": no such file or folder");
  if (fs::is_directory(status)) {
    SLUICE_TRY(lister.ListFolder(path, ""));
  } else {
    SLUICE_TRY(lister.Take(path, kWholeModel));
  }
  std::ranges::sort(files.files, BeforeByParts, &ModelFiles::File::name);
  std::ranges::sort(files.ignored, BeforeByParts);
  return files;
}

std::optional<std::string> PathInModel(const std::string& path, const std::string& file) {
  std::error_code error;
  const fs::path folder = fs::weakly_canonical(path, error);
  if (error) return std::nullopt;
  // The name itself may be a link; what it is called is what is ignored.
  const fs::path parent = fs::weakly_canonical(fs::absolute(file, error).parent_path(), error);
  if (error) return std::nullopt;
  const fs::path relative = (parent / fs::path(file).filename()).lexically_relative(folder);
  if (relative.empty() || relative.native() == "." || relative.native().starts_with("..")) return std::nullopt;
  return relative.generic_string();
}

HashPlan PlanHashes(const ModelFiles& files, uint64_t shard_bytes) {
  HashPlan plan;
  for (const ModelFiles::File& file : files.files) {
    const uint64_t size = file.stamp.size_bytes;
    if (shard_bytes == 0) {
      plan.entries.push_back({file.name, 0, 0, {}});
      plan.pieces.push_back({file.path, 0, size});
      continue;
    }
    for (uint64_t at = 0; at < size; at += std::min(shard_bytes, size - at)) {
      const uint64_t end = at + std::min(shard_bytes, size - at);
      plan.entries.push_back({file.name, at, end, {}});
      plan.pieces.push_back({file.path, at, end});
    }
  }
  return plan;
}

Result<void> CheckUnchanged(const ModelFiles& files) {
  for (const ModelFiles::File& file : files.files) {
    const auto stamp = io::StampOf(file.path);
    if (stamp && *stamp == file.stamp) continue;
    return Fail(ErrorCode::kCorrupt, fmt::format("{}: changed while it was read: it was {}, and is {}", file.path,
                                                 file.stamp.ToString(), stamp ? stamp->ToString() : "gone"));
  }
  return {};
}

const char* FileChangeName(FileChange change) {
  switch (change) {
    case FileChange::kChanged:
      return "changed";
    case FileChange::kMissing:
      return "missing";
    case FileChange::kExtra:
      return "extra";
  }
  SLUICE_CHECK(false);
}

FileComparison CompareFiles(const FileManifest& stated, const std::vector<ManifestEntry>& found) {
  struct Side {
    std::map<std::pair<uint64_t, uint64_t>, kernels::Hash256> parts;
  };
  std::map<std::string_view, std::array<Side, 2>> files;
  for (const ManifestEntry& entry : stated.entries) files[entry.name][0].parts[{entry.begin, entry.end}] = entry.digest;
  for (const ManifestEntry& entry : found) files[entry.name][1].parts[{entry.begin, entry.end}] = entry.digest;
  FileComparison comparison;
  for (const auto& [name, sides] : files) {
    if (sides[0].parts == sides[1].parts) {
      ++comparison.unchanged;
      continue;
    }
    FileDifference difference{.name = std::string(name)};
    difference.change = sides[1].parts.empty()   ? FileChange::kMissing
                        : sides[0].parts.empty() ? FileChange::kExtra
                                                 : FileChange::kChanged;
    if (stated.shard_bytes == 0) {
      if (!sides[0].parts.empty()) difference.signed_digest = sides[0].parts.begin()->second;
      if (!sides[1].parts.empty()) difference.digest = sides[1].parts.begin()->second;
    }
    comparison.differences.push_back(std::move(difference));
  }
  return comparison;
}

bool IsManifestName(std::string_view name) {
  if (name == kWholeModel) return true;
  if (name.find('\0') != std::string_view::npos) return false;
  for (size_t at = 0;;) {
    const size_t end = std::min(name.find('/', at), name.size());
    const std::string_view part = name.substr(at, end - at);
    if (part.empty() || part == "." || part == "..") return false;
    if (end == name.size()) return true;
    at = end + 1;
  }
}

}  // namespace sluice::verify
