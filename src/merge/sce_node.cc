#include "merge/sce_node.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "base/check.h"
#include "merge/float_views.h"
#include "merge/magnitude_ranks.h"
#include "merge/sparse_masks.h"

namespace sluice::merge {
namespace {

using graph::kBlockElements;

constexpr size_t kLanes = 8;
constexpr uint32_t kKeepsNone = 0x7FFFFFFF;  // above every magnitude's bits

uint64_t Blocks(uint64_t num_elements) { return (num_elements + kBlockElements - 1) / kBlockElements; }

bool IsKept(const MagnitudeRanks::Rank& rank, float variance, uint64_t element) {
  const uint32_t bits = MagnitudeBitsOf(variance, 0);
  return (bits > rank.bits) | ((bits == rank.bits) & (element <= rank.last_tie));
}

// Differences of some elements from the base, and their variances over the models; f64, in the models' order.
class Differences {
 public:
  // values: num_models kCopyElements, of the caller.
  Differences(size_t num_models, double* values) : num_models_(num_models), values_(values) {}

  void Load(std::span<const graph::View> in, uint64_t first, uint64_t count) {
    float x_copy[kCopyElements], base_copy[kCopyElements];
    const float* base = FloatsAt(in[0], first, count, base_copy);
    for (size_t m = 0; m < num_models_; ++m) {
      const float* x = FloatsAt(in[m + 1], first, count, x_copy);
      double* d = &values_[m * kCopyElements];
      ForEachOfPart(count, [&](uint64_t i) { d[i] = static_cast<double>(x[i]) - static_cast<double>(base[i]); });
    }
  }
  const double* of(size_t m) const { return &values_[m * kCopyElements]; }

  void Variances(uint64_t count, float* variances) const {
    const auto n = static_cast<double>(num_models_);
    double mean[kCopyElements] = {}, sum[kCopyElements] = {};
    for (size_t m = 0; m < num_models_; ++m) {
      const double* d = of(m);
      ForEachOfPart(count, [&](uint64_t i) { mean[i] += d[i]; });
    }
    ForEachOfPart(count, [&](uint64_t i) { mean[i] /= n; });  // of equal differences, exactly that: their variance is 0
    for (size_t m = 0; m < num_models_; ++m) {
      const double* d = of(m);
      ForEachOfPart(count, [&](uint64_t i) { sum[i] += (d[i] - mean[i]) * (d[i] - mean[i]); });
    }
    ForEachOfPart(count, [&](uint64_t i) { variances[i] = static_cast<float>(sum[i] / n); });
  }

 private:
  size_t num_models_;
  double* values_;
};

class SceFold final : public graph::Fold {
 public:
  SceFold(uint64_t num_elements, size_t num_models, double select_topk, int num_workers)
      : num_elements_(num_elements), num_models_(num_models), select_topk_(select_topk), num_workers_(num_workers) {
    step_ = select_topk < 1 ? Step::kCount : Step::kWeights;
    for (int i = 0; i < num_workers; ++i) workers_.emplace_back(num_models);
    if (step_ == Step::kWeights) BeginWeights();
  }

  static uint64_t StateBytes(uint64_t num_elements, size_t num_models, int num_workers) {
    const uint64_t worker = sizeof(Worker) + num_models * (kCopyElements + kLanes) * sizeof(double);
    return sizeof(SceFold) + static_cast<uint64_t>(num_workers) * worker +
           std::max(MagnitudeRanks::StateBytes(num_elements, 1, num_workers),
                    Blocks(num_elements) * num_models * sizeof(double)) +
           1024;
  }

