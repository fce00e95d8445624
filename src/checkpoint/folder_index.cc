#include "checkpoint/folder_index.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>

#include <fmt/format.h>

#include "formats/json_reader.h"
#include "formats/recognise.h"

namespace sluice::checkpoint {
namespace {

using formats::JsonNumber;
using formats::JsonReader;
using formats::JsonType;
using formats::Printable;

// The path in its shortest form; nullopt where it is not of a file inside the folder. Only the name is looked at: hub
// caches link files to places outside on purpose.
std::optional<std::string> InsideFolder(std::string_view path) {
  if (path.empty() || path.find('\0') != std::string_view::npos) return std::nullopt;
  const std::filesystem::path normal = std::filesystem::path(path).lexically_normal();
  if (normal.is_absolute() || !normal.has_filename() || normal == "." || *normal.begin() == "..") return std::nullopt;
  return normal.string();
}

}  // namespace

class FolderIndexParser {
 public:
  FolderIndexParser(std::string_view text, const std::string& file) : text_(text), file_(file), json_(text) {}

  Result<FolderIndex> Run() {
    std::string_view key;
    bool has_map = false, has_metadata = false;
    if (!json_.BeginObject()) return JsonError();
    while (json_.NextKey(&key)) {
      if (bool* seen = key == "weight_map" ? &has_map : key == "metadata" ? &has_metadata : nullptr; seen != nullptr) {
        if (*seen) return ErrorAt(json_.token(), fmt::format("\"{}\" stands here a second time", key));
        *seen = true;
        SLUICE_TRY(seen == &has_map ? ParseMap() : ParseMetadata());
      } else if (!json_.Skip()) {
        return JsonError();
      }
    }
    if (!json_.End()) return JsonError();
    if (!has_map || index_.entries_.empty()) {
      return ErrorAt(text_.size(), has_map ? "weight_map is empty" : "there is no weight_map");
    }
    SLUICE_TRY(SortNames());
    SortFiles();
    return std::move(index_);
  }

 private:
  tl::unexpected<Error> ErrorAt(uint64_t offset, std::string_view message, ErrorCode code = ErrorCode::kCorrupt) const {
    const formats::LineColumn place = formats::LineColumnAt(text_, offset);
    return Fail(Error{code,
                      fmt::format("line {}, column {}: {}; fetch the index again", place.line, place.column, message),
                      {file_}});
  }
  tl::unexpected<Error> JsonError() const { return ErrorAt(json_.offset(), json_.message()); }

  Result<void> ParseMap() {
    std::string_view text;
    if (!json_.BeginObject()) return JsonError();
    while (json_.NextKey(&text)) {
      key_offsets_.push_back(json_.token());
      index_.entries_.push_back(
          {static_cast<uint32_t>(index_.names_.size()), static_cast<uint32_t>(text.size()), /*file=*/0});
      index_.names_ += text;
      if (!json_.String(&text)) return JsonError();
      auto place = files_.find(text);
      if (place == files_.end()) {
        SLUICE_ASSIGN(std::string path, CheckPath(text));
        // Spelled differently, it is still one file.
        const auto [file, is_new] = paths_.emplace(path, static_cast<uint32_t>(index_.files_.size()));
        if (is_new) index_.files_.push_back(std::move(path));
        place = files_.emplace(text, file->second).first;
      }
      index_.entries_.back().file = place->second;
    }
    if (!json_.ok()) return JsonError();
    return {};
  }

  Result<std::string> CheckPath(std::string_view path) const {
    auto inside = InsideFolder(path);
    if (!inside) {
      return ErrorAt(json_.token(), fmt::format("\"{}\" is not a file inside the folder", Printable(path)));
    }
    const std::string_view ending = inside->ends_with(".bin") ? ".bin" : ".safetensors";
    if (!inside->ends_with(ending)) {
      return ErrorAt(json_.token(), fmt::format("\"{}\" is not a .safetensors or .bin file", Printable(path)));
    }
    if (!index_.files_.empty() && !index_.files_.front().ends_with(ending)) {
      return ErrorAt(json_.token(), fmt::format("\"{}\" is of another format than \"{}\"", Printable(path),
                                                Printable(index_.files_.front())));
    }
    return std::move(*inside);
  }

