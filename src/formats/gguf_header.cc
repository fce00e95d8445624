#include "formats/gguf_header.h"

#include "base/check.h"
#include "base/units.h"

namespace sluice::formats {
namespace {

// Little-endian, as this program's machines are (base/check.h).
template <class T>
void Append(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendText(std::string_view text, std::string* out) {
  Append(uint64_t{text.size()}, out);
  *out += text;
}

}  // namespace

void GgufHeader::Begin(std::string_view key, GgufType type) {
  AppendText(key, &keys_);
  Append(static_cast<uint32_t>(type), &keys_);
  ++num_keys_;
}

void GgufHeader::Add(std::string_view key, std::string_view text) {
  Begin(key, GgufType::kString);
  AppendText(text, &keys_);
}

void GgufHeader::Add(std::string_view key, bool value) {
  Begin(key, GgufType::kBool);
  Append(static_cast<uint8_t>(value), &keys_);
}

void GgufHeader::Add(std::string_view key, uint32_t value) {
  Begin(key, GgufType::kU32);
  Append(value, &keys_);
}

void GgufHeader::Add(std::string_view key, float value) {
  Begin(key, GgufType::kF32);
  Append(value, &keys_);
}

template <class T>
void GgufHeader::AddArray(std::string_view key, GgufType type, std::span<const T> values) {
  Begin(key, GgufType::kArray);
  Append(static_cast<uint32_t>(type), &keys_);
  Append(uint64_t{values.size()}, &keys_);
  keys_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

void GgufHeader::Add(std::string_view key, std::span<const int32_t> values) { AddArray(key, GgufType::kI32, values); }

void GgufHeader::Add(std::string_view key, std::span<const float> values) { AddArray(key, GgufType::kF32, values); }

void GgufHeader::Add(std::string_view key, std::span<const std::string_view> texts) {
  Begin(key, GgufType::kArray);
  Append(static_cast<uint32_t>(GgufType::kString), &keys_);
  Append(uint64_t{texts.size()}, &keys_);
  for (const std::string_view text : texts) AppendText(text, &keys_);
}

void GgufHeader::AddValue(std::string_view key, GgufType type, std::string_view bytes) {
  Begin(key, type);
  keys_ += bytes;
}

void GgufHeader::AddInfo(std::string_view name, quant::Encoding encoding, std::span<const uint64_t> shape,
                         uint64_t size_bytes) {
  SLUICE_CHECK(encoding->ggml_type >= 0 && !shape.empty() && shape.size() <= 4);
  AppendText(name, &infos_);
  Append(static_cast<uint32_t>(shape.size()), &infos_);
  for (size_t i = shape.size(); i-- > 0;) Append(shape[i], &infos_);
  Append(static_cast<uint32_t>(encoding->ggml_type), &infos_);
  Append(data_bytes_, &infos_);
  data_bytes_ += RoundUp(size_bytes, kAlignment);
  ++num_tensors_;
}

void GgufHeader::AddNumbers(std::string_view name, std::span<const float> values) {
  SLUICE_CHECK(numbers_.size() == data_bytes_);
  const uint64_t count = values.size();
  AddInfo(name, quant::F32(), {&count, 1}, values.size_bytes());
  numbers_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  numbers_.resize(data_bytes_);
}

void GgufHeader::AddTensor(std::string_view name, quant::Encoding encoding, std::span<const uint64_t> shape) {
  uint64_t num_elements = 1;
  for (const uint64_t dim : shape) num_elements *= dim;
  AddInfo(name, encoding, shape, encoding.BytesOf(num_elements));
}

std::string GgufHeader::Finish() const {
  constexpr uint32_t kVersion = 3;
  std::string bytes = "GGUF";
  bytes.reserve(keys_.size() + infos_.size() + numbers_.size() + 64);
  Append(kVersion, &bytes);
  Append(num_tensors_, &bytes);
  Append(num_keys_, &bytes);
  bytes += keys_;
  bytes += infos_;
  bytes.resize(RoundUp(bytes.size(), kAlignment));
  return bytes += numbers_;
}

}  // namespace sluice::formats
