#include "arithmetic/mergekit_model_stock.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/float_tiles.h"
#include "arithmetic/mergekit_nodes.h"
#include "arithmetic/ordered_sums.h"
#include "arithmetic/torch_sum.h"
#include "arithmetic/whole_rows.h"
#include "base/check.h"
#include "base/units.h"

namespace sluice::arithmetic {
namespace {

using graph::kBlockElements;

constexpr uint64_t kWindowBytes = uint64_t{32} << 20;
constexpr uint64_t kMeanLanes = 8;  // torch takes the mean of halves, too, in f32

uint64_t Pairs(uint64_t models) { return models * (models - 1) / 2; }

// As torch's clamp, which lets NaN through.
float Clamp(float value, float low, float high) { return value < low ? low : value > high ? high : value; }

float Cosine(WorkingType type, float product, float norm_i, float norm_j) {
  const float least = RoundTo(type, 1e-6f), lengths = RoundTo(type, norm_i * norm_j);
  return Clamp(RoundTo(type, RoundTo(type, product) / (lengths < least ? least : lengths)), -1, 1);
}

float Towards(WorkingType type, uint64_t models, uint64_t pairs, float sum_of_cosines) {
  const auto count = static_cast<float>(models);
  const float cosine = RoundTo(type, sum_of_cosines / static_cast<float>(pairs));
  const float divisor = RoundTo(type, 1 + RoundTo(type, (count - 1) * cosine));
  return RoundTo(type, RoundTo(type, count * cosine) / divisor);
}

// Products of two models' deltas, rounded, of up to kTileFloats elements.
void Multiply(WorkingType type, const float* a, const float* b, float* products) {
  WithType(type,
           [&]<WorkingType kType>() { ForTile(products, [&](uint64_t i) { return RoundTo<kType>(a[i] * b[i]); }); });
}

class WholeFold final : public graph::Fold {
 public:
  WholeFold(WorkingType type, uint64_t num_elements, size_t num_models, int num_workers)
      : type_(type),
        num_elements_(num_elements),
        num_models_(num_models),
        window_blocks_(WindowBlocks(num_models)),
        norms_(num_models, TorchNorm(type)),
        window_(num_models * WindowElements(num_elements, num_models)) {
    for (uint64_t pair = 0; pair < Pairs(num_models); ++pair) {
      products_.push_back(std::make_unique<TorchSum>(num_elements, LanesOf(type), num_workers));
    }
  }

  static uint64_t WindowBlocks(size_t num_models) {
    return std::max<uint64_t>(1, kWindowBytes / (num_models * kBlockElements * sizeof(float)));
  }
  static uint64_t WindowElements(uint64_t num_elements, size_t num_models) {
    return std::min(num_elements, WindowBlocks(num_models) * kBlockElements);
  }
  static uint64_t StateBytes(WorkingType type, uint64_t num_elements, size_t num_models, int num_workers) {
    return sizeof(WholeFold) + num_models * (sizeof(TorchNorm) + WindowElements(num_elements, num_models) * 4) +
           Pairs(num_models) * TorchSum::StateBytes(num_elements, LanesOf(type), num_workers) + 1024;
  }

  bool Wants(uint64_t block) const override { return block / window_blocks_ == window_index_; }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    const uint64_t capacity = window_.size() / num_models_;
    const uint64_t place = piece.begin - window_index_ * window_blocks_ * kBlockElements;
    for (size_t m = 0; m < num_models_; ++m) {
      std::memcpy(&window_[m * capacity + place], in[m].data, piece.size() * sizeof(float));
    }
    alignas(64) float a[kTileFloats], b[kTileFloats], products[kTileFloats];
    for (uint64_t first = 0; first < piece.size(); first += kTileFloats) {
      size_t pair = 0;
      for (size_t i = 0; i < num_models_; ++i) {
        LoadTile(in[i], first, piece.size(), a);
        for (size_t j = i + 1; j < num_models_; ++j) {
          LoadTile(in[j], first, piece.size(), b);
          Multiply(type_, a, b, products);
          products_[pair++]->Add(worker, piece.begin + first, products, std::min(kTileFloats, piece.size() - first));
        }
      }
    }
  }

