#include "formats/torch_file.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/pickle.h"
#include "io/memory_source.h"
#include "io/recording_source.h"
#include "tests/support/torch_builder.h"

namespace sluice::formats {
namespace {

namespace p = tests::pickle;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using tests::TorchFileBytes;
using Storages = std::vector<std::pair<std::string, std::string>>;

Result<TorchFile> Read(const std::string& bytes) { return TorchFile::Read(io::MemorySource("x.bin", bytes)); }

std::string ErrorOf(const std::string& bytes, ErrorCode code) {
  const auto file = Read(bytes);
  EXPECT_FALSE(file);
  if (file) return "";
  EXPECT_STREQ(CodeName(file.error().code), CodeName(code)) << file.error().ToString();
  EXPECT_THAT(file.error().ToString(), ::testing::StartsWith("x.bin: "));
  return file.error().ToString();
}

// A file of one state dict.
std::string StateDict(const std::vector<std::pair<std::string, p::Ops>>& tensors, const Storages& storages) {
  std::vector<std::pair<p::Ops, p::Ops>> items;
  items.reserve(tensors.size());
  for (const auto& [name, ops] : tensors) items.emplace_back(p::Text(name), ops);
  return TorchFileBytes(p::Pickle(p::Dict(items, p::OrderedDict())), storages);
}
std::string OneTensor(const p::Ops& ops, uint64_t storage_bytes = 24) {
  return StateDict({{"w", ops}}, {{"0", std::string(storage_bytes, 'x')}});
}
std::string Corrupt(const p::Ops& ops) { return ErrorOf(OneTensor(ops), ErrorCode::kCorrupt); }
std::string Unsupported(const p::Ops& ops) { return ErrorOf(OneTensor(ops), ErrorCode::kUnsupported); }

p::Ops Rebuild(std::string_view function, const std::vector<p::Ops>& arguments) {
  return p::Call(p::Global("torch._utils", function), arguments);
}
p::Ops V3(std::string_view dtype, int64_t bytes, int64_t offset, const std::vector<int64_t>& shape,
          const std::vector<int64_t>& stride) {
  return Rebuild("_rebuild_tensor_v3", {p::Storage("UntypedStorage", "0", bytes), p::Int(offset), p::Numbers(shape),
                                        p::Numbers(stride), "\x89", p::OrderedDict(), p::Global("torch", dtype)});
}
const p::Ops kPlain = p::Tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1});

TEST(TorchFile, TensorsWhereTheyLie) {
  const std::string bytes = StateDict({{"a.weight", p::Tensor("FloatStorage", "0", 6, 2, {2, 2}, {2, 1})},
                                       {"b", p::Tensor("BFloat16Storage", "1", 3, 0, {3}, {1})},
                                       {"scalar", p::Tensor("LongStorage", "2", 1, 0, {}, {})},
                                       {"empty", p::Tensor("FloatStorage", "0", 6, 6, {0, 5}, {5, 1})}},
                                      {{"0", "aaaabbbbccccddddeeeeffff"}, {"1", "112233"}, {"2", "12345678"}});
  const auto file = Read(bytes);
  ASSERT_TRUE(file) << file.error().ToString();
  ASSERT_EQ(file->size(), 4u);
  const auto text = [&](size_t i) { return bytes.substr((*file)[i].begin, (*file)[i].end - (*file)[i].begin); };
  EXPECT_EQ((*file)[0].name, "a.weight");
  EXPECT_EQ((*file)[0].encoding.name(), "F32");
  EXPECT_THAT((*file)[0].shape, ElementsAre(2, 2));
  EXPECT_EQ(text(0), "ccccddddeeeeffff");
  EXPECT_EQ((*file)[1].encoding.name(), "BF16");
  EXPECT_EQ(text(1), "112233");
  EXPECT_EQ((*file)[2].encoding.name(), "I64");
  EXPECT_EQ((*file)[2].num_elements, 1u);
  EXPECT_EQ(text(2), "12345678");
  EXPECT_EQ((*file)[3].num_elements, 0u);
  EXPECT_THAT(file->remarks(), IsEmpty());
}

