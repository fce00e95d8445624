// What is known of a file's content from beside it, and whether the content is that.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "io/byte_source.h"

namespace sluice::verify {

struct KnownDigest {
  enum class Kind { kSha256, kGitSha1 };
  Kind kind = Kind::kSha256;
  std::string hex;     // lower-case
  std::string origin;  // "the blob's name", "the download's metadata": for messages
  std::string commit;  // at which it was downloaded; empty: not known
};

const char* KindName(KnownDigest::Kind kind);  // "SHA-256", "git SHA-1"

// Of FOLDER/NAME: where it is a link to a blob of a hub cache, that blob's name; else what `hf download --local-dir`
// wrote into FOLDER/.cache/huggingface/download/NAME.metadata. nullopt where there is neither.
std::optional<KnownDigest> FindKnownDigest(const std::string& folder, const std::string& name);

// The digest of all bytes, in hexadecimal. Memory: 1 MiB. kCancelled where `cancelled` became true.
Result<std::string> DigestOfFile(const io::ByteSource& source, KnownDigest::Kind kind,
                                 const std::atomic<bool>& cancelled);

}  // namespace sluice::verify
