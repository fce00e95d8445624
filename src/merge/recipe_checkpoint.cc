#include "merge/recipe_checkpoint.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "base/check.h"
#include "checkpoint/architecture.h"
#include "graph/row_range.h"
#include "merge/chat_template.h"
#include "merge/recipe_parents.h"

namespace sluice::merge {
namespace {

constexpr size_t kMaxRecipesDeep = 16;

using Opened = Result<std::shared_ptr<const checkpoint::Checkpoint>>;

std::optional<Opened> OpenReference(const std::string& ref, const checkpoint::OpenOptions& options,
                                    const std::vector<std::string>& chain);
Result<std::shared_ptr<const RecipeCheckpoint>> OpenWithin(Recipe recipe, const checkpoint::OpenOptions& options,
                                                           std::vector<std::string> chain);

// The type of the result's weights: transformers 5 calls the key dtype, before that torch_dtype.
void SetDtype(quant::Encoding output, nlohmann::ordered_json* json) {
  const std::string name(quant::DtypeName(output));
  const bool has_new_key = json->contains("dtype");
  if (has_new_key) (*json)["dtype"] = name;
  if (json->contains("torch_dtype") || !has_new_key) (*json)["torch_dtype"] = name;
}

checkpoint::Problem::Severity SeverityOf(const Diagnostic& diagnostic) {
  return diagnostic.severity == Diagnostic::Severity::kNote ? checkpoint::Problem::Severity::kNote
                                                            : checkpoint::Problem::Severity::kWarning;
}

// The keys of a config that tell the number of layers, by architecture.
constexpr std::array<const char*, 4> kLayerKeys = {"num_hidden_layers", "n_layer", "num_layers", "n_layers"};

// The rows of a matrix that come first, as many as `shape` has.
const graph::Node* FirstRows(const graph::Node* node, std::span<const uint64_t> shape, graph::Graph* graph) {
  return graph->Add(std::make_unique<graph::RowGatherNode>(fmt::format("first {} rows", shape[0]), node, shape[1],
                                                           std::make_shared<graph::RowRange>(0, shape[0])));
}

}  // namespace

// Turns a recipe into its checkpoint, collecting what is wrong on the way.
class RecipeOpener {
 public:
  RecipeOpener(Recipe recipe, const checkpoint::OpenOptions& options, std::vector<std::string> chain)
      : result_(new RecipeCheckpoint(std::move(recipe))), options_(options), chain_(std::move(chain)) {}

  Result<std::shared_ptr<const RecipeCheckpoint>> Open() {
    result_->seed_ = options_.seed.value_or(recipe().seed.value_or(0));
    CheckArithmetic();
    OpenAll();
    if (method()) {
      std::vector<PlannedSlice> slices = CollectSlices();
      // What can be opened is looked at even where something else cannot: all errors at once.
      if (!slices.empty()) {
        const bool as_mergekit = result_->arithmetic_ == Arithmetic::kMergekit;
        result_->vocabulary_ = VocabularyPlan::Make(recipe(), opened_, /*keeps_rows=*/!as_mergekit, &diagnostics());
        if (result_->vocabulary_) MapTokens(&slices);
        const checkpoint::Checkpoint* described = opened_.base != Parents::kNone
                                                      ? opened_.all[opened_.base].checkpoint.get()
                                                      : slices[0].sources[slices[0].owner].checkpoint.get();
        const bool wants_head = described != nullptr && HasOwnHead(*described);
        result_->plan_ = PlanMerge(std::move(slices), *method(), recipe().output(), result_->vocabulary_.get(),
                                   /*cuts_vocabulary=*/as_mergekit && !recipe().tokenizer, wants_head, &diagnostics());
        if (as_mergekit && !diagnostics().has_errors()) {
          result_->mergekit_ =
              PlanMergekit(*method(), recipe().dtype, recipe().out_dtype, &result_->plan_, &diagnostics());
        }
        result_->tensors_ = std::move(result_->plan_.catalogue);
      }
    }
    if (diagnostics().has_errors()) return Fail(diagnostics().ToError());
    Describe();
    return std::shared_ptr<const RecipeCheckpoint>(std::move(result_));
  }

