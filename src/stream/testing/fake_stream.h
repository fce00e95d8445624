// A Stream over bytes in memory, for tests of sinks: leases of any cut, and tasks run in an order that a test chooses.
// What a lease showed is overwritten when its last copy goes, so that a sink that looks too late computes something
// else.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "quant/encoding.h"
#include "stream/stream.h"

namespace sluice::tests {

struct FakeGroup {
  quant::Encoding encoding;
  std::vector<std::vector<uint8_t>> outs;  // bytes of each, of equal length
};

class FakeStream final : public stream::Stream {
 public:
  enum class Tasks { kAtOnce, kLast, kLastReversed, kThreads };
  struct Options {
    uint64_t min_piece_elements = 1;  // pieces are of a random size between these, rounded up to blocks
    uint64_t max_piece_elements = 1000;
    int max_pieces = 1;  // of a lease
    Tasks tasks = Tasks::kAtOnce;
    uint32_t seed = 1;
    uint64_t kept_bytes = 0;          // what a lease says it keeps; 0: its bytes
    std::optional<int> fail_at = {};  // the lease that is an error
  };

  FakeStream(std::vector<FakeGroup> groups, Options options)
      : groups_(std::move(groups)), options_(options), random_(options.seed) {}
  ~FakeStream() override {
    WaitForPosted();
    SLUICE_CHECK(live_->load() == 0);  // "all leases must be gone before their stream is"
  }

  const stream::Plan& plan() const override { return plan_; }
  void Enqueue(std::span<const uint32_t> groups) override { queue_.insert(queue_.end(), groups.begin(), groups.end()); }

  Result<stream::Lease> Next() override {
    if (options_.fail_at && num_leases_ == *options_.fail_at) return Fail(ErrorCode::kRead, "a fault of the test");
    ++num_leases_;
    auto tiles = std::make_shared<Tiles>(live_);
    std::vector<std::vector<stream::View>> views;
    for (int i = 0; i < options_.max_pieces && !queue_.empty(); ++i) {
      const uint32_t group = queue_.front();
      const FakeGroup& from = groups_[group];
      const uint64_t block_elements = from.encoding->block_elements;
      const uint64_t num_elements = from.outs[0].size() / from.encoding->block_bytes * block_elements;
      uint64_t size = options_.min_piece_elements;
      if (size < options_.max_piece_elements) size += random_() % (options_.max_piece_elements - size + 1);
      size = std::min((size + block_elements - 1) / block_elements * block_elements, num_elements - at_);
      const graph::Range range{at_, at_ + size};
      views.emplace_back();
      for (const std::vector<uint8_t>& out : from.outs) {
        const auto begin = out.begin() + static_cast<int64_t>(from.encoding.BytesOf(range.begin));
        tiles->bytes.emplace_back(begin, begin + static_cast<int64_t>(from.encoding.BytesOf(size)));
        views.back().push_back({tiles->bytes.back().data(), range});
      }
      tiles->pieces.push_back({group, range, range.begin == 0, range.end == num_elements, {}});
      at_ = range.end;
      if (at_ == num_elements) {
        queue_.pop_front();
        at_ = 0;
      }
    }
    if (tiles->pieces.empty()) return stream::Lease();
    tiles->views = std::move(views);
    for (size_t i = 0; i < tiles->pieces.size(); ++i) tiles->pieces[i].views = tiles->views[i];
    for (const auto& bytes : tiles->bytes) tiles->kept_bytes += bytes.size();
    if (options_.kept_bytes > 0) tiles->kept_bytes = options_.kept_bytes;
    return stream::Lease(std::move(tiles));
  }

  void Post(stream::Lease lease, std::function<void(int)> task) override {
    ++num_posted_;
    if (options_.tasks == Tasks::kAtOnce) {
      task(0);
    } else if (options_.tasks == Tasks::kThreads) {
      threads_.emplace_back([lease = std::move(lease), task = std::move(task)]() mutable {
        task(0);
        task = nullptr;
        lease = {};
      });
    } else {
      posted_.emplace_back(std::move(lease), std::move(task));
    }
  }

  void WaitForPosted() override {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    if (options_.tasks == Tasks::kLastReversed) std::reverse(posted_.begin(), posted_.end());
    for (auto& [lease, task] : posted_) task(0);
    posted_.clear();
  }

  stream::StreamStats stats() const override { return {}; }
  graph::FactRecords facts() const override { return {}; }
  size_t num_groups() const override { return groups_.size(); }

  int num_posted() const { return num_posted_; }

 private:
  using Counter = std::shared_ptr<std::atomic<int>>;
  struct Tiles final : stream::LeasedTiles {
    explicit Tiles(Counter live_in) : live(std::move(live_in)) { ++*live; }
    ~Tiles() override {
      for (auto& part : bytes) std::fill(part.begin(), part.end(), uint8_t{0xEE});
      --*live;
    }
    Counter live;
    std::deque<std::vector<uint8_t>> bytes;
    std::vector<std::vector<stream::View>> views;
  };

  const std::vector<FakeGroup> groups_;
  const Options options_;
  std::mt19937 random_;
  stream::Plan plan_;
  std::deque<uint32_t> queue_;
  uint64_t at_ = 0;
  int num_leases_ = 0, num_posted_ = 0;
  std::vector<std::pair<stream::Lease, std::function<void(int)>>> posted_;
  std::vector<std::thread> threads_;
  Counter live_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace sluice::tests
