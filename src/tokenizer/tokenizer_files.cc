#include "tokenizer/tokenizer_files.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "formats/gguf.h"
#include "tokenizer/gguf_tokenizer_files.h"

namespace sluice::tokenizer {
namespace {

using checkpoint::SideFile;
using Json = nlohmann::ordered_json;

std::string Trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

// Of a member that is text, else empty.
std::string TextOf(const Json& json, const char* key) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

const SideFile* FindFile(std::span<const SideFile> files, std::string_view name) {
  const auto found = std::ranges::find(files, name, &SideFile::name);
  return found == files.end() ? nullptr : &*found;
}

Result<std::vector<SideFile>> FilesWithTokenizer(const checkpoint::Checkpoint& model,
                                                 const io::SourceFactory& open_source) {
  std::vector<SideFile> files = model.side_files();
  if (model.embedded_tokenizer().empty()) return files;
  SLUICE_ASSIGN(auto source, open_source(model.files()[0].path));
  SLUICE_ASSIGN(const auto gguf, formats::GgufFile::Open(std::move(source)));
  SLUICE_ASSIGN(const auto tokenizer, TokenizerFilesOf(*gguf));
  files.insert(files.end(), tokenizer.begin(), tokenizer.end());
  std::ranges::sort(files, {}, &SideFile::name);
  return files;
}

Result<std::string> ReadChatTemplate(std::span<const SideFile> files) {
  if (const SideFile* jinja = FindFile(files, "chat_template.jinja")) {
    SLUICE_ASSIGN(const std::string text, jinja->Read());
    return Trimmed(text);
  }
  const SideFile* file = FindFile(files, "tokenizer_config.json");
  if (!file) return std::string();
  SLUICE_ASSIGN(const std::string text, file->Read());
  const Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) {
    return Fail(ErrorCode::kCorrupt,
                fmt::format("{}: not a JSON object", file->path.empty() ? file->name : file->path));
  }
  const auto found = config.find("chat_template");
  if (found == config.end()) return std::string();
  if (found->is_string()) return Trimmed(found->get<std::string>());
  if (found->is_array()) {
    for (const Json& item : *found) {
      if (TextOf(item, "name") == "default") return Trimmed(TextOf(item, "template"));
    }
  }
  return std::string();
}

}  // namespace sluice::tokenizer
