#include "merge/arcee_fusion_node.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "base/check.h"
#include "kernels/exp_sums.h"
#include "merge/float_views.h"
#include "merge/magnitude_ranks.h"
#include "merge/plain_math.h"
#include "merge/row_slots.h"

namespace sluice::merge {
namespace {

using graph::kBlockElements;

// Elements that share a shift of their exponents. Cuts are multiples of it, so they do not matter.
constexpr uint64_t kGroup = kernels::kExpGroup;
constexpr uint64_t kGroupsAtOnce = 8;

float Score(float x, float base, float divergence) { return std::abs(x - base) * divergence; }

// sum e^x, sum e^b and sum e^x (x - b) over a part of a row, the exponents less the largest x or b so far. Five numbers
// of a RowSlots' slot.
struct ExpSums : kernels::GroupExpSums {
  static constexpr size_t kWidth = 5;
  static ExpSums None() { return {{-HUGE_VAL, 0, -HUGE_VAL, 0, 0}}; }

  // The sums of `count` groups or parts after these, one after the other; at most kGroupsAtOnce.
  void Append(const kernels::GroupExpSums* next, size_t count) {
    // What the sums are multiplied by at each, before the sums: by the largest numbers so far alone.
    Factor x_factors[kGroupsAtOnce], base_factors[kGroupsAtOnce];
    double exponents[4 * kGroupsAtOnce];
    for (size_t i = 0; i < count; ++i) {
      x_factors[i] = {std::max(x_most, next[i].x_most), x_most, next[i].x_most};
      base_factors[i] = {std::max(base_most, next[i].base_most), base_most, next[i].base_most};
      x_most = x_factors[i].most;
      base_most = base_factors[i].most;
      x_factors[i].WriteExponents(exponents + 4 * i);
      base_factors[i].WriteExponents(exponents + 4 * i + 2);
    }
    kernels::PlainExps(exponents, 4 * count, exponents);
    for (size_t i = 0; i < count; ++i) {
      const double* of_x = exponents + 4 * i;
      const double* of_base = of_x + 2;
      x_sum = x_sum * of_x[0] + next[i].x_sum * of_x[1];
      differences = differences * of_x[0] + next[i].differences * of_x[1];
      base_sum = base_sum * of_base[0] + next[i].base_sum * of_base[1];
    }
  }

  // Kullback-Leibler divergence of the rows' softmaxes: sum p (log p - log q) = mean of x - b under p, less the
  // difference of the logarithms of the sums.
  float Divergence() const {
    const double logs = (x_most + PlainLog(x_sum)) - (base_most + PlainLog(base_sum));
    const double divergence = differences / x_sum - logs;
    return divergence < 0 ? 0.0f : static_cast<float>(divergence);
  }

 private:
  struct Factor {
    double most, old_most, next_most;
    // Of the old sum and of the next; 0 where nothing is to be shifted, also where both are infinite.
    void WriteExponents(double* exponents) const {
      exponents[0] = old_most == most ? 0 : old_most - most;
      exponents[1] = next_most == most ? 0 : next_most - most;
    }
  };
};

class ArceeFusionFold final : public graph::Fold {
 public:
  ArceeFusionFold(uint64_t num_elements, uint64_t columns, int num_workers)
      : num_elements_(num_elements),
        columns_(columns),
        num_workers_(num_workers),
        workers_(static_cast<size_t>(num_workers)),
        slots_(std::in_place, num_elements, columns, ExpSums::kWidth) {}

  static uint64_t StateBytes(uint64_t num_elements, uint64_t columns, int num_workers) {
    const uint64_t rows = RowSlots::NumRows(num_elements, columns);
    return sizeof(ArceeFusionFold) + static_cast<uint64_t>(num_workers) * sizeof(Worker) +
           rows * (sizeof(double) + sizeof(float)) +
           std::max(RowSlots::Bytes(num_elements, columns, ExpSums::kWidth),
                    MagnitudeRanks::StateBytes(num_elements, 3, num_workers)) +
           1024;
  }

  bool Wants(uint64_t block) const override { return ranks_ ? ranks_->Wants(block) : true; }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    Worker& state = workers_[static_cast<size_t>(worker)];
    if (ranks_) return AddScores(&state, worker, piece, in);
    if (piece.begin % kBlockElements == 0) state.sums = ExpSums::None();
    float x_copy[kCopyElements], base_copy[kCopyElements];
    for (uint64_t at = piece.begin; at < piece.end;) {
      const uint64_t row_end = (at / columns_ + 1) * columns_;
      const uint64_t part_end = std::min(piece.end, row_end);
      // Whole groups, or the part of one.
      const bool is_whole = at % kGroup == 0 && at + kGroup <= part_end;
      const uint64_t end = is_whole ? std::min(at + kGroupsAtOnce * kGroup, part_end / kGroup * kGroup)
                                    : std::min(part_end, (at / kGroup + 1) * kGroup);
      const float* x = FloatsAt(in[1], at - piece.begin, end - at, x_copy);
      const float* base = FloatsAt(in[0], at - piece.begin, end - at, base_copy);
      kernels::GroupExpSums groups[kGroupsAtOnce];
      const uint64_t num_groups = is_whole ? (end - at) / kGroup : 1;
      if (is_whole) {
        kernels::SumExpGroups(x, base, num_groups, groups);
      } else {
        groups[0] = kernels::reference::SumExps(x, base, end - at);
      }
      state.sums.Append(groups, num_groups);
      if (end == row_end || end == num_elements_ || end % kBlockElements == 0) {
        const ExpSums& s = state.sums;
        const double values[ExpSums::kWidth] = {s.x_most, s.x_sum, s.base_most, s.base_sum, s.differences};
        std::copy_n(values, ExpSums::kWidth, slots_->SlotOf(end));
        state.sums = ExpSums::None();
      }
      at = end;
    }
  }

