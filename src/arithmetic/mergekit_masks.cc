#include "arithmetic/mergekit_masks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "arithmetic/float_tiles.h"
#include "arithmetic/torch_stream.h"
#include "base/check.h"
#include "base/units.h"

namespace sluice::arithmetic {
namespace {

// A word as a uniform number in [0, 1).
float Uniform(uint32_t word) { return static_cast<float>(static_cast<int32_t>(word & 0xFFFFFF)) * 0x1p-24f; }

// How many of the 2^24 uniform numbers are below p.
int32_t WordsBelow(float p) { return static_cast<int32_t>(std::ceil(std::clamp(p, 0.0f, 1.0f) * 0x1p24f)); }

// 1 where a word is among the lowest `below`, else 0; by arithmetic on bits, as a branch is guessed wrong half the
// time.
float Mask(uint32_t word, int32_t below) {
  const int32_t all_if_below = (static_cast<int32_t>(word & 0xFFFFFF) - below) >> 31;
  return std::bit_cast<float>(all_if_below & std::bit_cast<int32_t>(1.0f));
}

std::string Description(const char* kind, WorkingType type, const MergekitDraws& draws) {
  return fmt::format("mergekit {} {} {} {}", kind, static_cast<int>(type), draws.seed, draws.first);
}

class RandomMaskNode final : public graph::Node {
 public:
  RandomMaskNode(WorkingType type, double density, const MergekitDraws& draws, const graph::Node* delta)
      : Node(fmt::format("{} {:016x}", Description("random", type, draws), std::bit_cast<uint64_t>(density)),
             quant::F32(), delta->num_elements(), {delta}),
        keep_below_(WordsBelow(RoundTo(MaskType(type), static_cast<float>(density)))),
        stream_(draws.seed, draws.first, delta->num_elements()) {}

  // The words of a piece, and a share of what the stream keeps.
  uint64_t ScratchBytes() const override { return graph::kPieceElements * sizeof(uint32_t) + TorchStream::kMaxBytes; }

  void Compute(const graph::ComputeArgs& args) const override {
    const uint64_t count = args.range.size();
    auto* const words = reinterpret_cast<uint32_t*>(args.scratch);
    stream_.Read(args.range.begin, count, words);
    std::fill_n(words + count, RoundUp(count, kTileFloats) - count, 0);
    alignas(64) float tile[kTileFloats];
    for (uint64_t first = 0; first < count; first += kTileFloats) {
      LoadTile(args.in[0], first, count, tile);
      const uint32_t* const drawn = words + first;
      ForTile(tile, [&](uint64_t i) { return tile[i] * Mask(drawn[i], keep_below_); });
      StoreTile(tile, first, count, args.out);
    }
  }
  double NanosecondsPerElement() const override { return 1.2; }

 private:
  const int32_t keep_below_;
  const TorchStream stream_;
};

class MagpruneMaskNode final : public graph::Node {
 public:
  MagpruneMaskNode(WorkingType type, double density, double epsilon, uint64_t columns, const MergekitDraws& draws,
                   const graph::Node* delta)
      : Node(fmt::format("{} {:016x} {:016x} {}", Description("magprune", type, draws),
                         std::bit_cast<uint64_t>(density), std::bit_cast<uint64_t>(epsilon), columns),
             quant::F32(), delta->num_elements(),
             std::vector<const graph::Node*>(MostChunks(columns, delta->num_elements()), delta)),
        type_(MaskType(type)),
        columns_(columns),
        lowest_(RoundTo(type_, static_cast<float>(density - epsilon))),  // torch rounds what it adds, not factors
        epsilon_(static_cast<float>(epsilon)),
        most_(RoundTo(type_, RankNumber(columns - 1) - 1)),
        stream_(draws.seed, draws.first, delta->num_elements()) {
    SLUICE_CHECK(columns >= 2 && delta->num_elements() % columns == 0);
  }

  // Whole rows, in chunks of a piece: the evaluator plans a piece of memory for each input that a node lists, so the
  // delta is listed once for each chunk of a piece. Of more than a piece, which is asked for before it is read, the
  // chunks go round.
  void Needs(graph::Range out, graph::NeedList* needs) const override {
    const graph::Range rows = RowsOf(out);
    for (uint64_t at = rows.begin; at < rows.end; at += graph::kPieceElements) {
      needs->Add(static_cast<uint32_t>(needs->needs().size() % inputs().size()),
                 {at, std::min(at + graph::kPieceElements, rows.end)});
    }
  }
  uint64_t MostNeeds() const override { return 2; }
  uint64_t ScratchBytes() const override {
    return RankedBytes() + graph::kPieceElements * sizeof(uint32_t) + TorchStream::kMaxBytes;
  }

