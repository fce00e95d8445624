// Sums of f32 numbers in the order in which torch adds them on a CPU, with one thread and 256-bit vectors: so f32 and
// the halves (bf16, f16) sum, before their one rounding. tests/goldens/mergekit/README.md has the order;
// tools/goldens/mergekit_reference.py has it in 50 lines.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace sluice::arithmetic {

// The sum of a whole tensor, whose blocks may come in any order from any worker.
//
// torch's order is a tree of fixed shape: of the leaves, runs of 256 to 65,536 elements that lie in one block
// (graph::kBlockElements), each is added up when its block comes, and Finish adds the leaves up. What follows the last
// whole leaf is kept as it is.
class TorchSum {
 public:
  // lanes: 8 (f32), or 16 (bf16, f16), whose vectors are widened to two of 8 that are added first.
  TorchSum(uint64_t num_elements, uint64_t lanes, int num_workers);
  // Elements [begin, begin + count). begin: a multiple of 32; the pieces of one block come in order, from one worker.
  void Add(int worker, uint64_t begin, const float* values, uint64_t count);
  float Finish() const;
  static uint64_t StateBytes(uint64_t num_elements, uint64_t lanes, int num_workers);

 private:
  // Four vectors of 8 lanes: vector k adds up every fourth vector from the k-th on.
  struct Partials {
    alignas(32) float at[32] = {};
  };
  struct Shape {
    uint64_t lanes, num_elements, groups;  // a group is four vectors of the type
    uint32_t power;                        // blocks of 2^power groups
    uint32_t leaf_level;                   // leaves are blocks (0), or blocks of blocks (1)
    uint64_t leaf_elements, num_leaves, rest_begin;
    Shape(uint64_t num_elements, uint64_t lanes);
  };
  struct Worker {
    Partials level_0, level_1;
    uint64_t next = 0;  // the element that must come
  };
  void AddVectors(Worker* worker, uint64_t begin, const float* values, uint64_t end);

  const Shape shape_;
  std::vector<Partials> leaves_;
  std::vector<float> rest_;
  std::vector<Worker> workers_;
};

// The same of an array.
float TorchSumOf(std::span<const float> values, uint64_t lanes);

// Columns that SumOverModels takes at a time.
constexpr uint64_t kColumns = 256;

// The sum over models (axis 0 of their stack) of columns [first, first + kColumns) of num_columns. rows: kColumns
// floats of each model, of which those beyond num_columns do not matter; nor do they in `out`.
void SumOverModels(std::span<const float* const> rows, uint64_t first, uint64_t num_columns, uint64_t lanes,
                   float* out);

}  // namespace sluice::arithmetic