 private:
  Recipe& recipe() { return result_->recipe_; }
  Diagnostics& diagnostics() { return result_->recipe_.diagnostics; }
  const Method* method() { return result_->recipe_.method; }

  void CheckArithmetic() {
    const bool by_flag = options_.arithmetic.has_value();
    const std::string arithmetic = by_flag ? *options_.arithmetic : recipe().arithmetic;
    const quant::Encoding lora =
        options_.lora_merge_dtype.valid() ? options_.lora_merge_dtype : recipe().lora_merge_dtype;
    if (arithmetic.empty() || arithmetic == "exact") {
      // A document within another keeps its own arithmetic: then the flag is of those that have mergekit's.
      if (recipe().lora_merge_dtype.valid() || (options_.lora_merge_dtype.valid() && chain_.size() <= 1)) {
        diagnostics().AddError(
            {},
            "--lora-merge-dtype, or lora_merge_dtype, is of mergekit's arithmetic: exact rounds an "
            "adapter's model as that model is stored; leave it out, or ask for --arithmetic mergekit");
      }
      return;
    }
    const Mark mark = by_flag ? Mark{} : recipe().arithmetic_mark;
    if (arithmetic != "mergekit") {
      diagnostics().AddError(mark, fmt::format("arithmetic is exact or mergekit, not '{}'", arithmetic));
      return;
    }
    result_->arithmetic_ = Arithmetic::kMergekit;
    result_->lora_merge_dtype_ = lora.valid() ? lora : quant::F32();  // as transformers 4 loads a model
    if (method()) CheckForMergekit(recipe(), result_->seed_, mark, &diagnostics());
  }

  void OpenAll() {
    checkpoint::OpenOptions inner = options_;
    inner.adapted_dtype = result_->lora_merge_dtype_;
    inner.openers.insert(
        inner.openers.begin(),
        [this](const std::string& ref, const checkpoint::OpenOptions& options) -> std::optional<Opened> {
          if (!ref.starts_with(recipe().path + "#") || ref.find('+') != std::string::npos) {
            return OpenReference(ref, options, chain_);
          }
          // Another document of this file: of the text that was read. What it does not say for itself is as here, so
          // that the seed and the arithmetic of the document that is merged tell those of all of them.
          Recipe other =
              ParseRecipe(recipe().text, recipe().path, {}, /*document=*/ref.substr(recipe().path.size() + 1));
          checkpoint::OpenOptions own = options;
          own.seed = other.seed.value_or(result_->seed_);
          own.arithmetic = other.arithmetic.empty() ? result_->arithmetic() : other.arithmetic;
          return OpenWithin(std::move(other), own, chain_);
        });
    opened_ = OpenParents(&recipe(), inner);
  }