  // Advisory: what is no number is not there.
  Result<void> ParseMetadata() {
    std::string_view key;
    if (json_.Peek() != JsonType::kObject) {
      if (!json_.Skip()) return JsonError();
      return {};
    }
    if (!json_.BeginObject()) return JsonError();
    while (json_.NextKey(&key)) {
      auto* out = key == "total_size"         ? &index_.total_size_
                  : key == "total_parameters" ? &index_.total_parameters_
                                              : nullptr;
      JsonNumber number;
      if (out == nullptr || json_.Peek() != JsonType::kNumber) {
        if (!json_.Skip()) return JsonError();
      } else if (json_.Number(&number)) {
        *out = number.AsUint64();
        double value = 0;  // some tools write 1.4e10
        if (!*out &&
            std::from_chars(number.text.data(), number.text.data() + number.text.size(), value).ec == std::errc() &&
            value >= 0 && value <= 0x1p53 && value == std::trunc(value)) {
          *out = static_cast<uint64_t>(value);
        }
      }
    }
    if (!json_.ok()) return JsonError();
    return {};
  }

  Result<void> SortNames() {
    auto& entries = index_.entries_;
    std::vector<uint32_t> order(entries.size());
    std::iota(order.begin(), order.end(), 0u);
    const auto name = [this](uint32_t i) { return index_.tensor(i); };
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
      const int sign = name(a).compare(name(b));
      return sign != 0 ? sign < 0 : a < b;
    });
    const auto twice =
        std::adjacent_find(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return name(a) == name(b); });
    if (twice != order.end()) {
      return ErrorAt(key_offsets_[*(twice + 1)],
                     fmt::format("the tensor {} stands in weight_map a second time", Printable(name(*twice))));
    }
    std::vector<FolderIndex::Entry> sorted;
    sorted.reserve(entries.size());
    for (const uint32_t i : order) sorted.push_back(entries[i]);
    entries = std::move(sorted);
    return {};
  }

  void SortFiles() {
    std::vector<std::string> sorted = index_.files_;
    std::sort(sorted.begin(), sorted.end());
    std::vector<uint32_t> new_place;
    new_place.reserve(index_.files_.size());
    for (const std::string& file : index_.files_) {
      new_place.push_back(static_cast<uint32_t>(std::lower_bound(sorted.begin(), sorted.end(), file) - sorted.begin()));
    }
    for (FolderIndex::Entry& entry : index_.entries_) entry.file = new_place[entry.file];
    index_.files_ = std::move(sorted);
  }

  std::string_view text_;
  const std::string& file_;
  JsonReader json_;
  FolderIndex index_;
  std::map<std::string, uint32_t, std::less<>> files_;  // as spelled
  std::map<std::string, uint32_t> paths_;               // in their shortest form
  std::vector<uint64_t> key_offsets_;
};

Result<FolderIndex> FolderIndex::Parse(std::string_view text, const std::string& file) {
  if (formats::Recognised other = formats::Recognise(text);
      other.kind == formats::FileKind::kLfsPointer || other.kind == formats::FileKind::kHtml) {
    return Fail(Error{ErrorCode::kCorrupt, std::move(other.message), {file}});
  }
  return FolderIndexParser(text, file).Run();
}

std::string_view FolderIndex::tensor(size_t i) const {
  return std::string_view(names_).substr(entries_[i].name_begin, entries_[i].name_size);
}

std::optional<size_t> FolderIndex::Find(std::string_view name) const {
  const auto place =
      std::lower_bound(entries_.begin(), entries_.end(), name, [this](const Entry& entry, std::string_view n) {
        return std::string_view(names_).substr(entry.name_begin, entry.name_size) < n;
      });
  const auto i = static_cast<size_t>(place - entries_.begin());
  if (place == entries_.end() || tensor(i) != name) return std::nullopt;
  return i;
}

std::optional<ShardName> ParseShardName(std::string_view file) {
  constexpr std::string_view kOf = "-of-";
  const std::string_view ending = file.ends_with(".bin") ? ".bin" : ".safetensors";
  if (!file.ends_with(ending)) return std::nullopt;
  file.remove_suffix(ending.size());
  const auto take_number = [&](uint64_t* number) {
    const size_t digits = file.size() - (file.find_last_not_of("0123456789") + 1);
    const std::string_view text = file.substr(file.size() - digits);
    file.remove_suffix(digits);
    return std::from_chars(text.data(), text.data() + text.size(), *number).ec == std::errc();
  };
  ShardName name;
  if (!take_number(&name.count) || !file.ends_with(kOf)) return std::nullopt;
  file.remove_suffix(kOf.size());
  if (!take_number(&name.number) || !file.ends_with('-')) return std::nullopt;
  file.remove_suffix(1);
  name.prefix = file;
  return name;
}

}  // namespace sluice::checkpoint
