#include "merge/chat_template.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tokenizer/tokenizer_files.h"

namespace sluice::merge {
namespace {

using checkpoint::SideFile;
using Json = nlohmann::ordered_json;

constexpr std::string_view kConfig = "tokenizer_config.json", kJinja = "chat_template.jinja",
                           kOwn = "chat_template.json";

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

Result<std::string> ResolveChatTemplate(const std::string& wanted,
                                        std::span<const std::vector<SideFile>> files_of_parents) {
  if (const auto named = std::ranges::find(kNamed, wanted, &Named::name); named != kNamed.end()) {
    return std::string(named->text);
  }
  if (wanted != "auto") return wanted;
  std::vector<std::pair<std::string, size_t>> counts;
  for (const std::vector<SideFile>& files : files_of_parents) {
    SLUICE_ASSIGN(const std::string text, tokenizer::ReadChatTemplate(files));
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
      SLUICE_ASSIGN(config, tokenizer::ReadJsonObject(file));
    } else if (file.name != kJinja && file.name != kOwn) {
      result.push_back(file);
    }
  }
  config["chat_template"] = text;
  result.push_back({std::string(kConfig), "", config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"});
  std::ranges::sort(result, {}, &SideFile::name);
  return result;
}

}  // namespace sluice::merge
