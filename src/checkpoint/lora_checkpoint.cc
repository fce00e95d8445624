#include "checkpoint/lora_checkpoint.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "checkpoint/architecture.h"
#include "checkpoint/lora_config.h"
#include "checkpoint/lora_node.h"
#include "checkpoint/stored_checkpoint.h"
#include "checkpoint/weight_file.h"
#include "checkpoint/wrapped_checkpoint.h"
#include "formats/recognise.h"

namespace sluice::checkpoint {
namespace {

namespace fs = std::filesystem;
using formats::Printable;
using Severity = Problem::Severity;

constexpr std::string_view kConfigName = "adapter_config.json";
constexpr std::array<std::string_view, 2> kWeightNames = {"adapter_model.safetensors", "adapter_model.bin"};
constexpr std::string_view kPrefix = "base_model.model.";
constexpr uint64_t kMaxConfigBytes = 16 << 20;
// Of these transformers' layers store their weights [in, out] (Conv1D), and PEFT sees it.
constexpr std::array<std::string_view, 4> kConv1dModels = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer"};

// A factor is read again for every tile of its weight: from the page cache, so that it costs a copy and no memory of
// this process.
class PageCachedSource final : public io::ByteSource {
 public:
  explicit PageCachedSource(std::shared_ptr<const io::ByteSource> inner) : inner_(std::move(inner)) {}
  const std::string& name() const override { return inner_->name(); }
  uint64_t size_bytes() const override { return inner_->size_bytes(); }
  io::SourceId id() const override { return inner_->id(); }
  Result<void> Read(uint64_t offset, std::span<uint8_t> out) const override { return inner_->Read(offset, out); }

 private:
  std::shared_ptr<const io::ByteSource> inner_;
};

enum class Role { kA, kB, kEmbeddingA, kEmbeddingB, kReplacement };

struct AdapterName {
  Role role;
  std::string module;  // of a factor: the layer's; of a replacement: the tensor's own name
};

// What follows `marker`, where the name has it as a part of its own; nullopt otherwise.
std::optional<std::pair<std::string, std::string>> SplitAt(std::string_view name, std::string_view marker) {
  const std::string dotted = fmt::format(".{}", marker);
  const size_t at = name.rfind(dotted);
  if (at == std::string_view::npos || at == 0) return std::nullopt;
  const std::string_view rest = name.substr(at + dotted.size());
  if (!rest.empty() && rest.front() != '.') return std::nullopt;
  return std::pair(std::string(name.substr(0, at)), std::string(rest.empty() ? rest : rest.substr(1)));
}

// Nullopt for a factor's name in no known form: a variant of LoRA that the config did not name.
std::optional<AdapterName> ParseAdapterName(std::string_view name) {
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  // With or without the adapter's name ("default"), which PEFT leaves out when it saves.
  for (const auto& [marker, role] : {std::pair("lora_A", Role::kA), std::pair("lora_B", Role::kB)}) {
    const auto split = SplitAt(name, marker);
    if (!split) continue;
    const size_t dot = split->second.rfind('.');
    const std::string last = dot == std::string::npos ? split->second : split->second.substr(dot + 1);
    if (last != "weight" || std::count(split->second.begin(), split->second.end(), '.') > 1) return std::nullopt;
    return AdapterName{role, split->first};
  }
  for (const auto& [marker, role] :
       {std::pair("lora_embedding_A", Role::kEmbeddingA), std::pair("lora_embedding_B", Role::kEmbeddingB)}) {
    const auto split = SplitAt(name, marker);
    if (!split) continue;
    if (split->second.find('.') != std::string::npos) return std::nullopt;
    return AdapterName{role, split->first};
  }
  if (name.find(".lora_") != std::string_view::npos) return std::nullopt;
  return AdapterName{Role::kReplacement, std::string(name)};
}

std::string Joined(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 3; ++i)
    text += fmt::format("{}{}", i == 0 ? "" : ", ", Printable(names[i]));
  return names.size() > 3 ? fmt::format("{} and {} more", text, names.size() - 3) : text;
}

class LoraCheckpoint final : public WrappedCheckpoint {
 public:
  struct Part {
    std::optional<size_t> replacement;  // a tensor of the adapter that stands for the base's
    std::optional<size_t> left, right;  // both or none
    LowRankUpdate update = {};
    bool is_changed() const { return replacement || left; }
  };