  // Which sources are merged in each slice. Empty where none can be looked at.
  std::vector<PlannedSlice> CollectSlices() {
    std::vector<PlannedSlice> slices;
    uint64_t first_layer = 0;
    if (method()->needs_base && !recipe().has_base_key && recipe().slices.empty()) AskForBase(recipe().method_mark);
    for (size_t s = 0; s < recipe().slices.size(); ++s) {
      const RecipeSlice& slice = recipe().slices[s];
      std::vector<PlannedSource> sources;
      std::vector<const ParameterSettings*> parameters;
      CollectSources(s, &sources, &parameters);
      CheckNumberOfModels(slice, sources);
      // Those that could not be opened are told of.
      for (size_t k = sources.size(); k-- > 0;) {
        if (sources[k].checkpoint) continue;
        sources.erase(sources.begin() + static_cast<ptrdiff_t>(k));
        parameters.erase(parameters.begin() + static_cast<ptrdiff_t>(k));
      }
      if (sources.empty()) continue;
      const size_t base = BaseOf(s);
      const auto owner = std::ranges::find_if(sources, [&](const PlannedSource& source) {
        return base != Parents::kNone && source.checkpoint == opened_.all[base].checkpoint;
      });
      // Without its base there is nothing to hold the others against.
      if (owner == sources.end() && (HasBaseKey(slice) || method()->needs_base) && !recipe().has_layer_ranges) continue;
      const uint64_t layers = slice.sources.empty() || !slice.sources[0].layers ? 0 : slice.sources[0].layers->size();
      const size_t owner_index = owner == sources.end() ? 0 : static_cast<size_t>(owner - sources.begin());
      slices.push_back(
          {recipe().has_layer_ranges ? slice.mark : recipe().method_mark,
           std::move(sources),
           owner_index,
           first_layer,
           layers,
           SliceParameters(method(), {&slice.parameters, &recipe().module_parameters, &recipe().parameters},
                           std::move(parameters)),
           {}});
      first_layer += layers;
    }
    return slices;
  }

  // Only the first and the last slice have embeddings and a head.
  void MapTokens(std::vector<PlannedSlice>* slices) {
    for (PlannedSlice& slice : *slices) {
      if (&slice != &slices->front() && &slice != &slices->back()) continue;
      std::vector<size_t> sources;
      size_t base = Parents::kNone;
      for (const PlannedSource& source : slice.sources) {
        sources.push_back(source.parent);
        if (source.parent == opened_.base) base = source.parent;
      }
      for (size_t t = 0; t < opened_.of_token.size(); ++t) {
        if (opened_.of_token[t] == Parents::kNone || std::ranges::find(sources, opened_.of_token[t]) != sources.end()) {
          continue;
        }
        diagnostics().AddError(
            recipe().tokenizer->tokens[t].mark,
            fmt::format("'{}' is not one of the models that are merged", opened_.all[opened_.of_token[t]].reference));
        return;
      }
      for (size_t k = 0; k < sources.size(); ++k) {
        slice.token_rows.push_back(result_->vocabulary_->RowsOf(sources, k, base));
      }
    }
  }

  bool HasBaseKey(const RecipeSlice& slice) const { return slice.base || result_->recipe_.has_base_key; }
  // Whether the base is not one of the models that are merged, but what they are compared with.
  bool UsesBase(const RecipeSlice& slice) {
    return method()->needs_base || (method()->takes_base && HasBaseKey(slice));
  }
  size_t BaseOf(size_t slice) const {
    return opened_.base_of_slice[slice] != Parents::kNone ? opened_.base_of_slice[slice] : opened_.base;
  }

  void AskForBase(Mark mark) {
    diagnostics().AddError(
        mark, fmt::format("{} needs a base to take differences from: say base_model: PATH", method()->name));
  }

