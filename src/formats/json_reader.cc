#include "formats/json_reader.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::formats {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Characters that end a run of plain string text: quote, backslash, controls.
constexpr std::array<bool, 256> kStopsString = [] {
  std::array<bool, 256> table{};
  for (int c = 0; c < 0x20; ++c) table[c] = true;
  table['"'] = table['\\'] = true;
  return table;
}();

void AppendUtf8(uint32_t code, std::string* out) {
  if (code < 0x80) {
    *out += static_cast<char>(code);
  } else if (code < 0x800) {
    *out += static_cast<char>(0xc0 | (code >> 6));
    *out += static_cast<char>(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    *out += static_cast<char>(0xe0 | (code >> 12));
    *out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    *out += static_cast<char>(0x80 | (code & 0x3f));
  } else {
    *out += static_cast<char>(0xf0 | (code >> 18));
    *out += static_cast<char>(0x80 | ((code >> 12) & 0x3f));
    *out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    *out += static_cast<char>(0x80 | (code & 0x3f));
  }
}

std::string Found(std::string_view text, uint64_t at) {
  const auto c = static_cast<uint8_t>(text[at]);
  if (c > 0x20 && c < 0x7f) return fmt::format("'{}'", text[at]);
  return fmt::format("byte 0x{:02x}", c);
}

}  // namespace

const char* JsonTypeName(JsonType type) {
  switch (type) {
    case JsonType::kNone:
      return "nothing";
    case JsonType::kObject:
      return "an object";
    case JsonType::kArray:
      return "an array";
    case JsonType::kString:
      return "a string";
    case JsonType::kNumber:
      return "a number";
    case JsonType::kTrue:
      return "true";
    case JsonType::kFalse:
      return "false";
    case JsonType::kNull:
      return "null";
  }
  SLUICE_CHECK(false);
}

std::optional<uint64_t> JsonNumber::AsUint64() const {
  if (!is_integer || text.front() == '-') return std::nullopt;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

JsonReader::JsonReader(std::string_view text) : text_(text) {
  if (text.starts_with("\xef\xbb\xbf")) {
    Fail(JsonError::kByteOrderMark, 0, "a byte-order mark, which JSON does not allow");
  } else if (const auto invalid = FirstInvalidUtf8(text)) {
    Fail(JsonError::kNotUtf8, *invalid, fmt::format("{} is not UTF-8", Found(text, *invalid)));
  }
}

bool JsonReader::Fail(JsonError error, uint64_t offset, std::string message) {
  if (error_ == JsonError::kNone) {
    error_ = error;
    error_offset_ = offset;
    message_ = std::move(message);
  }
  return false;
}

void JsonReader::SkipSpace() {
  while (at_ < text_.size() && IsSpace(text_[at_])) ++at_;
}

// At at_ there is not what the grammar wants. The usual slips are named.
bool JsonReader::Unexpected(const char* wanted) {
  if (!ok()) return false;
  if (at_ >= text_.size()) return Fail(JsonError::kEnd, at_, fmt::format("the text ends where {} is expected", wanted));
  std::string found = Found(text_, at_);
  if (text_[at_] == '/' || text_[at_] == '#') found += " (JSON has no comments)";
  if (text_[at_] == '\'') found += " (JSON strings have double quotes)";
  return Fail(JsonError::kSyntax, at_, fmt::format("{} where {} is expected", found, wanted));
}

JsonType JsonReader::Peek() {
  if (!ok()) return JsonType::kNone;
  SkipSpace();
  const char c = at_ < text_.size() ? text_[at_] : '\0';
  switch (c) {
    case '{':
      return JsonType::kObject;
    case '[':
      return JsonType::kArray;
    case '"':
      return JsonType::kString;
    case 't':
      return JsonType::kTrue;
    case 'f':
      return JsonType::kFalse;
    case 'n':
      return JsonType::kNull;
    default:
      break;
  }
  if (c == '-' || IsDigit(c)) return JsonType::kNumber;
  Unexpected("a value");
  return JsonType::kNone;
}

bool JsonReader::Expect(JsonType type) {
  const JsonType found = Peek();
  token_ = at_;
  if (found == JsonType::kNone) return false;
  if (found != type) {
    return Fail(JsonError::kType, at_, fmt::format("{} where {} is expected", JsonTypeName(found), JsonTypeName(type)));
  }
  return true;
}

bool JsonReader::Enter() {
  if (depth_ == kMaxDepth) {
    return Fail(JsonError::kTooDeep, at_, fmt::format("nested deeper than {} levels", kMaxDepth));
  }
  ++depth_;
  ++at_;
  first_ = true;
  return true;
}

bool JsonReader::BeginObject() { return Expect(JsonType::kObject) && Enter(); }
bool JsonReader::BeginArray() { return Expect(JsonType::kArray) && Enter(); }

bool JsonReader::NextKey(std::string_view* key) {
  if (!ok()) return false;
  SkipSpace();
  if (at_ < text_.size() && text_[at_] == '}') {
    ++at_;
    --depth_;
    first_ = false;
    return false;
  }
  if (!first_) {
    if (at_ >= text_.size() || text_[at_] != ',') return Unexpected("',' or '}'");
    const uint64_t comma = at_++;
    SkipSpace();
    if (at_ < text_.size() && text_[at_] == '}') return Fail(JsonError::kSyntax, comma, "a trailing comma");
  }
  if (at_ >= text_.size() || text_[at_] != '"') return Unexpected("a key in double quotes");
  const uint64_t begin = at_;
  if (!ReadString(key)) return false;
  SkipSpace();
  if (at_ >= text_.size() || text_[at_] != ':') return Unexpected("':'");
  ++at_;
  token_ = begin;
  return true;
}

bool JsonReader::NextElement() {
  if (!ok()) return false;
  SkipSpace();
  if (at_ < text_.size() && text_[at_] == ']') {
    ++at_;
    --depth_;
    first_ = false;
    return false;
  }
  if (first_) return true;  // the value itself is looked at by whoever takes it
  if (at_ >= text_.size() || text_[at_] != ',') return Unexpected("',' or ']'");
  const uint64_t comma = at_++;
  SkipSpace();
  if (at_ < text_.size() && text_[at_] == ']') return Fail(JsonError::kSyntax, comma, "a trailing comma");
  return true;
}

bool JsonReader::String(std::string_view* value) { return Expect(JsonType::kString) && ReadString(value); }

// At the opening quote. Plain text is handed out in place; the first escape moves the string into the buffer.
bool JsonReader::ReadString(std::string_view* value) {
  const uint64_t begin = ++at_;
  bool copied = false;
  uint64_t run = begin;
  for (;;) {
    while (at_ < text_.size() && !kStopsString[static_cast<uint8_t>(text_[at_])]) ++at_;
    if (at_ >= text_.size()) return Fail(JsonError::kEnd, at_, "the text ends inside a string");
    if (text_[at_] == '"') break;
    if (text_[at_] != '\\') {
      return Fail(JsonError::kControlCharacter, at_,
                  fmt::format("the control character 0x{:02x} inside a string must be escaped", text_[at_]));
    }
    if (!copied) buffer_.clear();
    copied = true;
    buffer_.append(text_, run, at_ - run);
    if (!ReadEscape()) return false;
    run = at_;
  }
  if (copied) {
    buffer_.append(text_, run, at_ - run);
    *value = buffer_;
  } else {
    *value = text_.substr(begin, at_ - begin);
  }
  ++at_;
  first_ = false;
  return true;
}

bool JsonReader::ReadHex4(uint32_t* value) {
  *value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    if (at_ >= text_.size()) return Fail(JsonError::kEnd, at_, "the text ends inside a string");
    const char c = text_[at_];
    uint32_t digit;
    if (IsDigit(c)) {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    } else {
      return Unexpected("one of the four hexadecimal digits of a \\u escape");
    }
    *value = *value * 16 + digit;
  }
  return true;
}

