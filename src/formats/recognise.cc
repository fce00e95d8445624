#include "formats/recognise.h"

#include <algorithm>

#include <fmt/format.h>

#include "formats/json_reader.h"

namespace sluice::formats {
namespace {

constexpr uint64_t kLookBytes = 4096;

bool StartsWithNoCase(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() && std::equal(lower.begin(), lower.end(), text.begin(), [](char a, char b) {
           return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b);
         });
}

}  // namespace

Recognised Recognise(std::string_view bytes) {
  if (IsLfsPointer(bytes)) {
    std::string size;
    if (const size_t at = bytes.find("\nsize "); at != std::string_view::npos) {
      const std::string_view digits = bytes.substr(at + 6, bytes.substr(at + 6).find_first_not_of("0123456789"));
      if (!digits.empty() && digits.size() < 20) size = fmt::format(" for {} bytes of weights", digits);
    }
    return {
        FileKind::kLfsPointer,
        fmt::format("a Git LFS pointer{}, not the file itself: run `git lfs pull` in the clone, or download the file "
                    "again with `hf download`",
                    size)};
  }
  std::string_view text = bytes.substr(0, kLookBytes);
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  if (StartsWithNoCase(text, "<!doctype html") || StartsWithNoCase(text, "<html")) {
    return {FileKind::kHtml,
            "an HTML page, most likely an error or login page that was saved in place of the file: download it again"};
  }
  if (bytes.starts_with("GGUF")) {
    return {FileKind::kGguf, "a GGUF file, not safetensors: give it a name that ends in .gguf"};
  }
  if (bytes.starts_with("PK\x03\x04")) {
    return {
        FileKind::kZip,
        "a ZIP archive, not safetensors: PyTorch saves its .bin and .pt files so; give it a name that ends in .bin"};
  }
  const std::string_view first = bytes.substr(0, 8);
  if (!first.empty() && std::all_of(first.begin(), first.end(), [](char c) {
        return (c >= 0x20 && c < 0x7f) || c == '\n' || c == '\r' || c == '\t';
      })) {
    return {FileKind::kText, fmt::format("a text that begins with \"{}\", not safetensors: download the file again",
                                         Printable(bytes.substr(0, bytes.substr(0, 40).find_first_of("\r\n"))))};
  }
  return {};
}

bool IsLfsPointer(std::string_view first_bytes) {
  return first_bytes.starts_with("version https://git-lfs.github.com/");
}

std::string Printable(std::string_view name) {
  constexpr size_t kMost = 160;
  std::string text;
  AppendJsonString(name.substr(0, kMost), &text);
  text = text.substr(1, text.size() - 2);
  while (FirstInvalidUtf8(text)) text.pop_back();  // a character that was cut
  if (name.size() > kMost) text += "...";
  return text.empty() ? "\"\"" : text;
}

}  // namespace sluice::formats