  LoraCheckpoint(const std::string& ref, std::shared_ptr<const Checkpoint> base,
                 std::shared_ptr<const StoredCheckpoint> adapter, std::vector<Part> parts)
      : WrappedCheckpoint(std::move(base)), adapter_(std::move(adapter)), parts_(std::move(parts)) {
    ref_ = ref;
    problems_.insert(problems_.end(), adapter_->problems().begin(), adapter_->problems().end());
    files_.insert(files_.end(), adapter_->files().begin(), adapter_->files().end());
    definitions_.insert(definitions_.end(), adapter_->definitions().begin(), adapter_->definitions().end());
    const Catalogue& tensors = inner_->tensors();
    for (size_t i = 0; i < tensors.size(); ++i) {
      const TensorInfo tensor = tensors[i];
      tensors_.Add(tensor.name, parts_[i].is_changed() ? ResultEncoding(*inner_, tensor.encoding) : tensor.encoding,
                   tensor.shape, tensor.num_elements);
    }
    tensors_.Sort();  // the names are sorted already: no tensor changes its place
  }

  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override {
    const Part& part = parts_[i];
    const quant::Encoding encoding = tensors_[i].encoding;
    const graph::Node* node = part.replacement ? graph->AddCast(adapter_->MakeNode(*part.replacement, graph), encoding)
                                               : inner_->MakeNode(i, graph);
    if (!part.left) return node;
    return graph->Add(std::make_unique<LoraNode>(node, adapter_->MakeNode(*part.left, graph),
                                                 adapter_->MakeNode(*part.right, graph), part.update, encoding));
  }

  static quant::Encoding ResultEncoding(const Checkpoint& base, quant::Encoding stored) {
    if (stored == quant::F32() || stored == quant::F16() || stored == quant::BF16()) return stored;
    const quant::Encoding said =
        quant::FloatByDtypeName(base.config() == nullptr ? "" : base.config()->GetString("torch_dtype"));
    return said.valid() ? said : quant::BF16();
  }

 private:
  std::shared_ptr<const StoredCheckpoint> adapter_;
  std::vector<Part> parts_;  // in the catalogue's order
};

// Finds the place of every tensor of an adapter in its base.
class LoraOpener {
 public:
  LoraOpener(const std::string& ref, std::shared_ptr<const Checkpoint> base, std::string folder)
      : ref_(ref), base_(std::move(base)), folder_(std::move(folder)) {}

  Result<std::shared_ptr<const Checkpoint>> Open(const OpenOptions& options) {
    SLUICE_TRY(ReadFiles(options));
    parts_.resize(base_->tensors().size());
    SLUICE_TRY(Match());
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (parts_[i].replacement) SLUICE_TRY(CheckReplacement(i));
      if (parts_[i].left || parts_[i].right) SLUICE_TRY(CheckUpdate(i));
    }
    Remark();
    return std::make_shared<LoraCheckpoint>(ref_, base_, adapter_, std::move(parts_));
  }

 private:
  using Part = LoraCheckpoint::Part;

  std::string PathOf(std::string_view name) const { return (fs::path(folder_) / name).string(); }

  Result<void> ReadFiles(const OpenOptions& options) {
    const auto missing = [&](std::string message) {
      return Fail(Error{ErrorCode::kNotFound, std::move(message), {folder_}});
    };
    std::error_code ignored;
    if (!fs::exists(folder_, ignored))
      return missing("there is no such folder, to be applied as an adapter (REF+LORA)");
    if (!fs::is_directory(folder_, ignored)) {
      return missing("an adapter is named by its folder, which holds adapter_config.json beside its weights");
    }
    const std::string config_path = PathOf(kConfigName);
    if (!fs::exists(config_path, ignored)) {
      return missing(fmt::format(
          "there is no {} in the folder, so it is no PEFT adapter: what stands behind a + is one", kConfigName));
    }
    SLUICE_ASSIGN(const std::string text, io::ReadWholeFile(config_path, kMaxConfigBytes));
    SLUICE_ASSIGN(config_, LoraConfig::Parse(text, config_path));

    for (const std::string_view name : kWeightNames) {
      if (!fs::exists(PathOf(name), ignored)) continue;
      weights_path_ = PathOf(name);
      SLUICE_ASSIGN(auto source, options.open_source(weights_path_));
      SLUICE_ASSIGN(const WeightFile file, WeightFile::Read(*source, name));
      adapter_ = std::make_shared<StoredCheckpoint>(folder_);
      adapter_->AddDefinition(config_path);
      const uint32_t number =
          adapter_->AddFile(std::string(name), std::make_shared<PageCachedSource>(std::move(source)));
      for (size_t i = 0; i < file.size(); ++i) adapter_->AddTensor(number, file[i]);
      adapter_->Finish();
      return {};
    }
    return missing(fmt::format("there is neither {} nor {} beside {}: fetch the adapter's weights", kWeightNames[0],
                               kWeightNames[1], kConfigName));
  }

