#include "merge/extraction_sinks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "arithmetic/mask_key.h"
#include "base/check.h"
#include "formats/recognise.h"

namespace sluice::merge {
namespace {

constexpr uint64_t kBufferFloats = 65536;
// Of a multiplication and an addition with one number of V or D V, on one core of 2020's: for the prediction.
constexpr double kNanosecondsPerTerm = 0.15;

float FloatAt(const stream::View& view, uint64_t i) {
  float value;
  std::memcpy(&value, view.data + i * sizeof(float), sizeof(float));
  return value;
}

}  // namespace

void DifferenceSink::Lanes::Add(const stream::View& view) {
  const uint64_t count = view.range.size();
  uint64_t i = 0;
  const auto add = [&](uint64_t lane) {
    const auto value = static_cast<double>(FloatAt(view, i));
    sums[lane] += value * value;
  };
  for (; i < count && (view.range.begin + i) % kLanes != 0; ++i) add((view.range.begin + i) % kLanes);
  for (; i + kLanes <= count; i += kLanes) {
    float values[kLanes];
    std::memcpy(values, view.data + i * sizeof(float), sizeof(values));
    for (size_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += static_cast<double>(values[lane]) * static_cast<double>(values[lane]);
    }
  }
  for (; i < count; ++i) add((view.range.begin + i) % kLanes);
}

double DifferenceSink::Lanes::Total() const {
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

Result<void> DifferenceSink::Take(const stream::Lease& lease, stream::Stream& /*stream*/) {
  for (const stream::Piece& piece : lease.pieces()) {
    if (piece.first) difference_ = base_ = {};
    difference_.Add(piece.views[0]);
    base_.Add(piece.views[1]);
    if (const double total = difference_.Total(); !std::isfinite(total)) {
      uint64_t at = 0;
      while (std::isfinite(FloatAt(piece.views[0], at))) ++at;
      return FailIn(ErrorCode::kCorrupt, formats::Printable(groups_.pair(piece.group).name),
                    fmt::format("the difference at element {} is {}: one of the models has NaN or infinities there, "
                                "which no adapter can hold; `sluice verify` of the two tells more",
                                piece.range.begin + at, FloatAt(piece.views[0], at)));
    }
    if (piece.last) changes_[piece.group] = {difference_.Total(), base_.Total()};
  }
  return {};
}

FactorSink::FactorSink(const std::vector<TensorPair>& pairs, const AdapterForm& form,
                       const std::vector<TensorChange>& changes, uint64_t seed, int num_threads,
                       checkpoint::CheckpointWriter* writer)
    : pairs_(pairs),
      form_(form),
      changes_(changes),
      seed_(seed),
      writer_(writer),
      // A few for each thread: the workers have tiles to compute as well.
      svd_(static_cast<uint64_t>(num_threads) * (num_threads > 1 ? 4 : 1)) {}

stream::Wants FactorSink::wants() const {
  stream::Wants wants;
  double terms = 0, elements = 0;
  for (const uint32_t layer : form_.layers) {
    const SvdShape shape = ShapeOf(pairs_[layer]);
    wants.own_bytes = std::max(wants.own_bytes, RandomisedSvd::MemoryBytes(shape));
    const double size = static_cast<double>(shape.rows) * static_cast<double>(shape.columns);
    elements += size * RandomisedSvd::kPasses;
    terms += size * static_cast<double>(shape.stride()) * (2 * RandomisedSvd::kPasses - 1);
  }
  wants.own_bytes += checkpoint::CheckpointWriter::MemoryBytes(form_.plan) + kBufferFloats * sizeof(float);
  wants.write_bytes = form_.plan.file_bytes();
  if (elements > 0) wants.nanoseconds_per_byte = terms * kNanosecondsPerTerm / (elements * sizeof(float));
  return wants;
}

Result<void> FactorSink::Take(const stream::Lease& lease, stream::Stream& stream) {
  const RandomisedSvd::ForEach for_each = [&](uint64_t count, const std::function<void(uint64_t)>& body) {
    if (count == 1) return body(0);
    for (uint64_t i = 0; i < count; ++i) {
      stream.Post(stream::Lease(), [&body, i](int) { body(i); });
    }
    stream.WaitForPosted();
  };
  for (const stream::Piece& piece : lease.pieces()) {
    const uint32_t layer = form_.layers[piece.group / RandomisedSvd::kPasses];
    const TensorPair& pair = pairs_[layer];
    const uint64_t pass = piece.group % RandomisedSvd::kPasses;
    // The ordinal of a mask is below 2^32: no mask of a merge has this key.
    if (pass == 0 && piece.first) svd_.Begin(ShapeOf(pair), arithmetic::MaskKey(seed_, pair.name, uint64_t{1} << 32));
    const stream::View& view = piece.views[0];
    SLUICE_CHECK(reinterpret_cast<uintptr_t>(view.data) % alignof(float) == 0);  // computed, so placed by the stream
    svd_.Add({reinterpret_cast<const float*>(view.data), view.range.size()}, for_each);
    if (!piece.last) continue;
    svd_.EndPass(for_each);
    if (pass + 1 < RandomisedSvd::kPasses) continue;
    double held = 0;
    for (const double s : svd_.singular_values()) held += s * s;
    const double energy = std::min(held / changes_[layer].difference, 1.0);
    extracted_.push_back({layer, energy, std::sqrt(1 - energy)});
    SLUICE_TRY(Write(pair));
  }
  return {};
}

Result<void> FactorSink::Write(const TensorPair& pair) {
  const auto left = [this](uint64_t row, uint64_t i) { return svd_.left(row, i); };
  const auto right = [this](uint64_t column, uint64_t i) { return svd_.right(column, i); };
  const auto turned = [](const auto& factor) { return [&factor](uint64_t i, uint64_t k) { return factor(k, i); }; };
  if (pair.transposed) {
    SLUICE_TRY(Append(pair.rank, pair.rows, turned(left)));
    return Append(pair.columns, pair.rank, right);
  }
  SLUICE_TRY(Append(pair.rank, pair.columns, turned(right)));
  return Append(pair.rows, pair.rank, left);
}

template <class Value>
Result<void> FactorSink::Append(uint64_t rows, uint64_t columns, const Value& value) {
  uint64_t offset_bytes = 0;
  const auto flush = [&]() -> Result<void> {
    const std::span bytes(reinterpret_cast<const uint8_t*>(buffer_.data()), buffer_.size() * sizeof(float));
    SLUICE_TRY(writer_->Append(place_, offset_bytes, bytes));
    offset_bytes += bytes.size();
    buffer_.clear();
    return {};
  };
  buffer_.reserve(kBufferFloats);
  for (uint64_t row = 0; row < rows; ++row) {
    for (uint64_t column = 0; column < columns; ++column) {
      buffer_.push_back(static_cast<float>(value(row, column)));
      if (buffer_.size() == kBufferFloats) SLUICE_TRY(flush());
    }
  }
  if (!buffer_.empty()) SLUICE_TRY(flush());
  ++place_;
  return {};
}

}  // namespace sluice::merge
