// GgufHeader: a GGUF file (version 3) up to where its streamed tensors begin, built key by key. docs/formats/gguf.md.
//
//   GgufHeader header;
//   header.Add("general.architecture", "llama");
//   header.AddTensor("token_embd.weight", quant::F16(), {vocab, hidden});   // in the order in which they will come
//   std::string bytes = header.Finish();   // then each tensor's bytes, padded to kAlignment
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf.h"
#include "quant/encoding.h"

namespace sluice::formats {

// Names must differ; that is the caller's to see to. Memory: the bytes themselves.
class GgufHeader {
 public:
  static constexpr uint64_t kAlignment = 32;  // GGUF's default, so general.alignment is not written

  void Add(std::string_view key, std::string_view text);
  void Add(std::string_view key, const char* text) { Add(key, std::string_view(text)); }
  void Add(std::string_view key, bool value);
  void Add(std::string_view key, uint32_t value);
  void Add(std::string_view key, float value);
  void Add(std::string_view key, std::span<const std::string_view> texts);
  void Add(std::string_view key, std::span<const int32_t> values);
  void Add(std::string_view key, std::span<const float> values);
  // As it stands in another file: `bytes` is what GgufFile::ReadValue gives.
  void AddValue(std::string_view key, GgufType type, std::string_view bytes);

  // A tensor whose bytes the header carries, of rank 1, f32. Before all others.
  void AddNumbers(std::string_view name, std::span<const float> values);
  // `shape` slowest dimension first, rank 1 to 4; the encoding has a ggml_type.
  void AddTensor(std::string_view name, quant::Encoding encoding, std::span<const uint64_t> shape);

  // A whole number of kAlignment bytes. Offsets of tensors count from before the numbers that it carries.
  std::string Finish() const;

 private:
  void Begin(std::string_view key, GgufType type);
  template <class T>
  void AddArray(std::string_view key, GgufType type, std::span<const T> values);
  void AddInfo(std::string_view name, quant::Encoding encoding, std::span<const uint64_t> shape, uint64_t size_bytes);

  std::string keys_, infos_, numbers_;
  uint64_t num_keys_ = 0, num_tensors_ = 0, data_bytes_ = 0;
};

}  // namespace sluice::formats
