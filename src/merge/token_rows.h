// TokenRowsNode: an embedding or a head in the order of another vocabulary: each row is one of another matrix's, the
// mean of several matrices', or zero. And PaddedRowsNode: rows more than there are tokens, each the mean of all.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "graph/node.h"

namespace sluice::merge {

// Where the rows come from. Immutable once built; thread-safe. Memory: 4 bytes a row and 8 for each place that it has.
class TokenRows {
 public:
  struct Place {
    uint32_t input, row;
    bool operator==(const Place&) const = default;
  };
  // No places: zeros. Several: of different inputs.
  void AddRow(std::span<const Place> places);

  uint64_t size() const { return ends_.size(); }
  std::span<const Place> PlacesOf(uint64_t row) const;
  // Whether it is all rows of that input as they are, of which there are `rows`.
  bool IsIdentity(uint32_t input, uint64_t rows) const;
  graph::Key key() const;

 private:
  std::vector<uint32_t> ends_;
  std::vector<Place> places_;
};

class TokenRowsNode final : public graph::Node {
 public:
  // inputs: F32 matrices of that many columns.
  TokenRowsNode(std::shared_ptr<const TokenRows> rows, uint64_t columns, std::vector<const graph::Node*> inputs);
  void Needs(graph::Range out, graph::NeedList* needs) const override;
  uint64_t MostNeeds() const override { return graph::kPieceElements / columns_ + 2; }
  void Compute(const graph::ComputeArgs& args) const override;
  double NanosecondsPerElement() const override { return 0.2; }

 private:
  std::shared_ptr<const TokenRows> rows_;
  uint64_t columns_;
};

// Rows [0, input's rows) are the input's, those behind them the mean of all of these.
class PaddedRowsNode final : public graph::Node {
 public:
  // input: F32, whole rows of that many columns, at least one of them.
  PaddedRowsNode(const graph::Node* input, uint64_t columns, uint64_t rows);
  void Needs(graph::Range out, graph::NeedList* needs) const override;
  void Compute(const graph::ComputeArgs& args) const override;
  double NanosecondsPerElement() const override { return 0.1; }

 private:
  uint64_t columns_;
};

}  // namespace sluice::merge
