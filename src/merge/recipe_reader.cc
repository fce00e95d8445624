#include "merge/recipe_reader.h"

#include <algorithm>
#include <array>
#include <span>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "merge/chat_template.h"
#include "merge/parameter_reader.h"

namespace sluice::merge {
namespace {

using Kind = YamlNode::Kind;

constexpr std::array<std::string_view, 13> kTopKeys = {
    "merge_method", "models",           "slices",    "modules",       "base_model", "parameters", "dtype",
    "out_dtype",    "tokenizer_source", "tokenizer", "chat_template", "name",       "sluice"};
constexpr std::array<std::string_view, 3> kTokenizerKeys = {"source", "tokens", "pad_to_multiple_of"};
constexpr std::array<std::string_view, 2> kTokenKeys = {"source", "force"};
constexpr std::array<std::string_view, 4> kTokenSourceKeys = {"kind", "model", "token", "token_id"};
constexpr std::array<std::string_view, 1> kZeroSourceKeys = {"kind"};
constexpr std::array<std::string_view, 4> kSliceKeys = {"sources", "base_model", "parameters", "residual_weight"};
constexpr std::array<std::string_view, 3> kSourceKeys = {"model", "layer_range", "parameters"};
constexpr std::array<std::string_view, 3> kModuleKeys = {"models", "slices", "parameters"};
constexpr std::array<std::string_view, 2> kModelKeys = {"model", "parameters"};
constexpr std::array<std::string_view, 3> kSluiceKeys = {"seed", "arithmetic", "lora_merge_dtype"};
constexpr uint64_t kMaxPadding = 1 << 20;
constexpr std::array<std::string_view, 3> kDtypes = {"bfloat16", "float16", "float32"};

bool Contains(std::span<const std::string_view> words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

class RecipeReader {
 public:
  explicit RecipeReader(Recipe* recipe) : recipe_(recipe), diagnostics_(&recipe->diagnostics) {}

  void Read(const YamlNode& root) {
    if (root.kind != Kind::kMapping) {
      diagnostics_->AddError(root.mark, fmt::format("a recipe is a mapping of keys, this is {}", KindName(root.kind)));
      return;
    }
    CheckKeys(root, kTopKeys, "a recipe");
    ReadMethod(root);
    CheckForm(root);
    ReadText(root, "name", &recipe_->name);
    ReadDtype(root, "dtype", &recipe_->dtype);
    ReadDtype(root, "out_dtype", &recipe_->out_dtype);
    ReadTokenizer(root);
    ReadChatTemplate(root);
    ReadSluice(root);
    ReadBase(root, &recipe_->base, &recipe_->has_base_key);
    recipe_->parameters = ReadParameters(root, ParameterScope::kRecipe);
    // Where several are given, which is an error, the first of them is looked at.
    if (const YamlNode* models = Present(root, "models")) {
      ReadModels(*models);
    } else if (const YamlNode* slices = Present(root, "slices")) {
      ReadSlices(*slices);
    } else if (const YamlNode* modules = Present(root, "modules")) {
      ReadModules(*modules);
    }
  }

 private:
  void Error(Mark mark, std::string message) { diagnostics_->AddError(mark, std::move(message)); }

  // A key with nothing behind it counts as absent, as it does for mergekit.
  static const YamlNode* Present(const YamlNode& mapping, std::string_view key) {
    const YamlNode* node = mapping.Find(key);
    return node && node->kind != Kind::kNull ? node : nullptr;
  }

  void CheckKeys(const YamlNode& mapping, std::span<const std::string_view> known, std::string_view where) {
    for (const YamlNode::Entry& entry : mapping.entries) {
      const std::string_view key = entry.key->text;
      if (Contains(known, key)) continue;
      if (IsParameterOfSomeMethod(key)) {
        Error(entry.key->mark, fmt::format("'{}' belongs under 'parameters:', not directly in {}", key, where));
      } else {
        Error(entry.key->mark, fmt::format("unknown key '{}' in {}{}", key, where, DidYouMean(key, known)));
      }
    }
  }

  static bool IsParameterOfSomeMethod(std::string_view name) {
    return std::any_of(AllMethods().begin(), AllMethods().end(),
                       [&](const Method* method) { return method->Find(name) != nullptr; });
  }

  void CheckForm(const YamlNode& root) {
    std::vector<std::string_view> forms;
    Mark mark = root.mark;  // of the last form
    for (const YamlNode::Entry& entry : root.entries) {
      const std::string_view key = entry.key->text;
      if (entry.value->kind == Kind::kNull) continue;
      if (key == "models" || key == "slices" || key == "modules") {
        forms.push_back(key);
        mark = entry.key->mark;
      } else if (key == "tokenizer" && Present(root, "tokenizer_source")) {
        Error(entry.key->mark, "tokenizer and tokenizer_source are both given; a recipe takes one");
      }
    }
    if (forms.empty()) Error(root.mark, "no models: a recipe lists what it merges under 'models:'");
    if (forms.size() > 1) {
      Error(mark, fmt::format("{} are both given; a recipe has one of models, slices and modules",
                              fmt::join(forms, " and ")));
    }
  }

  void ReadMethod(const YamlNode& root) {
    const YamlNode* node = Present(root, "merge_method");
    if (!node) {
      Error(root.mark, "no merge_method: say which, linear for instance");
      return;
    }
    recipe_->method_mark = node->mark;
    if (node->kind != Kind::kString) {
      Error(node->mark, fmt::format("merge_method wants the name of a method, not {}", Quoted(*node)));
      return;
    }
    recipe_->method = FindMethod(node->text);
    parameters_ = ParameterReader(recipe_->method, diagnostics_);
    if (recipe_->method) return;
    if (Contains(UnsupportedMethods(), node->text)) {
      parameters_.Ignore();
      Error(node->mark, fmt::format("the method {} is not supported yet; these are: {}", node->text, MethodNames()));
      return;
    }
    std::vector<std::string_view> names(UnsupportedMethods().begin(), UnsupportedMethods().end());
    for (const Method* method : AllMethods()) names.push_back(method->name);
    const std::string meant = DidYouMean(node->text, names);
    Error(node->mark, fmt::format("unknown merge_method '{}'{}", node->text,
                                  meant.empty() ? fmt::format("; these are known: {}", MethodNames()) : meant));
  }

  static std::string MethodNames() {
    std::vector<std::string_view> names;
    for (const Method* method : AllMethods()) names.push_back(method->name);
    return fmt::format("{}", fmt::join(names, ", "));
  }

  void ReadText(const YamlNode& mapping, std::string_view key, std::string* text) {
    const YamlNode* node = Present(mapping, key);
    if (!node) return;
    if (node->kind == Kind::kString) {
      *text = node->text;
    } else {
      Error(node->mark,
            fmt::format("{} wants text, not {}{}", key, Quoted(*node), node->is_scalar() ? ": put it in quotes" : ""));
    }
  }

  void ReadDtype(const YamlNode& root, std::string_view key, quant::Encoding* encoding) {
    const YamlNode* node = Present(root, key);
    if (!node) return;
    std::string_view name = node->text;
    if (name.starts_with("torch.")) name.remove_prefix(6);
    if (node->kind == Kind::kString && Contains(kDtypes, name)) {
      *encoding = quant::FloatByDtypeName(name);
      return;
    }
    const quant::Encoding short_form = node->kind == Kind::kString ? quant::FloatByDtypeName(name) : quant::Encoding();
    Error(node->mark, fmt::format("{} is {}; a recipe takes {}{}", key, Quoted(*node), fmt::join(kDtypes, ", "),
                                  short_form.valid() ? fmt::format(": did you mean '{}'?", quant::DtypeName(short_form))
                                                     : std::string()));
  }

  // tokenizer_source: union, base or a model; tokenizer: {source, tokens, pad_to_multiple_of}.
  void ReadTokenizer(const YamlNode& root) {
    RecipeTokenizer rules;
    if (const YamlNode* source = Present(root, "tokenizer_source")) {
      rules.mark = source->mark;
      ReadTokenizerSource(*source, &rules);
    } else if (const YamlNode* node = Present(root, "tokenizer")) {
      rules.mark = node->mark;
      if (node->kind != Kind::kMapping) {
        Error(node->mark,
              fmt::format("tokenizer wants a mapping of source, tokens and pad_to_multiple_of, not {}", Quoted(*node)));
        return;
      }
      CheckKeys(*node, kTokenizerKeys, "tokenizer");
      if (const YamlNode* inner = Present(*node, "source")) ReadTokenizerSource(*inner, &rules);
      if (const YamlNode* tokens = Present(*node, "tokens")) ReadTokenRules(*tokens, &rules);
      if (const YamlNode* pad = Present(*node, "pad_to_multiple_of")) {
        rules.pad_to_multiple_of = pad->integer.value_or(0);
        if (rules.pad_to_multiple_of == 0 || rules.pad_to_multiple_of > kMaxPadding) {
          Error(pad->mark,
                fmt::format("pad_to_multiple_of wants a whole number from 1 to {}, not {}", kMaxPadding, Quoted(*pad)));
        }
      }
    } else {
      return;
    }
    recipe_->tokenizer = std::move(rules);
  }

  void ReadTokenizerSource(const YamlNode& node, RecipeTokenizer* rules) {
    if (node.kind == Kind::kString && node.text == "union") {
      rules->source = RecipeTokenizer::Source::kUnion;
    } else if (node.kind == Kind::kString && node.text == "base") {
      rules->source = RecipeTokenizer::Source::kBase;
    } else {
      rules->source = RecipeTokenizer::Source::kModel;
      rules->model.emplace();
      if (!ReadReference(node, &*rules->model)) rules->model.reset();
    }
  }

  void ReadTokenRules(const YamlNode& node, RecipeTokenizer* rules) {
    if (node.kind != Kind::kMapping) {
      Error(node.mark, fmt::format("tokens wants a mapping of tokens and where they come from, not {}", Quoted(node)));
      return;
    }
    for (const YamlNode::Entry& entry : node.entries) {
      TokenRule rule;
      rule.token = entry.key->text;
      rule.mark = entry.key->mark;
      const YamlNode& value = *entry.value;
      if (value.kind != Kind::kMapping) {
        Error(value.mark, fmt::format("a token wants {{source: MODEL}}, not {}", Quoted(value)));
        continue;
      }
      CheckKeys(value, kTokenKeys, "a token");
      if (const YamlNode* force = Present(value, "force")) {
        rule.is_forced = force->boolean;
        if (force->kind != Kind::kBool) {
          Error(force->mark, fmt::format("force wants true or false, not {}", Quoted(*force)));
        }
      }
      if (const YamlNode* source = Present(value, "source")) ReadTokenSource(*source, &rule);
      if (rule.is_forced && !rule.model && !rule.is_zero) {
        Error(value.mark, "a token that is forced needs a source that it is forced to");
      }
      rules->tokens.push_back(std::move(rule));
    }
  }

  // A model, {kind: model_token, model, token or token_id}, or {kind: zero}.
  void ReadTokenSource(const YamlNode& node, TokenRule* rule) {
    const YamlNode* kind = node.kind == Kind::kMapping ? Present(node, "kind") : nullptr;
    if (kind && kind->text == "zero") {
      CheckKeys(node, kZeroSourceKeys, "a token's source of kind zero");
      rule->is_zero = true;
      return;
    }
    const YamlNode* model = kind ? Present(node, "model") : &node;
    if (kind) {
      CheckKeys(node, kTokenSourceKeys, "a token's source");
      if (kind->text != "model_token") {
        Error(kind->mark, fmt::format("the kind of a token's source is model_token or zero, not {}", Quoted(*kind)));
      }
      const YamlNode* token = Present(node, "token");
      const YamlNode* id = Present(node, "token_id");
      if ((token != nullptr) == (id != nullptr)) Error(node.mark, "a model_token has one of token and token_id");
      if (token) rule->from_token = token->text;
      if (id) rule->from_id = id->integer;
      if (id && !id->integer) Error(id->mark, fmt::format("token_id wants a whole number, not {}", Quoted(*id)));
      if (!model) {
        Error(node.mark, "a model_token without a model");
        return;
      }
    }
    rule->model.emplace();
    if (!ReadReference(*model, &*rule->model)) rule->model.reset();
  }

  void ReadChatTemplate(const YamlNode& root) {
    ReadText(root, "chat_template", &recipe_->chat_template);
    if (recipe_->chat_template.empty()) return;
    recipe_->chat_template_mark = Present(root, "chat_template")->mark;
    if (!IsChatTemplate(recipe_->chat_template)) {
      Error(recipe_->chat_template_mark,
            fmt::format("chat_template is auto, one of {}, or the text of a Jinja template, not '{}'",
                        fmt::join(ChatTemplateNames(), ", "), recipe_->chat_template));
    }
  }

  void ReadSluice(const YamlNode& root) {
    const YamlNode* node = Present(root, "sluice");
    if (!node) return;
    if (node->kind != Kind::kMapping) {
      Error(node->mark,
            fmt::format("sluice wants a mapping of seed, arithmetic and lora_merge_dtype, not {}", Quoted(*node)));
      return;
    }
    CheckKeys(*node, kSluiceKeys, "sluice");
    if (const YamlNode* seed = Present(*node, "seed")) {
      if (seed->kind == Kind::kInteger && seed->integer) {
        recipe_->seed = *seed->integer;
      } else {
        Error(seed->mark, fmt::format("seed wants a whole number from 0 to 2^64 - 1, not {}", Quoted(*seed)));
      }
    }
    if (const YamlNode* arithmetic = Present(*node, "arithmetic")) {
      recipe_->arithmetic_mark = arithmetic->mark;
      if (arithmetic->kind == Kind::kString && (arithmetic->text == "exact" || arithmetic->text == "mergekit")) {
        recipe_->arithmetic = arithmetic->text;
      } else {
        Error(arithmetic->mark, fmt::format("arithmetic is exact or mergekit, not {}", Quoted(*arithmetic)));
      }
    }
    ReadDtype(*node, "lora_merge_dtype", &recipe_->lora_merge_dtype);
  }

  // Of {path, revision} the two as path@revision, else the text itself. Empty where there is none: an error says so.
  std::string PathOf(const YamlNode& node, std::string_view what) {
    const YamlNode* path = &node;
    std::string revision;
    if (node.kind == Kind::kMapping) {
      static constexpr std::array<std::string_view, 2> kKeys = {"path", "revision"};
      for (const YamlNode::Entry& entry : node.entries) {
        const std::string_view key = entry.key->text;
        if (!Contains(kKeys, key)) {
          Error(entry.key->mark, fmt::format("unknown key '{}' in a model's path{}", key, DidYouMean(key, kKeys)));
        }
      }
      ReadText(node, "revision", &revision);
      path = Present(node, "path");
    }
    if (!path) {
      Error(node.mark, fmt::format("{} without a path", what));
      return {};
    }
    if (path->kind != Kind::kString || path->text.empty()) {
      Error(path->mark,
            fmt::format("{} is named by a path, not {}{}", what, path->text.empty() ? "nothing" : Quoted(*path),
                        path->is_scalar() && !path->text.empty() ? ": put it in quotes" : ""));
      return {};
    }
    if (path->text.find('\0') != std::string::npos) {
      Error(path->mark, fmt::format("{}'s path with a zero byte in it", what));
      return {};
    }
    return revision.empty() ? path->text : path->text + "@" + revision;
  }

  // {model: {path, revision}, lora: {path, revision}, override_architecture}, or text; the adapter goes behind a +.
  bool ReadReference(const YamlNode& node, RecipeModel* model) {
    const YamlNode* path = &node;
    std::string lora;
    if (node.kind == Kind::kMapping) {
      for (const YamlNode::Entry& entry : node.entries) {
        const std::string_view key = entry.key->text;
        if (key == "model" || entry.value->kind == Kind::kNull) continue;
        if (key == "lora") {
          lora = PathOf(*entry.value, "an adapter");
        } else if (key == "override_architecture") {
          Error(entry.key->mark, fmt::format("{} is not supported yet", key));
        } else {
          static constexpr std::array<std::string_view, 3> kKeys = {"model", "lora", "override_architecture"};
          Error(entry.key->mark, fmt::format("unknown key '{}' in a model's name{}", key, DidYouMean(key, kKeys)));
        }
      }
      path = Present(node, "model");
      if (!path) {
        Error(node.mark, "a model without a path");
        return false;
      }
    }
    model->reference = PathOf(*path, "a model");
    model->mark = path->mark;
    if (model->reference.empty()) return false;
    if (!lora.empty()) model->reference += "+" + lora;
    return true;
  }

  void ReadBase(const YamlNode& mapping, std::optional<RecipeModel>* base, bool* is_given) {
    const YamlNode* node = Present(mapping, "base_model");
    if (!node) return;
    if (is_given) *is_given = true;
    base->emplace();
    if (!ReadReference(*node, &**base)) base->reset();
  }

  ParameterSettings ReadParameters(const YamlNode& mapping, ParameterScope scope) {
    const YamlNode* node = Present(mapping, "parameters");
    return node ? parameters_.Read(*node, scope) : ParameterSettings();
  }

  // Calls read(item) for the items of a list of mappings.
  template <typename Read>
  void ForItems(const YamlNode& node, std::string_view what, std::span<const std::string_view> keys,
                std::string_view item_name, std::string_view form, const Read& read) {
    if (node.kind != Kind::kSequence) {
      Error(node.mark, fmt::format("{} wants a list, not {}", what, Quoted(node)));
      return;
    }
    if (node.items.empty()) Error(node.mark, fmt::format("{} is an empty list", what));
    for (const YamlNode::Pointer& item : node.items) {
      if (item->kind != Kind::kMapping) {
        Error(item->mark, fmt::format("{} is written '- {}', this is {}", item_name, form, Quoted(*item)));
        continue;
      }
      CheckKeys(*item, keys, item_name);
      read(*item);
    }
  }

  std::optional<RecipeModel> ReadModel(const YamlNode& item, std::string_view list) {
    RecipeModel model;
    model.mark = item.mark;
    const YamlNode* reference = Present(item, "model");
    if (!reference) Error(item.mark, fmt::format("an item of {} without 'model:'", list));
    const bool is_named = reference && ReadReference(*reference, &model);
    model.parameters = ReadParameters(item, ParameterScope::kModel);
    if (!is_named) return std::nullopt;
    return model;
  }

  void ReadModels(const YamlNode& node) {
    RecipeSlice slice;
    slice.mark = node.mark;
    ForItems(node, "models", kModelKeys, "a model", "model: PATH", [&](const YamlNode& item) {
      if (auto model = ReadModel(item, "models")) slice.sources.push_back(std::move(*model));
    });
    recipe_->slices.push_back(std::move(slice));
  }

  void ReadSlices(const YamlNode& node) {
    recipe_->has_layer_ranges = true;
    ForItems(node, "slices", kSliceKeys, "a slice", "sources: [...]", [&](const YamlNode& item) {
      RecipeSlice slice;
      slice.mark = item.mark;
      if (const YamlNode* weight = Present(item, "residual_weight")) {
        Error(weight->mark, "residual_weight does nothing, in mergekit neither: leave it out");
      }
      ReadBase(item, &slice.base, nullptr);
      slice.parameters = ReadParameters(item, ParameterScope::kRecipe);
      const YamlNode* sources = Present(item, "sources");
      if (!sources) {
        Error(item.mark, "a slice without 'sources:'");
        return;
      }
      ForItems(*sources, "sources", kSourceKeys, "a source", "{model: PATH, layer_range: [0, 8]}",
               [&](const YamlNode& source) {
                 auto model = ReadModel(source, "sources");
                 const std::optional<LayerRange> layers = ReadLayers(source);
                 if (!model || !layers) return;
                 model->layers = layers;
                 slice.sources.push_back(std::move(*model));
               });
      for (const RecipeModel& source : slice.sources) {
        const LayerRange& first = *slice.sources[0].layers;
        if (source.layers->size() == first.size()) continue;
        Error(source.mark,
              fmt::format("'{}' gives {} layers to this slice, '{}' {}: the sources of a slice have as "
                          "many layers each",
                          source.reference, source.layers->size(), slice.sources[0].reference, first.size()));
      }
      recipe_->slices.push_back(std::move(slice));
    });
  }

  std::optional<LayerRange> ReadLayers(const YamlNode& source) {
    const YamlNode* node = Present(source, "layer_range");
    if (!node) {
      Error(source.mark, "a source without 'layer_range:', [0, 8] for the first eight layers");
      return std::nullopt;
    }
    const auto number = [&](size_t i) -> std::optional<uint64_t> {
      return node->kind == Kind::kSequence && node->items.size() == 2 ? node->items[i]->integer : std::nullopt;
    };
    const std::optional<uint64_t> begin = number(0), end = number(1);
    if (!begin || !end) {
      Error(node->mark, "layer_range wants two whole numbers, the first layer and the one after the last: [0, 8]");
      return std::nullopt;
    }
    if (*begin >= *end) {
      Error(node->mark, fmt::format("layer_range [{}, {}] has no layers: the second number is the layer after the last",
                                    *begin, *end));
      return std::nullopt;
    }
    if (*end > kMaxLayers) {
      Error(node->mark,
            fmt::format("layer_range [{}, {}]: no model has more than {} layers", *begin, *end, kMaxLayers));
      return std::nullopt;
    }
    return LayerRange{*begin, *end};
  }

  // Of the models that this version knows none has more than one module, so it may have any name.
  void ReadModules(const YamlNode& node) {
    if (node.kind != Kind::kMapping || node.entries.empty()) {
      Error(node.mark, fmt::format("modules wants a mapping of a module's name to what it is made of, not {}",
                                   node.kind == Kind::kMapping ? "an empty one" : Quoted(node)));
      return;
    }
    if (node.entries.size() > 1) {
      Error(node.entries[1].key->mark, "models of several modules are not supported yet; this is a second one");
      return;
    }
    const YamlNode& module = *node.entries[0].value;
    if (module.kind != Kind::kMapping) {
      Error(module.mark, fmt::format("a module wants models or slices, not {}", Quoted(module)));
      return;
    }
    CheckKeys(module, kModuleKeys, "a module");
    recipe_->module_parameters = ReadParameters(module, ParameterScope::kRecipe);
    const YamlNode* models = Present(module, "models");
    const YamlNode* slices = Present(module, "slices");
    if ((models != nullptr) == (slices != nullptr)) {
      Error(module.mark, models ? "models and slices are both given; a module has one of them"
                                : "a module without models or slices");
    } else if (models) {
      ReadModels(*models);
    } else {
      ReadSlices(*slices);
    }
  }

  Recipe* recipe_;
  Diagnostics* diagnostics_;
  ParameterReader parameters_ = ParameterReader(nullptr, diagnostics_);
};

}  // namespace

void ReadRecipeDocument(const YamlNode& root, Recipe* recipe) { RecipeReader(recipe).Read(root); }

}  // namespace sluice::merge
