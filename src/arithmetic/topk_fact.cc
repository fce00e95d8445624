#include "arithmetic/topk_fact.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::arithmetic {
namespace {

class TopkFold final : public graph::Fold {
 public:
  TopkFold(double share, uint64_t num_elements)
      : share_(share),
        num_elements_(num_elements),
        records_(std::make_unique_for_overwrite<OrderRecord[]>(num_elements)) {}

  void Add(int /*worker*/, graph::Range piece, std::span<const graph::View> in) override {
    for (uint64_t i = 0; i < piece.size(); ++i) {
      float value;
      std::memcpy(&value, in[0].data + i * sizeof(float), sizeof value);
      records_[piece.begin + i] = {MagnitudeBits(value), static_cast<uint32_t>(piece.begin + i)};
    }
  }

  bool Finish(graph::FactValue* value) override {
    OrderRecord *const begin = records_.get(), *const end = begin + num_elements_;
    const std::span<const OrderRecord> all(begin, end);
    const auto num_nonzero = std::count_if(begin, end, [](const OrderRecord& record) { return record.magnitude != 0; });
    const float product = static_cast<float>(num_nonzero) * static_cast<float>(share_);
    const uint64_t k = std::min(static_cast<uint64_t>(std::trunc(product)), num_elements_);
    if (k == 0) {
      WriteKept(all, 0, 0, kAboveAllMagnitudes, kAboveAllMagnitudes, value);
      return true;
    }
    const auto comes_first = [](const OrderRecord& a, const OrderRecord& b) { return a.magnitude > b.magnitude; };
    if (k * 64 <= num_elements_) {
      std::partial_sort(begin, begin + k, end, comes_first);
    } else {
      std::nth_element(begin, begin + k - 1, end, comes_first);
    }
    WriteKept(all, 0, k, records_[k - 1].magnitude, kAboveAllMagnitudes, value);
    return true;
  }

 private:
  const double share_;
  const uint64_t num_elements_;
  const std::unique_ptr<OrderRecord[]> records_;
};

class TopkMaskNode final : public graph::Node {
 public:
  TopkMaskNode(const graph::Node* values, double share)
      : Node(fmt::format("mergekit topk mask {:016x}", std::bit_cast<uint64_t>(share)), quant::F32(),
             values->num_elements(), {values}) {
    AddFact(std::make_unique<TopkFact>(values, share));
  }
  uint64_t ScratchBytes() const override { return 2 * graph::kPieceElements * sizeof(float); }
  void Compute(const graph::ComputeArgs& args) const override {
    auto* const values = reinterpret_cast<float*>(args.scratch);
    float* const kept = values + graph::kPieceElements;
    std::memcpy(values, args.in[0].data, args.range.size() * sizeof(float));
    KeptElements(*args.facts[0]).Mask(args.range.begin, args.range.size(), values, kept);
    std::memcpy(args.out, kept, args.range.size() * sizeof(float));
  }
  double NanosecondsPerElement() const override { return 2; }
};

}  // namespace

TopkFact::TopkFact(const graph::Node* values, double share)
    : Fact(fmt::format("mergekit topk {:016x}", std::bit_cast<uint64_t>(share)), {values}), share_(share) {
  SLUICE_CHECK(values->num_elements() <= uint64_t{1} << 32);
}

uint64_t TopkFact::StateBytes(int /*num_workers*/) const {
  return sizeof(TopkFold) + num_elements() * sizeof(OrderRecord) + WriteKeptBytes(num_elements());
}

std::unique_ptr<graph::Fold> TopkFact::Begin(int /*num_workers*/) const {
  return std::make_unique<TopkFold>(share_, num_elements());
}

const graph::Node* AddTopkMask(graph::Graph* graph, const graph::Node* values, double share) {
  return graph->Add(std::make_unique<TopkMaskNode>(values, share));
}

}  // namespace sluice::arithmetic
