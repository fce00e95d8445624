#include "tokenizer/gguf_tokenizer_keys.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "formats/gguf.h"
#include "io/memory_source.h"
#include "tokenizer/gguf_pre_tokenizers.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/gguf_vocabulary.h"
#include "tokenizer/open_tokenizer.h"
#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/tokenizer_files.h"
#include "tokenizer/tokenizer_json.h"

namespace sluice::tokenizer {
namespace {

using checkpoint::Checkpoint;
using checkpoint::SideFile;
using formats::GgufHeader;
using nlohmann::ordered_json;

// Words, numbers, runs of spaces and line ends, code, contractions and scripts: pre-tokenizers that cut it alike are
// taken for the same.
constexpr std::string_view kProbe =
    "The quick brown fox can't jump; it's 3 1415 1234567 times LAZIER than we'd thought.  Two   spaces\n\n\n\ttabs\t\t "
    "\n"
    "  for (int i = 0; i < n; ++i) { sum += x[i] * 0x1F; } // $HOME/a_b-c.d@e.f?g=h&i=j#k ``quoted''\r\n"
    "I'LL HE'S They'Re l'été naïve Ærøskøbing Straße İstanbul ﬁne Ⅻ ½ ² ٣٤٥ ४५६ Привет, мир! Ελληνικά γλώσσα "
    "עברית العربيّة हिन्दी भाषा ไทย 한국어 조선말 日本語の文章、テスト。 中文测试，第１２３页 \xF0\x9F\x98\x80"
    "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB \xF0\x9F\x87\xA9\xF0\x9F\x87\xAA ... --- *** ((())) <<>>!!?? end ";

// The file as a JSON object; an empty one where there is none.
Result<ordered_json> ReadJson(const Checkpoint& model, std::string_view name) {
  const SideFile* file = FindFile(model.side_files(), name);
  if (file == nullptr) return ordered_json::object();
  return ReadJsonObject(*file);
}

// The tables of a GGUF tokenizer.
struct Tables {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<float> scores;
  std::vector<std::string> merges;
  bool space_before_text = true;
};

class KeysMaker {
 public:
  KeysMaker(const Checkpoint& model, uint64_t num_rows) : model_(model), num_rows_(num_rows) {}

  Result<GgufHeader> Make() {
    const bool has_files = FindFile(model_.side_files(), "tokenizer.json") != nullptr ||
                           FindFile(model_.side_files(), "tokenizer.model") != nullptr;
    const auto gguf =
        std::ranges::find_if(model_.files(), [](const auto& file) { return file.path.ends_with(".gguf"); });
    if (!has_files && gguf != model_.files().end()) return Copy(gguf->path);
    SLUICE_ASSIGN(own_, OpenTokenizer(model_));
    if (const SideFile* file = FindFile(model_.side_files(), "tokenizer.model"); file != nullptr) {
      SLUICE_ASSIGN(const std::string bytes, file->Read());
      auto table = ReadSentencePieceTable(bytes, file->name);
      if (table) return FromSentencePiece(*table);
      if (FindFile(model_.side_files(), "tokenizer.json") == nullptr) return Fail(std::move(table).error());
    }
    const SideFile* file = FindFile(model_.side_files(), "tokenizer.json");
    SLUICE_ASSIGN(const std::string text, file->Read());
    SLUICE_ASSIGN(const BpeTable table, ReadBpeTable(text, file->name));
    return table.byte_level ? FromByteLevel(table) : FromCharacters(table);
  }

 private:
  tl::unexpected<Error> Unsupported(std::string message) const {
    return FailIn(ErrorCode::kUnsupported, own_->source(), std::move(message));
  }

  static Result<GgufHeader> Copy(const std::string& path) {
    SLUICE_ASSIGN(auto source, io::OpenFile(path));
    SLUICE_ASSIGN(const auto gguf, formats::GgufFile::Open(std::move(source)));
    GgufHeader header;
    std::string bytes;
    for (const formats::GgufKey& key : gguf->keys()) {
      if (!key.name.starts_with("tokenizer.")) continue;
      bytes.clear();
      SLUICE_TRY(gguf->ReadValue(key, &bytes));
      header.AddValue(key.name, key.type, bytes);
    }
    return header;
  }

