#include "checkpoint/reordered_rows.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "checkpoint/architecture.h"
#include "checkpoint/wrapped_checkpoint.h"

namespace sluice::checkpoint {
namespace {

class RowOrder final : public graph::RowMap {
 public:
  explicit RowOrder(std::vector<uint32_t> order) : order_(std::move(order)) {}
  uint64_t SourceRow(uint64_t row) const override { return order_[row]; }
  uint64_t num_rows() const override { return order_.size(); }

 private:
  std::vector<uint32_t> order_;
};

class ReorderedCheckpoint final : public WrappedCheckpoint {
 public:
  // tensors: of inner's catalogue, those whose rows move.
  ReorderedCheckpoint(std::shared_ptr<const Checkpoint> inner, std::vector<size_t> tensors, std::vector<uint32_t> order)
      : WrappedCheckpoint(std::move(inner)), moved_(std::move(tensors)) {
    tensors_ = inner_->tensors();
    const std::string_view bytes(reinterpret_cast<const char*>(order.data()), order.size() * sizeof(order[0]));
    const graph::Key key = graph::HashKey(bytes);
    description_ = fmt::format("order {:x} {:x}", key.hi, key.lo);
    order_ = std::make_shared<RowOrder>(std::move(order));
  }

  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override {
    const graph::Node* node = inner_->MakeNode(i, graph);
    if (std::ranges::find(moved_, i) == moved_.end()) return node;
    const uint64_t columns = tensors_[i].num_elements / order_->num_rows();
    return graph->Add(std::make_unique<graph::RowGatherNode>(description_, node, columns, order_));
  }

 private:
  std::vector<size_t> moved_;
  std::string description_;
  std::shared_ptr<const RowOrder> order_;
};

Result<void> CheckOrder(const std::vector<uint32_t>& order, uint64_t vocab) {
  if (order.size() != vocab) {
    return Fail(ErrorCode::kUsage, fmt::format("an order of {} ids for a vocabulary of {}", order.size(), vocab));
  }
  std::vector<bool> seen(vocab);
  for (const uint32_t id : order) {
    if (id >= vocab || seen[id]) {
      return Fail(ErrorCode::kUsage,
                  fmt::format("id {} is {} in an order of {} ids", id, id >= vocab ? "not to be" : "twice", vocab));
    }
    seen[id] = true;
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<const Checkpoint>> ReorderRows(std::shared_ptr<const Checkpoint> inner,
                                                      std::vector<uint32_t> order) {
  const Architecture* architecture = inner->config() == nullptr ? nullptr : ArchitectureOf(*inner->config());
  const auto sizes = architecture == nullptr ? std::nullopt : SizesOf(*inner->config());
  if (!sizes || !architecture->runs()) {
    return Fail(ErrorCode::kUnsupported,
                fmt::format("{}: its tokens cannot be put in another order: which tensors have a row for each is not "
                            "known{}",
                            inner->ref(), inner->config() == nullptr ? " without a config.json" : ""));
  }
  auto checked = CheckOrder(order, sizes->vocab);
  if (!checked) return Fail(std::move(checked.error()).In(inner->ref()));
  if (std::ranges::is_sorted(order)) return inner;
  std::vector<size_t> tensors;
  for (const TensorRule& rule : architecture->tensors) {
    if (rule.step != Step::kEmbedding && rule.step != Step::kHead) continue;
    const auto index = inner->tensors().Find(rule.name);  // a tied head may be stored, or not
    if (!index) continue;
    const TensorInfo tensor = inner->tensors()[*index];
    if (tensor.shape.empty() || tensor.shape[0] != sizes->vocab || tensor.num_elements == 0 ||
        tensor.num_elements / sizes->vocab % tensor.encoding->block_elements != 0) {
      return Fail(ErrorCode::kCorrupt, fmt::format("{}: {}: has shape {}, and the config's vocab_size is {}",
                                                   inner->ref(), rule.name, ShapeText(tensor.shape), sizes->vocab));
    }
    tensors.push_back(*index);
  }
  return std::make_shared<ReorderedCheckpoint>(std::move(inner), std::move(tensors), std::move(order));
}

}  // namespace sluice::checkpoint
