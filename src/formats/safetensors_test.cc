#include "formats/safetensors.h"

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/testing/tiny_models.h"
#include "formats/recognise.h"
#include "io/recording_source.h"

namespace sluice::formats {
namespace {

using E = SafetensorsError;
using ::testing::HasSubstr;

std::string File(std::string_view header, std::string_view data = {}) {
  std::string file;
  for (int i = 0; i < 8; ++i) file += static_cast<char>((uint64_t{header.size()} >> (8 * i)) & 0xff);
  file += header;
  file += data;
  return file;
}

std::string Entry(std::string_view name, std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, dtype, shape, offsets);
}

// One U8 tensor of 4 bytes with one field replaced.
std::string With(std::string_view field, std::string_view value) {
  std::string dtype = R"("U8")", shape = "[4]", offsets = "[0,4]";
  (field == "dtype" ? dtype : field == "shape" ? shape : offsets) = value;
  return fmt::format(R"({{"w":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
}

std::string Zeros(size_t n) { return std::string(n, '\0'); }
std::string Nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

Result<SafetensorsHeader> Parse(const std::string& file, E* why = nullptr) {
  return ParseSafetensorsHeader(file, file.size(), "x.safetensors", why);
}

struct Attack {
  const char* label;
  std::string file;
  E expected;
  const char* message;  // a part of it
};

std::vector<Attack> Attacks() {
  std::vector<Attack> attacks;
  const auto add = [&](const char* label, std::string file, E expected, const char* message = "") {
    attacks.push_back({label, std::move(file), expected, message});
  };
  const std::string four = Zeros(4);
  const auto header = [&](const char* label, const std::string& json, E expected, const char* message = "") {
    add(label, File(json, four), expected, message);
  };

  // The first bytes.
  add("empty", "", E::kTooSmall, "the file is empty");
  add("seven bytes", Zeros(7), E::kTooSmall, "has 7 bytes");
  add("all zero", Zeros(100), E::kAllZero, "first 100 bytes are zero");
  add("just N = 0", Zeros(8), E::kAllZero);
  add("N = 0 and data", Zeros(8) + "data", E::kEmptyHeader, "0 bytes");
  add("N one over the cap", File("{}").replace(0, 8, std::string("\x01\xe1\xf5\x05\0\0\0\0", 8)), E::kHeaderTooLarge,
      "100,000,001");
  add("N at the cap, past the end", File("{}").replace(0, 8, std::string("\x00\xe1\xf5\x05\0\0\0\0", 8)),
      E::kHeaderPastEnd, "byte 100000008");
  add("N of all ones", File("{}").replace(0, 8, "\xff\xff\xff\xff\xff\xff\xff\xff"), E::kHeaderTooLarge);
  add("N one past the end", File("{}").replace(0, 1, "\x03"), E::kHeaderPastEnd, "byte 11");
  add("LFS pointer",
      "version https://git-lfs.github.com/spec/v1\noid "
      "sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
      "size 4976698672\n",
      E::kLfsPointer, "pointer for 4976698672 bytes of weights, not the file itself: run `git lfs pull`");
  add("HTML", "\n<!DOCTYPE html><html><head><title>Sign in</title>", E::kHtml, "an HTML page");
  add("HTML without doctype", "<HTML><body>404</body></HTML>", E::kHtml);
  add("GGUF", std::string("GGUF\x03\0\0\0", 8) + Zeros(64), E::kGguf, "a GGUF file");
  add("ZIP", std::string("PK\x03\x04\x14\0\0\x08\x08\0", 10) + Zeros(64), E::kZip, "a ZIP archive");
  add("ZIP whose N passes", std::string("PK\x03\x04\0\0\0\0", 8) + Zeros(0x04034b50), E::kZip);
  add("some text", "Access to model meta is restricted", E::kText, "begins with \"Access to model");

  // JSON.
  header("not UTF-8", With("dtype", "\"U8\xff\""), E::kNotUtf8, "byte 25: byte 0xff is not UTF-8");
  header("overlong UTF-8", With("dtype", "\"\xc0\xaf\""), E::kNotUtf8);
  header("surrogate in UTF-8", With("dtype", "\"\xed\xa0\x80\""), E::kNotUtf8);
  header("above U+10FFFF", With("dtype", "\"\xf4\x90\x80\x80\""), E::kNotUtf8);
  header("cut UTF-8 at the end", "{}\xe2\x82", E::kNotUtf8);
  header("byte-order mark", "\xef\xbb\xbf{}", E::kByteOrderMark, "byte-order mark");
  header("NUL padding", "{}" + Zeros(6), E::kTrailingJson, "byte 10: byte 0x00 after the end");
  header("two objects", "{}{}", E::kTrailingJson);
  header("array root", "[]", E::kRootNotObject, "an array, not an object");
  header("null root", "null", E::kRootNotObject);
  header("string root", "\"{}\"", E::kRootNotObject);
  header("blank header", "        ", E::kJson, "the text ends");
  header("trailing comma in root", "{" + Entry("w", "U8", "[4]", "[0,4]") + ",}", E::kJson, "a trailing comma");
  header("trailing comma in shape", With("shape", "[4,]"), E::kJson, "a trailing comma");
  header("leading comma", "{," + Entry("w", "U8", "[4]", "[0,4]") + "}", E::kJson);
  header("comment", "{/* */" + Entry("w", "U8", "[4]", "[0,4]") + "}", E::kJson, "no comments");
  header("single quotes", "{'w':{}}", E::kJson, "double quotes");
  header("unquoted key", "{w:{}}", E::kJson);
  header("missing colon", "{\"w\" {}}", E::kJson);
  header("missing comma", "{" + Entry("v", "U8", "[0]", "[0,0]") + Entry("w", "U8", "[4]", "[0,4]") + "}", E::kJson);
  header("wrong bracket", "{\"w\":{]}", E::kJson);
  header("cut object", "{\"w\":{\"dtype\":\"U8\"", E::kJson, "the text ends");
  header("cut string", "{\"w", E::kJson);
  header("bad escape", "{\"\\x41\":{}}", E::kJson);
  header("bad hex", "{\"\\u00g1\":{}}", E::kJson);
  header("raw newline in a string", With("dtype", "\"U8\n\""), E::kControlCharacter, "0x0a");
  header("raw NUL in a string", With("dtype", std::string("\"U8\0\"", 5)), E::kControlCharacter);
  header("lone high surrogate", R"({"\ud83d":{}})", E::kLoneSurrogate, "ud83d");
  header("lone low surrogate", R"({"\ude00":{}})", E::kLoneSurrogate);
  header("two high surrogates", R"({"\ud83d\ud83d":{}})", E::kLoneSurrogate);
  header("nesting in shape", With("shape", Nested(129)), E::kTooDeep);
  header("nesting in a field nobody reads", "{\"w\":{\"x\":" + Nested(200) + "}}", E::kTooDeep, "128 levels");
  header("nesting in metadata", "{\"__metadata__\":{\"x\":" + Nested(100000) + "}}", E::kTooDeep);

  // Metadata.
  header("metadata null", "{\"__metadata__\":null}", E::kMetadataNotObject, "null, not a map");
  header("metadata array", "{\"__metadata__\":[]}", E::kMetadataNotObject);
  header("metadata number", "{\"__metadata__\":{\"a\":1}}", E::kMetadataNotString, "\"a\" to a number");
  header("metadata null value", "{\"__metadata__\":{\"a\":null}}", E::kMetadataNotString);
  header("metadata nested", "{\"__metadata__\":{\"a\":{}}}", E::kMetadataNotString);
  header("two metadata", "{\"__metadata__\":{},\"__metadata__\":{}}", E::kMetadataTwice);
  header("two metadata, one escaped", R"({"__metadata__":{},"\u005f_metadata__":{}})", E::kMetadataTwice);
  header("duplicate key in metadata", R"({"__metadata__":{"a":"1","b":"2","a":"1"}})", E::kMetadataDuplicateKey,
         "\"a\"");
  header("duplicate key in metadata, escaped", R"({"__metadata__":{"a":"1","\u0061":"2"}})", E::kMetadataDuplicateKey);

  // Names.
  header("empty name", "{" + Entry("", "U8", "[4]", "[0,4]") + "}", E::kEmptyName);
  header("NUL in a name", "{" + Entry("a\\u0000b", "U8", "[4]", "[0,4]") + "}", E::kNulInName);
  header("duplicate name", "{" + Entry("w", "U8", "[2]", "[0,2]") + "," + Entry("w", "U8", "[2]", "[2,4]") + "}",
         E::kDuplicateTensor,
         "x.safetensors: w: byte 61: the tensor stands here a second time, the first was at byte 9");
  header("duplicate name, escaped",
         "{" + Entry("a", "U8", "[2]", "[0,2]") + "," + Entry("\\u0061", "U8", "[2]", "[2,4]") + "}",
         E::kDuplicateTensor);

  // Entries.
  header("null tensor", "{\"w\":null}", E::kEntryNotObject, "by null");
  header("entry as an array", R"({"w":["U8",[4],[0,4]]})", E::kEntryNotObject, "by an array");
  header("unknown field", R"({"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}})", E::kUnknownField, "\"x\"");
  header("dtype twice", R"({"w":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}})", E::kDuplicateField);
  header("shape twice", R"({"w":{"dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4]}})", E::kDuplicateField);
  header("offsets twice, escaped", R"({"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"data\u005foffsets":[0,4]}})",
         E::kDuplicateField);
  header("no dtype", R"({"w":{"shape":[4],"data_offsets":[0,4]}})", E::kMissingField, "\"dtype\" is missing");
  header("no shape", R"({"w":{"dtype":"U8","data_offsets":[0,4]}})", E::kMissingField, "\"shape\" is missing");
  header("no offsets", R"({"w":{"dtype":"U8","shape":[4]}})", E::kMissingField, "\"data_offsets\" is missing");
  header("empty entry", "{\"w\":{}}", E::kMissingField);
  header("unknown dtype", With("dtype", "\"Q8\""), E::kUnknownDtype, "\"Q8\"");
  header("a block encoding", With("dtype", "\"Q4_1\""), E::kUnknownDtype);
  header("lower-case dtype", With("dtype", "\"u8\""), E::kUnknownDtype, "the format calls it U8");
  header("F8_E4M3FN", With("dtype", "\"F8_E4M3FN\""), E::kUnknownDtype, "the format calls it F8_E4M3)");
  header("empty dtype", With("dtype", "\"\""), E::kUnknownDtype);
  header("dtype as a map", With("dtype", "{\"U8\":null}"), E::kDtypeNotString, "an object");
  header("dtype null", With("dtype", "null"), E::kDtypeNotString);

  // Dimensions.
  header("scalar shape", With("shape", "4"), E::kShapeNotArray, "a number, not an array");
  header("null shape", With("shape", "null"), E::kShapeNotArray);
  header("negative dim", With("shape", "[-4]"), E::kDimNotInteger, "dimension 0 of \"shape\" is -4");
  header("floating dim", With("shape", "[4.0]"), E::kDimNotInteger, "is 4.0");
  header("exponent dim", With("shape", "[4e0]"), E::kDimNotInteger);
  header("minus zero", With("shape", "[1,-0]"), E::kDimNotInteger, "dimension 1");
  header("string dim", With("shape", "[\"4\"]"), E::kDimNotInteger, "is a string");
  header("boolean dim", With("shape", "[true]"), E::kDimNotInteger);
  header("null dim", With("shape", "[null]"), E::kDimNotInteger);
  header("nested dim", With("shape", "[[4]]"), E::kDimNotInteger);
  header("leading zero", With("shape", "[04]"), E::kJson, "leading zero");
  header("plus sign", With("shape", "[+4]"), E::kJson);
  header("hexadecimal", With("shape", "[0x4]"), E::kJson);
  header("bare fraction", With("shape", "[.5]"), E::kJson);
  header("unfinished fraction", With("shape", "[4.]"), E::kJson);
  header("unfinished exponent", With("shape", "[4e]"), E::kJson);
  header("lone minus", With("shape", "[-]"), E::kJson);
  header("NaN", With("shape", "[NaN]"), E::kJson);
  header("word", With("shape", "[nul]"), E::kJson);
  header("above u64", With("shape", "[18446744073709551616]"), E::kDimTooLarge);
  header("far above u64", With("shape", "[" + std::string(1000, '9') + "]"), E::kDimTooLarge);
  {
    std::string ones = "[4";
    for (int i = 0; i < 64; ++i) ones += ",1";
    header("65 dims", With("shape", ones + "]"), E::kTooManyDims);
  }

  // Offsets.
  header("one offset", With("offsets", "[0]"), E::kOffsetsNotPair, "has 1 numbers");
  header("three offsets", With("offsets", "[0,4,8]"), E::kOffsetsNotPair);
  header("no offsets at all", With("offsets", "[]"), E::kOffsetsNotPair);
  header("floating offset", With("offsets", "[0,4.0]"), E::kOffsetNotInteger);
  header("negative offset", With("offsets", "[-4,0]"), E::kOffsetNotInteger);
  header("string offset", With("offsets", "[\"0\",4]"), E::kOffsetNotInteger);
  header("offsets as an object", With("offsets", "{\"begin\":0,\"end\":4}"), E::kOffsetsNotArray);
  header("offset above u64", With("offsets", "[0,18446744073709551616]"), E::kOffsetTooLarge);
  header("offset that overflows with the header", With("offsets", "[0,18446744073709551615]"), E::kOffsetTooLarge);

  // Places.
  const auto two = [](std::string_view a_shape, std::string_view a, std::string_view b_shape, std::string_view b) {
    return "{" + Entry("a", "U8", a_shape, a) + "," + Entry("b", "U8", b_shape, b) + "}";
  };
  header("reversed", With("offsets", "[0,4]").replace(0, 1, "{" + Entry("v", "U8", "[0]", "[4,0]") + ","),
         E::kReversed);
  header("reversed alone", With("offsets", "[4,0]"), E::kFirstNotZero);
  header("reversed in its place", two("[4]", "[0,4]", "[4]", "[4,0]"), E::kReversed,
         "b: data_offsets [4, 0] end before");
  header("first not at 0", With("offsets", "[1,4]"), E::kFirstNotZero);
  header("a hole", two("[1]", "[0,1]", "[2]", "[2,4]"), E::kHole,
         "b: data_offsets [2, 4] leave a hole of 1 bytes after a [0, 1]");
  header("an overlap", two("[3]", "[0,3]", "[2]", "[2,4]"), E::kOverlap, "b: data_offsets [2, 4] overlap a [0, 3]");
  header("inside another", two("[4]", "[0,4]", "[2]", "[1,3]"), E::kOverlap);
  header("one range for two", two("[4]", "[0,4]", "[4]", "[0,4]"), E::kSameRange, "are those of a");
  header("empty inside another", two("[4]", "[0,4]", "[0]", "[2,2]"), E::kOverlap);
  header("empty past the end", two("[4]", "[0,4]", "[0]", "[5,5]"), E::kHole);
  header("shape and span differ", With("shape", "[3]"), E::kSizeMismatch, "take 3 bytes, data_offsets [0, 4] have 4");
  header("dtype and span differ", With("dtype", "\"I16\""), E::kSizeMismatch);
  header("shape [0] with bytes", With("shape", "[0]"), E::kSizeMismatch);
  header("scalar with 4 bytes", With("shape", "[]"), E::kSizeMismatch);
  header("product overflows", With("shape", "[4294967296,4294967296]"), E::kOverflow);
  header("bits overflow", With("shape", "[4611686018427387904]"), E::kOverflow);
  header("overflow before a zero", With("shape", "[18446744073709551615,18446744073709551615,0]"), E::kOverflow);
  header("overflow behind a zero", With("shape", "[0,18446744073709551615,18446744073709551615]"), E::kOverflow);
  header("product that wraps to the span", With("shape", "[4,4611686018427387905]"), E::kOverflow);
  header("F4 not on a byte", "{" + Entry("w", "F4", "[7]", "[0,4]") + "}", E::kNotWholeBytes, "7 numbers of F4");
  header("F6 not on a byte", "{" + Entry("w", "F6_E2M3", "[5]", "[0,4]") + "}", E::kNotWholeBytes);
  add("truncated by one", File(With("shape", "[4]"), Zeros(3)), E::kTruncated,
      "65 bytes are expected, 64 are there, 1.5% is missing");
  add("end past the file",
      File("{" + Entry("a", "U8", "[4]", "[0,4]") + "," + Entry("b", "U8", "[9]", "[4,13]") + "," +
               Entry("c", "U8", "[9]", "[13,22]") + "}",
           four),
      E::kTruncated, "x.safetensors: b: the file is truncated");
  add("one byte too many", File(With("shape", "[4]"), Zeros(5)), E::kTrailingBytes, "1 bytes follow");
  add("no tensors, but data", File("{}", four), E::kTrailingBytes, "byte 10");
  add("a second file behind", File(With("shape", "[4]"), four) + "PK\x03\x04", E::kTrailingBytes);
  return attacks;
}

