#include "formats/safetensors.h"

#include <algorithm>
#include <functional>

#include <fmt/format.h>

#include "base/units.h"
#include "formats/json_reader.h"
#include "formats/recognise.h"

namespace sluice::formats {
namespace {

constexpr uint64_t kPrefixBytes = 8;
constexpr uint64_t kLookBytes = 4096;  // what is read of a file before its N is believed
constexpr std::string_view kFetchAgain = "the file is damaged or not whole: fetch or copy it again";
constexpr std::string_view kWriteAgain =
    "no conforming writer makes such a file: save it again with the safetensors library";

std::string Percent(uint64_t part, uint64_t whole) {
  const double percent = 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  return percent < 0.1 ? "less than 0.1%" : fmt::format("{:.1f}%", percent);
}

SafetensorsError FromKind(FileKind kind) {
  switch (kind) {
    case FileKind::kLfsPointer:
      return SafetensorsError::kLfsPointer;
    case FileKind::kHtml:
      return SafetensorsError::kHtml;
    case FileKind::kGguf:
      return SafetensorsError::kGguf;
    case FileKind::kZip:
      return SafetensorsError::kZip;
    case FileKind::kText:
      return SafetensorsError::kText;
    case FileKind::kUnknown:
      break;
  }
  return SafetensorsError::kNone;
}

SafetensorsError FromJson(JsonError error) {
  switch (error) {
    case JsonError::kNotUtf8:
      return SafetensorsError::kNotUtf8;
    case JsonError::kByteOrderMark:
      return SafetensorsError::kByteOrderMark;
    case JsonError::kControlCharacter:
      return SafetensorsError::kControlCharacter;
    case JsonError::kLoneSurrogate:
      return SafetensorsError::kLoneSurrogate;
    case JsonError::kTooDeep:
      return SafetensorsError::kTooDeep;
    case JsonError::kTrailing:
      return SafetensorsError::kTrailingJson;
    default:
      return SafetensorsError::kJson;
  }
}

}  // namespace

// One parse. Every function that returns bool has set the error when it returns false.
class SafetensorsParser {
 public:
  SafetensorsParser(std::string_view bytes, uint64_t file_size_bytes, const std::string& file)
      : bytes_(bytes), file_size_bytes_(file_size_bytes), file_(file) {}

  bool Run() {
    return CheckPrefix() && ParseJson() && CheckNames() && CheckPlaces() && CheckShapes() && CheckEnd() && Warn();
  }
  SafetensorsHeader TakeHeader() { return std::move(header_); }
  Error TakeError() { return Error{ErrorCode::kCorrupt, std::move(message_), std::move(context_)}; }
  SafetensorsError why() const { return why_; }

 private:
  using Entry = SafetensorsHeader::Entry;

  bool Fail(SafetensorsError why, std::string message) {
    why_ = why;
    message_ = std::move(message);
    context_.insert(context_.begin(), file_);
    return false;
  }
  bool FailIn(std::string_view tensor, SafetensorsError why, std::string message) {
    context_ = {Printable(tensor)};
    return Fail(why, std::move(message));
  }
  // An error at a place in the JSON; offsets that people see count from the file's first byte.
  bool FailAt(uint64_t json_offset, SafetensorsError why, std::string_view message, std::string_view what_to_do) {
    if (in_tensor_) context_ = {Printable(name_)};
    return Fail(why, fmt::format("byte {}: {}; {}", kPrefixBytes + json_offset, message, what_to_do));
  }
  bool FailHere(SafetensorsError why, std::string_view message) {
    return FailAt(json_->token(), why, message, kWriteAgain);
  }
  bool FailJson() {
    // A ZIP's first eight bytes may pass as a length; no other format's do.
    if (Recognised other = Recognise(bytes_); other.kind == FileKind::kZip) {
      return Fail(FromKind(other.kind), std::move(other.message));
    }
    return FailAt(json_->offset(), FromJson(json_->error()), json_->message(), kFetchAgain);
  }

  bool CheckPrefix();
  bool ParseJson();
  bool ParseMetadata();
  bool ParseEntry();
  bool ParseDtype(Entry* entry);
  bool ParseShape(Entry* entry);
  bool ParseOffsets(Entry* entry);
  bool CheckNames();
  bool CheckPlaces();
  bool CheckShapes();
  bool CheckEnd();
  bool Warn();