  Result<GgufHeader> FromSentencePiece(const SentencePieceTable& table) {
    const Vocabulary& pieces = *table.vocabulary;
    for (uint32_t id = 0; id < pieces.size(); ++id) tables_.tokens.emplace_back(pieces.piece(id));
    tables_.types.assign(table.types.begin(), table.types.end());
    tables_.scores = table.scores;
    tables_.space_before_text = table.space_before_text;
    SLUICE_TRY(AddAddedTokens({}));
    FillUp();
    SLUICE_ASSIGN(GgufHeader header, Header("llama", ""));
    if (!Agrees(header)) {
      return Unsupported("the ids that its tables give in a GGUF file are not those of the model's tokenizer");
    }
    return header;
  }

  // llama.cpp merges what has the highest score first, this list what comes first: the same, with places as scores.
  Result<GgufHeader> FromCharacters(const BpeTable& table) {
    if (!table.byte_fallback) {
      return Unsupported("is a BPE of characters without bytes to fall back to, which GGUF has no kind for");
    }
    const Vocabulary& pieces = *table.vocabulary;
    TakePieces(pieces);
    tables_.scores.assign(pieces.size(), -static_cast<float>(table.merges.size()));
    for (size_t rank = table.merges.size(); rank-- > 0;) {
      std::string merged = table.merges[rank];
      merged.erase(merged.find(' '), 1);
      if (const auto id = pieces.Find(merged)) tables_.scores[*id] = -static_cast<float>(rank);
    }
    for (int byte = 0; byte < 256; ++byte) {
      if (const auto id = pieces.Find(fmt::format("<0x{:02X}>", byte))) tables_.types[*id] = kByte;
    }
    SLUICE_TRY(AddAddedTokens(table.added_tokens));
    if (const auto unk = own_->special_ids().unk; unk && *unk < tables_.types.size()) tables_.types[*unk] = kUnknown;
    FillUp();
    for (const bool space : {true, false}) {
      tables_.space_before_text = space;
      SLUICE_ASSIGN(GgufHeader header, Header("llama", ""));
      if (Agrees(header)) return header;
    }
    return Unsupported("the ids that its merges give as scores of a GGUF file are not those of the model's tokenizer");
  }

  Result<GgufHeader> FromByteLevel(const BpeTable& table) {
    TakePieces(*table.vocabulary);
    tables_.merges = table.merges;
    SLUICE_TRY(AddAddedTokens(table.added_tokens));
    FillUp();
    for (const GgufPreTokenizer& pre : GgufPreTokenizers()) {
      SLUICE_ASSIGN(GgufHeader header, Header("gpt2", pre.names.front()));
      if (Agrees(header)) return header;
    }
    return Unsupported("cuts text into words as none of the pre-tokenizers does that GGUF has names for here");
  }

  void TakePieces(const Vocabulary& pieces) {
    for (uint32_t id = 0; id < pieces.size(); ++id) {
      tables_.tokens.emplace_back(pieces.piece(id));
      tables_.types.push_back(pieces.piece(id).empty() ? kUnused : kNormal);
    }
  }

  // Of tokenizer.json, and of the files that older tokenizers keep them in.
  Result<void> AddAddedTokens(const std::vector<AddedToken>& of_json) {
    for (const AddedToken& token : of_json) SLUICE_TRY(AddToken(token.id, token.content, token.special));
    SLUICE_ASSIGN(const ordered_json added, ReadJson(model_, "added_tokens.json"));
    for (const auto& [text, id] : added.items()) {
      if (id.is_number_unsigned()) SLUICE_TRY(AddToken(id.get<uint64_t>(), text, false));
    }
    SLUICE_ASSIGN(const ordered_json config, ReadJson(model_, "tokenizer_config.json"));
    if (!config.contains("added_tokens_decoder")) return {};
    for (const auto& [id, token] : config["added_tokens_decoder"].items()) {
      if (!token.is_object() || !token.contains("content") || !token["content"].is_string()) continue;
      if (id.empty() || id.size() > 9 || !std::ranges::all_of(id, [](char c) { return c >= '0' && c <= '9'; }))
        continue;
      const auto special = token.find("special");
      const bool is_special = special != token.end() && special->is_boolean() && special->get<bool>();
      SLUICE_TRY(AddToken(std::stoul(id), token["content"].get<std::string>(), is_special));
    }
    return {};
  }

