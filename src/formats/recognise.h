// What a file is by its first bytes, where it is not what its name says. For errors that tell people what to do.
#pragma once

#include <string>
#include <string_view>

namespace sluice::formats {

enum class FileKind { kUnknown, kLfsPointer, kHtml, kGguf, kZip, kText };

struct Recognised {
  FileKind kind = FileKind::kUnknown;
  std::string message;  // "a Git LFS pointer ..., not the file itself: run `git lfs pull` ..."; empty for kUnknown
};

// Looks at the first 4096 bytes at most; the more of them are given, the better.
Recognised Recognise(std::string_view first_bytes);

// The pointer that Git LFS leaves where it did not fetch the file.
bool IsLfsPointer(std::string_view first_bytes);

// `name` from a file for use in an error: control characters escaped, cut where it is long, "" where it is empty.
std::string Printable(std::string_view name);

}  // namespace sluice::formats
