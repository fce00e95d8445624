// Diagnostics: all that is wrong with a recipe, each with its place, told together in one Error.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "merge/yaml.h"

namespace sluice::merge {

struct Diagnostic {
  enum class Severity { kNote, kWarning, kError };
  Severity severity = Severity::kError;
  ErrorCode code = ErrorCode::kRecipe;  // what the error is called if there is no other
  Mark mark;
  std::string message;
};

class Diagnostics {
 public:
  explicit Diagnostics(std::string file) : file_(std::move(file)) {}

  void AddError(Mark mark, std::string message, ErrorCode code = ErrorCode::kRecipe);
  void AddWarning(Mark mark, std::string message);
  void AddNote(Mark mark, std::string message);

  bool has_errors() const;
  const std::vector<Diagnostic>& all() const { return all_; }
  const std::string& file() const { return file_; }

  // "recipe.yml:3:5: message"; without a place where there is none.
  std::string Line(const Diagnostic& diagnostic) const;

  // All errors, in order of their places: code kRecipe, message "6 errors in recipe.yml", one context line for each.
  // Where every one of them is an input that cannot be read, the first one's code and all of them in the message, so
  // that the exit status says so. CHECKs has_errors().
  Error ToError() const;

 private:
  std::string file_;
  std::vector<Diagnostic> all_;
};

// The name of `known` that `name` is most likely meant to be (few letters added, left out, changed or swapped), or
// empty.
std::string_view NearestName(std::string_view name, std::span<const std::string_view> known);

// ": did you mean 'density'?", or empty.
std::string DidYouMean(std::string_view name, std::span<const std::string_view> known);

}  // namespace sluice::merge