TEST(Safetensors, EachAttackHasItsError) {
  for (const Attack& attack : Attacks()) {
    E why = E::kNone;
    const auto header = Parse(attack.file, &why);
    ASSERT_FALSE(header) << attack.label;
    EXPECT_EQ(static_cast<int>(why), static_cast<int>(attack.expected))
        << attack.label << ": " << header.error().ToString();
    EXPECT_EQ(header.error().code, ErrorCode::kCorrupt) << attack.label;
    const std::string text = header.error().ToString();
    EXPECT_THAT(text, HasSubstr(attack.message)) << attack.label;
    EXPECT_THAT(text, ::testing::StartsWith("x.safetensors: ")) << attack.label;
    EXPECT_EQ(text.find('\n'), std::string::npos) << attack.label;
    // Each says what to do.
    EXPECT_TRUE(text.find("again") != std::string::npos || text.find("use the model's") != std::string::npos ||
                text.find("give it a name") != std::string::npos)
        << text;
  }
}

TEST(Safetensors, EveryErrorIsReached) {
  std::vector<bool> seen(static_cast<size_t>(E::kTrailingBytes) + 1);
  for (const Attack& attack : Attacks()) seen[static_cast<size_t>(attack.expected)] = true;
  for (size_t i = 1; i < seen.size(); ++i) EXPECT_TRUE(seen[i]) << "no attack for error " << i;
}