  bool Finish(graph::FactValue* value) override {
    const uint64_t begin = window_index_ * window_blocks_ * kBlockElements, capacity = window_.size() / num_models_;
    const uint64_t count = std::min(num_elements_ - begin, capacity);
    for (size_t m = 0; m < num_models_; ++m) norms_[m].Add(&window_[m * capacity], count);
    ++window_index_;
    if (begin + count < num_elements_) return false;
    std::vector<float> norms, cosines;
    for (const TorchNorm& norm : norms_) norms.push_back(norm.Finish());
    for (size_t i = 0; i < num_models_; ++i) {
      for (size_t j = i + 1; j < num_models_; ++j) {
        cosines.push_back(Cosine(type_, products_[cosines.size()]->Finish(), norms[i], norms[j]));
      }
    }
    *value = {Towards(type_, num_models_, cosines.size(), TorchSumOf(cosines, kMeanLanes))};
    return true;
  }

 private:
  const WorkingType type_;
  const uint64_t num_elements_;
  const size_t num_models_;
  const uint64_t window_blocks_;
  uint64_t window_index_ = 0;
  std::vector<TorchNorm> norms_;
  std::vector<std::unique_ptr<TorchSum>> products_;  // by pair
  std::vector<float> window_;                        // [models, elements]
};

class RowsFold final : public graph::Fold {
 public:
  RowsFold(WorkingType type, uint64_t num_elements, uint64_t columns, size_t num_models, int num_workers)
      : type_(type),
        columns_(columns),
        num_rows_(columns == 0 ? 0 : num_elements / columns),
        num_models_(num_models),
        rows_(num_elements, columns, num_models, num_workers),
        cosines_(Pairs(num_models) * RoundUp(num_rows_, kColumns)) {}

  static uint64_t StateBytes(uint64_t num_elements, uint64_t columns, size_t num_models, int num_workers) {
    const uint64_t num_rows = columns == 0 ? 0 : num_elements / columns;
    return sizeof(RowsFold) + WholeRows::StateBytes(num_elements, columns, num_models, num_workers) +
           Pairs(num_models) * RoundUp(num_rows, kColumns) * sizeof(float) + num_rows * sizeof(double) +
           static_cast<uint64_t>(num_workers) *
               (RoundUp(columns, kTileFloats) * sizeof(float) + TorchSum::StateBytes(columns, kMeanLanes, 1)) +
           1024;
  }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    rows_.Add(worker, piece, in, [&](uint64_t row, std::span<const float* const> deltas) { AddRow(row, deltas); });
  }

  bool Finish(graph::FactValue* value) override {
    const uint64_t stride = RoundUp(num_rows_, kColumns);
    std::vector<const float*> tiles(Pairs(num_models_));
    value->assign(num_rows_, 0);
    alignas(64) float sums[kColumns];
    for (uint64_t first = 0; first < num_rows_; first += kColumns) {
      for (size_t pair = 0; pair < tiles.size(); ++pair) tiles[pair] = &cosines_[pair * stride + first];
      SumOverModels(tiles, first, num_rows_, kMeanLanes, sums);
      for (uint64_t i = 0; i < std::min(kColumns, num_rows_ - first); ++i) {
        (*value)[first + i] = Towards(type_, num_models_, tiles.size(), sums[i]);
      }
    }
    return true;
  }

 private:
  void AddRow(uint64_t row, std::span<const float* const> deltas) {
    const uint64_t stride = RoundUp(num_rows_, kColumns);
    std::vector<float> norms, products(columns_);
    for (const float* delta : deltas) norms.push_back(TorchNormOf(type_, {delta, columns_}));
    size_t pair = 0;
    for (size_t i = 0; i < num_models_; ++i) {
      for (size_t j = i + 1; j < num_models_; ++j) {
        WithType(type_, [&]<WorkingType kType>() {
          for (uint64_t e = 0; e < columns_; ++e) products[e] = RoundTo<kType>(deltas[i][e] * deltas[j][e]);
        });
        const float product = TorchSumOf(products, LanesOf(type_));
        cosines_[pair++ * stride + row] = Cosine(type_, product, norms[i], norms[j]);
      }
    }
  }

  const WorkingType type_;
  const uint64_t columns_, num_rows_;
  const size_t num_models_;
  WholeRows rows_;
  std::vector<float> cosines_;  // [pairs, rows]
};

class ModelStockNode final : public graph::Node {
 public:
  ModelStockNode(WorkingType type, const Vectors& vectors, const std::vector<const graph::Node*>& inputs,
                 const std::vector<const graph::Node*>& deltas)
      : Node(fmt::format("mergekit model_stock {} {} {}", static_cast<int>(type), static_cast<int>(vectors.kind),
                         vectors.columns),
             quant::F32(), inputs[0]->num_elements(), inputs),
        type_(type),
        vectors_(vectors) {
    AddFact(std::make_unique<StockFact>(type, vectors, deltas));
  }

