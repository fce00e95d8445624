#include "arithmetic/order_fact.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/float_tiles.h"
#include "arithmetic/mergekit_rescale.h"
#include "base/check.h"
#include "base/units.h"

namespace sluice::arithmetic {
namespace {

constexpr uint64_t kBitsPerNumber = 52, kPlacesPerNumber = 4, kPlaceBits = 13;
static_assert(uint64_t{1} << kPlaceBits == graph::kPieceElements);
constexpr uint32_t kNan = 0x7FC00000;

std::string Description(WorkingType type, const OrderRange& range, bool with_sums) {
  return fmt::format("mergekit order {} {} {} {} {}", static_cast<int>(type), range.descending, range.first, range.last,
                     with_sums);
}

void AppendList(const std::vector<bool>& is_exception, uint64_t exceptions, graph::FactValue* value) {
  (*value)[KeptElements::kForm] = 1;
  std::vector<uint64_t> numbers(CeilDiv(exceptions, kPlacesPerNumber));
  uint64_t count = 0;
  for (uint64_t i = 0; i < is_exception.size(); ++i) {
    if (i % graph::kPieceElements == 0) value->push_back(static_cast<double>(count));
    if (!is_exception[i]) continue;
    numbers[count / kPlacesPerNumber] |= i % graph::kPieceElements << kPlaceBits * (count % kPlacesPerNumber);
    ++count;
  }
  value->push_back(static_cast<double>(count));
  (*value)[KeptElements::kListsAt] = static_cast<double>(value->size());
  for (const uint64_t number : numbers) value->push_back(static_cast<double>(number));
}

void AppendBits(const std::vector<bool>& is_exception, graph::FactValue* value) {
  (*value)[KeptElements::kForm] = 2;
  for (uint64_t begin = 0; begin < is_exception.size(); begin += kBitsPerNumber) {
    uint64_t number = 0;
    for (uint64_t i = begin; i < std::min<uint64_t>(begin + kBitsPerNumber, is_exception.size()); ++i) {
      number |= uint64_t{is_exception[i]} << (i - begin);
    }
    value->push_back(static_cast<double>(number));
  }
}

class OrderFold final : public graph::Fold {
 public:
  OrderFold(WorkingType type, const OrderRange& range, bool with_sums, uint64_t num_elements)
      : type_(type),
        range_(range),
        with_sums_(with_sums),
        num_elements_(num_elements),
        records_(std::make_unique_for_overwrite<OrderRecord[]>(num_elements)) {}

  void Add(int /*worker*/, graph::Range piece, std::span<const graph::View> in) override {
    for (uint64_t i = 0; i < piece.size(); ++i) {
      float delta;
      std::memcpy(&delta, in[0].data + i * sizeof(float), sizeof delta);
      records_[piece.begin + i] = {MagnitudeBits(delta), static_cast<uint32_t>(piece.begin + i)};
    }
  }

  bool Finish(graph::FactValue* value) override {
    OrderRecord *const begin = records_.get(), *const end = begin + num_elements_;
    if (range_.descending) {
      std::sort(begin, end, [](const OrderRecord& a, const OrderRecord& b) { return a.magnitude > b.magnitude; });
    } else {
      std::sort(begin, end, [](const OrderRecord& a, const OrderRecord& b) { return a.magnitude < b.magnitude; });
    }
    FindTies(value);
    if (with_sums_) AddSums(value);
    return true;
  }

 private:
  std::span<const OrderRecord> All() const { return {records_.get(), num_elements_}; }
  bool IsKept(uint64_t rank) const { return rank >= range_.first && rank < range_.last; }

  void FindTies(graph::FactValue* value) const {
    if (range_.first >= range_.last) {
      WriteKept(All(), 0, 0, kAboveAllMagnitudes, kAboveAllMagnitudes, value);
      return;
    }
    uint32_t low = records_[range_.first].magnitude, high = records_[range_.last - 1].magnitude;
    if (range_.descending) std::swap(low, high);
    WriteKept(All(), range_.first, range_.last, low, high, value);
  }

  // Every magnitude back to its place; then those that are dropped times 0.
  void AddSums(graph::FactValue* value) const {
    std::vector<float> magnitudes(num_elements_);
    for (const OrderRecord& record : All()) magnitudes[record.place] = std::bit_cast<float>(record.magnitude);
    const uint64_t lanes = LanesOf(type_);
    (*value)[KeptElements::kBefore] = RoundTo(type_, TorchSumOf(magnitudes, lanes));
    for (uint64_t rank = 0; rank < num_elements_; ++rank) {
      if (!IsKept(rank)) magnitudes[records_[rank].place] *= 0;
    }
    (*value)[KeptElements::kAfter] = RoundTo(type_, TorchSumOf(magnitudes, lanes));
  }

  const WorkingType type_;
  const OrderRange range_;
  const bool with_sums_;
  const uint64_t num_elements_;
  const std::unique_ptr<OrderRecord[]> records_;
};

class KeptNode final : public graph::Node {
 public:
  KeptNode(WorkingType type, const OrderRange& range, bool rescale, const graph::Node* delta)
      : Node("kept in " + Description(type, range, rescale), quant::F32(), delta->num_elements(), {delta}),
        type_(type),
        rescale_(rescale) {
    AddFact(std::make_unique<OrderFact>(type, delta, range, rescale));
  }

  uint64_t ScratchBytes() const override { return 2 * graph::kPieceElements * sizeof(float); }

