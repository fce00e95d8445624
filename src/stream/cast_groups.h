// CastGroups: groups whose first out is a cast that may overflow, with what is cast beside it as one more out, so that
// a sink sees both sides of each number. Stored numbers are read once all the same: the second out is a view of what
// was read for the first.
#pragma once

#include <string>
#include <vector>

#include "stream/stream.h"

namespace sluice::stream {

class CastGroups final : public GroupSource {
 public:
  explicit CastGroups(const GroupSource& groups);  // outlives this; each group is built once here
  size_t size() const override { return groups_.size(); }
  std::string name(size_t group) const override { return groups_.name(group); }
  uint64_t granule(size_t group) const override { return groups_.granule(group); }
  void Build(size_t group, graph::Graph* graph, std::vector<const graph::Node*>* outs) const override;

  // Encodings of a group's first out and of its last, which is what was cast; invalid where there is no such cast.
  struct Cast {
    quant::Encoding to, from;
    bool same_order = true;  // element by element; false where rows are gathered after the cast
  };
  const Cast& cast(size_t group) const { return casts_[group]; }

 private:
  const GroupSource& groups_;
  std::vector<Cast> casts_;
};

}  // namespace sluice::stream
