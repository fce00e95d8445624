#include "arithmetic/mergekit_nuslerp.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "arithmetic/float_tiles.h"
#include "arithmetic/in_order_fold.h"
#include "arithmetic/mergekit_nodes.h"
#include "arithmetic/ordered_sums.h"
#include "arithmetic/torch_columns.h"
#include "arithmetic/torch_sum.h"
#include "arithmetic/torch_trig.h"
#include "base/check.h"

namespace sluice::arithmetic {
namespace {

// Vectors of a tensor: vector v's elements are those at v * stride, or, of columns, all whose index is v modulo stride.
struct Layout {
  bool columns = false;
  uint64_t stride = 1, num_vectors = 1;

  uint64_t VectorOf(uint64_t element) const { return columns ? element % stride : element / stride; }
  // Elements from `element` on, up to `end`, that lie as the first: in its row, or in columns one after the other.
  uint64_t RunEnd(uint64_t element, uint64_t end) const { return std::min(end, (element / stride + 1) * stride); }
};

// torch reduces columns of one row, or one column, as it does rows.
Layout LayoutOf(MergekitNuslerp::Vectors vectors, std::span<const uint64_t> shape, uint64_t num_elements) {
  if (num_elements == 0 || shape.empty() || vectors == MergekitNuslerp::Vectors::kWhole) {
    return {false, std::max<uint64_t>(num_elements, 1), 1};
  }
  if (vectors == MergekitNuslerp::Vectors::kRows || shape.size() == 1) {
    return {false, shape.back(), num_elements / shape.back()};
  }
  const uint64_t columns = num_elements / shape[0];
  if (columns == 1) return {false, num_elements, 1};
  return {true, columns, columns};
}

// Value: [what the first is multiplied by, the second, what both are divided by][vector].
class NuslerpFold final : public InOrderFold {
 public:
  NuslerpFold(const MergekitNuslerp& nuslerp, const Layout& layout, uint64_t num_elements, int num_workers)
      : InOrderFold(num_elements, 2, num_workers), type_(nuslerp.type), t_(nuslerp.t), layout_(layout) {
    for (std::vector<float>& lengths : lengths_) lengths.assign(layout.num_vectors, 0);
    for (auto& norm : norms_) norm.emplace(type_);
  }

  static uint64_t StateBytes(const Layout& layout, uint64_t num_elements, int num_workers) {
    const uint64_t sums = layout.columns            ? TorchColumnSums::StateBytes(layout.stride)
                          : layout.num_vectors == 1 ? TorchSum::StateBytes(num_elements, 16, 1)
                                                    : layout.stride * 2 * sizeof(float);
    return sizeof(NuslerpFold) + InOrderFold::StateBytes(num_elements, 2, num_workers) +
           layout.num_vectors * (4 * sizeof(float) + 3 * sizeof(double)) + sums;
  }

 private:
  uint64_t num_rows() const override { return lengths_are_known_ ? 1 : 2; }

  void Compute(graph::Range piece, std::span<const graph::View> in, float* const* rows) const override {
    if (!lengths_are_known_) {
      for (size_t m = 0; m < 2; ++m) std::memcpy(rows[m], in[m].data, piece.size() * sizeof(float));
      return;
    }
    alignas(64) float a[kTileFloats], b[kTileFloats];
    WithType(type_, [&]<WorkingType kType>() {
      for (uint64_t at = piece.begin; at < piece.end;) {
        const uint64_t first = at - piece.begin;
        const uint64_t count = std::min(layout_.RunEnd(at, piece.end) - at, kTileFloats), vector = layout_.VectorOf(at);
        LoadTile(in[0], first, first + count, a);
        LoadTile(in[1], first, first + count, b);
        const float *length_a = &lengths_[0][vector], *length_b = &lengths_[1][vector];
        const uint64_t step = layout_.columns ? 1 : 0;
        for (uint64_t i = 0; i < count; ++i) {
          rows[0][first + i] =
              RoundTo<kType>(RoundTo<kType>(a[i] / length_a[i * step]) * RoundTo<kType>(b[i] / length_b[i * step]));
        }
        at += count;
      }
    });
  }

