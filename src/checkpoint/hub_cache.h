// The cache in which huggingface_hub keeps what it downloads, and names of models in it.
//
//   CACHE/models--org--name/refs/main             the commit that a branch or tag had when it was fetched
//   CACHE/models--org--name/snapshots/COMMIT/     one link for each file, into ...
//   CACHE/models--org--name/blobs/DIGEST          ... files named by their content: SHA-256 in 64 hexadecimal digits
//                                                 for files of Git LFS, else the SHA-1 that git gives a blob, in 40;
//                                                 DIGEST.incomplete while it is fetched
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::checkpoint {

// org/name[@revision]
struct HubName {
  std::string org, name;  // org is empty in models--name, as the oldest models are kept
  std::string revision;   // a branch, a tag, a commit or its first digits; empty: main
};
std::optional<HubName> ParseHubName(std::string_view ref);

// "hf download org/name", with --revision where there is one.
std::string DownloadCommand(const HubName& hub);

// Where the cache is: HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub. The folder
// need not exist.
std::string HubCacheFolder();

// The folder of a snapshot. kNotFound, with `ref` as context: what the cache has of the model instead, downloads that
// were not finished, and the command that fetches it.
Result<std::string> FindSnapshot(const HubName& hub, const std::string& ref);

// A folder of a cache, by its path alone.
struct HubSnapshot {
  std::string repository;  // CACHE/models--org--name
  HubName hub;             // revision is the commit
};
std::optional<HubSnapshot> SnapshotOf(const std::string& folder);

// The command that fetches these files of the snapshot; `again`: although the cache has something under their names.
std::string FetchCommand(const HubSnapshot& snapshot, std::span<const std::string> files, bool again = false);

// What the name of a blob says of its content.
enum class BlobDigest { kNone, kSha256, kGitSha1 };
BlobDigest BlobDigestOf(std::string_view blob_name);

}  // namespace sluice::checkpoint
