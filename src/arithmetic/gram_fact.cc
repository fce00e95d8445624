#include "arithmetic/gram_fact.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <mutex>

#include <fmt/format.h>

#include "arithmetic/float_views.h"
#include "arithmetic/row_slots.h"
#include "base/check.h"
#include "kernels/combination.h"

namespace sluice::arithmetic {
namespace {

using graph::kBlockElements;

constexpr size_t kLanes = kernels::kProductLanes;

uint64_t Blocks(uint64_t num_elements) { return (num_elements + kBlockElements - 1) / kBlockElements; }
size_t Pairs(size_t k) { return k * (k + 1) / 2; }

// Vectors of one part of a piece, in f64. Takes the views' order: the base first, if there is one.
class Loader {
 public:
  Loader(bool has_base, size_t num_inputs)
      : has_base_(has_base), copy_(kCopyElements), values_((num_inputs - (has_base ? 1 : 0)) * kCopyElements) {}

  // Elements [first, first + count) of the views; count <= kCopyElements.
  void Load(std::span<const graph::View> in, uint64_t first, uint64_t count) {
    const size_t models = in.size() - (has_base_ ? 1 : 0);
    for (size_t m = 0; m < models; ++m) {
      const float* x = FloatsAt(in[m + (has_base_ ? 1 : 0)], first, count, copy_.data());
      double* out = &values_[m * kCopyElements];
      ForEachOfPart(count, [=](uint64_t i) { out[i] = static_cast<double>(x[i]); });
    }
    if (!has_base_) return;
    const float* base = FloatsAt(in[0], first, count, copy_.data());
    for (size_t m = 0; m < models; ++m) {
      double* out = &values_[m * kCopyElements];
      ForEachOfPart(count, [=](uint64_t i) { out[i] -= static_cast<double>(base[i]); });
    }
  }
  const double* vector(size_t m) const { return &values_[m * kCopyElements]; }

 private:
  bool has_base_;
  std::vector<float> copy_;
  std::vector<double> values_;
};

// Turns sums by pair into factors.
void WriteFactors(const Combination& combination, size_t k, std::span<const double> sums, uint64_t num_vectors,
                  uint64_t vector, std::vector<double>* matrix, std::vector<double>* factors, graph::FactValue* value) {
  matrix->resize(k * k);
  factors->assign(k, 0);
  size_t pair = 0;
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = i; j < k; ++j) (*matrix)[i * k + j] = (*matrix)[j * k + i] = sums[pair++];
  }
  combination.factors(Gram(k, matrix->data()), *factors);
  for (size_t m = 0; m < k; ++m) (*value)[m * num_vectors + vector] = (*factors)[m];
}

// Rows, and the whole tensor as one.
class RowFold final : public graph::Fold {
 public:
  RowFold(uint64_t num_elements, uint64_t columns, bool has_base, size_t num_inputs, const Combination& combination,
          int num_workers)
      : num_elements_(num_elements),
        columns_(columns),
        first_model_(has_base ? 1 : 0),
        k_(num_inputs - first_model_),
        pairs_(Pairs(k_)),
        combination_(combination),
        slots_(num_elements, columns, pairs_) {
    for (int i = 0; i < num_workers; ++i) workers_.emplace_back(num_inputs, pairs_);
  }

