// LoraConfig: adapter_config.json of a PEFT adapter, as far as it says how the adapter is applied to weights.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace sluice::checkpoint {

// A key of rank_pattern or alpha_pattern: a regular expression of Python's that a module's name must end in, from the
// beginning of one of its parts on. Read as PEFT does: names and dots, classes, repetition, groups, alternatives.
// Refused: counts in braces, groups with names or flags, escapes other than \d \w \s \b and of punctuation.
class ModulePattern {
 public:
  ModulePattern();
  ~ModulePattern();
  ModulePattern(ModulePattern&&) noexcept;
  ModulePattern& operator=(ModulePattern&&) noexcept;
  // kUnsupported, without context.
  static Result<ModulePattern> Parse(std::string_view key);
  bool Matches(std::string_view module) const;  // "model.layers.0.self_attn.q_proj"

 private:
  struct Expression;
  std::string key_;
  std::unique_ptr<Expression> expression_;  // null: names and dots alone
};

// Immutable once parsed; Parse, and Scale and Rank of names, in memory and time that a bounded file bounds.
struct LoraConfig {
  uint64_t rank = 8;
  double alpha = 8;
  std::vector<std::pair<ModulePattern, uint64_t>> rank_pattern;  // in the file's order: the first that matches counts
  std::vector<std::pair<ModulePattern, double>> alpha_pattern;
  bool use_rslora = false;
  bool fan_in_fan_out = false;
  std::string base_model;                   // base_model_name_or_path, may be empty
  std::vector<std::string> target_modules;  // empty: not said, or said by a pattern

  // kCorrupt with line and column, or with the key; kUnsupported, naming the key, for what is no plain LoRA (DoRA and
  // other variants, other types of adapters). `file` is the context.
  static Result<LoraConfig> Parse(std::string_view text, const std::string& file);

  uint64_t Rank(std::string_view module) const;
  // alpha / rank, or alpha / sqrt(rank), in f64 and rounded to f32, as PyTorch multiplies f32 by a Python float.
  float Scale(std::string_view module) const;
  // Whether target_modules names it; true where they are not listed.
  bool IsTarget(std::string_view module) const;
};

}  // namespace sluice::checkpoint
