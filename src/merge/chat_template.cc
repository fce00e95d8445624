#include "merge/chat_template.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace sluice::merge {
namespace {

using checkpoint::SideFile;
using Json = nlohmann::ordered_json;

constexpr std::string_view kConfig = "tokenizer_config.json", kJinja = "chat_template.jinja";

struct Named {
  std::string_view name, text;
};

// The formats that these models were trained on.
constexpr std::array<Named, 5> kNamed = {{
    {"alpaca",
     R"({%- if messages and messages[0]['role'] == 'system' -%}
{{- messages[0]['content'] + '\n\n' -}}
{%- else -%}
{{- 'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{- '### Instruction:\n' + message['content'] + '\n\n' -}}
{%- elif message['role'] == 'assistant' -%}
{{- '### Response:\n' + message['content'] + eos_token + '\n\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '### Response:\n' -}}
{%- endif -%})"},
    {"chatml",
     R"({%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\n' -}}
{%- endif -%})"},
    {"exaone",
     R"({%- if not messages or messages[0]['role'] != 'system' -%}
{{- '[|system|][|endofturn|]\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '[|' + message['role'] + '|]' + message['content'] -}}
{{- '\n' if message['role'] == 'user' else '[|endofturn|]\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '[|assistant|]' -}}
{%- endif -%})"},
    {"llama3",
     R"({{- bos_token -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{%- endif -%})"},
    {"mistral",
     R"({{- bos_token -}}
{%- set asked = namespace(system='') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set asked.system = message['content'] + '\n\n' -%}
{%- elif message['role'] == 'user' -%}
{{- '[INST] ' + asked.system + message['content'] + ' [/INST]' -}}
{%- set asked.system = '' -%}
{%- else -%}
{{- ' ' + message['content'] + eos_token -}}
{%- endif -%}
{%- endfor -%})"},
}};

const SideFile* Find(std::span<const SideFile> files, std::string_view name) {
  const auto found = std::ranges::find(files, name, &SideFile::name);
  return found == files.end() ? nullptr : &*found;
}

std::string Trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

// Of a member that is text, else empty.
std::string TextOf(const Json& json, const char* key) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<Json> ReadConfig(const SideFile& file) {
  SLUICE_ASSIGN(const std::string text, file.Read());
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return Fail(ErrorCode::kCorrupt, fmt::format("{}: not a JSON object", file.path.empty() ? file.name : file.path));
  }
  return json;
}

}  // namespace

std::vector<std::string_view> ChatTemplateNames() {
  std::vector<std::string_view> names;
  for (const Named& named : kNamed) names.push_back(named.name);
  return names;
}

bool IsChatTemplate(std::string_view text) {
  return text == "auto" || text.find('{') != std::string_view::npos ||
         std::ranges::find(kNamed, text, &Named::name) != kNamed.end();
}

Result<std::string> ReadChatTemplate(std::span<const SideFile> files) {
  if (const SideFile* jinja = Find(files, kJinja)) {
    SLUICE_ASSIGN(const std::string text, jinja->Read());
    return Trimmed(text);
  }
  const SideFile* file = Find(files, kConfig);
  if (!file) return std::string();
  SLUICE_ASSIGN(const Json config, ReadConfig(*file));
  const auto found = config.find("chat_template");
  if (found == config.end()) return std::string();
  if (found->is_string()) return Trimmed(found->get<std::string>());
  if (found->is_array()) {  // several, by name
    for (const Json& item : *found) {
      if (TextOf(item, "name") == "default") return Trimmed(TextOf(item, "template"));
    }
  }
  return std::string();
}

Result<std::string> ResolveChatTemplate(const std::string& wanted,
                                        std::span<const std::vector<SideFile>> files_of_parents) {
  if (const auto named = std::ranges::find(kNamed, wanted, &Named::name); named != kNamed.end()) {
    return std::string(named->text);
  }
  if (wanted != "auto") return wanted;
  std::vector<std::pair<std::string, size_t>> counts;
  for (const std::vector<SideFile>& files : files_of_parents) {
    SLUICE_ASSIGN(const std::string text, ReadChatTemplate(files));
    if (text.empty()) continue;
    const auto found = std::ranges::find(counts, text, &std::pair<std::string, size_t>::first);
    if (found == counts.end()) {
      counts.emplace_back(text, 1);
    } else {
      ++found->second;
    }
  }
  if (counts.empty()) return std::string();
  return std::ranges::max_element(counts, {}, &std::pair<std::string, size_t>::second)->first;
}

Result<std::vector<SideFile>> WithChatTemplate(std::span<const SideFile> files, const std::string& text) {
  std::vector<SideFile> result;
  Json config = Json::object();
  for (const SideFile& file : files) {
    if (file.name == kConfig) {
      SLUICE_ASSIGN(config, ReadConfig(file));
    } else if (file.name != kJinja) {
      result.push_back(file);
    }
  }
  config["chat_template"] = text;
  result.push_back({std::string(kConfig), "", config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"});
  std::ranges::sort(result, {}, &SideFile::name);
  return result;
}

}  // namespace sluice::merge
