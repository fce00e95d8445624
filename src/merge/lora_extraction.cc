#include "merge/lora_extraction.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "arithmetic/weighted_sum_node.h"
#include "base/check.h"
#include "checkpoint/expected_tensors.h"
#include "checkpoint/lora_checkpoint.h"
#include "checkpoint/lora_node.h"
#include "formats/recognise.h"

namespace sluice::merge {
namespace {

using checkpoint::Checkpoint;
using checkpoint::Part;
using checkpoint::TensorInfo;
using formats::Printable;

constexpr std::string_view kWeight = ".weight";

std::string Joined(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 3; ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ", ", Printable(names[i]));
  }
  return names.size() > 3 ? fmt::format("{} and {} more", text, names.size() - 3) : text;
}

std::string_view LastPart(std::string_view module) { return module.substr(module.rfind('.') + 1); }

class Pairing {
 public:
  Pairing(const Checkpoint& finetune, const Checkpoint& base, const ExtractionOptions& options)
      : finetune_(finetune), base_(base), options_(options), prefix_(Prefix()) {}

  Result<ExtractionPairs> Run() {
    SLUICE_TRY(CheckTypes());
    SLUICE_TRY(CheckNames());
    SLUICE_TRY(CheckShapes());
    uint64_t largest = 0;
    for (uint32_t i = 0; i < base_.tensors().size(); ++i) {
      const TensorInfo tensor = base_.tensors()[i];
      const auto place = finetune_.tensors().Find(tensor.name);
      if (!place) continue;
      const quant::Encoding other = finetune_.tensors()[*place].encoding;
      const auto is_float = [](quant::Encoding encoding) {
        return encoding->is_float && graph::Graph::CanCast(encoding, quant::F32());
      };
      if (!is_float(tensor.encoding) || !is_float(other)) {
        result_.unread.emplace_back(tensor.name);
        continue;
      }
      TensorPair pair = PairOf(tensor);
      pair.finetune = static_cast<uint32_t>(*place);
      pair.base = i;
      if (pair.is_layer()) largest = std::max(largest, std::min(pair.rows, pair.columns));
      result_.pairs.push_back(std::move(pair));
    }
    if (largest == 0) {
      return Fail(ErrorCode::kUnsupported,
                  fmt::format("{} has no layer that an adapter can hold: none of its tensors is a matrix named "
                              "*.weight, embeddings and heads left out",
                              base_.ref()));
    }
    if (options_.rank > largest) {
      return Fail(ErrorCode::kUsage,
                  fmt::format("--rank {}: no layer of {} has a rank over {}", options_.rank, base_.ref(), largest));
    }
    return std::move(result_);
  }

 private:
  Result<void> CheckTypes() const {
    if (finetune_.config() == nullptr || base_.config() == nullptr) return {};
    const std::string ours = finetune_.config()->GetString("model_type"),
                      of_base = base_.config()->GetString("model_type");
    if (ours == of_base) return {};
    return Fail(ErrorCode::kUnsupported,
                fmt::format("{} is of model_type {} and {} of {}: an adapter is of one architecture", finetune_.ref(),
                            Printable(ours), base_.ref(), Printable(of_base)));
  }

  // A head that is tied, and stored all the same, and buffers that every loader ignores need no counterpart.
  bool MayMiss(const Checkpoint& model, std::string_view name) const {
    const checkpoint::Architecture* known =
        model.config() == nullptr ? nullptr : checkpoint::ArchitectureOf(*model.config());
    if (checkpoint::IsKnownBuffer(known, name)) return true;
    return model.config() != nullptr && model.config()->GetBool("tie_word_embeddings").value_or(false) &&
           options_.part_of(name) == Part::kHead;
  }

  Result<void> CheckNames() const {
    const auto missing = [this](const Checkpoint& model, const Checkpoint& other) {
      std::vector<std::string> names;
      for (size_t i = 0; i < model.tensors().size(); ++i) {
        const std::string_view name = model.tensors()[i].name;
        if (!other.tensors().Find(name) && !MayMiss(model, name)) names.emplace_back(name);
      }
      return names;
    };
    for (const auto& [model, other] : {std::pair(&finetune_, &base_), std::pair(&base_, &finetune_)}) {
      const std::vector<std::string> names = missing(*model, *other);
      if (names.empty()) continue;
      return Fail(
          ErrorCode::kUnsupported,
          fmt::format("{} has tensors that {} does not have: {}; an adapter changes the tensors of its base and "
                      "can add none: give the model that the fine-tune was made from",
                      model->ref(), other->ref(), Joined(names)));
    }
    return {};
  }