TEST(Safetensors, AcceptsWhatIsOddButRight) {
  const std::string four = Zeros(4);
  EXPECT_EQ(Parse(File("{}"))->size(), 0u);
  EXPECT_EQ(Parse(File(" \t\r\n{}   \n"))->size(), 0u);
  EXPECT_EQ(Parse(File("{\"__metadata__\":{}}"))->metadata_size(), 0u);
  {
    const auto header = Parse(File("{" + Entry("scalar", "F32", "[]", "[0,4]") + "}", four));
    ASSERT_TRUE(header);
    EXPECT_EQ((*header)[0].num_elements, 1u);
    EXPECT_TRUE((*header)[0].shape.empty());
    EXPECT_EQ((*header)[0].begin, header->data_begin());
    EXPECT_EQ((*header)[0].end, header->data_begin() + 4);
  }
  {
    // Empty tensors share a boundary, at both ends too; order in the JSON is free.
    const auto header =
        Parse(File("{" + Entry("d", "U8", "[2,0]", "[4,4]") + "," + Entry("c", "U8", "[2]", "[2,4]") + "," +
                       Entry("b", "U8", "[0]", "[2,2]") + "," + Entry("e", "U8", "[0]", "[2,2]") + "," +
                       Entry("a", "U8", "[2]", "[0,2]") + "," + Entry("z", "F64", "[0,18446744]", "[0,0]") + "}",
                   four));
    ASSERT_TRUE(header) << header.error().ToString();
    std::string order;
    for (size_t i = 0; i < header->size(); ++i) order += (*header)[i].name;
    EXPECT_EQ(order, "zabecd");
  }
  {
    const auto header =
        Parse(File("{" + Entry("p", "F4", "[2,1]", "[0,1]") + "," + Entry("q", "F6_E3M2", "[4]", "[1,4]") + "}", four));
    ASSERT_TRUE(header) << header.error().ToString();
    EXPECT_TRUE(header->warnings().empty());
  }
  {
    const auto header = Parse(File(
        R"({"w\u00e9\ud83d\ude00\"":{"data_offsets":[0,4],"shape":[4],"dtype":"U8"},"__metadata__":{"b":"2","a\n":"1"}})",
        four));
    ASSERT_TRUE(header) << header.error().ToString();
    EXPECT_EQ((*header)[0].name, "w\u00e9\U0001F600\"");
    ASSERT_EQ(header->metadata_size(), 2u);
    EXPECT_EQ(header->metadata(0).first, "a\n");
    EXPECT_EQ(header->metadata(1).second, "2");
    EXPECT_EQ(header->FindMetadata("b"), "2");
    EXPECT_EQ(header->FindMetadata("c"), std::nullopt);
    EXPECT_EQ(header->FindMetadata(""), std::nullopt);
  }
  std::string dims = "[4";
  for (int i = 0; i < 63; ++i) dims += ",1";
  EXPECT_TRUE(Parse(File(With("shape", dims + "]"), four)));
}

