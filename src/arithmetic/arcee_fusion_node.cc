#include "arithmetic/arcee_fusion_node.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "arithmetic/float_views.h"
#include "arithmetic/magnitude_ranks.h"
#include "arithmetic/plain_math.h"
#include "arithmetic/row_slots.h"
#include "base/check.h"
#include "kernels/exp_sums.h"
#include "kernels/scores.h"
#include "kernels/select.h"

namespace sluice::arithmetic {
namespace {

using graph::kBlockElements;

// Elements that share a shift of their exponents. Cuts are multiples of it, so they do not matter.
constexpr uint64_t kGroup = kernels::kExpGroup;
constexpr uint64_t kGroupsAtOnce = 32;
constexpr uint64_t kElementsAtOnce = kGroupsAtOnce * kGroup;

// sum e^x, sum e^b and sum e^x (x - b) over a part of a row, the exponents less the largest x or b so far. Five numbers
// of a RowSlots' slot.
struct ExpSums : kernels::GroupExpSums {
  static constexpr size_t kWidth = 5;
  static ExpSums None() { return {{-HUGE_VAL, 0, -HUGE_VAL, 0, 0}}; }

  // The sums of `count` groups or parts after these, one after the other; at most kGroupsAtOnce.
  void Append(const kernels::GroupExpSums* next, size_t count) {
    // What the sums are multiplied by at each, before the sums: by the largest numbers so far alone. Either the sums so
    // far or the next are as they should be, and are multiplied by 1.
    Factors factors[2 * kGroupsAtOnce];
    double exps[2 * kGroupsAtOnce];
    for (size_t i = 0; i < count; ++i) {
      exps[2 * i] = factors[2 * i].Exponent(&x_most, next[i].x_most);
      exps[2 * i + 1] = factors[2 * i + 1].Exponent(&base_most, next[i].base_most);
    }
    kernels::PlainExps(exps, 2 * count, exps);
    for (size_t i = 0; i < count; ++i) {
      const auto [of_x, of_next_x] = factors[2 * i].Of(exps[2 * i]);
      const auto [of_base, of_next_base] = factors[2 * i + 1].Of(exps[2 * i + 1]);
      x_sum = x_sum * of_x + next[i].x_sum * of_next_x;
      differences = differences * of_x + next[i].differences * of_next_x;
      base_sum = base_sum * of_base + next[i].base_sum * of_next_base;
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
  struct Factors {
    bool next_is_larger;
    // Of what the one with the smaller number is multiplied by; 0 where nothing is to be shifted, also where both are
    // infinite. Makes `most` the larger number.
    double Exponent(double* most, double next) {
      const double larger = std::max(*most, next), smaller = std::min(*most, next);
      next_is_larger = *most < next;
      *most = larger;
      return larger == smaller ? 0 : smaller - larger;
    }
    // Of the sums so far and of the next; of equal ones the power is 1.
    std::pair<double, double> Of(double power) const {
      return next_is_larger ? std::pair{power, 1.0} : std::pair{1.0, power};
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
        slots_(std::in_place, num_elements, columns, ExpSums::kWidth) {
    if (num_elements > 0 && MagnitudeRanks::KeepsAll(num_elements)) BeginRanks();
  }

  static uint64_t StateBytes(uint64_t num_elements, uint64_t columns, int num_workers) {
    const uint64_t rows = RowSlots::NumRows(num_elements, columns);
    const uint64_t slots = RowSlots::Bytes(num_elements, columns, ExpSums::kWidth);
    const uint64_t ranks = MagnitudeRanks::StateBytes(num_elements, 3, num_workers);
    return sizeof(ArceeFusionFold) + static_cast<uint64_t>(num_workers) * sizeof(Worker) +
           rows * (sizeof(double) + sizeof(float)) +
           (MagnitudeRanks::KeepsAll(num_elements) ? slots + ranks : std::max(slots, ranks)) + 1024;
  }

  bool Wants(uint64_t block) const override { return slots_ ? true : ranks_->Wants(block); }

  void Add(int worker, graph::Range piece, std::span<const graph::View> in) override {
    Worker& state = workers_[static_cast<size_t>(worker)];
    if (!slots_) return AddScores(&state, worker, piece, in);
    if (piece.begin % kBlockElements == 0) state.sums = ExpSums::None();
    float x_copy[kElementsAtOnce], base_copy[kElementsAtOnce];
    for (uint64_t at = piece.begin; at < piece.end;) {
      // Whole groups, or the part of one; of one row, unless all rows are of whole groups.
      const uint64_t limit = columns_ % kGroup == 0 ? piece.end : std::min(piece.end, EndOfRow(at));
      const bool is_whole = at % kGroup == 0 && at + kGroup <= limit;
      const uint64_t end = is_whole ? std::min(at + kElementsAtOnce, limit / kGroup * kGroup)
                                    : std::min(limit, (at / kGroup + 1) * kGroup);
      const float* x = FloatsAt(in[1], at - piece.begin, end - at, x_copy);
      const float* base = FloatsAt(in[0], at - piece.begin, end - at, base_copy);
      if (ranks_) kernels::Magnitudes(x, base, end - at, ranks_->kept()->From(at));
      kernels::GroupExpSums groups[kGroupsAtOnce];
      if (is_whole) {
        kernels::SumExpGroups(x, base, (end - at) / kGroup, groups);
      } else {
        groups[0] = kernels::reference::SumExps(x, base, end - at);
      }
      AddGroups(&state.sums, at, end, groups);
      at = end;
    }
  }

  bool Finish(graph::FactValue* value) override {
    *value = {0};
    if (num_elements_ == 0) return true;
    if (slots_) {
      divergences_.resize(slots_->num_rows());
      for (uint64_t row = 0; row < divergences_.size(); ++row) divergences_[row] = SumsOfRow(row).Divergence();
      slots_.reset();
      if (!ranks_) {
        BeginRanks();
        return false;
      }
      ScoreKept();
    }
    if (!ranks_->Finish()) return false;
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

  uint64_t EndOfRow(uint64_t element) const { return (element / columns_ + 1) * columns_; }

  void BeginRanks() {
    // mergekit's: element trunc(q (n - 1)) of the scores in ascending order.
    uint64_t ks[3];
    for (uint64_t quarter = 1; quarter <= 3; ++quarter) {
      ks[quarter - 1] = num_elements_ - (num_elements_ - 1) * quarter / 4;
    }
    ranks_.emplace(num_elements_, ks, num_workers_, MagnitudeLimits(), /*wants_ties=*/false);
  }

  // Elements [begin, end), of one group or of whole ones.
  void AddGroups(ExpSums* sums, uint64_t begin, uint64_t end, const kernels::GroupExpSums* groups) {
    for (uint64_t at = begin; at < end;) {
      const uint64_t part_end = std::min({end, EndOfRow(at), (at / kBlockElements + 1) * kBlockElements});
      const uint64_t num_groups = (part_end - at + kGroup - 1) / kGroup;
      sums->Append(groups, num_groups);
      if (part_end == EndOfRow(at) || part_end == num_elements_ || part_end % kBlockElements == 0) {
        const double values[ExpSums::kWidth] = {sums->x_most, sums->x_sum, sums->base_most, sums->base_sum,
                                                sums->differences};
        std::copy_n(values, ExpSums::kWidth, slots_->SlotOf(part_end));
        *sums = ExpSums::None();
      }
      groups += num_groups;
      at = part_end;
    }
  }

  // Of the differences that were kept.
  void ScoreKept() {
    ranks_->CountKept([&](uint64_t begin, float* kept, uint64_t count) {
      for (uint64_t at = begin; at < begin + count;) {
        const uint64_t end = std::min(begin + count, EndOfRow(at));
        kernels::Scale(divergences_[at / columns_], end - at, kept + (at - begin));
        at = end;
      }
    });
  }

  void AddScores(Worker* state, int worker, graph::Range piece, std::span<const graph::View> in) {
    float x_copy[kElementsAtOnce], base_copy[kElementsAtOnce];
    for (uint64_t at = piece.begin; at < piece.end;) {
      const uint64_t end = std::min({piece.end, EndOfRow(at), at + kElementsAtOnce});
      const uint64_t first = at - piece.begin;
      const float* base = FloatsAt(in[0], first, end - at, base_copy);
      const float* x = FloatsAt(in[1], first, end - at, x_copy);
      kernels::Scores(x, base, divergences_[at / columns_], end - at, &state->scores[first]);
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
  std::optional<RowSlots> slots_;   // until the divergences are known
  std::vector<float> divergences_;  // by row
  // Of the scores: first, second and third quartile. From the beginning where all of them are kept.
  std::optional<MagnitudeRanks> ranks_;
};

}  // namespace

ArceeFusionFact::ArceeFusionFact(const graph::Node* base, const graph::Node* x, uint64_t columns)
    : Fact(fmt::format("arcee_fusion {}", columns), {base, x}), columns_(columns) {
  SLUICE_CHECK(columns > 0 || num_elements() == 0);
}

// What is kept is looked at where it is.
int ArceeFusionFact::max_passes() const {
  return MagnitudeRanks::KeepsAll(num_elements()) ? 1 : 1 + MagnitudeRanks::MaxPasses(num_elements());
}
double ArceeFusionFact::expected_passes() const {
  return MagnitudeRanks::KeepsAll(num_elements()) ? 1 : 1 + MagnitudeRanks::ExpectedPasses(num_elements());
}
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
  float base_copy[kElementsAtOnce], x_copy[kElementsAtOnce], out_copy[kElementsAtOnce];
  for (uint64_t at = args.range.begin; at < args.range.end;) {
    const uint64_t row = at / columns_;
    const uint64_t end = std::min({args.range.end, (row + 1) * columns_, at + kElementsAtOnce});
    const uint64_t first = at - args.range.begin, count = end - at;
    const float* base = FloatsAt(args.in[0], first, count, base_copy);
    const float* x = FloatsAt(args.in[1], first, count, x_copy);
    uint8_t* place = args.out + first * sizeof(float);
    float* out = IsFloatAligned(place) ? reinterpret_cast<float*>(place) : out_copy;
    kernels::TakeScored(x, base, number(1 + row), threshold, count, out);
    if (out == out_copy) std::memcpy(place, out, count * sizeof(float));
    at = end;
  }
}

}  // namespace sluice::arithmetic