  Result<void> CheckShapes() const {
    for (size_t i = 0; i < base_.tensors().size(); ++i) {
      const TensorInfo tensor = base_.tensors()[i];
      const auto place = finetune_.tensors().Find(tensor.name);
      if (!place) continue;
      const TensorInfo other = finetune_.tensors()[*place];
      if (std::ranges::equal(tensor.shape, other.shape)) continue;
      const Part part = options_.part_of(tensor.name);
      const bool is_vocabulary = part == Part::kEmbedding || part == Part::kHead;
      return Fail(
          ErrorCode::kUnsupported,
          fmt::format("{} has shape {} in {} and {} in {}: {}", Printable(tensor.name),
                      checkpoint::ShapeText(other.shape), finetune_.ref(), checkpoint::ShapeText(tensor.shape),
                      base_.ref(),
                      is_vocabulary ? "the vocabularies differ, and an adapter adds no rows; give both the same "
                                      "vocabulary first, as a merge with tokenizer_source does"
                                    : "an adapter changes no shapes; give the model that the fine-tune was made "
                                      "from"));
    }
    return {};
  }

  // What PEFT's names have before those of files of a model without its head ("transformer." of GPT-2's).
  std::string Prefix() const {
    if (base_.config() == nullptr) return "";
    const checkpoint::Architecture* known = checkpoint::ArchitectureOf(*base_.config());
    if (known == nullptr) return "";
    std::string prefix(checkpoint::PrefixesOf(*known, base_.config()).front());
    for (size_t i = 0; i < base_.tensors().size(); ++i) {
      if (base_.tensors()[i].name.starts_with(prefix)) return "";
    }
    return prefix;
  }

  TensorPair PairOf(const TensorInfo& tensor) const {
    TensorPair pair;
    pair.name = tensor.name;
    const Part part = options_.part_of(tensor.name);
    if (tensor.shape.size() != 2) {
      pair.obstacle = tensor.shape.size() == 1 ? "one dimension" : fmt::format("{} dimensions", tensor.shape.size());
    } else if (!tensor.name.ends_with(kWeight) || tensor.num_elements == 0) {
      pair.obstacle = "not the weight of a layer";
    } else if (part == Part::kNorms) {
      pair.obstacle = "a norm";
    } else if ((part == Part::kEmbedding || part == Part::kHead) && !options_.include_embeddings) {
      pair.obstacle = part == Part::kEmbedding ? "an embedding" : "the head";
    }
    if (!pair.is_layer()) return pair;
    pair.module = fmt::format("{}{}", part == Part::kHead ? "" : prefix_,
                              tensor.name.substr(0, tensor.name.size() - kWeight.size()));
    pair.rows = tensor.shape[0];
    pair.columns = tensor.shape[1];
    pair.rank = std::min({options_.rank, pair.rows, pair.columns});
    pair.is_embedding = part == Part::kEmbedding;
    pair.transposed = pair.is_embedding || (part != Part::kHead && checkpoint::HasTransposedLayers(base_));
    return pair;
  }

  const Checkpoint& finetune_;
  const Checkpoint& base_;
  const ExtractionOptions& options_;
  const std::string prefix_;
  ExtractionPairs result_;
};

// The last parts of modules' names where the adapter has all layers of that name, else the modules themselves.
std::vector<std::string> TargetModules(const std::vector<TensorPair>& pairs, const std::set<uint32_t>& layers) {
  std::set<std::string, std::less<>> partial;
  for (uint32_t i = 0; i < pairs.size(); ++i) {
    const std::string_view name = pairs[i].name;
    if (layers.contains(i) || !name.ends_with(kWeight)) continue;
    partial.emplace(LastPart(name.substr(0, name.size() - kWeight.size())));
  }
  std::set<std::string> targets;
  for (const uint32_t i : layers) {
    const std::string_view last = LastPart(pairs[i].module);
    targets.emplace(partial.contains(last) ? std::string_view(pairs[i].module) : last);
  }
  return {targets.begin(), targets.end()};
}