  void Compute(const graph::ComputeArgs& args) const override {
    WithType(type_, [&]<WorkingType kType>() { ComputeAs<kType>(args); });
  }
  double NanosecondsPerElement() const override { return 1 + 0.6 * static_cast<double>(inputs().size()); }

 private:
  template <WorkingType kType>
  void ComputeAs(const graph::ComputeArgs& args) const {
    constexpr auto kRound = RoundTo<kType>;
    const uint64_t count = args.range.size();
    const auto num_models = static_cast<float>(args.in.size() - 1);
    alignas(64) float base[kTileFloats], x[kTileFloats], mean[kTileFloats], towards[kTileFloats];
    for (uint64_t first = 0; first < count; first += kTileFloats) {
      // Python's sum begins at 0, which makes 0 of -0.
      std::fill_n(mean, kTileFloats, 0.0f);
      for (size_t m = 1; m < args.in.size(); ++m) {
        LoadTile(args.in[m], first, count, x);
        ForTile(mean, [&](uint64_t i) { return kRound(mean[i] + x[i]); });
      }
      ForTile(mean, [&](uint64_t i) { return kRound(mean[i] / num_models); });
      LoadTile(args.in[0], first, count, base);
      FindTowards(*args.facts[0], args.range.begin + first, std::min(kTileFloats, count - first), towards);
      ForTile(mean, [&](uint64_t i) {
        return kRound(kRound(towards[i] * mean[i]) + kRound(kRound(1 - towards[i]) * base[i]));
      });
      StoreTile(mean, first, count, args.out);
    }
  }

  void FindTowards(const graph::FactValue& fact, uint64_t begin, uint64_t count, float* towards) const {
    if (vectors_.kind == Vectors::Kind::kWhole) {
      std::fill_n(towards, kTileFloats, static_cast<float>(fact[0]));
      return;
    }
    std::fill_n(towards, kTileFloats, 0.0f);
    for (uint64_t i = 0; i < count;) {
      const uint64_t row = (begin + i) / vectors_.columns;
      const uint64_t end = std::min(count, (row + 1) * vectors_.columns - begin);
      std::fill(towards + i, towards + end, static_cast<float>(fact[row]));
      i = end;
    }
  }

  const WorkingType type_;
  const Vectors vectors_;
};

}  // namespace

StockFact::StockFact(WorkingType type, const Vectors& vectors, std::vector<const graph::Node*> deltas)
    : Fact(fmt::format("mergekit stock {} {} {}", static_cast<int>(type), static_cast<int>(vectors.kind),
                       vectors.columns),
           std::move(deltas)),
      type_(type),
      vectors_(vectors) {
  SLUICE_CHECK(vectors.kind != Vectors::Kind::kColumns && inputs().size() >= 2);
}

int StockFact::max_passes() const {
  if (vectors_.kind == Vectors::Kind::kRows) return 1;
  const uint64_t window = WholeFold::WindowBlocks(inputs().size()) * kBlockElements;
  return static_cast<int>(std::max<uint64_t>(1, CeilDiv(num_elements(), window)));
}

uint64_t StockFact::StateBytes(int num_workers) const {
  if (vectors_.kind == Vectors::Kind::kWhole) {
    return WholeFold::StateBytes(type_, num_elements(), inputs().size(), num_workers);
  }
  return RowsFold::StateBytes(num_elements(), vectors_.columns, inputs().size(), num_workers);
}

double StockFact::NanosecondsPerElement() const {
  const double models = static_cast<double>(inputs().size());
  return 0.4 * models + 0.6 * static_cast<double>(Pairs(inputs().size()));
}

std::unique_ptr<graph::Fold> StockFact::Begin(int num_workers) const {
  if (vectors_.kind == Vectors::Kind::kWhole) {
    return std::make_unique<WholeFold>(type_, num_elements(), inputs().size(), num_workers);
  }
  return std::make_unique<RowsFold>(type_, num_elements(), vectors_.columns, inputs().size(), num_workers);
}

const graph::Node* AddMergekitModelStock(graph::Graph* graph, WorkingType type, const Vectors& vectors,
                                         const graph::Node* base, const std::vector<const graph::Node*>& x) {
  std::vector<const graph::Node*> inputs = {base}, deltas;
  for (const graph::Node* node : x) {
    inputs.push_back(node);
    deltas.push_back(AddMergekitDelta(graph, type, node, base));
  }
  return graph->Add(std::make_unique<ModelStockNode>(type, vectors, inputs, deltas));
}

}  // namespace sluice::arithmetic
