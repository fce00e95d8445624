#include "merge/statement.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "generated/version.h"
#include "io/byte_source.h"
#include "io/file_stamp.h"
#include "kernels/sha256.h"

namespace sluice::merge {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kSchema[] = "sluice/merge-statement/v1";
constexpr uint64_t kMaxStatementBytes = 256 << 20;  // 100,000 tensors with their roots are 15 MB

std::string Absolute(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return path;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.lexically_normal().string();
}

bool IsRoot(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Takes the keys of one object, each once and all of them. The first thing that is wrong stays.
class ObjectReader {
 public:
  ObjectReader(const Json& json, std::string where, std::string* problem)
      : json_(json), where_(std::move(where)), problem_(problem) {
    if (!json.is_object()) Complain("is not an object");
  }

  void Text(const char* key, std::string* value) {
    if (const Json* json = Take(key); json && Check(key, json->is_string(), "text")) *value = json->get<std::string>();
  }
  void OptionalText(const char* key, std::string* value) {
    if (json_.is_object() && json_.contains(key)) Text(key, value);
  }
  void Root(const char* key, std::string* value) {
    Text(key, value);
    if (problem_->empty() && !IsRoot(*value))
      Complain(fmt::format("has a '{}' that is not 64 hexadecimal digits", key));
  }
  void Count(const char* key, uint64_t* value) {
    if (const Json* json = Take(key); json && Check(key, json->is_number_unsigned(), "a whole number")) {
      *value = json->get<uint64_t>();
    }
  }
  const Json* Object(const char* key) {
    const Json* json = Take(key);
    return json && Check(key, json->is_object(), "an object") ? json : nullptr;
  }
  const Json* List(const char* key) {
    const Json* json = Take(key);
    return json && Check(key, json->is_array(), "a list") ? json : nullptr;
  }
  const Json* OptionalList(const char* key) { return json_.is_object() && json_.contains(key) ? List(key) : nullptr; }
  // Whatever was not asked for is too much.
  void End() {
    if (!problem_->empty()) return;
    for (const auto& [key, value] : json_.items()) {
      if (std::find(taken_.begin(), taken_.end(), key) == taken_.end())
        Complain(fmt::format("has an unknown key '{}'", key));
    }
  }
  void Complain(const std::string& what) {
    if (problem_->empty()) *problem_ = fmt::format("{} {}", where_, what);
  }

 private:
  const Json* Take(const char* key) {
    if (!problem_->empty()) return nullptr;
    taken_.emplace_back(key);
    const auto found = json_.find(key);
    if (found == json_.end()) Complain(fmt::format("has no '{}'", key));
    return found == json_.end() ? nullptr : &*found;
  }
  bool Check(const char* key, bool good, const char* wanted) {
    if (!good) Complain(fmt::format("has a '{}' that is not {}", key, wanted));
    return good;
  }

  const Json& json_;
  const std::string where_;
  std::string* problem_;
  std::vector<std::string> taken_;
};

void ReadFiles(const Json& list, Statement* statement, std::string* problem) {
  for (const Json& item : list) {
    Statement::File file;
    uint64_t modified = 0;
    ObjectReader reader(item, fmt::format("files[{}]", statement->files.size()), problem);
    reader.Text("path", &file.path);
    reader.Count("bytes", &file.size_bytes);
    reader.Count("modified", &modified);
    reader.End();
    if (modified > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) reader.Complain("has no such time");
    if (!problem->empty()) return;
    file.modified_nanoseconds = static_cast<int64_t>(modified);
    statement->files.push_back(std::move(file));
  }
}

void ReadParents(const Json& list, Statement* statement, std::string* problem) {
  for (const Json& item : list) {
    Statement::Parent parent;
    std::string role;
    ObjectReader reader(item, fmt::format("parents[{}]", statement->parents.size()), problem);
    reader.Text("role", &role);
    reader.Text("reference", &parent.reference);
    reader.Text("path", &parent.path);
    reader.Text("kind", &parent.kind);
    reader.Count("bytes", &parent.size_bytes);
    reader.End();
    if (role != "base" && role != "model") reader.Complain("has a 'role' that is neither base nor model");
    if (!problem->empty()) return;
    parent.is_base = role == "base";
    statement->parents.push_back(std::move(parent));
  }
}

// A double by its bits: what JSON has no number for (NaN, infinities) comes back too.
std::string BitsOf(double value) { return fmt::format("{:016x}", std::bit_cast<uint64_t>(value)); }

std::optional<double> FromBits(const Json& json) {
  if (!json.is_string()) return std::nullopt;
  const std::string text = json.get<std::string>();
  uint64_t bits = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bits, 16);
  if (error != std::errc() || end != text.data() + text.size() || text.size() != 16) return std::nullopt;
  return std::bit_cast<double>(bits);
}

bool ReadFacts(const Json& list, std::vector<graph::FactRecord>* facts) {
  for (const Json& item : list) {
    graph::FactRecord& fact = facts->emplace_back();
    if (item.is_string()) {
      fact.hash = item.get<std::string>();
      if (!IsRoot(fact.hash)) return false;
      continue;
    }
    if (!item.is_array() || item.size() > graph::FactRecord::kMostNumbers) return false;
    for (const Json& number : item) {
      const std::optional<double> value = FromBits(number);
      if (!value) return false;
      fact.numbers.push_back(*value);
    }
  }
  return true;
}

void ReadTensors(const Json& list, Statement* statement, std::string* problem) {
  for (const Json& item : list) {
    Statement::Tensor tensor;
    ObjectReader reader(item, fmt::format("tensors[{}]", statement->tensors.size()), problem);
    reader.Text("name", &tensor.name);
    reader.Root("root", &tensor.root);
    reader.Text("leaves", &tensor.leaves);
    const Json* facts = reader.List("facts");
    reader.End();
    if (!problem->empty()) return;
    if (tensor.leaves.size() % 64 != 0 || tensor.leaves.find_first_not_of("0123456789abcdef") != std::string::npos) {
      reader.Complain("has 'leaves' that are not hashes of 64 hexadecimal digits");
    } else if (!ReadFacts(*facts, &tensor.facts)) {
      reader.Complain("has 'facts' that are neither lists of 16 hexadecimal digits nor hashes");
    }
    if (!problem->empty()) return;
    statement->tensors.push_back(std::move(tensor));
  }
}

void ReadAll(const Json& json, Statement* statement, std::string* problem) {
  ObjectReader reader(json, "the statement", problem);
  std::string schema;
  reader.Text("schema", &schema);
  if (problem->empty() && schema != kSchema) {
    reader.Complain(fmt::format("is of the schema '{}'; this version reads '{}'", schema, kSchema));
  }
  if (const Json* object = reader.Object("program")) {
    std::string name;
    ObjectReader program(*object, "program", problem);
    program.Text("name", &name);
    program.Text("version", &statement->program_version);
    program.End();
  }
  if (const Json* object = reader.Object("recipe")) {
    ObjectReader recipe(*object, "recipe", problem);
    recipe.Text("path", &statement->recipe_path);
    recipe.Text("text", &statement->recipe_text);
    recipe.Text("document", &statement->recipe_document);
    if (const Json* list = recipe.List("overrides")) {
      for (const Json& item : *list) {
        if (!item.is_string()) {
          recipe.Complain("has overrides that are not text");
          break;
        }
        statement->recipe_overrides.push_back(item.get<std::string>());
      }
    }
    recipe.End();
  }
  reader.Text("merge_method", &statement->method);
  reader.Count("seed", &statement->seed);
  reader.Text("arithmetic", &statement->arithmetic);
  reader.OptionalText("lora_merge_dtype", &statement->lora_merge_dtype);
  if (!statement->lora_merge_dtype.empty() && !quant::FloatByDtypeName(statement->lora_merge_dtype).valid()) {
    reader.Complain(fmt::format("has the unknown lora_merge_dtype '{}'", statement->lora_merge_dtype));
  }
  reader.Text("dtype", &statement->dtype);
  if (const Json* list = reader.List("parents")) ReadParents(*list, statement, problem);
  if (const Json* list = reader.OptionalList("files")) ReadFiles(*list, statement, problem);
  reader.Root("root", &statement->root);
  reader.Root("weights_root", &statement->weights_root);
  if (const Json* list = reader.List("tensors")) ReadTensors(*list, statement, problem);
  reader.End();
}

}  // namespace