TEST(Safetensors, WarnsOnceForEachOddity) {
  const auto header = Parse(File("{" + Entry("a/../../b", "U8", "[1]", "[0,1]") + "," +
                                     Entry("n", "U8", "[1,1,1,1,1,1,1,1,1]", "[1,2]") + "," +
                                     Entry("odd", "F32", "[1]", "[2,6]") + "," + Entry("odd2", "F32", "[1]", "[6,10]") +
                                     "," + Entry("fine", "U8", "[1,1,1,1,1,1,1,2]", "[10,12]") + "}   ",
                                 Zeros(12)));
  ASSERT_TRUE(header) << header.error().ToString();
  ASSERT_EQ(header->warnings().size(), 3u);
  EXPECT_EQ(header->warnings()[0].tensor, "a/../../b");
  EXPECT_EQ(header->warnings()[1].tensor, "n");
  EXPECT_EQ(header->warnings()[2].tensor, "odd");
  EXPECT_THAT(header->warnings()[2].message, HasSubstr("1 more"));
}

// A real file: only the header is read, whatever the data's size.
TEST(Safetensors, ReadsTheHeaderAlone) {
  tests::TempDir dir;
  std::vector<tests::TestTensor> tensors;
  for (int i = 0; i < 300; ++i) tensors.push_back(tests::RandomTensor(fmt::format("t{:03}", i), "F32", {10, 100}, 1));
  tests::WriteSafetensors(dir / "x.safetensors", tensors, {{"format", "pt"}});
  auto source = io::OpenFile(dir / "x.safetensors");
  ASSERT_TRUE(source);
  const io::RecordingSource recorder(*source);
  const auto header = ReadSafetensorsHeader(recorder);
  ASSERT_TRUE(header) << header.error().ToString();
  EXPECT_EQ(header->size(), 300u);
  EXPECT_EQ(header->FindMetadata("format"), "pt");
  EXPECT_EQ((*header)[299].end, recorder.size_bytes());
  EXPECT_GT(header->data_begin(), 4096u);
  uint64_t read = 0;
  for (const io::RecordedRead& one : recorder.reads()) read += one.size_bytes;
  EXPECT_EQ(read, header->data_begin());

  // The same file, cut: what is missing is told.
  const std::string whole = tests::ReadText(dir / "x.safetensors");
  tests::WriteText(dir / "cut.safetensors", std::string_view(whole).substr(0, whole.size() - 4001));
  source = io::OpenFile(dir / "cut.safetensors");
  ASSERT_TRUE(source);
  E why;
  const auto cut = ReadSafetensorsHeader(**source, &why);
  ASSERT_FALSE(cut);
  EXPECT_EQ(why, E::kTruncated);
  EXPECT_THAT(cut.error().ToString(), HasSubstr("t298: the file is truncated"));
  EXPECT_THAT(cut.error().ToString(), HasSubstr("2 of 300 tensors are affected"));
}

