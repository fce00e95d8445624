#include "merge/vocabulary_plan.h"

#include <algorithm>
#include <array>
#include <map>

#include <fmt/format.h>

#include "base/check.h"
#include "graph/graph.h"
#include "tokenizer/token_table.h"

namespace sluice::merge {

using checkpoint::Checkpoint;
using checkpoint::SideFile;
using tokenizer::AddedEntry;
using tokenizer::TokenTable;

bool IsByToken(std::string_view tensor) {
  static constexpr std::array<std::string_view, 9> kModules = {"embed_tokens",   "lm_head",    "wte",
                                                               "embed_in",       "embed_out",  "word_embeddings",
                                                               "tok_embeddings", "embeddings", "output"};
  constexpr std::string_view kWeight = ".weight";
  if (!tensor.ends_with(kWeight)) return false;
  tensor.remove_suffix(kWeight.size());
  const size_t dot = tensor.rfind('.');
  const std::string_view module = dot == std::string_view::npos ? tensor : tensor.substr(dot + 1);
  if (std::ranges::find(kModules, module) == kModules.end()) return false;
  return tensor.find("layer") == std::string_view::npos;
}

namespace {

// Rows of a model's embedding; 0 where it has none that we know.
uint64_t EmbeddingRows(const Checkpoint& model) {
  for (size_t i = 0; i < model.tensors().size(); ++i) {
    const checkpoint::TensorInfo tensor = model.tensors()[i];
    if (tensor.shape.size() == 2 && IsByToken(tensor.name)) return tensor.shape[0];
  }
  return 0;
}

AddedEntry PlainAddition(uint32_t id, const std::string& content) {
  AddedEntry entry{id, content, nlohmann::ordered_json::object()};
  entry.settings = {{"id", id},        {"content", content}, {"single_word", false}, {"lstrip", false},
                    {"rstrip", false}, {"normalized", true}, {"special", false}};
  return entry;
}

}  // namespace

class VocabularyPlanner {
 public:
  VocabularyPlanner(const Recipe& recipe, const Parents& parents, bool keeps_rows, Diagnostics* diagnostics)
      : recipe_(recipe),
        rules_(*recipe.tokenizer),
        parents_(parents),
        keeps_rows_(keeps_rows),
        diagnostics_(diagnostics) {}

  std::unique_ptr<VocabularyPlan> Plan() {
    const size_t base = BaseParent();
    if (base == Parents::kNone || parents_.all[base].checkpoint == nullptr) return nullptr;
    if (!ReadTables(base)) return nullptr;
    const size_t source = rules_.source == RecipeTokenizer::Source::kModel ? parents_.tokenizer : base;
    if (source == Parents::kNone || !tables_[source]) return nullptr;
    CollectTokens(source, rules_.source == RecipeTokenizer::Source::kModel);
    if (rules_.source == RecipeTokenizer::Source::kUnion) AddOthers(source);
    for (const auto& rule : rules_.tokens) {
      if (!ids_.contains(rule.token)) AddToken(PlainAddition(NextId(), rule.token));
    }
    if (plan_->tokens_.size() != ids_.size()) {
      Error(fmt::format("the ids of '{}' have gaps: {} tokens, the highest id is {}", parents_.all[source].reference,
                        ids_.size(), plan_->tokens_.size() - 1));
      return nullptr;
    }
    MapRows();
    ApplyRules();
    CountRows(base);
    if (!WriteFiles(source) || has_failed_) return nullptr;
    MapBase(base);
    return std::move(plan_);
  }

 private:
  void Error(std::string message) { Error(rules_.mark, std::move(message)); }
  void Error(Mark mark, std::string message) {
    has_failed_ = true;
    diagnostics_->AddError(mark, std::move(message));
  }

  size_t BaseParent() const {
    if (parents_.base != Parents::kNone) return parents_.base;
    if (recipe_.base || parents_.of_source.empty() || parents_.of_source[0].empty()) return Parents::kNone;
    return parents_.of_source[0][0];
  }

  bool ReadTables(size_t base) {
    tables_.resize(parents_.all.size());
    for (size_t p = 0; p < parents_.all.size(); ++p) {
      const Parent& parent = parents_.all[p];
      if (!parent.checkpoint) return false;
      num_rows_.push_back(EmbeddingRows(*parent.checkpoint));
      auto table = tokenizer::ReadTokenTable(parent.side_files);
      if (!table) {
        Error(parent.mark, fmt::format("'{}': {}", parent.reference, table.error().ToString()));
      } else {
        tables_[p] = std::move(*table);
      }
    }
    for (size_t p = 0; p < parents_.all.size(); ++p) {
      const Parent& parent = parents_.all[p];
      if (tables_[p] || has_failed_) continue;
      if (p == base || p == parents_.tokenizer || num_rows_[p] != num_rows_[base] || !tables_[base]) {
        Error(parent.mark, fmt::format("'{}' has no tokenizer: put its tokenizer.json (or tokenizer.model) there",
                                       parent.reference));
        continue;
      }
      diagnostics_->AddWarning(parent.mark, fmt::format("'{}' has no tokenizer: it is taken to be that of '{}'",
                                                        parent.reference, parents_.all[base].reference));
      tables_[p] = tables_[base];
    }
    return !has_failed_;
  }

