// RecipeOptions: --seed and --arithmetic, of every command that takes a REF which may be a recipe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "cli/session.h"

namespace sluice::cli {

struct RecipeOptions {
  std::optional<uint64_t> seed;
  std::string arithmetic;  // empty: not given

  // This must live as long as `app` reads arguments.
  void Add(CLI::App& app);
  // `ref`, with what was given where it is a recipe.
  Result<std::shared_ptr<const checkpoint::Checkpoint>> Open(const Session& session, const std::string& ref) const;
};

}  // namespace sluice::cli
