#include "checkpoint/folder_listing.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include <fmt/format.h>

#include "checkpoint/hub_cache.h"
#include "formats/recognise.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;

// What browsers, curl's and aria2's users, and huggingface_hub call a file that is not whole.
bool IsUnfinishedName(std::string_view name) {
  constexpr std::array<std::string_view, 5> kEndings = {".incomplete", ".part", ".crdownload", ".aria2", ".download"};
  return std::any_of(kEndings.begin(), kEndings.end(), [&](std::string_view ending) { return name.ends_with(ending); });
}

}  // namespace

std::string Listing::PathOf(std::string_view name) const { return (fs::path(path) / name).string(); }

uint64_t Listing::Bytes(const std::vector<std::string>& names) const {
  uint64_t total = 0;
  for (const std::string& name : names) {
    if (const auto file = size_bytes.find(name); file != size_bytes.end()) total += file->second;
  }
  return total;
}

Result<Listing> ListFolder(const std::string& path) {
  Listing listing;
  listing.path = path.empty() ? "." : path;
  std::error_code error;
  fs::directory_iterator entries(listing.path, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    std::error_code ignored;
    const std::string name = entries->path().filename().string();
    if (!entries->is_regular_file(ignored) || ignored) {
      if (entries->is_symlink(ignored) && !entries->exists(ignored)) {
        listing.dangling.emplace(name, fs::read_symlink(entries->path(), ignored).string());
      }
      continue;
    }
    const uint64_t size = entries->file_size(ignored);
    if (ignored) continue;
    if (IsUnfinishedName(name)) listing.unfinished.push_back(name);
    listing.size_bytes.emplace(name, size);
  }
  if (error) {
    const ErrorCode code = error == std::errc::no_such_file_or_directory ? ErrorCode::kNotFound : ErrorCode::kRead;
    return Fail(Error{code, fmt::format("the folder cannot be listed: {}", error.message()), {path}});
  }
  std::string elsewhere = (fs::path(listing.path) / ".cache" / "huggingface" / "download").string();
  if (const auto snapshot = SnapshotOf(listing.path)) elsewhere = (fs::path(snapshot->repository) / "blobs").string();
  for (fs::directory_iterator blobs(elsewhere, error); !error && blobs != fs::directory_iterator();
       blobs.increment(error)) {
    const std::string name = blobs->path().filename().string();
    if (IsUnfinishedName(name)) listing.unfinished.push_back(blobs->path().string());
  }
  std::sort(listing.unfinished.begin(), listing.unfinished.end());
  return listing;
}

std::string JoinNames(const std::vector<std::string>& names, size_t most) {
  const size_t shown = names.size() <= most + 1 ? names.size() : most;
  std::string text;
  for (size_t i = 0; i < shown; ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", formats::Printable(names[i]));
  if (shown < names.size()) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

std::string MissingAdvice(const Listing& folder, const std::vector<std::string>& missing) {
  std::string text;
  const auto link = std::find_if(missing.begin(), missing.end(),
                                 [&](const std::string& name) { return folder.dangling.contains(name); });
  if (link != missing.end()) {
    text += fmt::format(
        "; {} is a link to {}, where there is nothing: the download was not finished, or the cache "
        "was cleaned",
        formats::Printable(*link), formats::Printable(folder.dangling.find(*link)->second));
  }
  if (!folder.unfinished.empty()) {
    text +=
        fmt::format("; {} {} not finished: {}", folder.unfinished.size(),
                    folder.unfinished.size() == 1 ? "download was" : "downloads were", JoinNames(folder.unfinished));
  }
  text += "; fetch the missing files";
  if (const auto snapshot = SnapshotOf(folder.path))
    text += fmt::format(" with `{}`", FetchCommand(*snapshot, missing));
  return text;
}

}  // namespace sluice::checkpoint
