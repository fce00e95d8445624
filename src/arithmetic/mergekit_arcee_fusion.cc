#include "arithmetic/mergekit_arcee_fusion.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/float_tiles.h"
#include "arithmetic/torch_permutation.h"
#include "arithmetic/torch_softmax.h"
#include "arithmetic/torch_sum.h"
#include "arithmetic/whole_rows.h"
#include "base/check.h"

namespace sluice::arithmetic {
namespace {

constexpr uint64_t kMostScores = 1'000'000;

// Element trunc(q (n - 1)) in ascending order, NaN last.
float Quantile(float q, std::vector<float>* scores) {
  const auto place = static_cast<int64_t>(q * static_cast<float>(scores->size() - 1));
  const auto at = scores->begin() + place;
  std::nth_element(scores->begin(), at, scores->end(),
                   [](float a, float b) { return std::isnan(b) ? !std::isnan(a) : a < b; });
  return *at;
}

float Threshold(WorkingType type, float first_quartile, float median, float third_quartile) {
  const float range = RoundTo(type, third_quartile - first_quartile);
  return RoundTo(type, median + RoundTo(type, 1.5f * range));
}

// |x - base| times the rows' divergences of elements [begin, begin + kTileFloats).
template <WorkingType kType>
void Scores(const float* base, const float* x, const float* divergences, float* scores) {
  ForTile(scores,
          [&](uint64_t i) { return RoundTo<kType>(std::abs(RoundTo<kType>(x[i] - base[i])) * divergences[i]); });
}

// Row by row, what element begin + i is multiplied by; count <= kTileFloats.
template <class DivergenceOf>
void SpreadOverRows(uint64_t columns, uint64_t begin, uint64_t count, const DivergenceOf& of_row, float* divergences) {
  for (uint64_t i = 0; i < count;) {
    const uint64_t row = (begin + i) / columns, end = std::min(count, (row + 1) * columns - begin);
    std::fill(divergences + i, divergences + end, of_row(row));
    i = end;
  }
  std::fill(divergences + count, divergences + kTileFloats, 0.0f);
}

// Scores that quantiles are taken of.
struct Sample {
  std::vector<uint64_t> places;  // ascending; none: every element's
  std::vector<float> scores;
};

class FusionFold final : public graph::Fold {
 public:
  FusionFold(WorkingType type, uint64_t num_elements, uint64_t columns, const MergekitSampling& sampling,
             int num_workers)
      : type_(type),
        num_elements_(num_elements),
        columns_(columns),
        sampling_(sampling),
        rows_(num_elements, columns, 2, num_workers),
        divergences_(num_elements == 0 ? 0 : num_elements / columns) {}

  static uint64_t StateBytes(uint64_t num_elements, uint64_t columns, int num_workers) {
    const uint64_t num_rows = num_elements == 0 ? 0 : num_elements / columns;
    // Two samples' places and scores, and what a shuffle has displaced meanwhile.
    const uint64_t scores = num_elements <= kMostScores ? num_elements * sizeof(float) : kMostScores * 24 + (17 << 20);
    return sizeof(FusionFold) + num_rows * (sizeof(float) + sizeof(double)) +
           WholeRows::StateBytes(num_elements, columns, 2, num_workers) +
           static_cast<uint64_t>(num_workers) * (3 * columns * sizeof(float) + TorchSum::StateBytes(columns, 8, 1)) +
           scores + 1024;
  }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    if (!knows_divergences_) {
      rows_.Add(worker, piece, in, [&](uint64_t row, std::span<const float* const> inputs) {
        divergences_[row] = MergekitDivergence(type_, {inputs[0], columns_}, {inputs[1], columns_});
      });
      return;
    }
    alignas(64) float base[kTileFloats], x[kTileFloats], scores[kTileFloats];
    for (uint64_t first = 0; first < piece.size(); first += kTileFloats) {
      const uint64_t begin = piece.begin + first, count = std::min(kTileFloats, piece.size() - first);
      LoadTile(in[0], first, piece.size(), base);
      LoadTile(in[1], first, piece.size(), x);
      SpreadOverRows(
          columns_, begin, count, [&](uint64_t row) { return divergences_[row]; }, scores);
      WithType(type_, [&]<WorkingType kType>() { Scores<kType>(base, x, scores, scores); });
      for (Sample& sample : samples_) Collect(begin, count, scores, &sample);
    }
  }

  bool Finish(graph::FactValue* value) override {
    if (num_elements_ == 0) {
      *value = {0};
      return true;
    }
    if (!knows_divergences_) {
      knows_divergences_ = true;
      BeginSamples();
      return false;
    }
    const float median = Quantile(0.5f, &samples_.front().scores);
    const float first = Quantile(0.25f, &samples_.back().scores), third = Quantile(0.75f, &samples_.back().scores);
    *value = {Threshold(type_, first, median, third)};
    value->insert(value->end(), divergences_.begin(), divergences_.end());
    return true;
  }

