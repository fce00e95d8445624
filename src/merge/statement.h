// Statement: what a merge was made of, written beside it as sluice_merge.json, so that `verify DIR` can make it again.
// docs/formats/merge_statement.md is the specification.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/digest_tree.h"
#include "graph/fact_record.h"
#include "merge/recipe_checkpoint.h"

namespace sluice::merge {

inline constexpr char kStatementFile[] = "sluice_merge.json";
inline constexpr char kRecipeFile[] = "mergekit_config.yml";  // the recipe, as it was given

struct Statement {
  // A container, an adapter or a recipe that a parent is read from, as it was when it was merged: what tells, without
  // reading it, that it may be another now.
  struct File {
    std::string path;  // absolute
    uint64_t size_bytes = 0;
    int64_t modified_nanoseconds = 0;  // since 1970
    bool operator==(const File&) const = default;
  };
  struct Parent {
    bool is_base = false;
    std::string reference, path, kind;  // as the recipe writes it; absolute where it is a file; "safetensors", ...
    uint64_t size_bytes = 0;            // of its tensors
    bool operator==(const Parent&) const = default;
  };
  struct Tensor {
    std::string name, root;                // the root in hexadecimal
    std::string leaves;                    // hashes of its 1 MiB chunks in order, likewise; empty where it is one chunk
    std::vector<graph::FactRecord> facts;  // what was found of whole parents, in its node's order
    bool operator==(const Tensor&) const = default;
  };

  std::string program_version;
  std::string recipe_text;                    // verbatim
  std::string recipe_path;                    // absolute; its folder is where relative models were looked for
  std::vector<std::string> recipe_overrides;  // --set, in order
  std::string recipe_document;                // of several in a file: which one, or empty
  std::string method;
  uint64_t seed = 0;
  std::string arithmetic;
  std::string lora_merge_dtype;  // "float32", ...: in mergekit's arithmetic; else empty
  std::string dtype;             // "bfloat16", ...; empty: each tensor as the base stores it
  std::vector<Parent> parents;
  std::vector<File> files;         // of all parents, in the order in which they were opened; may be empty
  std::string root, weights_root;  // hexadecimal
  std::vector<Tensor> tensors;     // may be empty

  bool operator==(const Statement&) const = default;
};

// The files of a recipe's parents as they are now; those that cannot be looked at are left out.
std::vector<Statement::File> FilesOfParents(const RecipeCheckpoint& recipe);

// All but root, weights_root and tensors, which are known when the merge is written.
Statement MakeStatement(const RecipeCheckpoint& recipe);

// Of a tensor that was written; the digest must have its leaves.
Statement::Tensor StatementTensor(const checkpoint::TensorDigest& digest, std::vector<graph::FactRecord> facts);

// Two spaces of indentation, a final newline; keys in a fixed order.
std::string WriteStatement(const Statement& statement);

// Strict: every key of the schema, no other, of the right type, roots of 64 lower-case hexadecimal digits. kCorrupt,
// naming `file` and the key.
Result<Statement> ParseStatement(std::string_view text, const std::string& file);

// DIR/sluice_merge.json. kUsage where there is none: exit 2, as for every `verify DIR` of a folder without a statement.
Result<Statement> ReadStatement(const std::string& folder);

// The recipe that the statement tells of, with its overrides; looked for where the merge found it. The statement's
// seed, arithmetic and lora_merge_dtype are not put into it: hand them over as OpenOptions.
Recipe RecipeOf(const Statement& statement);

}  // namespace sluice::merge
