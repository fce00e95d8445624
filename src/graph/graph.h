// Graph: owns the nodes of one group of tensors, each computation once (nodes with equal keys are the same node).
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "graph/node.h"
#include "io/byte_source.h"

namespace sluice::graph {

// Bytes as they stand in a source. The only leaf that is read; its Compute is never called.
class StoredNode final : public Node {
 public:
  StoredNode(std::shared_ptr<const io::ByteSource> source, uint64_t offset, quant::Encoding encoding,
             uint64_t num_elements);
  const io::ByteSource& source() const { return *source_; }
  const std::shared_ptr<const io::ByteSource>& shared_source() const { return source_; }
  uint64_t offset() const { return offset_; }
  // Bytes of the source that hold the range.
  Range BytesOf(Range elements) const;
  void Compute(const ComputeArgs& args) const override;
  double NanosecondsPerElement() const override { return 0; }

 private:
  std::shared_ptr<const io::ByteSource> source_;
  uint64_t offset_;
};

class Graph {
 public:
  // Takes the node, or drops it and returns its equal that is already here.
  const Node* Add(std::unique_ptr<Node> node);
  const Node* AddStored(std::shared_ptr<const io::ByteSource> source, uint64_t offset, quant::Encoding encoding,
                        uint64_t num_elements);
  // `node` in `encoding`: itself where it has it already, else through f32 with one rounding. CHECKs that a float
  // decoder and encoder exist (CanCast).
  const Node* AddCast(const Node* node, quant::Encoding encoding);
  static bool CanCast(quant::Encoding from, quant::Encoding to);
  size_t size() const { return nodes_.size(); }

 private:
  std::map<Key, std::unique_ptr<Node>> nodes_;
};

// A map of rows, pure and thread-safe.
class RowMap {
 public:
  virtual ~RowMap() = default;
  virtual uint64_t SourceRow(uint64_t row) const = 0;
  virtual uint64_t num_rows() const = 0;
};

// Row r of the result is row map->SourceRow(r) of `input` ([*, columns]; columns must be whole blocks of the encoding).
class RowGatherNode final : public Node {
 public:
  RowGatherNode(std::string_view description, const Node* input, uint64_t columns, std::shared_ptr<const RowMap> map);
  void Needs(Range out, NeedList* needs) const override;
  uint64_t MostNeeds() const override { return kPieceElements / columns_ + 2; }
  void Compute(const ComputeArgs& args) const override;
  double NanosecondsPerElement() const override { return 0.1; }

 private:
  uint64_t columns_;
  std::shared_ptr<const RowMap> map_;
};

}  // namespace sluice::graph