  static uint64_t StateBytes(uint64_t num_elements, uint64_t columns, size_t num_inputs, size_t k, int num_workers) {
    const uint64_t worker = Pairs(k) * kLanes + num_inputs * (kCopyElements / 2 + 1);
    return sizeof(RowFold) + RowSlots::Bytes(num_elements, columns, Pairs(k)) +
           (RowSlots::NumRows(num_elements, columns) * k + static_cast<uint64_t>(num_workers) * worker) *
               sizeof(double) +
           1024;
  }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    Worker& state = workers_[static_cast<size_t>(worker)];
    if (piece.begin % kBlockElements == 0) {
      std::ranges::fill(state.lanes, 0.0);
      state.next = piece.begin;
    }
    SLUICE_CHECK(state.next == piece.begin);
    state.next = piece.end;
    const uint64_t most = AreFloatAligned(in) ? piece.size() : kCopyElements;
    for (uint64_t at = piece.begin; at < piece.end;) {
      const uint64_t row_end = (at / columns_ + 1) * columns_;
      const uint64_t end = std::min({piece.end, row_end, at + most});
      for (size_t m = 0; m < in.size(); ++m) {
        state.arrays[m] = FloatsAt(in[m], at - piece.begin, end - at, &state.copies[m * kCopyElements]);
      }
      kernels::AddInnerProducts(first_model_ > 0 ? state.arrays[0] : nullptr,
                                std::span<const float* const>(state.arrays).subspan(first_model_), at, end - at,
                                state.lanes.data());
      if (end == row_end || end == num_elements_ || end % kBlockElements == 0) Flush(&state, end);
      at = end;
    }
  }

  bool Finish(graph::FactValue* value) override {
    value->assign(slots_.num_rows() * k_, 0);
    std::vector<double> sums(pairs_), matrix, factors;
    for (uint64_t row = 0; row < slots_.num_rows(); ++row) {
      slots_.ForParts(row, [&](const double* slot, bool is_first) {
        for (size_t pair = 0; pair < pairs_; ++pair) sums[pair] = is_first ? slot[pair] : sums[pair] + slot[pair];
      });
      WriteFactors(combination_, k_, sums, slots_.num_rows(), row, &matrix, &factors, value);
    }
    return true;
  }

 private:
  struct Worker {
    Worker(size_t num_inputs, size_t pairs)
        : copies(num_inputs * kCopyElements), arrays(num_inputs), lanes(pairs * kLanes) {}
    std::vector<float> copies;         // of what is out of place
    std::vector<const float*> arrays;  // by input
    std::vector<double> lanes;         // by pair, of the row at hand; element i of the tensor adds to lane i % kLanes
    uint64_t next = 0;                 // the element that must come
  };

  // A row's part in a block ends before `end`.
  void Flush(Worker* state, uint64_t end) {
    double* slot = slots_.SlotOf(end);
    for (size_t pair = 0; pair < pairs_; ++pair) {
      double* lanes = &state->lanes[pair * kLanes];
      for (size_t distance = kLanes / 2; distance > 0; distance /= 2) {
        for (size_t lane = 0; lane < distance; ++lane) lanes[lane] += lanes[lane + distance];
      }
      slot[pair] = lanes[0];
      std::fill_n(lanes, kLanes, 0.0);
    }
  }

  const uint64_t num_elements_, columns_;
  const size_t first_model_, k_, pairs_;
  const Combination combination_;
  RowSlots slots_;
  std::vector<Worker> workers_;
};

// Columns: a block's sums are [pairs, columns]; blocks are added in pairs, pairs of pairs ..., each as soon as both are
// there. Blocks that come nearly in order leave one sum for each level and each worker.
class ColumnFold final : public graph::Fold {
 public:
  ColumnFold(uint64_t num_elements, uint64_t columns, bool has_base, size_t num_inputs, const Combination& combination,
             int num_workers)
      : num_elements_(num_elements),
        num_blocks_(Blocks(num_elements)),
        columns_(columns),
        k_(num_inputs - (has_base ? 1 : 0)),
        combination_(combination) {
    for (int i = 0; i < num_workers; ++i) workers_.push_back({Loader(has_base, num_inputs), {}});
  }

