#include "checkpoint/hub_cache.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "io/byte_source.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRepositoryPrefix = "models--";
constexpr size_t kLeastCommitDigits = 4;

bool IsHex(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool IsNamePart(std::string_view part) {
  constexpr std::string_view kAllowed = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.";
  return !part.empty() && part.find_first_not_of(kAllowed) == std::string_view::npos && part.front() != '.' &&
         part.front() != '-' && part.find("..") == std::string_view::npos;
}

std::vector<std::string> NamesIn(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entries(folder, error); !error && entries != fs::directory_iterator();
       entries.increment(error)) {
    names.push_back(entries->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string ShellWord(const std::string& word) {
  if (!word.empty() &&
      word.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_./@=+") ==
          std::string::npos) {
    return word;
  }
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string FullName(const HubName& hub) { return hub.org.empty() ? hub.name : hub.org + "/" + hub.name; }

}  // namespace

std::optional<HubName> ParseHubName(std::string_view ref) {
  HubName hub;
  std::string_view path = ref;
  if (const size_t at = ref.find('@'); at != std::string_view::npos) {
    path = ref.substr(0, at);
    hub.revision = ref.substr(at + 1);
    if (hub.revision.empty() || hub.revision.find("..") != std::string::npos || hub.revision.front() == '/') {
      return std::nullopt;
    }
  }
  const size_t slash = path.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  hub.org = path.substr(0, slash);
  hub.name = path.substr(slash + 1);
  return IsNamePart(hub.org) && IsNamePart(hub.name) ? std::optional(hub) : std::nullopt;
}

std::string DownloadCommand(const HubName& hub) {
  return fmt::format("hf download {}{}", FullName(hub),
                     hub.revision.empty() ? "" : " --revision " + ShellWord(hub.revision));
}

std::string HubCacheFolder() {
  const auto variable = [](const char* name) -> fs::path {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const auto path = variable(name); !path.empty()) return path.string();
  }
  if (const auto path = variable("HF_HOME"); !path.empty()) return (path / "hub").string();
  if (const auto path = variable("XDG_CACHE_HOME"); !path.empty()) return (path / "huggingface" / "hub").string();
  return (variable("HOME") / ".cache" / "huggingface" / "hub").string();
}

Result<std::string> FindSnapshot(const HubName& hub, const std::string& ref) {
  const std::string cache = HubCacheFolder();
  const fs::path repository =
      fs::path(cache) / fmt::format("{}{}{}{}", kRepositoryPrefix, hub.org, hub.org.empty() ? "" : "--", hub.name);
  const auto not_found = [&](std::string_view what) {
    return Fail(Error{ErrorCode::kNotFound,
                      fmt::format("there is no such path, and the hub cache in {} {}: fetch it with `{}`", cache, what,
                                  DownloadCommand(hub)),
                      {ref}});
  };
  std::error_code ignored;
  if (!fs::is_directory(repository, ignored)) return not_found("does not have it");

  const std::string revision = hub.revision.empty() ? "main" : hub.revision;
  const std::vector<std::string> snapshots = NamesIn(repository / "snapshots");
  std::string commit = revision;
  bool by_ref = false;
  if (const fs::path file = repository / "refs" / revision; fs::is_regular_file(file, ignored)) {
    SLUICE_ASSIGN(commit, io::ReadWholeFile(file.string(), 4096));
    while (!commit.empty() && (commit.back() == '\n' || commit.back() == ' ')) commit.pop_back();
    by_ref = true;
  }
  // Only a name that is listed is used: what a ref says is not trusted as a path.
  if (std::ranges::find(snapshots, commit) != snapshots.end()) return (repository / "snapshots" / commit).string();
  if (!by_ref && IsHex(commit) && commit.size() >= kLeastCommitDigits) {
    std::vector<std::string> matching;
    std::ranges::copy_if(snapshots, std::back_inserter(matching),
                         [&](const std::string& name) { return name.starts_with(commit); });
    if (matching.size() == 1) return (repository / "snapshots" / matching.front()).string();
    if (matching.size() > 1) {
      return Fail(Error{ErrorCode::kNotFound,
                        fmt::format("{} commits in the hub cache begin with {}: {}; give more digits", matching.size(),
                                    commit, fmt::join(matching, ", ")),
                        {ref}});
    }
  }
  const auto unfinished = std::ranges::count_if(NamesIn(repository / "blobs"),
                                                [](const std::string& name) { return name.ends_with(".incomplete"); });
  if (unfinished > 0) {
    return not_found(fmt::format("has {} unfinished {} of it and no snapshot of {}", unfinished,
                                 unfinished == 1 ? "download" : "downloads", revision));
  }
  if (snapshots.empty()) return not_found("has no snapshot of it");
  return not_found(fmt::format("has other snapshots of it ({}), but none of {}", fmt::join(snapshots, ", "), revision));
}

std::optional<HubSnapshot> SnapshotOf(const std::string& folder) {
  std::error_code ignored;
  fs::path path = fs::absolute(folder, ignored).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  const fs::path repository = path.parent_path().parent_path();
  std::string name = repository.filename().string();
  if (path.parent_path().filename() != "snapshots" || !name.starts_with(kRepositoryPrefix)) return std::nullopt;
  name.erase(0, kRepositoryPrefix.size());
  HubSnapshot snapshot{.repository = repository.string(),
                       .hub = {.org = "", .name = "", .revision = path.filename().string()}};
  const size_t cut = name.find("--");
  if (cut != std::string::npos) snapshot.hub.org = name.substr(0, cut);
  snapshot.hub.name = cut == std::string::npos ? name : name.substr(cut + 2);
  return snapshot;
}

std::string FetchCommand(const HubSnapshot& snapshot, std::span<const std::string> files, bool again) {
  std::string command = "hf download " + FullName(snapshot.hub);
  for (const std::string& file : files) command += " " + ShellWord(file);
  command += " --revision " + ShellWord(snapshot.hub.revision);
  // The cache believes that a file of a blob's name is the blob.
  return again ? command + " --force-download" : command;
}

BlobDigest BlobDigestOf(std::string_view blob_name) {
  if (!IsHex(blob_name)) return BlobDigest::kNone;
  return blob_name.size() == 64   ? BlobDigest::kSha256
         : blob_name.size() == 40 ? BlobDigest::kGitSha1
                                  : BlobDigest::kNone;
}

}  // namespace sluice::checkpoint