TEST(TorchFile, EveryDtype) {
  const std::map<std::string, std::string> storages = {
      {"DoubleStorage", "F64"}, {"FloatStorage", "F32"}, {"HalfStorage", "F16"},        {"BFloat16Storage", "BF16"},
      {"LongStorage", "I64"},   {"IntStorage", "I32"},   {"ShortStorage", "I16"},       {"CharStorage", "I8"},
      {"ByteStorage", "U8"},    {"BoolStorage", "BOOL"}, {"ComplexFloatStorage", "C64"}};
  for (const auto& [storage, encoding] : storages) {
    const auto file = Read(OneTensor(p::Tensor(storage, "0", 3, 1, {2}, {1})));
    ASSERT_TRUE(file) << file.error().ToString();
    EXPECT_EQ((*file)[0].encoding.name(), encoding);
    EXPECT_EQ((*file)[0].end - (*file)[0].begin, 2 * (*file)[0].encoding->block_bytes);
  }
  const std::map<std::string, std::string> dtypes = {{"uint16", "U16"},
                                                     {"uint32", "U32"},
                                                     {"uint64", "U64"},
                                                     {"float8_e4m3fn", "F8_E4M3"},
                                                     {"float8_e5m2", "F8_E5M2"},
                                                     {"float8_e4m3fnuz", "F8_E4M3FNUZ"},
                                                     {"float8_e5m2fnuz", "F8_E5M2FNUZ"},
                                                     {"float8_e8m0fnu", "F8_E8M0"},
                                                     {"float32", "F32"}};
  for (const auto& [dtype, encoding] : dtypes) {
    const auto file = Read(OneTensor(V3(dtype, 24, 1, {2}, {1})));
    ASSERT_TRUE(file) << file.error().ToString();
    EXPECT_EQ((*file)[0].encoding.name(), encoding);
  }
  EXPECT_THAT(Unsupported(V3("complex128", 24, 0, {1}, {1})),
              HasSubstr("w: byte 188 of the pickle: a tensor of torch.complex128 is not supported"));
  EXPECT_THAT(Unsupported(V3("float4_e2m1fn_x2", 24, 0, {1}, {1})),
              HasSubstr("torch.float4_e2m1fn_x2 is not supported"));
  EXPECT_THAT(Unsupported(p::Tensor("ComplexDoubleStorage", "0", 1, 0, {1}, {1})),
              HasSubstr("torch.ComplexDoubleStorage is not supported"));
  EXPECT_THAT(Unsupported(p::Tensor("UntypedStorage", "0", 1, 0, {1}, {1})),
              HasSubstr("torch.storage.UntypedStorage is not supported"));
  EXPECT_THAT(Unsupported(p::Tensor("QInt8Storage", "0", 1, 0, {1}, {1})),
              HasSubstr("GLOBAL torch.QInt8Storage is refused"));
}