std::vector<Statement::File> FilesOfParents(const RecipeCheckpoint& recipe) {
  std::vector<Statement::File> files;
  const auto add = [&](const std::string& path) {
    const auto stamp = io::StampOf(path);
    if (!stamp) return;
    files.push_back({Absolute(path), stamp->size_bytes, std::max<int64_t>(stamp->modified_nanoseconds, 0)});
  };
  for (const checkpoint::Checkpoint::File& file : recipe.files()) add(file.path);
  for (const std::string& path : recipe.definitions()) {
    if (path != recipe.recipe().path) add(path);  // whose text the statement has
  }
  return files;
}

Statement MakeStatement(const RecipeCheckpoint& checkpoint) {
  Statement statement;
  statement.program_version = kVersion;
  statement.recipe_text = checkpoint.recipe().text;
  statement.recipe_document = checkpoint.recipe().document;
  statement.recipe_path = Absolute(checkpoint.recipe().path);
  statement.recipe_overrides = checkpoint.recipe().overrides;
  statement.method = std::string(checkpoint.recipe().method->name);
  statement.seed = checkpoint.seed();
  statement.arithmetic = checkpoint.arithmetic();
  if (checkpoint.lora_merge_dtype().valid()) {
    statement.lora_merge_dtype = quant::DtypeName(checkpoint.lora_merge_dtype());
  }
  statement.dtype = checkpoint.dtype();
  for (const RecipeCheckpoint::ParentInfo& parent : checkpoint.parents()) {
    statement.parents.push_back(
        {parent.is_base, parent.reference, Absolute(parent.path), parent.kind, parent.size_bytes});
  }
  statement.files = FilesOfParents(checkpoint);
  return statement;
}

