#include "verify/lineage_sink.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/check.h"
#include "base/counter_rng.h"
#include "base/units.h"
#include "kernels/gram.h"

namespace sluice::verify {
namespace {

using graph::kBlockElements;
using graph::kPieceElements;
using graph::Range;
using kernels::GramPair;
using kernels::GramPairs;
using kernels::kGramLanes;
using Run = LineageSample::Run;

constexpr uint64_t kClusters = 64;        // of a tensor, at most
constexpr uint64_t kLeastCluster = 32;    // elements
constexpr uint64_t kLeastSampled = 4096;  // elements of a tensor
constexpr PhiloxKey kSampleKey = {0x6c696e65, 0x61676531};

// Elements of a cluster: a power of two up to a block, or whole blocks.
uint64_t ClusterElements(uint64_t num_elements) {
  uint64_t size = kLeastCluster;
  while (size < kBlockElements && CeilDiv(num_elements, size) > kClusters) size *= 2;
  return size < kBlockElements ? size : CeilDiv(CeilDiv(num_elements, kBlockElements), kClusters) * kBlockElements;
}

bool IsSampled(const LineageTensor& tensor) {
  return tensor.num_elements >= kLeastSampled && std::ranges::find(tensor.candidates, -1) == tensor.candidates.end();
}

void AddTo(std::span<const double> sums, double* to, double factor = 1) {
  for (size_t i = 0; i < sums.size(); ++i) to[i] += factor * sums[i];
}

}  // namespace

std::vector<Run> DrawLineageRuns(const LineagePlan& plan) {
  uint64_t all = 0;
  for (const LineageTensor& tensor : plan.tensors) all += IsSampled(tensor) ? tensor.num_elements : 0;
  std::vector<Run> runs;
  uint64_t before = 0, unit = 0;
  for (uint32_t i = 0; i < plan.tensors.size(); ++i) {
    const LineageTensor& tensor = plan.tensors[i];
    if (!IsSampled(tensor)) continue;
    // Unit u stands at (u + 1/2) / units of all elements.
    uint64_t units = 0;
    const auto place = [&](uint64_t u) {
      return static_cast<double>(all) * (static_cast<double>(u) + 0.5) / LineageSample::kMostUnits;
    };
    before += tensor.num_elements;
    while (unit < LineageSample::kMostUnits && place(unit) < static_cast<double>(before)) ++unit, ++units;
    const uint64_t available = tensor.num_elements / LineageSample::kRunElements;
    const uint64_t wanted = std::min(units * LineageSample::kRunsPerUnit, available);
    for (uint64_t r = 0; r < wanted; ++r) {
      // One run of each of `wanted` parts.
      const uint64_t begin = available * r / wanted, end = available * (r + 1) / wanted;
      const uint32_t word = Philox4x32({static_cast<uint32_t>(r), i, 0, 0}, kSampleKey)[0];
      runs.push_back({i, (begin + word % (end - begin)) * LineageSample::kRunElements});
    }
  }
  return runs;
}

struct LineageSink::Tensor {
  uint64_t cluster_elements = 0, num_blocks = 0, next_block = 0;
  uint64_t equal_to_base = 0;
  std::vector<double> clusters;       // [cluster][pair]
  std::map<uint64_t, Block> waiting;  // by block

