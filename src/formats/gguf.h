// GgufFile: the header of a GGUF container (versions 2 and 3, little-endian): what keys and tensors it has and where
// their bytes are. docs/formats/gguf.md describes the layout and every check.
//
// Opening reads the header once through a window of 64 KiB and keeps places, not values: a vocabulary of 100,000 tokens
// costs nothing until somebody asks for it. Memory: kMaxNamesBytes and about 100 bytes a key or tensor, at most,
// whatever the file claims. Immutable; thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/byte_source.h"
#include "quant/encoding.h"

namespace sluice::formats {

enum class GgufType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };
constexpr uint32_t kNumGgufTypes = 13;

// The double nearest to the shortest decimal that rounds to `value`, so that 1e-5 stored as f32 prints as 1e-05 and not
// as 9.999999747378752e-06.
double ShortestDecimal(float value);

std::string_view GgufTypeName(GgufType type);       // "u8", "string", "array"
uint64_t GgufScalarBytes(GgufType type);            // 0 for strings and arrays
std::string_view GgmlTypeName(uint32_t ggml_type);  // "Q4_K"; "unknown" for a number that ggml has not given out

// More than any real file has; files beyond are refused.
constexpr uint64_t kMaxGgufKeys = 1 << 16;
constexpr uint64_t kMaxGgufTensors = 1 << 20;
constexpr uint64_t kMaxGgufKeyBytes = 65535;        // GGUF's own limit
constexpr uint64_t kMaxGgufTensorNameBytes = 1023;  // GGUF's own is 64
constexpr uint64_t kMaxGgufNamesBytes = 64 << 20;   // of all keys and tensors together
constexpr uint64_t kMaxGgufValueBytes = 256 << 20;  // of a value that is read into memory

struct GgufKey {
  std::string name;
  GgufType type;
  GgufType element_type;  // of an array; otherwise type
  uint64_t count;         // elements of an array; otherwise 1
  uint64_t offset;        // in the file, of the first byte after the type: the value, its length, or the element type
  uint64_t size_bytes;    // from there to the value's end
  uint64_t bits;          // a scalar's bytes, little-endian; otherwise 0
};

struct GgufTensor {
  std::string name;
  quant::Encoding encoding;
  uint32_t rank;                 // 0 to 4
  std::array<uint64_t, 4> dims;  // fastest first, as GGUF writes them; the first `rank` of them count
  uint64_t num_elements;
  uint64_t offset;  // in the file
  uint64_t size_bytes() const { return encoding.BytesOf(num_elements); }
};

// Strings of an array: one blob and where each begins.
class GgufStrings {
 public:
  size_t size() const { return begins_.size() - 1; }
  std::string_view operator[](size_t i) const {
    return std::string_view(bytes_).substr(begins_[i], begins_[i + 1] - begins_[i]);
  }

 private:
  friend class GgufFile;
  std::string bytes_;
  std::vector<uint32_t> begins_ = {0};
};

class GgufFile {
 public:
  // kCorrupt with key or tensor, byte and what to do; kUnsupported for version 1, big-endian files, arrays
  // of arrays and tensor types without an encoding here, each named. Reads nothing of the tensors' data.
  static Result<std::shared_ptr<const GgufFile>> Open(std::shared_ptr<const io::ByteSource> source);

  const std::shared_ptr<const io::ByteSource>& source() const { return source_; }
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  uint64_t data_offset() const { return data_offset_; }  // where tensor offsets count from, in the file
  // Bytes after data_offset that belong to no tensor and are more than padding to the alignment. 0 in an ordinary file.
  uint64_t unused_bytes() const { return unused_bytes_; }

  const std::vector<GgufKey>& keys() const { return keys_; }           // in file order; names differ
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in file order; names differ
  const GgufKey* FindKey(std::string_view name) const;                 // null where there is none

  // A key's value; nullopt where there is no such key. kCorrupt, naming the key, where it is of another type.
  Result<std::optional<uint64_t>> GetUnsigned(std::string_view name) const;  // any integer type, not negative
  Result<std::optional<bool>> GetBool(std::string_view name) const;
  Result<std::optional<std::string>> GetString(std::string_view name) const;
  // f32 or f64. An f32 becomes its ShortestDecimal.
  Result<std::optional<double>> GetNumber(std::string_view name) const;

  // Read the file: an array's elements, or the value as it stands in the file. `key` is one of keys(). kCorrupt where
  // the element type is another; kUnsupported where the value is larger than kMaxGgufValueBytes.
  Result<GgufStrings> ReadStrings(const GgufKey& key) const;
  Result<std::vector<int64_t>> ReadIntegers(const GgufKey& key) const;
  Result<std::vector<float>> ReadFloats(const GgufKey& key) const;  // f32 only
  Result<void> ReadValue(const GgufKey& key, std::string* append_to) const;

 private:
  friend class GgufParser;
  GgufFile() = default;
  tl::unexpected<Error> WrongType(const GgufKey& key, std::string_view wanted) const;

  std::shared_ptr<const io::ByteSource> source_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 0, data_offset_ = 0, unused_bytes_ = 0;
  std::vector<GgufKey> keys_;
  std::vector<uint32_t> keys_by_name_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace sluice::formats
