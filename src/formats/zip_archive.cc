#include "formats/zip_archive.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <optional>

#include <fmt/format.h>

#include "base/units.h"
#include "formats/json_reader.h"
#include "formats/recognise.h"

namespace sluice::formats {
namespace {

constexpr uint32_t kLocalMark = 0x04034b50, kDescriptorMark = 0x08074b50, kCentralMark = 0x02014b50,
                   kEndMark = 0x06054b50, kEnd64Mark = 0x06064b50, kLocatorMark = 0x07064b50;
constexpr uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20;
constexpr uint64_t kMostDescriptorBytes = 24;
constexpr uint16_t kZip64Id = 1;
constexpr uint32_t kIn64 = UINT32_MAX;  // the value stands in the zip64 field

constexpr uint16_t kEncrypted = 1 << 0 | 1 << 6 | 1 << 13;
constexpr uint16_t kDescriptor = 1 << 3;
constexpr uint16_t kKnownFlags = kDescriptor | 1 << 1 | 1 << 2 | 1 << 11;  // 1, 2: of compression; 11: UTF-8

// Little-endian numbers, one after the other. Whoever makes one has seen that there are enough bytes.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : bytes_(bytes) {}
  uint16_t U16() { return static_cast<uint16_t>(Take(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Take(4)); }
  uint64_t U64() { return Take(8); }
  size_t left() const { return bytes_.size(); }
  std::string_view Bytes(size_t size) {
    const std::string_view bytes = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return bytes;
  }

 private:
  uint64_t Take(size_t size) {
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes_[i]);
    bytes_.remove_prefix(size);
    return value;
  }
  std::string_view bytes_;
};

Result<std::string> ReadBytes(const io::ByteSource& source, uint64_t offset, uint64_t size_bytes) {
  std::string bytes(size_bytes, '\0');
  SLUICE_TRY(source.Read(offset, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}));
  return bytes;
}

// The data of the zip64 field; empty where there is none, nullopt where the fields are malformed or it occurs twice.
std::optional<std::string_view> FindZip64(std::string_view extra) {
  std::optional<std::string_view> found;
  Fields fields(extra);
  while (fields.left() > 0) {
    if (fields.left() < 4) return std::nullopt;
    const uint16_t id = fields.U16(), size = fields.U16();
    if (size > fields.left()) return std::nullopt;
    const std::string_view data = fields.Bytes(size);
    if (id != kZip64Id) continue;
    if (found || data.empty()) return std::nullopt;
    found = data;
  }
  return found ? *found : std::string_view();
}

bool IsPlainPath(std::string_view name) {
  if (name.find_first_of(std::string_view("\\:\0", 3)) != std::string_view::npos || FirstInvalidUtf8(name))
    return false;
  for (;;) {
    const size_t slash = name.find('/');
    const std::string_view part = name.substr(0, slash);
    if (part.empty() || part == "." || part == "..") return false;
    if (slash == std::string_view::npos) return true;
    name.remove_prefix(slash + 1);
  }
}

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// By letters without case; names that differ in nothing else are neighbours.
int CompareNoCase(std::string_view a, std::string_view b) {
  const size_t both = std::min(a.size(), b.size());
  for (size_t i = 0; i < both; ++i) {
    const auto x = static_cast<unsigned char>(Lower(a[i])), y = static_cast<unsigned char>(Lower(b[i]));
    if (x != y) return x < y ? -1 : 1;
  }
  return a.size() == b.size() ? 0 : a.size() < b.size() ? -1 : 1;
}

tl::unexpected<Error> FailAt(const io::ByteSource& source, std::string_view entry, std::string message,
                             ErrorCode code = ErrorCode::kCorrupt) {
  return Fail(Error{code, std::move(message), {source.name(), Printable(entry)}});
}

// Where the central directory is.
struct Place {
  uint64_t begin = 0, size_bytes = 0, num_entries = 0;
};

