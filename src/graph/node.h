// Node: how a tensor comes to be. A node never reads: it says which elements of its inputs it needs, and computes,
// purely, from bytes that are handed to it. The planner (stream/) sees the whole graph and owns all memory and I/O.
//
// Ranges are elements of the flat tensor (row-major). The executor works in blocks of kBlockElements, the last of a
// tensor being shorter, and within a block in pieces of kPieceElements. A consumer may ask for cuts of its own (rows of
// a panel, stream.h's granule); folds always see blocks. Every cut but a tensor's end is a multiple of 32 and of each
// encoding's block.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "quant/encoding.h"

namespace sluice::graph {

constexpr uint64_t kBlockElements = 65536;  // what a fold sees as one block; what a worker takes at a time
constexpr uint64_t kPieceElements = 8192;   // what is computed at once: nine f32 pieces fit in a 512 KiB L2 cache

struct Range {
  uint64_t begin = 0, end = 0;
  uint64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// Elements `range` of a tensor, contiguous, in the encoding of the node that they come from. Any alignment.
struct View {
  const uint8_t* data = nullptr;
  Range range;
};

// 128 bits of SHA-256 over a description: equal keys are the same computation on the same bytes.
struct Key {
  uint64_t hi = 0, lo = 0;
  auto operator<=>(const Key&) const = default;
};
Key HashKey(std::string_view description);

struct Need {
  uint32_t input;
  Range range;
};

// Several needs per input are allowed (a gather); views come in the order of the needs.
class NeedList {
 public:
  void Add(uint32_t input, Range range) { needs_.push_back({input, range}); }
  std::span<const Need> needs() const { return needs_; }
  void Clear() { needs_.clear(); }

 private:
  std::vector<Need> needs_;
};

// What a fold found: a few numbers, serialisable (an L1 pair, a threshold and an index: integers up to 2^53 are exact).
using FactValue = std::vector<double>;

// One fold of a fact over its tensor. Owns its state. The result must not depend on the order in which blocks come, on
// the worker, or on how a block is cut into pieces: keep a slot per block and combine in index order, or count in
// integers.
class Fold {
 public:
  virtual ~Fold() = default;
  // Whether this pass needs the block (a sample, say). Constant during a pass.
  virtual bool Wants(uint64_t /*block*/) const { return true; }
  // A piece of block piece.begin / kBlockElements. The pieces of one block come in order, from one worker; blocks come
  // in any order, from several workers at once. `in`: one view per input of the fact.
  virtual void Add(int worker, Range piece, std::span<const View> in) = 0;
  // After all wanted blocks: true and the value, or false to go over the tensor once more. Called by one thread.
  virtual bool Finish(FactValue* value) = 0;
};

class Node;

// Something that must be known of whole tensors before a node can compute. Facts with equal keys are folded once.
class Fact {
 public:
  virtual ~Fact() = default;
  Key key() const { return key_; }
  std::span<const Node* const> inputs() const { return inputs_; }  // all of the same number of elements
  uint64_t num_elements() const;
  // Most passes that Finish can ask for; more than 1 makes the stream wait for Finish before it goes on.
  virtual int max_passes() const { return 1; }
  virtual double expected_passes() const { return 1; }     // how much of its inputs is read for it, for the prediction
  virtual uint64_t StateBytes(int num_workers) const = 0;  // most that a Fold will hold
  virtual double NanosecondsPerElement() const = 0;        // of Add, one core, for the prediction
  virtual std::unique_ptr<Fold> Begin(int num_workers) const = 0;

 protected:
  Fact(std::string_view description, std::vector<const Node*> inputs);  // the key covers the inputs' keys too

 private:
  Key key_;
  std::vector<const Node*> inputs_;
};

struct ComputeArgs {
  Range range;                              // what to compute
  std::span<const View> in;                 // one per need, in order
  std::span<const FactValue* const> facts;  // one per fact of the node, in order
  uint8_t* scratch;                         // ScratchBytes(), 64-byte aligned
  uint8_t* out;                             // encoding.BytesOf(range.size()), 64-byte aligned or the sink's own place
};

class Node {
 public:
  virtual ~Node() = default;
  quant::Encoding encoding() const { return encoding_; }
  uint64_t num_elements() const { return num_elements_; }
  uint64_t num_blocks() const { return (num_elements_ + kBlockElements - 1) / kBlockElements; }
  std::span<const Node* const> inputs() const { return inputs_; }
  std::span<const std::unique_ptr<Fact>> facts() const { return facts_; }
  Key key() const { return key_; }

  // Which elements of its inputs `out` takes. Needs of a part must lie within the needs of the whole. Default: the same
  // range of every input.
  virtual void Needs(Range out, NeedList* needs) const;
  // Most needs of one input that a piece can have.
  virtual uint64_t MostNeeds() const { return 1; }
  // Pure, thread-safe, cannot fail. range.size() <= kPieceElements.
  virtual void Compute(const ComputeArgs& args) const = 0;
  virtual uint64_t ScratchBytes() const { return 0; }
  virtual double NanosecondsPerElement() const = 0;  // of Compute alone, one core, for the prediction

 protected:
  // `description` tells this node from any other of the same inputs (kind and all parameters).
  Node(std::string_view description, quant::Encoding encoding, uint64_t num_elements, std::vector<const Node*> inputs);
  // For leaves, whose key is their place.
  Node(Key key, quant::Encoding encoding, uint64_t num_elements)
      : key_(key), encoding_(encoding), num_elements_(num_elements) {}
  void AddFact(std::unique_ptr<Fact> fact) { facts_.push_back(std::move(fact)); }

 private:
  Key key_;
  quant::Encoding encoding_;
  uint64_t num_elements_;
  std::vector<const Node*> inputs_;
  std::vector<std::unique_ptr<Fact>> facts_;
};

}  // namespace sluice::graph