  bool Wants(uint64_t block) const override { return step_ == Step::kRank ? ranks_->Wants(block) : true; }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    Worker& state = workers_[static_cast<size_t>(worker)];
    Differences differences(num_models_, state.values.data());
    if (step_ == Step::kWeights && piece.begin % kBlockElements == 0) std::ranges::fill(state.lanes, Lanes{});
    ForAlignedParts(piece.size(), /*aligned=*/false, [&](uint64_t first, uint64_t count) {
      differences.Load(in, first, count);
      float* variances = &state.variances[first];
      if (select_topk_ < 1) differences.Variances(count, variances);
      if (step_ == Step::kCount) {
        num_nonzero_.fetch_add(static_cast<uint64_t>(std::count_if(variances, variances + count, IsNonzero)),
                               std::memory_order_relaxed);
      } else if (step_ == Step::kWeights) {
        AddSquares(&state, differences, piece.begin + first, count, variances);
      }
    });
    if (step_ == Step::kRank) {
      const graph::View views[] = {{reinterpret_cast<const uint8_t*>(state.variances.data()), piece},
                                   {reinterpret_cast<const uint8_t*>(kZeros.data()), piece}};
      ranks_->Add(worker, piece, views);
    } else if (step_ == Step::kWeights && (piece.end % kBlockElements == 0 || piece.end == num_elements_)) {
      for (size_t m = 0; m < num_models_; ++m) {
        double* sum = &squares_[piece.begin / kBlockElements * num_models_ + m];
        for (const double lane : state.lanes[m]) *sum += lane;
      }
    }
  }

  bool Finish(graph::FactValue* value) override {
    switch (step_) {
      case Step::kCount: {
        const auto keep = static_cast<uint64_t>(std::trunc(select_topk_ * static_cast<double>(num_nonzero_.load())));
        if (keep == 0) {
          rank_ = {kKeepsNone, 0};
          BeginWeights();
          return false;
        }
        const uint64_t ks[] = {keep};
        ranks_.emplace(num_elements_, ks, num_workers_);
        step_ = Step::kRank;
        return false;
      }
      case Step::kRank:
        if (!ranks_->Finish()) return false;
        rank_ = ranks_->rank(0);
        ranks_.reset();
        BeginWeights();
        return false;
      case Step::kWeights:
        break;
    }
    *value = {static_cast<double>(rank_.bits), static_cast<double>(rank_.last_tie)};
    AppendWeights(value);
    return true;
  }

 private:
  enum class Step { kCount, kRank, kWeights };
  using Lanes = std::array<double, kLanes>;
  struct Worker {
    explicit Worker(size_t num_models) : values(num_models * kCopyElements), lanes(num_models) {}
    std::vector<double> values;
    std::vector<Lanes> lanes;
    std::array<float, graph::kPieceElements> variances;
  };
  static constexpr std::array<float, graph::kPieceElements> kZeros = {};

  static bool IsNonzero(float variance) { return variance != 0; }

  void BeginWeights() {
    squares_.assign(Blocks(num_elements_) * num_models_, 0);
    step_ = Step::kWeights;
  }

  static double Square(double d, bool kept) {
    const double choice[2] = {0, d * d};  // looked up, for a branch would be mispredicted
    return choice[kept];
  }

  // `element` is a multiple of kLanes: parts are cut at multiples of 32.
  void AddSquares(Worker* state, const Differences& differences, uint64_t element, uint64_t count,
                  const float* variances) {
    bool kept[kCopyElements];
    for (uint64_t i = 0; i < count; ++i) kept[i] = select_topk_ >= 1 || IsKept(rank_, variances[i], element + i);
    for (size_t m = 0; m < num_models_; ++m) {
      const double* d = differences.of(m);
      Lanes lanes = state->lanes[m];
      uint64_t i = 0;
      for (; i + kLanes <= count; i += kLanes) {
        for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += Square(d[i + lane], kept[i + lane]);
      }
      for (; i < count; ++i) lanes[i % kLanes] += Square(d[i], kept[i]);
      state->lanes[m] = lanes;
    }
  }

  void AppendWeights(graph::FactValue* value) const {
    std::vector<double> means(num_models_);
    double sum = 0;
    for (size_t m = 0; m < num_models_; ++m) {
      for (uint64_t block = 0; block < Blocks(num_elements_); ++block) means[m] += squares_[block * num_models_ + m];
      if (num_elements_ > 0) means[m] /= static_cast<double>(num_elements_);
      sum += means[m];
    }
    for (const double mean : means) {
      value->push_back(std::abs(sum) < 1e-6 ? 1 / static_cast<double>(num_models_) : mean / sum);
    }
  }

