// GGUF files in memory for tests, right ones and wrong ones. Nothing is checked: what is asked for is written.
//
//   std::string bytes = tests::GgufBuilder().String("general.architecture", "llama").U32("llama.block_count", 2)
//                           .Tensor("output_norm.weight", 0, {64}, std::string(256, '\0')).Build();
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::tests {

class GgufBuilder {
 public:
  // GGUF's numbers for types of values.
  enum Type : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

  template <class T>
  static std::string Bytes(T value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  static std::string Text(std::string_view text) { return Bytes<uint64_t>(text.size()) + std::string(text); }

  // `value`: the bytes after the type.
  GgufBuilder& Key(std::string_view name, uint32_t type, std::string_view value) {
    keys_ += Text(name) + Bytes(type);
    keys_ += value;
    ++num_keys_;
    return *this;
  }
  GgufBuilder& U32(std::string_view name, uint32_t value) { return Key(name, kU32, Bytes(value)); }
  GgufBuilder& U64(std::string_view name, uint64_t value) { return Key(name, kU64, Bytes(value)); }
  GgufBuilder& F32(std::string_view name, float value) { return Key(name, kF32, Bytes(value)); }
  GgufBuilder& Bool(std::string_view name, bool value) { return Key(name, kBool, Bytes<uint8_t>(value)); }
  GgufBuilder& String(std::string_view name, std::string_view value) { return Key(name, kString, Text(value)); }
  GgufBuilder& Strings(std::string_view name, const std::vector<std::string>& values) {
    std::string bytes = Bytes<uint32_t>(kString) + Bytes<uint64_t>(values.size());
    for (const std::string& value : values) bytes += Text(value);
    return Key(name, kArray, bytes);
  }
  template <class T>
  GgufBuilder& Array(std::string_view name, uint32_t element_type, const std::vector<T>& values) {
    std::string bytes = Bytes(element_type) + Bytes<uint64_t>(values.size());
    for (const T value : values) bytes += Bytes(value);
    return Key(name, kArray, bytes);
  }

  // `dims` fastest first, as GGUF has them. Placed behind the tensor before it, padded, unless `offset` says otherwise.
  GgufBuilder& Tensor(std::string_view name, uint32_t ggml_type, const std::vector<uint64_t>& dims,
                      std::string_view data, std::optional<uint64_t> offset = std::nullopt) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    infos_ += Text(name) + Bytes<uint32_t>(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) infos_ += Bytes(dim);
    infos_ += Bytes(ggml_type) + Bytes(offset.value_or(data_.size()));
    data_ += data;
    ++num_tensors_;
    return *this;
  }

  uint64_t alignment = 32;  // set before tensors; the key general.alignment is not written by itself
  uint32_t version = 3;
  std::string magic = "GGUF";
  std::optional<uint64_t> claimed_tensors, claimed_keys;

  // Offset of the first key, for errors that name bytes.
  static constexpr uint64_t kFirstKey = 24;
  uint64_t infos_offset() const { return kFirstKey + keys_.size(); }
  uint64_t data_offset() const { return (infos_offset() + infos_.size() + alignment - 1) / alignment * alignment; }

  std::string Build() const {
    std::string file = magic + Bytes(version) + Bytes(claimed_tensors.value_or(num_tensors_)) +
                       Bytes(claimed_keys.value_or(num_keys_)) + keys_ + infos_;
    file.resize(data_offset());
    file += data_;
    if (num_tensors_ > 0) file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file;
  }

 private:
  std::string keys_, infos_, data_;
  uint64_t num_keys_ = 0, num_tensors_ = 0;
};

}  // namespace sluice::tests