  bool Finish(graph::FactValue* value) override {
    if (!ranks_ && num_elements_ > 0) {
      divergences_.resize(slots_->num_rows());
      for (uint64_t row = 0; row < divergences_.size(); ++row) divergences_[row] = SumsOfRow(row).Divergence();
      slots_.reset();
      // mergekit's: element trunc(q (n - 1)) of the scores in ascending order.
      uint64_t ks[3];
      for (uint64_t quarter = 1; quarter <= 3; ++quarter) {
        ks[quarter - 1] = num_elements_ - (num_elements_ - 1) * quarter / 4;
      }
      ranks_.emplace(num_elements_, ks, num_workers_);
      return false;
    }
    if (ranks_ && !ranks_->Finish()) return false;
    *value = {0};
    if (!ranks_) return true;  // of a tensor without elements
    const auto quantile = [&](size_t i) { return std::bit_cast<float>(ranks_->rank(i).bits); };
    const float threshold = quantile(1) + 1.5f * (quantile(2) - quantile(0));
    value->at(0) = std::bit_cast<uint32_t>(threshold);
    for (const float divergence : divergences_) value->push_back(std::bit_cast<uint32_t>(divergence));
    return true;
  }

 private:
  struct Worker {
    ExpSums sums = ExpSums::None();  // of the row's part at hand
    std::array<float, graph::kPieceElements> scores;
  };
  static constexpr std::array<float, graph::kPieceElements> kZeros = {};

  void AddScores(Worker* state, int worker, graph::Range piece, std::span<const graph::View> in) {
    for (uint64_t at = piece.begin; at < piece.end;) {
      const uint64_t row = at / columns_;
      const uint64_t end = std::min({piece.end, (row + 1) * columns_, at + kCopyElements});
      const uint64_t first = at - piece.begin;
      float x_copy[kCopyElements], base_copy[kCopyElements];
      const float* base = FloatsAt(in[0], first, end - at, base_copy);
      const float* x = FloatsAt(in[1], first, end - at, x_copy);
      for (uint64_t i = 0; i < end - at; ++i) state->scores[first + i] = Score(x[i], base[i], divergences_[row]);
      at = end;
    }
    const graph::View views[] = {{reinterpret_cast<const uint8_t*>(state->scores.data()), piece},
                                 {reinterpret_cast<const uint8_t*>(kZeros.data()), piece}};
    ranks_->Add(worker, piece, views);
  }

  ExpSums SumsOfRow(uint64_t row) const {
    ExpSums sums = ExpSums::None();
    slots_->ForParts(row, [&](const double* slot, bool is_first) {
      const ExpSums part = {{slot[0], slot[1], slot[2], slot[3], slot[4]}};
      if (is_first) {
        sums = part;
      } else {
        sums.Append(&part, 1);
      }
    });
    return sums;
  }

  const uint64_t num_elements_, columns_;
  const int num_workers_;
  std::vector<Worker> workers_;
  std::optional<RowSlots> slots_;        // until the divergences are known
  std::vector<float> divergences_;       // by row
  std::optional<MagnitudeRanks> ranks_;  // of the scores: first, second and third quartile
};

}  // namespace

ArceeFusionFact::ArceeFusionFact(const graph::Node* base, const graph::Node* x, uint64_t columns)
    : Fact(fmt::format("arcee_fusion {}", columns), {base, x}), columns_(columns) {
  SLUICE_CHECK(columns > 0 || num_elements() == 0);
}

int ArceeFusionFact::max_passes() const { return 1 + MagnitudeRanks::MaxPasses(num_elements()); }
double ArceeFusionFact::expected_passes() const { return 1 + MagnitudeRanks::ExpectedPasses(num_elements()); }
uint64_t ArceeFusionFact::StateBytes(int num_workers) const {
  return ArceeFusionFold::StateBytes(num_elements(), columns_, num_workers);
}
std::unique_ptr<graph::Fold> ArceeFusionFact::Begin(int num_workers) const {
  return std::make_unique<ArceeFusionFold>(num_elements(), columns_, num_workers);
}

ArceeFusionNode::ArceeFusionNode(const graph::Node* base, const graph::Node* x, uint64_t columns)
    : Node(fmt::format("arcee_fusion {}", columns), quant::F32(), base->num_elements(), {base, x}), columns_(columns) {
  AddFact(std::make_unique<ArceeFusionFact>(base, x, columns));
}

void ArceeFusionNode::Compute(const graph::ComputeArgs& args) const {
  const graph::FactValue& fact = *args.facts[0];
  const auto number = [&](uint64_t i) { return std::bit_cast<float>(static_cast<uint32_t>(fact[i])); };
  const float threshold = number(0);
  float base_copy[kCopyElements], x_copy[kCopyElements], out[kCopyElements];
  for (uint64_t at = args.range.begin; at < args.range.end;) {
    const uint64_t row = at / columns_;
    const uint64_t end = std::min({args.range.end, (row + 1) * columns_, at + kCopyElements});
    const uint64_t first = at - args.range.begin, count = end - at;
    const float* base = FloatsAt(args.in[0], first, count, base_copy);
    const float* x = FloatsAt(args.in[1], first, count, x_copy);
    const float divergence = number(1 + row);
    for (uint64_t i = 0; i < count; ++i) out[i] = Score(x[i], base[i], divergence) >= threshold ? x[i] : base[i];
    std::memcpy(args.out + first * sizeof(float), out, count * sizeof(float));
    at = end;
  }
}

}  // namespace sluice::merge