  uint32_t AddText(std::string_view text) {
    const auto begin = static_cast<uint32_t>(header_.text_.size());
    header_.text_ += text;
    return begin;
  }
  std::string_view Text(uint64_t begin, uint64_t size) const {
    return std::string_view(header_.text_).substr(begin, size);
  }

  std::string_view bytes_;
  uint64_t file_size_bytes_;
  const std::string& file_;
  SafetensorsHeader header_;
  JsonReader* json_ = nullptr;
  std::string name_;  // of the tensor being parsed
  bool in_tensor_ = false, has_metadata_ = false;
  std::vector<uint32_t> key_offsets_;  // of each entry, for the error about a duplicate
  SafetensorsError why_ = SafetensorsError::kNone;
  std::string message_;
  std::vector<std::string> context_;
};

bool SafetensorsParser::CheckPrefix() {
  if (file_size_bytes_ < kPrefixBytes || bytes_.size() < kPrefixBytes) {
    return Fail(SafetensorsError::kTooSmall,
                file_size_bytes_ == 0 ? fmt::format("the file is empty; {}", kFetchAgain)
                                      : fmt::format("the file has {} bytes, a safetensors file at least 10; {}",
                                                    file_size_bytes_, kFetchAgain));
  }
  const uint64_t header_bytes = SafetensorsHeaderBytes(bytes_);
  if (header_bytes == 0) {
    if (const std::string_view seen = bytes_.substr(0, kLookBytes);
        seen.find_first_not_of('\0') == std::string_view::npos) {
      return Fail(SafetensorsError::kAllZero,
                  fmt::format("the first {} bytes are zero: a download that reserved its space and did not fill it; "
                              "fetch the file again",
                              seen.size()));
    }
    return Fail(
        SafetensorsError::kEmptyHeader,
        fmt::format("bytes 0 to 7 say that the header has 0 bytes, which not even a file without tensors has; {}",
                    kFetchAgain));
  }
  const bool too_large = header_bytes > kMaxSafetensorsHeaderBytes;
  if (!too_large && header_bytes <= file_size_bytes_ - kPrefixBytes) {
    if (bytes_.size() - kPrefixBytes < header_bytes) {
      return Fail(SafetensorsError::kHeaderPastEnd, fmt::format("the header could not be read whole; {}", kFetchAgain));
    }
    header_.data_begin_ = kPrefixBytes + header_bytes;
    return true;
  }
  if (Recognised other = Recognise(bytes_); other.kind != FileKind::kUnknown) {
    return Fail(FromKind(other.kind), std::move(other.message));
  }
  if (too_large) {
    return Fail(
        SafetensorsError::kHeaderTooLarge,
        fmt::format("bytes 0 to 7 say that the header has {} bytes, more than the {} that the format allows: this is "
                    "no safetensors file, or it is damaged; fetch it again",
                    FormatCount(header_bytes), FormatCount(kMaxSafetensorsHeaderBytes)));
  }
  return Fail(SafetensorsError::kHeaderPastEnd,
              fmt::format("the header should end at byte {}, the file ends at byte {}; {}", kPrefixBytes + header_bytes,
                          file_size_bytes_, kFetchAgain));
}

bool SafetensorsParser::ParseJson() {
  JsonReader json(bytes_.substr(kPrefixBytes, header_.data_begin_ - kPrefixBytes));
  json_ = &json;
  const JsonType root = json.Peek();
  if (root == JsonType::kNone) return FailJson();
  if (root != JsonType::kObject) {
    return FailAt(json.position(), SafetensorsError::kRootNotObject,
                  fmt::format("the header is {}, not an object", JsonTypeName(root)), kFetchAgain);
  }
  std::string_view key;
  if (!json.BeginObject()) return FailJson();
  while (json.NextKey(&key)) {
    if (key == "__metadata__") {
      if (has_metadata_) return FailHere(SafetensorsError::kMetadataTwice, "__metadata__ stands here a second time");
      has_metadata_ = true;
      if (!ParseMetadata()) return false;
      continue;
    }
    name_ = key;
    in_tensor_ = true;
    if (key.empty()) return FailHere(SafetensorsError::kEmptyName, "a tensor has an empty name");
    if (key.find('\0') != std::string_view::npos) {
      return FailHere(SafetensorsError::kNulInName, "a tensor's name has a NUL character in it");
    }
    key_offsets_.push_back(static_cast<uint32_t>(json.token()));
    if (!ParseEntry()) return false;
    in_tensor_ = false;
  }
  if (!json.End()) return FailJson();
  json_ = nullptr;
  return true;
}

bool SafetensorsParser::ParseMetadata() {
  const JsonType type = json_->Peek();
  if (type == JsonType::kNone) return FailJson();
  if (type != JsonType::kObject) {
    return FailAt(json_->position(), SafetensorsError::kMetadataNotObject,
                  fmt::format("__metadata__ is {}, not a map of strings", JsonTypeName(type)), kWriteAgain);
  }
  std::string_view text;
  if (!json_->BeginObject()) return FailJson();
  while (json_->NextKey(&text)) {
    SafetensorsHeader::Pair pair{AddText(text), static_cast<uint32_t>(text.size()), 0};
    const JsonType value = json_->Peek();
    if (value != JsonType::kString) {
      const uint64_t place = json_->position();
      if (!json_->Skip()) return FailJson();
      return FailAt(place, SafetensorsError::kMetadataNotString,
                    fmt::format("__metadata__ maps \"{}\" to {}, not to a string",
                                Printable(Text(pair.begin, pair.key_size)), JsonTypeName(value)),
                    kWriteAgain);
    }
    if (!json_->String(&text)) return FailJson();
    pair.value_size = static_cast<uint32_t>(text.size());
    AddText(text);
    header_.metadata_.push_back(pair);
  }
  if (!json_->ok()) return FailJson();
  const auto key_of = [this](const SafetensorsHeader::Pair& pair) { return Text(pair.begin, pair.key_size); };
  auto& pairs = header_.metadata_;
  std::sort(pairs.begin(), pairs.end(), [&](const auto& a, const auto& b) { return key_of(a) < key_of(b); });
  const auto twice = std::adjacent_find(pairs.begin(), pairs.end(),
                                        [&](const auto& a, const auto& b) { return key_of(a) == key_of(b); });
  if (twice == pairs.end()) return true;
  return FailHere(SafetensorsError::kMetadataDuplicateKey,
                  fmt::format("__metadata__ has the key \"{}\" twice", Printable(key_of(*twice))));
}

bool SafetensorsParser::ParseEntry() {
  const JsonType type = json_->Peek();
  if (type == JsonType::kNone) return FailJson();
  if (type != JsonType::kObject) {
    const uint64_t place = json_->position();
    if (!json_->Skip()) return FailJson();
    return FailAt(place, SafetensorsError::kEntryNotObject,
                  fmt::format("the tensor is described by {}, not by an object", JsonTypeName(type)), kWriteAgain);
  }
  Entry entry{};
  entry.name_begin = AddText(name_);
  entry.name_size = static_cast<uint32_t>(name_.size());
  bool has_dtype = false, has_shape = false, has_offsets = false;
  std::string_view key;
  if (!json_->BeginObject()) return FailJson();
  const uint64_t place = json_->token();
  while (json_->NextKey(&key)) {
    bool* seen = key == "dtype"          ? &has_dtype
                 : key == "shape"        ? &has_shape
                 : key == "data_offsets" ? &has_offsets
                                         : nullptr;
    if (seen == nullptr) {
      const uint64_t key_place = json_->token();
      const std::string field = Printable(key);
      if (!json_->Skip()) return FailJson();
      return FailAt(key_place, SafetensorsError::kUnknownField,
                    fmt::format("the field \"{}\" is not of the format", field), kWriteAgain);
    }
    if (*seen) {
      return FailHere(SafetensorsError::kDuplicateField,
                      fmt::format("the field \"{}\" stands here a second time", key));
    }
    *seen = true;
    if (!(seen == &has_dtype ? ParseDtype(&entry) : seen == &has_shape ? ParseShape(&entry) : ParseOffsets(&entry))) {
      return false;
    }
  }
  if (!json_->ok()) return FailJson();
  if (!has_dtype || !has_shape || !has_offsets) {
    return FailAt(place, SafetensorsError::kMissingField,
                  fmt::format("the field \"{}\" is missing", !has_dtype   ? "dtype"
                                                             : !has_shape ? "shape"
                                                                          : "data_offsets"),
                  kWriteAgain);
  }
  header_.entries_.push_back(entry);
  return true;
}

bool SafetensorsParser::ParseDtype(Entry* entry) {
  const JsonType type = json_->Peek();
  if (type == JsonType::kNone) return FailJson();
  if (type != JsonType::kString) {
    const uint64_t place = json_->position();
    if (!json_->Skip()) return FailJson();
    return FailAt(place, SafetensorsError::kDtypeNotString,
                  fmt::format("\"dtype\" is {}, not a string", JsonTypeName(type)), kWriteAgain);
  }
  std::string_view dtype;
  if (!json_->String(&dtype)) return FailJson();
  // Nearly always the same as of the tensor before.
  if (!header_.entries_.empty() && header_.entries_.back().encoding.name() == dtype) {
    entry->encoding = header_.entries_.back().encoding;
    return true;
  }
  const auto known = [](std::string_view name) {
    const quant::Encoding found = quant::EncodingByName(name);
    return found.valid() && found->safetensors_rank >= 0 ? found : quant::Encoding();
  };
  entry->encoding = known(dtype);
  if (entry->encoding.valid()) return true;
  std::string upper(dtype);
  for (char& c : upper) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  std::string hint;
  if (upper == "F8_E4M3FN") upper = "F8_E4M3";
  if (known(upper).valid()) hint = fmt::format(" (the format calls it {})", upper);
  return FailHere(SafetensorsError::kUnknownDtype,
                  fmt::format("the dtype \"{}\" is not one of the format{}", Printable(dtype), hint));
}

bool SafetensorsParser::ParseShape(Entry* entry) {
  const JsonType type = json_->Peek();
  if (type == JsonType::kNone) return FailJson();
  if (type != JsonType::kArray) {
    const uint64_t place = json_->position();
    if (!json_->Skip()) return FailJson();
    return FailAt(place, SafetensorsError::kShapeNotArray,
                  fmt::format("\"shape\" is {}, not an array", JsonTypeName(type)), kWriteAgain);
  }
  entry->shape_begin = static_cast<uint32_t>(header_.dims_.size());
  if (!json_->BeginArray()) return FailJson();
  while (json_->NextElement()) {
    const JsonType element = json_->Peek();
    if (element == JsonType::kNone) return FailJson();
    const uint64_t place = json_->position();
    JsonNumber number;
    if (element != JsonType::kNumber ? !json_->Skip() : !json_->Number(&number)) return FailJson();
    if (!number.is_integer || number.text.front() == '-') {
      return FailAt(place, SafetensorsError::kDimNotInteger,
                    fmt::format("dimension {} of \"shape\" is {}, not a whole number of 0 or more", entry->shape_size,
                                element == JsonType::kNumber ? number.text.substr(0, 40) : JsonTypeName(element)),
                    kWriteAgain);
    }
    const auto dim = number.AsUint64();
    if (!dim) {
      return FailAt(place, SafetensorsError::kDimTooLarge,
                    fmt::format("dimension {} of \"shape\" does not fit in 64 bits", entry->shape_size), kWriteAgain);
    }
    if (entry->shape_size == kMaxSafetensorsDims) {
      return FailAt(place, SafetensorsError::kTooManyDims,
                    fmt::format("\"shape\" has more than {} dimensions", kMaxSafetensorsDims), kWriteAgain);
    }
    header_.dims_.push_back(*dim);
    ++entry->shape_size;
  }
  return json_->ok() || FailJson();
}

bool SafetensorsParser::ParseOffsets(Entry* entry) {
  const JsonType type = json_->Peek();
  if (type == JsonType::kNone) return FailJson();
  const uint64_t array_place = json_->position();
  if (type != JsonType::kArray) {
    if (!json_->Skip()) return FailJson();
    return FailAt(array_place, SafetensorsError::kOffsetsNotArray,
                  fmt::format("\"data_offsets\" is {}, not an array", JsonTypeName(type)), kWriteAgain);
  }
  uint64_t offsets[2] = {};
  uint64_t count = 0;
  if (!json_->BeginArray()) return FailJson();
  while (json_->NextElement()) {
    const JsonType element = json_->Peek();
    if (element == JsonType::kNone) return FailJson();
    const uint64_t place = json_->position();
    JsonNumber number;
    if (element != JsonType::kNumber ? !json_->Skip() : !json_->Number(&number)) return FailJson();
    if (!number.is_integer || number.text.front() == '-') {
      return FailAt(place, SafetensorsError::kOffsetNotInteger,
                    fmt::format("\"data_offsets\" has {} in it, not a whole number of 0 or more",
                                element == JsonType::kNumber ? number.text.substr(0, 40) : JsonTypeName(element)),
                    kWriteAgain);
    }
    const auto offset = number.AsUint64();
    if (!offset || *offset > UINT64_MAX - header_.data_begin_) {
      return FailAt(place, SafetensorsError::kOffsetTooLarge, "\"data_offsets\" does not fit in 64 bits", kWriteAgain);
    }
    if (count < 2) offsets[count] = *offset;
    ++count;
  }
  if (!json_->ok()) return FailJson();
  if (count != 2) {
    return FailAt(array_place, SafetensorsError::kOffsetsNotPair,
                  fmt::format("\"data_offsets\" has {} numbers, not 2", count), kWriteAgain);
  }
  entry->begin = header_.data_begin_ + offsets[0];
  entry->end = header_.data_begin_ + offsets[1];
  return true;
}

// Sorting finds duplicates in n log n whatever the names are; a hash table could be made slow by them. Hashes come
// first, since names have long beginnings in common.
bool SafetensorsParser::CheckNames() {
  struct Keyed {
    size_t hash;
    uint32_t entry;
  };
  const auto name = [this](const Keyed& keyed) { return header_.NameOf(header_.entries_[keyed.entry]); };
  std::vector<Keyed> order;
  order.reserve(header_.entries_.size());
  for (uint32_t i = 0; i < header_.entries_.size(); ++i) {
    order.push_back({std::hash<std::string_view>()(header_.NameOf(header_.entries_[i])), i});
  }
  std::sort(order.begin(), order.end(), [&](const Keyed& a, const Keyed& b) {
    if (a.hash != b.hash) return a.hash < b.hash;
    const int sign = name(a).compare(name(b));
    return sign != 0 ? sign < 0 : a.entry < b.entry;
  });
  // Of several, the one whose second place comes first in the file, whatever the hashes are.
  const Keyed* first = nullptr;
  const Keyed* second = nullptr;
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1].hash != order[i].hash || name(order[i - 1]) != name(order[i])) continue;
    if (second != nullptr && second->entry < order[i].entry) continue;
    first = &order[i - 1];
    second = &order[i];
  }
  if (second == nullptr) return true;
  return FailIn(
      name(*second), SafetensorsError::kDuplicateTensor,
      fmt::format("byte {}: the tensor stands here a second time, the first was at byte {}; {}",
                  kPrefixBytes + key_offsets_[second->entry], kPrefixBytes + key_offsets_[first->entry], kWriteAgain));
}