Result<Place> FindDirectory(const io::ByteSource& source) {
  const uint64_t file_size = source.size_bytes();
  const auto cut = [&](std::string message) {
    return FailIn(ErrorCode::kCorrupt, source.name(), fmt::format("{}; fetch the file again", message));
  };
  if (file_size < kEndBytes)
    return cut(fmt::format("a ZIP archive has at least {} bytes, this file {}", kEndBytes, file_size));
  const uint64_t tail_bytes = std::min(file_size, kEnd64Bytes + kLocatorBytes + kEndBytes);
  SLUICE_ASSIGN(const std::string tail, ReadBytes(source, file_size - tail_bytes, tail_bytes));
  const uint64_t end_at = file_size - kEndBytes;

  Fields end(std::string_view(tail).substr(tail_bytes - kEndBytes));
  const bool has_mark = end.U32() == kEndMark;
  const uint16_t disk = end.U16(), directory_disk = end.U16(), entries_here = end.U16(), entries = end.U16();
  const uint32_t size_bytes = end.U32(), begin = end.U32();
  if (!has_mark || end.U16() != 0) {
    return cut(
        "the end record of the ZIP archive is not in the last 22 bytes: the file is truncated, or something was "
        "appended to it");
  }
  const auto several_disks = [&] {
    return FailIn(ErrorCode::kUnsupported, source.name(), "a ZIP archive of several disks, which is not supported");
  };
  Place place{begin, size_bytes, entries};
  uint64_t directory_end = end_at;
  bool is_64 = false;
  if (tail_bytes >= kLocatorBytes + kEndBytes) {
    Fields locator(std::string_view(tail).substr(tail_bytes - kEndBytes - kLocatorBytes, kLocatorBytes));
    is_64 = locator.U32() == kLocatorMark;
    if (is_64) {
      const uint32_t end64_disk = locator.U32();
      const uint64_t end64_at = locator.U64();
      const uint32_t num_disks = locator.U32();
      if (end64_disk != 0 || num_disks != 1) return several_disks();
      if (tail_bytes < kEnd64Bytes + kLocatorBytes + kEndBytes || end64_at != end_at - kLocatorBytes - kEnd64Bytes) {
        return cut("the zip64 end record is not where its locator says");
      }
      Fields end64(std::string_view(tail).substr(0, kEnd64Bytes));
      const bool has_mark64 = end64.U32() == kEnd64Mark;
      const uint64_t rest = end64.U64();
      end64.U32();  // versions
      const uint32_t disk64 = end64.U32(), directory_disk64 = end64.U32();
      const uint64_t entries_here64 = end64.U64(), entries64 = end64.U64(), size64 = end64.U64(), begin64 = end64.U64();
      if (!has_mark64 || rest != kEnd64Bytes - 12) return cut("the zip64 end record is malformed");
      if (disk64 != 0 || directory_disk64 != 0 || entries_here64 != entries64) return several_disks();
      if ((entries != UINT16_MAX && entries != entries64) || (size_bytes != kIn64 && size_bytes != size64) ||
          (begin != kIn64 && begin != begin64)) {
        return cut("the two end records of the ZIP archive differ");
      }
      place = {begin64, size64, entries64};
      directory_end = end64_at;
    }
  }
  const auto on_disk_0 = [&](uint16_t number) { return number == 0 || (is_64 && number == UINT16_MAX); };
  if (!on_disk_0(disk) || !on_disk_0(directory_disk) || entries_here != entries) return several_disks();
  if (place.begin > directory_end || place.size_bytes != directory_end - place.begin) {
    return cut(
        fmt::format("the ZIP directory is said to be bytes {} and the {} after it, but has to end at byte {}: "
                    "something was put before, after or between",
                    place.begin, place.size_bytes, directory_end));
  }
  if (place.num_entries > kMaxZipEntries || place.size_bytes > kMaxZipDirectoryBytes) {
    return FailIn(ErrorCode::kUnsupported, source.name(),
                  fmt::format("a ZIP archive of {} entries and a directory of {} bytes is over the limits of {} and {}",
                              place.num_entries, place.size_bytes, kMaxZipEntries, kMaxZipDirectoryBytes));
  }
  return place;
}

