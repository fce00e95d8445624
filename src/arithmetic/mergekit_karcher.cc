#include "arithmetic/mergekit_karcher.h"

#include <algorithm>
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

// One step of the iteration, as far as it is known.
struct Iteration {
  std::vector<float> cosines, factors;  // of each unit; a factor of 0: left out
  float angle = 0;                      // |T|
  float length = 0;                     // of u after the step; 0: not divided
  float cosine = 1, sine = 0;           // of the angle
};

// What is known of whole tensors. From these and the models' numbers every u follows, number by number.
struct State {
  std::vector<double> lengths;  // |x_m|
  double first_length = 0;      // of the first u; -1: it is the first unit
  std::vector<Iteration> iterations;

  graph::FactValue ToValue() const {
    graph::FactValue value(lengths);
    value.push_back(first_length);
    for (const Iteration& iteration : iterations) {
      value.insert(value.end(), iteration.cosines.begin(), iteration.cosines.end());
      value.insert(value.end(), iteration.factors.begin(), iteration.factors.end());
      value.insert(value.end(), {iteration.angle, iteration.cosine, iteration.sine, iteration.length});
    }
    return value;
  }
};

// The models that have a direction, and the share of each.
struct Units {
  Units(const std::vector<double>& lengths, double tol) {
    const double alpha = 1.0 / static_cast<double>(lengths.size());
    double sum = 0;
    for (size_t m = 0; m < lengths.size(); ++m) {
      length += alpha * lengths[m];
      if (!(lengths[m] > tol)) continue;
      models.push_back(m);
      sum += alpha;
    }
    share = static_cast<float>(alpha / sum);
  }
  std::vector<size_t> models;
  float share = 0;
  double length = 0;  // the mean
};

State FromValue(const graph::FactValue& value, size_t num_models, double tol) {
  State state;
  state.lengths.assign(value.begin(), value.begin() + static_cast<int64_t>(num_models));
  state.first_length = value[num_models];
  const size_t k = Units(state.lengths, tol).models.size();
  for (const double* at = value.data() + num_models + 1; at < value.data() + value.size();) {
    const auto next = [&] { return static_cast<float>(*at++); };
    Iteration iteration;
    for (size_t i = 0; i < k; ++i) iteration.cosines.push_back(next());
    for (size_t i = 0; i < k; ++i) iteration.factors.push_back(next());
    iteration.angle = next();
    iteration.cosine = next();
    iteration.sine = next();
    iteration.length = next();
    state.iterations.push_back(std::move(iteration));
  }
  return state;
}

// A tile of the units and of u.
template <WorkingType kType>
class Tile {
 public:
  Tile(const State& state, const Units& units)
      : state_(state), units_(units), x_(std::max<size_t>(units.models.size(), 1) * kTileFloats) {}

  const float* unit(size_t i) const { return &x_[i * kTileFloats]; }
  const float* u() const { return u_; }
  const float* tangent() const { return tangent_; }

  void Load(std::span<const graph::View> in, uint64_t first, uint64_t end) {
    for (size_t i = 0; i < units_.models.size(); ++i) {
      const size_t m = units_.models[i];
      float* const x = &x_[i * kTileFloats];
      LoadTile(in[m], first, end, x);
      ForTile(x, [&, length = static_cast<float>(state_.lengths[m])](uint64_t k) { return kRound(x[k] / length); });
    }
    std::fill_n(u_, kTileFloats, 0.0f);
    for (size_t i = 0; i < units_.models.size(); ++i) {
      const float* x = unit(i);
      ForTile(u_, [&](uint64_t k) { return kRound(u_[k] + kRound(units_.share * x[k])); });
    }
  }
  void Begin() {
    if (state_.first_length == -1) {
      std::copy_n(unit(0), kTileFloats, u_);
    } else {
      DivideBy(static_cast<float>(state_.first_length));
    }
  }
  void MakeTangent(const Iteration& iteration) {
    std::fill_n(tangent_, kTileFloats, 0.0f);
    for (size_t i = 0; i < units_.models.size(); ++i) {
      const float factor = iteration.factors[i], cosine = iteration.cosines[i];
      if (factor == 0) continue;
      const float* x = unit(i);
      ForTile(tangent_,
              [&](uint64_t k) { return kRound(tangent_[k] + kRound(factor * kRound(x[k] - kRound(cosine * u_[k])))); });
    }
  }
  // After MakeTangent.
  void Move(const Iteration& iteration) {
    ForTile(u_,
            [&, cosine = kRound(iteration.cosine), sine = kRound(iteration.sine), angle = iteration.angle](uint64_t k) {
              return kRound(kRound(cosine * u_[k]) + kRound(sine * kRound(tangent_[k] / angle)));
            });
  }
  void Whole(const Iteration& iteration) {
    MakeTangent(iteration);
    Move(iteration);
    if (iteration.length != 0) DivideBy(iteration.length);
  }

