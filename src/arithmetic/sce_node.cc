#include "arithmetic/sce_node.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "arithmetic/float_views.h"
#include "arithmetic/magnitude_ranks.h"
#include "base/check.h"
#include "kernels/mask_words.h"
#include "kernels/sce_sums.h"

namespace sluice::arithmetic {
namespace {

using graph::kBlockElements;

constexpr size_t kLanes = kernels::kSquareLanes;
constexpr uint32_t kKeepsNone = 0x7FFFFFFF;  // above every magnitude's bits

uint64_t Blocks(uint64_t num_elements) { return (num_elements + kBlockElements - 1) / kBlockElements; }

constexpr std::array<float, graph::kPieceElements> kZeros = {};

// Bits of kernels/sce_sums.h: set for the positions up to `rank`.
void KeptBits(const MagnitudeRanks::Rank& rank, uint64_t first_element, uint64_t count, const float* variances,
              uint32_t* bits) {
  kernels::BandMaskBits(nullptr, &rank, first_element, count, variances, kZeros.data(), bits);
}

// Arrays of some elements of the base and the models.
class Arrays {
 public:
  // copies: num_inputs kCopyElements; arrays: num_inputs. Both are the caller's.
  Arrays(size_t num_inputs, float* copies, const float** arrays)
      : num_inputs_(num_inputs), copies_(copies), arrays_(arrays) {}

  void Load(std::span<const graph::View> in, uint64_t first, uint64_t count) {
    for (size_t i = 0; i < num_inputs_; ++i) arrays_[i] = FloatsAt(in[i], first, count, copies_ + i * kCopyElements);
  }
  const float* base() const { return arrays_[0]; }
  std::span<const float* const> x() const { return {arrays_ + 1, num_inputs_ - 1}; }

 private:
  size_t num_inputs_;
  float* copies_;
  const float** arrays_;
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
    const uint64_t worker = sizeof(Worker) + (num_models + 1) * (kCopyElements * sizeof(float) + sizeof(void*)) +
                            num_models * kLanes * sizeof(double);
    return sizeof(SceFold) + static_cast<uint64_t>(num_workers) * worker +
           std::max(MagnitudeRanks::StateBytes(num_elements, 1, num_workers),
                    Blocks(num_elements) * num_models * sizeof(double)) +
           1024;
  }

  bool Wants(uint64_t block) const override { return step_ == Step::kRank ? ranks_->Wants(block) : true; }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    Worker& state = workers_[static_cast<size_t>(worker)];
    Arrays arrays(num_models_ + 1, state.copies.data(), state.arrays.data());
    if (step_ == Step::kWeights && piece.begin % kBlockElements == 0) std::ranges::fill(state.lanes, 0.0);
    ForAlignedParts(piece.size(), AreFloatAligned(in), [&](uint64_t first, uint64_t count) {
      arrays.Load(in, first, count);
      float* variances = &state.variances[first];
      if (select_topk_ < 1) kernels::Variances(arrays.base(), arrays.x(), count, variances);
      if (step_ == Step::kCount) {
        num_nonzero_.fetch_add(static_cast<uint64_t>(std::count_if(variances, variances + count, IsNonzero)),
                               std::memory_order_relaxed);
      } else if (step_ == Step::kWeights) {
        const uint32_t* bits = nullptr;
        if (select_topk_ < 1) {
          KeptBits(rank_, piece.begin + first, count, variances, state.bits.data());
          bits = state.bits.data();
        }
        kernels::AddSquares(arrays.base(), arrays.x(), bits, count, state.lanes.data());
      }
    });
    if (step_ == Step::kRank) {
      const graph::View views[] = {{reinterpret_cast<const uint8_t*>(state.variances.data()), piece},
                                   {reinterpret_cast<const uint8_t*>(kZeros.data()), piece}};
      ranks_->Add(worker, piece, views);
    } else if (step_ == Step::kWeights && (piece.end % kBlockElements == 0 || piece.end == num_elements_)) {
      for (size_t m = 0; m < num_models_; ++m) {
        double* sum = &squares_[piece.begin / kBlockElements * num_models_ + m];
        for (size_t lane = 0; lane < kLanes; ++lane) *sum += state.lanes[m * kLanes + lane];
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
  struct Worker {
    explicit Worker(size_t num_models)
        : copies((num_models + 1) * kCopyElements), arrays(num_models + 1), lanes(num_models * kLanes) {}
    std::vector<float> copies;  // of what is out of place
    std::vector<const float*> arrays;
    std::vector<double> lanes;  // [models, kLanes]: squares of the block at hand
    std::array<float, graph::kPieceElements> variances;
    std::array<uint32_t, graph::kPieceElements / 32> bits;
  };

  static bool IsNonzero(float variance) { return variance != 0; }

  void BeginWeights() {
    squares_.assign(Blocks(num_elements_) * num_models_, 0);
    step_ = Step::kWeights;
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

// Copies of the inputs and of the result, pointers to arrays, variances, bits.
uint64_t SceNode::ScratchBytes() const {
  return inputs().size() * sizeof(void*) + (inputs().size() + 3) * kCopyElements * sizeof(float);
}

void SceNode::Compute(const graph::ComputeArgs& args) const {
  const graph::FactValue& fact = *args.facts[0];
  const MagnitudeRanks::Rank rank = {static_cast<uint32_t>(fact[0]), static_cast<uint64_t>(fact[1])};
  const double* weights = fact.data() + 2;
  auto* const pointers = reinterpret_cast<const float**>(args.scratch);
  auto* const copies = reinterpret_cast<float*>(pointers + inputs().size());
  float* const out_copy = copies + inputs().size() * kCopyElements;
  float* const variances = out_copy + kCopyElements;
  auto* const bits = reinterpret_cast<uint32_t*>(variances + kCopyElements);
  Arrays arrays(inputs().size(), copies, pointers);
  const bool out_aligned = IsFloatAligned(args.out);
  const bool whole = out_aligned && AreFloatAligned(args.in) && !selects_;
  ForAlignedParts(args.range.size(), whole, [&](uint64_t first, uint64_t count) {
    arrays.Load(args.in, first, count);
    if (selects_) {
      kernels::Variances(arrays.base(), arrays.x(), count, variances);
      KeptBits(rank, args.range.begin + first, count, variances, bits);
    }
    uint8_t* const place = args.out + first * sizeof(float);
    kernels::MergeAgreeing(arrays.base(), arrays.x(), weights, selects_ ? bits : nullptr, count,
                           out_aligned ? reinterpret_cast<float*>(place) : out_copy);
    if (!out_aligned) std::memcpy(place, out_copy, count * sizeof(float));
  });
}

}  // namespace sluice::arithmetic