std::string_view MethodName(uint16_t method) {
  switch (method) {
    case 8:
      return "deflate";
    case 12:
      return "bzip2";
    case 14:
      return "LZMA";
    case 93:
      return "zstd";
    default:
      return "another method";
  }
}

}  // namespace

Result<ZipDirectory> ZipDirectory::Read(const io::ByteSource& source) {
  SLUICE_ASSIGN(const Place place, FindDirectory(source));
  ZipDirectory directory;
  directory.begin_ = place.begin;
  SLUICE_ASSIGN(directory.text_, ReadBytes(source, place.begin, place.size_bytes));
  Fields fields(directory.text_);
  const auto malformed = [&](uint64_t at, std::string_view what) {
    return FailIn(ErrorCode::kCorrupt, source.name(),
                  fmt::format("byte {}: {}; the file is damaged: fetch it again", place.begin + at, what));
  };
  while (fields.left() > 0) {
    const uint64_t at = directory.text_.size() - fields.left();
    if (fields.left() < kCentralBytes || fields.U32() != kCentralMark) {
      return malformed(at, "an entry of the ZIP directory is malformed");
    }
    fields.U32();  // versions
    ZipEntry entry;
    entry.flags = fields.U16();
    entry.method = fields.U16();
    fields.U32();  // time and date
    entry.crc32 = fields.U32();
    const uint32_t stored_32 = fields.U32(), size_32 = fields.U32();
    const uint16_t name_bytes = fields.U16(), extra_bytes = fields.U16(), comment_bytes = fields.U16(),
                   disk = fields.U16();
    fields.U16();  // attributes
    fields.U32();
    const uint32_t offset_32 = fields.U32();
    if (uint64_t{name_bytes} + extra_bytes + comment_bytes > fields.left()) {
      return malformed(at, "an entry of the ZIP directory passes its end");
    }
    entry.name = fields.Bytes(name_bytes);
    const auto zip64 = FindZip64(fields.Bytes(extra_bytes));
    fields.Bytes(comment_bytes);
    if (!IsPlainPath(entry.name)) {
      return malformed(at,
                       fmt::format("the name \"{}\" is not a plain path inside the archive", Printable(entry.name)));
    }
    // The zip64 field holds exactly what did not fit.
    const size_t expected = (size_32 == kIn64 ? 8 : 0) + (stored_32 == kIn64 ? 8 : 0) + (offset_32 == kIn64 ? 8 : 0) +
                            (disk == UINT16_MAX ? 4 : 0);
    if (!zip64 || zip64->size() != expected) {
      return FailAt(source, entry.name,
                    fmt::format("byte {}: the ZIP directory's extra fields of the entry are malformed; the file is "
                                "damaged: fetch it again",
                                place.begin + at));
    }
    Fields large(*zip64);
    entry.size_bytes = size_32 == kIn64 ? large.U64() : size_32;
    const uint64_t stored_bytes = stored_32 == kIn64 ? large.U64() : stored_32;
    entry.header_offset = offset_32 == kIn64 ? large.U64() : offset_32;
    if ((disk == UINT16_MAX ? large.U32() : disk) != 0) {
      return FailAt(source, entry.name, "is on another disk of a ZIP archive of several, which is not supported",
                    ErrorCode::kUnsupported);
    }
    if (entry.method == 0 && stored_bytes != entry.size_bytes) {
      return FailAt(source, entry.name,
                    fmt::format("is stored, but has {} bytes in the archive and {} outside; the file is damaged: fetch "
                                "it again",
                                stored_bytes, entry.size_bytes));
    }
    directory.entries_.push_back(entry);
    if (directory.entries_.size() > place.num_entries) break;
  }
  auto& entries = directory.entries_;
  if (entries.size() != place.num_entries) {
    return malformed(
        0, fmt::format("the ZIP directory does not have the {} entries that the end record says", place.num_entries));
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const ZipEntry& a, const ZipEntry& b) { return a.header_offset < b.header_offset; });
  auto& by_name = directory.by_name_;
  by_name.resize(entries.size());
  std::iota(by_name.begin(), by_name.end(), 0u);
  std::sort(by_name.begin(), by_name.end(),
            [&](uint32_t a, uint32_t b) { return CompareNoCase(entries[a].name, entries[b].name) < 0; });
  const auto twice = std::adjacent_find(by_name.begin(), by_name.end(), [&](uint32_t a, uint32_t b) {
    return CompareNoCase(entries[a].name, entries[b].name) == 0;
  });
  if (twice != by_name.end()) {
    return FailAt(
        source, entries[*(twice + 1)].name,
        "stands in the archive twice (letters' case does not count): readers would disagree on which is meant");
  }
  return directory;
}

