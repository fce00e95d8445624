#include "checkpoint/gguf_parts.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>

#include <fmt/format.h>

namespace sluice::checkpoint {
namespace {

using formats::GgufFile;
using formats::GgufTensor;

constexpr std::string_view kEnding = ".gguf";
constexpr uint64_t kMaxParts = 10000;

Result<std::shared_ptr<const GgufFile>> OpenFile(const std::string& path, const OpenOptions& options) {
  SLUICE_ASSIGN(std::shared_ptr<const io::ByteSource> source, options.open_source(path));
  return GgufFile::Open(std::move(source));
}

// 1 for a file that is not split.
Result<uint64_t> PartCount(const GgufFile& file) {
  SLUICE_ASSIGN(const std::optional<uint64_t> count, file.GetUnsigned("split.count"));
  return std::max<uint64_t>(count.value_or(1), 1);
}

// "x-00002-of-00003.gguf" of "x-00001-of-00003.gguf" and 2, with as many digits; empty where the name is none of these.
std::string PartName(std::string_view path, uint64_t number, uint64_t count) {
  if (!path.ends_with(kEnding)) return {};
  const std::string_view stem = path.substr(0, path.size() - kEnding.size());
  const size_t of = stem.rfind("-of-");
  const size_t dash = of == std::string_view::npos || of == 0 ? std::string_view::npos : stem.rfind('-', of - 1);
  if (dash == std::string_view::npos) return {};
  const size_t digits = of - dash - 1;
  const std::string ending = fmt::format("-of-{:0{}}", count, stem.size() - of - 4);
  if (stem.substr(of) != ending || digits == 0) return {};
  if (stem.substr(dash + 1, digits).find_first_not_of("0123456789") != std::string_view::npos) return {};
  return fmt::format("{}-{:0{}}{}{}", stem.substr(0, dash), number, digits, ending, kEnding);
}

}  // namespace

Result<GgufParts> GgufParts::Open(const std::string& path, const OpenOptions& options) {
  GgufParts parts;
  SLUICE_ASSIGN(const std::shared_ptr<const GgufFile> given, OpenFile(path, options));
  SLUICE_ASSIGN(const uint64_t count, PartCount(*given));
  if (count == 1) {
    parts.files_.push_back(given);
  } else {
    const auto fail = [&](ErrorCode code, std::string message) {
      return Fail(Error{code, std::move(message), {path}});
    };
    if (count > kMaxParts) return fail(ErrorCode::kCorrupt, fmt::format("split.count is {}; fetch it again", count));
    if (PartName(path, 1, count).empty()) {
      return fail(ErrorCode::kNotFound,
                  fmt::format("is one of {} parts of a model (key split.count), and its name does not end in "
                              "-NNNNN-of-{:05}.gguf, so the others cannot be found: give the parts their names back",
                              count, count));
    }
    std::string missing;
    uint64_t num_missing = 0;
    for (uint64_t number = 1; number <= count; ++number) {
      const std::string name = PartName(path, number, count);
      auto part = OpenFile(name, options);
      if (!part && part.error().code == ErrorCode::kNotFound) {
        if (num_missing++ < 3) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", name);
        continue;
      }
      SLUICE_ASSIGN(parts.files_.emplace_back(), std::move(part));
    }
    if (num_missing > 0) {
      return fail(ErrorCode::kNotFound, fmt::format("{} of the model's {} parts are not there: {}{}; fetch them",
                                                    num_missing, count, missing, num_missing > 3 ? ", ..." : ""));
    }
    SLUICE_TRY(parts.CheckParts());
  }
  SLUICE_TRY(parts.AddTensors());
  return parts;
}

// Each is the part that its name says, of as many.
Result<void> GgufParts::CheckParts() const {
  for (size_t i = 0; i < files_.size(); ++i) {
    SLUICE_ASSIGN(const std::optional<uint64_t> number, files_[i]->GetUnsigned("split.no"));
    SLUICE_ASSIGN(const uint64_t count, PartCount(*files_[i]));
    if (number == i && count == files_.size()) continue;
    return Fail(
        Error{ErrorCode::kCorrupt,
              fmt::format("should be part {} of {} by its name, and its keys say part {} of {}: the files are of "
                          "two models or were renamed; fetch them again",
                          i + 1, files_.size(), number ? std::to_string(*number + 1) : "?", count),
              {files_[i]->source()->name()}});
  }
  return {};
}

Result<void> GgufParts::AddTensors() {
  std::set<std::string_view> names;
  for (const auto& file : files_) {
    for (const GgufTensor& tensor : file->tensors()) {
      if (files_.size() > 1 && !names.insert(tensor.name).second) {
        return Fail(Error{ErrorCode::kCorrupt,
                          "is in another part of the model too: the files are of two models; fetch them again",
                          {file->source()->name(), tensor.name}});
      }
      tensors_.push_back({&tensor, file.get()});
    }
  }
  if (files_.size() == 1) return {};
  SLUICE_ASSIGN(const std::optional<uint64_t> total, head().GetUnsigned("split.tensors.count"));
  if (!total || *total == tensors_.size()) return {};
  return Fail(Error{ErrorCode::kCorrupt,
                    fmt::format("is {}, and the parts have {} tensors: a part is of another model; fetch them again",
                                *total, tensors_.size()),
                    {head().source()->name(), "split.tensors.count"}});
}

}  // namespace sluice::checkpoint