  // A name as PEFT has it, or without transformers' name for the model without its head ("transformer.h.0" is "h.0" in
  // GPT-2's own files).
  std::optional<size_t> FindInBase(const std::string& name) const {
    if (const auto place = base_->tensors().Find(name)) return place;
    const size_t dot = name.find('.');
    return dot == std::string::npos ? std::nullopt : base_->tensors().Find(name.substr(dot + 1));
  }

  std::optional<size_t> FindReplaced(const std::string& name) const {
    if (const auto place = FindInBase(name)) return place;
    if (const auto split = SplitAt(name, "base_layer")) return FindInBase(split->first + "." + split->second);
    // modules_to_save.weight, modules_to_save.default.weight
    const auto split = SplitAt(name, "modules_to_save");
    if (!split) return std::nullopt;
    if (const auto place = FindInBase(split->first + "." + split->second)) return place;
    const size_t dot = split->second.find('.');
    return dot == std::string::npos ? std::nullopt : FindInBase(split->first + split->second.substr(dot));
  }

  tl::unexpected<Error> FailAt(ErrorCode code, size_t tensor, std::string message) const {
    return Fail(Error{code, std::move(message), {weights_path_, Printable(adapter_->tensors()[tensor].name)}});
  }

  Result<void> Match() {
    const Catalogue& tensors = adapter_->tensors();
    if (tensors.size() == 0) return Fail(Error{ErrorCode::kCorrupt, "there are no tensors in it", {weights_path_}});
    std::vector<std::string> homeless;
    modules_.resize(parts_.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      const std::string_view name = tensors[i].name;
      const auto parsed = ParseAdapterName(name);
      if (!parsed) {
        const bool is_dora = name.find("lora_magnitude_vector") != std::string_view::npos;
        return FailAt(ErrorCode::kUnsupported, i,
                      fmt::format("{}: not supported yet; merge the adapter into the model with PEFT's "
                                  "merge_and_unload() and name the result",
                                  is_dora ? "a tensor of DoRA" : "a tensor of a kind of LoRA that is not known"));
      }
      const auto place =
          parsed->role == Role::kReplacement ? FindReplaced(parsed->module) : FindInBase(parsed->module + ".weight");
      if (!place) {
        const bool is_head = parsed->module == "lm_head" || parsed->module.starts_with("lm_head.");
        if (is_head && homeless.empty() && !base_->tensors().Find("lm_head.weight")) {
          return FailAt(ErrorCode::kUnsupported, i,
                        fmt::format("the adapter changes a head that {} does not have: its head is tied to its "
                                    "embedding, and a head of its own is not supported yet",
                                    base_->ref()));
        }
        homeless.emplace_back(name);
        continue;
      }
      Part& part = parts_[*place];
      const bool is_left = parsed->role == Role::kB || parsed->role == Role::kEmbeddingA;
      const bool is_embedding = parsed->role == Role::kEmbeddingA || parsed->role == Role::kEmbeddingB;
      if (parsed->role == Role::kReplacement) {
        if (part.replacement) return Twice(i, *part.replacement);
        part.replacement = i;
        continue;
      }
      // `left` and `right` are B and A here; which of them is which is settled by the shapes.
      std::optional<size_t>& factor = is_left ? part.left : part.right;
      if (factor) return Twice(i, *factor);
      factor = i;
      part.update.transposed = is_embedding;
      modules_[*place] = parsed->module;
    }
    if (homeless.empty()) return {};
    return Fail(
        Error{ErrorCode::kCorrupt,
              fmt::format("{} of the adapter's {} tensors have no place in {}: {}; {}apply it to the model that "
                          "it was trained on",
                          homeless.size(), tensors.size(), base_->ref(), Joined(homeless),
                          config_.base_model.empty()
                              ? std::string()
                              : fmt::format("its config names {} as its base: ", Printable(config_.base_model))),
              {weights_path_}});
  }

