#include "formats/zip_archive.h"

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"
#include "io/memory_source.h"
#include "io/recording_source.h"
#include "tests/support/torch_builder.h"

namespace sluice::formats {
namespace {

using ::testing::HasSubstr;
using tests::BuildZip;
using tests::LittleEndian;
using tests::PlainMember;
using tests::TorchMember;
using tests::ZipMember;

Result<ZipDirectory> Open(const io::ByteSource& source) {
  SLUICE_ASSIGN(ZipDirectory zip, ZipDirectory::Read(source));
  SLUICE_TRY(zip.ResolveEntries(source));
  return zip;
}

std::string ErrorOf(const std::string& bytes, ErrorCode code = ErrorCode::kCorrupt) {
  const io::MemorySource source("x.zip", bytes);
  const auto zip = Open(source);
  EXPECT_FALSE(zip);
  if (zip) return "";
  EXPECT_STREQ(CodeName(zip.error().code), CodeName(code)) << zip.error().ToString();
  EXPECT_THAT(zip.error().ToString(), HasSubstr("x.zip: "));
  return zip.error().ToString();
}

// What the archive says its entries hold, read by range.
void ExpectEntries(const std::string& bytes, const std::vector<std::pair<std::string, std::string>>& entries) {
  const io::MemorySource source("x.zip", bytes);
  const auto zip = Open(source);
  ASSERT_TRUE(zip) << zip.error().ToString();
  ASSERT_EQ(zip->size(), entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    const ZipEntry& entry = (*zip)[i];
    EXPECT_EQ(entry.name, entries[i].first);
    EXPECT_EQ(bytes.substr(entry.data_offset, entry.size_bytes), entries[i].second);
    EXPECT_EQ(zip->Find(entry.name), &entry);
  }
  EXPECT_EQ(zip->Find("absent"), nullptr);
}

TEST(ZipArchive, PlainAndTorchEntriesWithAndWithoutZip64) {
  for (const bool zip64 : {false, true}) {
    ExpectEntries(BuildZip({}, {.zip64 = zip64}), {});
    ExpectEntries(
        BuildZip({PlainMember("a/b", "one"), TorchMember("a/c", "second"), TorchMember("a/d", "")}, {.zip64 = zip64}),
        {{"a/b", "one"}, {"a/c", "second"}, {"a/d", ""}});
  }
}

TEST(ZipArchive, EveryFormOfDescriptor) {
  ZipMember bare = TorchMember("bare", "12345");
  bare.descriptor = bare.descriptor.substr(4);  // without its mark
  ZipMember wide = TorchMember("wide", "12345");
  wide.descriptor =
      "PK\x07\x08" + LittleEndian(wide.central.crc) + LittleEndian(uint64_t{5}) + LittleEndian(uint64_t{5});
  ZipMember bare_wide = TorchMember("bare_wide", "12345");
  bare_wide.descriptor = wide.descriptor.substr(4);
  ExpectEntries(BuildZip({bare, wide, bare_wide}), {{"bare", "12345"}, {"wide", "12345"}, {"bare_wide", "12345"}});

  for (size_t at = 4; at < 16; ++at) {  // CRC and sizes
    ZipMember wrong = TorchMember("wrong", "12345");
    wrong.descriptor[at] ^= 1;
    EXPECT_THAT(ErrorOf(BuildZip({wrong})), HasSubstr("wrong: byte 48: what follows the entry is not a descriptor"));
  }
  ZipMember none = TorchMember("none", "12345");
  none.descriptor.clear();
  EXPECT_THAT(ErrorOf(BuildZip({none})), HasSubstr("is not a descriptor"));
}

TEST(ZipArchive, Zip64Fields) {
  // The directory's numbers are in its zip64 field as far as they do not fit.
  ZipMember large = PlainMember("large", "12345");
  large.central.size_bytes = large.central.stored_bytes = UINT32_MAX;
  large.offset = UINT32_MAX;
  const std::string field = LittleEndian(uint16_t{1}) + LittleEndian(uint16_t{24}) + LittleEndian(uint64_t{5}) +
                            LittleEndian(uint64_t{5}) + LittleEndian(uint64_t{0});
  large.central.extra = field;
  ExpectEntries(BuildZip({large}), {{"large", "12345"}});
  large.local.extra = field;
  large.local.size_bytes = large.local.stored_bytes = UINT32_MAX;
  ExpectEntries(BuildZip({large}), {{"large", "12345"}});

  ZipMember wrong = large;
  wrong.local.extra[4] = 6;
  EXPECT_THAT(ErrorOf(BuildZip({wrong})), HasSubstr("differ in the sizes"));
  wrong = large;
  wrong.local.extra[20] = 6;  // the offset
  EXPECT_THAT(ErrorOf(BuildZip({wrong})), HasSubstr("differ in the sizes"));
  for (const std::string& extra : {std::string(), field.substr(0, 20), field + field, field + "x",
                                   LittleEndian(uint16_t{1}) + LittleEndian(uint16_t{9})}) {
    wrong = large;
    wrong.central.extra = extra;
    EXPECT_THAT(ErrorOf(BuildZip({wrong})), HasSubstr("extra fields of the entry are malformed"));
  }
  ZipMember unasked = PlainMember("unasked", "12345");  // two readers, two sizes
  unasked.central.extra = LittleEndian(uint16_t{1}) + LittleEndian(uint16_t{8}) + LittleEndian(uint64_t{3});
  EXPECT_THAT(ErrorOf(BuildZip({unasked})), HasSubstr("extra fields of the entry are malformed"));

  // PyTorch's writer past 4 GiB: zeros in the local header, and a zip64 field all the same, its stored size 0 too.
  ZipMember torch = TorchMember("torch", "12345");
  torch.local.extra =
      LittleEndian(uint16_t{1}) + LittleEndian(uint16_t{16}) + LittleEndian(uint64_t{5}) + LittleEndian(uint64_t{0});
  ExpectEntries(BuildZip({torch}), {{"torch", "12345"}});
  torch.local.extra = LittleEndian(uint16_t{1}) + LittleEndian(uint16_t{8}) + LittleEndian(uint64_t{0});
  ExpectEntries(BuildZip({torch}), {{"torch", "12345"}});
}

TEST(ZipArchive, HeadersThatDiffer) {
  const auto with = [](auto change) {
    ZipMember member = PlainMember("entry", "12345");
    change(member.local);
    return BuildZip({PlainMember("first", "1"), member});
  };
  using Header = ZipMember::Header;
  EXPECT_THAT(ErrorOf(with([](Header& h) { h.name = "other"; })),
              HasSubstr("entry: byte 36: the local header and the ZIP directory differ in the name"));
  EXPECT_THAT(ErrorOf(with([](Header& h) { h.name = "entr"; })), HasSubstr("differ in the name"));
  EXPECT_THAT(ErrorOf(with([](Header& h) { h.name = "entry2"; })), HasSubstr("differ in the name"));
  EXPECT_THAT(ErrorOf(with([](Header& h) { h.flags = 8; })), HasSubstr("differ in the flags"));
  EXPECT_THAT(ErrorOf(with([](Header& h) { h.method = 8; })), HasSubstr("differ in the method"));
  EXPECT_THAT(ErrorOf(with([](Header& h) { h.crc ^= 1; })), HasSubstr("differ in the CRC"));
  EXPECT_THAT(ErrorOf(with([](Header& h) { h.size_bytes = 4; })), HasSubstr("differ in the sizes"));
  EXPECT_THAT(ErrorOf(with([](Header& h) { h.stored_bytes = 4; })), HasSubstr("differ in the sizes"));
  EXPECT_THAT(ErrorOf(with([](Header& h) { h.size_bytes = h.stored_bytes = 0; })), HasSubstr("differ in the sizes"));
  EXPECT_THAT(ErrorOf(with([](Header& h) { h.extra = "abc"; })), HasSubstr("differ in the extra fields"));
  ZipMember elsewhere = PlainMember("entry", "12345");
  elsewhere.offset = 3;
  EXPECT_THAT(ErrorOf(BuildZip({elsewhere})), HasSubstr("belong to no entry"));
  ZipMember torch = TorchMember("torch", "12345");
  torch.local.size_bytes = 4;
  EXPECT_THAT(ErrorOf(BuildZip({torch})), HasSubstr("differ in the sizes"));
}

TEST(ZipArchive, NamesThatAreNotPlainOrOccurTwice) {
  for (const std::string name : {"../x", "a/../x", "/x", "a//x", "a/", "a\\x", "C:x", "./x", "a/.", "", "a\xff"}) {
    EXPECT_THAT(ErrorOf(BuildZip({PlainMember(name, "1")})), HasSubstr("is not a plain path inside the archive"))
        << name;
  }
  EXPECT_THAT(ErrorOf(BuildZip({PlainMember(std::string("a\0b", 3), "1")})), HasSubstr("is not a plain path"));
  ExpectEntries(BuildZip({PlainMember("a..b/..c", "1")}), {{"a..b/..c", "1"}});
  EXPECT_THAT(ErrorOf(BuildZip({PlainMember("a", "1"), PlainMember("b", "1"), PlainMember("a", "2")})),
              HasSubstr("a: stands in the archive twice"));
  EXPECT_THAT(ErrorOf(BuildZip({PlainMember("a/data.pkl", "1"), PlainMember("a/Data.pkl", "2")})),
              HasSubstr("stands in the archive twice (letters' case does not count)"));
}

TEST(ZipArchive, CompressionAndEncryption) {
  const auto with = [](uint16_t flags, uint16_t method) {
    ZipMember member = PlainMember("entry", "12345");
    member.local.flags = member.central.flags = flags;
    member.local.method = member.central.method = method;
    return BuildZip({member});
  };
  EXPECT_THAT(ErrorOf(with(0, 8), ErrorCode::kUnsupported), HasSubstr("entry: is compressed (deflate)"));
  EXPECT_THAT(ErrorOf(with(0, 93), ErrorCode::kUnsupported), HasSubstr("is compressed (zstd)"));
  for (const uint16_t flags : {1, 1 << 6 | 1, 1 << 13}) {
    EXPECT_THAT(ErrorOf(with(flags, 0), ErrorCode::kUnsupported), HasSubstr("entry: is encrypted"));
  }
  EXPECT_THAT(ErrorOf(with(1 << 5, 0), ErrorCode::kUnsupported), HasSubstr("has ZIP flags 0x20"));
}

TEST(ZipArchive, EntriesThatOverlap) {
  ZipMember first = PlainMember("first", "12345"), second = PlainMember("second", "12345");
  second.offset = 0;
  EXPECT_THAT(ErrorOf(BuildZip({first, second})), HasSubstr("inside the entry first: entries overlap"));
  // One entry's data hold a whole other entry.
  const std::string inner = BuildZip({PlainMember("inner", "12345")}).substr(0, 30 + 5 + 5);
  ZipMember outer = PlainMember("outer", inner), nested = PlainMember("inner", "12345");
  nested.offset = 35;
  EXPECT_THAT(ErrorOf(BuildZip({outer, nested})),
              HasSubstr("inner: begins at byte 35, inside the entry outer: entries overlap"));
  ZipMember past = PlainMember("past", "12345");
  for (auto* header : {&past.local, &past.central}) header->size_bytes = header->stored_bytes = 6;
  EXPECT_THAT(ErrorOf(BuildZip({past})), HasSubstr("6 bytes from byte 34 on pass the ZIP directory at byte 39"));
}

TEST(ZipArchive, BytesThatBelongToNoEntry) {
  const ZipMember member = PlainMember("entry", "12345");
  EXPECT_THAT(ErrorOf(BuildZip({member}, {.before = "MZ garbage"})),
              HasSubstr("10 bytes from byte 0 on belong to no entry"));
  EXPECT_THAT(ErrorOf("MZ" + BuildZip({member})), HasSubstr("something was put before, after or between"));
  EXPECT_THAT(ErrorOf("MZ" + BuildZip({member}, {.zip64 = true})), HasSubstr("not where its locator says"));
  EXPECT_THAT(ErrorOf(BuildZip({member}, {.between = "x"})), HasSubstr("1 bytes from byte 40 on belong to no entry"));
  EXPECT_THAT(ErrorOf(BuildZip({member}, {.between = std::string(100, 'x')})), HasSubstr("100 bytes from byte 40 on"));
  EXPECT_THAT(ErrorOf(BuildZip({member}, {.after = "x"})), HasSubstr("not in the last 22 bytes"));
  std::string comment = BuildZip({member}, {.after = "comment"});
  comment[comment.size() - 9] = 7;  // said to be a comment
  EXPECT_THAT(ErrorOf(comment), HasSubstr("not in the last 22 bytes"));
  const std::string two = BuildZip({member}) + BuildZip({member});
  EXPECT_THAT(ErrorOf(two), HasSubstr("something was put before, after or between"));
}

TEST(ZipArchive, EndsThatDoNotFit) {
  const ZipMember member = PlainMember("entry", "12345");
  EXPECT_THAT(ErrorOf(BuildZip({member}, {.disk = 1}), ErrorCode::kUnsupported), HasSubstr("several disks"));
  EXPECT_THAT(ErrorOf(BuildZip({member}, {.zip64 = true, .num_disks64 = 2}), ErrorCode::kUnsupported),
              HasSubstr("several disks"));
  ZipMember far = member;
  far.disk = 1;
  EXPECT_THAT(ErrorOf(BuildZip({far}), ErrorCode::kUnsupported), HasSubstr("another disk"));
  for (const bool zip64 : {false, true}) {
    EXPECT_THAT(ErrorOf(BuildZip({member}, {.zip64 = zip64, .entries_more = 1})),
                HasSubstr("does not have the 2 entries"));
    EXPECT_THAT(ErrorOf(BuildZip({member}, {.zip64 = zip64, .size_more = 1})), HasSubstr("has to end at byte"));
  }
  std::string differ = BuildZip({member}, {.zip64 = true});
  differ[differ.size() - 12] = 2;  // entries in the second end record
  differ[differ.size() - 14] = 2;
  EXPECT_THAT(ErrorOf(differ), HasSubstr("the two end records of the ZIP archive differ"));
  EXPECT_THAT(ErrorOf(BuildZip({member, member}, {.entries_more = 65535})), HasSubstr("does not have the 1 entries"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("a ZIP archive has at least 22 bytes, this file 0"));
}

TEST(ZipArchive, EveryCutAndEveryFlippedByteIsAnErrorOrHarmless) {
  const std::string whole = BuildZip({PlainMember("a/x", "one"), TorchMember("a/y", "second")}, {.zip64 = true});
  for (size_t size = 0; size < whole.size(); ++size) {
    const io::MemorySource source("x.zip", whole.substr(0, size));
    EXPECT_FALSE(Open(source)) << size;
  }
  const io::MemorySource original("x.zip", whole);
  const auto expected = Open(original);
  ASSERT_TRUE(expected);
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string bytes = whole;
    bytes[at] ^= 0x10;
    const io::MemorySource source("x.zip", bytes);
    const auto zip = Open(source);
    if (!zip) continue;
    for (size_t i = 0; i < zip->size(); ++i) {  // times, versions, attributes: nothing that is used
      EXPECT_EQ((*zip)[i].name, (*expected)[i].name) << at;
      EXPECT_EQ((*zip)[i].data_offset, (*expected)[i].data_offset) << at;
      EXPECT_EQ((*zip)[i].size_bytes, (*expected)[i].size_bytes) << at;
    }
  }
}

TEST(ZipArchive, ReadsHeadersAlone) {
  std::vector<ZipMember> members;
  members.reserve(10);
  for (int i = 0; i < 10; ++i)
    members.push_back(TorchMember("archive/data/" + std::to_string(i), std::string(100'000, 'x')));
  const auto source = std::make_shared<io::RecordingSource>(
      std::make_shared<io::MemorySource>("x.zip", BuildZip(members, {.zip64 = true})));
  ASSERT_TRUE(Open(*source));
  uint64_t read = 0;
  for (const auto& one : source->reads()) read += one.size_bytes;
  EXPECT_LT(read, 10 * 250u + 2000u);
  EXPECT_LE(source->reads().size(), 13u);  // the end, the directory, one for each entry, the last descriptor
}

TEST(ZipArchive, Crc32) {
  const std::string_view check = "123456789";  // the check value of the CRC catalogue
  EXPECT_EQ(tests::CrcOf(check), 0xcbf43926u);
  const auto bytes = [](std::string_view s) { return std::span(reinterpret_cast<const uint8_t*>(s.data()), s.size()); };
  EXPECT_EQ(Crc32(bytes(check.substr(4)), Crc32(bytes(check.substr(0, 4)))), 0xcbf43926u);
}

}  // namespace
}  // namespace sluice::formats
