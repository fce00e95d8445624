// GgufFile::Open: one pass over the header, every number checked before it is believed. Nothing is allocated by a count
// or a length from the file before the file has been seen to be large enough for it.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>

#include <fmt/format.h>
#include <simdjson.h>

#include "base/units.h"
#include "formats/gguf.h"
#include "formats/recognise.h"

namespace sluice::formats {
namespace {

constexpr uint64_t kHeaderBytes = 24;
constexpr uint64_t kMinKeyBytes = 8 + 1 + 4 + 1;         // a name of one letter and a u8
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 4 + 8;  // a name of one letter, no dimension
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint32_t kMaxRank = 4;
constexpr std::string_view kDamaged = "the file is damaged: fetch it again";

template <class... Args>
tl::unexpected<Error> Corrupt(fmt::format_string<Args...> format, Args&&... args) {
  return Fail(ErrorCode::kCorrupt, fmt::format(format, std::forward<Args>(args)...));
}

// Bytes of the file in order, through a window.
class Window {
 public:
  explicit Window(const io::ByteSource& source) : source_(source), size_bytes_(source.size_bytes()) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return size_bytes_ - position_; }

  // kCorrupt where fewer bytes are left; `what` says in the error what they would have been.
  Result<void> Read(void* out, uint64_t size_bytes, std::string_view what) {
    SLUICE_TRY(Want(size_bytes, what));
    auto* to = static_cast<uint8_t*>(out);
    while (size_bytes > 0) {
      if (position_ < begin_ || position_ >= begin_ + buffer_.size()) SLUICE_TRY(Fill());
      const uint64_t n = std::min(size_bytes, begin_ + buffer_.size() - position_);
      std::memcpy(to, buffer_.data() + (position_ - begin_), n);
      to += n, position_ += n, size_bytes -= n;
    }
    return {};
  }
  template <class T>
  Result<T> Read(std::string_view what) {
    T value;
    SLUICE_TRY(Read(&value, sizeof(value), what));
    return value;
  }
  Result<void> Skip(uint64_t size_bytes, std::string_view what) {
    SLUICE_TRY(Want(size_bytes, what));
    position_ += size_bytes;
    return {};
  }

 private:
  Result<void> Want(uint64_t size_bytes, std::string_view what) const {
    if (size_bytes <= remaining()) return {};
    return Corrupt("ends at byte {}, but {} at byte {} has {} bytes; the file is cut short: fetch it again",
                   size_bytes_, what, position_, size_bytes);
  }
  Result<void> Fill() {
    buffer_.resize(std::min(kWindowBytes, remaining()));
    begin_ = position_;
    return source_.Read(begin_, buffer_);
  }

  static constexpr uint64_t kWindowBytes = 64 * kKiB;
  const io::ByteSource& source_;
  const uint64_t size_bytes_;
  uint64_t position_ = 0, begin_ = 0;
  std::vector<uint8_t> buffer_;
};

// Names go into messages and JSON: UTF-8, without control characters.
bool IsPrintable(std::string_view name) {
  if (!simdjson::validate_utf8(name.data(), name.size())) return false;
  return std::none_of(name.begin(), name.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

// Indices of `items`, sorted by name.
template <class T>
std::vector<uint32_t> SortedByName(const std::vector<T>& items) {
  std::vector<uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return items[a].name != items[b].name ? items[a].name < items[b].name : a < b;
  });
  return order;
}

}  // namespace

class GgufParser {
 public:
  explicit GgufParser(std::shared_ptr<const io::ByteSource> source) : window_(*source) {
    file_.source_ = std::move(source);
  }

  Result<void> Parse() {
    SLUICE_TRY(ParseHeader());
    SLUICE_TRY(ParseKeys());
    SLUICE_TRY(ParseTensors());
    return PlaceTensors();
  }
  GgufFile Take() { return std::move(file_); }

 private:
  uint64_t size_bytes() const { return file_.source_->size_bytes(); }