TEST(TorchFile, OlderFormsAndParameters) {
  const p::Ops storage = p::Storage("FloatStorage", "0", 6);
  const p::Ops v1 = Rebuild("_rebuild_tensor", {storage, p::Int(0), p::Numbers({2, 3}), p::Numbers({3, 1})});
  const p::Ops parameter = Rebuild("_rebuild_parameter", {kPlain, "\x88", p::OrderedDict()});
  const p::Ops with_metadata = Rebuild(
      "_rebuild_tensor_v2", {storage, p::Int(0), p::Numbers({6}), p::Numbers({1}), "\x89", p::OrderedDict(), "}"});
  for (const p::Ops& ops : {v1, parameter, with_metadata}) {
    const auto file = Read(OneTensor(ops));
    ASSERT_TRUE(file) << file.error().ToString();
    EXPECT_EQ((*file)[0].num_elements, 6u);
  }
  EXPECT_THAT(Unsupported(Rebuild("_rebuild_tensor_v2", {storage, p::Int(0), p::Numbers({6}), p::Numbers({1}), "\x89",
                                                         p::OrderedDict(), p::Dict({{p::Text("conj"), "\x88"}})})),
              HasSubstr("to be conjugated or negated"));
  EXPECT_THAT(Corrupt(Rebuild("_rebuild_parameter", {parameter, "\x88", p::OrderedDict()})),
              HasSubstr("_rebuild_parameter is not of a tensor"));
  EXPECT_THAT(Corrupt(Rebuild("_rebuild_parameter", {"N", "\x88", p::OrderedDict()})), HasSubstr("is not of a tensor"));
  EXPECT_THAT(Corrupt(Rebuild("_rebuild_tensor_v2", {storage, p::Int(0)})),
              HasSubstr("_rebuild_tensor_v2 has 2 arguments"));
  EXPECT_THAT(Corrupt(Rebuild("_rebuild_tensor_v2", {"N", p::Int(0), p::Numbers({}), p::Numbers({}), "\x89", "}"})),
              HasSubstr("the storage of a tensor is not a persistent id"));
  EXPECT_THAT(Unsupported(Rebuild("_rebuild_sparse_tensor", {})),
              HasSubstr("GLOBAL torch._utils._rebuild_sparse_tensor is refused"));
  const p::Ops typed_v3 = Rebuild("_rebuild_tensor_v3", {storage, p::Int(0), p::Numbers({6}), p::Numbers({1}), "\x89",
                                                         p::OrderedDict(), p::Global("torch", "float16")});
  EXPECT_THAT(Corrupt(typed_v3), HasSubstr("_rebuild_tensor_v3 is not of an untyped storage and a dtype"));
}

TEST(TorchFile, TensorsThatPassTheirStorage) {
  const auto tensor = [](int64_t numel, int64_t offset, const std::vector<int64_t>& shape,
                         const std::vector<int64_t>& stride) {
    return p::Tensor("FloatStorage", "0", numel, offset, shape, stride);
  };
  const int64_t huge = int64_t{1} << 62;
  EXPECT_THAT(Corrupt(tensor(7, 0, {7}, {1})),
              HasSubstr("data/0 is said to have 7 elements of 4 bytes, but has 24 bytes"));
  EXPECT_THAT(Corrupt(tensor(huge, 0, {1}, {1})), HasSubstr("is said to have"));
  EXPECT_THAT(Corrupt(tensor(6, 1, {6}, {1})), HasSubstr("w: byte"));
  EXPECT_THAT(Corrupt(tensor(6, 1, {6}, {1})),
              HasSubstr("passes the end of its storage: offset 1, shape [6] and stride [1] in 6 elements"));
  EXPECT_THAT(Corrupt(tensor(5, 0, {6}, {1})), HasSubstr("in 5 elements"));
  EXPECT_THAT(Corrupt(tensor(6, 0, {2, 3}, {4, 1})), HasSubstr("passes the end"));
  EXPECT_THAT(Corrupt(tensor(6, 0, {3, 2}, {huge, 1})), HasSubstr("passes the end"));
  EXPECT_THAT(Corrupt(tensor(6, huge, {1}, {1})), HasSubstr("passes the end"));
  EXPECT_THAT(Corrupt(tensor(6, 6, {}, {})), HasSubstr("passes the end"));
  EXPECT_THAT(Corrupt(tensor(6, 7, {0}, {1})), HasSubstr("begins after the end of its storage"));
  EXPECT_THAT(Corrupt(tensor(6, 0, {huge, huge}, {1, 1})), HasSubstr("is too large"));
  EXPECT_THAT(Corrupt(tensor(6, 0, {0, huge, huge}, {1, 1, 1})), HasSubstr("is too large"));
  EXPECT_THAT(Corrupt(tensor(6, 0, {huge}, {0})), HasSubstr("is too large"));
  EXPECT_THAT(Corrupt(tensor(6, -1, {1}, {1})), HasSubstr("offset, size or stride of the tensor is malformed"));
  EXPECT_THAT(Corrupt(tensor(6, 0, {-1}, {1})), HasSubstr("malformed"));
  EXPECT_THAT(Corrupt(tensor(6, 5, {2}, {-1})), HasSubstr("malformed"));
  EXPECT_THAT(Corrupt(tensor(6, 0, {2, 3}, {1})), HasSubstr("malformed"));
  EXPECT_THAT(Corrupt(tensor(6, 0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1))), HasSubstr("malformed"));
  EXPECT_THAT(Corrupt(tensor(-1, 0, {1}, {1})), HasSubstr("a persistent id is not"));
}