  tl::unexpected<Error> Twice(size_t tensor, size_t other) const {
    return FailAt(ErrorCode::kCorrupt, tensor,
                  fmt::format("is for the same tensor of the model as {}: there are two adapters in the file; save one",
                              Printable(adapter_->tensors()[other].name)));
  }

  Result<void> CheckReplacement(size_t i) {
    const TensorInfo base = base_->tensors()[i], with = adapter_->tensors()[*parts_[i].replacement];
    if (!std::equal(base.shape.begin(), base.shape.end(), with.shape.begin(), with.shape.end())) {
      return FailAt(
          ErrorCode::kCorrupt, *parts_[i].replacement,
          fmt::format("has shape {}, and in {} {} has {}: where the vocabulary was resized for training, resize "
                      "the model's embeddings first; else apply the adapter to its own model",
                      ShapeText(with.shape), base_->ref(), Printable(base.name), ShapeText(base.shape)));
    }
    if (with.encoding == LoraCheckpoint::ResultEncoding(*base_, base.encoding)) return {};
    if (with.encoding->is_float && base.encoding->is_float && with.encoding->decode != nullptr) return {};
    return FailAt(ErrorCode::kUnsupported, *parts_[i].replacement,
                  fmt::format("is {} where the model has {}: this is not supported yet", with.encoding.name(),
                              base.encoding.name()));
  }

  // Which way round the factors lie over the weight, the rank, and the scale.
  Result<void> CheckUpdate(size_t i) {
    Part& part = parts_[i];
    const size_t present = part.left ? *part.left : *part.right;
    if (!part.left || !part.right) {
      return FailAt(ErrorCode::kCorrupt, present,
                    "its other factor (lora_A and lora_B) is missing: fetch the file again");
    }
    const TensorInfo weight = base_->tensors()[i];
    for (const size_t factor : {*part.left, *part.right}) {
      const TensorInfo tensor = adapter_->tensors()[factor];
      if (tensor.shape.size() != 2 || tensor.num_elements == 0) {
        return FailAt(
            ErrorCode::kCorrupt, factor,
            fmt::format("has shape {}, which is no factor of a matrix; where it was saved by several processes "
                        "at once, gather it first",
                        ShapeText(tensor.shape)));
      }
      if (!tensor.encoding->is_float || tensor.encoding.is_block() || tensor.encoding->decode == nullptr) {
        return FailAt(ErrorCode::kUnsupported, factor,
                      fmt::format("arithmetic on {} is not supported yet: save the adapter in F32, F16 or BF16",
                                  tensor.encoding.name()));
      }
    }
    if (weight.shape.size() != 2) {
      return FailAt(ErrorCode::kUnsupported, present,
                    fmt::format("{} has shape {}: LoRA of anything but a matrix is not supported yet",
                                Printable(weight.name), ShapeText(weight.shape)));
    }
    if (!part.replacement && (!weight.encoding->is_float || weight.encoding->decode == nullptr)) {
      return FailAt(ErrorCode::kUnsupported, present,
                    fmt::format("{} is {}, on which arithmetic is not supported yet: apply the adapter to the model in "
                                "BF16, F16 or F32",
                                Printable(weight.name), weight.encoding.name()));
    }

    const bool is_embedding = part.update.transposed;
    // By PEFT's names: A [rank, in], B [out, rank]. Of an embedding the file's B is our right.
    const size_t a = is_embedding ? *part.left : *part.right, b = is_embedding ? *part.right : *part.left;
    const auto a_shape = adapter_->tensors()[a].shape, b_shape = adapter_->tensors()[b].shape;
    const uint64_t rows = weight.shape[0], columns = weight.shape[1], rank = a_shape[0];
    const bool straight = a_shape[1] == columns && b_shape[0] == rows;
    const bool transposed = a_shape[1] == rows && b_shape[0] == columns && (is_embedding || !IsOfLinearLayers());
    if (b_shape[1] != rank || (is_embedding ? !transposed : !straight && !transposed)) {
      return FailAt(
          ErrorCode::kCorrupt, a,
          fmt::format("the factors' shapes {} and {} do not fit {} of {}, which has {}: apply the adapter to the "
                      "model that it was trained on",
                      ShapeText(a_shape), ShapeText(b_shape), Printable(weight.name), base_->ref(),
                      ShapeText(weight.shape)));
    }
    const std::string& module = modules_[i];
    if (config_.Rank(module) != rank) {
      return FailAt(
          ErrorCode::kCorrupt, a,
          fmt::format("has rank {}, and {} says {} (r, rank_pattern), of which the scale is made: the two are "
                      "not of one adapter; fetch both again",
                      rank, kConfigName, config_.Rank(module)));
    }
    if (rank > kMaxLoraRank) {
      return FailAt(ErrorCode::kUnsupported, a, fmt::format("a rank over {} is not supported", kMaxLoraRank));
    }
    const bool turned = is_embedding || !straight || (transposed && (config_.fan_in_fan_out || IsOfConv1d()));
    part.left = turned ? a : b;
    part.right = turned ? b : a;
    part.update = {rows, columns, rank, config_.Scale(module), turned};
    if (!config_.IsTarget(module)) strangers_.push_back(module);
    return {};
  }

