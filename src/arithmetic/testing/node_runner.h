// Computes a node's whole tensor in a test, without a stream: facts are folded and pieces cut as the options say, so
// that a test can show that neither matters.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "graph/graph.h"
#include "io/byte_source.h"

namespace sluice::tests {

// Bytes in memory as a source with an id of its own.
std::shared_ptr<const io::ByteSource> MemoryBytes(std::vector<uint8_t> bytes);
// A stored F32 tensor of these values.
const graph::Node* AddFloats(graph::Graph* graph, const std::vector<float>& values);

struct RunOptions {
  uint64_t piece_elements = graph::kPieceElements;  // a multiple of 32, at most kPieceElements
  int threads = 1;                                  // that fold blocks at once
  bool backwards = false;                           // blocks last to first
  uint64_t misalign_bytes = 0;                      // views and results begin so many bytes off alignment
};

class NodeRunner {
 public:
  explicit NodeRunner(RunOptions options = {}) : options_(options) {}
  // The tensor's bytes, in the node's encoding.
  std::vector<uint8_t> Run(const graph::Node* node);
  std::vector<float> RunF32(const graph::Node* node);
  // The fact's value; folded on first use.
  const graph::FactValue& Fold(const graph::Fact& fact);
  int passes() const { return passes_; }            // made for facts
  uint64_t blocks_read() const { return blocks_; }  // in them

 private:
  // Elements `range` of the node, if stored or the result at an address as the options say.
  void Compute(const graph::Node* node, graph::Range range, bool is_result, std::vector<uint8_t>* storage,
               const uint8_t** data);

  RunOptions options_;
  std::map<graph::Key, graph::FactValue> facts_;
  int passes_ = 0;
  uint64_t blocks_ = 0;
};

}  // namespace sluice::tests
