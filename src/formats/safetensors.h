// safetensors: the header of a file, read strictly and written always the same. docs/formats/safetensors.md has the
// rules.
//
// Layout: u64 little-endian N | N bytes of JSON | tensor bytes. Reading takes the first 8 + N bytes only. Everything
// here is pure, or immutable once read, and thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "formats/stored_tensor.h"
#include "io/byte_source.h"
#include "quant/encoding.h"

namespace sluice::formats {

constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;
constexpr size_t kMaxSafetensorsDims = 64;  // what PyTorch and NumPy can hold

// Why a file was refused: closed, one for each attack. People read the Error; tests read this.
enum class SafetensorsError {
  kNone,
  // The first bytes.
  kTooSmall,        // fewer than 8 bytes
  kAllZero,         // nothing but zero bytes, as far as they were looked at
  kEmptyHeader,     // N = 0
  kHeaderTooLarge,  // N over 100,000,000
  kHeaderPastEnd,   // 8 + N over the file's size
  kLfsPointer,      // something else, recognised
  kHtml,
  kGguf,
  kZip,
  kText,
  // JSON.
  kNotUtf8,
  kByteOrderMark,
  kJson,
  kControlCharacter,
  kLoneSurrogate,
  kTooDeep,
  kTrailingJson,
  // What the JSON says.
  kRootNotObject,
  kMetadataTwice,
  kMetadataNotObject,
  kMetadataNotString,
  kMetadataDuplicateKey,
  kEmptyName,
  kNulInName,
  kDuplicateTensor,
  kEntryNotObject,
  kUnknownField,
  kDuplicateField,
  kMissingField,
  kDtypeNotString,
  kUnknownDtype,
  kShapeNotArray,
  kDimNotInteger,
  kDimTooLarge,
  kTooManyDims,
  kOffsetsNotArray,
  kOffsetsNotPair,
  kOffsetNotInteger,
  kOffsetTooLarge,
  // Where the tensors are.
  kReversed,
  kFirstNotZero,
  kHole,
  kOverlap,
  kSameRange,
  kOverflow,
  kNotWholeBytes,
  kSizeMismatch,
  kTruncated,
  kTrailingBytes,
};

using SafetensorsTensor = StoredTensor;

// Odd, but no reason to refuse: an odd name, more than 8 dimensions, unaligned data. One for each kind.
struct SafetensorsWarning {
  std::string tensor;  // the first
  std::string message;
};

class SafetensorsHeader {
 public:
  size_t size() const { return entries_.size(); }
  SafetensorsTensor operator[](size_t i) const;  // in the order of their bytes; of empty ones, by name
  uint64_t data_begin() const { return data_begin_; }
  size_t metadata_size() const { return metadata_.size(); }
  std::pair<std::string_view, std::string_view> metadata(size_t i) const;  // sorted by key
  std::optional<std::string_view> FindMetadata(std::string_view key) const;
  const std::vector<SafetensorsWarning>& warnings() const { return warnings_; }

 private:
  friend class SafetensorsParser;
  // A header has at most 10^8 bytes, so places in its texts fit in 32 bits.
  struct Entry {
    uint32_t name_begin, name_size, shape_begin, shape_size;
    quant::Encoding encoding;
    uint64_t num_elements, begin, end;
  };
  struct Pair {
    uint32_t begin, key_size, value_size;
  };
  std::string_view NameOf(const Entry& entry) const {
    return std::string_view(text_).substr(entry.name_begin, entry.name_size);
  }

  std::string text_;  // names, metadata
  std::vector<uint64_t> dims_;
  std::vector<Entry> entries_;
  std::vector<Pair> metadata_;
  std::vector<SafetensorsWarning> warnings_;
  uint64_t data_begin_ = 0;
};

// N: the number in the first 8 bytes of a file.
uint64_t SafetensorsHeaderBytes(std::string_view first_bytes);

// `bytes`: the first 8 + N bytes of the file or more (where N makes no sense, whatever there is of the first 4096).
// kCorrupt, with `file` and the tensor as context, the byte, and what to do; *why, where given, says which rule was
// broken.
Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view bytes, uint64_t file_size_bytes,
                                                 const std::string& file, SafetensorsError* why = nullptr);

// The same of a source; its name is the context. Takes the header's size in memory while it runs.
Result<SafetensorsHeader> ReadSafetensorsHeader(const io::ByteSource& source, SafetensorsError* why = nullptr);

struct SafetensorsOutput {
  std::string_view name;
  quant::Encoding encoding;
  std::span<const uint64_t> shape;
  uint64_t size_bytes = 0;
};

// The order in which tensors stand in a file of ours: widest dtype first, then by name, so that all are aligned.
bool ComesBefore(const SafetensorsOutput& a, const SafetensorsOutput& b);

// The first bytes of a file, N included, of the tensors in the order given; their bytes follow without gaps. Spaces pad
// it to a multiple of `alignment` (8, or 4096 so that data can be written and read by whole pages). kUnsupported: an
// encoding that the format does not have, a name that it cannot hold, a header over its limit.
Result<std::string> WriteSafetensorsHeader(std::span<const SafetensorsOutput> tensors,
                                           const std::map<std::string, std::string>& metadata, uint64_t alignment = 8);

}  // namespace sluice::formats
