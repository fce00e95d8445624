#include "merge/model_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sluice::merge {
namespace {

using testing::HasSubstr;

TEST(ModelCard, HasTheHubsMetadataTheParentsAndTheRecipe) {
  Statement statement;
  statement.program_version = "0.1.0";
  statement.recipe_text = "merge_method: ties # ```";
  statement.recipe_overrides = {"parameters.density=0.5"};
  statement.method = "ties";
  statement.seed = 7;
  statement.arithmetic = "exact";
  statement.dtype = "bfloat16";
  statement.root = std::string(64, 'a');
  statement.parents = {{true, "org/base", "/x", "safetensors", 2048}, {false, "a \"b\"|c", "/y", "gguf", 1 << 20}};
  const std::string card = ModelCard(statement);
  EXPECT_TRUE(card.starts_with(
      "---\nbase_model:\n- \"org/base\"\n- \"a \\\"b\\\"|c\"\nbase_model_relation: merge\n"
      "library_name: transformers\ntags:\n- merge\n- mergekit\n- sluice\n---\n\n# A merge of 2 models\n"));
  EXPECT_THAT(card, HasSubstr("`ties` (exact arithmetic, seed 7, stored as bfloat16)"));
  EXPECT_THAT(card, HasSubstr("| base | org/base | safetensors |"));
  EXPECT_THAT(card, HasSubstr("| model | a \"b\" c | gguf |"));
  EXPECT_THAT(card, HasSubstr("````yaml\nmerge_method: ties # ```\n````\n"));
  EXPECT_THAT(card, HasSubstr("merged with `--set parameters.density=0.5`"));
  EXPECT_THAT(card, HasSubstr(statement.root));
  // With all that the merge was given: without the override AGAIN would be another model.
  EXPECT_THAT(card, HasSubstr("sluice merge mergekit_config.yml -o AGAIN --seed 7 --arithmetic exact"
                              " --set parameters.density=0.5\n"));
  statement.recipe_overrides = {"chat_template={{ it's }}"};
  statement.recipe_document = "step 1";
  EXPECT_THAT(ModelCard(statement), HasSubstr("sluice merge 'mergekit_config.yml#step 1' -o AGAIN --seed 7 "
                                              "--arithmetic exact --set 'chat_template={{ it'\\''s }}'\n"));
}

}  // namespace
}  // namespace sluice::merge
