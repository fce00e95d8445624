#include "tokenizer/token_table.h"

#include <algorithm>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/tokenizer_files.h"

namespace sluice::tokenizer {
namespace {

using checkpoint::SideFile;
using Json = nlohmann::ordered_json;

std::string PlaceOf(const SideFile& file) { return file.path.empty() ? file.name : file.path; }

Error Wrong(const SideFile& file, std::string_view what) {
  return {ErrorCode::kCorrupt, fmt::format("{}: {}", PlaceOf(file), what), {}};
}

std::optional<uint32_t> IdOf(const Json& json) {
  if (!json.is_number_unsigned() || json.get<uint64_t>() >= Vocabulary::kMaxPieces) return std::nullopt;
  return json.get<uint32_t>();
}

const Json* Member(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() ? nullptr : &*found;
}

// model.vocab: {piece: id}, or a Unigram's [[piece, score], ...].
Result<void> ReadPieces(const SideFile& file, const Json& json, Vocabulary* pieces) {
  const Json* model = Member(json, "model");
  const Json* vocab = model && model->is_object() ? Member(*model, "vocab") : nullptr;
  if (!vocab || (!vocab->is_object() && !vocab->is_array())) return Fail(Wrong(file, "no model.vocab"));
  uint32_t next = 0;
  for (const auto& [key, value] : vocab->items()) {
    const bool is_pair = vocab->is_array();
    if (is_pair && (!value.is_array() || value.empty() || !value[0].is_string())) {
      return Fail(Wrong(file, "model.vocab has an item that is not a piece and its score"));
    }
    const std::optional<uint32_t> id = is_pair ? std::optional(next++) : IdOf(value);
    if (!id) return Fail(Wrong(file, fmt::format("model.vocab['{}'] is not an id", key)));
    pieces->Set(*id, is_pair ? value[0].get<std::string>() : key);
  }
  return {};
}

Result<void> Add(const SideFile& file, std::optional<uint32_t> id, const Json& settings, TokenTable* table) {
  const Json* content = settings.is_object() ? Member(settings, "content") : nullptr;
  if (!id || !content || !content->is_string()) return Fail(Wrong(file, "an added token without id or content"));
  AddedEntry entry{*id, content->get<std::string>(), Json::object()};
  entry.settings["id"] = *id;
  entry.settings["content"] = entry.content;
  for (const char* key : {"single_word", "lstrip", "rstrip", "normalized", "special"}) {
    const Json* value = Member(settings, key);
    entry.settings[key] = value && value->is_boolean() ? value->get<bool>() : false;
  }
  if (!table->IsAdded(entry.content)) table->added.push_back(std::move(entry));
  return {};
}

Result<void> ReadAddedTokensJson(const SideFile& file, TokenTable* table) {
  SLUICE_ASSIGN(const Json json, ReadJsonObject(file));
  for (const auto& [token, id] : json.items()) {
    SLUICE_TRY(Add(file, IdOf(id), {{"content", token}, {"normalized", true}}, table));
  }
  return {};
}

Result<void> ReadDecoder(const SideFile& file, TokenTable* table) {
  SLUICE_ASSIGN(const Json json, ReadJsonObject(file));
  const Json* decoder = Member(json, "added_tokens_decoder");
  if (!decoder || !decoder->is_object()) return {};
  for (const auto& [key, settings] : decoder->items()) {
    uint32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const bool is_id = error == std::errc() && end == key.data() + key.size() && id < Vocabulary::kMaxPieces;
    SLUICE_TRY(Add(file, is_id ? std::optional(id) : std::nullopt, settings, table));
  }
  return {};
}

// Whether a merge, "a b" or ["a", "b"], has one of these tokens as a part or as its result.
bool Uses(const Json& merge, const std::set<std::string>& tokens) {
  std::string first, second;
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    first = merge[0].get<std::string>();
    second = merge[1].get<std::string>();
  } else if (merge.is_string()) {
    const std::string text = merge.get<std::string>();
    const size_t space = text.find(' ');
    first = text.substr(0, space);
    if (space != std::string::npos) second = text.substr(space + 1);
  }
  return tokens.contains(first) || tokens.contains(second) || tokens.contains(first + second);
}

Result<void> Strip(const SideFile& file, uint32_t end, Json* json) {
  Json kept = Json::array();
  for (const Json& entry : (*json)["added_tokens"]) {
    if (entry.value("id", uint64_t{0}) < end) kept.push_back(entry);
  }
  (*json)["added_tokens"] = std::move(kept);
  Json& model = (*json)["model"];
  std::set<std::string> unused;
  Json pieces = Json::object();
  if (!model["vocab"].is_object()) {
    if (model["vocab"].size() <= end) return {};
    return Fail(ErrorCode::kUnsupported,
                fmt::format("{}: has {} pieces, the embedding {} rows, and only a BPE model can lose pieces",
                            PlaceOf(file), model["vocab"].size(), end));
  }
  for (const auto& [piece, id] : model["vocab"].items()) {
    if (id.get<uint64_t>() < end) {
      pieces.get_ref<Json::object_t&>().emplace_back(piece, id);
    } else {
      unused.insert(piece);
    }
  }
  if (unused.empty()) return {};
  model["vocab"] = std::move(pieces);
  if (const Json* merges = Member(model, "merges")) {
    Json used = Json::array();
    for (const Json& merge : *merges) {
      if (!Uses(merge, unused)) used.push_back(merge);
    }
    model["merges"] = std::move(used);
  }
  return {};
}

// `decoder`: of tokenizer_config.json.
void AddToDecoder(std::span<const AddedEntry> added, uint32_t end, Json* decoder) {
  for (auto it = decoder->begin(); it != decoder->end();) {
    uint64_t id = 0;
    std::from_chars(it.key().data(), it.key().data() + it.key().size(), id);
    it = id >= end ? decoder->erase(it) : std::next(it);
  }
  for (const AddedEntry& entry : added) {
    Json settings = entry.settings;
    settings.erase("id");
    (*decoder)[std::to_string(entry.id)] = std::move(settings);
  }
}

SideFile WithText(const SideFile& file, const Json& json) {
  return {file.name, "", json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"};
}

}  // namespace

std::optional<uint32_t> TokenTable::Find(std::string_view token) const {
  const auto found = std::ranges::find(added, token, &AddedEntry::content);
  return found == added.end() ? plain.Find(token) : std::optional(found->id);
}

bool TokenTable::IsAdded(std::string_view token) const {
  return std::ranges::find(added, token, &AddedEntry::content) != added.end();
}

uint32_t TokenTable::end() const {
  uint32_t end = plain.size();
  for (const AddedEntry& entry : added) end = std::max(end, entry.id + 1);
  return end;
}

Result<std::optional<TokenTable>> ReadTokenTable(std::span<const SideFile> files) {
  TokenTable table;
  if (const SideFile* file = FindFile(files, "tokenizer.json")) {
    SLUICE_ASSIGN(const Json json, ReadJsonObject(*file));
    SLUICE_TRY(ReadPieces(*file, json, &table.plain));
    if (const Json* added = Member(json, "added_tokens"); added && added->is_array()) {
      for (const Json& entry : *added) {
        const Json* id = entry.is_object() ? Member(entry, "id") : nullptr;
        SLUICE_TRY(Add(*file, id ? IdOf(*id) : std::nullopt, entry, &table));
      }
    }
  } else if (const SideFile* model = FindFile(files, "tokenizer.model")) {
    SLUICE_ASSIGN(const std::string bytes, model->Read());
    SLUICE_ASSIGN(const SentencePieceTable pieces, ReadSentencePieceTable(bytes, PlaceOf(*model)));
    table.plain = *pieces.vocabulary;
    if (const SideFile* added = FindFile(files, "added_tokens.json")) SLUICE_TRY(ReadAddedTokensJson(*added, &table));
  } else {
    return std::nullopt;
  }
  if (const SideFile* config = FindFile(files, "tokenizer_config.json")) SLUICE_TRY(ReadDecoder(*config, &table));
  std::ranges::stable_sort(table.added, {}, &AddedEntry::id);
  return table;
}

Result<std::vector<SideFile>> WithTokens(std::span<const SideFile> files, std::span<const AddedEntry> added,
                                         uint32_t end) {
  if (!FindFile(files, "tokenizer.json")) {
    return Fail(ErrorCode::kUnsupported,
                "the vocabulary changes, and the base has no tokenizer.json to write that into: make one with "
                "transformers (AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL))");
  }
  std::vector<SideFile> result;
  for (const SideFile& file : files) {
    if (file.name == "tokenizer.json") {
      SLUICE_ASSIGN(Json json, ReadJsonObject(file));
      if (!json["added_tokens"].is_array()) json["added_tokens"] = Json::array();
      SLUICE_TRY(Strip(file, end, &json));
      for (const AddedEntry& entry : added) json["added_tokens"].push_back(entry.settings);
      result.push_back(WithText(file, json));
    } else if (file.name == "tokenizer_config.json") {
      SLUICE_ASSIGN(Json json, ReadJsonObject(file));
      if (json.contains("added_tokens_decoder") && json["added_tokens_decoder"].is_object()) {
        AddToDecoder(added, end, &json["added_tokens_decoder"]);
        result.push_back(WithText(file, json));
      } else {
        result.push_back(file);
      }
    } else if (file.name == "added_tokens.json") {
      SLUICE_ASSIGN(Json json, ReadJsonObject(file));
      for (auto it = json.begin(); it != json.end();) {
        it = it->is_number_unsigned() && it->get<uint64_t>() >= end ? json.erase(it) : std::next(it);
      }
      for (const AddedEntry& entry : added) json[entry.content] = entry.id;
      result.push_back(WithText(file, json));
    } else {
      result.push_back(file);
    }
  }
  return result;
}

}  // namespace sluice::tokenizer
