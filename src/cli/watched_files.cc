#include "cli/watched_files.h"

#include <filesystem>

#include <fmt/format.h>

#include "kernels/sha256.h"

namespace sluice::cli {
namespace {

Error Changed(const std::string& path, std::string_view then, std::string_view now) {
  return Error{ErrorCode::kCorrupt,
               fmt::format("{}: has changed while it was read ({} then, {} now), so the result would be of no model at "
                           "all; run the command again when nothing writes there",
                           path, then, now),
               {}};
}

}  // namespace

Result<void> WatchedFiles::Add(const std::string& path) {
  SLUICE_ASSIGN(const io::FileStamp stamp, io::StampOf(path));
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  files_.push_back({error ? path : absolute.lexically_normal().string(), stamp});
  return {};
}

Result<WatchedFiles> WatchedFiles::Of(const checkpoint::Checkpoint& checkpoint, const std::string& but) {
  WatchedFiles watched;
  for (const checkpoint::Checkpoint::File& file : checkpoint.files()) {
    SLUICE_TRY(watched.Add(file.path));
    const io::FileStamp& stamp = watched.files_.back().stamp;
    if (stamp.size_bytes == file.size_bytes) continue;
    return Fail(Changed(file.path, fmt::format("{} bytes", file.size_bytes), fmt::format("{}", stamp.size_bytes)));
  }
  for (const checkpoint::SideFile& side : checkpoint.side_files()) {
    if (!side.path.empty()) SLUICE_TRY(watched.Add(side.path));
  }
  for (const std::string& path : checkpoint.definitions()) {
    if (path != but) SLUICE_TRY(watched.Add(path));
  }
  return watched;
}

void WatchedFiles::AddTo(checkpoint::JournalBinding* binding) const {
  kernels::Sha256 places;
  for (const File& file : files_) {
    binding->items.push_back({file.path, file.stamp.ToString()});
    places.UpdateLengthPrefixed(fmt::format("{} {}", file.stamp.device, file.stamp.inode));
  }
  binding->items.push_back({checkpoint::JournalBinding::kDevices, kernels::ToHex(places.Finish()).substr(0, 16)});
}

Result<void> WatchedFiles::CheckUnchanged() const {
  for (const File& file : files_) {
    auto stamp = io::StampOf(file.path);
    if (!stamp) return Fail(Changed(file.path, file.stamp.ToString(), "it cannot be looked at"));
    if (*stamp != file.stamp) return Fail(Changed(file.path, file.stamp.ToString(), stamp->ToString()));
  }
  return {};
}

}  // namespace sluice::cli
