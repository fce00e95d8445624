#include "arithmetic/torch_sum.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "graph/node.h"

namespace sluice::arithmetic {
namespace {

constexpr uint32_t kLevels = 4;

// ceil(log2(n)).
uint32_t CeilLog2(uint64_t n) { return n <= 1 ? 0 : static_cast<uint32_t>(std::bit_width(n - 1)); }

uint32_t PowerOf(uint64_t num_rows) { return std::max<uint32_t>(4, CeilLog2(num_rows) / 4); }

// Rows of kWidth floats in blocks of 2^power, blocks of blocks, over four levels.
template <uint64_t kWidth>
class Cascade {
 public:
  explicit Cascade(uint32_t power) : power_(power), mask_((uint64_t{1} << power) - 1) {}

  void AddRow(const float* row) {
    AddTo(0, row);
    if ((++rows_ & mask_) == 0) Carry(0);
  }
  // A whole block of `level`, 2^((level + 1) power) rows, added up as that level does. It and those below are empty.
  void AddBlock(uint32_t level, const float* sum) {
    rows_ += uint64_t{1} << ((level + 1) * power_);
    AddTo(level, sum);
    Carry(level);
  }
  const float* Finish() {
    for (uint32_t level = 1; level < kLevels; ++level) AddTo(0, at_[level].data());
    return at_[0].data();
  }

 private:
  void AddTo(uint32_t level, const float* row) {
    for (uint64_t i = 0; i < kWidth; ++i) at_[level][i] += row[i];
  }
  // Block of level `from` is complete.
  void Carry(uint32_t from) {
    for (uint32_t level = from + 1; level < kLevels; ++level) {
      AddTo(level, at_[level - 1].data());
      at_[level - 1].fill(0);
      if ((rows_ >> (level * power_) & mask_) != 0) break;
    }
  }

