// FactRecord: what is remembered of a fact's value when nothing is computed from it any more: records of merges, audits
// and journals are made of these. A value of many numbers (which elements of a tensor are kept) is remembered by its
// hash; who needs it again folds it again.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "graph/node.h"

namespace sluice::graph {

struct FactRecord {
  static constexpr size_t kMostNumbers = 64;

  FactValue numbers;  // the value, if it has at most kMostNumbers
  std::string hash;   // else SHA-256 of its numbers' bits, little-endian, as 64 hexadecimal digits

  bool has_value() const { return hash.empty(); }
  // By bits: a NaN is itself, 0 is not -0.
  bool operator==(const FactRecord& other) const;
};
using FactRecords = std::vector<std::pair<Key, FactRecord>>;

FactRecord RecordOf(const FactValue& value);

}  // namespace sluice::graph
