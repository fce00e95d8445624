#include "arithmetic/torch_permutation.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace sluice::arithmetic {
namespace {

constexpr uint64_t kInsideOutFrom = std::numeric_limits<uint32_t>::max() / 20;
constexpr uint64_t kWordsAtOnce = 8192;

// Numbers that a shuffle has moved beyond those that are wanted, by place. An open hash table, at most half full.
class Displaced {
 public:
  explicit Displaced(uint64_t most) : entries_(std::bit_ceil(2 * most + 1), Entry{kNone, 0}) {}
  // Exchanges the number at `place` (itself, unless it was displaced) for `number`.
  uint32_t Exchange(uint32_t place, uint32_t number) {
    uint64_t at = place * uint64_t{0x9E3779B97F4A7C15} >> 32 & (entries_.size() - 1);
    while (entries_[at].place != kNone && entries_[at].place != place) at = (at + 1) & (entries_.size() - 1);
    const uint32_t before = entries_[at].place == place ? entries_[at].number : place;
    entries_[at] = {place, number};
    return before;
  }

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  struct Entry {
    uint32_t place, number;
  };
  std::vector<Entry> entries_;
};

std::vector<uint64_t> Shuffled(TorchGenerator generator, uint64_t n, uint64_t count) {
  std::vector<uint64_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  Displaced beyond(count);
  std::vector<uint32_t> words(kWordsAtOnce);
  const uint64_t draws = std::min(count, n - 1);  // what is left then stands where it belongs
  for (uint64_t i = 0; i < draws; ++i) {
    if (i % kWordsAtOnce == 0) generator.Fill(words.data(), std::min(kWordsAtOnce, draws - i));
    const uint64_t from = i + words[i % kWordsAtOnce] % (n - i);
    if (from < count) {
      std::swap(numbers[i], numbers[from]);
    } else {
      numbers[i] = beyond.Exchange(static_cast<uint32_t>(from), static_cast<uint32_t>(numbers[i]));
    }
  }
  return numbers;
}

std::vector<uint64_t> ShuffledInsideOut(TorchGenerator generator, uint64_t n, uint64_t count) {
  std::vector<uint64_t> numbers(count);
  std::vector<uint32_t> words(2 * kWordsAtOnce);
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t at = i % kWordsAtOnce;
    if (at == 0) generator.Fill(words.data(), 2 * std::min(kWordsAtOnce, n - i));
    const uint64_t draw = uint64_t{words[2 * at]} << 32 | words[2 * at + 1], to = draw % (i + 1);
    if (to >= count) continue;
    if (i < count) numbers[i] = numbers[to];
    numbers[to] = i;
  }
  return numbers;
}

}  // namespace

uint64_t TorchPermutationDraws(uint64_t n) {
  if (n == 0) return 0;
  return n < kInsideOutFrom ? n - 1 : 2 * n;
}

std::vector<uint64_t> TorchPermutation(TorchGenerator generator, uint64_t n, uint64_t count) {
  SLUICE_CHECK(count <= n);
  if (count == 0) return {};
  return n < kInsideOutFrom ? Shuffled(std::move(generator), n, count)
                            : ShuffledInsideOut(std::move(generator), n, count);
}

}  // namespace sluice::arithmetic
