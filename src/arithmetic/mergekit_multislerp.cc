#include "arithmetic/mergekit_multislerp.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/float_tiles.h"
#include "arithmetic/in_order_fold.h"
#include "arithmetic/mergekit_nodes.h"
#include "arithmetic/ordered_sums.h"
#include "arithmetic/torch_sum.h"
#include "arithmetic/torch_trig.h"

namespace sluice::arithmetic {
namespace {

static_assert(kColumns == kTileFloats);

// What is known of whole tensors, in the order in which it is found.
struct Scalars {
  std::vector<float> lengths;  // |x_m|
  float mean_length = 0;       // of sum_m w_m u_m
  std::vector<float> cosines;  // of each unit vector and the mean
  float tangent_length = 0;

  graph::FactValue ToValue() const {
    graph::FactValue value(lengths.begin(), lengths.end());
    value.push_back(mean_length);
    value.insert(value.end(), cosines.begin(), cosines.end());
    value.push_back(tangent_length);
    return value;
  }
  static Scalars FromValue(const graph::FactValue& value) {
    const size_t k = value.size() / 2 - 1;
    Scalars scalars;
    for (size_t m = 0; m < k; ++m) {
      scalars.lengths.push_back(static_cast<float>(value[m]));
      scalars.cosines.push_back(static_cast<float>(value[k + 1 + m]));
    }
    scalars.mean_length = static_cast<float>(value[k]);
    scalars.tangent_length = static_cast<float>(value.back());
    return scalars;
  }
};

// One tile of what comes of the models' numbers, each step rounded to the type.
class Tile {
 public:
  Tile(const MergekitMultislerp& multislerp, uint64_t num_elements)
      : settings_(multislerp),
        num_elements_(num_elements),
        x_(multislerp.weights.size() * kTileFloats),
        products_(x_.size()),
        eps_(RoundTo(multislerp.type, static_cast<float>(multislerp.eps))) {
    for (size_t m = 0; m < num_models(); ++m) rows_.push_back(&products_[m * kTileFloats]);
  }
  size_t num_models() const { return settings_.weights.size(); }
  float* x(size_t m) { return &x_[m * kTileFloats]; }
  const float* mean() const { return mean_; }
  bool IsNothing(float mean_length) const { return mean_length < eps_; }
  float Added(float length) const { return RoundTo(settings_.type, length + eps_); }

  // x: the unit vectors; mean: their weighted sum. `column`: the tile's first.
  template <WorkingType kType>
  void MakeMean(const Scalars& scalars, uint64_t column) {
    for (size_t m = 0; m < num_models(); ++m) {
      float* const values = x(m);
      ForTile(values,
              [&, length = Added(scalars.lengths[m])](uint64_t i) { return RoundTo<kType>(values[i] / length); });
    }
    SumWeighted<kType>(column, mean_);
  }
  template <WorkingType kType>
  void MakeMeanLong(const Scalars& scalars) {  // one long
    ForTile(mean_, [&, length = scalars.mean_length](uint64_t i) { return RoundTo<kType>(mean_[i] / length); });
  }
  template <WorkingType kType>
  void MakeTangent(const Scalars& scalars, uint64_t column, float* tangent) {
    for (size_t m = 0; m < num_models(); ++m) {
      float* const values = x(m);
      ForTile(values, [&, cosine = scalars.cosines[m]](uint64_t i) {
        return RoundTo<kType>(values[i] - RoundTo<kType>(cosine * mean_[i]));
      });
    }
    SumWeighted<kType>(column, tangent);
  }
  template <WorkingType kType>
  void SumWeighted(uint64_t column, float* sum) {
    for (size_t m = 0; m < num_models(); ++m) {
      const float* const values = x(m);
      ForTile(&products_[m * kTileFloats],
              [&, weight = settings_.weights[m]](uint64_t i) { return RoundTo<kType>(values[i] * weight); });
    }
    SumOverModels(rows_, column, num_elements_, LanesOf(kType), sum);
    ForTile(sum, [&](uint64_t i) { return RoundTo<kType>(sum[i]); });
  }

