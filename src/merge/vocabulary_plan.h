// Vocabulary of a merge: which tokens the result has by the recipe's rules for tokenizers, and which rows of each
// parent's embeddings they are. As mergekit 0.1.4 has it, in an order that does not vary (docs/recipes.md).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "merge/recipe.h"
#include "merge/recipe_parents.h"
#include "merge/token_rows.h"

namespace sluice::merge {

// Whether rows of this tensor stand for tokens: the embedding of the input or the head, by its name.
bool IsByToken(std::string_view tensor);

class VocabularyPlan {
 public:
  // `parents`: opened. `keeps_rows`: at least as many rows as the base's embedding has, where mergekit drops those that
  // no token has. Null where the recipe has no rules, or an error says what is wrong.
  static std::unique_ptr<VocabularyPlan> Make(const Recipe& recipe, const Parents& parents, bool keeps_rows,
                                              Diagnostics* diagnostics);

  uint64_t rows() const { return rows_; }  // of the result's embeddings
  uint64_t tokens() const { return tokens_.size(); }
  const std::vector<checkpoint::SideFile>& side_files() const { return side_files_; }
  // The id that a token of the base has in the result; nothing where it has none.
  std::optional<uint64_t> IdInResult(uint64_t base_id) const;

  // Rows of source `which` of `sources` (indices of parents) for the result's tokens, from any of the sources; `base`:
  // one of them, or kNone.
  std::shared_ptr<const TokenRows> RowsOf(std::span<const size_t> sources, size_t which, size_t base) const;
  // The node of one source's embedding with the result's rows. embeddings: F32, of each source; columns of all.
  const graph::Node* AddNode(std::shared_ptr<const TokenRows> rows, size_t which, uint64_t columns,
                             std::vector<const graph::Node*> embeddings, graph::Graph* graph) const;

 private:
  friend class VocabularyPlanner;
  static constexpr uint32_t kAbsent = static_cast<uint32_t>(-1);
  struct Rule {                      // of a token
    size_t parent = Parents::kNone;  // kNone: zeros
    uint32_t row = 0;
    bool is_forced = false;
  };

  uint64_t rows_ = 0;
  std::vector<std::string> tokens_;             // by id in the result
  std::vector<std::optional<Rule>> rules_;      // likewise
  std::vector<std::vector<uint32_t>> rows_of_;  // of each parent, by id in the result: its row, or kAbsent
  std::vector<uint32_t> of_base_;               // id in the result, by id in the base
  std::vector<checkpoint::SideFile> side_files_;
};

}  // namespace sluice::merge