TEST(TorchFile, ViewsThatLieInOnePieceOrNot) {
  const auto tensor = [](int64_t offset, const std::vector<int64_t>& shape, const std::vector<int64_t>& stride) {
    return p::Tensor("FloatStorage", "0", 6, offset, shape, stride);
  };
  EXPECT_TRUE(Read(OneTensor(tensor(3, {1, 3}, {99, 1}))));  // of one element the stride says nothing
  EXPECT_TRUE(Read(OneTensor(tensor(0, {3, 1, 2}, {2, 7, 1}))));
  for (const auto& ops : {tensor(0, {3, 2}, {1, 3}), tensor(0, {2, 2}, {3, 1}), tensor(0, {2, 3}, {0, 1})}) {
    const std::string error = Unsupported(ops);
    EXPECT_THAT(error, HasSubstr("x.bin: w: byte"));
    EXPECT_THAT(error, HasSubstr("is a view that does not lie in one piece"));
    EXPECT_THAT(error, HasSubstr("save tensor.contiguous() instead"));
  }
}

TEST(TorchFile, PersistentIds) {
  const auto with = [](const std::vector<p::Ops>& id) { return p::Tensor(p::Tuple(id) + "Q", 0, {6}, {1}); };
  const p::Ops type = p::Global("torch", "FloatStorage"), key = p::Text("0"), cpu = p::Text("cpu"), six = p::Int(6);
  EXPECT_TRUE(Read(OneTensor(with({p::Text("storage"), type, key, p::Text("cuda:3"), six}))));
  const std::string what = "a persistent id is not (\"storage\", type, key, location, number of elements)";
  EXPECT_THAT(Corrupt(with({p::Text("module"), type, key, cpu, six})), HasSubstr(what));
  EXPECT_THAT(Corrupt(with({p::Text("storage"), type, key, cpu})), HasSubstr(what));
  EXPECT_THAT(Corrupt(with({p::Text("storage"), type, key, cpu, six, "N"})), HasSubstr(what));
  EXPECT_THAT(Corrupt(with({p::Text("storage"), p::Text("FloatStorage"), key, cpu, six})), HasSubstr(what));
  EXPECT_THAT(Corrupt(with({p::Text("storage"), type, p::Int(0), cpu, six})), HasSubstr(what));
  EXPECT_THAT(Corrupt(with({p::Text("storage"), type, key, cpu, "N"})), HasSubstr(what));
  EXPECT_THAT(Corrupt(p::Tensor(p::Text("0") + "Q", 0, {6}, {1})), HasSubstr(what));
  EXPECT_THAT(Corrupt(with({p::Text("storage"), p::Global("torch", "float32"), key, cpu, six})),
              HasSubstr("torch.float32 is not the type of a storage"));
  for (const std::string absent : {"1", "../0", "../data.pkl", "", "0/../0"}) {
    EXPECT_THAT(Corrupt(with({p::Text("storage"), type, p::Text(absent), cpu, six})),
                HasSubstr("is not in the archive"))
        << absent;
  }
  // A loader keeps a storage as it met it first; two types would be two models.
  EXPECT_THAT(ErrorOf(StateDict({{"a", p::Tensor("FloatStorage", "0", 6, 0, {6}, {1})},
                                 {"b", p::Tensor("HalfStorage", "0", 6, 0, {6}, {1})}},
                                {{"0", std::string(24, 'x')}}),
                      ErrorCode::kCorrupt),
              HasSubstr("x.bin: b: byte"));
}