Statement::Tensor StatementTensor(const checkpoint::TensorDigest& digest, std::vector<graph::FactRecord> facts) {
  Statement::Tensor tensor{digest.name, kernels::ToHex(digest.root), "", std::move(facts)};
  if (digest.leaves.size() > 1) {
    for (const kernels::Hash256& leaf : digest.leaves) tensor.leaves += kernels::ToHex(leaf);
  }
  return tensor;
}

std::string WriteStatement(const Statement& statement) {
  Json json;
  json["schema"] = kSchema;
  json["program"] = {{"name", "sluice"}, {"version", statement.program_version}};
  json["recipe"] = {{"path", statement.recipe_path}, {"text", statement.recipe_text}};
  json["recipe"]["document"] = statement.recipe_document;
  json["recipe"]["overrides"] = statement.recipe_overrides;
  json["merge_method"] = statement.method;
  json["seed"] = statement.seed;
  json["arithmetic"] = statement.arithmetic;
  if (!statement.lora_merge_dtype.empty()) json["lora_merge_dtype"] = statement.lora_merge_dtype;
  json["dtype"] = statement.dtype;
  json["parents"] = Json::array();
  for (const Statement::Parent& parent : statement.parents) {
    json["parents"].push_back({{"role", parent.is_base ? "base" : "model"},
                               {"reference", parent.reference},
                               {"path", parent.path},
                               {"kind", parent.kind},
                               {"bytes", parent.size_bytes}});
  }
  json["files"] = Json::array();
  for (const Statement::File& file : statement.files) {
    json["files"].push_back({{"path", file.path}, {"bytes", file.size_bytes}, {"modified", file.modified_nanoseconds}});
  }
  json["root"] = statement.root;
  json["weights_root"] = statement.weights_root;
  json["tensors"] = Json::array();
  for (const Statement::Tensor& tensor : statement.tensors) {
    Json facts = Json::array();
    for (const graph::FactRecord& fact : tensor.facts) {
      if (!fact.has_value()) {
        facts.push_back(fact.hash);
        continue;
      }
      Json& numbers = facts.emplace_back(Json::array());
      for (const double number : fact.numbers) numbers.push_back(BitsOf(number));
    }
    json["tensors"].push_back(
        {{"name", tensor.name}, {"root", tensor.root}, {"leaves", tensor.leaves}, {"facts", std::move(facts)}});
  }
  // A path or a recipe need not be UTF-8; JSON must be.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<Statement> ParseStatement(std::string_view text, const std::string& file) {
  // The strict reader of config.json: no repeated keys, and errors with line and column.
  SLUICE_ASSIGN(const std::shared_ptr<const checkpoint::ModelConfig> config,
                checkpoint::ModelConfig::Parse(text, file));
  Statement statement;
  std::string problem;
  ReadAll(config->json(), &statement, &problem);
  if (!problem.empty()) return Fail(ErrorCode::kCorrupt, fmt::format("{}: {}", file, problem));
  return statement;
}

Result<Statement> ReadStatement(const std::string& folder) {
  const std::string file = (std::filesystem::path(folder) / kStatementFile).string();
  std::error_code error;
  if (!std::filesystem::exists(file, error)) {
    return Fail(ErrorCode::kUsage,
                fmt::format("{} has no {}, so it does not say what it was made of: name the model or the "
                            "recipe to compare it with",
                            folder, kStatementFile));
  }
  SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(file, kMaxStatementBytes));
  return ParseStatement(text, file);
}

Recipe RecipeOf(const Statement& statement) {
  return ParseRecipe(statement.recipe_text, statement.recipe_path, statement.recipe_overrides,
                     statement.recipe_document);
}

}  // namespace sluice::merge
