#include "merge/token_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>

#include <fmt/format.h>

#include "base/check.h"

namespace sluice::merge {
namespace {

using graph::Range;
using graph::View;

// Calls part(row, column, length) for the parts of rows that make up `range`.
template <typename Part>
void ForRowParts(Range range, uint64_t columns, const Part& part) {
  for (uint64_t at = range.begin; at < range.end;) {
    const uint64_t row = at / columns, column = at % columns;
    const uint64_t length = std::min(columns - column, range.end - at);
    part(row, column, length);
    at += length;
  }
}

// Sums as integers of 2^-64, so that they are the same in any order: exact for what is not smaller than 2^-40, and
// nothing of 2^40 or more has a mean (NaN).
constexpr double kOne = 18446744073709551616.0;  // 2^64
constexpr double kLargest = 1099511627776.0;     // 2^40

class ColumnSums final : public graph::Fold {
 public:
  ColumnSums(uint64_t columns, uint64_t rows, int num_workers)
      : columns_(columns), rows_(rows), sums_(static_cast<size_t>(num_workers) * columns), is_bad_(sums_.size()) {}

  void Add(int worker, Range piece, std::span<const View> in) override {
    const size_t first = static_cast<size_t>(worker) * columns_;
    for (uint64_t i = 0; i < piece.size(); ++i) {
      float value;
      std::memcpy(&value, in[0].data + i * sizeof(float), sizeof(float));
      const size_t slot = first + (piece.begin + i) % columns_;
      if (!(std::abs(value) < kLargest)) {
        is_bad_[slot] = 1;
      } else {
        sums_[slot] += static_cast<__int128>(static_cast<double>(value) * kOne);
      }
    }
  }

  bool Finish(graph::FactValue* value) override {
    value->assign(columns_, 0);
    for (uint64_t column = 0; column < columns_; ++column) {
      __int128 sum = 0;
      bool is_bad = false;
      for (size_t slot = column; slot < sums_.size(); slot += columns_) {
        sum += sums_[slot];
        is_bad |= is_bad_[slot] != 0;
      }
      (*value)[column] = is_bad ? std::numeric_limits<double>::quiet_NaN()
                                : static_cast<double>(sum) / kOne / static_cast<double>(rows_);
    }
    return true;
  }

 private:
  const uint64_t columns_, rows_;
  std::vector<__int128> sums_;  // of each worker's columns
  std::vector<char> is_bad_;
};

class ColumnMeans final : public graph::Fact {
 public:
  ColumnMeans(const graph::Node* input, uint64_t columns)
      : Fact(fmt::format("column means {}", columns), {input}), columns_(columns) {}
  uint64_t StateBytes(int num_workers) const override {
    return sizeof(ColumnSums) +
           columns_ * (sizeof(double) + static_cast<uint64_t>(num_workers) * (sizeof(__int128) + 1));
  }
  double NanosecondsPerElement() const override { return 2; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override {
    return std::make_unique<ColumnSums>(columns_, num_elements() / columns_, num_workers);
  }

 private:
  uint64_t columns_;
};

}  // namespace

void TokenRows::AddRow(std::span<const Place> places) {
  places_.insert(places_.end(), places.begin(), places.end());
  ends_.push_back(static_cast<uint32_t>(places_.size()));
}

std::span<const TokenRows::Place> TokenRows::PlacesOf(uint64_t row) const {
  const uint32_t begin = row == 0 ? 0 : ends_[row - 1];
  return std::span(places_).subspan(begin, ends_[row] - begin);
}

bool TokenRows::IsIdentity(uint32_t input, uint64_t rows) const {
  if (rows != size() || places_.size() != rows) return false;
  for (uint32_t row = 0; row < rows; ++row) {
    if (ends_[row] != row + 1 || places_[row] != Place{input, row}) return false;
  }
  return true;
}

graph::Key TokenRows::key() const {
  const auto bytes = [](const auto& vector) {
    return std::string_view(reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(vector[0]));
  };
  return graph::HashKey(fmt::format("{} {}{}", ends_.size(), bytes(ends_), bytes(places_)));
}

TokenRowsNode::TokenRowsNode(std::shared_ptr<const TokenRows> rows, uint64_t columns,
                             std::vector<const graph::Node*> inputs)
    : Node(fmt::format("token rows {} {:x} {:x}", columns, rows->key().hi, rows->key().lo), quant::F32(),
           rows->size() * columns, std::move(inputs)),
      rows_(std::move(rows)),
      columns_(columns) {}

void TokenRowsNode::Needs(Range out, graph::NeedList* needs) const {
  ForRowParts(out, columns_, [&](uint64_t row, uint64_t column, uint64_t length) {
    for (const TokenRows::Place& place : rows_->PlacesOf(row)) {
      const uint64_t begin = place.row * columns_ + column;
      needs->Add(place.input, {begin, begin + length});
    }
  });
}

void TokenRowsNode::Compute(const graph::ComputeArgs& args) const {
  size_t view = 0;
  uint8_t* out = args.out;
  ForRowParts(args.range, columns_, [&](uint64_t row, uint64_t, uint64_t length) {
    const size_t count = rows_->PlacesOf(row).size();
    const std::span<const View> in = args.in.subspan(view, count);
    if (count == 1) {
      std::memcpy(out, in[0].data, length * sizeof(float));
    } else {
      for (uint64_t i = 0; i < length; ++i) {
        float sum = 0;
        for (const View& one : in) {
          float value;
          std::memcpy(&value, one.data + i * sizeof(float), sizeof(float));
          sum += value;
        }
        if (count > 1) sum /= static_cast<float>(count);
        std::memcpy(out + i * sizeof(float), &sum, sizeof(float));
      }
    }
    view += count;
    out += length * sizeof(float);
  });
}

PaddedRowsNode::PaddedRowsNode(const graph::Node* input, uint64_t columns, uint64_t rows)
    : Node(fmt::format("padded rows {} {}", columns, rows), quant::F32(), rows * columns, {input}), columns_(columns) {
  SLUICE_CHECK(input->num_elements() > 0 && input->num_elements() < num_elements());
  AddFact(std::make_unique<ColumnMeans>(input, columns));
}

void PaddedRowsNode::Needs(Range out, graph::NeedList* needs) const {
  const uint64_t end = inputs()[0]->num_elements();
  if (out.begin < end) needs->Add(0, {out.begin, std::min(out.end, end)});
}

void PaddedRowsNode::Compute(const graph::ComputeArgs& args) const {
  uint64_t at = args.range.begin;
  if (!args.in.empty()) {
    std::memcpy(args.out, args.in[0].data, args.in[0].range.size() * sizeof(float));
    at += args.in[0].range.size();
  }
  for (; at < args.range.end; ++at) {
    const auto mean = static_cast<float>((*args.facts[0])[at % columns_]);
    std::memcpy(args.out + (at - args.range.begin) * sizeof(float), &mean, sizeof(float));
  }
}

}  // namespace sluice::merge
