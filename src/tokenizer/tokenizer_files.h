// The files that a model's tokenizer is: those beside the weights, or what a GGUF's keys are as files.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "io/byte_source.h"

namespace sluice::tokenizer {

// The file of that name, or null.
const checkpoint::SideFile* FindFile(std::span<const checkpoint::SideFile> files, std::string_view name);

// The file as a JSON object, or kCorrupt with its name.
Result<nlohmann::ordered_json> ReadJsonObject(const checkpoint::SideFile& file);

// The model's side files, sorted by name; of a GGUF those that docs/tokenizers.md makes of its keys as well. Opens the
// GGUF's header with `open_source`. The file's errors.
Result<std::vector<checkpoint::SideFile>> FilesWithTokenizer(const checkpoint::Checkpoint& model,
                                                             const io::SourceFactory& open_source = io::OpenFile);

// The chat template that the files have, as it stands: chat_template.jinja, else chat_template of chat_template.json or
// tokenizer_config.json, of several by name the default one. Empty where there is none. Errors name the file.
Result<std::string> ReadRawChatTemplate(std::span<const checkpoint::SideFile> files);
// The same without blanks around it, as templates are compared.
Result<std::string> ReadChatTemplate(std::span<const checkpoint::SideFile> files);

}  // namespace sluice::tokenizer
