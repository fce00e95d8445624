#include "formats/gguf.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/memory_source.h"
#include "io/recording_source.h"
#include "tests/support/gguf_builder.h"

namespace sluice::formats {
namespace {

using io::MemorySource;
using ::testing::ElementsAre;
using tests::GgufBuilder;

Result<std::shared_ptr<const GgufFile>> OpenBytes(std::string bytes) {
  return GgufFile::Open(std::make_shared<MemorySource>("x.gguf", std::move(bytes)));
}

std::shared_ptr<const GgufFile> MustOpen(std::string bytes) {
  auto file = OpenBytes(std::move(bytes));
  EXPECT_TRUE(file) << file.error().ToString();
  return file ? *file : nullptr;
}

// Opening `bytes` fails with this code and this text, to the letter.
void ExpectError(std::string bytes, ErrorCode code, std::string_view text) {
  const auto file = OpenBytes(std::move(bytes));
  ASSERT_FALSE(file) << "opened, where this was due: " << text;
  EXPECT_EQ(CodeName(file.error().code), std::string(CodeName(code)));
  EXPECT_EQ(file.error().ToString(), text);
}
void ExpectCorrupt(std::string bytes, std::string_view text) {
  ExpectError(std::move(bytes), ErrorCode::kCorrupt, text);
}
void ExpectUnsupported(std::string bytes, std::string_view text) {
  ExpectError(std::move(bytes), ErrorCode::kUnsupported, text);
}

GgufBuilder Norm(uint64_t elements = 64) {
  return GgufBuilder().Tensor("norm", 0, {elements}, std::string(elements * 4, 'x'));
}

TEST(Gguf, ReadsScalarsOfEveryType) {
  const auto file = MustOpen(GgufBuilder()
                                 .Key("u8", 0, GgufBuilder::Bytes<uint8_t>(200))
                                 .Key("i8", 1, GgufBuilder::Bytes<int8_t>(-3))
                                 .Key("u16", 2, GgufBuilder::Bytes<uint16_t>(60000))
                                 .Key("i16", 3, GgufBuilder::Bytes<int16_t>(1234))
                                 .U32("u32", 4'000'000'000)
                                 .Key("i32", 5, GgufBuilder::Bytes<int32_t>(77))
                                 .F32("f32", 1e-5f)
                                 .Bool("bool", true)
                                 .String("string", "llama")
                                 .U64("u64", ~uint64_t{0})
                                 .Key("i64", 11, GgufBuilder::Bytes<int64_t>(5))
                                 .Key("f64", 12, GgufBuilder::Bytes<double>(0.1))
                                 .Build());
  ASSERT_TRUE(file);
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->alignment(), 32u);
  EXPECT_EQ(file->keys().size(), 12u);
  EXPECT_EQ(file->unused_bytes(), 0u);
  EXPECT_EQ(**file->GetUnsigned("u8"), 200u);
  EXPECT_EQ(**file->GetUnsigned("u16"), 60000u);
  EXPECT_EQ(**file->GetUnsigned("i16"), 1234u);
  EXPECT_EQ(**file->GetUnsigned("u32"), 4'000'000'000u);
  EXPECT_EQ(**file->GetUnsigned("i32"), 77u);
  EXPECT_EQ(**file->GetUnsigned("u64"), ~uint64_t{0});
  EXPECT_EQ(**file->GetUnsigned("i64"), 5u);
  EXPECT_EQ(**file->GetBool("bool"), true);
  EXPECT_EQ(**file->GetString("string"), "llama");
  EXPECT_EQ(**file->GetNumber("f64"), 0.1);
  EXPECT_EQ(**file->GetNumber("f32"), 1e-5);  // not 9.999999747378752e-06, the f32's own value
  EXPECT_EQ(*file->GetUnsigned("absent"), std::nullopt);
  EXPECT_EQ(*file->GetString("absent"), std::nullopt);
  EXPECT_EQ(file->FindKey("absent"), nullptr);

  const auto negative = file->GetUnsigned("i8");
  ASSERT_FALSE(negative);
  EXPECT_EQ(negative.error().ToString(),
            "x.gguf: i8: the value at byte 53 is -3, where only zero or more makes sense; fix the program that wrote "
            "the file");
  const auto wrong = file->GetNumber("u8");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().ToString(),
            "x.gguf: u8: the value at byte 38 is of type u8, not f32 or f64; fix the program that wrote the file");
  EXPECT_EQ(file->GetUnsigned("string").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(file->GetString("u8").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(file->GetBool("u8").error().code, ErrorCode::kCorrupt);
}

TEST(Gguf, NumbersKeepTheirF32) {
  for (const float value : {1e-6f, 1e-5f, 10000.f, 500000.f, 0.1f, 3.4e38f, 1.17549435e-38f, -0.0f, 1.0f / 3}) {
    const auto file = MustOpen(GgufBuilder().F32("x", value).Build());
    const auto number = file->GetNumber("x");
    ASSERT_TRUE(number);
    EXPECT_EQ(static_cast<float>(**number), value);
    EXPECT_EQ(std::signbit(**number), std::signbit(value));
  }
  const auto file = MustOpen(GgufBuilder().F32("x", std::numeric_limits<float>::infinity()).Build());
  EXPECT_TRUE(std::isinf(**file->GetNumber("x")));
}

TEST(Gguf, ReadsArrays) {
  const auto file = MustOpen(GgufBuilder()
                                 .Strings("tokens", {"a", "", "bc", std::string("\0\xff", 2)})
                                 .Array<int32_t>("types", GgufBuilder::kI32, {1, -2, 3})
                                 .Array<uint8_t>("bytes", GgufBuilder::kU8, {0, 255})
                                 .Array<float>("scores", GgufBuilder::kF32, {0.5f, -1.f})
                                 .Array<uint64_t>("huge", GgufBuilder::kU64, {1, ~uint64_t{0}})
                                 .Strings("none", {})
                                 .Array<float>("no_floats", GgufBuilder::kF32, {})
                                 .Build());
  ASSERT_TRUE(file);
  const auto tokens = file->ReadStrings(*file->FindKey("tokens"));
  ASSERT_TRUE(tokens);
  ASSERT_EQ(tokens->size(), 4u);
  EXPECT_EQ((*tokens)[0], "a");
  EXPECT_EQ((*tokens)[1], "");
  EXPECT_EQ((*tokens)[2], "bc");
  EXPECT_EQ((*tokens)[3], std::string_view("\0\xff", 2));
  EXPECT_EQ(file->ReadStrings(*file->FindKey("none"))->size(), 0u);
  EXPECT_THAT(*file->ReadIntegers(*file->FindKey("types")), ElementsAre(1, -2, 3));
  EXPECT_THAT(*file->ReadIntegers(*file->FindKey("bytes")), ElementsAre(0, 255));
  EXPECT_THAT(*file->ReadFloats(*file->FindKey("scores")), ElementsAre(0.5f, -1.f));
  EXPECT_EQ(file->ReadFloats(*file->FindKey("no_floats"))->size(), 0u);
  EXPECT_EQ(file->ReadIntegers(*file->FindKey("huge")).error().ToString(),
            "x.gguf: huge: element 1 is 18446744073709551615, more than 2^63 - 1");
  EXPECT_THAT(file->ReadStrings(*file->FindKey("types")).error().ToString(),
              ::testing::HasSubstr("is of type array of i32, not array of string"));
  EXPECT_EQ(file->ReadIntegers(*file->FindKey("tokens")).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(file->ReadFloats(*file->FindKey("types")).error().code, ErrorCode::kCorrupt);
  std::string value = "before";
  ASSERT_TRUE(file->ReadValue(*file->FindKey("bytes"), &value));
  EXPECT_EQ(value,
            "before" + GgufBuilder::Bytes<uint32_t>(0) + GgufBuilder::Bytes<uint64_t>(2) + std::string("\0\xff", 2));
}

TEST(Gguf, PlacesTensors) {
  for (const uint32_t version : {2u, 3u}) {
    GgufBuilder builder;
    builder.version = version;
    builder.alignment = 64;
    builder.U32("general.alignment", 64)
        .Tensor("a", 0, {3}, std::string(12, 'a'))
        .Tensor("b", 3, {64, 2}, std::string(80, 'b'))
        .Tensor("nothing", 0, {0, 4}, "")
        .Tensor("scalar", 1, {}, "ss")
        .Tensor("four", 30, {2, 1, 3, 1}, std::string(12, 'f'));
    const std::string bytes = builder.Build();
    const auto file = MustOpen(bytes);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->version(), version);
    EXPECT_EQ(file->data_offset() % 64, 0u);
    EXPECT_EQ(file->unused_bytes(), 0u);
    ASSERT_EQ(file->tensors().size(), 5u);
    const GgufTensor& b = file->tensors()[1];
    EXPECT_EQ(b.name, "b");
    EXPECT_EQ(b.encoding.name(), "Q4_1");
    EXPECT_EQ(b.rank, 2u);
    EXPECT_EQ(b.dims[0], 64u);
    EXPECT_EQ(b.dims[1], 2u);
    EXPECT_EQ(b.num_elements, 128u);
    EXPECT_EQ(b.size_bytes(), 80u);
    EXPECT_EQ(b.offset, file->data_offset() + 64);
    EXPECT_EQ(bytes.substr(b.offset, 80), std::string(80, 'b'));
    EXPECT_EQ(file->tensors()[2].num_elements, 0u);
    EXPECT_EQ(file->tensors()[3].rank, 0u);
    EXPECT_EQ(file->tensors()[3].num_elements, 1u);
    EXPECT_EQ(file->tensors()[4].num_elements, 6u);
    EXPECT_EQ(bytes.substr(file->tensors()[4].offset, 12), std::string(12, 'f'));
  }
}

TEST(Gguf, CountsBytesThatBelongToNobody) {
  GgufBuilder builder = Norm(8);
  builder.Tensor("late", 0, {8}, std::string(96, 'x'), 64);  // bytes 32 to 64 and 96 to 128 are nobody's
  EXPECT_EQ(MustOpen(builder.Build())->unused_bytes(), 64u);
  EXPECT_EQ(MustOpen(Norm(8).Build() + std::string(100, '\0'))->unused_bytes(), 100u);
  std::string unpadded = Norm(9).Build();
  unpadded.resize(unpadded.size() - 28);  // without the padding at the end
  EXPECT_EQ(MustOpen(unpadded)->unused_bytes(), 0u);
}

TEST(Gguf, ReadsTheHeaderOnceAndNothingElse) {
  const std::vector<std::string> tokens(50'000, "token");
  GgufBuilder builder;
  builder.Strings("tokens", tokens).Tensor("big", 0, {1 << 20}, std::string(4 << 20, 'x'));
  const auto source = std::make_shared<io::RecordingSource>(std::make_shared<MemorySource>("x.gguf", builder.Build()));
  const auto file = GgufFile::Open(source);
  ASSERT_TRUE(file);
  uint64_t bytes_read = 0, largest = 0;
  for (const io::RecordedRead& read : source->reads()) {
    bytes_read += read.size_bytes;
    largest = std::max(largest, read.size_bytes);
  }
  EXPECT_GE(bytes_read, 50'000u * 13);
  EXPECT_LE(bytes_read, builder.data_offset() + 65536);
  EXPECT_LE(largest, 65536u);
}

TEST(Gguf, NamesTypes) {
  EXPECT_EQ(GgmlTypeName(0), "F32");
  EXPECT_EQ(GgmlTypeName(12), "Q4_K");
  EXPECT_EQ(GgmlTypeName(30), "BF16");
  EXPECT_EQ(GgmlTypeName(39), "MXFP4");
  EXPECT_EQ(GgmlTypeName(4), "unknown");
  EXPECT_EQ(GgmlTypeName(1000), "unknown");
  EXPECT_EQ(GgufTypeName(GgufType::kArray), "array");
  EXPECT_EQ(GgufTypeName(GgufType::kF64), "f64");
}

TEST(GgufRefuses, WhatIsNotGguf) {
  ExpectCorrupt("", "x.gguf: is empty; fetch it again");
  ExpectCorrupt("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n",
                "x.gguf: is a Git LFS pointer for 7 bytes of weights, not the file itself: run `git lfs pull` in the "
                "clone, or download the file again with `hf download`");
  ExpectCorrupt("<!DOCTYPE html><html>",
                "x.gguf: is an HTML page, most likely an error or login page that was saved in place of the file: "
                "download it again");
  ExpectCorrupt("PK\3\4 and more",
                "x.gguf: begins with bytes 50 4b 03 04, not with 'GGUF' (47 47 55 46): not a GGUF file");
  ExpectCorrupt("GG", "x.gguf: begins with bytes 47 47 00 00, not with 'GGUF' (47 47 55 46): not a GGUF file");
  ExpectCorrupt(Norm().Build().substr(0, 23),
                "x.gguf: has 23 bytes, but a GGUF header has 24; the file is cut short: fetch it again");
}

TEST(GgufRefuses, OtherVersions) {
  GgufBuilder builder = Norm();
  builder.version = 1;
  ExpectUnsupported(
      builder.Build(),
      "x.gguf: is of GGUF version 1, which was replaced in 2023 and is not supported; get the model as version 3");
  builder.version = 4;
  ExpectUnsupported(builder.Build(), "x.gguf: is of GGUF version 4 (byte 4), but versions 2 and 3 are known");
  builder.version = 0;
  ExpectUnsupported(builder.Build(), "x.gguf: is of GGUF version 0 (byte 4), but versions 2 and 3 are known");
  builder.version = 0x03000000;
  ExpectUnsupported(builder.Build(),
                    "x.gguf: is a big-endian GGUF file, which is not supported yet; convert it to little-endian "
                    "(gguf-convert-endian)");
}

TEST(GgufRefuses, CountsThatTheFileHasNoRoomFor) {
  GgufBuilder builder = Norm(8);  // 64 bytes of header, 32 of data
  ASSERT_EQ(builder.Build().size(), 96u);
  builder.claimed_tensors = 3;
  ExpectCorrupt(builder.Build(),
                "x.gguf: claims 3 tensors at byte 8, but has room for 2 at most; the file is damaged: fetch it "
                "again");
  builder.claimed_tensors = ~uint64_t{0};
  ExpectCorrupt(
      builder.Build(),
      "x.gguf: claims 18446744073709551615 tensors at byte 8, but has room for 2 at most; the file is damaged: fetch "
      "it again");
  builder.claimed_tensors = 1;
  builder.claimed_keys = 6;
  ExpectCorrupt(builder.Build(),
                "x.gguf: claims 6 keys at byte 16, but has room for 5 at most; the file is damaged: fetch it again");
}

TEST(GgufRefuses, MoreThanItsLimits) {
  GgufBuilder builder;
  builder.claimed_keys = kMaxGgufKeys + 1;
  ExpectUnsupported(builder.Build() + std::string(1 << 20, '\0'),
                    "x.gguf: has 65537 keys; more than 65536 are not supported yet");
  builder.claimed_keys = 0;
  builder.claimed_tensors = kMaxGgufTensors + 1;
  ExpectUnsupported(builder.Build() + std::string(27 << 20, '\0'),
                    "x.gguf: has 1048577 tensors; more than 1048576 are not supported yet");
  GgufBuilder names;
  for (int i = 0; i < 1100; ++i) names.U32(std::string(65000, 'n') + fmt::format("{:05}", i), 1);
  ExpectUnsupported(names.Build(),
                    "x.gguf: names of keys and tensors take more than 67108864 bytes by byte 67101696; so many are not "
                    "supported yet");
}

TEST(GgufRefuses, Names) {
  GgufBuilder empty_key;
  ExpectCorrupt(
      empty_key.U32("ok", 1).U32("", 1).U32("ok2", 1).Build(),
      "x.gguf: the name of key 2 of 3 at byte 42 has 0 bytes, not 1 to 65535; the file is damaged: fetch it again");
  std::string long_key = GgufBuilder().U32("key", 1).Build();
  long_key.replace(24, 8, GgufBuilder::Bytes<uint64_t>(65536));
  ExpectCorrupt(
      long_key,
      "x.gguf: the name of key 1 of 1 at byte 24 has 65536 bytes, not 1 to 65535; the file is damaged: fetch it again");
  long_key.replace(24, 8, GgufBuilder::Bytes<uint64_t>(100));
  ExpectCorrupt(
      long_key,
      "x.gguf: ends at byte 64, but the name of key 1 of 1 at byte 32 has 100 bytes; the file is cut short: fetch it "
      "again");
  const std::string text =
      "x.gguf: the name of key 1 of 1 at byte 24 is not UTF-8 or has control characters in it; the file is "
      "damaged: fetch it again";
  ExpectCorrupt(GgufBuilder().U32("a\x80", 1).Build(), text);
  ExpectCorrupt(GgufBuilder().U32("a\nb", 1).Build(), text);
  ExpectCorrupt(GgufBuilder().U32("\x1b[2J", 1).Build(), text);
  ExpectCorrupt(GgufBuilder().U32(std::string_view("a\0b", 3), 1).Build(), text);
  ExpectCorrupt(
      GgufBuilder().Tensor("t\x7f", 0, {8}, std::string(32, 'x')).Build(),
      "x.gguf: the name of tensor 1 of 1 at byte 24 is not UTF-8 or has control characters in it; the file is damaged: "
      "fetch it again");
  ExpectCorrupt(GgufBuilder().Tensor(std::string(1024, 't'), 0, {8}, std::string(32, 'x')).Build(),
                "x.gguf: the name of tensor 1 of 1 at byte 24 has 1024 bytes, not 1 to 1023; the file is damaged: "
                "fetch it again");
}

TEST(GgufRefuses, Values) {
  ExpectCorrupt(GgufBuilder().Key("k", 13, "........").Build(),
                "x.gguf: k: the value's type at byte 33 is 13, not 0 to 12; the file is damaged: fetch it again");
  ExpectCorrupt(GgufBuilder().Key("k", GgufBuilder::kBool, "\2").Build(),
                "x.gguf: k: the bool at byte 37 is 2, not 0 or 1; the file is damaged: fetch it again");
  ExpectCorrupt(
      GgufBuilder().Key("k", GgufBuilder::kU64, "1234").Build().substr(0, 41),
      "x.gguf: k: ends at byte 41, but the value at byte 37 has 8 bytes; the file is cut short: fetch it again");
  std::string text = GgufBuilder().String("k", "abcdefghijklmnopqrs").Build();  // 64 bytes in all
  text.replace(37, 8, GgufBuilder::Bytes<uint64_t>(20));
  ExpectCorrupt(
      text,
      "x.gguf: k: ends at byte 64, but the string at byte 45 has 20 bytes; the file is cut short: fetch it again");
  text.replace(37, 8, GgufBuilder::Bytes(~uint64_t{0}));
  ExpectCorrupt(
      text,
      "x.gguf: k: ends at byte 64, but the string at byte 45 has 18446744073709551615 bytes; the file is cut short: "
      "fetch it again");
}

TEST(GgufRefuses, Arrays) {
  const auto array = [](uint32_t type, uint64_t count, std::string_view elements) {
    return GgufBuilder()
        .Key("k", GgufBuilder::kArray, GgufBuilder::Bytes(type) + GgufBuilder::Bytes(count) + std::string(elements))
        .Build()
        .substr(0, 49 + elements.size());
  };
  ExpectUnsupported(array(GgufBuilder::kArray, 1, std::string(20, '\0')),
                    "x.gguf: k: the value at byte 37 is an array of arrays, which is not supported yet");
  ExpectCorrupt(
      array(99, 1, "1234"),
      "x.gguf: k: the array's element type at byte 37 is 99, not 0 to 12; the file is damaged: fetch it again");
  ExpectCorrupt(
      array(GgufBuilder::kU32, 3, "12345678"),
      "x.gguf: k: the array claims 3 elements of type u32 at byte 41, but the file ends at byte 57; the file is cut "
      "short or damaged: fetch it again");
  ExpectCorrupt(
      array(GgufBuilder::kU64, uint64_t{1} << 61, "12345678"),
      "x.gguf: k: the array claims 2305843009213693952 elements of type u64 at byte 41, but the file ends at byte 57; "
      "the file is cut short or damaged: fetch it again");
  ExpectCorrupt(
      array(GgufBuilder::kString, 2, GgufBuilder::Text("abcdefgh")),
      "x.gguf: k: element 2 of 2: ends at byte 65, but the length of a string at byte 65 has 8 bytes; the file is cut "
      "short: fetch it again");
  ExpectCorrupt(
      array(GgufBuilder::kString, 1, GgufBuilder::Bytes<uint64_t>(4) + "abc"),
      "x.gguf: k: element 1 of 1: ends at byte 60, but a string of the array at byte 57 has 4 bytes; the file is cut "
      "short: fetch it again");
}

TEST(GgufRefuses, KeysThatContradict) {
  ExpectCorrupt(GgufBuilder().U32("k", 1).U32("l", 1).U32("k", 2).Build(),
                "x.gguf: k: the key occurs twice, with values at bytes 37 and 71; fix the program that wrote the file");
}

TEST(GgufRefuses, Alignments) {
  ExpectCorrupt(
      GgufBuilder().U32("general.alignment", 0).Build(),
      "x.gguf: general.alignment: the alignment at byte 53 is 0, not a power of two; the file is damaged: fetch it "
      "again");
  ExpectCorrupt(
      GgufBuilder().U32("general.alignment", 48).Build(),
      "x.gguf: general.alignment: the alignment at byte 53 is 48, not a power of two; the file is damaged: fetch it "
      "again");
  ExpectCorrupt(
      GgufBuilder().U64("general.alignment", 32).Build(),
      "x.gguf: general.alignment: the value at byte 53 is of type u64, not u32; fix the program that wrote the file");
  // The largest alignment: the tensor would begin far behind the end.
  ExpectCorrupt(
      GgufBuilder().U32("general.alignment", 1u << 31).Tensor("t", 0, {8}, std::string(32, 'x')).Build(),
      "x.gguf: has 128 bytes, but its tensors take 2147483680: 1 of 1 are cut short, the first 't' at byte 2147483648; "
      "the file is cut short: fetch it again");
}

TEST(GgufRefuses, TensorInfos) {
  const std::string data(64, 'x');
  ExpectCorrupt(GgufBuilder().Tensor("t", 0, {8}, data).Tensor("u", 0, {8}, data).Tensor("t", 0, {8}, data).Build(),
                "x.gguf: t: the name occurs twice, as tensors 1 and 3 of 3; fix the program that wrote the file");
  ExpectCorrupt(
      GgufBuilder().Tensor("t", 0, {1, 1, 1, 1, 8}, data).Build(),
      "x.gguf: t: the tensor claims 5 dimensions at byte 33, but GGUF has 4 at most; the file is damaged: fetch it "
      "again");
  const uint64_t huge = uint64_t{1} << 32;
  ExpectCorrupt(
      GgufBuilder().Tensor("t", 0, {huge, huge}, data).Build(),
      "x.gguf: t: the product of the dimensions passes 2^63 with 4294967296 at byte 45; the file is damaged: fetch it "
      "again");
  ExpectCorrupt(
      GgufBuilder().Tensor("t", 0, {0, huge, huge}, data).Build(),
      "x.gguf: t: the product of the dimensions passes 2^63 with 4294967296 at byte 53; the file is damaged: fetch it "
      "again");
  ExpectCorrupt(
      GgufBuilder().Tensor("t", 0, {uint64_t{1} << 62}, data).Build(),
      "x.gguf: t: 4611686018427387904 numbers of F32 at byte 37 take more than 2^63 bytes; the file is damaged: fetch "
      "it again");
  ExpectUnsupported(
      GgufBuilder().Tensor("t", 99, {8}, data).Build(),
      "x.gguf: t: the tensor is of type 99 (unknown) at byte 45, which is not supported yet; use a model in "
      "F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, BF16");
  const auto unsupported = OpenBytes(GgufBuilder().Tensor("t", 16, {256}, data).Build());
  EXPECT_THAT(
      unsupported.error().ToString(),
      ::testing::StartsWith("x.gguf: t: the tensor is of type 16 (IQ2_XXS) at byte 45, which is not supported yet; use "
                            "a model in F32, F16, Q4_0"));
  ExpectCorrupt(
      GgufBuilder().Tensor("t", 3, {48, 2}, data).Build(),
      "x.gguf: t: rows have 48 numbers, which is not a whole number of Q4_1 blocks of 32 (byte 37); the file is "
      "damaged: fetch it again");
  ExpectCorrupt(
      GgufBuilder().Tensor("t", 8, {}, data).Build(),
      "x.gguf: t: rows have 1 numbers, which is not a whole number of Q8_0 blocks of 32 (byte 37); the file is "
      "damaged: fetch it again");
  ExpectCorrupt(
      GgufBuilder().Tensor("t", 0, {8}, data, 16).Build(),
      "x.gguf: t: the offset 16 at byte 49 is not a multiple of the alignment 32; the file is damaged: fetch it again");
  ExpectCorrupt(
      GgufBuilder().Tensor("t", 0, {8}, data, ~uint64_t{31}).Build(),
      "x.gguf: t: the offset 18446744073709551584 at byte 49 passes 2^63 with the 32 bytes of the tensor; the file is "
      "damaged: fetch it again");
  const std::string whole = GgufBuilder().Tensor("t", 0, {8}, data).Tensor("u", 0, {8}, data).Build();
  ExpectCorrupt(whole.substr(0, 85),
                "x.gguf: u: ends at byte 85, but the tensor's offset at byte 82 has 8 bytes; the file is cut short: "
                "fetch it again");
}

TEST(GgufRefuses, DataThatIsCutShortOrShared) {
  GgufBuilder builder;
  builder.Tensor("a", 0, {16}, std::string(64, 'a'))
      .Tensor("b", 0, {16}, std::string(64, 'b'))
      .Tensor("c", 0, {16}, std::string(64, 'c'));
  const std::string whole = builder.Build();
  ASSERT_EQ(builder.data_offset(), 128u);
  ExpectCorrupt(
      whole.substr(0, 255),
      "x.gguf: has 255 bytes, but its tensors take 320: 2 of 3 are cut short, the first 'b' at byte 192; the file is "
      "cut short: fetch it again");
  EXPECT_TRUE(OpenBytes(whole));
  GgufBuilder overlap;
  overlap.Tensor("a", 0, {16}, std::string(64, 'a')).Tensor("b", 0, {16}, std::string(64, 'b'), 32);
  ExpectCorrupt(overlap.Build(),
                "x.gguf: b: its bytes begin at 128, inside 'a', which has bytes 96 to 160; the file is damaged: "
                "fetch it again");
  GgufBuilder same;
  same.Tensor("a", 0, {16}, std::string(64, 'a')).Tensor("b", 0, {16}, "", 0);
  ExpectCorrupt(same.Build(),
                "x.gguf: b: its bytes begin at 96, inside 'a', which has bytes 96 to 160; the file is damaged: "
                "fetch it again");
}

// Every prefix of a whole file is refused or, where only padding is missing, opens; none reads out of bounds.
TEST(GgufRefuses, EveryPrefix) {
  const std::string whole = GgufBuilder()
                                .String("general.architecture", "llama")
                                .Strings("tokens", {"a", "b"})
                                .Tensor("t", 3, {32}, std::string(20, 't'))
                                .Build();
  for (size_t size = 0; size + 12 < whole.size(); ++size) EXPECT_FALSE(OpenBytes(whole.substr(0, size))) << size;
  for (size_t size = whole.size() - 12; size <= whole.size(); ++size)
    EXPECT_TRUE(OpenBytes(whole.substr(0, size))) << size;
}

}  // namespace
}  // namespace sluice::formats