  Result<void> ParseHeader() {
    uint8_t magic[8] = {};
    SLUICE_TRY(window_.Read(magic, std::min<uint64_t>(sizeof(magic), size_bytes()), "the magic"));
    if (size_bytes() == 0) return Corrupt("is empty; fetch it again");
    if (std::memcmp(magic, "GGUF", 4) != 0) {
      std::vector<uint8_t> first(std::min<uint64_t>(4096, size_bytes()));
      SLUICE_TRY(file_.source_->Read(0, first));
      const Recognised known = Recognise({reinterpret_cast<const char*>(first.data()), first.size()});
      if (known.kind == FileKind::kLfsPointer || known.kind == FileKind::kHtml) return Corrupt("is {}", known.message);
      return Corrupt("begins with bytes {:02x} {:02x} {:02x} {:02x}, not with 'GGUF' (47 47 55 46): not a GGUF file",
                     magic[0], magic[1], magic[2], magic[3]);
    }
    if (size_bytes() < kHeaderBytes) {
      return Corrupt("has {} bytes, but a GGUF header has {}; the file is cut short: fetch it again", size_bytes(),
                     kHeaderBytes);
    }
    std::memcpy(&file_.version_, magic + 4, 4);
    if (file_.version_ != 0 && (file_.version_ & 0xffff) == 0) {
      return Fail(
          ErrorCode::kUnsupported,
          "is a big-endian GGUF file, which is not supported yet; convert it to little-endian (gguf-convert-endian)");
    }
    if (file_.version_ == 1) {
      return Fail(ErrorCode::kUnsupported,
                  "is of GGUF version 1, which was replaced in 2023 and is not supported; get the "
                  "model as version 3");
    }
    if (file_.version_ != 2 && file_.version_ != 3) {
      return Fail(ErrorCode::kUnsupported,
                  fmt::format("is of GGUF version {} (byte 4), but versions 2 and 3 are known", file_.version_));
    }
    SLUICE_ASSIGN(num_tensors_, window_.Read<uint64_t>("the number of tensors"));
    SLUICE_ASSIGN(num_keys_, window_.Read<uint64_t>("the number of keys"));
    const uint64_t room = size_bytes() - kHeaderBytes;
    if (num_tensors_ > room / kMinTensorBytes) {
      return Corrupt("claims {} tensors at byte 8, but has room for {} at most; {}", num_tensors_,
                     room / kMinTensorBytes, kDamaged);
    }
    if (num_keys_ > room / kMinKeyBytes) {
      return Corrupt("claims {} keys at byte 16, but has room for {} at most; {}", num_keys_, room / kMinKeyBytes,
                     kDamaged);
    }
    if (num_tensors_ > kMaxGgufTensors) {
      return Fail(ErrorCode::kUnsupported,
                  fmt::format("has {} tensors; more than {} are not supported yet", num_tensors_, kMaxGgufTensors));
    }
    if (num_keys_ > kMaxGgufKeys) {
      return Fail(ErrorCode::kUnsupported,
                  fmt::format("has {} keys; more than {} are not supported yet", num_keys_, kMaxGgufKeys));
    }
    return {};
  }

  // `kind` is "key" or "tensor", `index` counts from 0.
  Result<std::string> ParseName(std::string_view kind, uint64_t index, uint64_t count, uint64_t max_bytes) {
    const uint64_t begin = window_.position();
    SLUICE_ASSIGN(const uint64_t length,
                  window_.Read<uint64_t>(fmt::format("the length of the name of {} {} of {}", kind, index + 1, count)));
    if (length == 0 || length > max_bytes) {
      return Corrupt("the name of {} {} of {} at byte {} has {} bytes, not 1 to {}; {}", kind, index + 1, count, begin,
                     length, max_bytes, kDamaged);
    }
    names_bytes_ += length;
    if (names_bytes_ > kMaxGgufNamesBytes) {
      return Fail(ErrorCode::kUnsupported,
                  fmt::format("names of keys and tensors take more than {} bytes by byte {}; so many "
                              "are not supported yet",
                              kMaxGgufNamesBytes, begin));
    }
    // The length is small, so allocating before the end of the file is checked does no harm.
    std::string name(length, '\0');
    SLUICE_TRY(window_.Read(name.data(), length, fmt::format("the name of {} {} of {}", kind, index + 1, count)));
    if (!IsPrintable(name)) {
      return Corrupt("the name of {} {} of {} at byte {} is not UTF-8 or has control characters in it; {}", kind,
                     index + 1, count, begin, kDamaged);
    }
    return name;
  }