  void CollectSources(size_t s, std::vector<PlannedSource>* sources,
                      std::vector<const ParameterSettings*>* parameters) {
    static const ParameterSettings kNoSettings;
    const RecipeSlice& slice = recipe().slices[s];
    const std::vector<size_t>& of_source = opened_.of_source[s];
    const size_t base = BaseOf(s);
    bool base_is_listed = false;
    for (size_t k = 0; k < slice.sources.size(); ++k) {
      const RecipeModel& model = slice.sources[k];
      const size_t parent = of_source[k];
      const auto first = static_cast<size_t>(std::ranges::find(of_source, parent) - of_source.begin());
      if (parent != Parents::kNone && first < k) {
        diagnostics().AddError(model.mark,
                               fmt::format("'{}' is listed twice, first on line {}: list it once, with one weight",
                                           model.reference, slice.sources[first].mark.line));
        continue;
      }
      const bool is_base = parent != Parents::kNone && parent == base;
      base_is_listed |= is_base;
      if (is_base && UsesBase(slice) &&
          std::ranges::any_of(model.parameters, [](const auto& value) { return value.has_value(); })) {
        diagnostics().AddNote(model.mark,
                              fmt::format("'{}' is the base: its parameters have no effect", model.reference));
      }
      sources->push_back({model.reference, model.mark,
                          parent == Parents::kNone ? nullptr : opened_.all[parent].checkpoint, parent,
                          model.layers ? model.layers->begin : 0, is_base && UsesBase(slice), false});
      parameters->push_back(&model.parameters);
    }
    if (method()->needs_base && !HasBaseKey(slice)) {
      AskForBase(recipe().method_mark);
    } else if (UsesBase(slice) && recipe().has_layer_ranges && !base_is_listed && base != Parents::kNone) {
      diagnostics().AddError(slice.mark,
                             fmt::format("{} needs the base in each slice: list '{}' among the sources, with "
                                         "the layers that differences are taken from",
                                         method()->name, opened_.all[base].reference));
    } else if (!recipe().has_layer_ranges && recipe().base && !base_is_listed) {
      sources->push_back({recipe().base->reference, recipe().base->mark,
                          base == Parents::kNone ? nullptr : opened_.all[base].checkpoint, base, 0, UsesBase(slice),
                          true});
      parameters->push_back(&kNoSettings);
    }
  }

  void CheckNumberOfModels(const RecipeSlice& slice, const std::vector<PlannedSource>& sources) {
    const auto count = static_cast<size_t>(std::ranges::count(sources, false, &PlannedSource::is_base));
    const char* beside = UsesBase(slice) ? " beside the base" : "";
    const Mark mark = recipe().has_layer_ranges ? slice.mark : recipe().method_mark;
    if (count < method()->min_models && !slice.sources.empty()) {
      diagnostics().AddError(
          mark, fmt::format("{} needs at least {} model{}{}, there {} {}", method()->name, method()->min_models,
                            method()->min_models == 1 ? "" : "s", beside, count == 1 ? "is" : "are", count));
    }
    if (method()->max_models > 0 && count > method()->max_models) {
      diagnostics().AddError(
          mark, fmt::format("{} takes at most {} model{}{}, there are {}", method()->name, method()->max_models,
                            method()->max_models == 1 ? "" : "s", beside, count));
    }
  }

  void Describe() {
    const MergePlan& plan = result_->plan_;
    const size_t owner_place =
        opened_.base != Parents::kNone ? opened_.base : plan.slices[0].sources[plan.slices[0].owner].parent;
    const checkpoint::Checkpoint& owner = *opened_.all[owner_place].checkpoint;
    result_->ref_ = recipe().path;
    result_->kind_ = "recipe";
    DescribeTokenizer(opened_.all[owner_place]);
    if (owner.config() != nullptr) result_->config_ = ConfigOf(*owner.config());
    std::set<std::string> seen;
    result_->definitions_.push_back(recipe().path);
    const auto add_files = [&](const checkpoint::Checkpoint& parent) {
      for (const std::string& path : parent.definitions()) {
        if (seen.insert(path).second) result_->definitions_.push_back(path);
      }
      for (const checkpoint::Checkpoint::File& file : parent.files()) {
        if (seen.insert(file.path).second) result_->files_.push_back(file);
      }
    };
    add_files(owner);  // first: a tokenizer that lies in a container is its
    for (const Parent& parent : opened_.all) {
      add_files(*parent.checkpoint);
      // Which rows are taken of it.
      for (const checkpoint::SideFile& file : parent.side_files) {
        const bool counts = result_->vocabulary_ && !file.path.empty();
        if (counts && seen.insert(file.path).second) result_->definitions_.push_back(file.path);
      }
      for (const checkpoint::Problem& problem : parent.checkpoint->problems()) {
        const bool is_told =
            problem.severity != checkpoint::Problem::Severity::kNote || parent.checkpoint->kind() == "recipe";
        if (is_told) result_->problems_.push_back(problem);
      }
    }
    for (const Diagnostic& diagnostic : diagnostics().all()) {
      const std::string place = diagnostic.mark.line == 0 ? recipe().path
                                                          : fmt::format("{}:{}:{}", recipe().path, diagnostic.mark.line,
                                                                        diagnostic.mark.column);
      result_->problems_.push_back({SeverityOf(diagnostic), place, "", diagnostic.message});
    }
    result_->parent_places_.resize(opened_.all.size());
    const auto add_parent = [&](bool is_base, size_t index) {
      const Parent& parent = opened_.all[index];
      result_->parent_places_[index] = result_->parents_.size();
      result_->parents_.push_back({is_base, parent.reference, parent.path, parent.checkpoint->kind(),
                                   parent.checkpoint->tensors().total_bytes()});
    };
    if (opened_.base != Parents::kNone) add_parent(true, opened_.base);
    for (size_t parent = 0; parent < opened_.all.size(); ++parent) {
      if (parent != opened_.base) add_parent(false, parent);
    }
  }

