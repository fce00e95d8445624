// OrderFact: which elements of a delta stand at ranks [first, last) of the order that torch's CPU sort makes of the
// magnitudes. Equal magnitudes stand in the order in which libstdc++'s std::sort of (key, place) records leaves them
// when it compares keys alone, which is torch's: it takes the whole tensor in memory, 8 bytes an element.
#pragma once

#include <cstdint>
#include <span>

#include "arithmetic/working_type.h"
#include "graph/graph.h"

namespace sluice::arithmetic {

// A number's magnitude and place, as they are sorted.
struct OrderRecord {
  uint32_t magnitude, place;
};
// Bits of |value|, which order as the numbers do; every NaN is the same and the largest, as torch compares them.
uint32_t MagnitudeBits(float value);

struct OrderRange {
  bool descending = false;
  uint64_t first = 0, last = 0;
};

// Value: KeptElements'.
class OrderFact final : public graph::Fact {
 public:
  // with_sums: both L1 sums of `rescale: true` too, in `type`. At most 2^32 elements.
  OrderFact(WorkingType type, const graph::Node* delta, const OrderRange& range, bool with_sums);
  uint64_t StateBytes(int num_workers) const override;
  double NanosecondsPerElement() const override { return 120; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override;

 private:
  WorkingType type_;
  OrderRange range_;
  bool with_sums_;
};

// The value read: an element is kept if its magnitude lies between the least and the greatest that are kept; of those
// that equal one of the two, `exceptions` differ from the others.
class KeptElements {
 public:
  explicit KeptElements(const graph::FactValue& value) : value_(value) {}
  // kept[i] is 1 or 0 for element begin + i, of which deltas[i] is the delta. At most kPieceElements.
  void Mask(uint64_t begin, uint64_t count, const float* deltas, float* kept) const;
  double sum_before() const { return value_[kBefore]; }
  double sum_after() const { return value_[kAfter]; }

  // Layout. kLow, kHigh: bits of magnitudes (every NaN 0x7FC00000). kTiesKept: those that are no exceptions. kForm: 0
  // no exceptions; 1 a list of places within their piece of kPieceElements, 13 bits each, four in a number, from
  // kListsAt on, behind the counts of exceptions before each piece and in all; 2 a bit for each element, 52 in a
  // number.
  enum : size_t { kLow, kHigh, kBefore, kAfter, kTiesKept, kForm, kListsAt, kHeader };

 private:
  const graph::FactValue& value_;
};

// Writes what KeptElements reads, but for the sums: kept are the records [first, last). low, high: the least magnitude
// among them, and the greatest or one above all; kept are all that lie between the two.
void WriteKept(std::span<const OrderRecord> records, uint64_t first, uint64_t last, uint32_t low, uint32_t high,
               graph::FactValue* value);
// Bytes that WriteKept takes, and its value.
uint64_t WriteKeptBytes(uint64_t num_elements);
// Above every magnitude.
constexpr uint32_t kAboveAllMagnitudes = 0x80000000;

// delta where it is kept, else 0; with_sums: rescaled.
const graph::Node* AddKeptInOrder(graph::Graph* graph, WorkingType type, const OrderRange& range, bool rescale,
                                  const graph::Node* delta);

}  // namespace sluice::arithmetic