TEST(Safetensors, HugeNamesMakeShortErrors) {
  const std::string name(100000, 'x');
  const auto header = Parse(File("{" + Entry(name, "U8", "[5]", "[0,4]") + "}", Zeros(4)));
  ASSERT_FALSE(header);
  EXPECT_LT(header.error().ToString().size(), 500u);
  EXPECT_EQ(Printable("a\nb"), "a\\nb");
  EXPECT_EQ(Printable(""), "\"\"");
  // A name cut inside a character loses it whole.
  EXPECT_FALSE(Printable(std::string(159, 'x') + "\u00e9\u00e9").find('\xc3') != std::string::npos);
}

std::vector<SafetensorsOutput> Outputs(const SafetensorsHeader& header) {
  std::vector<SafetensorsOutput> outputs;
  for (size_t i = 0; i < header.size(); ++i) {
    const SafetensorsTensor tensor = header[i];
    outputs.push_back({tensor.name, tensor.encoding, tensor.shape, tensor.end - tensor.begin});
  }
  return outputs;
}

TEST(SafetensorsWriter, RoundTripsAndAligns) {
  const std::vector<uint64_t> four = {2, 2}, none = {0, 3}, scalar;
  std::vector<SafetensorsOutput> outputs = {
      {"b", quant::BF16(), four, 8},
      {"z\"\\\n\u00e9", quant::F32(), four, 16},
      {"u", quant::EncodingByName("U8"), four, 4},
      {"a", quant::BF16(), four, 8},
      {"s", quant::EncodingByName("U64"), scalar, 8},
      {"bool", quant::EncodingByName("BOOL"), four, 4},
      {"e", quant::F16(), none, 0},
  };
  std::sort(outputs.begin(), outputs.end(), ComesBefore);
  std::vector<std::string> names;
  for (const auto& output : outputs) names.emplace_back(output.name);
  EXPECT_EQ(names, (std::vector<std::string>{"s", "z\"\\\n\u00e9", "a", "b", "e", "u", "bool"}));

  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"a\t", "\x01\x7f"}};
  for (const uint64_t alignment : {8, 4096}) {
    const auto text = WriteSafetensorsHeader(outputs, metadata, alignment);
    ASSERT_TRUE(text);
    EXPECT_EQ(text->size() % alignment, 0u);
    EXPECT_EQ(text->substr(8, 17), "{\"__metadata__\":{");
    const auto header = Parse(*text + Zeros(48));
    ASSERT_TRUE(header) << header.error().ToString();
    EXPECT_TRUE(header->warnings().empty());
    EXPECT_EQ(header->data_begin(), text->size());
    EXPECT_EQ(header->metadata(0), (std::pair<std::string_view, std::string_view>("a\t", "\x01\x7f")));
    EXPECT_EQ(*WriteSafetensorsHeader(Outputs(*header), metadata, alignment), *text);
  }
  const auto empty = WriteSafetensorsHeader({}, {});
  ASSERT_TRUE(empty);
  EXPECT_EQ(*empty, File("{}      "));
}