  uint32_t NextId() const { return static_cast<uint32_t>(plan_->tokens_.size()); }

  void AddToken(AddedEntry entry) {
    ids_.emplace(entry.content, entry.id);
    plan_->tokens_.push_back(entry.content);
    additions_.push_back(std::move(entry));
  }

  // Those that have a row. mergekit keeps all of a tokenizer that the recipe names.
  void CollectTokens(size_t source, bool keeps_all) {
    const TokenTable& table = *tables_[source];
    end_ = keeps_all ? table.end() : static_cast<uint32_t>(std::min<uint64_t>(table.end(), num_rows_[source]));
    plan_->tokens_.resize(end_);
    for (uint32_t id = 0; id < end_; ++id) {
      const std::string piece(table.plain.piece(id));
      if (!piece.empty() && ids_.emplace(piece, id).second) plan_->tokens_[id] = piece;
    }
    for (const AddedEntry& entry : table.added) {
      if (entry.id >= end_) continue;
      ids_[entry.content] = entry.id;
      plan_->tokens_[entry.id] = entry.content;
    }
    if (table.end() > end_) {
      diagnostics_->AddWarning(
          parents_.all[source].mark,
          fmt::format("'{}' has {} tokens and {} rows in its embedding: the tokens behind them are left out",
                      parents_.all[source].reference, table.end(), num_rows_[source]));
    }
  }

  // Plain tokens of the other models, model by model and by id; then the tokens that they added.
  void AddOthers(size_t source) {
    for (size_t p = 0; p < tables_.size(); ++p) {
      if (p == source || p == parents_.tokenizer) continue;
      const TokenTable& table = *tables_[p];
      for (uint32_t id = 0; id < std::min<uint64_t>(table.plain.size(), num_rows_[p]); ++id) {
        const std::string piece(table.plain.piece(id));
        if (piece.empty() || table.IsAdded(piece) || ids_.contains(piece)) continue;
        AddToken(PlainAddition(NextId(), piece));
      }
    }
    for (size_t p = 0; p < tables_.size(); ++p) {
      if (p == source || p == parents_.tokenizer) continue;
      for (const AddedEntry& entry : tables_[p]->added) {
        if (entry.id >= num_rows_[p] || ids_.contains(entry.content)) continue;
        AddedEntry copy = entry;
        copy.id = NextId();
        copy.settings["id"] = copy.id;
        AddToken(std::move(copy));
      }
    }
  }

  void MapRows() {
    for (size_t p = 0; p < tables_.size(); ++p) {
      std::vector<uint32_t>& rows = plan_->rows_of_.emplace_back();
      uint64_t behind = 0;
      for (const std::string& token : plan_->tokens_) {
        const std::optional<uint32_t> id = tables_[p]->Find(token);
        behind += id && *id >= num_rows_[p];
        rows.push_back(id && *id < num_rows_[p] ? *id : VocabularyPlan::kAbsent);
      }
      if (behind > 0 && p != parents_.tokenizer) {
        diagnostics_->AddWarning(parents_.all[p].mark,
                                 fmt::format("{} tokens of '{}' have no row in its embedding, which has {}", behind,
                                             parents_.all[p].reference, num_rows_[p]));
      }
    }
  }

  void ApplyRules() {
    plan_->rules_.resize(plan_->tokens_.size());
    for (size_t i = 0; i < rules_.tokens.size(); ++i) {
      const TokenRule& wanted = rules_.tokens[i];
      const size_t parent = parents_.of_token[i];
      const uint32_t id = ids_.at(wanted.token);
      VocabularyPlan::Rule rule{Parents::kNone, 0, wanted.is_forced};
      if (wanted.model && parent == Parents::kNone) continue;  // told of
      if (wanted.model) {
        rule.parent = parent;
        const std::string& name = parents_.all[parent].reference;
        if (wanted.from_id) {
          if (*wanted.from_id >= num_rows_[parent]) {
            Error(wanted.mark,
                  fmt::format("'{}' has {} rows, there is no token {}", name, num_rows_[parent], *wanted.from_id));
            continue;
          }
          rule.row = static_cast<uint32_t>(*wanted.from_id);
        } else {
          const std::string& token = wanted.from_token ? *wanted.from_token : wanted.token;
          const std::optional<uint32_t> row = tables_[parent]->Find(token);
          if (!row || *row >= num_rows_[parent]) {
            Error(wanted.mark, fmt::format("'{}' has no token '{}'", name, token));
            continue;
          }
          rule.row = *row;
        }
      } else if (!wanted.is_zero) {
        continue;  // no source: as every other token
      }
      plan_->rules_[id] = rule;
    }
  }

