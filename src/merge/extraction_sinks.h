// The two passes of an extraction: how large each tensor's difference is, and the factors of those that are captured.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_writer.h"
#include "merge/lora_extraction.h"
#include "merge/randomised_svd.h"
#include "stream/sink.h"

namespace sluice::merge {

// Sums of squares, f64: 16 lanes by the element's index, added from the first to the last.
struct TensorChange {
  double difference = 0, base = 0;
};

// Of groups with the base behind the difference. kCorrupt where a difference is not finite: tensor and element.
class DifferenceSink final : public stream::Sink {
 public:
  // `groups` outlives it.
  explicit DifferenceSink(const DifferenceGroups& groups) : groups_(groups), changes_(groups.size()) {}
  stream::Wants wants() const override { return {.nanoseconds_per_byte = 0.3}; }
  Result<void> Take(const stream::Lease& lease, stream::Stream& stream) override;
  Result<void> End() override { return {}; }
  const std::vector<TensorChange>& changes() const { return changes_; }  // by group

 private:
  static constexpr size_t kLanes = 16;
  struct Lanes {
    double sums[kLanes] = {};
    void Add(const stream::View& view);
    double Total() const;
  };

  const DifferenceGroups& groups_;
  Lanes difference_, base_;  // of the tensor that is passing
  std::vector<TensorChange> changes_;
};

struct ExtractedLayer {
  uint32_t pair = 0;
  // Of |D|^2, D the layer's difference: what the factors hold before they are rounded to F32.
  double energy = 0;
  double relative_error = 0;  // |D - B A| / |D| = sqrt(1 - energy)
};

// Of groups of the form's layers, in its order, each RandomisedSvd::kPasses times. Appends their factors to a writer of
// that form.
class FactorSink final : public stream::Sink {
 public:
  // changes: by pair. writer: null where only wants() is asked. All outlive it.
  FactorSink(const std::vector<TensorPair>& pairs, const AdapterForm& form, const std::vector<TensorChange>& changes,
             uint64_t seed, int num_threads, checkpoint::CheckpointWriter* writer);
  stream::Wants wants() const override;
  Result<void> Take(const stream::Lease& lease, stream::Stream& stream) override;
  Result<void> End() override { return writer_->FinishTensors(); }
  // In the order of the form.
  const std::vector<ExtractedLayer>& layers() const { return extracted_; }

 private:
  static SvdShape ShapeOf(const TensorPair& pair) { return {pair.rows, pair.columns, pair.rank}; }
  Result<void> Write(const TensorPair& pair);
  template <class Value>
  Result<void> Append(uint64_t rows, uint64_t columns, const Value& value);

  const std::vector<TensorPair>& pairs_;
  const AdapterForm& form_;
  const std::vector<TensorChange>& changes_;
  const uint64_t seed_;
  checkpoint::CheckpointWriter* const writer_;
  RandomisedSvd svd_;
  uint32_t place_ = 0;  // of the tensor to be written next
  std::vector<float> buffer_;
  std::vector<ExtractedLayer> extracted_;
};

}  // namespace sluice::merge