  void Compute(const graph::ComputeArgs& args) const override {
    auto* const ranked = reinterpret_cast<Ranked*>(args.scratch);
    auto* const words = reinterpret_cast<uint32_t*>(args.scratch + RankedBytes());
    stream_.Read(args.range.begin, args.range.size(), words);
    for (uint64_t row = args.range.begin / columns_; row * columns_ < args.range.end; ++row) {
      const uint64_t begin = row * columns_;
      ForDeltas(args.in, {begin, begin + columns_}, [&](uint64_t i, float delta) {
        ranked[i - begin] = {std::abs(delta), static_cast<uint32_t>(i - begin)};
      });
      // torch's order, ties included: libstdc++'s sort of (key, place) by key alone. NaN is the largest.
      std::sort(ranked, ranked + columns_, [](const Ranked& a, const Ranked& b) {
        return (std::isnan(b.magnitude) && !std::isnan(a.magnitude)) || a.magnitude < b.magnitude;
      });
      for (uint64_t rank = 0; rank < columns_; ++rank) {
        const uint64_t at = begin + ranked[rank].column;
        if (at < args.range.begin || at >= args.range.end) continue;
        const float mask = Uniform(words[at - args.range.begin]) < Probability(rank) ? 1.0f : 0.0f;
        std::memcpy(args.out + (at - args.range.begin) * sizeof(float), &mask, sizeof mask);
      }
    }
    ForDeltas(args.in, args.range, [&](uint64_t i, float delta) {
      uint8_t* const place = args.out + (i - args.range.begin) * sizeof(float);
      float mask;
      std::memcpy(&mask, place, sizeof mask);
      mask *= delta;
      std::memcpy(place, &mask, sizeof mask);
    });
  }
  double NanosecondsPerElement() const override { return 60; }

 private:
  struct Ranked {
    float magnitude;
    uint32_t column;
  };

  static uint64_t MostChunks(uint64_t columns, uint64_t num_elements) {
    const uint64_t most = std::min(graph::kPieceElements + 2 * columns + 64, RoundUp(num_elements, 32));
    return std::max<uint64_t>(1, CeilDiv(most, graph::kPieceElements));
  }
  uint64_t RankedBytes() const { return RoundUp(columns_ * sizeof(Ranked), 64); }

  // The rows that hold the range, with a few elements more where rows are no multiple of 32.
  graph::Range RowsOf(graph::Range range) const {
    return {RoundDown(range.begin / columns_ * columns_, 32),
            std::min(RoundUp(CeilDiv(range.end, columns_) * columns_, 32), num_elements())};
  }

  template <class Each>
  static void ForDeltas(std::span<const graph::View> views, graph::Range range, const Each& each) {
    for (const graph::View& view : views) {
      for (uint64_t i = std::max(view.range.begin, range.begin); i < std::min(view.range.end, range.end); ++i) {
        float delta;
        std::memcpy(&delta, view.data + (i - view.range.begin) * sizeof(float), sizeof delta);
        each(i, delta);
      }
    }
  }

  // Rank 0, 1, ... as a number of the type, counted from 1: bf16 knows every other one from 256 on, and so on.
  float RankNumber(uint64_t rank) const { return RoundTo(type_, RoundTo(type_, static_cast<float>(rank)) + 1); }
  float Probability(uint64_t rank) const {
    const float above = RoundTo(type_, RankNumber(rank) - 1);
    const float share = std::clamp(RoundTo(type_, above / most_), 0.0f, 1.0f);
    return RoundTo(type_, lowest_ + RoundTo(type_, RoundTo(type_, share * 2) * epsilon_));
  }

  const WorkingType type_;  // of masks
  const uint64_t columns_;
  const float lowest_, epsilon_, most_;
  const TorchStream stream_;
};

}  // namespace

const graph::Node* AddRandomMask(graph::Graph* graph, WorkingType type, double density, const MergekitDraws& draws,
                                 const graph::Node* delta) {
  return graph->Add(std::make_unique<RandomMaskNode>(type, density, draws, delta));
}

const graph::Node* AddMagpruneMask(graph::Graph* graph, WorkingType type, double density, double epsilon,
                                   uint64_t columns, const MergekitDraws& draws, const graph::Node* delta) {
  return graph->Add(std::make_unique<MagpruneMaskNode>(type, density, epsilon, columns, draws, delta));
}

}  // namespace sluice::arithmetic