  void Take(uint64_t begin, uint64_t count, const float* const* rows) override {
    if (!lengths_are_known_) {
      for (size_t m = 0; m < 2; ++m) TakeSquares(m, begin, count, rows[m]);
    } else {
      TakeProducts(begin, count, rows[0]);
    }
  }

  void TakeSquares(size_t m, uint64_t begin, uint64_t count, const float* x) {
    for (uint64_t at = begin; at < begin + count;) {
      const uint64_t end = layout_.RunEnd(at, begin + count), vector = layout_.VectorOf(at);
      const float* run = x + (at - begin);
      if (layout_.columns) {
        float* sums = &lengths_[m][vector];
        for (uint64_t i = 0; i < end - at; ++i) sums[i] += run[i] * run[i];
      } else {
        norms_[m]->Add(run, end - at);
        if (end % layout_.stride == 0) {
          lengths_[m][vector] = norms_[m]->Finish();
          norms_[m].emplace(type_);
        }
      }
      at = end;
    }
  }

  void TakeProducts(uint64_t begin, uint64_t count, const float* products) {
    if (of_columns_) {
      of_columns_->Add(begin, products, count);
    } else if (of_whole_) {
      of_whole_->Add(0, begin, products, count);
    } else {
      for (uint64_t at = begin; at < begin + count;) {
        const uint64_t end = layout_.RunEnd(at, begin + count);
        row_.insert(row_.end(), products + (at - begin), products + (end - begin));
        if (end % layout_.stride == 0) {
          cosines_[layout_.VectorOf(at)] = TorchSumOf(row_, LanesOf(type_));
          row_.clear();
        }
        at = end;
      }
    }
  }

  bool EndStep(graph::FactValue* value) override {
    if (!lengths_are_known_) {
      EndLengths();
      return false;
    }
    if (of_columns_) {
      cosines_ = of_columns_->Finish();
    } else if (of_whole_) {
      cosines_[0] = of_whole_->Finish();
    }
    const uint64_t n = layout_.num_vectors;
    value->assign(3 * n, 0);
    const float least = RoundTo(type_, 1e-8f), rest = static_cast<float>(1 - t_), t = static_cast<float>(t_);
    for (uint64_t v = 0; v < n; ++v) {
      const float cosine = RoundTo(type_, cosines_[v]);
      const float angle = TorchAcos(type_, cosine < -1 ? -1.0f : cosine > 1 ? 1.0f : cosine);
      const float sine = TorchSin(type_, angle);
      const bool is_line = std::abs(sine) < least;
      (*value)[v] = is_line ? rest : TorchSin(type_, RoundTo(type_, rest * angle));
      (*value)[n + v] = is_line ? t : TorchSin(type_, RoundTo(type_, t * angle));
      (*value)[2 * n + v] = is_line ? 1 : sine;
    }
    return true;
  }

  void EndLengths() {
    const float least = RoundTo(type_, 1e-7f);
    for (std::vector<float>& lengths : lengths_) {
      for (float& length : lengths) {
        if (layout_.columns) length = RoundTo(type_, std::sqrt(length));
        if (length < least) length = least;
      }
    }
    lengths_are_known_ = true;
    cosines_.assign(layout_.num_vectors, 0);
    if (layout_.columns) {
      of_columns_.emplace(num_elements() / layout_.stride, layout_.stride, LanesOf(type_));
    } else if (layout_.num_vectors == 1) {
      of_whole_.emplace(num_elements(), LanesOf(type_), 1);
    }
  }

