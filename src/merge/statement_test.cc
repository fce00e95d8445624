#include "merge/statement.h"

#include <algorithm>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "checkpoint/testing/tiny_models.h"
#include "generated/version.h"

namespace sluice::merge {
namespace {

using testing::HasSubstr;

Statement Example() {
  Statement statement;
  statement.program_version = "0.1.0";
  statement.recipe_text = "merge_method: linear\n# ä \"quoted\"\n";
  statement.recipe_path = "/models/r.yml";
  statement.recipe_overrides = {"parameters.normalize=false"};
  statement.recipe_document = "final";
  statement.method = "linear";
  statement.seed = 18446744073709551615u;
  statement.arithmetic = "exact";
  statement.dtype = "bfloat16";
  statement.parents = {{true, "base", "/models/base", "safetensors", 12},
                       {false, "x.yml", "/models/x.yml", "recipe", 1u << 31}};
  statement.files = {{"/models/base/a.safetensors", 20, 1'700'000'000'123'456'789}, {"/models/x.yml", 3, 0}};
  statement.root = std::string(64, 'a');
  statement.weights_root = std::string(64, '0');
  statement.tensors = {{"lm_head.weight", std::string(64, '1'), "", {}},
                       {"model.norm.weight",
                        std::string(64, '2'),
                        std::string(128, 'a'),
                        {{{1.5, -0.0, 3e300}, ""}, {}, {{}, std::string(64, '3')}}}};
  return statement;
}

TEST(Statement, ReadsWhatItWrites) {
  const Statement statement = Example();
  const Result<Statement> read = ParseStatement(WriteStatement(statement), "s.json");
  ASSERT_TRUE(read.has_value()) << read.error().ToString();
  EXPECT_EQ(*read, statement);
  EXPECT_TRUE(WriteStatement(statement).starts_with("{\n  \"schema\": \"sluice/merge-statement/v1\",\n"));
  EXPECT_TRUE(WriteStatement(statement).ends_with("}\n"));
}

TEST(Statement, IsReadStrictly) {
  const auto problem_with = [](const std::string& pointer, const nlohmann::json& value) {
    nlohmann::ordered_json json = nlohmann::ordered_json::parse(WriteStatement(Example()));
    json[nlohmann::ordered_json::json_pointer(pointer)] = value;
    const Result<Statement> read = ParseStatement(json.dump(), "s.json");
    if (read) return std::string();
    EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
    return read.error().ToString();
  };
  EXPECT_EQ(problem_with("/seed", 5), "");
  EXPECT_THAT(problem_with("/files/1/bytes", "x"), HasSubstr("files[1] has a 'bytes' that is not a whole number"));
  EXPECT_THAT(problem_with("/files/0/sha256", "x"), HasSubstr("files[0] has an unknown"));
  EXPECT_THAT(problem_with("/files/0/modified", 9223372036854775808u), HasSubstr("has no such time"));
  EXPECT_THAT(problem_with("/schema", "sluice/merge-statement/v2"),
              HasSubstr("s.json: the statement is of the schema 'sluice/merge-statement/v2'; this version reads"));
  EXPECT_THAT(problem_with("/sed", 5), HasSubstr("the statement has an unknown key 'sed'"));
  EXPECT_THAT(problem_with("/seed", "5"), HasSubstr("the statement has a 'seed' that is not a whole number"));
  EXPECT_THAT(problem_with("/seed", -5), HasSubstr("'seed' that is not a whole number"));
  EXPECT_THAT(problem_with("/seed", 5.5), HasSubstr("'seed' that is not a whole number"));
  EXPECT_THAT(problem_with("/tensors/1/leaves", "abc"), HasSubstr("tensors[1] has 'leaves' that are not hashes"));
  EXPECT_THAT(problem_with("/tensors/1/facts/0/0", 1.5), HasSubstr("tensors[1] has 'facts' that are neither lists"));
  EXPECT_THAT(problem_with("/tensors/1/facts/2", "33"), HasSubstr("tensors[1] has 'facts' that are neither lists"));
  EXPECT_THAT(problem_with("/root", "abc"), HasSubstr("'root' that is not 64 hexadecimal digits"));
  EXPECT_THAT(problem_with("/weights_root", std::string(64, 'A')), HasSubstr("'weights_root' that is not 64"));
  EXPECT_THAT(problem_with("/recipe/overrides", nlohmann::json::array({1})),
              HasSubstr("recipe has overrides that are not text"));
  EXPECT_THAT(problem_with("/recipe/more", 1), HasSubstr("recipe has an unknown key 'more'"));
  EXPECT_THAT(problem_with("/parents", 1), HasSubstr("'parents' that is not a list"));
  EXPECT_THAT(problem_with("/parents/1/role", "uncle"),
              HasSubstr("parents[1] has a 'role' that is neither base nor model"));
  EXPECT_THAT(problem_with("/parents/0", 7), HasSubstr("parents[0] is not an object"));
  EXPECT_THAT(problem_with("/tensors/0/root", ""), HasSubstr("tensors[0] has a 'root' that is not 64"));
  EXPECT_THAT(problem_with("/program", nullptr), HasSubstr("'program' that is not an object"));
  EXPECT_EQ(ParseStatement("{}", "s.json").error().ToString(), "s.json: the statement has no 'schema'");
  EXPECT_FALSE(ParseStatement("[]", "s.json").has_value());
  EXPECT_FALSE(ParseStatement("", "s.json").has_value());
  EXPECT_FALSE(ParseStatement(WriteStatement(Example()).substr(0, 100), "s.json").has_value());
}

TEST(Statement, TellsHowToMakeTheMergeAgain) {
  tests::TempDir dir;
  tests::MakeTinyLlama(dir / "base", {});
  tests::MakeTinyLlama(dir / "one", {.update_seed = 2});
  const std::string text =
      "merge_method: dare_ties\nbase_model: base\nmodels: [{model: one, parameters: {weight: 1, density: 0.5}}]\n"
      "dtype: float16\nsluice: {seed: 3}\n";
  tests::WriteText(dir / "r.yml", text);
  const std::vector<std::string> overrides = {"parameters.density=0.25"};
  checkpoint::OpenOptions options;
  options.seed = 4;
  const auto recipe = OpenRecipe(*ReadRecipe(dir / "r.yml", overrides), options);
  ASSERT_TRUE(recipe.has_value()) << recipe.error().ToString();
  Statement statement = MakeStatement(**recipe);
  EXPECT_EQ(statement.program_version, kVersion);
  EXPECT_EQ(statement.recipe_text, text);
  EXPECT_EQ(statement.recipe_overrides, overrides);
  EXPECT_EQ(statement.method, "dare_ties");
  EXPECT_EQ(statement.seed, 4u);
  EXPECT_EQ(statement.arithmetic, "exact");
  EXPECT_EQ(statement.dtype, "float16");
  ASSERT_EQ(statement.parents.size(), 2u);
  EXPECT_EQ(statement.parents[0].path, dir / "base");
  EXPECT_TRUE(statement.parents[0].is_base);
  EXPECT_EQ(statement.parents[1].reference, "one");
  const auto file =
      std::ranges::find(statement.files, std::string(dir / "one/model.safetensors"), &Statement::File::path);
  ASSERT_NE(file, statement.files.end());
  EXPECT_GT(file->modified_nanoseconds, 0);
  statement.root = statement.weights_root = std::string(64, '2');

  std::filesystem::create_directory(dir / "merged");
  tests::WriteText(dir / "merged/sluice_merge.json", WriteStatement(statement));
  const Result<Statement> read = ReadStatement(dir / "merged");
  ASSERT_TRUE(read.has_value()) << read.error().ToString();
  EXPECT_EQ(*read, statement);
  checkpoint::OpenOptions again;
  again.seed = read->seed;
  again.arithmetic = read->arithmetic;
  const auto remade = OpenRecipe(RecipeOf(*read), again);
  ASSERT_TRUE(remade.has_value()) << remade.error().ToString();
  EXPECT_EQ((*remade)->seed(), 4u);
  graph::Graph graph;
  EXPECT_EQ((*remade)->MakeNode(0, &graph), (*recipe)->MakeNode(0, &graph)) << "the same computation is the same node";

  const Result<Statement> none = ReadStatement(dir / "base");
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code, ErrorCode::kUsage);
  EXPECT_THAT(none.error().ToString(), HasSubstr("has no sluice_merge.json"));
}

}  // namespace
}  // namespace sluice::merge