 private:
  const MergekitMultislerp& settings_;
  const uint64_t num_elements_;
  std::vector<float> x_, products_;  // [model, column]
  std::vector<const float*> rows_;
  const float eps_;
  alignas(64) float mean_[kTileFloats];
};

class MultislerpFold final : public InOrderFold {
 public:
  MultislerpFold(const MergekitMultislerp& multislerp, uint64_t num_elements, int num_workers)
      : InOrderFold(num_elements, multislerp.weights.size(), num_workers), settings_(multislerp) {
    norms_.assign(multislerp.weights.size(), TorchNorm(multislerp.type));
  }

 private:
  enum class Step { kLengths, kMean, kCosines, kTangent };

  uint64_t num_rows() const override {
    return step_ == Step::kLengths || step_ == Step::kCosines ? settings_.weights.size() : 1;
  }

  void Compute(graph::Range piece, std::span<const graph::View> in, float* const* rows) const override {
    if (step_ == Step::kLengths) {
      for (size_t m = 0; m < in.size(); ++m) std::memcpy(rows[m], in[m].data, piece.size() * sizeof(float));
      return;
    }
    Tile tile(settings_, num_elements());
    alignas(64) float out[kTileFloats];
    WithType(settings_.type, [&]<WorkingType kType>() {
      for (uint64_t first = 0; first < piece.size(); first += kTileFloats) {
        const uint64_t count = std::min(kTileFloats, piece.size() - first), column = piece.begin + first;
        for (size_t m = 0; m < in.size(); ++m) LoadTile(in[m], first, piece.size(), tile.x(m));
        tile.MakeMean<kType>(scalars_, column);
        if (step_ == Step::kMean) {
          std::copy_n(tile.mean(), count, rows[0] + first);
          continue;
        }
        tile.MakeMeanLong<kType>(scalars_);
        if (step_ == Step::kCosines) {
          for (size_t m = 0; m < in.size(); ++m) {
            ForTile(out, [&](uint64_t i) { return RoundTo<kType>(tile.x(m)[i] * tile.mean()[i]); });
            std::copy_n(out, count, rows[m] + first);
          }
          continue;
        }
        tile.MakeTangent<kType>(scalars_, column, out);
        std::copy_n(out, count, rows[0] + first);
      }
    });
  }

  void Take(uint64_t begin, uint64_t count, const float* const* rows) override {
    if (step_ == Step::kCosines) {
      for (size_t m = 0; m < sums_.size(); ++m) sums_[m].Add(0, begin, rows[m], count);
    } else {
      for (size_t m = 0; m < norms_.size(); ++m) norms_[m].Add(rows[m], count);
    }
  }

  bool EndStep(graph::FactValue* value) override {
    const size_t k = settings_.weights.size();
    switch (step_) {
      case Step::kLengths:
        for (const TorchNorm& norm : norms_) scalars_.lengths.push_back(norm.Finish());
        step_ = Step::kMean;
        break;
      case Step::kMean:
        scalars_.mean_length = norms_[0].Finish();
        scalars_.cosines.assign(k, 0);
        if (Tile(settings_, num_elements()).IsNothing(scalars_.mean_length)) {
          *value = scalars_.ToValue();
          return true;
        }
        for (size_t m = 0; m < k; ++m) sums_.emplace_back(num_elements(), LanesOf(settings_.type), 1);
        step_ = Step::kCosines;
        break;
      case Step::kCosines:
        for (size_t m = 0; m < k; ++m) scalars_.cosines[m] = RoundTo(settings_.type, sums_[m].Finish());
        step_ = Step::kTangent;
        break;
      case Step::kTangent:
        scalars_.tangent_length = norms_[0].Finish();
        *value = scalars_.ToValue();
        return true;
    }
    norms_.assign(1, TorchNorm(settings_.type));
    return false;
  }

