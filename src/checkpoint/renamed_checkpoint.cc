#include "checkpoint/renamed_checkpoint.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "checkpoint/architecture.h"
#include "checkpoint/canonical_config.h"
#include "checkpoint/wrapped_checkpoint.h"

namespace sluice::checkpoint {
namespace {

using nlohmann::ordered_json;

class RenamedCheckpoint final : public WrappedCheckpoint {
 public:
  // names: of inner's tensors, in its order; config null: inner's.
  RenamedCheckpoint(std::shared_ptr<const Checkpoint> inner, std::span<const std::string> names,
                    std::shared_ptr<const ModelConfig> config)
      : WrappedCheckpoint(std::move(inner)) {
    const Catalogue& tensors = inner_->tensors();
    for (size_t i = 0; i < tensors.size(); ++i) {
      const TensorInfo tensor = tensors[i];
      tensors_.Add(names[i], tensor.encoding, tensor.shape, tensor.num_elements);
    }
    inner_place_ = tensors_.Sort();
    if (config != nullptr) config_ = std::move(config);
  }

  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override {
    return inner_->MakeNode(inner_place_[i], graph);
  }

 private:
  std::vector<uint32_t> inner_place_;  // of each tensor here
};

bool IsSameTensor(const TensorRule& a, const TensorRule& b) {
  return a.step == b.step && a.rows == b.rows && a.columns == b.columns && a.when == b.when;
}

// By what a tensor is for, from the data of both.
std::vector<RenameRule> RulesBetween(const Architecture& from, const Architecture& to) {
  std::vector<RenameRule> rules;
  for (const TensorRule& tensor : from.tensors) {
    const auto same = std::ranges::find_if(to.tensors, [&](const TensorRule& b) { return IsSameTensor(tensor, b); });
    SLUICE_CHECK(same != to.tensors.end());  // a test holds architectures to it
    if (same->name != tensor.name) rules.push_back({std::string(tensor.name), std::string(same->name), "--to"});
  }
  return rules;
}

// The same model under the other name: what the config does not say, and the defaults of the two say differently, is
// written out.
std::shared_ptr<const ModelConfig> ConfigOf(const Architecture& from, const Architecture& to,
                                            const ModelConfig& given) {
  ordered_json json = given.json();
  json["architectures"] = {to.name};
  json["model_type"] = to.model_type;
  json.erase("auto_map");
  for (const ConfigDefault& one : from.defaults) {
    if (one.key == "model_type" || given.json().contains(one.key)) continue;
    ordered_json value = DefaultOf(from, one.key, given.json());
    if (!value.is_null() && value != DefaultOf(to, one.key, given.json())) {
      json[std::string(one.key)] = std::move(value);
    }
  }
  if (const ordered_json rope = RopeParameters(given.json());
      from.rope_theta != to.rope_theta && !(rope.is_object() && rope.contains("rope_theta"))) {
    auto parameters = json.find("rope_parameters");
    ordered_json& place = parameters != json.end() && parameters->is_object() ? *parameters : json;
    place["rope_theta"] = from.rope_theta;
  }
  return ModelConfig::FromJson(std::move(json));
}

// Architectures that rename to `model_type`, by name; where that is empty, the model_types that there are to rename to.
std::string WhatRenamesTo(std::string_view model_type) {
  std::set<std::string_view> names;
  for (const std::string_view name : ArchitectureNames()) {
    const std::string_view to = ArchitectureByName(name)->renames_to;
    if (!to.empty() && (model_type.empty() || to == model_type)) names.insert(model_type.empty() ? to : name);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

Result<std::shared_ptr<const Checkpoint>> Rename(std::shared_ptr<const Checkpoint> inner,
                                                 std::span<const RenameRule> rules) {
  SLUICE_ASSIGN(const std::vector<std::string> names, RenamedTensors(inner->tensors(), rules));
  return std::make_shared<RenamedCheckpoint>(std::move(inner), names, nullptr);
}

Result<std::shared_ptr<const Checkpoint>> RenameTo(std::shared_ptr<const Checkpoint> inner,
                                                   const std::string& model_type) {
  const std::string sources = WhatRenamesTo(model_type);
  const Architecture* to = sources.empty() ? nullptr : ArchitectureByModelType(model_type);
  if (to == nullptr) {
    return Fail(ErrorCode::kUsage, fmt::format("--to {}: nothing can be renamed to that; there is --to {}", model_type,
                                               WhatRenamesTo("")));
  }
  if (inner->config() == nullptr) {
    return Fail(ErrorCode::kUsage, fmt::format("--to {}: {} has no config.json, which says what the tensors are",
                                               model_type, inner->ref()));
  }
  const Architecture* from = ArchitectureOf(*inner->config());
  if (from == to) return inner;
  if (from == nullptr || from->renames_to != model_type) {
    const std::string name = inner->config()->architecture();
    return Fail(ErrorCode::kUnsupported,
                fmt::format("--to {}: {} is {}, and only {} is a {} under other names; to change names alone, give "
                            "--rename",
                            model_type, inner->ref(), name.empty() ? "of no named architecture" : "a " + name, sources,
                            to->name));
  }
  const std::vector<RenameRule> rules = RulesBetween(*from, *to);
  SLUICE_ASSIGN(const std::vector<std::string> names, RenamedTensors(inner->tensors(), rules));
  return std::make_shared<RenamedCheckpoint>(inner, names, ConfigOf(*from, *to, *inner->config()));
}

}  // namespace sluice::checkpoint
