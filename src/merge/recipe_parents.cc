#include "merge/recipe_parents.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tokenizer/tokenizer_files.h"

namespace sluice::merge {
namespace {

namespace fs = std::filesystem;

bool Exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// other.yml#name: the file is what exists.
std::string WithoutFragment(const std::string& reference) {
  const size_t hash = reference.rfind('#');
  if (hash == std::string::npos) return reference;
  const std::string file = reference.substr(0, hash);
  return file.ends_with(".yml") || file.ends_with(".yaml") ? file : reference;
}

// "org/name", as the hub writes it.
bool LooksLikeHubName(const std::string& reference) {
  const size_t slash = reference.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < reference.size() && reference[0] != '.' &&
         reference[0] != '~' && reference.find('/', slash + 1) == std::string::npos;
}

Result<void> CheckSuffixes(const std::string& reference) {
  if (std::count(reference.begin(), reference.end(), '+') > 1) {
    return Fail(ErrorCode::kRecipe, fmt::format("'{}' has a second '+'", reference));
  }
  const size_t plus = reference.find('+');
  for (const std::string& part :
       {reference.substr(0, plus), plus == std::string::npos ? "" : reference.substr(plus + 1)}) {
    if (std::count(part.begin(), part.end(), '@') > 1) {
      return Fail(ErrorCode::kRecipe, fmt::format("'{}' has a second '@'", reference));
    }
  }
  return {};
}

// A recipe within a recipe tells all its errors in one line.
std::string OneLine(const Error& error) {
  if (error.code != ErrorCode::kRecipe || error.context.empty()) return error.ToString();
  return fmt::format("{} ({})", error.message, fmt::join(error.context, "; "));
}

// model+adapter, of which each is found as if it stood alone. Nothing where there is no '+'.
Result<std::optional<FoundReference>> FindWithAdapter(const std::string& reference, const Recipe& recipe) {
  SLUICE_TRY(CheckSuffixes(reference));
  const size_t plus = reference.find('+');
  if (plus == std::string::npos) return std::nullopt;
  if (plus == 0 || plus + 1 == reference.size()) {
    return Fail(ErrorCode::kRecipe, fmt::format("'{}': a '+' stands between a model and its adapter", reference));
  }
  SLUICE_ASSIGN(const FoundReference model, FindReference(reference.substr(0, plus), recipe));
  SLUICE_ASSIGN(const FoundReference adapter, FindReference(reference.substr(plus + 1), recipe));
  return FoundReference{model.path + "+" + adapter.path, model.identity + "+" + adapter.identity};
}

}  // namespace

std::string CanonicalPath(const std::string& path) {
  std::error_code error;
  const fs::path canonical = fs::canonical(path, error);
  return error ? path : canonical.string();
}

Result<FoundReference> FindReference(const std::string& reference, const Recipe& recipe) {
  if (std::ranges::find(recipe.document_names, reference) != recipe.document_names.end()) {
    const std::string path = recipe.path + "#" + reference;
    return FoundReference{path, CanonicalPath(recipe.path) + "#" + reference};
  }
  const std::string file = WithoutFragment(reference);
  const std::string fragment = reference.substr(file.size());
  const auto found = [&](const fs::path& path) {
    return FoundReference{path.string() + fragment, CanonicalPath(path.string()) + fragment};
  };
  const fs::path path(file);
  if (path.is_absolute()) {
    if (Exists(path)) return found(path);
    SLUICE_ASSIGN(auto with_adapter, FindWithAdapter(reference, recipe));
    if (with_adapter) return std::move(*with_adapter);
    return Fail(ErrorCode::kNotFound, fmt::format("'{}' does not exist", reference));
  }
  const fs::path beside = fs::path(recipe.path).parent_path() / path;
  const bool beside_exists = Exists(beside), here_exists = Exists(path);
  if (beside_exists && here_exists) {
    std::error_code error;
    if (!fs::equivalent(beside, path, error) || error) {
      return Fail(
          ErrorCode::kRecipe,
          fmt::format("'{}' exists twice, beside the recipe ({}) and in the working directory ({}): write a full path",
                      reference, CanonicalPath(beside.string()), CanonicalPath(path.string())));
    }
  }
  if (beside_exists) return found(beside);
  if (here_exists) return found(path);
  if (reference.find("://") != std::string::npos) return FoundReference{reference, reference};
  SLUICE_ASSIGN(auto with_adapter, FindWithAdapter(reference, recipe));
  if (with_adapter) return std::move(*with_adapter);
  if (reference.find('@') != std::string::npos && !LooksLikeHubName(reference)) {
    return Fail(ErrorCode::kRecipe, fmt::format("'{}': a revision is of a model in the hub cache, org/name@revision; "
                                                "of a folder there is but what lies in it",
                                                reference));
  }
  if (LooksLikeHubName(reference)) return FoundReference{reference, reference};
  return Fail(ErrorCode::kNotFound,
              fmt::format("'{}' does not exist, neither beside the recipe nor in the working directory", reference));
}

Parents OpenParents(Recipe* recipe, const checkpoint::OpenOptions& options) {
  Parents parents;
  std::map<std::string, size_t> by_identity;
  const auto open = [&](const RecipeModel& model) {
    Result<FoundReference> found = FindReference(model.reference, *recipe);
    if (!found) {
      recipe->diagnostics.AddError(model.mark, found.error().ToString());
      return Parents::kNone;
    }
    const auto [place, is_new] = by_identity.try_emplace(found->identity, parents.all.size());
    if (!is_new) return place->second;
    Parent parent{model.reference, found->path, model.mark, nullptr, {}};
    // A parent that is a recipe has a seed of its own, or the default: the flags are for the file that was named, all
    // its documents.
    checkpoint::OpenOptions inner = options;
    if (!found->path.starts_with(recipe->path + "#")) {
      inner.seed.reset();
      inner.arithmetic.reset();
      inner.lora_merge_dtype = {};
    }
    Result<std::shared_ptr<const checkpoint::Checkpoint>> opened = checkpoint::OpenCheckpoint(found->path, inner);
    if (opened) {
      parent.checkpoint = std::move(*opened);
      // A merge is a folder, so a tokenizer that lies in a GGUF becomes files: the recipe has what the merge will have.
      auto files = tokenizer::FilesWithTokenizer(*parent.checkpoint, options.open_source);
      if (!files) {
        recipe->diagnostics.AddWarning(model.mark, fmt::format("'{}' has a tokenizer that cannot be used: {}",
                                                               model.reference, files.error().ToString()));
      }
      parent.side_files = files ? std::move(*files) : parent.checkpoint->side_files();
    } else {
      // What does not exist is the recipe's mistake; what cannot be read is the input's.
      const ErrorCode code = opened.error().code;
      const bool is_input = code == ErrorCode::kCorrupt || code == ErrorCode::kRead || code == ErrorCode::kCancelled;
      recipe->diagnostics.AddError(model.mark, OneLine(opened.error()), is_input ? code : ErrorCode::kRecipe);
    }
    parents.all.push_back(std::move(parent));
    return place->second;
  };
  if (recipe->base) parents.base = open(*recipe->base);
  for (const RecipeSlice& slice : recipe->slices) {
    parents.base_of_slice.push_back(slice.base ? open(*slice.base) : Parents::kNone);
    std::vector<size_t>& of_source = parents.of_source.emplace_back();
    for (const RecipeModel& source : slice.sources) of_source.push_back(open(source));
  }
  if (recipe->tokenizer) {
    if (recipe->tokenizer->model) parents.tokenizer = open(*recipe->tokenizer->model);
    for (const TokenRule& rule : recipe->tokenizer->tokens) {
      parents.of_token.push_back(rule.model ? open(*rule.model) : Parents::kNone);
    }
  }
  return parents;
}

}  // namespace sluice::merge
