#include "formats/gguf.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::formats {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read as they stand in the file");

constexpr std::array<std::string_view, kNumGgufTypes> kTypeNames = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};
constexpr std::array<uint8_t, kNumGgufTypes> kScalarBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// By number, ggml.h; empty where a type was withdrawn before it was common.
constexpr std::array<std::string_view, 42> kGgmlTypeNames = {
    "F32",   "F16",    "Q4_0",  "Q4_1", "",     "",        "Q5_0",   "Q5_1",    "Q8_0",  "Q8_1",   "Q2_K",
    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
    "IQ2_S", "IQ4_XS", "I8",    "I16",  "I32",  "I64",     "F64",    "IQ1_M",   "BF16",  "",       "",
    "",      "TQ1_0",  "TQ2_0", "",     "",     "",        "MXFP4",  "NVFP4",   "Q1_0"};

bool IsSigned(GgufType type) {
  return type == GgufType::kI8 || type == GgufType::kI16 || type == GgufType::kI32 || type == GgufType::kI64;
}

bool IsInteger(GgufType type) {
  return IsSigned(type) || type == GgufType::kU8 || type == GgufType::kU16 || type == GgufType::kU32 ||
         type == GgufType::kU64;
}

// `bits` zero-extended, as a signed number of the type's width.
int64_t SignExtend(uint64_t bits, GgufType type) {
  const int shift = 64 - 8 * static_cast<int>(GgufScalarBytes(type));
  return static_cast<int64_t>(bits << shift) >> shift;
}

}  // namespace

double ShortestDecimal(float value) {
  if (!std::isfinite(value)) return value;
  char text[64];
  const auto written = std::to_chars(text, text + sizeof(text), value);
  double decimal = 0;
  std::from_chars(text, written.ptr, decimal);
  return decimal;
}

std::string_view GgufTypeName(GgufType type) { return kTypeNames[static_cast<uint32_t>(type)]; }

uint64_t GgufScalarBytes(GgufType type) { return kScalarBytes[static_cast<uint32_t>(type)]; }

std::string_view GgmlTypeName(uint32_t ggml_type) {
  if (ggml_type >= kGgmlTypeNames.size() || kGgmlTypeNames[ggml_type].empty()) return "unknown";
  return kGgmlTypeNames[ggml_type];
}

const GgufKey* GgufFile::FindKey(std::string_view name) const {
  const auto found = std::lower_bound(keys_by_name_.begin(), keys_by_name_.end(), name,
                                      [&](uint32_t i, std::string_view wanted) { return keys_[i].name < wanted; });
  return found == keys_by_name_.end() || keys_[*found].name != name ? nullptr : &keys_[*found];
}

tl::unexpected<Error> GgufFile::WrongType(const GgufKey& key, std::string_view wanted) const {
  std::string type(GgufTypeName(key.type));
  if (key.type == GgufType::kArray) type += fmt::format(" of {}", GgufTypeName(key.element_type));
  return Fail(Error{ErrorCode::kCorrupt,
                    fmt::format("the value at byte {} is of type {}, not {}; fix the program that wrote the file",
                                key.offset, type, wanted),
                    {source_->name(), key.name}});
}

Result<std::optional<uint64_t>> GgufFile::GetUnsigned(std::string_view name) const {
  const GgufKey* key = FindKey(name);
  if (key == nullptr) return std::nullopt;
  if (!IsInteger(key->type)) return WrongType(*key, "an integer");
  if (IsSigned(key->type) && SignExtend(key->bits, key->type) < 0) {
    return Fail(
        Error{ErrorCode::kCorrupt,
              fmt::format("the value at byte {} is {}, where only zero or more makes sense; fix the program that "
                          "wrote the file",
                          key->offset, SignExtend(key->bits, key->type)),
              {source_->name(), key->name}});
  }
  return key->bits;
}

Result<std::optional<bool>> GgufFile::GetBool(std::string_view name) const {
  const GgufKey* key = FindKey(name);
  if (key == nullptr) return std::nullopt;
  if (key->type != GgufType::kBool) return WrongType(*key, "bool");
  return key->bits != 0;
}

Result<std::optional<std::string>> GgufFile::GetString(std::string_view name) const {
  const GgufKey* key = FindKey(name);
  if (key == nullptr) return std::nullopt;
  if (key->type != GgufType::kString) return WrongType(*key, "string");
  std::string value;
  SLUICE_TRY(ReadValue(*key, &value));
  value.erase(0, sizeof(uint64_t));
  return value;
}

