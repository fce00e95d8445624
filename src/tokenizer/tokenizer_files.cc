#include "tokenizer/tokenizer_files.h"

#include <algorithm>

#include <fmt/format.h>

#include "formats/gguf.h"
#include "formats/json_document.h"
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

Result<Json> ReadJsonObject(const SideFile& file) {
  const std::string& place = file.path.empty() ? file.name : file.path;
  SLUICE_ASSIGN(const std::string text, file.Read());
  Result<Json> json = formats::ParseJson(text, place);
  if (json && json->is_object()) return json;
  return Fail(ErrorCode::kCorrupt,
              fmt::format("{}: not a JSON object{}", place, json ? "" : ": " + json.error().message));
}

Result<std::string> ReadRawChatTemplate(std::span<const SideFile> files) {
  if (const SideFile* jinja = FindFile(files, "chat_template.jinja")) return jinja->Read();
  for (const char* name : {"chat_template.json", "tokenizer_config.json"}) {
    const SideFile* file = FindFile(files, name);
    if (file == nullptr) continue;
    SLUICE_ASSIGN(const Json config, ReadJsonObject(*file));
    const auto found = config.find("chat_template");
    if (found == config.end()) continue;
    if (found->is_string()) return found->get<std::string>();
    if (!found->is_array()) continue;
    for (const Json& item : *found) {  // [{"name": "default", "template": "..."}, ...]
      if (TextOf(item, "name") == "default") return TextOf(item, "template");
    }
  }
  return std::string();
}

Result<std::string> ReadChatTemplate(std::span<const SideFile> files) {
  SLUICE_ASSIGN(const std::string text, ReadRawChatTemplate(files));
  return Trimmed(text);
}

}  // namespace sluice::tokenizer
