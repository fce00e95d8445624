// WholeRows: gives a fold each row of its tensor as a whole, of every input, whichever worker gets the parts of it and
// in which order. For what must go over a row as torch does, more than once or from its first element to its last.
//
// A row within one block is put together by the worker that has the block; of a row over several blocks the parts are
// kept until the last is there.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "graph/node.h"

namespace sluice::arithmetic {

class WholeRows {
 public:
  // Inputs are F32; columns > 0 where there are elements.
  WholeRows(uint64_t num_elements, uint64_t columns, size_t num_inputs, int num_workers);

  // inputs[i]: row `row` of input i.
  using Each = std::function<void(uint64_t row, std::span<const float* const> inputs)>;
  // As graph::Fold::Add; each(row, inputs) of the rows that are complete by it, from this thread.
  void Add(int worker, graph::Range piece, std::span<const graph::View> in, const Each& each);

  // Of blocks that come nearly in order, which leave few rows incomplete.
  static uint64_t StateBytes(uint64_t num_elements, uint64_t columns, size_t num_inputs, int num_workers);

 private:
  struct Row {
    std::vector<float> values;  // [inputs, columns]
    uint64_t filled = 0;        // elements
  };
  void Give(uint64_t row, const Row& whole, const Each& each) const;

  const uint64_t columns_;
  const size_t num_inputs_;
  std::vector<Row> workers_;
  std::mutex mutex_;
  std::map<uint64_t, Row> incomplete_;  // rows over several blocks
};

}  // namespace sluice::arithmetic
