#include "cli/recipe_options.h"

namespace sluice::cli {

void RecipeOptions::Add(CLI::App& app) {
  app.add_option("--seed", seed, "Where REF is a recipe: its seed")->type_name("N")->group("Options");
  app.add_option("--arithmetic", arithmetic, "Where REF is a recipe: exact or mergekit")
      ->type_name("MODE")
      ->group("Options");
}

Result<std::shared_ptr<const checkpoint::Checkpoint>> RecipeOptions::Open(const Session& session,
                                                                          const std::string& ref) const {
  return session.Open(ref, seed, arithmetic.empty() ? std::nullopt : std::optional(arithmetic));
}

}  // namespace sluice::cli