  const WorkingType type_;
  const double t_;
  const Layout layout_;
  bool lengths_are_known_ = false;
  std::optional<TorchNorm> norms_[2];  // of the rows at hand
  std::vector<float> lengths_[2];      // by vector; of columns, their squares before they are known
  std::optional<TorchColumnSums> of_columns_;
  std::optional<TorchSum> of_whole_;
  std::vector<float> row_;  // the products of the row at hand
  std::vector<float> cosines_;
};

std::string Description(const MergekitNuslerp& nuslerp, const Layout& layout) {
  return fmt::format("mergekit nuslerp {} {:016x} {} {}", static_cast<int>(nuslerp.type),
                     std::bit_cast<uint64_t>(nuslerp.t), layout.columns, layout.stride);
}

class NuslerpFact final : public graph::Fact {
 public:
  NuslerpFact(const MergekitNuslerp& nuslerp, const Layout& layout, const std::vector<const graph::Node*>& inputs)
      : Fact(Description(nuslerp, layout), inputs), nuslerp_(nuslerp), layout_(layout) {}
  int max_passes() const override { return InOrderFold::MaxPasses(num_elements(), 2); }
  double expected_passes() const override { return 2; }
  uint64_t StateBytes(int num_workers) const override {
    return NuslerpFold::StateBytes(layout_, num_elements(), num_workers);
  }
  double NanosecondsPerElement() const override { return 2; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override {
    return std::make_unique<NuslerpFold>(nuslerp_, layout_, num_elements(), num_workers);
  }

 private:
  MergekitNuslerp nuslerp_;
  Layout layout_;
};

class NuslerpNode final : public graph::Node {
 public:
  NuslerpNode(const MergekitNuslerp& nuslerp, const Layout& layout, const std::vector<const graph::Node*>& inputs)
      : Node(Description(nuslerp, layout), quant::F32(), inputs[0]->num_elements(), inputs),
        type_(nuslerp.type),
        layout_(layout) {
    AddFact(std::make_unique<NuslerpFact>(nuslerp, layout, inputs));
  }
  void Compute(const graph::ComputeArgs& args) const override {
    const double* factors = args.facts[0]->data();
    const uint64_t n = layout_.num_vectors, step = layout_.columns ? 1 : 0;
    alignas(64) float a[kTileFloats], b[kTileFloats];
    WithType(type_, [&]<WorkingType kType>() {
      for (uint64_t at = args.range.begin; at < args.range.end;) {
        const uint64_t first = at - args.range.begin;
        const uint64_t count = std::min(layout_.RunEnd(at, args.range.end) - at, kTileFloats);
        LoadTile(args.in[0], first, first + count, a);
        LoadTile(args.in[1], first, first + count, b);
        const double* of_vector = factors + layout_.VectorOf(at);
        for (uint64_t i = 0; i < count; ++i) {
          const auto factor = [&](uint64_t which) { return static_cast<float>(of_vector[which * n + i * step]); };
          a[i] = RoundTo<kType>(RoundTo<kType>(RoundTo<kType>(factor(0) * a[i]) + RoundTo<kType>(factor(1) * b[i])) /
                                factor(2));
        }
        StoreTile(a, first, first + count, args.out);
        at += count;
      }
    });
  }
  double NanosecondsPerElement() const override { return 1.5; }

 private:
  WorkingType type_;
  Layout layout_;
};

}  // namespace

const graph::Node* AddMergekitNuslerp(graph::Graph* graph, const MergekitNuslerp& nuslerp, const graph::Node* base,
                                      const graph::Node* first, const graph::Node* second,
                                      std::span<const uint64_t> shape) {
  if (base != nullptr) {
    first = AddMergekitDelta(graph, nuslerp.type, first, base);
    second = AddMergekitDelta(graph, nuslerp.type, second, base);
  }
  const Layout layout = LayoutOf(nuslerp.vectors, shape, first->num_elements());
  const graph::Node* mixed =
      graph->Add(std::make_unique<NuslerpNode>(nuslerp, layout, std::vector<const graph::Node*>{first, second}));
  return base == nullptr ? mixed : AddMergekitSum(graph, nuslerp.type, base, mixed);
}

}  // namespace sluice::arithmetic