bool SafetensorsParser::CheckPlaces() {
  auto& entries = header_.entries_;
  std::sort(entries.begin(), entries.end(), [this](const Entry& a, const Entry& b) {
    if (a.begin != b.begin) return a.begin < b.begin;
    if (a.end != b.end) return a.end < b.end;
    return header_.NameOf(a) < header_.NameOf(b);
  });
  const uint64_t data = header_.data_begin_;
  uint64_t previous_end = data;
  const Entry* previous = nullptr;
  for (const Entry& entry : entries) {
    const auto fail = [&](SafetensorsError why, std::string_view what) {
      return FailIn(
          header_.NameOf(entry), why,
          fmt::format("data_offsets [{}, {}] {}; {}", entry.begin - data, entry.end - data, what, kWriteAgain));
    };
    if (entry.begin != previous_end) {
      if (previous == nullptr) return fail(SafetensorsError::kFirstNotZero, "come first, but do not begin at 0");
      const std::string other = fmt::format("{} [{}, {}]", Printable(header_.NameOf(*previous)), previous->begin - data,
                                            previous->end - data);
      if (entry.begin > previous_end) {
        return fail(SafetensorsError::kHole,
                    fmt::format("leave a hole of {} bytes after {}", entry.begin - previous_end, other));
      }
      const bool same = entry.begin == previous->begin && entry.end == previous->end;
      return same ? fail(SafetensorsError::kSameRange, "are those of " + other)
                  : fail(SafetensorsError::kOverlap, "overlap " + other);
    }
    if (entry.end < entry.begin) return fail(SafetensorsError::kReversed, "end before they begin");
    previous_end = entry.end;
    previous = &entry;
  }
  return true;
}