  const uint32_t power_;
  const uint64_t mask_;
  uint64_t rows_ = 0;
  alignas(32) std::array<std::array<float, kWidth>, kLevels> at_{};
};

// The sum of numbers of which four at a time are a row.
float SumInFours(const float* values, uint64_t count) {
  const uint64_t rows = count / 4;
  Cascade<4> cascade(PowerOf(rows));
  for (uint64_t row = 0; row < rows; ++row) cascade.AddRow(values + 4 * row);
  const float* partials = cascade.Finish();
  float sum = partials[0];
  for (uint64_t i = 4 * rows; i < count; ++i) sum += values[i];
  for (int i = 1; i < 4; ++i) sum += partials[i];
  return sum;
}

// A vector of the type as 8 floats.
void Widen(const float* values, uint64_t lanes, float* out) {
  for (uint64_t i = 0; i < 8; ++i) out[i] = lanes == 16 ? values[i] + values[i + 8] : values[i];
}

}  // namespace

TorchSum::Shape::Shape(uint64_t count, uint64_t type_lanes) : lanes(type_lanes), num_elements(count) {
  SLUICE_CHECK(lanes == 8 || lanes == 16);
  groups = num_elements / (4 * lanes);
  power = PowerOf(groups);
  const uint64_t group_elements = 4 * lanes;
  leaf_level = (group_elements << 2 * power) <= graph::kBlockElements ? 1 : 0;
  leaf_elements = group_elements << ((leaf_level + 1) * power);
  SLUICE_CHECK(leaf_elements <= graph::kBlockElements);
  num_leaves = num_elements < lanes ? 0 : num_elements / leaf_elements;
  rest_begin = num_leaves * leaf_elements;
}

TorchSum::TorchSum(uint64_t num_elements, uint64_t lanes, int num_workers)
    : shape_(num_elements, lanes),
      leaves_(shape_.num_leaves),
      rest_(num_elements - shape_.rest_begin),
      workers_(static_cast<size_t>(num_workers)) {}

uint64_t TorchSum::StateBytes(uint64_t num_elements, uint64_t lanes, int num_workers) {
  const Shape shape(num_elements, lanes);
  return sizeof(TorchSum) + shape.num_leaves * sizeof(Partials) + (num_elements - shape.rest_begin) * sizeof(float) +
         static_cast<uint64_t>(num_workers) * sizeof(Worker);
}

void TorchSum::Add(int worker, uint64_t begin, const float* values, uint64_t count) {
  const uint64_t end = begin + count, leaves_end = std::min(end, shape_.rest_begin);
  if (begin < leaves_end) AddVectors(&workers_[static_cast<size_t>(worker)], begin, values, leaves_end);
  for (uint64_t i = std::max(begin, leaves_end); i < end; ++i) rest_[i - shape_.rest_begin] = values[i - begin];
}

void TorchSum::AddVectors(Worker* worker, uint64_t begin, const float* values, uint64_t end) {
  if (begin % graph::kBlockElements == 0) *worker = {};
  SLUICE_CHECK(begin % graph::kBlockElements == 0 || worker->next == begin);
  worker->next = end;
  const uint64_t lanes = shape_.lanes, block_groups = uint64_t{1} << shape_.power;
  for (uint64_t at = begin; at < end; at += lanes, values += lanes) {
    const uint64_t vector = at / lanes % 4;
    float* const sums = worker->level_0.at + 8 * vector;
    if (lanes == 16) {
      for (uint64_t i = 0; i < 8; ++i) sums[i] += values[i] + values[i + 8];
    } else {
      for (uint64_t i = 0; i < 8; ++i) sums[i] += values[i];
    }
    if (vector != 3) continue;
    const uint64_t groups = at / lanes / 4 + 1;
    if (groups % block_groups != 0) continue;
    Partials* leaf = &worker->level_0;
    if (shape_.leaf_level == 1) {
      leaf = &worker->level_1;
      for (uint64_t i = 0; i < 32; ++i) leaf->at[i] += worker->level_0.at[i];
      worker->level_0 = {};
    }
    if ((at + lanes) % shape_.leaf_elements != 0) continue;
    leaves_[at / shape_.leaf_elements] = *leaf;
    *leaf = {};
  }
}

float TorchSum::Finish() const {
  const uint64_t lanes = shape_.lanes;
  if (shape_.num_elements < lanes) return SumInFours(rest_.data(), rest_.size());
  Cascade<32> cascade(shape_.power);
  for (const Partials& leaf : leaves_) cascade.AddBlock(shape_.leaf_level, leaf.at);
  const float* rest = rest_.data();
  uint64_t left = rest_.size();
  alignas(32) float row[32];
  for (; left >= 4 * lanes; rest += 4 * lanes, left -= 4 * lanes) {
    for (uint64_t vector = 0; vector < 4; ++vector) Widen(rest + vector * lanes, lanes, row + 8 * vector);
    cascade.AddRow(row);
  }
  const float* partials = cascade.Finish();
  alignas(32) float sums[8];
  std::copy_n(partials, 8, sums);
  for (; left >= lanes; rest += lanes, left -= lanes) {
    Widen(rest, lanes, row);
    for (uint64_t i = 0; i < 8; ++i) sums[i] += row[i];
  }
  for (uint64_t vector = 1; vector < 4; ++vector) {
    for (uint64_t i = 0; i < 8; ++i) sums[i] += partials[8 * vector + i];
  }
  float sum = 0;
  for (uint64_t i = 0; i < left; ++i) sum += rest[i];
  for (const float lane : sums) sum += lane;
  return sum;
}

float TorchSumOf(std::span<const float> values, uint64_t lanes) {
  TorchSum sum(values.size(), lanes, 1);
  for (uint64_t begin = 0; begin < values.size(); begin += graph::kBlockElements) {
    sum.Add(0, begin, values.data() + begin, std::min(graph::kBlockElements, values.size() - begin));
  }
  return sum.Finish();
}

void SumOverModels(std::span<const float* const> rows, uint64_t first, uint64_t num_columns, uint64_t lanes,
                   float* out) {
  const uint64_t count = std::min(kColumns, num_columns - first);
  const auto column = [&](uint64_t i) {
    std::vector<float> values;
    for (const float* row : rows) values.push_back(row[i]);
    return values;
  };
  if (num_columns == 1) {
    out[0] = TorchSumOf(column(0), lanes);
    return;
  }
  Cascade<kColumns> cascade(PowerOf(rows.size()));
  for (const float* row : rows) cascade.AddRow(row);
  std::memcpy(out, cascade.Finish(), kColumns * sizeof(float));
  if (rows.size() <= 4) return;  // in fours: the same order
  const uint64_t group = num_columns >= lanes ? 4 * lanes : 4;
  for (uint64_t i = std::max(num_columns / group * group, first); i < first + count; ++i) {
    const std::vector<float> values = column(i - first);
    out[i - first] = SumInFours(values.data(), values.size());
  }
}

}  // namespace sluice::arithmetic