  // The owner's, with what the recipe changes of it.
  std::shared_ptr<const checkpoint::ModelConfig> ConfigOf(const checkpoint::ModelConfig& owner) {
    nlohmann::ordered_json json = owner.json();
    if (recipe().output().valid()) SetDtype(recipe().output(), &json);
    if (owner.TiedEmbeddings() && result_->tensors_.Find("lm_head.weight")) {
      json["tie_word_embeddings"] = false;
      diagnostics().AddNote({},
                            "the result has a head of its own, so its config does not tie it to the embedding, as "
                            "that of the base does");
    }
    if (result_->vocabulary_) {
      json["vocab_size"] = result_->vocabulary_->rows();
      SetTokenIds(&json);
    }
    if (recipe().has_layer_ranges) SetLayers(&json);
    return checkpoint::ModelConfig::FromJson(std::move(json));
  }

  // The number of layers, and what a list has an entry for each of them.
  void SetLayers(nlohmann::ordered_json* json) {
    const MergePlan& plan = result_->plan_;
    const uint64_t layers = plan.slices.back().first_layer + plan.slices.back().layers;
    uint64_t before = 0;
    for (const char* key : kLayerKeys) {
      if (!json->contains(key)) continue;
      before = checkpoint::WholeNumber((*json)[key]).value_or(0);
      (*json)[key] = layers;
    }
    if (before == 0) {
      diagnostics().AddWarning({}, fmt::format("the base's config.json does not tell its number of layers: say in the "
                                               "result's that it has {}",
                                               layers));
      return;
    }
    for (auto& [key, value] : json->items()) {
      if (!value.is_array() || value.size() != before || key == "architectures") continue;
      nlohmann::ordered_json list = nlohmann::ordered_json::array();
      for (const PlannedSlice& slice : plan.slices) {
        for (uint64_t layer = 0; layer < slice.layers; ++layer) {
          const uint64_t from = slice.sources[slice.owner].first_layer + layer;
          list.push_back(value[std::min<uint64_t>(from, before - 1)]);
        }
      }
      value = std::move(list);
    }
  }

  void DescribeTokenizer(const Parent& owner) {
    result_->side_files_ = result_->vocabulary_ ? result_->vocabulary_->side_files() : owner.side_files;
    const auto files = [&]() -> Result<std::vector<checkpoint::SideFile>> {
      std::vector<checkpoint::SideFile> changed = result_->side_files_;
      if (result_->vocabulary_) {
        for (checkpoint::SideFile& file : changed) {
          if (file.name == "generation_config.json") SLUICE_TRY(MapTokenIds(&file));
        }
      }
      if (recipe().chat_template.empty()) return changed;
      std::vector<std::vector<checkpoint::SideFile>> of_parents;
      for (const Parent& parent : opened_.all) of_parents.push_back(parent.side_files);
      SLUICE_ASSIGN(const std::string text, ResolveChatTemplate(recipe().chat_template, of_parents));
      if (text.empty()) {
        diagnostics().AddWarning(recipe().chat_template_mark, "none of the models has a chat template");
        return changed;
      }
      return WithChatTemplate(changed, text);
    }();
    if (files) {
      result_->side_files_ = *files;
    } else {
      diagnostics().AddWarning({}, files.error().ToString());
    }
  }