  static uint64_t StateBytes(uint64_t num_elements, uint64_t columns, size_t num_inputs, size_t k, int num_workers) {
    const auto levels = static_cast<uint64_t>(std::bit_width(Blocks(num_elements)));
    const auto workers = static_cast<uint64_t>(num_workers);
    const uint64_t sums = std::min(Blocks(num_elements) + workers, 2 * levels + 3 * workers + 2) * Pairs(k) * columns;
    const uint64_t loaders = workers * (num_inputs + 1) * kCopyElements;
    return sizeof(ColumnFold) + (sums + columns * k + loaders) * sizeof(double) + 4096;
  }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    Worker& state = workers_[static_cast<size_t>(worker)];
    if (piece.begin % kBlockElements == 0) state.sums.assign(Pairs(k_) * columns_, 0);
    for (uint64_t at = piece.begin; at < piece.end;) {
      const uint64_t column = at % columns_;
      const uint64_t count = std::min({piece.end - at, columns_ - column, kCopyElements});
      state.loader.Load(in, at - piece.begin, count);
      double* sums = &state.sums[column];
      for (size_t i = 0; i < k_; ++i) {
        for (size_t j = i; j < k_; ++j, sums += columns_) {
          const double *a = state.loader.vector(i), *b = state.loader.vector(j);
          ForEachOfPart(count, [=](uint64_t e) { sums[e] += a[e] * b[e]; });
        }
      }
      at += count;
    }
    if (piece.end % kBlockElements == 0 || piece.end == num_elements_) {
      Insert(piece.begin / kBlockElements, std::move(state.sums));
      state.sums = {};
    }
  }

  bool Finish(graph::FactValue* value) override {
    std::vector<double> total(Pairs(k_) * columns_);
    if (num_blocks_ > 0) {
      SLUICE_CHECK(done_.size() == 1);
      total = std::move(done_.begin()->second);
      done_.clear();
    }
    value->assign(columns_ * k_, 0);
    std::vector<double> sums(Pairs(k_)), matrix, factors;
    for (uint64_t column = 0; column < columns_; ++column) {
      for (size_t pair = 0; pair < sums.size(); ++pair) sums[pair] = total[pair * columns_ + column];
      WriteFactors(combination_, k_, sums, columns_, column, &matrix, &factors, value);
    }
    return true;
  }

 private:
  struct Worker {
    Loader loader;
    std::vector<double> sums;  // of the block at hand
  };

  void Insert(uint64_t block, std::vector<double> sums) {
    uint64_t index = block;
    for (int level = 0;; ++level, index /= 2) {
      const uint64_t sibling = index ^ 1;
      if (index == 0 && (uint64_t{1} << level) >= num_blocks_) {
        std::lock_guard lock(mutex_);
        done_.emplace(std::pair(level, index), std::move(sums));
        return;
      }
      if (sibling << level >= num_blocks_) continue;  // none: the sum goes up as it is
      std::vector<double> other;
      {
        std::lock_guard lock(mutex_);
        const auto found = done_.find({level, sibling});
        if (found == done_.end()) {
          done_.emplace(std::pair(level, index), std::move(sums));
          return;
        }
        other = std::move(found->second);
        done_.erase(found);
      }
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += other[i];  // of two, the order does not matter
    }
  }

  const uint64_t num_elements_, num_blocks_, columns_;
  const size_t k_;
  const Combination combination_;
  std::vector<Worker> workers_;
  std::mutex mutex_;
  std::map<std::pair<int, uint64_t>, std::vector<double>> done_;  // by level and index
};

std::vector<const graph::Node*> WithBase(const graph::Node* base, std::vector<const graph::Node*> x) {
  if (base != nullptr) x.insert(x.begin(), base);
  return x;
}

}  // namespace

Vectors Vectors::Rows(std::span<const uint64_t> shape) { return {Kind::kRows, shape.empty() ? 1 : shape.back()}; }

Vectors Vectors::Columns(std::span<const uint64_t> shape) {
  const uint64_t columns = shape.empty() ? 1 : shape.back();
  return {shape.size() < 2 ? Kind::kWhole : Kind::kColumns, columns};
}

uint64_t Vectors::Count(uint64_t num_elements) const {
  if (kind == Kind::kWhole || columns == 0) return 1;
  return kind == Kind::kRows ? num_elements / columns : columns;
}

double Gram::Norm(size_t i) const { return std::sqrt((*this)(i, i)); }

GramFact::GramFact(const graph::Node* base, const std::vector<const graph::Node*>& x, const Vectors& vectors,
                   Combination combination)
    : Fact(fmt::format("gram {} {} {} {}", base != nullptr, static_cast<int>(vectors.kind), vectors.columns,
                       combination.description),
           WithBase(base, x)),
      has_base_(base != nullptr),
      vectors_(vectors),
      combination_(std::move(combination)) {
  SLUICE_CHECK(vectors_.columns == 0 || num_elements() % vectors_.columns == 0);
}

uint64_t GramFact::StateBytes(int num_workers) const {
  const auto bytes = vectors_.kind == Vectors::Kind::kColumns ? ColumnFold::StateBytes : RowFold::StateBytes;
  return bytes(num_elements(), vectors_.columns, inputs().size(), num_vectors(), num_workers);
}

double GramFact::NanosecondsPerElement() const {
  return 0.1 * static_cast<double>(inputs().size()) + 0.15 * static_cast<double>(Pairs(num_vectors()));
}

std::unique_ptr<graph::Fold> GramFact::Begin(int num_workers) const {
  if (vectors_.kind == Vectors::Kind::kColumns) {
    return std::make_unique<ColumnFold>(num_elements(), vectors_.columns, has_base_, inputs().size(), combination_,
                                        num_workers);
  }
  return std::make_unique<RowFold>(num_elements(), vectors_.columns, has_base_, inputs().size(), combination_,
                                   num_workers);
}

}  // namespace sluice::arithmetic
