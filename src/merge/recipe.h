// Recipe: a merge as mergekit's YAML describes it, read and checked, before any model is looked for.
//
// mergekit's models, slices and modules forms, parameters by filters and gradients, several documents in a file,
// rules for tokenizers, chat templates. Unknown keys, which mergekit ignores, are refused. All that is wrong is
// collected in `diagnostics`, with line and column.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "merge/diagnostics.h"
#include "merge/parameter_setting.h"
#include "quant/encoding.h"

namespace sluice::merge {

// Of one model. A number of this or more is not taken for a layer's.
constexpr uint64_t kMaxLayers = 1 << 20;

struct LayerRange {  // ends at kMaxLayers at most
  uint64_t begin = 0, end = 0;
  uint64_t size() const { return end - begin; }
};

struct RecipeModel {
  std::string reference;  // as written
  Mark mark;
  std::optional<LayerRange> layers;  // of the slices form: which of its layers
  ParameterSettings parameters;      // its own
};

// Layers of the result, next to each other, that come from layers of the same models.
struct RecipeSlice {
  Mark mark;
  std::vector<RecipeModel> sources;  // as listed, the base among them if it is listed
  std::optional<RecipeModel> base;   // instead of the recipe's
  ParameterSettings parameters;
};

// Where the row of one token comes from, in models that do not have it (or in all, where it is forced).
struct TokenRule {
  std::string token;
  Mark mark;
  std::optional<RecipeModel> model;       // whose row; absent: as without a rule, or zeros
  std::optional<std::string> from_token;  // of another token than this one
  std::optional<uint64_t> from_id;
  bool is_zero = false, is_forced = false;
};

// tokenizer, or tokenizer_source.
struct RecipeTokenizer {
  enum class Source { kUnion, kBase, kModel };
  Mark mark;
  Source source = Source::kUnion;
  std::optional<RecipeModel> model;  // kModel
  std::vector<TokenRule> tokens;
  uint64_t pad_to_multiple_of = 0;  // 0: not at all
};

struct Recipe {
  explicit Recipe(std::string file) : path(std::move(file)), diagnostics(path) {}

  std::string path;                         // relative models are looked for in its folder first
  std::string text;                         // of the whole file
  std::vector<std::string> overrides;       // "key=value", applied in order
  std::string document;                     // the name by which the document was asked for, or empty
  std::vector<std::string> document_names;  // of the file's documents that have one: models of the others
  std::string name;                         // of this document
  Mark method_mark;
  const Method* method = nullptr;  // null: an error says why
  // The models form is one slice of all layers, whose sources have no ranges. At least one, or an error says why.
  std::vector<RecipeSlice> slices;
  bool has_layer_ranges = false;  // the slices form
  bool has_base_key = false;
  std::optional<RecipeModel> base;                  // base_model, without parameters; absent where an error says why
  ParameterSettings module_parameters, parameters;  // of the module, of the top level
  std::optional<RecipeTokenizer> tokenizer;
  std::string chat_template;  // auto, a name, or the text of one; empty: the base's
  Mark chat_template_mark;
  quant::Encoding dtype, out_dtype;  // invalid where absent
  std::optional<uint64_t> seed;      // sluice: {seed: ...}
  std::string arithmetic;            // sluice: {arithmetic: ...}, or empty
  Mark arithmetic_mark;
  quant::Encoding lora_merge_dtype;  // sluice: {lora_merge_dtype: ...}, or invalid
  Diagnostics diagnostics;

  // The encoding of the result where the recipe says so, else invalid: as the base stores it.
  quant::Encoding output() const { return out_dtype.valid() ? out_dtype : dtype; }
};

constexpr uint64_t kMaxRecipeBytes = 1 << 20;

// Never fails: see diagnostics. `path` is for messages and for finding models. Of several documents the one that is
// called `document`; where that is empty, the one without a name, else the last. No files are touched.
Recipe ParseRecipe(std::string text, std::string path, std::span<const std::string> overrides = {},
                   std::string document = {});

// "recipe.yml#name" taken apart; without a name, or where there is such a file, all of it is the path.
struct RecipeReference {
  std::string path, document;
};
RecipeReference SplitDocument(const std::string& reference);

// kNotFound where there is no such file; kRecipe where it is a folder or a model. Errors in the text are in
// diagnostics.
Result<Recipe> ReadRecipe(const std::string& path, std::span<const std::string> overrides = {},
                          std::string document = {});

}  // namespace sluice::merge
