// Recipe: a merge as mergekit's YAML describes it, read and checked, before any model is looked for.
//
// The `models:` form with scalar parameters. What mergekit knows and this version does not (slices, modules, gradients,
// filters, LoRA, revisions, tokenizer rules) is refused by name; so are unknown keys, which mergekit ignores. All that
// is wrong is collected in `diagnostics`, with line and column.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "merge/diagnostics.h"
#include "merge/method.h"
#include "quant/encoding.h"

namespace sluice::merge {

// A parameter that is given, but wrong: an error tells of it.
constexpr double kBadValue = std::numeric_limits<double>::quiet_NaN();

struct RecipeModel {
  std::string reference;  // as written
  Mark mark;
  std::vector<std::optional<double>> parameters;  // its own, in the order of the method's; empty where it has no method
};

struct Recipe {
  explicit Recipe(std::string file) : path(std::move(file)), diagnostics(path) {}

  std::string path;  // relative models are looked for in its folder first
  std::string text;
  std::vector<std::string> overrides;  // "key=value", applied in order
  std::string name;
  Mark method_mark;
  const Method* method = nullptr;   // null: an error says why
  std::vector<RecipeModel> models;  // as listed, the base among them if it is listed
  bool has_base_key = false;
  std::optional<RecipeModel> base;                // base_model, without parameters; absent where an error says why
  std::vector<std::optional<double>> parameters;  // of the top level, in the order of the method's
  std::vector<Mark> parameter_marks;
  quant::Encoding dtype, out_dtype;  // invalid where absent
  std::optional<uint64_t> seed;      // sluice: {seed: ...}
  std::string arithmetic;            // sluice: {arithmetic: ...}, or empty
  Mark arithmetic_mark;
  Diagnostics diagnostics;

  // The encoding of the result where the recipe says so, else invalid: as the base stores it.
  quant::Encoding output() const { return out_dtype.valid() ? out_dtype : dtype; }
};

constexpr uint64_t kMaxRecipeBytes = 1 << 20;

// Never fails: see diagnostics. `path` is for messages and for finding models. No files are touched.
Recipe ParseRecipe(std::string text, std::string path, std::span<const std::string> overrides = {});

// kNotFound where there is no such file; kRecipe where it is a folder or a model. Errors in the text are in
// diagnostics.
Result<Recipe> ReadRecipe(const std::string& path, std::span<const std::string> overrides = {});

}  // namespace sluice::merge
