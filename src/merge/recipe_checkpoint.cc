#include "merge/recipe_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "base/check.h"
#include "formats/gguf.h"
#include "merge/recipe_parents.h"
#include "tokenizer/gguf_tokenizer_files.h"

namespace sluice::merge {
namespace {

constexpr size_t kMaxRecipesDeep = 16;

using OpenedReference = std::optional<Result<std::shared_ptr<const checkpoint::Checkpoint>>>;

OpenedReference OpenReference(const std::string& ref, const checkpoint::OpenOptions& options,
                              const std::vector<std::string>& chain);

// The base's config with the type of the result's weights: transformers 5 calls the key dtype, before that torch_dtype.
std::shared_ptr<const checkpoint::ModelConfig> WithDtype(const checkpoint::ModelConfig& config,
                                                         quant::Encoding output) {
  nlohmann::ordered_json json = config.json();
  const std::string name(quant::DtypeName(output));
  const bool has_new_key = json.contains("dtype");
  if (has_new_key) json["dtype"] = name;
  if (json.contains("torch_dtype") || !has_new_key) json["torch_dtype"] = name;
  return checkpoint::ModelConfig::FromJson(std::move(json));
}

checkpoint::Problem::Severity SeverityOf(const Diagnostic& diagnostic) {
  return diagnostic.severity == Diagnostic::Severity::kNote ? checkpoint::Problem::Severity::kNote
                                                            : checkpoint::Problem::Severity::kWarning;
}

bool AnyBad(const ParameterValues& values) {
  return std::any_of(values.begin(), values.end(), [](double value) { return std::isnan(value); });
}

}  // namespace

// Turns a recipe into its checkpoint, collecting what is wrong on the way.
class RecipeOpener {
 public:
  RecipeOpener(Recipe recipe, const checkpoint::OpenOptions& options, std::vector<std::string> chain)
      : result_(new RecipeCheckpoint(std::move(recipe))), options_(options), chain_(std::move(chain)) {}

  Result<std::shared_ptr<const RecipeCheckpoint>> Open() {
    result_->seed_ = options_.seed.value_or(recipe().seed.value_or(0));
    ResolveRecipeParameters();
    CheckArithmetic();
    OpenAll();
    CollectModels();
    Match();
    if (diagnostics().has_errors()) return Fail(diagnostics().ToError());
    Describe();
    return std::shared_ptr<const RecipeCheckpoint>(std::move(result_));
  }

 private:
  Recipe& recipe() { return result_->recipe_; }
  Diagnostics& diagnostics() { return result_->recipe_.diagnostics; }
  const Method* method() { return result_->recipe_.method; }
  // The base is not one of the models that are merged, but what they are compared with.
  bool UsesBase() { return method()->needs_base || (method()->takes_base && recipe().has_base_key); }

  void CheckArithmetic() {
    const bool by_flag = options_.arithmetic.has_value();
    const std::string arithmetic = by_flag ? *options_.arithmetic : recipe().arithmetic;
    if (arithmetic.empty() || arithmetic == "exact") return;
    const Mark mark = by_flag ? Mark{} : recipe().arithmetic_mark;
    if (arithmetic != "mergekit") {
      diagnostics().AddError(mark, fmt::format("arithmetic is exact or mergekit, not '{}'", arithmetic));
      return;
    }
    result_->arithmetic_ = Arithmetic::kMergekit;
    if (method()) CheckForMergekit(*method(), result_->parameters_, result_->seed_, mark, &diagnostics());
  }

  // Parameters as the arithmetic sees them: a model's own, else the top level's, else the default.
  void ResolveRecipeParameters() {
    if (!method()) return;
    for (size_t i = 0; i < method()->parameters.size(); ++i) {
      const ParameterInfo& info = method()->parameters[i];
      const std::optional<double> top = recipe().parameters[i];
      result_->parameters_.push_back(top.value_or(info.default_value.value_or(0)));
      if (info.scope == ParameterScope::kRecipe && !top && !info.default_value) {
        diagnostics().AddError(recipe().method_mark,
                               fmt::format("{} needs {} under parameters", method()->name, info.name));
      }
    }
  }

