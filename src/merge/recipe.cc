#include "merge/recipe.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <functional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "io/byte_source.h"

namespace sluice::merge {
namespace {

using Kind = YamlNode::Kind;

constexpr std::array<std::string_view, 9> kTopKeys = {
    "merge_method", "models", "base_model", "parameters", "dtype", "out_dtype", "name", "tokenizer_source", "sluice"};
constexpr std::array<std::string_view, 4> kLaterKeys = {"slices", "modules", "tokenizer", "chat_template"};
constexpr std::array<std::string_view, 2> kModelKeys = {"model", "parameters"};
constexpr std::array<std::string_view, 2> kSluiceKeys = {"seed", "arithmetic"};
constexpr std::array<std::string_view, 3> kDtypes = {"bfloat16", "float16", "float32"};

bool Contains(std::span<const std::string_view> words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// A number as Python's float() reads a string, which is what casts a recipe's quoted numbers: blanks around it, a sign,
// digits with single underscores between them, an exponent.
std::optional<double> PythonFloat(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\n\r\f\v";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return std::nullopt;
  text = text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto is_digit = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
    if (text[i] == '_') {
      if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return std::nullopt;
      continue;
    }
    plain += text[i];
  }
  if (plain.starts_with('+') && !plain.starts_with("+-")) plain.erase(0, 1);
  double value = 0;
  const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  if (end != plain.data() + plain.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range) return std::numeric_limits<double>::infinity();
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::string Quoted(const YamlNode& node) {
  return node.is_scalar() && node.kind != Kind::kNull ? fmt::format("'{}'", node.text) : KindName(node.kind);
}

class Reader {
 public:
  explicit Reader(Recipe* recipe) : recipe_(recipe), diagnostics_(&recipe->diagnostics) {}

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
    ReadTokenizerSource(root);
    ReadSluice(root);
    if (const YamlNode* base = Present(root, "base_model")) {
      recipe_->has_base_key = true;
      recipe_->base.emplace();
      if (!ReadReference(*base, &*recipe_->base)) recipe_->base.reset();
    }
    if (const YamlNode* parameters = Present(root, "parameters")) {
      ReadParameters(*parameters, ParameterScope::kRecipe, &recipe_->parameters, &recipe_->parameter_marks);
    }
    if (recipe_->method) recipe_->parameters.resize(recipe_->method->parameters.size());
    if (const YamlNode* models = Present(root, "models")) ReadModels(*models);
  }

 private:
  void Error(Mark mark, std::string message) { diagnostics_->AddError(mark, std::move(message)); }

  // A key with nothing behind it counts as absent, as it does for mergekit.
  static const YamlNode* Present(const YamlNode& mapping, std::string_view key) {
    const YamlNode* node = mapping.Find(key);
    return node && node->kind != Kind::kNull ? node : nullptr;
  }

  void CheckKeys(const YamlNode& mapping, std::span<const std::string_view> known, std::string_view where) {
    const bool top = known.data() == kTopKeys.data();
    std::vector<std::string_view> all(known.begin(), known.end());
    if (top) all.insert(all.end(), kLaterKeys.begin(), kLaterKeys.end());
    for (const YamlNode::Entry& entry : mapping.entries) {
      const std::string_view key = entry.key->text;
      if (Contains(all, key)) continue;
      if (IsParameterOfSomeMethod(key)) {
        Error(entry.key->mark, fmt::format("'{}' belongs under 'parameters:', not directly in {}", key, where));
      } else {
        Error(entry.key->mark, fmt::format("unknown key '{}' in {}{}", key, where, DidYouMean(key, all)));
      }
    }
  }

  static bool IsParameterOfSomeMethod(std::string_view name) {
    return std::any_of(AllMethods().begin(), AllMethods().end(),
                       [&](const Method* method) { return method->Find(name) != nullptr; });
  }

  void CheckForm(const YamlNode& root) {
    std::vector<std::string_view> forms;
    Mark mark = root.mark;
    for (const YamlNode::Entry& entry : root.entries) {
      const std::string_view key = entry.key->text;
      if (entry.value->kind == Kind::kNull) continue;
      if (key == "models" || key == "slices" || key == "modules") {
        forms.push_back(key);
        mark = entry.key->mark;
        if (key != "models") Error(mark, fmt::format("the {} form is not supported yet; the models form is", key));
      } else if (key == "tokenizer" && Present(root, "tokenizer_source")) {
        Error(entry.key->mark, "tokenizer and tokenizer_source are both given; a recipe takes one");
      } else if (key == "tokenizer") {
        Error(entry.key->mark, "tokenizer rules are not supported yet; without them the base's tokenizer goes along");
      } else if (key == "chat_template") {
        Error(entry.key->mark, "chat_template is not supported yet; without it the base's template goes along");
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
    if (recipe_->method) return;
    if (Contains(UnsupportedMethods(), node->text)) {
      unsupported_method_ = true;
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

  void ReadTokenizerSource(const YamlNode& root) {
    const YamlNode* node = Present(root, "tokenizer_source");
    if (!node || (node->kind == Kind::kString && node->text == "base")) return;
    Error(node->mark, fmt::format("tokenizer_source {} is not supported yet; 'base' is, and what is done without it",
                                  Quoted(*node)));
  }

  void ReadSluice(const YamlNode& root) {
    const YamlNode* node = Present(root, "sluice");
    if (!node) return;
    if (node->kind != Kind::kMapping) {
      Error(node->mark, fmt::format("sluice wants a mapping of seed and arithmetic, not {}", Quoted(*node)));
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
  }

  // Of {path, revision} the path, else the node itself. Null where there is none.
  const YamlNode* PathOf(const YamlNode& node) {
    if (node.kind != Kind::kMapping) return &node;
    for (const YamlNode::Entry& entry : node.entries) {
      const std::string_view key = entry.key->text;
      if (key == "path" || entry.value->kind == Kind::kNull) continue;
      Error(entry.key->mark, key == "revision" ? "a model's revision is not supported yet"
                                               : fmt::format("unknown key '{}' in a model's path", key));
    }
    return Present(node, "path");
  }

  // {model: {path, revision}, lora: {path, revision}, override_architecture}, or text; the adapter goes behind a +.
  bool ReadReference(const YamlNode& node, RecipeModel* model) {
    const YamlNode* text = &node;
    const YamlNode* lora = nullptr;
    if (node.kind == Kind::kMapping) {
      for (const YamlNode::Entry& entry : node.entries) {
        const std::string_view key = entry.key->text;
        if (key == "model" || entry.value->kind == Kind::kNull) continue;
        if (key == "lora") {
          lora = PathOf(*entry.value);
          if (lora == nullptr || lora->kind != Kind::kString || lora->text.empty()) {
            Error(entry.value->mark, "lora names an adapter by its path");
            lora = nullptr;
          }
        } else if (key == "override_architecture") {
          Error(entry.key->mark, fmt::format("{} is not supported yet", key));
        } else {
          static constexpr std::array<std::string_view, 3> kKeys = {"model", "lora", "override_architecture"};
          Error(entry.key->mark, fmt::format("unknown key '{}' in a model's name{}", key, DidYouMean(key, kKeys)));
        }
      }
      text = Present(node, "model");
      if (text) text = PathOf(*text);
      if (!text) {
        Error(node.mark, "a model without a path");
        return false;
      }
    }
    if (text->kind != Kind::kString || text->text.empty()) {
      Error(text->mark,
            fmt::format("a model is named by a path, not {}{}", text->text.empty() ? "nothing" : Quoted(*text),
                        text->is_scalar() && !text->text.empty() ? ": put it in quotes" : ""));
      return false;
    }
    if (text->text.find('\0') != std::string::npos) {
      Error(text->mark, "a model's path with a zero byte in it");
      return false;
    }
    model->reference = text->text;
    if (lora != nullptr && lora->text.find('\0') == std::string::npos) model->reference += "+" + lora->text;
    model->mark = text->mark;
    return true;
  }

  void ReadModels(const YamlNode& node) {
    if (node.kind != Kind::kSequence) {
      Error(node.mark, fmt::format("models wants a list, not {}", Quoted(node)));
      return;
    }
    if (node.items.empty()) Error(node.mark, "models is an empty list");
    for (const YamlNode::Pointer& item : node.items) {
      if (item->kind != Kind::kMapping) {
        Error(item->mark, fmt::format("a model is written '- model: PATH', this is {}", Quoted(*item)));
        continue;
      }
      CheckKeys(*item, kModelKeys, "a model");
      RecipeModel model;
      model.mark = item->mark;
      const YamlNode* reference = Present(*item, "model");
      if (!reference) Error(item->mark, "an item of models without 'model:'");
      const bool named = reference && ReadReference(*reference, &model);
      if (const YamlNode* parameters = Present(*item, "parameters")) {
        ReadParameters(*parameters, ParameterScope::kModel, &model.parameters, nullptr);
      }
      if (recipe_->method) model.parameters.resize(recipe_->method->parameters.size());
      if (named) recipe_->models.push_back(std::move(model));
    }
  }

  // `scope`: kModel for a model's own, kRecipe for the top level, which holds both kinds.
  void ReadParameters(const YamlNode& node, ParameterScope scope, std::vector<std::optional<double>>* values,
                      std::vector<Mark>* marks) {
    const Method* method = recipe_->method;
    if (method) values->resize(method->parameters.size());
    if (method && marks) marks->resize(method->parameters.size());
    if (node.kind != Kind::kMapping) {
      Error(node.mark, fmt::format("parameters wants a mapping of names and values, not {}", Quoted(node)));
      return;
    }
    if (unsupported_method_) return;
    for (const YamlNode::Entry& entry : node.entries) {
      const std::string_view name = entry.key->text;
      const ParameterInfo* info = FindParameter(name);
      if (!info) {
        UnknownParameter(*entry.key);
        continue;
      }
      if (scope == ParameterScope::kModel && info->scope == ParameterScope::kRecipe) {
        Error(entry.key->mark,
              fmt::format("'{}' is of the whole recipe: write it under 'parameters:' at the top level", name));
        continue;
      }
      const std::optional<double> value = ReadValue(*entry.value, *info);
      if (!method) continue;
      const size_t index = method->Index(name);
      (*values)[index] = value.value_or(kBadValue);
      if (marks) (*marks)[index] = entry.key->mark;
      if (!info->used && std::find(noted_.begin(), noted_.end(), name) == noted_.end()) {
        noted_.push_back(name);
        diagnostics_->AddNote(entry.key->mark, fmt::format("{} does not use {}: {}", method->name, name, info->help));
      }
    }
  }

  const ParameterInfo* FindParameter(std::string_view name) const {
    if (recipe_->method) return recipe_->method->Find(name);
    for (const Method* method : AllMethods()) {
      if (const ParameterInfo* info = method->Find(name)) return info;
    }
    return nullptr;
  }

  void UnknownParameter(const YamlNode& key) {
    const Method* method = recipe_->method;
    std::vector<std::string_view> known;
    std::vector<std::string_view> others;
    for (const Method* m : AllMethods()) {
      if (m->Find(key.text)) others.push_back(m->name);
      if (method && m != method) continue;
      for (const ParameterInfo& info : m->parameters) known.push_back(info.name);
    }
    const std::string of = method ? fmt::format(" of {}", method->name) : std::string();
    if (!others.empty()) {
      Error(key.mark, fmt::format("'{}' is no parameter{} (it is one of {})", key.text, of, fmt::join(others, ", ")));
      return;
    }
    const std::string meant = DidYouMean(key.text, known);
    Error(key.mark, fmt::format("unknown parameter '{}'{}{}", key.text, of,
                                meant.empty() && method ? fmt::format("; it has {}", fmt::join(known, ", ")) : meant));
  }

  std::optional<double> ReadValue(const YamlNode& node, const ParameterInfo& info) {
    const auto fail = [&](std::string message) {
      Error(node.mark, std::move(message));
      return std::nullopt;
    };
    const std::string_view wants = info.type == ParameterType::kNumber ? "a number"
                                   : info.type == ParameterType::kBool ? "true or false"
                                                                       : "true, false or density";
    if (node.kind == Kind::kSequence) {
      const bool filters = std::any_of(node.items.begin(), node.items.end(),
                                       [](const YamlNode::Pointer& item) { return item->kind == Kind::kMapping; });
      return fail(
          filters ? fmt::format("a list of filters for {} is not supported yet; give one value", info.name)
                  : fmt::format("a gradient over the layers for {} is not supported yet; give one value", info.name));
    }
    if (node.kind == Kind::kMapping) {
      return fail(Present(node, "value")
                      ? fmt::format("a filter for {} is not supported yet; give one value", info.name)
                      : fmt::format("{} wants {}, not a mapping", info.name, wants));
    }
    double value = 0;
    switch (node.kind) {
      case Kind::kNull:
        return fail(fmt::format("{} has no value; it wants {}", info.name, wants));
      case Kind::kBool:
        value = node.boolean ? 1 : 0;
        break;
      case Kind::kInteger:
      case Kind::kFloat:
        value = node.number;
        break;
      default: {
        if (info.type == ParameterType::kBoolOrDensity && node.text == "density") return kDensityWord;
        const std::optional<double> number = PythonFloat(node.text);
        if (!number) return fail(fmt::format("{} wants {}, not '{}'", info.name, wants, node.text));
        value = *number;
      }
    }
    if (info.type != ParameterType::kNumber) {
      if (value != 0 && value != 1) return fail(fmt::format("{} wants {}, not {}", info.name, wants, Quoted(node)));
      return value;
    }
    if (!std::isfinite(value)) return fail(fmt::format("{} wants a finite number, not {}", info.name, Quoted(node)));
    if (value < info.min || value > info.max) {
      return fail(std::abs(value) > std::numeric_limits<float>::max()
                      ? fmt::format("{} {} is too large for f32", info.name, node.text)
                      : fmt::format("{} {} is outside {} to {}", info.name, node.text, info.min, info.max));
    }
    return value;
  }

  Recipe* recipe_;
  Diagnostics* diagnostics_;
  bool unsupported_method_ = false;
  std::vector<std::string_view> noted_;  // unused parameters told of once
};

}  // namespace

Recipe ParseRecipe(std::string text, std::string path, std::span<const std::string> overrides) {
  Recipe recipe(std::move(path));
  recipe.text = std::move(text);
  recipe.overrides.assign(overrides.begin(), overrides.end());
  if (recipe.text.size() > kMaxRecipeBytes) {
    recipe.diagnostics.AddError({}, fmt::format("larger than {} bytes: not a recipe", kMaxRecipeBytes));
    return recipe;
  }
  YamlDocument document = ParseYaml(recipe.text);
  for (const YamlProblem& problem : document.problems) recipe.diagnostics.AddError(problem.mark, problem.message);
  if (document.num_documents > 1) {
    recipe.diagnostics.AddError(document.second_document,
                                "a second document begins here; a recipe of several documents is not supported yet");
  }
  if (!document.root || document.root->kind == Kind::kNull) {
    if (document.problems.empty()) recipe.diagnostics.AddError({1, 1}, "the recipe is empty");
    return recipe;
  }
  YamlNode::Pointer root = document.root;
  for (const std::string& assignment : recipe.overrides) {
    const size_t equals = assignment.find('=');
    std::string message = "want key=value, parameters.density=0.5 for instance";
    YamlNode::Pointer changed;
    if (equals != std::string::npos) {
      changed = WithOverride(root, assignment.substr(0, equals), assignment.substr(equals + 1), &message);
    }
    if (changed) {
      root = std::move(changed);
    } else {
      recipe.diagnostics.AddError({}, fmt::format("--set {}: {}", assignment, message));
    }
  }
  Reader(&recipe).Read(*root);
  return recipe;
}

Result<Recipe> ReadRecipe(const std::string& path, std::span<const std::string> overrides) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    return Fail(ErrorCode::kNotFound, fmt::format("{}: no such recipe", path));
  }
  if (std::filesystem::is_directory(status)) {
    return Fail(
        ErrorCode::kRecipe,
        fmt::format("{} is a folder, not a recipe: a merge is described by a .yml file that names its models", path));
  }
  if (path.ends_with(".safetensors") || path.ends_with(".gguf") || path.ends_with(".safetensors.index.json")) {
    return Fail(
        ErrorCode::kRecipe,
        fmt::format("{} is a model, not a recipe: a merge is described by a .yml file that names its models", path));
  }
  const uint64_t size_bytes = std::filesystem::file_size(path, error);
  if (!error && size_bytes > kMaxRecipeBytes) {
    return Fail(ErrorCode::kRecipe, fmt::format("{} has {} bytes: too large for a recipe, which may have {}", path,
                                                size_bytes, kMaxRecipeBytes));
  }
  SLUICE_ASSIGN(std::string text, io::ReadWholeFile(path, kMaxRecipeBytes));
  return ParseRecipe(std::move(text), path, overrides);
}

}  // namespace sluice::merge