TEST(TorchFile, SharedStorages) {
  const auto file = Read(StateDict({{"embed", kPlain}, {"head", kPlain}}, {{"0", std::string(24, 'x')}}));
  ASSERT_TRUE(file) << file.error().ToString();
  ASSERT_EQ(file->size(), 2u);
  EXPECT_EQ((*file)[0].begin, (*file)[1].begin);
  ASSERT_EQ(file->remarks().size(), 1u);
  EXPECT_FALSE(file->remarks()[0].is_warning);
  EXPECT_EQ(file->remarks()[0].tensor, "head");
  EXPECT_EQ(file->remarks()[0].message,
            "1 tensors share the bytes of others, this one those of embed: tied when they were saved");
}

TEST(TorchFile, WhereTheStateDictIs) {
  const Storages storages = {{"0", std::string(24, 'x')}};
  const p::Ops inner = p::Dict({{p::Text("w"), kPlain}}, p::OrderedDict());
  const auto file = [&](const std::vector<std::pair<p::Ops, p::Ops>>& items) {
    return TorchFileBytes(p::Pickle(p::Dict(items)), storages);
  };
  for (const std::string name : {"state_dict", "model", "module", "model_state_dict"}) {
    const auto read = Read(file({{p::Text("epoch"), p::Int(3)}, {p::Text(name), inner}}));
    ASSERT_TRUE(read) << read.error().ToString();
    ASSERT_EQ(read->size(), 1u);
    EXPECT_EQ((*read)[0].name, "w");
    ASSERT_EQ(read->remarks().size(), 1u);
    EXPECT_EQ(
        read->remarks()[0].message,
        fmt::format("the weights are the state dict under \"{}\"; of the 1 other entries beside it nothing is read",
                    name));
  }
  const auto mixed = Read(file({{p::Text("w"), kPlain}, {p::Text("_extra_state"), "N"}, {p::Int(3), "N"}}));
  ASSERT_TRUE(mixed) << mixed.error().ToString();
  EXPECT_EQ(mixed->size(), 1u);
  ASSERT_EQ(mixed->remarks().size(), 1u);
  EXPECT_TRUE(mixed->remarks()[0].is_warning);
  EXPECT_EQ(mixed->remarks()[0].message, "2 entries of the state dict are no tensors and are not read, this one first");
  EXPECT_EQ(Read(TorchFileBytes(p::Pickle("}"), {}))->size(), 0u);

  const auto refused = [&](const std::vector<std::pair<p::Ops, p::Ops>>& items) {
    return ErrorOf(file(items), ErrorCode::kUnsupported);
  };
  EXPECT_THAT(refused({{p::Text("state"), "}"}, {p::Text("param_groups"), "]"}}),
              HasSubstr("there is no state dict in it, neither at the top nor under state_dict, model, module, "
                        "model_state_dict (it has state, param_groups)"));
  EXPECT_THAT(refused({{p::Text("model"), p::Dict({{p::Text("module"), inner}})}}),
              HasSubstr("there is no state dict"));
  EXPECT_THAT(refused({{p::Text("model"), inner}, {p::Text("module"), inner}}),
              HasSubstr("there are 2 state dicts in it, under model and under module"));
  EXPECT_THAT(refused({{p::Text("w"), kPlain}, {p::Text("module"), inner}}), HasSubstr("at the top and under module"));
  EXPECT_THAT(ErrorOf(TorchFileBytes(p::Pickle(p::Tuple({kPlain})), storages), ErrorCode::kUnsupported),
              HasSubstr("what was saved is not a dict of names and tensors"));
  EXPECT_THAT(ErrorOf(TorchFileBytes(p::Pickle(kPlain), storages), ErrorCode::kUnsupported),
              HasSubstr("is not a dict"));

  // Python's last one would win, silently.
  EXPECT_THAT(ErrorOf(file({{p::Text("w"), kPlain}, {p::Text("w"), kPlain}}), ErrorCode::kCorrupt),
              HasSubstr("w: byte"));
  EXPECT_THAT(ErrorOf(file({{p::Text("w"), kPlain}, {p::Text("w"), "N"}}), ErrorCode::kCorrupt),
              HasSubstr("the name stands in the state dict twice"));
  EXPECT_THAT(ErrorOf(file({{p::Text("model"), inner}, {p::Text("model"), "N"}}), ErrorCode::kCorrupt),
              HasSubstr("\"model\" stands in the dict twice"));
  for (const p::Ops& key : {p::Text(""), p::Text("a\nb"), p::Int(1), p::Ops("U\x01\xff")}) {
    EXPECT_THAT(ErrorOf(file({{key, kPlain}}), ErrorCode::kCorrupt), HasSubstr("the key of a tensor is not a name"));
  }
}