  ParameterValues ModelParameters(const RecipeModel& model, bool is_unlisted_base) {
    ParameterValues values;
    for (size_t i = 0; i < method()->parameters.size(); ++i) {
      const ParameterInfo& info = method()->parameters[i];
      std::optional<double> value = info.default_value;
      if (info.scope == ParameterScope::kModel) {
        if (recipe().parameters[i]) value = recipe().parameters[i];
        if (i < model.parameters.size() && model.parameters[i]) value = model.parameters[i];
      }
      if (!value && info.scope == ParameterScope::kModel) {
        diagnostics().AddError(
            model.mark,
            is_unlisted_base
                ? fmt::format("base_model '{}' is not among the models, and {} merges it with them: list it with "
                              "a {}, or leave base_model out",
                              model.reference, method()->name, info.name)
                : fmt::format("'{}' has no {}: give it one, or one for all under the top level's parameters",
                              model.reference, info.name));
        value = kBadValue;
      }
      values.push_back(value.value_or(0));
    }
    return values;
  }

  void OpenAll() {
    checkpoint::OpenOptions inner = options_;
    inner.openers.insert(inner.openers.begin(),
                         [chain = chain_](const std::string& ref, const checkpoint::OpenOptions& options) {
                           return OpenReference(ref, options, chain);
                         });
    opened_ = OpenParents(&recipe(), inner, chain_);
  }

  MergedModel Merged(const RecipeModel& model, size_t parent, bool is_unlisted_base) {
    return {model.reference, model.mark, parent == Parents::kNone ? nullptr : opened_.all[parent].checkpoint,
            method() ? ModelParameters(model, is_unlisted_base) : ParameterValues()};
  }

  // Which listed models are merged, and whose catalogue the result has.
  void CollectModels() {
    bool base_is_listed = false;
    for (size_t i = 0; i < recipe().models.size(); ++i) {
      const RecipeModel& model = recipe().models[i];
      const size_t parent = opened_.of_model[i];
      const size_t before = parent == Parents::kNone ? i : FirstOf(parent);
      if (before < i) {
        diagnostics().AddError(model.mark,
                               fmt::format("'{}' is listed twice, first on line {}: list it once, with one weight",
                                           model.reference, recipe().models[before].mark.line));
        continue;
      }
      const bool is_base = parent != Parents::kNone && parent == opened_.base;
      base_is_listed |= is_base;
      if (is_base && method() && UsesBase()) {
        const bool has_own = std::any_of(model.parameters.begin(), model.parameters.end(),
                                         [](const std::optional<double>& value) { return value.has_value(); });
        if (has_own) {
          diagnostics().AddNote(model.mark,
                                fmt::format("'{}' is the base: its parameters have no effect", model.reference));
        }
        continue;
      }
      result_->models_.push_back(Merged(model, parent, false));
      parent_of_.push_back(parent);
    }
    if (!method()) return;
    if (method()->needs_base && !recipe().has_base_key) {
      diagnostics().AddError(
          recipe().method_mark,
          fmt::format("{} needs a base to take differences from: say base_model: PATH", method()->name));
    }
    if (!UsesBase() && recipe().base && !base_is_listed) {
      result_->models_.push_back(Merged(*recipe().base, opened_.base, true));
      parent_of_.push_back(opened_.base);
    }
    CheckNumberOfModels();
  }

  size_t FirstOf(size_t parent) const {
    return static_cast<size_t>(std::find(opened_.of_model.begin(), opened_.of_model.end(), parent) -
                               opened_.of_model.begin());
  }

  void CheckNumberOfModels() {
    const size_t count = result_->models_.size();
    const char* beside = UsesBase() ? " beside the base" : "";
    if (count < method()->min_models && !recipe().models.empty()) {
      diagnostics().AddError(
          recipe().method_mark,
          fmt::format("{} needs at least {} model{}{}, there {} {}", method()->name, method()->min_models,
                      method()->min_models == 1 ? "" : "s", beside, count == 1 ? "is" : "are", count));
    }
    if (method()->max_models > 0 && count > method()->max_models) {
      diagnostics().AddError(recipe().method_mark, fmt::format("{} takes at most {} models{}, there are {}",
                                                               method()->name, method()->max_models, beside, count));
    }
    const bool any_bad = std::any_of(result_->models_.begin(), result_->models_.end(),
                                     [](const MergedModel& model) { return AnyBad(model.parameters); });
    if (!method()->check_models || count == 0 || any_bad || AnyBad(result_->parameters_)) return;
    std::vector<ParameterValues> values;
    for (const MergedModel& model : result_->models_) values.push_back(model.parameters);
    const std::string problem = method()->check_models(values, result_->parameters_);
    if (!problem.empty()) diagnostics().AddError(recipe().method_mark, problem);
  }