 private:
  static constexpr auto kRound = RoundTo<kType>;
  void DivideBy(float length) {
    ForTile(u_, [&](uint64_t k) { return kRound(u_[k] / length); });
  }

  const State& state_;
  const Units& units_;
  std::vector<float> x_;
  alignas(64) float u_[kTileFloats], tangent_[kTileFloats];
};

class KarcherFold final : public InOrderFold {
 public:
  KarcherFold(const MergekitKarcher& karcher, size_t num_models, uint64_t num_elements, int num_workers)
      : InOrderFold(num_elements, num_models + 1, num_workers),
        settings_(karcher),
        num_models_(num_models),
        units_({}, 0),
        norms_(num_models, TorchNorm(WorkingType::kF32)) {}

 private:
  enum class Step { kLengths, kFirst, kCosines, kAngle, kLength };

  uint64_t num_rows() const override {
    if (step_ == Step::kLengths) return num_models_;
    return step_ == Step::kCosines ? units_.models.size() + 1 : 1;
  }

  void Compute(graph::Range piece, std::span<const graph::View> in, float* const* rows) const override {
    if (step_ == Step::kLengths) {
      for (size_t m = 0; m < in.size(); ++m) std::memcpy(rows[m], in[m].data, piece.size() * sizeof(float));
      return;
    }
    WithType(settings_.type, [&]<WorkingType kType>() {
      Tile<kType> tile(state_, units_);
      for (uint64_t first = 0; first < piece.size(); first += kTileFloats) {
        const uint64_t count = std::min(kTileFloats, piece.size() - first);
        const auto give = [&](uint64_t row, const float* numbers) { std::copy_n(numbers, count, rows[row] + first); };
        tile.Load(in, first, piece.size());
        if (step_ == Step::kFirst) {
          give(0, tile.u());
          continue;
        }
        tile.Begin();
        const size_t whole = state_.iterations.size() - (step_ == Step::kCosines ? 0 : 1);
        for (size_t i = 0; i < whole; ++i) tile.Whole(state_.iterations[i]);
        if (step_ == Step::kCosines) {
          give(0, tile.u());
          for (size_t i = 0; i < units_.models.size(); ++i) give(i + 1, tile.unit(i));
          continue;
        }
        tile.MakeTangent(state_.iterations.back());
        if (step_ == Step::kLength) tile.Move(state_.iterations.back());
        give(0, step_ == Step::kAngle ? tile.tangent() : tile.u());
      }
    });
  }

  void Take(uint64_t /*begin*/, uint64_t count, const float* const* rows) override {
    if (step_ == Step::kCosines) {
      for (size_t i = 0; i < dots_.size(); ++i) dots_[i].Add(rows[0], rows[i + 1], count);
    } else {
      for (size_t m = 0; m < norms_.size(); ++m) norms_[m].Add(rows[m], count);
    }
  }

  bool EndStep(graph::FactValue* value) override {
    switch (step_) {
      case Step::kLengths:
        for (const TorchNorm& norm : norms_) state_.lengths.push_back(static_cast<double>(norm.Finish()));
        units_ = Units(state_.lengths, settings_.tol);
        if (units_.models.empty()) return Done(value);
        return Go(Step::kFirst);
      case Step::kFirst: {
        const auto length = static_cast<double>(norms_[0].Finish());
        state_.first_length = length < settings_.tol ? -1 : length;
        return BeginIteration(value);
      }
      case Step::kCosines: {
        Iteration iteration;
        for (const TorchDot& dot : dots_) AddUnit(dot.Finish(), &iteration);
        state_.iterations.push_back(std::move(iteration));
        return Go(Step::kAngle);
      }
      case Step::kAngle: {
        Iteration& iteration = state_.iterations.back();
        iteration.angle = norms_[0].Finish();
        if (static_cast<double>(iteration.angle) < settings_.tol) {
          state_.iterations.pop_back();
          return Done(value);
        }
        iteration.cosine = TorchCos(WorkingType::kF32, iteration.angle);
        iteration.sine = TorchSin(WorkingType::kF32, iteration.angle);
        return Go(Step::kLength);
      }
      case Step::kLength: {
        const float length = norms_[0].Finish();
        state_.iterations.back().length = static_cast<double>(length) > settings_.tol ? length : 0;
        return BeginIteration(value);
      }
    }
    return true;
  }