  const uint64_t num_elements_;
  const size_t num_models_;
  const double select_topk_;
  const int num_workers_;
  Step step_;
  std::vector<Worker> workers_;
  std::atomic<uint64_t> num_nonzero_{0};
  std::optional<MagnitudeRanks> ranks_;
  MagnitudeRanks::Rank rank_ = {0, 0};
  std::vector<double> squares_;  // [blocks, models]
};

}  // namespace

SceFact::SceFact(std::vector<const graph::Node*> inputs, double select_topk)
    : Fact(fmt::format("sce {:016x}", std::bit_cast<uint64_t>(select_topk)), std::move(inputs)),
      select_topk_(select_topk) {
  SLUICE_CHECK(select_topk > 0);
}

int SceFact::max_passes() const { return select_topk_ < 1 ? MagnitudeRanks::MaxPasses(num_elements()) + 2 : 1; }
double SceFact::expected_passes() const {
  return select_topk_ < 1 ? MagnitudeRanks::ExpectedPasses(num_elements()) + 2 : 1;
}
uint64_t SceFact::StateBytes(int num_workers) const {
  return SceFold::StateBytes(num_elements(), inputs().size() - 1, num_workers);
}
std::unique_ptr<graph::Fold> SceFact::Begin(int num_workers) const {
  return std::make_unique<SceFold>(num_elements(), inputs().size() - 1, select_topk_, num_workers);
}

SceNode::SceNode(const std::vector<const graph::Node*>& inputs, double select_topk)
    : Node(fmt::format("sce {:016x}", std::bit_cast<uint64_t>(select_topk)), quant::F32(), inputs[0]->num_elements(),
           inputs),
      selects_(select_topk < 1) {
  AddFact(std::make_unique<SceFact>(inputs, select_topk));
}

uint64_t SceNode::ScratchBytes() const { return (inputs().size() - 1) * kCopyElements * sizeof(double); }

void SceNode::Compute(const graph::ComputeArgs& args) const {
  const graph::FactValue& fact = *args.facts[0];
  const size_t num_models = inputs().size() - 1;
  const MagnitudeRanks::Rank rank = {static_cast<uint32_t>(fact[0]), static_cast<uint64_t>(fact[1])};
  const double* weights = fact.data() + 2;
  Differences differences(num_models, reinterpret_cast<double*>(args.scratch));
  float base_copy[kCopyElements], variances[kCopyElements], out[kCopyElements];
  ForAlignedParts(args.range.size(), /*aligned=*/false, [&](uint64_t first, uint64_t count) {
    differences.Load(args.in, first, count);
    if (selects_) differences.Variances(count, variances);
    const float* base = FloatsAt(args.in[0], first, count, base_copy);
    double vote[kCopyElements] = {}, mixed[kCopyElements] = {}, divisor[kCopyElements] = {};
    for (size_t m = 0; m < num_models; ++m) {
      const double* d = differences.of(m);
      ForEachOfPart(count, [&](uint64_t i) { vote[i] += d[i]; });
    }
    for (size_t m = 0; m < num_models; ++m) {
      const double *d = differences.of(m), agrees = weights[m], none = 0 * weights[m];  // a NaN stays one
      ForEachOfPart(count, [&](uint64_t i) {
        const double towards = vote[i] >= 0 ? d[i] : -d[i];
        const double weight = towards > 0 ? agrees : none;
        mixed[i] += weight * d[i];
        divisor[i] += weight;
      });
    }
    ForEachOfPart(count, [&](uint64_t i) {
      const double merged = static_cast<double>(base[i]) + mixed[i] / (divisor[i] < 1e-6 ? 1e-6 : divisor[i]);
      out[i] = static_cast<float>(merged);
    });
    for (uint64_t i = 0; i < count; ++i) {
      if (std::isnan(out[i])) out[i] = std::bit_cast<float>(0x7FC00000u);
      if (selects_ && !IsKept(rank, variances[i], args.range.begin + first + i)) out[i] = base[i];
    }
    std::memcpy(args.out + first * sizeof(float), out, count * sizeof(float));
  });
}

}  // namespace sluice::merge
