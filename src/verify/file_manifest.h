// FileManifest: the files of a model by name with their SHA-256, as OpenSSF Model Signing has them; made of a folder,
// read from a signature, and compared. docs/signatures.md tells which files belong to it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/file_hasher.h"
#include "io/file_stamp.h"
#include "kernels/sha256.h"

namespace sluice::verify {

// A file, or with shards a part of one.
struct ManifestEntry {
  std::string name;             // relative, parts joined by '/'; "." for a model that is one file
  uint64_t begin = 0, end = 0;  // bytes, of a shard; both 0 where whole files are listed
  kernels::Hash256 digest{};
};

struct FileManifest {
  std::string model_name;            // the folder's last part: informative
  uint64_t shard_bytes = 0;          // 0: files are hashed whole
  bool allow_symlinks = false;       // links to files were followed
  std::vector<std::string> ignored;  // paths that are left out, with what is below them; sorted
  std::vector<ManifestEntry> entries;

  // SHA-256 over the entries' digests in their order: what the statement's subject has.
  kernels::Hash256 root() const;
};

// Paths that git leaves in a folder, ignored unless a manifest says otherwise.
std::vector<std::string> GitPaths();

struct ListOptions {
  std::vector<std::string> ignored = {};  // relative to the folder
  bool allow_symlinks = false;
};

// The files of a model before they are read.
struct ModelFiles {
  struct File {
    std::string name, path;
    io::FileStamp stamp;
  };
  std::string model_name;
  std::vector<File> files;           // sorted by the parts of their names
  std::vector<std::string> ignored;  // files that are there and left out, sorted
  uint64_t size_bytes = 0;           // of `files`
};

// `path`: a folder, with everything below it, or one file. Reads no file. kNotFound, kRead; kUsage for a link where
// links are not followed, for a link to a folder or to nothing, for what is no file, and for a name that is not UTF-8.
Result<ModelFiles> ListModelFiles(const std::string& path, const ListOptions& options);

// Where `file` lies in the model at `path`, relative to it; nothing where it is elsewhere.
std::optional<std::string> PathInModel(const std::string& path, const std::string& file);

// What HashFiles is to hash, and the entries that its hashes belong to, in the same order.
struct HashPlan {
  std::vector<ManifestEntry> entries;
  std::vector<io::FilePiece> pieces;
};
HashPlan PlanHashes(const ModelFiles& files, uint64_t shard_bytes);

// kCorrupt, naming the first file that is not as it was listed: it changed while it was read.
Result<void> CheckUnchanged(const ModelFiles& files);

enum class FileChange { kChanged, kMissing, kExtra };
const char* FileChangeName(FileChange change);  // "changed", "missing", "extra"

struct FileDifference {
  std::string name;
  FileChange change = FileChange::kChanged;
  // Of whole files alone.
  std::optional<kernels::Hash256> signed_digest = std::nullopt, digest = std::nullopt;
};

struct FileComparison {
  std::vector<FileDifference> differences;  // sorted by name
  uint64_t unchanged = 0;                   // files
  bool same() const { return differences.empty(); }
};

// `found`: the entries of the folder, hashed as `stated` has them. An entry that is listed twice in `stated` must not
// be (ParsePayload refuses it).
FileComparison CompareFiles(const FileManifest& stated, const std::vector<ManifestEntry>& found);

// Whether a name may stand in a manifest: relative, no empty parts, none of "." and "..", or "." alone.
bool IsManifestName(std::string_view name);

}  // namespace sluice::verify
