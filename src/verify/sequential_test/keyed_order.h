// The order in which a finite set of challenges is asked: a permutation that follows from a key and the set's size
// alone. The key is drawn after both models and the set were fixed, and committed to before any of them runs; then
// every order was equally likely for whoever made them, and that is all that the test without replacement assumes.
#pragma once

#include <cstdint>
#include <vector>

#include "verify/block_sample.h"

namespace sluice::verify::sequential_test {

// order[t] is the place, 0 to count - 1, of the challenge asked at time t. Fisher and Yates' shuffle, from the front:
// for t = 0, 1, ... swap t with t + Below(count - t), by the words of KeyedStream(key, "sluice behaviour order 1", "").
std::vector<uint64_t> KeyedOrder(const Nonce& key, uint64_t count);

}  // namespace sluice::verify::sequential_test