TEST(TorchFile, CyclesAndSharingInTheState) {
  // A state dict under its own names, and one empty dict as the metadata of all.
  const std::string cyclic =
      p::Pickle(std::string("}q\0", 3) + "(" + p::Text("model") + std::string("h\0", 2) + p::Text("w") + kPlain + "u");
  EXPECT_THAT(ErrorOf(TorchFileBytes(cyclic, {{"0", std::string(24, 'x')}}), ErrorCode::kUnsupported),
              HasSubstr("there are 2 state dicts in it, at the top and under model"));
}

TEST(TorchFile, ByteOrder) {
  const auto with = [](const std::string& order) {
    return TorchFileBytes(p::Pickle(p::Dict({{p::Text("w"), kPlain}})), {{"0", std::string(24, 'x')}},
                          {{"byteorder", order}});
  };
  EXPECT_TRUE(Read(with("little")));
  EXPECT_THAT(ErrorOf(with("big"), ErrorCode::kUnsupported), HasSubstr("the numbers are big-endian"));
  EXPECT_THAT(ErrorOf(with("middle"), ErrorCode::kCorrupt), HasSubstr("the byte order is said to be \"middle\""));
  EXPECT_THAT(ErrorOf(with(std::string(100, 'l')), ErrorCode::kUnsupported),
              HasSubstr("100 bytes are over the limit of 64"));
}

TEST(TorchFile, ArchivesThatTorchSaveDidNotWrite) {
  using tests::BuildZip;
  using tests::PlainMember;
  EXPECT_THAT(ErrorOf(BuildZip({PlainMember("a/other", "x")}), ErrorCode::kCorrupt),
              HasSubstr("there is no a/data.pkl in it"));
  EXPECT_THAT(ErrorOf(BuildZip({PlainMember("data.pkl", "x")}), ErrorCode::kCorrupt),
              HasSubstr("data.pkl is not in one folder with the others"));
  EXPECT_THAT(ErrorOf(BuildZip({PlainMember("a/data.pkl", "x"), PlainMember("b/data.pkl", "x")}), ErrorCode::kCorrupt),
              HasSubstr("b/data.pkl is not in one folder"));
  for (const std::string name : {"constants.pkl", "code/__torch__.py"}) {
    auto compressed = PlainMember("a/code/x.py", "x");
    compressed.local.method = compressed.central.method = 8;
    EXPECT_THAT(ErrorOf(BuildZip({PlainMember("a/data.pkl", "x"), PlainMember("a/" + name, "x"), compressed}),
                        ErrorCode::kUnsupported),
                HasSubstr("a TorchScript archive"));
  }
  auto damaged = PlainMember("a/data.pkl", p::Pickle("}"));
  damaged.data[0] ^= 1;
  EXPECT_THAT(ErrorOf(BuildZip({damaged}), ErrorCode::kCorrupt),
              HasSubstr("a/data.pkl: its bytes do not have the CRC-32"));
}

