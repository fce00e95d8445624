// LineageSink: inner products of what MODEL and the candidates differ from BASE by, in one pass, and a fixed sample of
// the numbers themselves.
//
// Vectors of a tensor, in this order: each candidate less the base, the base, MODEL less the base; differences in f32,
// as merges make them. Inner products are kept by cluster: runs of neighbouring elements, about 64 a tensor, whole
// blocks of 65,536 or equal parts of one. When a tensor is done it is fitted, and its clusters are added to those of
// its layer: what is kept does not grow with a tensor's size. Blocks are added in their order, tensors in theirs, so
// that neither threads nor tiles matter.
//
// The sample is drawn by a fixed key: up to 65,536 elements in runs of 256, from tensors that all models have, as many
// from each as its size allows.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/memory_budget.h"
#include "stream/sink.h"
#include "verify/lineage_plan.h"
#include "verify/regression.h"

namespace sluice::verify {

// Numbers of chosen runs: element e of run r of vector v is at v * size() + r * kRunElements + e.
struct LineageSample {
  static constexpr uint64_t kRunElements = 256;
  static constexpr uint64_t kRunsPerUnit = 8;
  static constexpr uint64_t kMostUnits = 32;

  struct Run {
    uint32_t tensor = 0;  // in the plan
    uint64_t begin = 0;   // element
  };
  std::vector<Run> runs;  // by tensor, ascending within one
  size_t num_candidates = 0;
  std::vector<float> deltas;            // [candidate][element]: candidate less base
  std::vector<float> base, difference;  // difference: MODEL less base
  std::vector<uint8_t> is_usable;       // by run: false where its tensor was left out

  uint64_t size() const { return runs.size() * kRunElements; }
};

// The runs that a plan's sample consists of.
std::vector<LineageSample::Run> DrawLineageRuns(const LineagePlan& plan);

class LineageSink final : public stream::Sink {
 public:
  // Of LineageGroups(plan). The plan outlives it. `budget`: its memory is leased from it when the first tile comes;
  // null: not counted.
  LineageSink(const LineagePlan& plan, int num_threads, MemoryBudget* budget);
  ~LineageSink() override;

  stream::Wants wants() const override;
  Result<void> Take(const stream::Lease& lease, stream::Stream& stream) override;
  Result<void> End() override;

  // After End, all of them:
  struct TensorFit {
    uint32_t tensor = 0;  // in the plan
    Regression fit;
  };
  // Sums of clusters, or of whole tensors: GramPairs(candidates + 2) numbers each, one behind the other; each tensor's
  // in units of its scale.
  struct Layer {
    std::optional<uint64_t> number;  // nullopt: outside of layers
    uint64_t tensors = 0, elements = 0;
    std::vector<double> clusters, tensor_sums;
  };
  const std::vector<TensorFit>& tensors() const { return fits_; }  // by name
  const std::vector<Layer>& layers() const { return layers_; }     // in order; outside of layers last
  const std::vector<LineageGap>& gaps() const { return gaps_; }    // tensors with NaN or infinities
  // Root mean square of a tensor's differences from BASE, of MODEL and the candidates that have it; 0 where it was left
  // out, or nothing differs. By tensor of the plan.
  double scale(uint32_t tensor) const { return scales_[tensor]; }
  const LineageSample& sample() const { return sample_; }
  uint64_t elements() const { return elements_; }
  uint64_t equal_to_base() const { return equal_to_base_; }  // elements in which MODEL is BASE
  size_t num_pairs() const { return num_pairs_; }

 private:
  struct Tensor;
  struct Worker;
  struct Block {
    std::vector<double> sums;  // [cluster][pair]
    uint64_t equal_to_base = 0;
  };
  Block Measure(uint32_t group, graph::Range range, std::span<const graph::View> views, uint64_t view_begin,
                Worker* worker);
  void MeasurePiece(const stream::Piece& piece, graph::Range range, Worker* worker);
  void Finish(uint32_t group, const Tensor& tensor);
  std::string NonFinite(uint32_t group, std::span<const double> total) const;

  const LineagePlan& plan_;
  const size_t num_vectors_, num_pairs_;
  MemoryBudget* const budget_;
  MemoryLease lease_;
  std::vector<std::unique_ptr<Worker>> workers_;  // by worker, made on first use
  std::vector<uint32_t> first_run_;               // by tensor, in sample_.runs; one more at the end
  std::vector<uint32_t> layer_of_;                // by tensor

  std::mutex mutex_;
  std::map<uint32_t, std::unique_ptr<Tensor>> open_;  // by group: under way, or waiting for those before it
  uint32_t next_group_ = 0;
  std::vector<double> scales_;
  std::vector<TensorFit> fits_;
  std::vector<Layer> layers_;
  std::vector<LineageGap> gaps_;
  uint64_t elements_ = 0, equal_to_base_ = 0;
  LineageSample sample_;
};

}  // namespace sluice::verify
