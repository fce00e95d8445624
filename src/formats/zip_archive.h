// A ZIP archive of stored entries, read strictly and by range. docs/formats/torch.md, "The archive", has the rules.
//
// Two readers of ZIP that believe different parts of a file can be shown two different archives. So every byte has to
// be accounted for once: local headers say what the central directory says, entries follow each other without gaps, and
// nothing stands before the first or after the end record. What is read: the end, the directory and each local header;
// of the entries' data nothing. Memory: the directory (kMaxZipDirectoryBytes) and about 50 bytes an entry.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/byte_source.h"

namespace sluice::formats {

// More than any model has; archives beyond are refused.
constexpr uint64_t kMaxZipEntries = 200'000;
constexpr uint64_t kMaxZipDirectoryBytes = 64 << 20;

struct ZipEntry {
  std::string_view name;  // lives as long as the directory
  uint64_t header_offset = 0, size_bytes = 0;
  uint64_t data_offset = 0;  // 0 until ResolveZipEntries has found it
  uint32_t crc32 = 0;        // 0 where the writer left it out
  uint16_t flags = 0, method = 0;
};

// What the central directory says: not yet held against the local headers. Immutable; thread-safe.
class ZipDirectory {
 public:
  ZipDirectory(ZipDirectory&&) = default;
  ZipDirectory& operator=(ZipDirectory&&) = default;

  // kCorrupt: not a ZIP archive, cut short, something appended; a malformed record; names that occur twice (letters'
  // case does not count: PyTorch's own reader ignores it), leave the archive or are not plain. kUnsupported: several
  // disks, too many entries.
  static Result<ZipDirectory> Read(const io::ByteSource& source);

  size_t size() const { return entries_.size(); }
  const ZipEntry& operator[](size_t i) const { return entries_[i]; }  // in the order of their bytes
  const ZipEntry* Find(std::string_view name) const;                  // null where there is none

  // Reads all local headers and sets data_offset. kUnsupported for compression and encryption; kCorrupt where a local
  // header differs from the directory, entries overlap, or bytes belong to none.
  Result<void> ResolveEntries(const io::ByteSource& source);

 private:
  ZipDirectory() = default;
  std::string text_;  // the directory as it stands in the file; names are in it
  uint64_t begin_ = 0;
  std::vector<ZipEntry> entries_;
  std::vector<uint32_t> by_name_;
};

// Of ZIP and PNG: reflected, polynomial 0xedb88320. `crc`: what came before.
uint32_t Crc32(std::span<const uint8_t> bytes, uint32_t crc = 0);

}  // namespace sluice::formats
