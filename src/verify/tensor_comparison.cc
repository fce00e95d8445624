#include "verify/tensor_comparison.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/units.h"
#include "checkpoint/digest_tree.h"
#include "kernels/compare.h"
#include "kernels/task_vectors.h"

namespace sluice::verify {
namespace {

using checkpoint::kChunkBytes;
using graph::kBlockElements;
using graph::kPieceElements;
using quant::Encoding;

bool IsOneEncoding(const TensorComparison::Setup& setup) {
  return setup.has[0] && setup.has[1] && setup.meter.encodings[0] == setup.meter.encodings[1];
}

bool AreNumbers(const TensorComparison::Setup& setup) {
  return setup.has[0] && setup.has[1] && setup.meter.encodings[0]->decode != nullptr &&
         setup.meter.encodings[1]->decode != nullptr;
}

void LowerTo(std::atomic<uint64_t>* value, uint64_t to) {
  uint64_t now = value->load(std::memory_order_relaxed);
  while (to < now && !value->compare_exchange_weak(now, to)) {
  }
}

}  // namespace

void FirstDifference::Note(uint32_t group, std::optional<uint64_t> element) {
  const std::lock_guard lock(mutex_);
  if (!found_ || group < place_.group ||
      (group == place_.group && element && (!place_.element || *element < *place_.element))) {
    place_ = {group, element};
  }
  found_ = true;
}

FirstDifference::Place FirstDifference::place() const {
  const std::lock_guard lock(mutex_);
  SLUICE_CHECK(found_);
  return place_;
}

TensorComparison::TensorComparison(const Setup& setup)
    : setup_(setup), same_encoding_(IsOneEncoding(setup)), numbers_(AreNumbers(setup)) {
  SLUICE_CHECK(has(0) || has(1));
  for (int side = 0; side < 2; ++side) {
    if (has(side)) chunks_[side].resize(CeilDiv(SizeBytes(side), kChunkBytes));
  }
  if (numbers_) meter_.emplace(setup_.meter);
  a_is_no_rounding_ = !numbers_ || same_encoding_ || encoding(0)->encode == nullptr;
  b_is_no_rounding_ = !numbers_ || same_encoding_ || encoding(1)->encode == nullptr;
}

std::optional<SketchShape> TensorComparison::ShapeOfSketch() const {
  return meter_ ? ChangeMeter::ShapeOfSketch(setup_.meter) : std::nullopt;
}

// Whether nothing but a change of numbers can explain what was seen so far.
bool TensorComparison::SurelyDiffers() const {
  if (same_encoding_) return bytes_differ_;
  return numbers_ && values_differ_ && a_is_no_rounding_ && b_is_no_rounding_;
}

void TensorComparison::NoteBytesDiffer(uint64_t first_byte, const uint8_t* a, const uint8_t* b, uint64_t size_bytes) {
  bytes_differ_ = true;
  if (numbers_ && setup_.first == nullptr) return;  // CompareBlocks finds the element
  // The element is known to the byte; of a block, its first.
  const auto at = static_cast<uint64_t>(std::mismatch(a, a + size_bytes, b).first - a);
  const uint64_t element = (first_byte + at) / encoding(0)->block_bytes * encoding(0)->block_elements;
  LowerTo(&first_changed_, element);
  if (setup_.first != nullptr) setup_.first->Note(setup_.group, element);
}

// Numbers of a piece of which the bytes are not the same: what could explain them.
void TensorComparison::ExplainPiece(uint64_t count, const float* x, const float* y, const uint8_t* a, const uint8_t* b,
                                    Scratch* scratch) {
  if (!same_encoding_) {
    if (!values_differ_ && !SameValues(x, y, count)) values_differ_ = true;
    uint8_t* const bytes = scratch->bytes.data();
    float* const again = scratch->again.data();
    if (!a_is_no_rounding_ && !IsRounding(encoding(0), y, a, x, count, bytes, again)) a_is_no_rounding_ = true;
    if (!b_is_no_rounding_ && !IsRounding(encoding(1), x, b, y, count, bytes, again)) b_is_no_rounding_ = true;
  }
  if (has_tolerance() && !beyond_tolerance_ && !WithinTolerance(x, y, count, setup_.atol, setup_.rtol)) {
    beyond_tolerance_ = true;
  }
}

void TensorComparison::CompareBlocks(graph::Range range, const uint8_t* a, const uint8_t* b, Scratch* scratch) {
  std::vector<DifferenceSums> sums;
  sums.reserve(CeilDiv(range.size(), kBlockElements));
  for (uint64_t block = range.begin; block < range.end; block += kBlockElements) {
    kernels::DifferenceLanes lanes;
    double squared_binades[16] = {};
    LookAtGrids(a, b);
    const uint64_t block_end = std::min(block + kBlockElements, range.end);
    for (uint64_t at = block; at < block_end; at += kPieceElements) {
      const uint64_t count = std::min(kPieceElements, block_end - at);
      const uint64_t bytes_a = encoding(0).BytesOf(count), bytes_b = encoding(1).BytesOf(count);
      const float* x = scratch->a.data();
      const float* y = x;
      encoding(0)->decode(a, count, scratch->a.data());
      const bool same_bytes = same_encoding_ && std::memcmp(a, b, bytes_a) == 0;
      if (!same_bytes) {
        encoding(1)->decode(b, count, scratch->b.data());
        y = scratch->b.data();
      }
      const uint64_t changed_before = lanes.changed;
      kernels::AccumulateDifference(x, y, count, &lanes);
      if (!same_bytes) {
        if (lanes.changed != changed_before && at < first_changed_.load(std::memory_order_relaxed)) {
          LowerTo(&first_changed_, at + FirstDifferent(x, y, count));
        }
        if (lanes.changed != changed_before && setup_.first == nullptr) {
          meter_->AddChanged({at, at + count}, x, y, a, b, &scratch->meter, squared_binades);
        }
        ExplainPiece(count, x, y, a, b, scratch);
      }
      a += bytes_a;
      b += bytes_b;
    }
    sums.push_back(DifferenceSums::Of(lanes));
    sums.back().squared_binades = kernels::SumLanes(squared_binades);
  }
  if (setup_.first != nullptr && !same_encoding_ && SurelyDiffers()) setup_.first->Note(setup_.group, std::nullopt);
  const std::lock_guard lock(mutex_);
  waiting_.emplace(range.begin / kBlockElements, std::move(sums));
  while (!waiting_.empty() && waiting_.begin()->first == next_block_) {
    for (const DifferenceSums& block : waiting_.begin()->second) total_.Add(block);
    next_block_ += waiting_.begin()->second.size();
    waiting_.erase(waiting_.begin());
  }
}

void TensorComparison::LookAtGrids(const uint8_t* a, const uint8_t* b) {
  if (meter_->wants_grid(0)) meter_->LookAtGrid(0, a);
  if (meter_->wants_grid(1)) meter_->LookAtGrid(1, b);
}

TensorOutcome TensorComparison::Finish() {
  TensorOutcome outcome;
  for (int side = 0; side < 2; ++side) {
    if (has(side)) outcome.digest[side] = checkpoint::TensorRoot(chunks_[side]);
  }
  if (!has_both()) {
    outcome.tensor_class = setup_.shapes_differ ? TensorClass::kShapeDiffers
                           : has(0)             ? TensorClass::kOnlyInA
                                                : TensorClass::kOnlyInB;
    return outcome;
  }
  for (int side = 0; side < 2 && meter_; ++side) {
    outcome.looked_at_grid[side] = CanLieOnGrid(encoding(side)) && ChangeMeter::LooksAtGrids(setup_.meter);
    if (const auto grid = meter_->grid(side)) outcome.grid[side] = static_cast<int8_t>(*grid);
  }
  Classify(&outcome);
  return outcome;
}

void TensorComparison::Classify(TensorOutcome* outcome) {
  if (same_encoding_ && !bytes_differ_) return;  // identical
  if (!same_encoding_ && !values_differ_ && (numbers_ || setup_.num_elements == 0)) {
    outcome->tensor_class = TensorClass::kEqualAfterCast;
    return;
  }
  if (!same_encoding_ && !numbers_) {
    outcome->tensor_class = TensorClass::kNotComparable;
    return;
  }
  outcome->first_changed = first_changed_;
  if (numbers_) {
    outcome->stats = std::make_unique<DifferenceStats>(total_.ToStats(setup_.num_elements));
    if (setup_.first == nullptr) {
      outcome->details = std::make_unique<TensorDetails>(meter_->Finish(total_.changed, total_.squared_binades));
    }
  }
  if (!a_is_no_rounding_ || !b_is_no_rounding_) {
    outcome->tensor_class = TensorClass::kRounded;
    outcome->rounded = a_is_no_rounding_ ? RoundedSide::kB : b_is_no_rounding_ ? RoundedSide::kA : RoundedSide::kEither;
    // What a rounding left is known to be one: a row of large numbers, whose errors stand out, is no direction.
    EffectiveRank* rank = outcome->details != nullptr && outcome->details->rank ? &*outcome->details->rank : nullptr;
    if (rank != nullptr && (rank->kind == RankKind::kLow || rank->kind == RankKind::kSparse)) {
      rank->kind = RankKind::kWithinRounding;
      rank->rank = 0;
      rank->explained = 0;
    }
  } else if (has_tolerance() && numbers_ && !beyond_tolerance_) {
    outcome->tensor_class = TensorClass::kWithinTolerance;
  } else {
    outcome->tensor_class = TensorClass::kChanged;
  }
}

}  // namespace sluice::verify
