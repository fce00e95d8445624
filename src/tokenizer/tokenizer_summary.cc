#include "tokenizer/tokenizer_summary.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "formats/gguf.h"
#include "formats/json_reader.h"
#include "io/byte_source.h"
#include "tokenizer/open_tokenizer.h"
#include "tokenizer/tokenizer_files.h"

namespace sluice::tokenizer {
namespace {

using formats::JsonNumber;
using formats::JsonReader;
using formats::JsonType;

const checkpoint::Checkpoint::File* FindGguf(const checkpoint::Checkpoint& checkpoint) {
  const auto& files = checkpoint.files();
  const auto file = std::find_if(files.begin(), files.end(), [](const auto& f) { return f.path.ends_with(".gguf"); });
  return file == files.end() ? nullptr : &*file;
}

// tokenizer.json can have 30 MB: pulled through, not built.
class TokenizerJsonScan {
 public:
  explicit TokenizerJsonScan(std::string_view text) : json_(text) {}

  bool Run(TokenizerSummary* summary) {
    std::string_view key;
    if (!json_.BeginObject()) return false;
    while (json_.NextKey(&key)) {
      const bool taken = key == "model" && json_.Peek() == JsonType::kObject         ? Model(summary)
                         : key == "added_tokens" && json_.Peek() == JsonType::kArray ? AddedTokens(&summary->size)
                                                                                     : json_.Skip();
      if (!taken) return false;
    }
    return json_.End();
  }
  const JsonReader& json() const { return json_; }

 private:
  bool Model(TokenizerSummary* summary) {
    std::string_view key, text;
    if (!json_.BeginObject()) return false;
    while (json_.NextKey(&key)) {
      if (key == "type" && json_.Peek() == JsonType::kString) {
        if (!json_.String(&text)) return false;
        summary->kind = text;
      } else if (key == "vocab" && json_.Peek() == JsonType::kObject) {
        if (!Ids(&summary->size)) return false;
      } else if (key == "vocab" && json_.Peek() == JsonType::kArray) {  // Unigram's: an id is a place
        uint64_t count = 0;
        if (!json_.BeginArray()) return false;
        while (json_.NextElement()) {
          if (!json_.Skip()) return false;
          ++count;
        }
        summary->size = std::max(summary->size, count);
      } else if (!json_.Skip()) {
        return false;
      }
    }
    return json_.ok();
  }

  bool Ids(uint64_t* size) {
    std::string_view piece;
    if (!json_.BeginObject()) return false;
    while (json_.NextKey(&piece)) {
      if (!Id(size)) return false;
    }
    return json_.ok();
  }

  bool AddedTokens(uint64_t* size) {
    std::string_view key;
    if (!json_.BeginArray()) return false;
    while (json_.NextElement()) {
      if (json_.Peek() != JsonType::kObject) {
        if (!json_.Skip()) return false;
        continue;
      }
      if (!json_.BeginObject()) return false;
      while (json_.NextKey(&key)) {
        if (!(key == "id" ? Id(size) : json_.Skip())) return false;
      }
    }
    return json_.ok();
  }

  bool Id(uint64_t* size) {
    JsonNumber number;
    if (json_.Peek() != JsonType::kNumber) return json_.Skip();
    if (!json_.Number(&number)) return false;
    constexpr uint64_t kMostIds = uint64_t{1} << 32;
    if (const auto id = number.AsUint64(); id && *id < kMostIds) *size = std::max(*size, *id + 1);
    return true;
  }

  JsonReader json_;
};

Result<TokenizerSummary> SummariseJson(const checkpoint::SideFile& file) {
  TokenizerSummary summary{.file = file.name, .kind = "", .size = 0};
  SLUICE_ASSIGN(const std::string text, file.Read());
  TokenizerJsonScan scan(text);
  if (!scan.Run(&summary)) {
    const auto place = formats::LineColumnAt(text, scan.json().offset());
    return Fail(Error{ErrorCode::kCorrupt,
                      fmt::format("line {}, column {}: {}", place.line, place.column, scan.json().message()),
                      {file.path}});
  }
  return summary;
}

Result<std::optional<TokenizerSummary>> SummariseGguf(const checkpoint::Checkpoint::File& file) {
  SLUICE_ASSIGN(const auto source, io::OpenFile(file.path));
  SLUICE_ASSIGN(const auto gguf, formats::GgufFile::Open(source));
  const formats::GgufKey* tokens = gguf->FindKey("tokenizer.ggml.tokens");
  if (tokens == nullptr) return std::optional<TokenizerSummary>();
  SLUICE_ASSIGN(const auto model, gguf->GetString("tokenizer.ggml.model"));
  const std::string kind = model.value_or("");
  return std::optional(TokenizerSummary{.file = file.name,
                                        .kind = kind == "gpt2"    ? "BPE"
                                                : kind == "llama" ? "SentencePiece"
                                                                  : kind,
                                        .size = tokens->count});
}

}  // namespace

Result<std::optional<TokenizerSummary>> SummariseTokenizer(const checkpoint::Checkpoint& checkpoint) {
  if (const auto* file = FindFile(checkpoint.side_files(), "tokenizer.json")) {
    SLUICE_ASSIGN(TokenizerSummary summary, SummariseJson(*file));
    return std::optional(std::move(summary));
  }
  if (const auto* file = FindFile(checkpoint.side_files(), "tokenizer.model")) {
    SLUICE_ASSIGN(const auto tokenizer, OpenTokenizerFile(file->path));
    return std::optional(
        TokenizerSummary{.file = file->name, .kind = "SentencePiece", .size = tokenizer->vocab_size()});
  }
  if (const auto* file = FindGguf(checkpoint)) return SummariseGguf(*file);
  return std::optional<TokenizerSummary>();
}

Result<std::string> FindChatTemplate(const checkpoint::Checkpoint& checkpoint) {
  for (const char* name : {"chat_template.jinja", "chat_template.json"}) {
    if (FindFile(checkpoint.side_files(), name) != nullptr) return std::string(name);
  }
  if (const auto* file = FindFile(checkpoint.side_files(), "tokenizer_config.json")) {
    SLUICE_ASSIGN(const auto json, ReadJsonObject(*file));
    if (json.contains("chat_template") && !json["chat_template"].is_null()) return file->name;
  }
  if (const auto* file = FindGguf(checkpoint)) {
    SLUICE_ASSIGN(const auto source, io::OpenFile(file->path));
    SLUICE_ASSIGN(const auto gguf, formats::GgufFile::Open(source));
    if (gguf->FindKey("tokenizer.chat_template") != nullptr) return file->name;
  }
  return std::string();
}

}  // namespace sluice::tokenizer