  Result<void> AddToken(uint64_t id, const std::string& text, bool special) {
    if (id >= num_rows_) {
      return Unsupported(
          fmt::format("the added token \"{}\" has the id {}, and the embedding {} rows", text, id, num_rows_));
    }
    if (id >= tables_.tokens.size()) Resize(id + 1);
    tables_.tokens[id] = text;
    const bool keeps = tables_.types[id] == kUnknown || tables_.types[id] == kByte;
    if (!keeps) tables_.types[id] = special ? kControl : kUserDefined;
    return {};
  }

  void Resize(uint64_t size) {
    constexpr float kNoScore = -1000;  // as llama.cpp's converter has it
    tables_.tokens.resize(size);
    tables_.types.resize(size, kUnused);
    tables_.scores.resize(size, kNoScore);
  }

  // Each row of the embedding has a token, each its own text.
  void FillUp() {
    Resize(std::max<uint64_t>(tables_.tokens.size(), num_rows_));
    for (size_t id = 0; id < tables_.tokens.size(); ++id) {
      if (!tables_.tokens[id].empty()) continue;
      tables_.tokens[id] = fmt::format("[PAD{}]", id);
      tables_.types[id] = kUnused;
    }
  }

  Result<GgufHeader> Header(std::string_view kind, std::string_view pre) const {
    const auto views = [](const std::vector<std::string>& texts) {
      return std::vector<std::string_view>(texts.begin(), texts.end());
    };
    GgufHeader header;
    header.Add(GgufTokenizerKey("model"), kind);
    header.Add(GgufTokenizerKey("pre"), pre.empty() ? "default" : pre);
    header.Add(GgufTokenizerKey("tokens"), views(tables_.tokens));
    header.Add(GgufTokenizerKey("token_type"), std::span<const int32_t>(tables_.types));
    if (kind == "llama") {
      header.Add(GgufTokenizerKey("scores"), std::span<const float>(tables_.scores));
      header.Add(GgufTokenizerKey("add_space_prefix"), tables_.space_before_text);
    } else {
      header.Add(GgufTokenizerKey("merges"), views(tables_.merges));
    }
    const SpecialIds& special = own_->special_ids();
    const checkpoint::ModelConfig* config = model_.config();
    for (const auto& [key, id, config_key] : {std::tuple("bos_token_id", special.bos, "bos_token_id"),
                                              std::tuple("eos_token_id", special.eos, "eos_token_id"),
                                              std::tuple("padding_token_id", special.pad, "pad_token_id"),
                                              std::tuple("unknown_token_id", special.unk, "unk_token_id")}) {
      std::optional<uint64_t> known = id;
      if (!known && config != nullptr) known = config->GetInt(config_key);
      if (known && *known < tables_.tokens.size()) header.Add(GgufTokenizerKey(key), static_cast<uint32_t>(*known));
    }
    header.Add(GgufTokenizerKey("add_bos_token"), own_->adds_bos());
    header.Add(GgufTokenizerKey("add_eos_token"), own_->adds_eos());
    SLUICE_ASSIGN(const std::string chat, ReadRawChatTemplate(model_.side_files()));
    if (!chat.empty()) header.Add("tokenizer.chat_template", chat);
    return header;
  }

  // Whether the tokenizer that these keys make gives the probe the ids of the model's own.
  bool Agrees(const GgufHeader& header) const {
    const auto file = formats::GgufFile::Open(std::make_shared<io::MemorySource>("tokenizer keys", header.Finish()));
    if (!file) return false;
    const auto made = OpenGgufTokenizer(**file);
    if (!made) return false;
    const EncodeOptions options = {.add_special = true};
    const auto expected = own_->Encode(kProbe, options), ids = (*made)->Encode(kProbe, options);
    return expected && ids && *expected == *ids;
  }

  const Checkpoint& model_;
  const uint64_t num_rows_;
  std::shared_ptr<const Tokenizer> own_;
  Tables tables_;
};

}  // namespace

Result<GgufHeader> GgufTokenizerKeys(const Checkpoint& model, uint64_t num_rows) {
  return KeysMaker(model, num_rows).Make();
}

}  // namespace sluice::tokenizer