 private:
  // The median's sample is drawn first, the quartiles' after it.
  void BeginSamples() {
    if (num_elements_ <= kMostScores) {
      samples_.push_back({{}, std::vector<float>(num_elements_)});
      return;
    }
    for (uint64_t sample = 0; sample < 2; ++sample) {
      const uint64_t first = sampling_.first_draw + sample * TorchPermutationDraws(num_elements_);
      std::vector<uint64_t> places =
          TorchPermutation(TorchGenerator::At(sampling_.seed, first), num_elements_, kMostScores);
      std::ranges::sort(places);
      samples_.push_back({std::move(places), std::vector<float>(kMostScores)});
    }
  }

  static void Collect(uint64_t begin, uint64_t count, const float* scores, Sample* sample) {
    if (sample->places.empty()) {
      std::copy_n(scores, count, sample->scores.begin() + static_cast<int64_t>(begin));
      return;
    }
    const auto from = std::ranges::lower_bound(sample->places, begin);
    for (auto place = from; place != sample->places.end() && *place < begin + count; ++place) {
      sample->scores[static_cast<size_t>(place - sample->places.begin())] = scores[*place - begin];
    }
  }

  const WorkingType type_;
  const uint64_t num_elements_, columns_;
  const MergekitSampling sampling_;
  WholeRows rows_;
  std::vector<float> divergences_;  // by row
  bool knows_divergences_ = false;
  std::vector<Sample> samples_;  // the median's and the quartiles'; one where they are the same
};

class FusionNode final : public graph::Node {
 public:
  FusionNode(WorkingType type, uint64_t columns, const MergekitSampling& sampling, const graph::Node* base,
             const graph::Node* x)
      : Node(fmt::format("mergekit fusion {} {} {} {}", static_cast<int>(type), columns, sampling.seed,
                         sampling.first_draw),
             quant::F32(), base->num_elements(), {base, x}),
        type_(type),
        columns_(columns) {
    AddFact(std::make_unique<FusionFact>(type, columns, sampling, base, x));
  }

  void Compute(const graph::ComputeArgs& args) const override {
    const graph::FactValue& fact = *args.facts[0];
    const auto threshold = static_cast<float>(fact[0]);
    const uint64_t count = args.range.size();
    alignas(64) float base[kTileFloats], x[kTileFloats], scores[kTileFloats];
    WithType(type_, [&]<WorkingType kType>() {
      for (uint64_t first = 0; first < count; first += kTileFloats) {
        LoadTile(args.in[0], first, count, base);
        LoadTile(args.in[1], first, count, x);
        SpreadOverRows(
            columns_, args.range.begin + first, std::min(kTileFloats, count - first),
            [&](uint64_t row) { return static_cast<float>(fact[1 + row]); }, scores);
        Scores<kType>(base, x, scores, scores);
        // The mask is of f32, and with it what follows.
        ForTile(scores, [&](uint64_t i) {
          return base[i] + RoundTo<kType>(x[i] - base[i]) * (scores[i] >= threshold ? 1.0f : 0.0f);
        });
        StoreTile(scores, first, count, args.out);
      }
    });
  }
  double NanosecondsPerElement() const override { return 1.5; }

 private:
  WorkingType type_;
  uint64_t columns_;
};

}  // namespace

float MergekitDivergence(WorkingType type, std::span<const float> base, std::span<const float> x) {
  std::vector<float> p(x.size()), q(x.size());
  TorchSoftmax(type, x, p.data());
  TorchSoftmax(type, base, q.data());
  WithType(type, [&]<WorkingType kType>() {
    constexpr auto kRound = RoundTo<kType>;
    for (uint64_t i = 0; i < x.size(); ++i) {
      const float of_x = kRound(p[i] + 1e-8f), of_base = kRound(q[i] + 1e-8f);
      p[i] = kRound(of_x * kRound(TorchLog(kRound(of_x / of_base))));
    }
  });
  return RoundTo(type, TorchSumOf(p, LanesOf(type)));
}

uint64_t MergekitFusionDraws(uint64_t num_elements) {
  return num_elements <= kMostScores ? 0 : 2 * TorchPermutationDraws(num_elements);
}

FusionFact::FusionFact(WorkingType type, uint64_t columns, const MergekitSampling& sampling, const graph::Node* base,
                       const graph::Node* x)
    : Fact(fmt::format("mergekit fusion {} {} {} {}", static_cast<int>(type), columns, sampling.seed,
                       sampling.first_draw),
           {base, x}),
      type_(type),
      columns_(columns),
      sampling_(sampling) {
  SLUICE_CHECK(columns > 0 || num_elements() == 0);
}

uint64_t FusionFact::StateBytes(int num_workers) const {
  return FusionFold::StateBytes(num_elements(), columns_, num_workers);
}

std::unique_ptr<graph::Fold> FusionFact::Begin(int num_workers) const {
  return std::make_unique<FusionFold>(type_, num_elements(), columns_, sampling_, num_workers);
}

const graph::Node* AddMergekitArceeFusion(graph::Graph* graph, WorkingType type, uint64_t columns,
                                          const MergekitSampling& sampling, const graph::Node* base,
                                          const graph::Node* x) {
  return graph->Add(std::make_unique<FusionNode>(type, columns, sampling, base, x));
}

}  // namespace sluice::arithmetic
