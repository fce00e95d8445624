#include "verify/tokenizer_diff.h"

#include <algorithm>
#include <array>
#include <map>
#include <span>

#include <nlohmann/json.hpp>

#include "tokenizer/token_table.h"
#include "tokenizer/tokenizer_files.h"

namespace sluice::verify {
namespace {

using checkpoint::SideFile;
using nlohmann::json;
using tokenizer::TokenTable;

constexpr std::string_view kTokenizerJson = "tokenizer.json", kConfig = "tokenizer_config.json",
                           kSpecial = "special_tokens_map.json";

// One side: its files, and the tokens where they are needed.
struct Side {
  std::vector<SideFile> files;
  std::optional<TokenTable> table;
  std::string problem;

  bool has_tokenizer() const {
    return tokenizer::FindFile(files, kTokenizerJson) != nullptr ||
           tokenizer::FindFile(files, "tokenizer.model") != nullptr;
  }
  Result<std::string> Text(std::string_view name) const {
    const SideFile* file = tokenizer::FindFile(files, name);
    return file == nullptr ? std::string() : file->Read();
  }
};

bool IsUnreadable(const Error& error) { return error.code == ErrorCode::kRead || error.code == ErrorCode::kNotFound; }

Result<Side> OpenSide(const checkpoint::Checkpoint& model, const io::SourceFactory& open_source) {
  Side side;
  auto files = tokenizer::FilesWithTokenizer(model, open_source);
  if (!files && IsUnreadable(files.error())) return Fail(std::move(files.error()));
  if (!files) {
    side.problem = files.error().ToString();
    side.files = model.side_files();
    return side;
  }
  side.files = std::move(*files);
  return side;
}

Result<void> ReadTokens(Side* side) {
  auto table = tokenizer::ReadTokenTable(side->files);
  if (!table && IsUnreadable(table.error())) return Fail(std::move(table.error()));
  if (table) {
    side->table = std::move(*table);
  } else {
    side->problem = table.error().ToString();
  }
  return {};
}

SetRelation RelationOf(uint64_t only_in_a, uint64_t only_in_b, uint64_t otherwise) {
  if (otherwise > 0 || (only_in_a > 0 && only_in_b > 0)) return SetRelation::kDiffers;
  if (only_in_b > 0) return SetRelation::kExtended;
  return only_in_a > 0 ? SetRelation::kReduced : SetRelation::kEqual;
}

std::map<uint32_t, std::string_view> TokensOf(const TokenTable& table) {
  std::map<uint32_t, std::string_view> tokens;
  for (uint32_t id = 0; id < table.plain.size(); ++id) {
    const std::string_view piece = table.plain.piece(id);
    if (!piece.empty()) tokens.emplace(id, piece);
  }
  for (const auto& entry : table.added) tokens[entry.id] = entry.content;
  return tokens;
}

TokenSetDiff DiffTokens(const TokenTable& a, const TokenTable& b) {
  const auto tokens_a = TokensOf(a), tokens_b = TokensOf(b);
  TokenSetDiff diff;
  diff.size_a = tokens_a.size();
  diff.size_b = tokens_b.size();
  const auto note = [&](std::string_view token, std::optional<uint32_t> in_a, std::optional<uint32_t> in_b) {
    if (diff.first.size() < kMostTokens) diff.first.push_back({std::string(token), in_a, in_b});
  };
  for (const auto& [id, token] : tokens_a) {
    const auto same_id = tokens_b.find(id);
    if (same_id != tokens_b.end() && same_id->second == token) {
      ++diff.common;
      continue;
    }
    const std::optional<uint32_t> there = b.Find(token);
    ++(there ? diff.moved : diff.only_in_a);
    note(token, id, there);
  }
  for (const auto& [id, token] : tokens_b) {
    if (a.Find(token)) continue;
    ++diff.only_in_b;
    note(token, std::nullopt, id);
  }
  return diff;
}

TokenSetDiff DiffAdded(const TokenTable& a, const TokenTable& b) {
  TokenSetDiff diff;
  diff.size_a = a.added.size();
  diff.size_b = b.added.size();
  const auto find = [](const TokenTable& table, const std::string& content) {
    const auto found = std::ranges::find(table.added, content, &tokenizer::AddedEntry::content);
    return found == table.added.end() ? nullptr : &*found;
  };
  const auto note = [&](const std::string& token, const tokenizer::AddedEntry* in_a,
                        const tokenizer::AddedEntry* in_b) {
    if (diff.first.size() >= kMostTokens) return;
    diff.first.push_back(
        {token, in_a ? std::optional(in_a->id) : std::nullopt, in_b ? std::optional(in_b->id) : std::nullopt});
  };
  for (const auto& entry : a.added) {
    const auto* there = find(b, entry.content);
    if (there && there->id == entry.id && there->settings == entry.settings) {
      ++diff.common;
      continue;
    }
    ++(there ? diff.moved : diff.only_in_a);
    note(entry.content, &entry, there);
  }
  for (const auto& entry : b.added) {
    if (find(a, entry.content)) continue;
    ++diff.only_in_b;
    note(entry.content, nullptr, &entry);
  }
  return diff;
}

// tokenizer.json with what is compared elsewhere taken out.
struct Pipeline {
  json rest = json::object(), merges;
};

Pipeline ReadPipeline(const std::string& text) {
  Pipeline pipeline;
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return pipeline;
  parsed.erase("added_tokens");
  if (auto model = parsed.find("model"); model != parsed.end() && model->is_object()) {
    if (auto merges = model->find("merges"); merges != model->end()) pipeline.merges = std::move(*merges);
    model->erase("merges");
    // A Unigram's pieces have scores, which belong to what is left.
    auto vocab = model->find("vocab");
    if (vocab != model->end() && vocab->is_object()) model->erase("vocab");
  }
  pipeline.rest = std::move(parsed);
  return pipeline;
}

// "a b" or ["a", "b"], as tokenizers of different ages write a merge.
std::string MergeText(const json& merge) {
  if (merge.is_string()) return merge.get<std::string>();
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  return merge.dump(-1, ' ', false, json::error_handler_t::replace);
}

MergesDiff DiffMerges(const json& a, const json& b) {
  MergesDiff diff;
  diff.size_a = a.is_array() ? a.size() : 0;
  diff.size_b = b.is_array() ? b.size() : 0;
  const uint64_t both = std::min(diff.size_a, diff.size_b);
  for (uint64_t i = 0; i < both && !diff.first_difference; ++i) {
    if (a[i] != b[i] && MergeText(a[i]) != MergeText(b[i])) diff.first_difference = i;
  }
  return diff;
}

void AddSettings(std::string_view file, std::string_view a, std::string_view b, std::vector<KeyDifference>* all) {
  for (KeyDifference& key : DiffJson(a, b)) {
    key.file = file;
    all->push_back(std::move(key));
  }
}

// A file without the members that are compared elsewhere.
std::string Without(const std::string& text, std::span<const std::string_view> members) {
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return "";
  for (const std::string_view member : members) parsed.erase(std::string(member));
  return parsed.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<TemplateDiff> DiffTemplates(const Side& a, const Side& b) {
  SLUICE_ASSIGN(const std::string text_a, tokenizer::ReadChatTemplate(a.files));
  SLUICE_ASSIGN(const std::string text_b, tokenizer::ReadChatTemplate(b.files));
  if (text_a.empty() && text_b.empty()) return TemplateDiff::kNone;
  if (text_a.empty()) return TemplateDiff::kOnlyInB;
  if (text_b.empty()) return TemplateDiff::kOnlyInA;
  return text_a == text_b ? TemplateDiff::kEqual : TemplateDiff::kDiffers;
}

}  // namespace

const char* SetRelationName(SetRelation relation) {
  static constexpr std::array kNames = {"equal", "extended", "reduced", "differs"};
  return kNames[static_cast<size_t>(relation)];
}

const char* TemplateDiffName(TemplateDiff diff) {
  static constexpr std::array kNames = {"none", "equal", "differs", "only_in_a", "only_in_b"};
  return kNames[static_cast<size_t>(diff)];
}

SetRelation TokenSetDiff::Relation() const { return RelationOf(only_in_a, only_in_b, moved); }

SetRelation MergesDiff::Relation() const {
  return RelationOf(size_a > size_b ? 1 : 0, size_b > size_a ? 1 : 0, first_difference ? 1 : 0);
}

Result<TokenizerDiff> DiffTokenizers(const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b,
                                     const io::SourceFactory& open_source) {
  SLUICE_ASSIGN(Side side_a, OpenSide(a, open_source));
  SLUICE_ASSIGN(Side side_b, OpenSide(b, open_source));
  TokenizerDiff diff;
  diff.in_a = side_a.has_tokenizer();
  diff.in_b = side_b.has_tokenizer();
  if (diff.in_a && diff.in_b) {
    SLUICE_TRY(ReadTokens(&side_a));
    SLUICE_TRY(ReadTokens(&side_b));
  }
  diff.problem_a = side_a.problem;
  diff.problem_b = side_b.problem;
  if (side_a.table && side_b.table) {
    diff.compared = true;
    diff.tokens = DiffTokens(*side_a.table, *side_b.table);
    diff.added = DiffAdded(*side_a.table, *side_b.table);
  }
  SLUICE_ASSIGN(const std::string json_a, side_a.Text(kTokenizerJson));
  SLUICE_ASSIGN(const std::string json_b, side_b.Text(kTokenizerJson));
  if (!json_a.empty() && !json_b.empty()) {
    const Pipeline pipeline_a = ReadPipeline(json_a);
    const Pipeline pipeline_b = json_a == json_b ? pipeline_a : ReadPipeline(json_b);
    if (!pipeline_a.merges.is_null() || !pipeline_b.merges.is_null()) {
      diff.merges = DiffMerges(pipeline_a.merges, pipeline_b.merges);
    }
    if (json_a != json_b) AddSettings(kTokenizerJson, pipeline_a.rest.dump(), pipeline_b.rest.dump(), &diff.settings);
  }
  for (const std::string_view name : {kConfig, kSpecial}) {
    SLUICE_ASSIGN(const std::string text_a, side_a.Text(name));
    SLUICE_ASSIGN(const std::string text_b, side_b.Text(name));
    if (text_a.empty() || text_b.empty() || text_a == text_b) continue;
    static constexpr std::array<std::string_view, 2> kElsewhere = {"added_tokens_decoder", "chat_template"};
    AddSettings(name, Without(text_a, kElsewhere), Without(text_b, kElsewhere), &diff.settings);
  }
  auto chat = DiffTemplates(side_a, side_b);
  if (!chat && IsUnreadable(chat.error())) return Fail(std::move(chat.error()));
  if (chat) {
    diff.chat_template = *chat;
  } else if (diff.problem_a.empty()) {
    diff.problem_a = chat.error().ToString();
  }
  return diff;
}

}  // namespace sluice::verify