  const MergekitMultislerp settings_;
  Step step_ = Step::kLengths;
  Scalars scalars_;
  std::vector<TorchNorm> norms_;
  std::vector<TorchSum> sums_;
};

std::string Description(const MergekitMultislerp& multislerp) {
  std::string text = fmt::format("mergekit multislerp {} {:016x}", static_cast<int>(multislerp.type),
                                 std::bit_cast<uint64_t>(multislerp.eps));
  for (const float weight : multislerp.weights) text += fmt::format(" {:08x}", std::bit_cast<uint32_t>(weight));
  return text;
}

class MultislerpFact final : public graph::Fact {
 public:
  MultislerpFact(const MergekitMultislerp& multislerp, const std::vector<const graph::Node*>& x)
      : Fact(Description(multislerp), x), settings_(multislerp) {}
  int max_passes() const override { return InOrderFold::MaxPasses(num_elements(), 4); }
  double expected_passes() const override { return 4; }
  uint64_t StateBytes(int num_workers) const override {
    const uint64_t k = inputs().size();
    return sizeof(MultislerpFold) + InOrderFold::StateBytes(num_elements(), k, num_workers) +
           k * (TorchSum::StateBytes(num_elements(), LanesOf(settings_.type), 1) + sizeof(TorchNorm) + 64);
  }
  double NanosecondsPerElement() const override { return 2 * static_cast<double>(inputs().size()); }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override {
    return std::make_unique<MultislerpFold>(settings_, num_elements(), num_workers);
  }

 private:
  MergekitMultislerp settings_;
};

class MultislerpNode final : public graph::Node {
 public:
  MultislerpNode(const MergekitMultislerp& multislerp, const std::vector<const graph::Node*>& x)
      : Node(Description(multislerp), quant::F32(), x[0]->num_elements(), x), settings_(multislerp) {
    AddFact(std::make_unique<MultislerpFact>(multislerp, x));
  }
  void Compute(const graph::ComputeArgs& args) const override {
    WithType(settings_.type, [&]<WorkingType kType>() { ComputeAs<kType>(args); });
  }
  double NanosecondsPerElement() const override { return 3 * static_cast<double>(inputs().size()); }

 private:
  template <WorkingType kType>
  void ComputeAs(const graph::ComputeArgs& args) const {
    constexpr auto kRound = RoundTo<kType>;
    const Scalars scalars = Scalars::FromValue(*args.facts[0]);
    Tile tile(settings_, num_elements());
    const bool is_nothing = tile.IsNothing(scalars.mean_length);
    const float angle = tile.Added(scalars.tangent_length);
    const float cosine = TorchCos(kType, angle), sine = kRound(TorchSin(kType, angle) / angle);
    std::vector<float> products;
    for (size_t m = 0; m < tile.num_models(); ++m) {
      products.push_back(kRound(scalars.lengths[m] * settings_.weights[m]));
    }
    const float length = kRound(TorchSumOf(products, LanesOf(kType)));
    alignas(64) float out[kTileFloats];
    for (uint64_t first = 0; first < args.range.size(); first += kTileFloats) {
      const uint64_t column = args.range.begin + first;
      for (size_t m = 0; m < args.in.size(); ++m) LoadTile(args.in[m], first, args.range.size(), tile.x(m));
      if (is_nothing) {
        tile.SumWeighted<kType>(column, out);
      } else {
        tile.MakeMean<kType>(scalars, column);
        tile.MakeMeanLong<kType>(scalars);
        tile.MakeTangent<kType>(scalars, column, out);
        const float* mean = tile.mean();
        ForTile(out,
                [&](uint64_t i) { return kRound(kRound(kRound(mean[i] * cosine) + kRound(out[i] * sine)) * length); });
      }
      StoreTile(out, first, args.range.size(), args.out);
    }
  }

  MergekitMultislerp settings_;
};

}  // namespace

const graph::Node* AddMergekitMultislerp(graph::Graph* graph, const MergekitMultislerp& multislerp,
                                         const graph::Node* base, const std::vector<const graph::Node*>& x) {
  const WorkingType type = multislerp.type;
  MergekitMultislerp rounded = multislerp;
  for (float& weight : rounded.weights) weight = RoundTo(type, weight);
  if (rounded.normalize) {
    const float sum = RoundTo(type, TorchSumOf(rounded.weights, LanesOf(type)));
    for (float& weight : rounded.weights) weight = RoundTo(type, weight / sum);
  }
  std::vector<const graph::Node*> inputs = x;
  if (base != nullptr) {
    for (const graph::Node*& input : inputs) input = AddMergekitDelta(graph, type, input, base);
  }
  const graph::Node* mixed = graph->Add(std::make_unique<MultislerpNode>(rounded, inputs));
  return base == nullptr ? mixed : AddMergekitSum(graph, type, base, mixed);
}

}  // namespace sluice::arithmetic