nlohmann::ordered_json TaskType(const Checkpoint& base) {
  if (base.config() == nullptr) return nullptr;
  const checkpoint::Architecture* known = checkpoint::ArchitectureOf(*base.config());
  if (known == nullptr) return nullptr;
  if (known->name.ends_with("ForCausalLM") || known->name.ends_with("LMHeadModel")) return "CAUSAL_LM";
  return nullptr;
}

}  // namespace

Result<ExtractionPairs> PairTensors(const Checkpoint& finetune, const Checkpoint& base,
                                    const ExtractionOptions& options) {
  if (options.rank == 0) return Fail(ErrorCode::kUsage, "--rank 0: an adapter of no rank changes nothing");
  if (options.rank > checkpoint::kMaxLoraRank) {
    return Fail(ErrorCode::kUsage,
                fmt::format("--rank {}: a rank over {} is not supported", options.rank, checkpoint::kMaxLoraRank));
  }
  return Pairing(finetune, base, options).Run();
}

void DifferenceGroups::Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const {
  const TensorPair& one = pair(group);
  const graph::Node* ours = graph->AddCast(finetune_.MakeNode(one.finetune, graph), quant::F32());
  const graph::Node* base = graph->AddCast(base_.MakeNode(one.base, graph), quant::F32());
  outs->push_back(graph->Add(std::make_unique<arithmetic::WeightedSumNode>(
      std::vector<float>{1, -1}, 1.0f, std::vector<const graph::Node*>{ours, base})));
  if (with_base_) outs->push_back(base);
}

Result<AdapterForm> PlanAdapter(const std::vector<TensorPair>& pairs, const std::vector<uint32_t>& captured) {
  AdapterForm form;
  std::vector<uint32_t> layer_of;  // of each tensor, as added
  for (const uint32_t i : captured) {
    const TensorPair& pair = pairs[i];
    const std::string before =
        fmt::format("base_model.model.{}.lora_{}", pair.module, pair.is_embedding ? "embedding_" : "");
    const std::string_view after = pair.is_embedding ? "" : kWeight;
    const uint64_t in = pair.transposed ? pair.rows : pair.columns, out = pair.transposed ? pair.columns : pair.rows;
    form.tensors.Add(fmt::format("{}A{}", before, after), quant::F32(), std::array{pair.rank, in}, pair.rank * in);
    form.tensors.Add(fmt::format("{}B{}", before, after), quant::F32(), std::array{out, pair.rank}, out * pair.rank);
    layer_of.insert(layer_of.end(), {i, i});
  }
  const std::vector<uint32_t> added = form.tensors.Sort();
  SLUICE_ASSIGN(form.plan, checkpoint::PlanOneFile(form.tensors, "adapter_model.safetensors"));
  form.plan.one_file = false;  // its name is not the output's: a folder has it
  for (size_t place = 0; place < form.plan.order.size(); place += 2) {
    const uint32_t a = added[form.plan.order[place]], b = added[form.plan.order[place + 1]];
    SLUICE_CHECK(b == a + 1);  // no name lies between those of a layer's two
    form.layers.push_back(layer_of[a]);
  }
  return form;
}

std::string AdapterConfigText(const Checkpoint& base, const std::vector<TensorPair>& pairs,
                              const std::vector<uint32_t>& layers, uint64_t rank) {
  nlohmann::ordered_json ranks = nlohmann::ordered_json::object();
  bool transposed = false;
  for (const uint32_t i : layers) {
    if (pairs[i].rank != rank) ranks[pairs[i].module] = pairs[i].rank;
    transposed |= pairs[i].transposed && !pairs[i].is_embedding;
  }
  nlohmann::ordered_json json;
  json["peft_type"] = "LORA";
  json["task_type"] = TaskType(base);
  json["base_model_name_or_path"] = base.ref();
  json["r"] = rank;
  json["lora_alpha"] = rank;  // a scale of 1
  json["lora_dropout"] = 0.0;
  json["target_modules"] = TargetModules(pairs, {layers.begin(), layers.end()});
  json["rank_pattern"] = ranks;
  json["alpha_pattern"] = ranks;
  json["bias"] = "none";
  json["fan_in_fan_out"] = transposed;
  json["use_rslora"] = false;
  json["use_dora"] = false;
  json["init_lora_weights"] = true;
  json["modules_to_save"] = nullptr;
  json["inference_mode"] = true;
  // A path need not be UTF-8; JSON must be.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace sluice::merge
