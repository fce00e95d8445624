#include "formats/safetensors.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "formats/json_reader.h"

namespace sluice::formats {
namespace {

constexpr uint64_t kPrefixBytes = 8;
constexpr uint64_t kLookBytes = 4096;  // what is read of a file before its N is believed

}  // namespace

SafetensorsTensor SafetensorsHeader::operator[](size_t i) const {
  const Entry& entry = entries_[i];
  return {NameOf(entry),      entry.encoding, std::span(dims_).subspan(entry.shape_begin, entry.shape_size),
          entry.num_elements, entry.begin,    entry.end};
}

std::pair<std::string_view, std::string_view> SafetensorsHeader::metadata(size_t i) const {
  const Pair& pair = metadata_[i];
  const std::string_view text = text_;
  return {text.substr(pair.begin, pair.key_size), text.substr(pair.begin + pair.key_size, pair.value_size)};
}

std::optional<std::string_view> SafetensorsHeader::FindMetadata(std::string_view key) const {
  const auto place =
      std::lower_bound(metadata_.begin(), metadata_.end(), key, [this](const Pair& pair, std::string_view k) {
        return std::string_view(text_).substr(pair.begin, pair.key_size) < k;
      });
  if (place == metadata_.end()) return std::nullopt;
  const auto [found, value] = metadata(static_cast<size_t>(place - metadata_.begin()));
  if (found != key) return std::nullopt;
  return value;
}

Result<SafetensorsHeader> ReadSafetensorsHeader(const io::ByteSource& source, SafetensorsError* why) {
  const uint64_t file_size = source.size_bytes();
  std::string bytes(std::min(file_size, kLookBytes), '\0');
  const auto read = [&](uint64_t begin) {
    return source.Read(begin, {reinterpret_cast<uint8_t*>(bytes.data()) + begin, bytes.size() - begin});
  };
  SLUICE_TRY(read(0));
  if (bytes.size() >= kPrefixBytes) {
    const uint64_t header_bytes = SafetensorsHeaderBytes(bytes);
    const uint64_t have = bytes.size();
    if (header_bytes <= kMaxSafetensorsHeaderBytes && header_bytes <= file_size - kPrefixBytes &&
        kPrefixBytes + header_bytes > have) {
      bytes.resize(kPrefixBytes + header_bytes);
      SLUICE_TRY(read(have));
    }
  }
  return ParseSafetensorsHeader(bytes, file_size, source.name(), why);
}

uint64_t SafetensorsHeaderBytes(std::string_view first_bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(first_bytes[i]);
  return value;
}

bool ComesBefore(const SafetensorsOutput& a, const SafetensorsOutput& b) {
  if (a.encoding->safetensors_rank != b.encoding->safetensors_rank) {
    return a.encoding->safetensors_rank > b.encoding->safetensors_rank;
  }
  return a.name < b.name;
}

Result<std::string> WriteSafetensorsHeader(std::span<const SafetensorsOutput> tensors,
                                           const std::map<std::string, std::string>& metadata, uint64_t alignment) {
  SLUICE_CHECK(alignment >= 8 && alignment % 8 == 0);
  std::string out(kPrefixBytes, '\0');
  out += '{';
  if (!metadata.empty()) {
    out += "\"__metadata__\":";
    char separator = '{';
    for (const auto& [key, value] : metadata) {
      SLUICE_CHECK(!FirstInvalidUtf8(key) && !FirstInvalidUtf8(value));
      out += separator;
      AppendJsonString(key, &out);
      out += ':';
      AppendJsonString(value, &out);
      separator = ',';
    }
    out += '}';
  }
  uint64_t begin = 0;
  for (const SafetensorsOutput& tensor : tensors) {
    if (tensor.encoding->safetensors_rank < 0) {
      return Fail(Error{ErrorCode::kUnsupported,
                        fmt::format("safetensors has no dtype for {}: write a plain one with --dtype bfloat16",
                                    tensor.encoding.name()),
                        {std::string(tensor.name)}});
    }
    if (tensor.name.empty() || tensor.name == "__metadata__" || tensor.name.find('\0') != std::string_view::npos ||
        FirstInvalidUtf8(tensor.name)) {
      return Fail(ErrorCode::kUnsupported,
                  fmt::format("safetensors cannot hold a tensor of the name \"{}\"", tensor.name));
    }
    const uint64_t end = begin + tensor.size_bytes;
    SLUICE_CHECK(end >= begin);
    if (out.size() > kPrefixBytes + 1) out += ',';
    AppendJsonString(tensor.name, &out);
    out += fmt::format(":{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", tensor.encoding.name(),
                       fmt::join(tensor.shape, ","), begin, end);
    begin = end;
  }
  out += '}';
  out.resize(RoundUp(out.size(), alignment), ' ');
  const uint64_t header_bytes = out.size() - kPrefixBytes;
  if (header_bytes > kMaxSafetensorsHeaderBytes) {
    return Fail(ErrorCode::kUnsupported,
                fmt::format("a header of {} bytes is over the format's limit of {}: write smaller shards",
                            FormatCount(header_bytes), FormatCount(kMaxSafetensorsHeaderBytes)));
  }
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>((header_bytes >> (8 * i)) & 0xff);
  return out;
}

}  // namespace sluice::formats
