// Chat templates of a merge: by name, the most common among the parents', or as written in the recipe.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint.h"

namespace sluice::merge {

// alpaca, chatml, ...
std::vector<std::string_view> ChatTemplateNames();
// Whether a recipe may say so: auto, a name, or text with Jinja in it.
bool IsChatTemplate(std::string_view text);

// The text that `wanted` means: of auto the one that most of the parents' have, the first of them where several are as
// common, empty where none has one.
Result<std::string> ResolveChatTemplate(const std::string& wanted,
                                        std::span<const std::vector<checkpoint::SideFile>> files_of_parents);

// The files with that template, in tokenizer_config.json (added where it is not there) and in no other place.
Result<std::vector<checkpoint::SideFile>> WithChatTemplate(std::span<const checkpoint::SideFile> files,
                                                           const std::string& text);

}  // namespace sluice::merge