  Result<void> ParseKeys() {
    for (uint64_t i = 0; i < num_keys_; ++i) {
      SLUICE_ASSIGN(std::string name, ParseName("key", i, num_keys_, kMaxGgufKeyBytes));
      GgufKey key{};
      key.name = std::move(name);
      SLUICE_TRY_IN(key.name, ParseValue(&key));
      file_.keys_.push_back(std::move(key));
    }
    file_.keys_by_name_ = SortedByName(file_.keys_);
    for (size_t i = 1; i < file_.keys_by_name_.size(); ++i) {
      const GgufKey& first = file_.keys_[file_.keys_by_name_[i - 1]];
      const GgufKey& second = file_.keys_[file_.keys_by_name_[i]];
      if (first.name == second.name) {
        return Fail(
            Error{ErrorCode::kCorrupt,
                  fmt::format("the key occurs twice, with values at bytes {} and {}; fix the program that wrote the "
                              "file",
                              first.offset, second.offset),
                  {first.name}});
      }
    }
    return ReadAlignment();
  }

  Result<GgufType> ParseType(std::string_view what) {
    const uint64_t begin = window_.position();
    SLUICE_ASSIGN(const uint32_t type, window_.Read<uint32_t>(what));
    if (type >= kNumGgufTypes)
      return Corrupt("{} at byte {} is {}, not 0 to {}; {}", what, begin, type, kNumGgufTypes - 1, kDamaged);
    return static_cast<GgufType>(type);
  }

  Result<void> ParseValue(GgufKey* key) {
    SLUICE_ASSIGN(key->type, ParseType("the value's type"));
    key->element_type = key->type;
    key->count = 1;
    key->offset = window_.position();
    if (key->type == GgufType::kString) {
      SLUICE_TRY(SkipString("the string"));
    } else if (key->type == GgufType::kArray) {
      SLUICE_TRY(SkipArray(key));
    } else {
      SLUICE_TRY(window_.Read(&key->bits, GgufScalarBytes(key->type), "the value"));
      if (key->type == GgufType::kBool && key->bits > 1) {
        return Corrupt("the bool at byte {} is {}, not 0 or 1; {}", key->offset, key->bits, kDamaged);
      }
    }
    key->size_bytes = window_.position() - key->offset;
    return {};
  }

  Result<void> SkipString(std::string_view what) {
    SLUICE_ASSIGN(const uint64_t length, window_.Read<uint64_t>("the length of a string"));
    return window_.Skip(length, what);
  }

  Result<void> SkipArray(GgufKey* key) {
    SLUICE_ASSIGN(key->element_type, ParseType("the array's element type"));
    if (key->element_type == GgufType::kArray) {
      return Fail(ErrorCode::kUnsupported,
                  fmt::format("the value at byte {} is an array of arrays, which is not supported yet", key->offset));
    }
    const uint64_t count_at = window_.position();
    SLUICE_ASSIGN(key->count, window_.Read<uint64_t>("the array's number of elements"));
    const bool strings = key->element_type == GgufType::kString;
    const uint64_t min_bytes = strings ? sizeof(uint64_t) : GgufScalarBytes(key->element_type);
    if (key->count > window_.remaining() / min_bytes) {
      return Corrupt(
          "the array claims {} elements of type {} at byte {}, but the file ends at byte {}; the file is cut short "
          "or damaged: fetch it again",
          key->count, GgufTypeName(key->element_type), count_at, size_bytes());
    }
    if (!strings) return window_.Skip(key->count * min_bytes, "the array");
    for (uint64_t i = 0; i < key->count; ++i) {
      if (auto skipped = SkipString("a string of the array"); !skipped) {
        skipped.error().message = fmt::format("element {} of {}: {}", i + 1, key->count, skipped.error().message);
        return skipped;
      }
    }
    return {};
  }

