#include "graph/fact_record.h"

#include <algorithm>
#include <bit>

#include "kernels/sha256.h"

namespace sluice::graph {

bool FactRecord::operator==(const FactRecord& other) const {
  const auto bits = [](double number) { return std::bit_cast<uint64_t>(number); };
  return hash == other.hash && std::ranges::equal(numbers, other.numbers, {}, bits, bits);
}

FactRecord RecordOf(const FactValue& value) {
  if (value.size() <= FactRecord::kMostNumbers) return {value, ""};
  kernels::Sha256 hash;
  for (const double number : value) hash.UpdateU64(std::bit_cast<uint64_t>(number));
  return {{}, kernels::ToHex(hash.Finish())};
}

}  // namespace sluice::graph
