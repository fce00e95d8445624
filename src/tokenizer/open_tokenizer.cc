#include "tokenizer/open_tokenizer.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "formats/gguf.h"
#include "io/byte_source.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/tokenizer_json.h"

namespace sluice::tokenizer {
namespace {

Result<std::shared_ptr<const Tokenizer>> OpenGguf(const std::string& path) {
  SLUICE_ASSIGN(const auto source, io::OpenFile(path));
  SLUICE_ASSIGN(const auto gguf, formats::GgufFile::Open(source));
  return OpenGgufTokenizer(*gguf);
}

using checkpoint::SideFile;

// tokenizer.json or, by its ending, tokenizer.model.
Result<std::shared_ptr<const Tokenizer>> OpenSideFile(const SideFile& file, const std::vector<SideFile>& config_files) {
  SLUICE_ASSIGN(const std::string text, file.Read());
  std::vector<std::string> configs;
  for (const SideFile& config : config_files) {
    SLUICE_ASSIGN(std::string read, config.Read());
    configs.push_back(std::move(read));
  }
  const std::string& name = file.path.empty() ? file.name : file.path;
  return file.name.ends_with(".model") ? ParseSentencePieceModel(text, name, configs)
                                       : ParseTokenizerJson(text, name, configs);
}

// In the order in which they count.
constexpr std::array<const char*, 2> kConfigNames = {"tokenizer_config.json", "special_tokens_map.json"};

}  // namespace

Result<std::shared_ptr<const Tokenizer>> OpenTokenizer(const checkpoint::Checkpoint& checkpoint) {
  const auto find = [&](std::string_view name) {
    const auto& files = checkpoint.side_files();
    return std::find_if(files.begin(), files.end(), [&](const auto& file) { return file.name == name; });
  };
  for (const char* file_name : {"tokenizer.json", "tokenizer.model"}) {
    const auto file = find(file_name);
    if (file == checkpoint.side_files().end()) continue;
    std::vector<SideFile> configs;
    for (const char* name : kConfigNames) {
      if (const auto config = find(name); config != checkpoint.side_files().end()) configs.push_back(*config);
    }
    return OpenSideFile(*file, configs);
  }
  // The tables of a GGUF; a cast or recipe of one has them in the same file.
  for (const auto& file : checkpoint.files()) {
    if (file.path.ends_with(".gguf")) return OpenGguf(file.path);
  }
  return Fail(
      Error{ErrorCode::kNotFound,
            "there is no tokenizer beside the weights: put the model's tokenizer.json (or tokenizer.model) there",
            {checkpoint.ref()}});
}

bool IsTokenizerFile(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  return path.ends_with(".gguf") || name == "tokenizer.json" || name == "tokenizer.model";
}

Result<std::shared_ptr<const Tokenizer>> OpenTokenizerFile(const std::string& path) {
  if (path.ends_with(".gguf")) return OpenGguf(path);
  std::vector<SideFile> configs;
  for (const char* name : kConfigNames) {
    const std::filesystem::path config = std::filesystem::path(path).parent_path() / name;
    std::error_code error;
    if (std::filesystem::is_regular_file(config, error)) configs.push_back({name, config.string()});
  }
  return OpenSideFile({std::filesystem::path(path).filename().string(), path}, configs);
}

}  // namespace sluice::tokenizer
