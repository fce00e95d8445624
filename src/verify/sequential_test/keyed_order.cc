#include "verify/sequential_test/keyed_order.h"

#include <numeric>
#include <utility>

namespace sluice::verify::sequential_test {

std::vector<uint64_t> KeyedOrder(const Nonce& key, uint64_t count) {
  std::vector<uint64_t> order(count);
  std::iota(order.begin(), order.end(), uint64_t{0});
  KeyedStream stream(key, "sluice behaviour order 1", "");
  for (uint64_t t = 0; t + 1 < count; ++t) std::swap(order[t], order[t + stream.Below(count - t)]);
  return order;
}

}  // namespace sluice::verify::sequential_test
