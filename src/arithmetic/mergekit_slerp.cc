#include "arithmetic/mergekit_slerp.h"

#include <bit>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/float_tiles.h"
#include "arithmetic/in_order_fold.h"
#include "arithmetic/ordered_sums.h"
#include "arithmetic/torch_trig.h"

namespace sluice::arithmetic {
namespace {

// The factors of the base and of x, and what went into them.
class SlerpFold final : public InOrderFold {
 public:
  SlerpFold(double t, uint64_t num_elements, int num_workers)
      : InOrderFold(num_elements, 2, num_workers), t_(t), products_(num_elements) {}

 private:
  uint64_t num_rows() const override { return lengths_are_known_ ? 1 : 2; }

  void Compute(graph::Range piece, std::span<const graph::View> in, float* const* rows) const override {
    alignas(64) float base[kTileFloats], x[kTileFloats];
    for (uint64_t first = 0; first < piece.size(); first += kTileFloats) {
      const uint64_t count = std::min(kTileFloats, piece.size() - first);
      LoadTile(in[0], first, piece.size(), base);
      LoadTile(in[1], first, piece.size(), x);
      if (lengths_are_known_) {
        ForTile(base, [&](uint64_t i) { return base[i] / lengths_[0] * (x[i] / lengths_[1]); });
      } else {
        std::copy_n(x, count, rows[1] + first);
      }
      std::copy_n(base, count, rows[0] + first);
    }
  }

  void Take(uint64_t /*begin*/, uint64_t count, const float* const* rows) override {
    if (lengths_are_known_) {
      products_.Add(rows[0], count);
    } else {
      for (size_t i = 0; i < 2; ++i) squares_[i].Add(rows[i], rows[i], count);
    }
  }

  bool EndStep(graph::FactValue* value) override {
    if (!lengths_are_known_) {
      for (size_t i = 0; i < 2; ++i) {
        const float length = std::sqrt(squares_[i].Finish());
        lengths_[i] = length > 1e-8f ? length : 1;
      }
      lengths_are_known_ = true;
      return false;
    }
    const float cosine = products_.Finish(), t = static_cast<float>(t_);
    if (std::abs(cosine) > 0.9995f) {
      *value = {static_cast<float>(1 - t_), t};
      return true;
    }
    const float angle = NumpyAcos(cosine), sine = NumpySin(angle), part = angle * t;
    *value = {NumpySin(angle - part) / sine, NumpySin(part) / sine};
    return true;
  }

  const double t_;
  bool lengths_are_known_ = false;
  OpenBlasDot squares_[2];
  float lengths_[2] = {};
  NumpySum products_;
};

class SlerpFact final : public graph::Fact {
 public:
  SlerpFact(double t, const graph::Node* base, const graph::Node* x)
      : Fact(fmt::format("mergekit slerp {:016x}", std::bit_cast<uint64_t>(t)), {base, x}), t_(t) {}
  int max_passes() const override { return InOrderFold::MaxPasses(num_elements(), 2); }
  double expected_passes() const override { return 2; }
  uint64_t StateBytes(int num_workers) const override {
    return sizeof(SlerpFold) + InOrderFold::StateBytes(num_elements(), 2, num_workers) + 4096;
  }
  double NanosecondsPerElement() const override { return 1.5; }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override {
    return std::make_unique<SlerpFold>(t_, num_elements(), num_workers);
  }

 private:
  double t_;
};

class SlerpNode final : public graph::Node {
 public:
  SlerpNode(WorkingType type, double t, const graph::Node* base, const graph::Node* x)
      : Node(fmt::format("mergekit slerp {} {:016x}", static_cast<int>(type), std::bit_cast<uint64_t>(t)), quant::F32(),
             base->num_elements(), {base, x}),
        type_(type) {
    AddFact(std::make_unique<SlerpFact>(t, base, x));
  }
  void Compute(const graph::ComputeArgs& args) const override {
    const uint64_t count = args.range.size();
    const auto of_base = static_cast<float>((*args.facts[0])[0]), of_x = static_cast<float>((*args.facts[0])[1]);
    alignas(64) float base[kTileFloats], x[kTileFloats];
    WithType(type_, [&]<WorkingType kType>() {
      for (uint64_t first = 0; first < count; first += kTileFloats) {
        LoadTile(args.in[0], first, count, base);
        LoadTile(args.in[1], first, count, x);
        ForTile(x, [&](uint64_t i) { return RoundTo<kType>(of_base * base[i] + of_x * x[i]); });
        StoreTile(x, first, count, args.out);
      }
    });
  }
  double NanosecondsPerElement() const override { return 0.8; }

 private:
  WorkingType type_;
};

}  // namespace

const graph::Node* AddMergekitSlerp(graph::Graph* graph, WorkingType type, const graph::Node* base,
                                    const graph::Node* x, double t) {
  return graph->Add(std::make_unique<SlerpNode>(type, t, base, x));
}

}  // namespace sluice::arithmetic