  bool is_done() const { return next_block == num_blocks; }
};

struct LineageSink::Worker {
  Worker(size_t num_vectors, size_t num_pairs) : values(num_vectors * kPieceElements), lanes(num_pairs * kGramLanes) {}
  std::vector<float> values;  // [vector][element]
  std::vector<double> lanes;
};

LineageSink::LineageSink(const LineagePlan& plan, int num_threads, MemoryBudget* budget)
    : plan_(plan),
      num_vectors_(plan.num_candidates() + 2),
      num_pairs_(GramPairs(num_vectors_)),
      budget_(budget),
      workers_(num_threads) {
  SLUICE_CHECK(num_vectors_ <= kernels::kMostGramVectors);
  std::set<uint64_t> numbers;
  bool is_any_outside = false;
  for (const LineageTensor& tensor : plan_.tensors) {
    if (tensor.layer) numbers.insert(*tensor.layer);
    is_any_outside = is_any_outside || !tensor.layer;
  }
  for (const uint64_t number : numbers) layers_.emplace_back().number = number;
  if (is_any_outside) layers_.emplace_back();
  for (const LineageTensor& tensor : plan_.tensors) {
    const auto found = std::ranges::find(layers_, tensor.layer, &Layer::number);
    layer_of_.push_back(static_cast<uint32_t>(found - layers_.begin()));
  }
  scales_.resize(plan_.tensors.size());
  sample_.runs = DrawLineageRuns(plan_);
  sample_.num_candidates = plan_.num_candidates();
  for (uint32_t i = 0; i <= plan_.tensors.size(); ++i) {
    const auto first = std::ranges::lower_bound(sample_.runs, i, {}, &Run::tensor);
    first_run_.push_back(static_cast<uint32_t>(first - sample_.runs.begin()));
  }
}

LineageSink::~LineageSink() = default;

stream::Wants LineageSink::wants() const {
  constexpr uint64_t kTensorsUnderWay = 4;
  const uint64_t set_bytes = num_pairs_ * sizeof(double);
  const uint64_t fit_bytes = sizeof(TensorFit) + num_vectors_ * sizeof(Coefficient);
  stream::Wants wants;
  wants.own_bytes =
      workers_.size() * (num_vectors_ * kPieceElements * sizeof(float) + set_bytes * (kGramLanes + kClusters)) +
      plan_.tensors.size() * (fit_bytes + set_bytes + sizeof(double)) +
      (layers_.size() + kTensorsUnderWay) * kClusters * set_bytes + num_vectors_ * sample_.size() * sizeof(float);
  // Widening and subtracting, and products at 8 a nanosecond; of elements of two bytes.
  wants.nanoseconds_per_byte = 0.15 + static_cast<double>(num_pairs_) / static_cast<double>(num_vectors_) / 8 / 2;
  return wants;
}

Result<void> LineageSink::Take(const stream::Lease& lease, stream::Stream& stream) {
  if (sample_.base.empty()) {
    if (budget_ != nullptr) {
      SLUICE_ASSIGN(lease_, budget_->Lease(wants().own_bytes, "the sums of the regression"));
    }
    sample_.deltas.resize(sample_.num_candidates * sample_.size());
    sample_.base.resize(sample_.size() + 1);  // not empty, even where nothing is sampled
    sample_.difference.resize(sample_.size());
    sample_.is_usable.assign(sample_.runs.size(), 1);
  }
  std::vector<stream::Piece> small;
  for (const stream::Piece& piece : lease.pieces()) {
    SLUICE_CHECK(piece.range.begin % kBlockElements == 0);
    {
      const std::lock_guard lock(mutex_);
      std::unique_ptr<Tensor>& tensor = open_[piece.group];
      if (tensor == nullptr) {
        const uint64_t elements = plan_.tensors[piece.group].num_elements;
        tensor = std::make_unique<Tensor>();
        tensor->cluster_elements = ClusterElements(elements);
        tensor->num_blocks = CeilDiv(elements, kBlockElements);
        tensor->clusters.resize(CeilDiv(elements, tensor->cluster_elements) * num_pairs_);
      }
    }
    if (piece.range.size() <= kBlockElements) {
      small.push_back(piece);
      continue;
    }
    for (uint64_t begin = piece.range.begin; begin < piece.range.end; begin += kBlockElements) {
      const Range range{begin, std::min(begin + kBlockElements, piece.range.end)};
      stream.Post(lease, [this, piece, range](int worker) {
        if (workers_[worker] == nullptr) workers_[worker] = std::make_unique<Worker>(num_vectors_, num_pairs_);
        MeasurePiece(piece, range, workers_[worker].get());
      });
    }
  }
  if (!small.empty()) {
    stream.Post(lease, [this, small = std::move(small)](int worker) {
      if (workers_[worker] == nullptr) workers_[worker] = std::make_unique<Worker>(num_vectors_, num_pairs_);
      for (const stream::Piece& piece : small) MeasurePiece(piece, piece.range, workers_[worker].get());
    });
  }
  return {};
}

void LineageSink::MeasurePiece(const stream::Piece& piece, Range range, Worker* worker) {
  Block block = Measure(piece.group, range, piece.views, piece.range.begin, worker);
  const std::lock_guard lock(mutex_);
  Tensor& tensor = *open_.at(piece.group);
  tensor.waiting.emplace(range.begin / kBlockElements, std::move(block));
  for (auto next = tensor.waiting.begin(); next != tensor.waiting.end() && next->first == tensor.next_block;
       next = tensor.waiting.begin()) {
    const uint64_t first_cluster = next->first * kBlockElements / tensor.cluster_elements;
    AddTo(next->second.sums, &tensor.clusters[first_cluster * num_pairs_]);
    tensor.equal_to_base += next->second.equal_to_base;
    ++tensor.next_block;
    tensor.waiting.erase(next);
  }
  for (auto done = open_.begin(); done != open_.end() && done->first == next_group_ && done->second->is_done();
       done = open_.begin()) {
    Finish(done->first, *done->second);
    ++next_group_;
    open_.erase(done);
  }
}

LineageSink::Block LineageSink::Measure(uint32_t group, Range range, std::span<const graph::View> views,
                                        uint64_t view_begin, Worker* worker) {
  const LineageTensor& planned = plan_.tensors[group];
  const size_t num_candidates = plan_.num_candidates(), base = num_candidates, model = num_candidates + 1;
  const uint64_t part = std::min(ClusterElements(planned.num_elements), kBlockElements);
  Block block;
  block.sums.resize(CeilDiv(range.size(), part) * num_pairs_);

  std::vector<const float*> present;  // in the order of the vectors
  std::vector<size_t> places;
  for (size_t v = 0; v < num_vectors_; ++v) {
    if (v < num_candidates && planned.candidates[v] < 0) continue;
    present.push_back(nullptr);
    places.push_back(v);
  }
  const size_t present_pairs = GramPairs(present.size());
  const auto values = [&](size_t v) { return &worker->values[v * kPieceElements]; };
  const auto decode = [&](size_t out, size_t checkpoint, uint64_t index, uint64_t begin, uint64_t count, float* to) {
    const quant::Encoding encoding = plan_.models[checkpoint]->tensors()[index].encoding;
    encoding->decode(views[out].data + encoding.BytesOf(begin - view_begin), count, to);
  };

  size_t run = first_run_[group];
  const size_t end_of_runs = first_run_[group + 1];
  while (run < end_of_runs && sample_.runs[run].begin < range.begin) ++run;
  for (uint64_t begin = range.begin; begin < range.end; begin += kPieceElements) {
    const uint64_t count = std::min(kPieceElements, range.end - begin);
    decode(1, 1, planned.base, begin, count, values(base));
    const auto subtract_base = [&](float* x) {
      const float* b = values(base);
      for (uint64_t e = 0; e < count; ++e) x[e] -= b[e];
    };
    decode(0, 0, planned.model, begin, count, values(model));
    subtract_base(values(model));
    size_t out = 2;
    for (size_t k = 0; k < num_candidates; ++k) {
      if (planned.candidates[k] < 0) continue;
      decode(out++, k + 2, static_cast<uint64_t>(planned.candidates[k]), begin, count, values(k));
      subtract_base(values(k));
    }
    const float* y = values(model);
    for (uint64_t e = 0; e < count; ++e) block.equal_to_base += y[e] == 0 ? 1 : 0;

    for (uint64_t at = begin; at < begin + count;) {
      const uint64_t end = std::min({(at / part + 1) * part, begin + count});
      for (size_t v = 0; v < present.size(); ++v) present[v] = values(places[v]) + (at - begin);
      kernels::AccumulateGram(present, end - at, worker->lanes.data());
      if (end % part == 0 || end == range.end) {
        double* sums = &block.sums[(at - range.begin) / part * num_pairs_];
        for (size_t i = 0; i < present.size(); ++i) {
          for (size_t j = i; j < present.size(); ++j) {
            const double* lane = &worker->lanes[GramPair(present.size(), i, j) * kGramLanes];
            sums[GramPair(num_vectors_, places[i], places[j])] = (lane[0] + lane[2]) + (lane[1] + lane[3]);
          }
        }
        std::fill_n(worker->lanes.begin(), present_pairs * kGramLanes, 0.0);
      }
      at = end;
    }
    for (; run < end_of_runs && sample_.runs[run].begin < begin + count; ++run) {
      const uint64_t from = sample_.runs[run].begin - begin, to = run * LineageSample::kRunElements;
      const auto copy = [&](size_t v, float* where) {
        std::copy_n(values(v) + from, LineageSample::kRunElements, where + to);
      };
      for (size_t k = 0; k < num_candidates; ++k) copy(k, sample_.deltas.data() + k * sample_.size());
      copy(base, sample_.base.data());
      copy(model, sample_.difference.data());
    }
  }
  return block;
}

std::string LineageSink::NonFinite(uint32_t group, std::span<const double> total) const {
  const auto finite = [&](size_t v) { return std::isfinite(total[GramPair(num_vectors_, v, v)]); };
  if (!finite(plan_.num_candidates())) return "the base";
  std::string names;
  for (size_t v = 0; v < num_vectors_; ++v) {
    if (finite(v)) continue;
    if (!names.empty()) names += ", ";
    names += v < plan_.num_candidates() ? plan_.models[v + 2]->ref() : "the model";
  }
  SLUICE_CHECK(!names.empty() && group < plan_.tensors.size());
  return names;
}

// Under the lock, in the order of the groups.
void LineageSink::Finish(uint32_t group, const Tensor& tensor) {
  const LineageTensor& planned = plan_.tensors[group];
  std::vector<ClusterSums> clusters;
  std::vector<double> total(num_pairs_);
  for (size_t at = 0; at < tensor.clusters.size(); at += num_pairs_) {
    clusters.emplace_back(&tensor.clusters[at], num_pairs_);
    AddTo(clusters.back(), total.data());
  }
  if (!std::ranges::all_of(total, [](double sum) { return std::isfinite(sum); })) {
    const std::string name(plan_.models[0]->tensors()[planned.model].name);
    gaps_.push_back({name, -1, "left out: NaN or infinities in " + NonFinite(group, total)});
    std::fill(sample_.is_usable.begin() + first_run_[group], sample_.is_usable.begin() + first_run_[group + 1], 0);
    return;
  }
  fits_.push_back({group, Regress(num_vectors_ - 1, clusters)});
  double squares = 0, models = 0;
  for (size_t v = 0; v < num_vectors_; ++v) {
    if (v == plan_.num_candidates() || (v < plan_.num_candidates() && planned.candidates[v] < 0)) continue;
    squares += total[GramPair(num_vectors_, v, v)];
    ++models;
  }
  const double mean_square = squares / models / static_cast<double>(planned.num_elements);
  scales_[group] = std::sqrt(mean_square);
  const double factor = mean_square > 0 ? 1 / mean_square : 0;
  Layer& layer = layers_[layer_of_[group]];
  ++layer.tensors;
  layer.elements += planned.num_elements;
  layer.clusters.resize(std::max(layer.clusters.size(), tensor.clusters.size()));
  AddTo(tensor.clusters, layer.clusters.data(), factor);
  layer.tensor_sums.resize(layer.tensor_sums.size() + num_pairs_);
  AddTo(total, &layer.tensor_sums[layer.tensor_sums.size() - num_pairs_], factor);
  elements_ += planned.num_elements;
  equal_to_base_ += tensor.equal_to_base;
}

Result<void> LineageSink::End() {
  SLUICE_CHECK(open_.empty() && next_group_ == plan_.tensors.size());
  std::erase_if(layers_, [](const Layer& layer) { return layer.tensors == 0; });
  return {};
}

}  // namespace sluice::verify