  void Compute(const graph::ComputeArgs& args) const override {
    const uint64_t count = args.range.size();
    const KeptElements elements(*args.facts[0]);
    const float scale = rescale_ ? MergekitScale(type_, elements.sum_before(), elements.sum_after()) : 1;
    auto* const deltas = reinterpret_cast<float*>(args.scratch);
    float* const kept = deltas + graph::kPieceElements;
    std::memcpy(deltas, args.in[0].data, count * sizeof(float));
    elements.Mask(args.range.begin, count, deltas, kept);
    for (uint64_t i = 0; i < count; ++i) kept[i] = RoundTo(type_, deltas[i] * kept[i] * scale);
    std::memcpy(args.out, kept, count * sizeof(float));
  }
  double NanosecondsPerElement() const override { return 3; }

 private:
  WorkingType type_;
  bool rescale_;
};

}  // namespace

uint32_t MagnitudeBits(float value) { return std::min(std::bit_cast<uint32_t>(value) & 0x7FFFFFFF, kNan); }

void WriteKept(std::span<const OrderRecord> records, uint64_t first, uint64_t last, uint32_t low, uint32_t high,
               graph::FactValue* value) {
  const uint64_t num_elements = records.size();
  value->assign(KeptElements::kHeader, 0);
  (*value)[KeptElements::kLow] = low;
  (*value)[KeptElements::kHigh] = high;
  if (first >= last) return;
  const auto is_tie = [&](const OrderRecord& record) { return record.magnitude == low || record.magnitude == high; };
  const auto is_kept = [&](uint64_t rank) { return rank >= first && rank < last; };
  uint64_t kept = 0, dropped = 0;
  for (uint64_t rank = 0; rank < num_elements; ++rank) {
    if (is_tie(records[rank])) ++(is_kept(rank) ? kept : dropped);
  }
  const bool ties_kept = kept >= dropped;
  (*value)[KeptElements::kTiesKept] = ties_kept;
  const uint64_t exceptions = ties_kept ? dropped : kept;
  if (exceptions == 0) return;
  std::vector<bool> is_exception(num_elements);
  for (uint64_t rank = 0; rank < num_elements; ++rank) {
    if (is_tie(records[rank]) && is_kept(rank) != ties_kept) is_exception[records[rank].place] = true;
  }
  const uint64_t as_list = CeilDiv(num_elements, graph::kPieceElements) + exceptions / kPlacesPerNumber + 2;
  if (as_list < num_elements / kBitsPerNumber) {
    AppendList(is_exception, exceptions, value);
  } else {
    AppendBits(is_exception, value);
  }
}

uint64_t WriteKeptBytes(uint64_t num_elements) {
  return num_elements / 8 + (num_elements / kBitsPerNumber + 16) * sizeof(double) * 2;
}

OrderFact::OrderFact(WorkingType type, const graph::Node* delta, const OrderRange& range, bool with_sums)
    : Fact(Description(type, range, with_sums), {delta}), type_(type), range_(range), with_sums_(with_sums) {
  SLUICE_CHECK(delta->num_elements() <= uint64_t{1} << 32 && range.last <= delta->num_elements());
}

uint64_t OrderFact::StateBytes(int /*num_workers*/) const {
  const uint64_t n = num_elements();
  // The records; while it finishes a bit for each exception, or the magnitudes and the pieces of a sum; the value.
  const uint64_t finishing =
      std::max(n / 8, with_sums_ ? n * sizeof(float) + TorchSum::StateBytes(n, LanesOf(type_), 1) : 0);
  return sizeof(OrderFold) + n * sizeof(OrderRecord) + finishing + (n / kBitsPerNumber + 16) * sizeof(double) * 2;
}

std::unique_ptr<graph::Fold> OrderFact::Begin(int /*num_workers*/) const {
  return std::make_unique<OrderFold>(type_, range_, with_sums_, num_elements());
}

void KeptElements::Mask(uint64_t begin, uint64_t count, const float* deltas, float* kept) const {
  const auto low = static_cast<uint32_t>(value_[kLow]), high = static_cast<uint32_t>(value_[kHigh]);
  const float of_ties = value_[kTiesKept] != 0 ? 1.0f : 0.0f;
  for (uint64_t i = 0; i < count; ++i) {
    const uint32_t magnitude = MagnitudeBits(deltas[i]);
    kept[i] = magnitude == low || magnitude == high ? of_ties : magnitude > low && magnitude < high ? 1.0f : 0.0f;
  }
  if (value_[kForm] == 2) {
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t at = begin + i;
      const auto number = static_cast<uint64_t>(value_[kHeader + at / kBitsPerNumber]);
      if (number >> at % kBitsPerNumber & 1) kept[i] = 1 - of_ties;
    }
  } else if (value_[kForm] == 1) {
    const auto lists_at = static_cast<size_t>(value_[kListsAt]);
    for (uint64_t piece = begin / graph::kPieceElements; piece * graph::kPieceElements < begin + count; ++piece) {
      const auto last = static_cast<uint64_t>(value_[kHeader + piece + 1]);
      for (auto n = static_cast<uint64_t>(value_[kHeader + piece]); n < last; ++n) {
        const auto number = static_cast<uint64_t>(value_[lists_at + n / kPlacesPerNumber]);
        const uint64_t in_piece = number >> kPlaceBits * (n % kPlacesPerNumber) & (graph::kPieceElements - 1);
        const uint64_t at = piece * graph::kPieceElements + in_piece;
        if (at >= begin && at < begin + count) kept[at - begin] = 1 - of_ties;
      }
    }
  }
}

const graph::Node* AddKeptInOrder(graph::Graph* graph, WorkingType type, const OrderRange& range, bool rescale,
                                  const graph::Node* delta) {
  return graph->Add(std::make_unique<KeptNode>(type, range, rescale, delta));
}

}  // namespace sluice::arithmetic