  void Match() {
    if (!method()) return;
    // What can be opened is looked at even where something else cannot: all errors at once.
    MergedModel owner;
    if (opened_.base != Parents::kNone) {
      owner = {recipe().base->reference, recipe().base->mark, opened_.all[opened_.base].checkpoint, {}};
      result_->has_base_ = UsesBase();
    } else if (!recipe().has_base_key && !method()->needs_base && !result_->models_.empty()) {
      owner = result_->models_.front();
    }
    if (!owner.checkpoint) return;
    std::vector<MergedModel> present;
    for (const MergedModel& model : result_->models_) {
      if (model.checkpoint) present.push_back(model);
    }
    TensorMatch match = MatchTensors(owner, present, *method(), recipe().output(), &diagnostics());
    if (result_->arithmetic_ == Arithmetic::kMergekit && present.size() == result_->models_.size()) {
      result_->mergekit_ = PlanMergekit(
          {method(), &owner, result_->has_base_, present, recipe().dtype, recipe().out_dtype}, &match, &diagnostics());
    }
    result_->owner_ = owner.checkpoint;
    result_->tensors_ = std::move(match.catalogue);
    result_->places_ = std::move(match.places);
  }

  void Describe() {
    SLUICE_CHECK(result_->owner_ != nullptr);
    const checkpoint::Checkpoint& owner = *result_->owner_;
    result_->ref_ = recipe().path;
    result_->kind_ = "recipe";
    DescribeTokenizer(owner);
    if (owner.config() != nullptr) {
      const quant::Encoding output = recipe().output();
      result_->config_ = output.valid() ? WithDtype(*owner.config(), output)
                                        : checkpoint::ModelConfig::FromJson(owner.config()->json());
    }
    std::set<std::string> seen;
    const auto add_files = [&](const checkpoint::Checkpoint& parent) {
      for (const checkpoint::Checkpoint::File& file : parent.files()) {
        if (seen.insert(file.path).second) result_->files_.push_back(file);
      }
    };
    add_files(owner);  // first: a tokenizer that lies in a container is its
    for (const Parent& parent : opened_.all) {
      add_files(*parent.checkpoint);
      for (const checkpoint::Problem& problem : parent.checkpoint->problems()) {
        if (problem.severity != checkpoint::Problem::Severity::kNote) result_->problems_.push_back(problem);
      }
    }
    for (const Diagnostic& diagnostic : diagnostics().all()) {
      const std::string place = diagnostic.mark.line == 0 ? recipe().path
                                                          : fmt::format("{}:{}:{}", recipe().path, diagnostic.mark.line,
                                                                        diagnostic.mark.column);
      result_->problems_.push_back({SeverityOf(diagnostic), place, "", diagnostic.message});
    }
    const auto add_parent = [&](bool is_base, size_t index) {
      const Parent& parent = opened_.all[index];
      result_->parents_.push_back({is_base, parent.reference, parent.path, parent.checkpoint->kind(),
                                   parent.checkpoint->tensors().total_bytes()});
    };
    if (opened_.base != Parents::kNone) add_parent(true, opened_.base);
    for (const size_t parent : parent_of_) {
      if (parent != opened_.base) add_parent(false, parent);
    }
  }

  // A merge is a folder, so a tokenizer that lies in a GGUF becomes files: the recipe has what the merge will have.
  void DescribeTokenizer(const checkpoint::Checkpoint& owner) {
    result_->side_files_ = owner.side_files();
    if (owner.embedded_tokenizer().empty()) return;
    const auto files = [&]() -> Result<std::vector<checkpoint::SideFile>> {
      SLUICE_ASSIGN(auto source, options_.open_source(owner.files()[0].path));
      SLUICE_ASSIGN(const auto gguf, formats::GgufFile::Open(std::move(source)));
      return tokenizer::TokenizerFilesOf(*gguf);
    }();
    if (!files) {
      result_->problems_.push_back({checkpoint::Problem::Severity::kWarning, recipe().path, "",
                                    "the result has no tokenizer: " + files.error().ToString()});
      return;
    }
    std::vector<checkpoint::SideFile>& side_files = result_->side_files_;
    side_files.insert(side_files.end(), files->begin(), files->end());
    std::ranges::sort(side_files, {}, &checkpoint::SideFile::name);
  }