const ZipEntry* ZipDirectory::Find(std::string_view name) const {
  const auto place = std::lower_bound(by_name_.begin(), by_name_.end(), name, [this](uint32_t i, std::string_view n) {
    return CompareNoCase(entries_[i].name, n) < 0;
  });
  return place != by_name_.end() && entries_[*place].name == name ? &entries_[*place] : nullptr;
}

Result<void> ZipDirectory::ResolveEntries(const io::ByteSource& source) {
  for (const ZipEntry& entry : entries_) {
    if ((entry.flags & kEncrypted) != 0) {
      return FailAt(source, entry.name, "is encrypted, which is not supported: decrypt the archive first",
                    ErrorCode::kUnsupported);
    }
    if (entry.method != 0) {
      return FailAt(source, entry.name,
                    fmt::format("is compressed ({}); only stored entries can be read in place, and PyTorch writes no "
                                "other: save the file again with torch.save",
                                MethodName(entry.method)),
                    ErrorCode::kUnsupported);
    }
    if ((entry.flags & ~kKnownFlags) != 0) {
      return FailAt(source, entry.name, fmt::format("has ZIP flags {:#x}, which are not supported", entry.flags),
                    ErrorCode::kUnsupported);
    }
  }

  // Between the data of two entries stand the descriptor of the first and the header of the second: one read for both.
  constexpr uint64_t kUsualExtraBytes = 100;
  uint64_t data_end = 0;
  std::string bytes;
  // The bytes [data_end, header) hold the descriptor of `entry` and nothing else.
  const auto check_gap = [&](const ZipEntry* entry, uint64_t header) -> Result<void> {
    const uint64_t gap = header - data_end;
    if (entry == nullptr || (entry->flags & kDescriptor) == 0) {
      if (gap == 0) return {};
      return FailIn(ErrorCode::kCorrupt, source.name(),
                    fmt::format("{} bytes from byte {} on belong to no entry of the ZIP archive: something was put {} "
                                "it; fetch the file again",
                                gap, data_end, entry == nullptr ? "before" : "into"));
    }
    const bool is_64 = gap == 24 || gap == 20, has_mark = gap == 24 || gap == 16;
    bool good = is_64 || gap == 16 || gap == 12;
    if (good) {
      Fields fields(std::string_view(bytes).substr(0, gap));
      good = !has_mark || fields.U32() == kDescriptorMark;
      const uint32_t crc = fields.U32();
      const uint64_t stored_bytes = is_64 ? fields.U64() : fields.U32();
      const uint64_t size_bytes = is_64 ? fields.U64() : fields.U32();
      good = good && crc == entry->crc32 && stored_bytes == entry->size_bytes && size_bytes == entry->size_bytes;
    }
    if (good) return {};
    return FailAt(source, entry->name,
                  fmt::format("byte {}: what follows the entry is not a descriptor that says what the ZIP directory "
                              "says; the file is damaged: fetch it again",
                              data_end));
  };

  const ZipEntry* last = nullptr;
  for (ZipEntry& entry : entries_) {
    if (entry.header_offset < data_end) {
      return FailAt(source, entry.name,
                    fmt::format("begins at byte {}, inside the entry {}: entries overlap", entry.header_offset,
                                Printable(last->name)));
    }
    const auto differs = [&](std::string_view what) {
      return FailAt(source, entry.name,
                    fmt::format("byte {}: the local header and the ZIP directory differ in the {}: readers would "
                                "disagree on what is there; fetch the file again",
                                entry.header_offset, what));
    };
    const uint64_t gap = entry.header_offset - data_end;
    const uint64_t least = kLocalBytes + entry.name.size();
    if (entry.header_offset > begin_ || least > begin_ - entry.header_offset) return differs("offset");
    if (gap > kMostDescriptorBytes) SLUICE_TRY(check_gap(last, entry.header_offset));  // never right; not read
    const auto read = [&](uint64_t size_bytes) {
      bytes.resize(size_bytes);
      return source.Read(data_end, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
    };
    SLUICE_TRY(read(std::min(gap + least + kUsualExtraBytes, begin_ - data_end)));
    SLUICE_TRY(check_gap(last, entry.header_offset));

    Fields fields(std::string_view(bytes).substr(gap));
    if (fields.U32() != kLocalMark) return differs("offset");
    fields.U16();  // version
    const uint16_t flags = fields.U16(), method = fields.U16();
    fields.U32();  // time and date
    const uint32_t crc = fields.U32(), stored_32 = fields.U32(), size_32 = fields.U32();
    const uint16_t name_bytes = fields.U16(), extra_bytes = fields.U16();
    const uint64_t header_bytes = least + extra_bytes;
    if (name_bytes != entry.name.size() || fields.Bytes(name_bytes) != entry.name) return differs("name");
    if (flags != entry.flags) return differs("flags");
    if (method != entry.method) return differs("method");
    if (header_bytes > begin_ - entry.header_offset) return differs("size");
    if (gap + header_bytes > bytes.size()) SLUICE_TRY(read(gap + header_bytes));
    const auto zip64 = FindZip64(std::string_view(bytes).substr(gap + least, extra_bytes));
    if (!zip64) return differs("extra fields");

    // With a descriptor behind the data, the header may leave numbers at 0. PyTorch's writer does, and its zip64 field
    // holds sizes where they are large, the offset where that is, or both, though the header does not ask for them.
    const bool may_be_0 = (flags & kDescriptor) != 0;
    const auto is_size = [&](uint64_t size) { return size == entry.size_bytes || (may_be_0 && size == 0); };
    if (!(crc == entry.crc32 || (may_be_0 && crc == 0))) return differs("CRC");
    bool good = true;
    Fields large(*zip64);
    switch (zip64->size()) {
      case 0:
        good = is_size(size_32) && is_size(stored_32);
        break;
      case 8:
        good = is_size(size_32) && is_size(stored_32) && large.U64() == entry.header_offset;
        break;
      case 16:
      case 24:
        good = (size_32 == kIn64 || is_size(size_32)) && (stored_32 == kIn64 || is_size(stored_32)) &&
               is_size(large.U64()) && is_size(large.U64()) &&
               (zip64->size() == 16 || large.U64() == entry.header_offset);
        break;
      default:
        good = false;
    }
    if (!good) return differs("sizes");

    entry.data_offset = entry.header_offset + header_bytes;
    if (entry.size_bytes > begin_ - entry.data_offset) {
      return FailAt(source, entry.name,
                    fmt::format("{} bytes from byte {} on pass the ZIP directory at byte {}: entries overlap",
                                entry.size_bytes, entry.data_offset, begin_));
    }
    data_end = entry.data_offset + entry.size_bytes;
    last = &entry;
  }
  const uint64_t gap = begin_ - data_end;
  bytes.assign(gap <= kMostDescriptorBytes ? gap : 0, '\0');
  SLUICE_TRY(source.Read(data_end, {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()}));
  return check_gap(last, begin_);
}

uint32_t Crc32(std::span<const uint8_t> bytes, uint32_t crc) {
  static constexpr auto kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < table.size(); ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? 0xedb88320u : 0);
      table[i] = value;
    }
    return table;
  }();
  crc = ~crc;
  for (const uint8_t byte : bytes) crc = crc >> 8 ^ kTable[(crc ^ byte) & 0xff];
  return ~crc;
}

}  // namespace sluice::formats