TEST(TorchFile, ChecksumsThatWereLeftOut) {
  std::vector<tests::ZipMember> members = {
      tests::TorchMember("a/data.pkl", p::Pickle(p::Dict({{p::Text("w"), kPlain}}))),
      tests::TorchMember("a/data/0", std::string(24, 'x')), tests::TorchMember("a/data/1", "unused")};
  for (tests::ZipMember& member : members) {
    member.central.crc = 0;
    member.descriptor.replace(4, 4, 4, '\0');
  }
  const auto file = Read(tests::BuildZip(members));
  ASSERT_TRUE(file) << file.error().ToString();
  ASSERT_EQ(file->remarks().size(), 2u);
  EXPECT_TRUE(file->remarks()[0].is_warning);
  EXPECT_EQ(file->remarks()[0].message, "1 storages (6 B) belong to no tensor of the state dict, and are not read");
  EXPECT_FALSE(file->remarks()[1].is_warning);
  EXPECT_EQ(file->remarks()[1].message, "3 of the 3 entries have no checksum (torch.save was told to leave it out)");
}

TEST(TorchFile, OtherFilesByName) {
  using namespace std::string_literals;
  const auto corrupt = [](const std::string& bytes) { return ErrorOf(bytes, ErrorCode::kCorrupt); };
  const auto unsupported = [](const std::string& bytes) { return ErrorOf(bytes, ErrorCode::kUnsupported); };
  EXPECT_THAT(unsupported("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03."s),
              HasSubstr("from before version 1.6"));
  EXPECT_THAT(unsupported("storages"s + std::string(249, '\0') + "ustar\0"s + std::string(300, '\0')),
              HasSubstr("a tar archive"));
  EXPECT_THAT(unsupported("7z\xbc\xaf\x27\x1c\0\4"s), HasSubstr("a 7z archive"));
  EXPECT_THAT(unsupported("Rar!\x1a\x07\x01\0"s), HasSubstr("a RAR archive"));
  EXPECT_THAT(unsupported("\x80\x04\x95....."s), HasSubstr("a bare pickle"));
  EXPECT_THAT(corrupt("GGUF\3\0\0\0"s), HasSubstr("a GGUF file under another name"));
  EXPECT_THAT(corrupt("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
              HasSubstr("a Git LFS pointer for 5 bytes"));
  EXPECT_THAT(corrupt("<!DOCTYPE html><html>"), HasSubstr("an HTML page"));
  EXPECT_THAT(corrupt("what is this"), HasSubstr("not a PyTorch file: it does not begin as a ZIP archive does"));
  EXPECT_THAT(corrupt(""), HasSubstr("not a PyTorch file"));
  const std::string whole = OneTensor(kPlain);
  EXPECT_THAT(corrupt(whole.substr(0, whole.size() - 30)), HasSubstr("the file is truncated"));
}

TEST(TorchFile, ARefusedPickleNamesOpcodeSymbolAndByte) {
  const std::string evil =
      TorchFileBytes(p::Pickle(p::Dict({{p::Text("w"), p::Call(p::Global("posix", "system"), {p::Text("id")})}})), {});
  EXPECT_THAT(ErrorOf(evil, ErrorCode::kUnsupported),
              ::testing::StartsWith("x.bin: archive/data.pkl: byte 10: GLOBAL posix.system is refused"));
}

TEST(TorchFile, ReadsHeadersAlone) {
  const auto source = std::make_shared<io::RecordingSource>(std::make_shared<io::MemorySource>(
      "x.bin", OneTensor(p::Tensor("FloatStorage", "0", 250'000, 0, {250'000}, {1}), 1'000'000)));
  ASSERT_TRUE(TorchFile::Read(*source));
  uint64_t read = 0;
  for (const auto& one : source->reads()) read += one.size_bytes;
  EXPECT_LT(read, 3000u);
}

}  // namespace
}  // namespace sluice::formats
