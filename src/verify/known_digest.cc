#include "verify/known_digest.h"

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <vector>

#include "base/units.h"
#include "checkpoint/hub_cache.h"
#include "kernels/sha1.h"
#include "kernels/sha256.h"

namespace sluice::verify {
namespace {

namespace fs = std::filesystem;
using checkpoint::BlobDigest;

std::optional<KnownDigest> FromHex(std::string hex, std::string origin, std::string commit) {
  const BlobDigest digest = checkpoint::BlobDigestOf(hex);
  if (digest == BlobDigest::kNone) return std::nullopt;
  return KnownDigest{digest == BlobDigest::kSha256 ? KnownDigest::Kind::kSha256 : KnownDigest::Kind::kGitSha1,
                     std::move(hex), std::move(origin), std::move(commit)};
}

template <class Hash>
Result<std::string> HashAll(const io::ByteSource& source, Hash* hash, const std::atomic<bool>& cancelled) {
  std::vector<uint8_t> buffer(std::min<uint64_t>(kMiB, std::max<uint64_t>(source.size_bytes(), 1)));
  for (uint64_t at = 0; at < source.size_bytes();) {
    if (cancelled) return Fail(ErrorCode::kCancelled, "interrupted");
    const std::span<uint8_t> part(buffer.data(), std::min<uint64_t>(buffer.size(), source.size_bytes() - at));
    SLUICE_TRY(source.Read(at, part));
    hash->Update(std::span<const uint8_t>(part));
    at += part.size();
  }
  return kernels::ToHex(hash->Finish());
}

}  // namespace

const char* KindName(KnownDigest::Kind kind) { return kind == KnownDigest::Kind::kSha256 ? "SHA-256" : "git SHA-1"; }

std::optional<KnownDigest> FindKnownDigest(const std::string& folder, const std::string& name) {
  std::error_code error;
  const fs::path path = fs::path(folder) / name;
  if (fs::is_symlink(path, error)) {
    const fs::path target = fs::read_symlink(path, error);
    if (error || target.parent_path().filename() != "blobs") return std::nullopt;
    return FromHex(target.filename().string(), "the blob's name", "");
  }
  // Three lines: the commit, the etag (which is the digest), when.
  const fs::path metadata = fs::path(folder) / ".cache" / "huggingface" / "download" / (name + ".metadata");
  if (!fs::is_regular_file(metadata, error)) return std::nullopt;
  const auto text = io::ReadWholeFile(metadata.string(), 4096);
  if (!text) return std::nullopt;
  std::istringstream lines(*text);
  std::string commit, etag;
  std::getline(lines, commit);
  std::getline(lines, etag);
  return FromHex(std::move(etag), "the download's metadata", std::move(commit));
}

Result<std::string> DigestOfFile(const io::ByteSource& source, KnownDigest::Kind kind,
                                 const std::atomic<bool>& cancelled) {
  if (kind == KnownDigest::Kind::kSha256) {
    kernels::Sha256 hash;
    return HashAll(source, &hash, cancelled);
  }
  kernels::Sha1 hash;
  const std::string header = kernels::GitBlobHeader(source.size_bytes());
  hash.Update({reinterpret_cast<const uint8_t*>(header.data()), header.size()});
  return HashAll(source, &hash, cancelled);
}

}  // namespace sluice::verify