bool SafetensorsParser::CheckShapes() {
  for (Entry& entry : header_.entries_) {
    const std::span<const uint64_t> shape = std::span(header_.dims_).subspan(entry.shape_begin, entry.shape_size);
    // The product without its zeros must fit too: a zero would hide the overflow here, but not from whoever computes
    // strides.
    uint64_t product = 1, bits = 0;
    bool overflow = false, has_zero = false;
    for (const uint64_t dim : shape) {
      has_zero |= dim == 0;
      if (dim != 0) overflow |= __builtin_mul_overflow(product, dim, &product);
    }
    const uint32_t block_bits = entry.encoding->block_bytes * 8, block = entry.encoding->block_elements;
    overflow |= __builtin_mul_overflow(product, block_bits / block, &bits);
    if (overflow) {
      return FailIn(header_.NameOf(entry), SafetensorsError::kOverflow,
                    fmt::format("its shape has more elements than 64 bits can count; {}", kWriteAgain));
    }
    entry.num_elements = has_zero ? 0 : product;
    if (entry.num_elements % block != 0) {
      return FailIn(header_.NameOf(entry), SafetensorsError::kNotWholeBytes,
                    fmt::format("{} numbers of {} do not end on a byte; {}", entry.num_elements, entry.encoding.name(),
                                kWriteAgain));
    }
    const uint64_t size_bytes = entry.encoding.BytesOf(entry.num_elements);
    if (size_bytes != entry.end - entry.begin) {
      return FailIn(
          header_.NameOf(entry), SafetensorsError::kSizeMismatch,
          fmt::format("dtype {} and shape [{}] take {} bytes, data_offsets [{}, {}] have {}; {}", entry.encoding.name(),
                      fmt::join(shape, ", "), size_bytes, entry.begin - header_.data_begin_,
                      entry.end - header_.data_begin_, entry.end - entry.begin, kWriteAgain));
    }
  }
  return true;
}