  Result<void> ReadAlignment() {
    file_.alignment_ = kDefaultAlignment;
    if (const GgufKey* key = file_.FindKey("general.alignment")) {
      if (key->type != GgufType::kU32) return file_.WrongType(*key, "u32");
      if (!std::has_single_bit(key->bits)) {
        return Fail(Error{
            ErrorCode::kCorrupt,
            fmt::format("the alignment at byte {} is {}, not a power of two; {}", key->offset, key->bits, kDamaged),
            {key->name}});
      }
      file_.alignment_ = key->bits;
    }
    return {};
  }

  Result<void> ParseTensors() {
    for (uint64_t i = 0; i < num_tensors_; ++i) {
      SLUICE_ASSIGN(std::string name, ParseName("tensor", i, num_tensors_, kMaxGgufTensorNameBytes));
      GgufTensor tensor{};
      tensor.name = std::move(name);
      SLUICE_TRY_IN(tensor.name, ParseTensor(&tensor));
      file_.tensors_.push_back(std::move(tensor));
    }
    const std::vector<uint32_t> order = SortedByName(file_.tensors_);
    for (size_t i = 1; i < order.size(); ++i) {
      if (file_.tensors_[order[i - 1]].name == file_.tensors_[order[i]].name) {
        return Fail(
            Error{ErrorCode::kCorrupt,
                  fmt::format("the name occurs twice, as tensors {} and {} of {}; fix the program that wrote the file",
                              order[i - 1] + 1, order[i] + 1, num_tensors_),
                  {file_.tensors_[order[i]].name}});
      }
    }
    return {};
  }

  Result<void> ParseTensor(GgufTensor* tensor) {
    const uint64_t rank_at = window_.position();
    SLUICE_ASSIGN(tensor->rank, window_.Read<uint32_t>("the number of dimensions"));
    if (tensor->rank > kMaxRank) {
      return Corrupt("the tensor claims {} dimensions at byte {}, but GGUF has {} at most; {}", tensor->rank, rank_at,
                     kMaxRank, kDamaged);
    }
    tensor->num_elements = 1;
    bool empty = false;
    for (uint32_t i = 0; i < tensor->rank; ++i) {
      const uint64_t dim_at = window_.position();
      SLUICE_ASSIGN(tensor->dims[i], window_.Read<uint64_t>("a dimension"));
      // A dimension of 0 must not hide an overflow of the others.
      empty = empty || tensor->dims[i] == 0;
      const uint64_t factor = std::max<uint64_t>(tensor->dims[i], 1);
      if (factor > std::numeric_limits<int64_t>::max() / tensor->num_elements) {
        return Corrupt("the product of the dimensions passes 2^63 with {} at byte {}; {}", tensor->dims[i], dim_at,
                       kDamaged);
      }
      tensor->num_elements *= factor;
    }
    const uint64_t type_at = window_.position();
    SLUICE_ASSIGN(const uint32_t type, window_.Read<uint32_t>("the tensor's type"));
    tensor->encoding = quant::EncodingByGgmlType(type);
    if (!tensor->encoding.valid()) {
      return Fail(ErrorCode::kUnsupported,
                  fmt::format("the tensor is of type {} ({}) at byte {}, which is not supported yet; "
                              "use a model in {}",
                              type, GgmlTypeName(type), type_at, KnownTypes()));
    }
    const uint64_t block = tensor->encoding->block_elements, row = tensor->rank == 0 ? 1 : tensor->dims[0];
    if (row % block != 0) {
      return Corrupt("rows have {} numbers, which is not a whole number of {} blocks of {} (byte {}); {}", row,
                     tensor->encoding.name(), block, rank_at + 4, kDamaged);
    }
    if (tensor->num_elements / block > std::numeric_limits<int64_t>::max() / tensor->encoding->block_bytes) {
      return Corrupt("{} numbers of {} at byte {} take more than 2^63 bytes; {}", tensor->num_elements,
                     tensor->encoding.name(), rank_at + 4, kDamaged);
    }
    if (empty) tensor->num_elements = 0;
    const uint64_t offset_at = window_.position();
    SLUICE_ASSIGN(tensor->offset, window_.Read<uint64_t>("the tensor's offset"));
    if (tensor->offset % file_.alignment_ != 0) {
      return Corrupt("the offset {} at byte {} is not a multiple of the alignment {}; {}", tensor->offset, offset_at,
                     file_.alignment_, kDamaged);
    }
    if (tensor->offset > std::numeric_limits<int64_t>::max() - tensor->size_bytes()) {
      return Corrupt("the offset {} at byte {} passes 2^63 with the {} bytes of the tensor; {}", tensor->offset,
                     offset_at, tensor->size_bytes(), kDamaged);
    }
    return {};
  }