  bool Go(Step step) {
    step_ = step;
    norms_.assign(1, TorchNorm(WorkingType::kF32));
    dots_.assign(units_.models.size(), TorchDot(settings_.type));
    return false;
  }
  bool Done(graph::FactValue* value) {
    *value = state_.ToValue();
    return true;
  }
  bool BeginIteration(graph::FactValue* value) {
    return state_.iterations.size() < settings_.max_iter ? Go(Step::kCosines) : Done(value);
  }

  void AddUnit(float dot, Iteration* iteration) const {
    const WorkingType type = settings_.type;
    const float cosine = dot < -1 ? -1.0f : dot > 1 ? 1.0f : dot;
    const float angle = TorchAcos(type, cosine);
    float factor = 0;
    if (!(static_cast<double>(angle) < settings_.tol)) {
      factor = RoundTo(type, units_.share * RoundTo(type, angle / TorchSin(type, angle)));
    }
    iteration->cosines.push_back(cosine);
    iteration->factors.push_back(factor);
  }

  const MergekitKarcher settings_;
  const size_t num_models_;
  Step step_ = Step::kLengths;
  State state_;
  Units units_;
  std::vector<TorchNorm> norms_;
  std::vector<TorchDot> dots_;
};

std::string Description(const MergekitKarcher& karcher) {
  return fmt::format("mergekit karcher {} {} {:016x}", static_cast<int>(karcher.type), karcher.max_iter,
                     std::bit_cast<uint64_t>(karcher.tol));
}

class KarcherFact final : public graph::Fact {
 public:
  KarcherFact(const MergekitKarcher& karcher, const std::vector<const graph::Node*>& x)
      : Fact(Description(karcher), x), settings_(karcher) {}
  int max_passes() const override { return InOrderFold::MaxPasses(num_elements(), 2 + 3 * settings_.max_iter); }
  double expected_passes() const override {
    return 2 + 3 * static_cast<double>(std::min<uint64_t>(settings_.max_iter, 10));
  }
  uint64_t StateBytes(int num_workers) const override {
    const uint64_t k = inputs().size(), numbers = k + 1 + settings_.max_iter * (2 * k + 4);
    return sizeof(KarcherFold) + InOrderFold::StateBytes(num_elements(), k + 1, num_workers) +
           2 * numbers * sizeof(double) + k * (sizeof(TorchNorm) + sizeof(TorchDot) + 64);
  }
  // Steps begin anew with the models' numbers and go through what is known of the iterations.
  double NanosecondsPerElement() const override { return 20 * static_cast<double>(inputs().size()); }
  std::unique_ptr<graph::Fold> Begin(int num_workers) const override {
    return std::make_unique<KarcherFold>(settings_, inputs().size(), num_elements(), num_workers);
  }

 private:
  MergekitKarcher settings_;
};

class KarcherNode final : public graph::Node {
 public:
  KarcherNode(const MergekitKarcher& karcher, const std::vector<const graph::Node*>& x)
      : Node(Description(karcher), quant::F32(), x[0]->num_elements(), x), settings_(karcher) {
    AddFact(std::make_unique<KarcherFact>(karcher, x));
  }
  void Compute(const graph::ComputeArgs& args) const override {
    const State state = FromValue(*args.facts[0], inputs().size(), settings_.tol);
    const Units units(state.lengths, settings_.tol);
    if (units.models.empty()) {
      std::memset(args.out, 0, args.range.size() * sizeof(float));
      return;
    }
    const auto length = static_cast<float>(units.length);
    alignas(64) float out[kTileFloats];
    WithType(settings_.type, [&]<WorkingType kType>() {
      Tile<kType> tile(state, units);
      for (uint64_t first = 0; first < args.range.size(); first += kTileFloats) {
        tile.Load(args.in, first, args.range.size());
        tile.Begin();
        for (const Iteration& iteration : state.iterations) tile.Whole(iteration);
        ForTile(out, [&](uint64_t i) { return RoundTo<kType>(length * tile.u()[i]); });
        StoreTile(out, first, args.range.size(), args.out);
      }
    });
  }
  double NanosecondsPerElement() const override { return 20 * static_cast<double>(inputs().size()); }

 private:
  MergekitKarcher settings_;
};

}  // namespace

const graph::Node* AddMergekitKarcher(graph::Graph* graph, const MergekitKarcher& karcher,
                                      const std::vector<const graph::Node*>& x) {
  return graph->Add(std::make_unique<KarcherNode>(karcher, x));
}

}  // namespace sluice::arithmetic