  // PEFT looks at a layer's class, which the model's type tells here; where that is not known, the shapes do, and of a
  // square weight fan_in_fan_out.
  bool IsOfConv1d() const { return HasTransposedLayers(*base_); }
  bool IsOfLinearLayers() const {
    return base_->config() != nullptr && ArchitectureOf(*base_->config()) != nullptr && !IsOfConv1d();
  }

  void Remark() {
    const auto add = [&](Severity severity, std::string_view file, std::string message) {
      adapter_->AddProblem(severity, (fs::path(folder_).filename() / file).string(), "", std::move(message));
    };
    if (!strangers_.empty()) {
      add(Severity::kWarning, kConfigName,
          fmt::format("target_modules does not name {}, which the weights are for; PEFT would leave it out, here it is "
                      "applied",
                      Joined(strangers_)));
    }
    const auto last = [](const std::string& path) {
      const fs::path normal = fs::path(path).lexically_normal();
      return (normal.has_filename() ? normal : normal.parent_path()).filename().string();
    };
    std::string base_name = base_->ref();
    if (base_name.find('/') != std::string::npos && base_name.find('@') != std::string::npos) {
      base_name = base_name.substr(0, base_name.find('@'));
    }
    if (!config_.base_model.empty() && last(config_.base_model) != last(base_name)) {
      add(Severity::kNote, kConfigName,
          fmt::format("the adapter was trained on {}, and is applied to {}", Printable(config_.base_model),
                      base_->ref()));
    }
  }

  const std::string& ref_;
  std::shared_ptr<const Checkpoint> base_;
  std::string folder_, weights_path_;
  LoraConfig config_;
  std::shared_ptr<StoredCheckpoint> adapter_;
  std::vector<Part> parts_;           // for each of the base's tensors
  std::vector<std::string> modules_;  // likewise: the layer's name in the adapter
  std::vector<std::string> strangers_;
};

}  // namespace

Result<std::shared_ptr<const Checkpoint>> ApplyLora(const std::string& ref, std::shared_ptr<const Checkpoint> base,
                                                    const std::string& folder, const OpenOptions& options) {
  return LoraOpener(ref, std::move(base), folder).Open(options);
}

bool HasTransposedLayers(const Checkpoint& model) {
  if (model.config() == nullptr) return false;
  const Architecture* known = ArchitectureOf(*model.config());
  const std::string type(known != nullptr ? known->model_type : model.config()->GetString("model_type"));
  return std::find(kConv1dModels.begin(), kConv1dModels.end(), type) != kConv1dModels.end();
}

std::optional<LoraReference> SplitLoraReference(const std::string& ref) {
  std::optional<LoraReference> found;
  for (size_t plus = ref.rfind('+'); plus != std::string::npos && plus > 0; plus = ref.rfind('+', plus - 1)) {
    if (plus + 1 == ref.size()) continue;
    LoraReference split{ref.substr(0, plus), ref.substr(plus + 1)};
    std::error_code ignored;
    if (fs::exists(split.adapter, ignored)) return split;
    if (!found) found = std::move(split);
  }
  return found;
}

}  // namespace sluice::checkpoint