Result<std::optional<double>> GgufFile::GetNumber(std::string_view name) const {
  const GgufKey* key = FindKey(name);
  if (key == nullptr) return std::nullopt;
  if (key->type == GgufType::kF32) return ShortestDecimal(std::bit_cast<float>(static_cast<uint32_t>(key->bits)));
  if (key->type == GgufType::kF64) return std::bit_cast<double>(key->bits);
  return WrongType(*key, "f32 or f64");
}

Result<void> GgufFile::ReadValue(const GgufKey& key, std::string* append_to) const {
  if (key.size_bytes > kMaxGgufValueBytes) {
    return Fail(Error{ErrorCode::kUnsupported,
                      fmt::format("the value at byte {} has {} bytes; values over {} are not supported yet", key.offset,
                                  key.size_bytes, kMaxGgufValueBytes),
                      {source_->name(), key.name}});
  }
  const size_t before = append_to->size();
  append_to->resize(before + key.size_bytes);
  return source_->Read(key.offset, {reinterpret_cast<uint8_t*>(append_to->data()) + before, key.size_bytes});
}

namespace {
constexpr uint64_t kArrayHeaderBytes = sizeof(uint32_t) + sizeof(uint64_t);  // element type and count
}  // namespace

Result<GgufStrings> GgufFile::ReadStrings(const GgufKey& key) const {
  if (key.type != GgufType::kArray || key.element_type != GgufType::kString) return WrongType(key, "array of string");
  GgufStrings strings;
  std::string& bytes = strings.bytes_;
  SLUICE_TRY(ReadValue(key, &bytes));
  // The lengths between the strings are squeezed out in place. They were checked when the file was opened; a file that
  // was changed since must not take us out of bounds.
  strings.begins_.reserve(key.count + 1);
  uint64_t from = kArrayHeaderBytes, to = 0;
  for (uint64_t i = 0; i < key.count; ++i) {
    uint64_t length = 0;
    if (bytes.size() - from >= sizeof(length)) std::memcpy(&length, bytes.data() + from, sizeof(length));
    if (bytes.size() - from < sizeof(length) || length > bytes.size() - from - sizeof(length)) {
      return Fail(Error{ErrorCode::kCorrupt,
                        "the value changed while the file was in use; start again",
                        {source_->name(), key.name}});
    }
    std::memmove(bytes.data() + to, bytes.data() + from + sizeof(length), length);
    from += sizeof(length) + length;
    to += length;
    strings.begins_.push_back(static_cast<uint32_t>(to));
  }
  bytes.resize(to);
  return strings;
}

Result<std::vector<int64_t>> GgufFile::ReadIntegers(const GgufKey& key) const {
  if (key.type != GgufType::kArray || !IsInteger(key.element_type)) return WrongType(key, "array of an integer type");
  if (key.count > kMaxGgufValueBytes / sizeof(int64_t)) {
    return Fail(Error{ErrorCode::kUnsupported,
                      fmt::format("the array at byte {} has {} elements; more than {} are not supported yet",
                                  key.offset, key.count, kMaxGgufValueBytes / sizeof(int64_t)),
                      {source_->name(), key.name}});
  }
  std::string bytes;
  SLUICE_TRY(ReadValue(key, &bytes));
  const uint64_t size = GgufScalarBytes(key.element_type);
  std::vector<int64_t> values(key.count);
  for (uint64_t i = 0; i < key.count; ++i) {
    uint64_t bits = 0;
    std::memcpy(&bits, bytes.data() + kArrayHeaderBytes + i * size, size);
    if (key.element_type == GgufType::kU64 && bits > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Fail(Error{ErrorCode::kCorrupt,
                        fmt::format("element {} is {}, more than 2^63 - 1", i, bits),
                        {source_->name(), key.name}});
    }
    values[i] = IsSigned(key.element_type) ? SignExtend(bits, key.element_type) : static_cast<int64_t>(bits);
  }
  return values;
}

Result<std::vector<float>> GgufFile::ReadFloats(const GgufKey& key) const {
  if (key.type != GgufType::kArray || key.element_type != GgufType::kF32) return WrongType(key, "array of f32");
  std::string bytes;
  SLUICE_TRY(ReadValue(key, &bytes));
  std::vector<float> values(key.count);
  if (key.count > 0) std::memcpy(values.data(), bytes.data() + kArrayHeaderBytes, key.count * sizeof(float));
  return values;
}

}  // namespace sluice::formats