  void CountRows(size_t base) {
    plan_->rows_ = plan_->tokens_.size();
    if (keeps_rows_) plan_->rows_ = std::max(plan_->rows_, num_rows_[base]);
    if (const uint64_t multiple = rules_.pad_to_multiple_of; multiple > 1) {
      plan_->rows_ = (plan_->rows_ + multiple - 1) / multiple * multiple;
    }
  }

  bool WriteFiles(size_t source) {
    const std::vector<SideFile>& files = parents_.all[source].side_files;
    if (additions_.empty() && tables_[source]->end() == end_) {
      plan_->side_files_ = files;
      return true;
    }
    auto written = tokenizer::WithTokens(files, additions_, end_);
    if (!written) {
      Error(written.error().message);
      return false;
    }
    plan_->side_files_ = std::move(*written);
    return true;
  }

  void MapBase(size_t base) {
    plan_->of_base_.assign(num_rows_[base], VocabularyPlan::kAbsent);
    for (uint32_t id = 0; id < plan_->tokens_.size(); ++id) {
      const uint32_t row = plan_->rows_of_[base][id];
      if (row != VocabularyPlan::kAbsent) plan_->of_base_[row] = id;
    }
  }

  const Recipe& recipe_;
  const RecipeTokenizer& rules_;
  const Parents& parents_;
  const bool keeps_rows_;
  Diagnostics* const diagnostics_;
  std::vector<std::optional<TokenTable>> tables_;  // of each parent
  std::vector<uint64_t> num_rows_;                 // of each parent's embedding
  std::map<std::string, uint32_t, std::less<>> ids_;
  std::vector<AddedEntry> additions_;
  uint32_t end_ = 0;  // tokens of the source that stay
  bool has_failed_ = false;
  std::unique_ptr<VocabularyPlan> plan_ = std::make_unique<VocabularyPlan>();
};

std::unique_ptr<VocabularyPlan> VocabularyPlan::Make(const Recipe& recipe, const Parents& parents, bool keeps_rows,
                                                     Diagnostics* diagnostics) {
  if (!recipe.tokenizer) return nullptr;
  return VocabularyPlanner(recipe, parents, keeps_rows, diagnostics).Plan();
}

std::optional<uint64_t> VocabularyPlan::IdInResult(uint64_t base_id) const {
  if (base_id >= of_base_.size() || of_base_[base_id] == kAbsent) return std::nullopt;
  return of_base_[base_id];
}

// A row of its own, unless it is forced; else what its rule says, the only source that has it, the base, or the mean of
// those that have it.
std::shared_ptr<const TokenRows> VocabularyPlan::RowsOf(std::span<const size_t> sources, size_t which,
                                                        size_t base) const {
  auto rows = std::make_shared<TokenRows>();
  const auto input_of = [&](size_t parent) {
    return static_cast<uint32_t>(std::ranges::find(sources, parent) - sources.begin());
  };
  for (size_t id = 0; id < tokens_.size(); ++id) {
    const std::optional<Rule>& rule = rules_[id];
    std::vector<TokenRows::Place> places;
    for (uint32_t k = 0; k < sources.size(); ++k) {
      if (rows_of_[sources[k]][id] != kAbsent) places.push_back({k, rows_of_[sources[k]][id]});
    }
    const uint32_t own = rows_of_[sources[which]][id];
    if (own != kAbsent && !(rule && rule->is_forced)) {
      places = {{static_cast<uint32_t>(which), own}};
    } else if (rule) {
      places.clear();
      if (rule->parent != Parents::kNone) places = {{input_of(rule->parent), rule->row}};
    } else if (places.size() > 1 && base != Parents::kNone && rows_of_[base][id] != kAbsent) {
      places = {{input_of(base), rows_of_[base][id]}};
    }
    rows->AddRow(places);
  }
  return rows;
}

const graph::Node* VocabularyPlan::AddNode(std::shared_ptr<const TokenRows> rows, size_t which, uint64_t columns,
                                           std::vector<const graph::Node*> embeddings, graph::Graph* graph) const {
  const graph::Node* node = embeddings[which];
  if (!rows->IsIdentity(static_cast<uint32_t>(which), node->num_elements() / columns)) {
    node = graph->Add(std::make_unique<TokenRowsNode>(std::move(rows), columns, std::move(embeddings)));
  }
  if (rows_ > tokens_.size()) node = graph->Add(std::make_unique<PaddedRowsNode>(node, columns, rows_));
  return node;
}

}  // namespace sluice::merge
