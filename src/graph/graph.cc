#include "graph/graph.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
#include "graph/cast_node.h"

namespace sluice::graph {

StoredNode::StoredNode(std::shared_ptr<const io::ByteSource> source, uint64_t offset, quant::Encoding encoding,
                       uint64_t num_elements)
    : Node(HashKey(fmt::format("stored {} {} {} {} {}", source->id().device, source->id().inode, offset,
                               encoding.name(), num_elements)),
           encoding, num_elements),
      source_(std::move(source)),
      offset_(offset) {}

Range StoredNode::BytesOf(Range elements) const {
  return {offset_ + encoding().BytesOf(elements.begin), offset_ + encoding().BytesOf(elements.end)};
}

void StoredNode::Compute(const ComputeArgs&) const { SLUICE_CHECK(!"stored bytes are read, not computed"); }

const Node* Graph::Add(std::unique_ptr<Node> node) {
  const Key key = node->key();
  return nodes_.try_emplace(key, std::move(node)).first->second.get();
}

const Node* Graph::AddStored(std::shared_ptr<const io::ByteSource> source, uint64_t offset, quant::Encoding encoding,
                             uint64_t num_elements) {
  return Add(std::make_unique<StoredNode>(std::move(source), offset, encoding, num_elements));
}

const Node* Graph::AddCast(const Node* node, quant::Encoding encoding) {
  if (node->encoding() == encoding) return node;
  SLUICE_CHECK(CanCast(node->encoding(), encoding));
  return Add(std::make_unique<CastNode>(node, encoding));
}

bool Graph::CanCast(quant::Encoding from, quant::Encoding to) {
  return from == to || (from->decode != nullptr && (to == quant::F32() || to->encode != nullptr));
}

RowGatherNode::RowGatherNode(std::string_view description, const Node* input, uint64_t columns,
                             std::shared_ptr<const RowMap> map)
    : Node(fmt::format("rows {} {}", columns, description), input->encoding(), map->num_rows() * columns, {input}),
      columns_(columns),
      map_(std::move(map)) {
  SLUICE_CHECK(columns > 0 && columns % input->encoding()->block_elements == 0);
}

// One need per row touched, in order of the rows; neighbouring source rows are joined into one.
void RowGatherNode::Needs(Range out, NeedList* needs) const {
  Range joined{};
  for (uint64_t at = out.begin; at < out.end;) {
    const uint64_t row = at / columns_, column = at % columns_;
    const uint64_t length = std::min(columns_ - column, out.end - at);
    const uint64_t begin = map_->SourceRow(row) * columns_ + column;
    if (joined.size() > 0 && joined.end == begin) {
      joined.end += length;
    } else {
      if (joined.size() > 0) needs->Add(0, joined);
      joined = {begin, begin + length};
    }
    at += length;
  }
  if (joined.size() > 0) needs->Add(0, joined);
}

void RowGatherNode::Compute(const ComputeArgs& args) const {
  uint8_t* out = args.out;
  for (const View& view : args.in) {
    const uint64_t size_bytes = encoding().BytesOf(view.range.size());
    std::memcpy(out, view.data, size_bytes);
    out += size_bytes;
  }
}

}  // namespace sluice::graph
