#include "formats/pickle.h"

#include <array>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/torch_builder.h"

namespace sluice::formats {
namespace {

namespace p = tests::pickle;
using ::testing::HasSubstr;
using Kind = Pickle::Kind;
using Role = PickleGlobal::Role;

constexpr std::array<PickleGlobal, 4> kGlobals = {{
    {"m", "constant", Role::kConstant},
    {"m", "function", Role::kFunction},
    {"m", "Class", Role::kClass},
    {"collections", "OrderedDict", Role::kDict},
}};

Result<Pickle> Parse(const std::string& text) { return Pickle::Parse(text, kGlobals, {"x.bin", "data.pkl"}); }

Pickle Good(const std::string& body) {
  auto pickle = Parse(p::Pickle(body));
  EXPECT_TRUE(pickle) << pickle.error().ToString();
  if (pickle) return std::move(*pickle);
  return *Parse(p::Pickle("N"));
}

std::string ErrorOf(const std::string& text, ErrorCode code = ErrorCode::kCorrupt) {
  const auto pickle = Parse(text);
  EXPECT_FALSE(pickle) << text.substr(0, 60);
  if (pickle) return "";
  EXPECT_STREQ(CodeName(pickle.error().code), CodeName(code)) << pickle.error().ToString();
  EXPECT_THAT(pickle.error().context, ::testing::ElementsAre("x.bin", "data.pkl"));
  EXPECT_THAT(pickle.error().message, ::testing::StartsWith("byte "));
  EXPECT_EQ(pickle.error().message.find('\n'), std::string::npos);
  return pickle.error().message;
}
std::string Refused(const std::string& body) { return ErrorOf(p::Pickle(body), ErrorCode::kUnsupported); }
std::string Broken(const std::string& body) { return ErrorOf(p::Pickle(body)); }

TEST(Pickle, Scalars) {
  const auto integer = [](const std::string& ops) {
    const Pickle pickle = Good(ops);
    EXPECT_EQ(pickle.kind(pickle.root()), Kind::kInt);
    return pickle.kind(pickle.root()) == Kind::kInt ? pickle.integer(pickle.root()) : 0;
  };
  EXPECT_EQ(integer(std::string("K\xff", 2)), 255);
  EXPECT_EQ(integer(std::string("M\xff\xff", 3)), 65535);
  EXPECT_EQ(integer("J\xff\xff\xff\xff"), -1);
  EXPECT_EQ(integer(std::string("J\0\0\0\x80", 5)), INT32_MIN);
  EXPECT_EQ(integer(std::string("\x8a\0", 2)), 0);
  EXPECT_EQ(integer("\x8a\x01\xff"), -1);
  EXPECT_EQ(integer(std::string("\x8a\x02\xff\0", 4)), 255);
  EXPECT_EQ(integer(p::Int(INT64_MIN)), INT64_MIN);
  EXPECT_EQ(integer(p::Int(int64_t{1} << 40)), int64_t{1} << 40);
  const auto kind = [](const std::string& ops) {
    const Pickle pickle = Good(ops);
    return pickle.kind(pickle.root());
  };
  EXPECT_EQ(kind("\x8a\x09" + std::string(9, 'x')), Kind::kLargeInt);
  EXPECT_EQ(kind("N"), Kind::kNone);
  EXPECT_EQ(kind("G" + std::string(8, '\0')), Kind::kFloat);
  EXPECT_EQ(kind("\x8f"), Kind::kSet);
  EXPECT_EQ(kind("]"), Kind::kList);
  EXPECT_EQ(kind("}"), Kind::kDict);
  const Pickle yes = Good("\x88"), no = Good("\x89");
  EXPECT_EQ(yes.kind(yes.root()), Kind::kBool);
  EXPECT_TRUE(yes.boolean(yes.root()));
  EXPECT_FALSE(no.boolean(no.root()));
}

TEST(Pickle, Texts) {
  const Pickle text = Good(p::Text("w\xc3\xa9"));
  EXPECT_EQ(text.kind(text.root()), Kind::kText);
  EXPECT_EQ(text.text(text.root()), "w\xc3\xa9");
  EXPECT_EQ(text.offset(text.root()), 2u);
  const Pickle old = Good("U\x02hi"), bytes = Good("U\x02\xff\xfe");
  EXPECT_EQ(old.kind(old.root()), Kind::kText);
  EXPECT_EQ(old.text(old.root()), "hi");
  EXPECT_EQ(bytes.kind(bytes.root()), Kind::kBytes);
  EXPECT_THAT(Broken(p::Text("\xff")), HasSubstr("byte 2: BINUNICODE is not UTF-8"));
  EXPECT_THAT(Broken(std::string("X\x09\0\0\0abc", 8)), HasSubstr("BINUNICODE takes"));
  EXPECT_THAT(Broken("X\xff\xff\xff\xff"), HasSubstr("takes 4294967295 bytes, but the pickle has only 1 more"));
}

TEST(Pickle, Containers) {
  const Pickle tuples = Good(p::Tuple({"N", ")", "K\x01\x85", "NN\x86", "NNN\x87"}));
  const auto items = tuples.tuple(tuples.root());
  ASSERT_EQ(items.size(), 5u);
  for (size_t i = 1; i < 5; ++i) EXPECT_EQ(tuples.tuple(items[i]).size(), i - 1);

  const Pickle list = Good(
      "]K\x01"
      "a(K\x02K\x03"
      "eK\x04"
      "a(e");
  std::vector<int64_t> numbers;
  for (const Pickle::Id item : list.list(list.root())) numbers.push_back(list.integer(item));
  EXPECT_EQ(numbers, (std::vector<int64_t>{1, 2, 3, 4}));

  const Pickle dict = Good("}" + p::Text("a") + "K\x01s(" + p::Text("b") + "K\x02" + p::Text("a") + "K\x03u");
  const auto pairs = dict.dict(dict.root());
  ASSERT_EQ(pairs.size(), 3u);  // a key that is set twice is there twice
  EXPECT_EQ(dict.text(pairs[2].key), "a");
  EXPECT_EQ(dict.integer(pairs[2].value), 3);
  EXPECT_FALSE(dict.is_empty(dict.root()));
  const Pickle none = Good("}(u");
  EXPECT_TRUE(none.is_empty(none.root()));

  EXPECT_THAT(Broken("}(Nu"), HasSubstr("SETITEMS has a key without a value"));
  EXPECT_THAT(Broken("}]Ns"), HasSubstr("SETITEM has a key that Python could not hash"));
  EXPECT_THAT(Broken("]NNs"), HasSubstr("byte 5: SETITEM is not of a dict"));
  EXPECT_THAT(Broken("}Na"), HasSubstr("APPEND is not of a list"));
  EXPECT_THAT(Broken("N(Ne"), HasSubstr("APPENDS is not of a list"));
  EXPECT_THAT(Broken("\x8fNa"), HasSubstr("APPEND is not of a list"));
}

TEST(Pickle, StackAndMarks) {
  EXPECT_THAT(Broken(""), HasSubstr("byte 2: STOP leaves 0 values on the stack, not one"));
  EXPECT_THAT(Broken("NN"), HasSubstr("STOP leaves 2 values"));
  EXPECT_THAT(Broken("N("), HasSubstr("STOP leaves 2 values"));
  EXPECT_THAT(Broken("t"), HasSubstr("byte 2: TUPLE finds no MARK on the stack"));
  EXPECT_THAT(Broken("N\x86"), HasSubstr("byte 3: TUPLE2 needs 2 values on the stack, there are 1"));
  EXPECT_THAT(Broken("NN(N\x87"), HasSubstr("TUPLE3 needs 3 values on the stack, there are 1"));  // not below a mark
  EXPECT_THAT(Broken("(u"), HasSubstr("SETITEMS needs 1 values on the stack, there are 0"));
  EXPECT_THAT(Broken("a"), HasSubstr("APPEND needs 2"));
  EXPECT_THAT(Broken("Q"), HasSubstr("BINPERSID needs 1"));
  EXPECT_THAT(Broken("R"), HasSubstr("REDUCE needs 2"));
  EXPECT_THAT(Broken("b"), HasSubstr("BUILD needs 2"));
  EXPECT_THAT(Broken(std::string("q\0", 2)), HasSubstr("BINPUT needs 1"));
}

TEST(Pickle, Memo) {
  const Pickle pickle = Good(std::string("Nq\x05h\x05r\x07\0\0\0j\x07\0\0\0\x87", 16));
  EXPECT_EQ(pickle.tuple(pickle.root()).size(), 3u);
  EXPECT_THAT(Broken("h\x05"), HasSubstr("byte 2: BINGET asks for number 5 of the memo, which was never put there"));
  EXPECT_THAT(Broken(std::string("Nq\x06h\x05\x86", 6)), HasSubstr("BINGET asks for number 5 of the memo"));
  EXPECT_THAT(Broken("j\xff\xff\xff\xff"), HasSubstr("LONG_BINGET asks for number 4294967295"));
  EXPECT_THAT(Refused("Nr\xff\xff\xff\xff"), HasSubstr("byte 3: LONG_BINPUT is refused: a memo of more than 100,000"));
  EXPECT_THAT(Refused("Nr" + tests::LittleEndian(uint32_t{100'000})), HasSubstr("a memo of more than 100,000"));
  EXPECT_TRUE(Parse(p::Pickle("Nr" + tests::LittleEndian(uint32_t{99'999}))));
}

TEST(Pickle, GlobalsAreSymbolsOfAClosedList) {
  const Pickle known = Good(p::Global("m", "constant"));
  EXPECT_EQ(known.kind(known.root()), Kind::kGlobal);
  EXPECT_EQ(known.global(known.root()), 0u);
  // What people put into pickles to run it, and names that come near to those of the list.
  for (const auto& [module, name] :
       std::vector<std::pair<std::string, std::string>>{{"os", "system"},
                                                        {"posix", "system"},
                                                        {"nt", "system"},
                                                        {"builtins", "eval"},
                                                        {"__builtin__", "exec"},
                                                        {"builtins", "getattr"},
                                                        {"subprocess", "Popen"},
                                                        {"runpy", "_run_code"},
                                                        {"numpy.core.multiarray", "scalar"},
                                                        {"m", "Constant"},
                                                        {"m ", "constant"},
                                                        {"", "constant"},
                                                        {"m", ""},
                                                        {"m.constant", ""},
                                                        {"m", "constant.__class__"},
                                                        {"m", "constant\r"},
                                                        {"collections", "Ordereddict"}}) {
    const std::string error = Refused(p::Global(module, name) + p::Tuple({p::Text("touch /tmp/x")}) + "R");
    EXPECT_THAT(error, HasSubstr("byte 2: GLOBAL ")) << module << "." << name;
    EXPECT_THAT(error, HasSubstr("is refused: it is not one of the names that a file of weights needs"));
  }
  EXPECT_THAT(Refused(p::Global("os", "system")), HasSubstr("byte 2: GLOBAL os.system is refused"));
  EXPECT_THAT(Refused(p::Global("a\x1b[31m", "b")), HasSubstr("GLOBAL a\\u001b[31m.b is refused"));
  EXPECT_THAT(Broken("cm"), HasSubstr("GLOBAL has no end of line"));
  EXPECT_THAT(Broken("cm\nconstant"), HasSubstr("GLOBAL has no end of line"));
}

TEST(Pickle, CallsAreValues) {
  const Pickle call = Good(p::Call(p::Global("m", "function"), {p::Int(1), p::Text("x")}));
  ASSERT_EQ(call.kind(call.root()), Kind::kCall);
  EXPECT_EQ(call.global(call.root()), 1u);
  EXPECT_EQ(call.tuple(call.arguments(call.root())).size(), 2u);
  const Pickle made = Good(p::Global("m", "Class") + ")\x81");
  EXPECT_EQ(made.kind(made.root()), Kind::kCall);
  const Pickle dict = Good(p::Dict({{p::Text("a"), "N"}}, p::OrderedDict()));
  EXPECT_EQ(dict.kind(dict.root()), Kind::kDict);
  const Pickle new_dict = Good(p::Global("collections", "OrderedDict") + ")\x81");
  EXPECT_EQ(new_dict.kind(new_dict.root()), Kind::kDict);

  EXPECT_THAT(Refused(p::Call(p::Global("m", "constant"), {})),
              HasSubstr("REDUCE is refused: m.constant cannot be called"));
  EXPECT_THAT(Refused(p::Global("m", "function") + ")\x81"),
              HasSubstr("NEWOBJ is refused: m.function cannot be constructed"));
  EXPECT_THAT(Refused(p::Call(p::Global("collections", "OrderedDict"), {"]"})),
              HasSubstr("REDUCE is refused: collections.OrderedDict with arguments"));
  EXPECT_THAT(Broken(p::Global("m", "function") + "]R"),
              HasSubstr("m.function is called with something that is not a tuple"));
  EXPECT_THAT(Broken(p::Text("m.function") + ")R"), HasSubstr("REDUCE calls something that is not a global name"));
  EXPECT_THAT(Broken(p::Call(p::Global("m", "function"), {}) + ")R"),
              HasSubstr("calls something that is not a global"));
}

TEST(Pickle, AttributesOnlyOfAnOrderedDict) {
  const Pickle dict = Good(p::OrderedDict() + p::Dict({{p::Text("_metadata"), p::OrderedDict()}}) + "b");
  EXPECT_EQ(dict.kind(dict.root()), Kind::kDict);
  EXPECT_TRUE(dict.is_empty(dict.root()));  // attributes are no items
  EXPECT_THAT(Refused("}}b"), HasSubstr("BUILD is refused: the object on the stack is not one"));
  EXPECT_THAT(Refused(p::Call(p::Global("m", "Class"), {}) + "}b"), HasSubstr("BUILD is refused"));
  EXPECT_THAT(Refused(p::Global("m", "Class") + "}b"), HasSubstr("BUILD is refused"));
  EXPECT_THAT(Broken(p::OrderedDict() + ")b"), HasSubstr("BUILD attributes are not a dict"));
}

TEST(Pickle, OtherOpcodesAreRefusedByName) {
  const std::vector<std::pair<std::string, std::string>> refused = {
      {"P1\n", "PERSID"},
      {"ios\nsystem\n", "INST"},
      {"o", "OBJ"},
      {"\x82\x01", "EXT1"},
      {"\x83\x01\x01", "EXT2"},
      {"\x84\x01\x01\x01\x01", "EXT4"},
      {"\x93", "STACK_GLOBAL"},
      {"\x94", "MEMOIZE"},
      {"\x95" + std::string(8, '\0'), "FRAME"},
      {"\x8c\x01x", "SHORT_BINUNICODE"},
      {"\x8d", "BINUNICODE8"},
      {"\x8e", "BINBYTES8"},
      {"\x90", "ADDITEMS"},
      {"\x91", "FROZENSET"},
      {"\x92", "NEWOBJ_EX"},
      {"\x96", "BYTEARRAY8"},
      {"\x97", "NEXT_BUFFER"},
      {"\x98", "READONLY_BUFFER"},
      {"0", "POP"},
      {"1", "POP_MARK"},
      {"2", "DUP"},
      {"F1.0\n", "FLOAT"},
      {"I1\n", "INT"},
      {"L1L\n", "LONG"},
      {"S'x'\n", "STRING"},
      {"T", "BINSTRING"},
      {"Vx\n", "UNICODE"},
      {"d", "DICT"},
      {"l", "LIST"},
      {"g0\n", "GET"},
      {"p0\n", "PUT"},
      {"\x8b", "LONG4"},
      {"B", "BINBYTES"},
      {"C\x01x", "SHORT_BINBYTES"},
      {"\x7f", "opcode 0x7f"},
      {std::string(1, '\0'), "opcode 0x00"},
  };
  for (const auto& [ops, name] : refused) {
    EXPECT_THAT(Refused("N" + ops), HasSubstr("byte 3: " + name + " is refused: it is not one of the opcodes")) << name;
  }
}

TEST(Pickle, ProtocolsAndPicklesBehindOrInsideOthers) {
  EXPECT_TRUE(Parse("\x80\x03N."));
  for (const char protocol : {0, 1, 4, 5, 127}) {
    EXPECT_THAT(ErrorOf(std::string("\x80", 1) + protocol + "N.", ErrorCode::kUnsupported),
                HasSubstr(fmt::format("byte 0: PROTO is refused: protocol {};", static_cast<int>(protocol))));
  }
  EXPECT_THAT(ErrorOf("N."), HasSubstr("byte 0: NONE is not PROTO"));
  EXPECT_THAT(ErrorOf("(lp0\n."), HasSubstr("byte 0: MARK is not PROTO"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("byte 0:"));
  EXPECT_THAT(ErrorOf("\x80"), HasSubstr("PROTO takes 1 bytes"));
  EXPECT_THAT(Broken("N\x80\x02N.\x86"),
              HasSubstr("byte 3: PROTO stands inside a pickle: a second one was put into it"));
  EXPECT_THAT(ErrorOf(p::Pickle("N") + p::Pickle(p::Global("os", "system"))),
              HasSubstr("byte 3: STOP 14 bytes follow the end of the pickle"));
  EXPECT_THAT(ErrorOf("\x80\x02N"), HasSubstr("the pickle ends without STOP"));
}

TEST(Pickle, Limits) {
  const auto repeat = [](const std::string& ops, uint64_t times) {
    std::string all;
    all.reserve(ops.size() * times);
    for (uint64_t i = 0; i < times; ++i) all += ops;
    return all;
  };
  // PROTO, ], n times NONE and APPEND, STOP.
  EXPECT_TRUE(Parse(p::Pickle("]" + repeat("Na", kMaxPickleOpcodes / 2 - 2))));
  EXPECT_THAT(Refused("]" + repeat("Na", kMaxPickleOpcodes / 2 - 1)),
              HasSubstr("is refused: more than 1,000,000 opcodes"));
  EXPECT_TRUE(Parse(p::Pickle("(" + repeat("N", kMaxPickleStack - 1) + "t")));
  EXPECT_THAT(Refused("(" + repeat("N", kMaxPickleStack) + "t"), HasSubstr("is refused: a stack of more than 10,000"));
  EXPECT_THAT(Refused(repeat("(", kMaxPickleStack + 1)), HasSubstr("MARK is refused: a stack of more than 10,000"));
  EXPECT_THAT(ErrorOf(std::string(kMaxPickleBytes + 1, '\x80'), ErrorCode::kUnsupported), HasSubstr("over the limit"));
}

// 2^450,000 leaves by sharing; as many levels deep; a dict that holds itself: values are places, so all are cheap.
TEST(Pickle, SharingDepthAndCyclesCostNothing) {
  std::string shared = "]", deep = "N";
  for (int i = 0; i < 225'000; ++i) shared += std::string("q\0h\0\x86", 5);
  for (int i = 0; i < 900'000; ++i) deep += "\x85";
  const Pickle wide = Good(shared), tall = Good(deep);
  EXPECT_EQ(wide.tuple(wide.root()).size(), 2u);
  EXPECT_EQ(tall.tuple(tall.root()).size(), 1u);
  const Pickle cyclic = Good(std::string("}q\0", 3) + p::Text("self") + std::string("h\0s", 3));
  const auto items = cyclic.dict(cyclic.root());
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].value, cyclic.root());
  const Pickle list = Good(std::string("]q\0h\0a", 6));
  EXPECT_EQ(list.list(list.root()).front(), list.root());
}

TEST(Pickle, EveryCutIsAnError) {
  const std::string whole = p::Pickle(p::Dict(
      {{p::Text("w"), p::Call(p::Global("m", "function"), {p::Int(70'000), p::Numbers({1, 2})})}}, p::OrderedDict()));
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(Parse(whole.substr(0, size))) << size;
}

}  // namespace
}  // namespace sluice::formats