bool SafetensorsParser::CheckEnd() {
  const auto& entries = header_.entries_;
  const uint64_t expected = entries.empty() ? header_.data_begin_ : entries.back().end;
  if (expected < file_size_bytes_) {
    return Fail(SafetensorsError::kTrailingBytes,
                fmt::format("byte {}: the last tensor ends here, but {} bytes follow that belong to none: the file is "
                            "damaged, or two files in one; fetch it again",
                            expected, FormatCount(file_size_bytes_ - expected)));
  }
  if (expected == file_size_bytes_) return true;
  const auto first =
      std::find_if(entries.begin(), entries.end(), [this](const Entry& entry) { return entry.end > file_size_bytes_; });
  return FailIn(
      header_.NameOf(*first), SafetensorsError::kTruncated,
      fmt::format("the file is truncated: {} bytes are expected, {} are there, {} is missing; {} of {} tensors are "
                  "affected, this one is the first; fetch the file again",
                  FormatCount(expected), FormatCount(file_size_bytes_), Percent(expected - file_size_bytes_, expected),
                  entries.end() - first, entries.size()));
}

bool SafetensorsParser::Warn() {
  struct Kind {
    const char* message;
    std::string first = {};
    uint64_t count = 0;
  };
  Kind path{"the name has ../ in it; it is only a name here, but do not let another tool make files of it"};
  Kind dims{"more than 8 dimensions, which some readers refuse"};
  Kind unaligned{"the data is not aligned to its dtype, which some readers refuse or copy"};
  const auto add = [this](Kind* kind, const Entry& entry) {
    if (kind->count++ == 0) kind->first = Printable(header_.NameOf(entry));
  };
  for (const Entry& entry : header_.entries_) {
    const std::string_view name = header_.NameOf(entry);
    if (name.find("../") != std::string_view::npos) add(&path, entry);
    if (entry.shape_size > 8) add(&dims, entry);
    const bool is_block = entry.encoding.is_block();
    if (!is_block && entry.begin != entry.end && entry.begin % entry.encoding->block_bytes != 0) add(&unaligned, entry);
  }
  for (const Kind* kind : {&path, &dims, &unaligned}) {
    if (kind->count == 0) continue;
    const std::string more = kind->count > 1 ? fmt::format(" ({} more like it)", kind->count - 1) : "";
    header_.warnings_.push_back({kind->first, kind->message + more});
  }
  header_.text_.shrink_to_fit();
  header_.dims_.shrink_to_fit();
  header_.entries_.shrink_to_fit();
  return true;
}

Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view bytes, uint64_t file_size_bytes,
                                                 const std::string& file, SafetensorsError* why) {
  SafetensorsParser parser(bytes, file_size_bytes, file);
  const bool good = parser.Run();
  if (why != nullptr) *why = parser.why();
  if (!good) return Fail(parser.TakeError());
  return parser.TakeHeader();
}

}  // namespace sluice::formats