bool JsonReader::ReadEscape() {
  const uint64_t begin = at_++;
  if (at_ >= text_.size()) return Fail(JsonError::kEnd, at_, "the text ends inside a string");
  const char c = text_[at_++];
  switch (c) {
    case '"':
    case '\\':
    case '/':
      buffer_ += c;
      return true;
    case 'b':
      buffer_ += '\b';
      return true;
    case 'f':
      buffer_ += '\f';
      return true;
    case 'n':
      buffer_ += '\n';
      return true;
    case 'r':
      buffer_ += '\r';
      return true;
    case 't':
      buffer_ += '\t';
      return true;
    case 'u':
      break;
    default:
      --at_;
      return Unexpected("one of \"\\/bfnrtu after a backslash");
  }
  uint32_t code;
  if (!ReadHex4(&code)) return false;
  if (code >= 0xd800 && code < 0xe000) {
    uint32_t low = 0;
    const bool paired = code < 0xdc00 && text_.substr(at_, 2) == "\\u";
    if (paired) {
      at_ += 2;
      if (!ReadHex4(&low)) return false;
    }
    if (low < 0xdc00 || low >= 0xe000) {
      return Fail(JsonError::kLoneSurrogate, begin, fmt::format("\\u{:04x} is half of a surrogate pair", code));
    }
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  AppendUtf8(code, &buffer_);
  return true;
}

bool JsonReader::Number(JsonNumber* value) {
  if (!Expect(JsonType::kNumber)) return false;
  const uint64_t begin = at_;
  const auto peek = [&] { return at_ < text_.size() ? text_[at_] : '\0'; };
  const auto digits = [&] {
    if (!IsDigit(peek())) return Unexpected("a digit");
    while (IsDigit(peek())) ++at_;
    return true;
  };
  value->is_integer = true;
  if (peek() == '-') ++at_;
  if (peek() == '0') {
    ++at_;
    if (IsDigit(peek())) return Fail(JsonError::kSyntax, begin, "a number with a leading zero");
  } else if (!digits()) {
    return false;
  }
  if (peek() == '.') {
    value->is_integer = false;
    ++at_;
    if (!digits()) return false;
  }
  if (peek() == 'e' || peek() == 'E') {
    value->is_integer = false;
    ++at_;
    if (peek() == '+' || peek() == '-') ++at_;
    if (!digits()) return false;
  }
  if (at_ < text_.size() && !IsSpace(peek()) && peek() != ',' && peek() != ']' && peek() != '}') {
    return Unexpected("the end of a number");
  }
  value->text = text_.substr(begin, at_ - begin);
  first_ = false;
  return true;
}

bool JsonReader::ReadWord(std::string_view word) {
  if (text_.substr(at_, word.size()) != word) {
    return Fail(JsonError::kSyntax, at_, "a word that is none of true, false, null");
  }
  at_ += word.size();
  first_ = false;
  return true;
}

bool JsonReader::Literal() {
  const JsonType type = Peek();
  token_ = at_;
  if (type == JsonType::kTrue) return ReadWord("true");
  if (type == JsonType::kFalse) return ReadWord("false");
  if (type == JsonType::kNull) return ReadWord("null");
  if (type == JsonType::kNone) return false;
  return Fail(JsonError::kType, at_, fmt::format("{} where true, false or null is expected", JsonTypeName(type)));
}

bool JsonReader::Skip() {
  std::string_view ignored;
  JsonNumber number;
  switch (Peek()) {
    case JsonType::kNone:
      return false;
    case JsonType::kString:
      return String(&ignored);
    case JsonType::kNumber:
      return Number(&number);
    case JsonType::kObject:
      if (!BeginObject()) return false;
      while (NextKey(&ignored)) {
        if (!Skip()) return false;
      }
      return ok();
    case JsonType::kArray:
      if (!BeginArray()) return false;
      while (NextElement()) {
        if (!Skip()) return false;
      }
      return ok();
    default:
      return Literal();
  }
}

bool JsonReader::End() {
  if (!ok()) return false;
  SkipSpace();
  if (at_ == text_.size()) return true;
  return Fail(JsonError::kTrailing, at_, fmt::format("{} after the end of the JSON value", Found(text_, at_)));
}

std::optional<uint64_t> FirstInvalidUtf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  const uint64_t size = text.size();
  uint64_t at = 0;
  const auto continues = [&](uint64_t i, uint8_t low, uint8_t high) {
    return i < size && bytes[i] >= low && bytes[i] <= high;
  };
  while (at < size) {
    // Headers are nearly all ASCII: eight bytes at a time.
    uint64_t word;
    if (size - at >= sizeof(word)) {
      std::memcpy(&word, bytes + at, sizeof(word));
      if ((word & 0x8080808080808080u) == 0) {
        at += sizeof(word);
        continue;
      }
    }
    const uint8_t c = bytes[at];
    if (c < 0x80) {
      ++at;
    } else if (c >= 0xc2 && c <= 0xdf) {
      if (!continues(at + 1, 0x80, 0xbf)) return at;
      at += 2;
    } else if (c >= 0xe0 && c <= 0xef) {
      // The second byte rules out overlong forms (e0) and surrogates (ed).
      const uint8_t low = c == 0xe0 ? 0xa0 : 0x80, high = c == 0xed ? 0x9f : 0xbf;
      if (!continues(at + 1, low, high) || !continues(at + 2, 0x80, 0xbf)) return at;
      at += 3;
    } else if (c >= 0xf0 && c <= 0xf4) {
      // Overlong forms (f0) and what is above U+10FFFF (f4).
      const uint8_t low = c == 0xf0 ? 0x90 : 0x80, high = c == 0xf4 ? 0x8f : 0xbf;
      if (!continues(at + 1, low, high) || !continues(at + 2, 0x80, 0xbf) || !continues(at + 3, 0x80, 0xbf)) return at;
      at += 4;
    } else {
      return at;
    }
  }
  return std::nullopt;
}

LineColumn LineColumnAt(std::string_view text, uint64_t offset) {
  LineColumn place;
  for (const char c : text.substr(0, std::min<uint64_t>(offset, text.size()))) {
    if (c == '\n') {
      ++place.line;
      place.column = 1;
    } else if ((static_cast<uint8_t>(c) & 0xc0) != 0x80) {  // not the rest of a character
      ++place.column;
    }
  }
  return place;
}

void AppendJsonString(std::string_view text, std::string* out) {
  *out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\b':
        *out += "\\b";
        break;
      case '\f':
        *out += "\\f";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      default:
        if (static_cast<uint8_t>(c) < 0x20) {
          *out += fmt::format("\\u{:04x}", c);
        } else {
          *out += c;
        }
    }
  }
  *out += '"';
}

}  // namespace sluice::formats
