#include "verify/lineage_plan.h"

#include <algorithm>
#include <charconv>
#include <memory>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "graph/row_range.h"

namespace sluice::verify {
namespace {

using checkpoint::Checkpoint;
using checkpoint::ShapeText;
using checkpoint::TensorInfo;

bool HasNumbers(const TensorInfo& tensor) { return tensor.encoding->decode != nullptr; }

bool SameShape(const TensorInfo& a, const TensorInfo& b) { return std::ranges::equal(a.shape, b.shape); }

// Matrices that differ in nothing but their rows, and whose rows can be taken one by one.
bool SameColumns(const TensorInfo& a, const TensorInfo& b) {
  if (a.shape.size() < 2 || a.shape.size() != b.shape.size()) return false;
  if (!std::equal(a.shape.begin() + 1, a.shape.end(), b.shape.begin() + 1)) return false;
  return a.shape[0] > 0 && b.shape[0] > 0;
}

uint64_t Columns(const TensorInfo& tensor) { return tensor.num_elements / tensor.shape[0]; }

bool HasWholeRows(const TensorInfo& tensor) { return Columns(tensor) % tensor.encoding->block_elements == 0; }

class Planner {
 public:
  explicit Planner(LineagePlan* plan) : plan_(plan) {}

  void Add(uint32_t index) {
    const TensorInfo model = plan_->models[0]->tensors()[index];
    if (model.num_elements == 0) return;
    const std::optional<size_t> base_index = plan_->models[1]->tensors().Find(model.name);
    if (!base_index) return LeaveOut(model, "the base has no such tensor");
    const TensorInfo base = plan_->models[1]->tensors()[*base_index];
    if (!HasNumbers(model) || !HasNumbers(base)) {
      return LeaveOut(model,
                      fmt::format("{} is no encoding of numbers", (HasNumbers(model) ? base : model).encoding.name()));
    }
    LineageTensor tensor;
    tensor.model = index;
    tensor.base = static_cast<uint32_t>(*base_index);
    tensor.layer = LayerOfName(model.name);
    tensor.num_elements = model.num_elements;
    uint64_t rows = model.shape.empty() ? 1 : model.shape[0];
    bool is_cut = false;
    if (!SameShape(model, base)) {
      if (!SameColumns(model, base)) {
        return LeaveOut(model,
                        fmt::format("{} in the model, {} in the base", ShapeText(model.shape), ShapeText(base.shape)));
      }
      rows = std::min(rows, base.shape[0]);
      is_cut = true;
    }
    std::vector<std::optional<TensorInfo>> candidates;
    for (size_t k = 0; k < plan_->num_candidates(); ++k) {
      const checkpoint::Catalogue& tensors = plan_->models[k + 2]->tensors();
      const std::optional<size_t> found = tensors.Find(model.name);
      tensor.candidates.push_back(-1);
      candidates.emplace_back();
      if (!found) {
        Skip(model, k, "has no such tensor");
        continue;
      }
      const TensorInfo candidate = tensors[*found];
      const bool fits = HasNumbers(candidate) && (SameShape(candidate, model) || SameColumns(candidate, model));
      if (!fits || (!SameShape(candidate, model) && candidate.shape[0] < rows - rows / 10)) {
        Skip(model, k, fmt::format("is {} {} there", candidate.encoding.name(), ShapeText(candidate.shape)));
        continue;
      }
      tensor.candidates.back() = static_cast<int64_t>(*found);
      candidates.back() = candidate;
      if (!SameShape(candidate, model)) is_cut = true;
    }
    if (is_cut) {
      for (const auto& candidate : candidates) {
        if (candidate) rows = std::min(rows, candidate->shape[0]);
      }
      candidates.emplace_back(model);
      candidates.emplace_back(base);
      for (const auto& side : candidates) {
        if (side && !HasWholeRows(*side)) {
          return LeaveOut(model, fmt::format("the numbers of rows differ, and a row is no whole number of {} blocks",
                                             side->encoding.name()));
        }
      }
      tensor.columns = Columns(model);
      tensor.num_elements = rows * tensor.columns;
      plan_->gaps.push_back({std::string(model.name), -1,
                             fmt::format("only the first {} rows, which all have, were looked at", FormatCount(rows))});
    }
    plan_->tensors.push_back(std::move(tensor));
  }

 private:
  void LeaveOut(const TensorInfo& tensor, std::string reason) {
    plan_->gaps.push_back({std::string(tensor.name), -1, "left out: " + std::move(reason)});
  }
  void Skip(const TensorInfo& tensor, size_t candidate, std::string reason) {
    plan_->gaps.push_back({std::string(tensor.name), static_cast<int64_t>(candidate), std::move(reason)});
  }

  LineagePlan* plan_;
};

const graph::Node* Cut(const LineageTensor& tensor, const graph::Node* node, graph::Graph* graph) {
  if (tensor.num_elements == node->num_elements()) return node;
  const uint64_t rows = tensor.num_elements / tensor.columns;
  return graph->Add(std::make_unique<graph::RowGatherNode>(fmt::format("first {} rows", rows), node, tensor.columns,
                                                           std::make_shared<graph::RowRange>(0, rows)));
}

}  // namespace

std::optional<uint64_t> LayerOfName(std::string_view tensor) {
  for (size_t begin = 0; begin <= tensor.size();) {
    const size_t end = std::min(tensor.find('.', begin), tensor.size());
    uint64_t number = 0;
    const char *first = tensor.data() + begin, *last = tensor.data() + end;
    if (const auto [stop, error] = std::from_chars(first, last, number);
        first != last && stop == last && error == std::errc()) {
      return number;
    }
    begin = end + 1;
  }
  return std::nullopt;
}

LineagePlan PlanLineage(const Checkpoint& model, const Checkpoint& base,
                        const std::vector<const Checkpoint*>& candidates) {
  LineagePlan plan;
  plan.models = {&model, &base};
  plan.models.insert(plan.models.end(), candidates.begin(), candidates.end());
  Planner planner(&plan);
  for (uint32_t i = 0; i < model.tensors().size(); ++i) planner.Add(i);
  return plan;
}

std::string LineageGroups::name(size_t group) const {
  return std::string(plan_.models[0]->tensors()[plan_.tensors[group].model].name);
}

void LineageGroups::Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const {
  const LineageTensor& tensor = plan_.tensors[group];
  outs->push_back(Cut(tensor, plan_.models[0]->MakeNode(tensor.model, graph), graph));
  outs->push_back(Cut(tensor, plan_.models[1]->MakeNode(tensor.base, graph), graph));
  for (size_t k = 0; k < tensor.candidates.size(); ++k) {
    if (tensor.candidates[k] < 0) continue;
    const auto index = static_cast<size_t>(tensor.candidates[k]);
    outs->push_back(Cut(tensor, plan_.models[k + 2]->MakeNode(index, graph), graph));
  }
}

}  // namespace sluice::verify