TEST(SafetensorsWriter, RefusesWhatTheFormatDoesNotHave) {
  static constexpr quant::EncodingInfo kBlocks = {.name = "Q4_X", .block_elements = 32, .block_bytes = 20};
  const std::vector<uint64_t> shape = {32};
  std::vector<SafetensorsOutput> outputs = {{"w", quant::Encoding(&kBlocks), shape, 20}};
  auto text = WriteSafetensorsHeader(outputs, {});
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(text.error().ToString(), HasSubstr("Q4_X"));
  for (const std::string_view name : {std::string_view(""), std::string_view("__metadata__"),
                                      std::string_view("a\0b", 3), std::string_view("\xff")}) {
    outputs = {{name, quant::F32(), shape, 128}};
    text = WriteSafetensorsHeader(outputs, {});
    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().code, ErrorCode::kUnsupported);
  }
}

TEST(Safetensors, AHundredThousandTensors) {
  std::string json = "{";
  for (int i = 0; i < 100000; ++i) {
    json += Entry(fmt::format("model.layers.{}.block_sparse_moe.experts.{}.w{}.weight", i % 97, i, i % 3), "U8",
                  "[1,1]", fmt::format("[{},{}]", i, i + 1)) +
            ",";
  }
  json.back() = '}';
  const auto header = Parse(File(json, Zeros(100000)));
  ASSERT_TRUE(header) << header.error().ToString();
  EXPECT_EQ(header->size(), 100000u);
  EXPECT_EQ((*header)[99999].end, header->data_begin() + 100000);
}

}  // namespace
}  // namespace sluice::formats