  std::shared_ptr<RecipeCheckpoint> result_;
  const checkpoint::OpenOptions& options_;
  const std::vector<std::string> chain_;
  Parents opened_;
  std::vector<size_t> parent_of_;  // of each of result_->models_
};

namespace {

Result<std::shared_ptr<const RecipeCheckpoint>> OpenWithin(Recipe recipe, const checkpoint::OpenOptions& options,
                                                           std::vector<std::string> chain) {
  chain.push_back(CanonicalPath(recipe.path));
  return RecipeOpener(std::move(recipe), options, std::move(chain)).Open();
}

OpenedReference OpenReference(const std::string& ref, const checkpoint::OpenOptions& options,
                              const std::vector<std::string>& chain) {
  std::string path = ref, name;
  std::error_code error;
  if (const size_t hash = ref.rfind('#'); hash != std::string::npos && !std::filesystem::exists(ref, error)) {
    path = ref.substr(0, hash);
    name = ref.substr(hash + 1);
  }
  if (!path.ends_with(".yml") && !path.ends_with(".yaml")) return std::nullopt;
  if (std::filesystem::is_directory(path, error)) return std::nullopt;
  using Opened = Result<std::shared_ptr<const checkpoint::Checkpoint>>;
  if (chain.size() >= kMaxRecipesDeep) {
    return Opened(
        Fail(ErrorCode::kRecipe, fmt::format("{}: recipes within recipes go deeper than {}", path, kMaxRecipesDeep)));
  }
  Result<Recipe> recipe = ReadRecipe(path);
  if (!recipe) return Opened(Fail(std::move(recipe).error()));
  if (path != ref && !recipe->diagnostics.has_errors() && recipe->name != name) {
    return Opened(Fail(ErrorCode::kRecipe,
                       fmt::format("{} has no document named '{}'{}", path, name,
                                   recipe->name.empty() ? "" : fmt::format("; its name is '{}'", recipe->name))));
  }
  Result<std::shared_ptr<const RecipeCheckpoint>> opened = OpenWithin(std::move(*recipe), options, chain);
  if (!opened) return Opened(Fail(std::move(opened).error()));
  return Opened(std::shared_ptr<const checkpoint::Checkpoint>(std::move(*opened)));
}

}  // namespace

const graph::Node* RecipeCheckpoint::MakeNode(size_t i, graph::Graph* graph) const {
  const uint32_t* places = &places_[i * (models_.size() + 1)];
  const graph::Node* owner = owner_->MakeNode(places[0], graph);
  if (!models_.empty() && places[1] == TensorMatch::kCarried) return owner;
  const checkpoint::TensorInfo tensor = tensors_[i];
  std::vector<ModelInput> inputs;
  for (size_t m = 0; m < models_.size(); ++m) {
    inputs.push_back({models_[m].checkpoint->MakeNode(places[m + 1], graph), &models_[m].parameters});
  }
  BuildArgs args = {.graph = graph,
                    .tensor_name = tensor.name,
                    .shape = tensor.shape,
                    .base = has_base_ ? owner : nullptr,
                    .models = inputs,
                    .parameters = &parameters_,
                    .seed = seed_};
  if (arithmetic_ == Arithmetic::kMergekit) {
    args.working = mergekit_.working[i];
    const graph::Node* merged = BuildAsMergekit(*recipe_.method, args, mergekit_.draws.FirstDraws(i));
    return graph->AddCast(merged, tensor.encoding);
  }
  for (ModelInput& input : inputs) input.node = graph->AddCast(input.node, quant::F32());
  if (has_base_) args.base = graph->AddCast(owner, quant::F32());
  return graph->AddCast(recipe_.method->build(args), tensor.encoding);
}

std::string RecipeCheckpoint::dtype() const {
  return recipe_.output().valid() ? std::string(quant::DtypeName(recipe_.output())) : std::string();
}

Result<std::shared_ptr<const RecipeCheckpoint>> OpenRecipe(Recipe recipe, const checkpoint::OpenOptions& options) {
  return OpenWithin(std::move(recipe), options, {});
}

OpenedReference OpenRecipeReference(const std::string& ref, const checkpoint::OpenOptions& options) {
  return OpenReference(ref, options, {});
}

}  // namespace sluice::merge
