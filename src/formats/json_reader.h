// JsonReader: a strict pull parser of JSON (RFC 8259), for headers and indices whose grammar is known and whose size is
// not.
//
// No document is built and nothing is allocated but a buffer for strings with escapes, so a header of 100,000 tensors
// costs its text. Stricter than most: UTF-8 without a byte-order mark, no lone surrogates, no raw control characters,
// nesting of at most 128. Whoever pulls decides about duplicate keys. The first error stays; every later call fails
// too.
//
//   JsonReader json(text);
//   std::string_view key;
//   if (json.BeginObject()) while (json.NextKey(&key)) json.Skip();
//   json.End();
//   if (!json.ok()) ... json.error(), json.offset(), json.message()
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::formats {

enum class JsonError {
  kNone,
  kNotUtf8,
  kByteOrderMark,
  kSyntax,            // anything that the grammar does not have: trailing comma, comment, 02, NaN, ...
  kEnd,               // the text ends inside a value
  kControlCharacter,  // raw, inside a string
  kLoneSurrogate,     // a \ud83d without its other half
  kTooDeep,
  kTrailing,  // something after the root value
  kType,      // a value of another type than was asked for
};

enum class JsonType { kNone, kObject, kArray, kString, kNumber, kTrue, kFalse, kNull };
const char* JsonTypeName(JsonType type);  // "an object"

struct JsonNumber {
  std::string_view text;
  bool is_integer = false;  // neither fraction nor exponent
  // Of an integer without a sign; nullopt for others and above 2^64 - 1.
  std::optional<uint64_t> AsUint64() const;
};

class JsonReader {
 public:
  static constexpr int kMaxDepth = 128;

  explicit JsonReader(std::string_view text);  // must outlive the reader

  // The type of the value that comes next; kNone after an error.
  JsonType Peek();

  // Each takes the next value, or fails with kType where it is of another type.
  bool BeginObject();
  bool BeginArray();
  bool String(std::string_view* value);  // decoded; valid until the next call
  bool Number(JsonNumber* value);        // valid as long as the text
  bool Literal();                        // true, false or null, as Peek said
  bool Skip();                           // whatever it is, all of it checked

  // In an object: its next key (decoded; valid until the next call), or false at its end or after an error.
  bool NextKey(std::string_view* key);
  // In an array: whether there is another element; false at its end or after an error.
  bool NextElement();
  // After the root value: nothing but white space may follow.
  bool End();

  bool ok() const { return error_ == JsonError::kNone; }
  JsonError error() const { return error_; }
  uint64_t offset() const { return error_offset_; }        // of the byte that the error is about
  const std::string& message() const { return message_; }  // "a trailing comma"
  uint64_t position() const { return at_; }                // of the byte that comes next
  uint64_t token() const { return token_; }                // where the key or value taken last begins

 private:
  void SkipSpace();
  bool Fail(JsonError error, uint64_t offset, std::string message);
  bool Unexpected(const char* wanted);
  bool Expect(JsonType type);
  bool ReadString(std::string_view* value);
  bool ReadEscape();
  bool ReadHex4(uint32_t* value);
  bool ReadWord(std::string_view word);
  bool Enter();

  std::string_view text_;
  uint64_t at_ = 0, token_ = 0;
  int depth_ = 0;
  bool first_ = false;  // nothing taken yet from the container just entered
  JsonError error_ = JsonError::kNone;
  uint64_t error_offset_ = 0;
  std::string message_, buffer_;
};

// Offset of the first byte that is not well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates).
std::optional<uint64_t> FirstInvalidUtf8(std::string_view text);

struct LineColumn {
  uint64_t line = 1, column = 1;  // characters, both from 1
};
LineColumn LineColumnAt(std::string_view text, uint64_t offset);

// Appends `text` (UTF-8) as a JSON string with its quotes; escapes only what must be, as Python's json with
// ensure_ascii=False.
void AppendJsonString(std::string_view text, std::string* out);

}  // namespace sluice::formats