  static std::string KnownTypes() {
    std::map<int, std::string_view> by_number;  // plain floats first
    for (const quant::Encoding encoding : quant::AllEncodings()) {
      if (encoding->ggml_type >= 0 && encoding->decode != nullptr) by_number[encoding->ggml_type] = encoding.name();
    }
    std::string names;
    for (const auto& [number, name] : by_number) names += (names.empty() ? "" : ", ") + std::string(name);
    return names;
  }

  // From offsets within the data to offsets in the file: no tensor may pass the end or lie on another.
  Result<void> PlaceTensors() {
    const uint64_t align = file_.alignment_;
    // Both below 2^63, so the sums here cannot wrap; the largest alignment is 2^31.
    file_.data_offset_ = RoundUp(window_.position(), align);
    std::vector<GgufTensor>& tensors = file_.tensors_;
    std::vector<uint32_t> order;
    uint64_t num_cut = 0, needed = 0;
    for (uint32_t i = 0; i < tensors.size(); ++i) {
      tensors[i].offset += file_.data_offset_;
      if (tensors[i].size_bytes() > 0) order.push_back(i);
    }
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
      return tensors[a].offset != tensors[b].offset ? tensors[a].offset < tensors[b].offset : a < b;
    });
    const GgufTensor* first_cut = nullptr;
    for (const uint32_t i : order) {
      const uint64_t end = tensors[i].offset + tensors[i].size_bytes();
      needed = std::max(needed, end);
      if (end <= size_bytes()) continue;
      ++num_cut;
      if (first_cut == nullptr) first_cut = &tensors[i];
    }
    if (num_cut > 0) {
      return Corrupt(
          "has {} bytes, but its tensors take {}: {} of {} are cut short, the first '{}' at byte {}; the file is cut "
          "short: fetch it again",
          size_bytes(), needed, num_cut, tensors.size(), first_cut->name, first_cut->offset);
    }

    uint64_t end = file_.data_offset_;  // of the tensor before, with its padding
    for (size_t i = 0; i < order.size(); ++i) {
      const GgufTensor& tensor = tensors[order[i]];
      if (i > 0) {
        const GgufTensor& before = tensors[order[i - 1]];
        if (before.offset + before.size_bytes() > tensor.offset) {
          return Fail(
              Error{ErrorCode::kCorrupt,
                    fmt::format("its bytes begin at {}, inside '{}', which has bytes {} to {}; {}", tensor.offset,
                                before.name, before.offset, before.offset + before.size_bytes(), kDamaged),
                    {tensor.name}});
        }
      }
      if (tensor.offset > end) file_.unused_bytes_ += tensor.offset - end;
      end = RoundUp(tensor.offset + tensor.size_bytes(), align);
    }
    if (size_bytes() > end) file_.unused_bytes_ += size_bytes() - end;
    return {};
  }

  Window window_;
  GgufFile file_;
  uint64_t num_tensors_ = 0, num_keys_ = 0, names_bytes_ = 0;
};

Result<std::shared_ptr<const GgufFile>> GgufFile::Open(std::shared_ptr<const io::ByteSource> source) {
  const std::string name = source->name();
  GgufParser parser(std::move(source));
  if (auto parsed = parser.Parse(); !parsed) {
    Error error = std::move(parsed).error();
    // Where the system fails, and where a key is read by name, the error says the file already.
    const bool named = error.code == ErrorCode::kRead || (!error.context.empty() && error.context.front() == name);
    return Fail(named ? std::move(error) : std::move(error).In(name));
  }
  return std::make_shared<const GgufFile>(parser.Take());
}

}  // namespace sluice::formats
