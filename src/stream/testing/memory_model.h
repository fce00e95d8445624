// Models in memory, groups of functions, and what collects their tiles: for tests of the stream.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/units.h"
#include "io/recording_source.h"
#include "stream/sink.h"
#include "stream/stream.h"

namespace sluice::tests {

using graph::Node;
using stream::Lease;
using stream::Piece;
using stream::Stream;
using stream::StreamOptions;

// Bytes in memory as a source, one id each.
class MemorySource final : public io::ByteSource {
 public:
  MemorySource(std::vector<uint8_t> bytes, uint64_t inode) : bytes_(std::move(bytes)), id_{1, inode} {}
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return bytes_.size(); }
  io::SourceId id() const override { return id_; }
  Result<void> Read(uint64_t offset, std::span<uint8_t> out) const override {
    if (most_microseconds_ > 0) {  // as the offset tells: early reads may come late
      const uint64_t mixed = (offset / 4096 + reads_++) * 0x9E3779B97F4A7C15;
      std::this_thread::sleep_for(std::chrono::microseconds((mixed >> 32) % most_microseconds_));
    }
    if (fail_from_ <= offset + out.size()) return Fail(ErrorCode::kRead, "memory: the disk is gone");
    SLUICE_TRY(Check(offset, out.size()));
    std::copy_n(bytes_.data() + offset, out.size(), out.data());
    return {};
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  // Both before it is read.
  void FailFrom(uint64_t offset) { fail_from_ = offset; }
  void Delay(uint64_t most_microseconds) { most_microseconds_ = most_microseconds; }

 private:
  Result<void> Check(uint64_t offset, uint64_t size) const {
    if (offset + size > bytes_.size()) return Fail(ErrorCode::kCorrupt, "memory: past the end");
    return {};
  }
  std::string name_ = "memory";
  std::vector<uint8_t> bytes_;
  io::SourceId id_;
  uint64_t fail_from_ = ~uint64_t{0};
  uint64_t most_microseconds_ = 0;
  mutable std::atomic<uint64_t> reads_ = 0;
};

inline std::vector<uint8_t> RandomFloats(uint64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<uint8_t> bytes(count * 4);
  for (uint64_t i = 0; i < count; ++i) {
    const float value = uniform(random);
    std::memcpy(&bytes[4 * i], &value, 4);
  }
  return bytes;
}

// A model of F32 tensors, one after the other in one source.
struct Model {
  std::shared_ptr<MemorySource> memory;
  std::shared_ptr<io::RecordingSource> source;
  std::vector<uint64_t> offsets, counts;

  Model(const std::vector<uint64_t>& sizes, uint32_t seed) : counts(sizes) {
    uint64_t total = 24;  // a header of sorts: nothing is aligned
    for (const uint64_t size : sizes) {
      offsets.push_back(total);
      total += 4 * size;
    }
    memory = std::make_shared<MemorySource>(RandomFloats(total / 4, seed), seed);
    source = std::make_shared<io::RecordingSource>(memory);
  }
  const Node* Add(size_t tensor, graph::Graph* graph) const {
    return graph->AddStored(source, offsets[tensor], quant::F32(), counts[tensor]);
  }
  float Value(size_t tensor, uint64_t i) const {
    float value;
    std::memcpy(&value, memory->bytes().data() + offsets[tensor] + 4 * i, 4);
    return value;
  }
  uint64_t bytes() const { return 4 * std::accumulate(counts.begin(), counts.end(), uint64_t{0}); }
};

class FunctionGroups final : public stream::GroupSource {
 public:
  using Function = std::function<std::vector<const Node*>(size_t, graph::Graph*)>;
  FunctionGroups(size_t size, Function build) : size_(size), build_(std::move(build)) {}
  size_t size() const override { return size_; }
  std::string name(size_t group) const override { return "tensor " + std::to_string(group); }
  void Build(size_t group, graph::Graph* graph, std::vector<const Node*>* outs) const override {
    for (const Node* node : build_(group, graph)) outs->push_back(node);
  }

 private:
  size_t size_;
  Function build_;
};

// Collects outs of each group, checking that tiles come in order and without gaps.
class Collector final : public stream::Sink {
 public:
  Result<void> Take(const Lease& lease, Stream&) override {
    for (const Piece& piece : lease.pieces()) {
      auto& outs = data[piece.group];
      if (piece.first) {
        EXPECT_EQ(piece.range.begin, 0u);
        outs.assign(piece.views.size(), {});
        order.push_back(piece.group);
      }
      for (size_t i = 0; i < piece.views.size(); ++i) {
        EXPECT_EQ(piece.views[i].range, piece.range);
        EXPECT_EQ(outs[i].size(), piece.range.begin);
        for (uint64_t k = 0; k < piece.range.size(); ++k) {
          float value;
          std::memcpy(&value, piece.views[i].data + 4 * k, 4);
          outs[i].push_back(value);
        }
      }
    }
    return {};
  }
  Result<void> End() override { return {}; }
  std::map<uint32_t, std::vector<std::vector<float>>> data;
  std::vector<uint32_t> order;
};

inline StreamOptions Options(MemoryBudget* budget, int threads = 2) {
  StreamOptions options;
  options.budget = budget;
  options.num_threads = threads;
  options.max_tile_bytes = 256 * kKiB;  // one block of F32: many tiles from small tensors
  options.read_ahead_bytes = 2 * kMiB;
  options.hold = stream::Hold::kAlways;  // what is read must not hang on how fast this machine's memory is
  return options;
}

inline MemoryBudget Budget(uint64_t working_bytes) {
  return MemoryBudget(ResidentBytes() + MemoryBudget::kMarginBytes + working_bytes);
}

// A stream in the smallest budget that Open accepts, to 64 KiB; the budget outlives it.
inline Result<std::unique_ptr<Stream>> OpenInLeastMemory(const stream::GroupSource& groups, StreamOptions options,
                                                         std::unique_ptr<MemoryBudget>* budget) {
  const auto open = [&](uint64_t working_bytes) {
    *budget = std::make_unique<MemoryBudget>(ResidentBytes() + MemoryBudget::kMarginBytes + working_bytes);
    options.budget = budget->get();
    return Stream::Open(groups, options);
  };
  uint64_t too_little = 0, enough = kGiB;
  while (enough - too_little > 64 * kKiB) {
    const uint64_t middle = (too_little + enough) / 2;
    (open(middle) ? enough : too_little) = middle;
  }
  for (;; enough += 64 * kKiB) {  // this process may have grown a little since
    auto stream = open(enough);
    if (stream || stream.error().code != ErrorCode::kBudget) return stream;
  }
}

// How often the tensors' bytes were read, e.g. {1} or {1, 2}. Windows are pages, so a page at the edge of a tile may be
// read by both its neighbours: of a tile of 256 KiB that is 3%, and what happened to under 4% of the bytes is left out.
inline std::vector<int> TimesRead(const Model& model) {
  std::map<int, uint64_t> bytes_by_times;
  uint64_t total = 0;
  for (size_t i = 0; i < model.counts.size(); ++i) {
    const uint64_t begin = model.offsets[i], end = begin + 4 * model.counts[i];
    for (const auto& [times, bytes] : model.source->TimesRead(begin, end)) bytes_by_times[times] += bytes;
    total += end - begin;
  }
  std::vector<int> list;
  for (const auto& [times, bytes] : bytes_by_times) {
    if (bytes * 25 > total) list.push_back(times);
  }
  return list;
}

}  // namespace sluice::tests