  Result<void> MapTokenIds(checkpoint::SideFile* file) {
    SLUICE_ASSIGN(const std::string text, file->Read());
    SLUICE_ASSIGN(const auto config, checkpoint::ModelConfig::Parse(text, file->path));
    nlohmann::ordered_json json = config->json();
    if (SetTokenIds(&json)) *file = {file->name, "", json.dump(2) + "\n"};
    return {};
  }

  // Ids of the base's special tokens as the result has them. True where one is another.
  bool SetTokenIds(nlohmann::ordered_json* json) {
    bool has_changed = false;
    const auto map = [&](nlohmann::ordered_json* id) {
      if (!id->is_number_unsigned()) return;
      const std::optional<uint64_t> mapped = result_->vocabulary_->IdInResult(id->get<uint64_t>());
      if (!mapped || *mapped == id->get<uint64_t>()) return;
      *id = *mapped;
      has_changed = true;
    };
    for (auto& [key, value] : json->items()) {
      if (!std::string_view(key).ends_with("_token_id")) continue;
      if (value.is_array()) {
        for (auto& id : value) map(&id);
      } else {
        map(&value);
      }
    }
    return has_changed;
  }

  std::shared_ptr<RecipeCheckpoint> result_;
  const checkpoint::OpenOptions& options_;
  const std::vector<std::string> chain_;
  Parents opened_;
};

namespace {

Result<std::shared_ptr<const RecipeCheckpoint>> OpenWithin(Recipe recipe, const checkpoint::OpenOptions& options,
                                                           std::vector<std::string> chain) {
  const std::string identity = CanonicalPath(recipe.path) + "#" + recipe.name;
  if (std::ranges::find(chain, identity) != chain.end()) {
    return Fail(ErrorCode::kRecipe,
                fmt::format("'{}' is this recipe, or one that it is a part of",
                            recipe.document.empty() ? recipe.path : recipe.path + "#" + recipe.document));
  }
  if (chain.size() >= kMaxRecipesDeep) {
    return Fail(ErrorCode::kRecipe,
                fmt::format("{}: recipes within recipes go deeper than {}", recipe.path, kMaxRecipesDeep));
  }
  chain.push_back(identity);
  return RecipeOpener(std::move(recipe), options, std::move(chain)).Open();
}

std::optional<Opened> OpenReference(const std::string& ref, const checkpoint::OpenOptions& options,
                                    const std::vector<std::string>& chain) {
  const auto [path, document] = SplitDocument(ref);
  std::error_code error;
  if (!path.ends_with(".yml") && !path.ends_with(".yaml")) return std::nullopt;
  if (document.find('+') != std::string::npos || std::filesystem::is_directory(path, error)) return std::nullopt;
  Result<Recipe> recipe = ReadRecipe(path, {}, document);
  if (!recipe) return Opened(Fail(std::move(recipe).error()));
  return OpenWithin(std::move(*recipe), options, chain);
}

}  // namespace

std::vector<RecipeCheckpoint::Ingredient> RecipeCheckpoint::Ingredients(size_t i, graph::Graph* graph) const {
  const MergePlan::Tensor& planned = plan_.tensors[i];
  const PlannedSlice& slice = plan_.slices[planned.slice];
  const uint32_t* places = &plan_.places[planned.first_place];
  std::vector<Ingredient> ingredients;
  if (planned.is_carried) return ingredients;
  const checkpoint::TensorInfo tensor = tensors_[i];
  const double t = plan_.GradientAt(tensor.name, planned);
  std::string_view missing;
  for (size_t k = 0; k < slice.sources.size(); ++k) {
    const PlannedSource& source = slice.sources[k];
    const checkpoint::TensorInfo stored = source.checkpoint->tensors()[places[k]];
    const bool has_token_rows = vocabulary_ && tensor.shape.size() == 2 && IsByToken(tensor.name);
    const graph::Node* node = has_token_rows
                                  ? TokenRowsOf(slice, places, k, tensor.shape[1], graph)
                                  : graph->AddCast(source.checkpoint->MakeNode(places[k], graph), quant::F32());
    if (!has_token_rows && stored.num_elements > tensor.num_elements) node = FirstRows(node, tensor.shape, graph);
    ParameterValues values;
    if (!source.is_base) values = slice.parameters.OfModel(k, stored.name, t, &missing);
    ingredients.push_back({parent_places_[source.parent], source.is_base, node, std::move(values)});
  }
  SLUICE_CHECK(missing.empty());
  return ingredients;
}

const graph::Node* RecipeCheckpoint::MakeNode(size_t i, graph::Graph* graph) const {
  const MergePlan::Tensor& planned = plan_.tensors[i];
  const PlannedSlice& slice = plan_.slices[planned.slice];
  if (planned.is_carried) {
    return slice.sources[slice.owner].checkpoint->MakeNode(plan_.places[planned.first_place + slice.owner], graph);
  }
  const checkpoint::TensorInfo tensor = tensors_[i];
  const std::vector<Ingredient> ingredients = Ingredients(i, graph);
  const graph::Node* base = nullptr;
  std::vector<ModelInput> models;
  for (const Ingredient& ingredient : ingredients) {
    if (ingredient.is_base) {
      base = ingredient.node;
    } else {
      models.push_back({.node = ingredient.node, .parameters = &ingredient.values});
    }
  }
  std::string_view missing;
  const ParameterValues recipe_values =
      slice.parameters.OfRecipe(tensor.name, plan_.GradientAt(tensor.name, planned), &missing);
  SLUICE_CHECK(missing.empty());
  BuildArgs args = {.graph = graph,
                    .tensor_name = tensor.name,
                    .shape = tensor.shape,
                    .base = base,
                    .models = models,
                    .parameters = &recipe_values,
                    .seed = seed_};
  if (arithmetic_ == Arithmetic::kMergekit) {
    args.working = mergekit_.working[i];
    return graph->AddCast(BuildAsMergekit(*recipe_.method, args, mergekit_.draws.FirstDraws(i)), tensor.encoding);
  }
  return graph->AddCast(recipe_.method->build(args), tensor.encoding);
}

const graph::Node* RecipeCheckpoint::TokenRowsOf(const PlannedSlice& slice, const uint32_t* places, size_t source,
                                                 uint64_t columns, graph::Graph* graph) const {
  std::vector<const graph::Node*> embeddings;
  for (size_t k = 0; k < slice.sources.size(); ++k) {
    embeddings.push_back(graph->AddCast(slice.sources[k].checkpoint->MakeNode(places[k], graph), quant::F32()));
  }
  return vocabulary_->AddNode(slice.token_rows[source], source, columns, std::move(embeddings), graph);
}

std::string RecipeCheckpoint::dtype() const {
  return recipe_.output().valid() ? std::string(quant::DtypeName(recipe_.output())) : std::string();
}

Result<std::shared_ptr<const RecipeCheckpoint>> OpenRecipe(Recipe recipe, const checkpoint::OpenOptions& options) {
  return OpenWithin(std::move(recipe), options, {});
}

std::optional<Opened> OpenRecipeReference(const std::string& ref, const checkpoint::OpenOptions& options) {
  return OpenReference(ref, options, {});
}

}  // namespace sluice::merge
