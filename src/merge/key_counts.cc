#include "merge/key_counts.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace sluice::merge {

KeyCounts::KeyCounts(size_t num_groups, uint64_t most_counted) : most_counted_(most_counted) {
  SLUICE_CHECK(num_groups >= 1 && num_groups <= kMostGroups);
  for (size_t i = 0; i < num_groups; ++i) groups_.push_back(std::make_unique<Group>());
}

void KeyCounts::Count(size_t group, const float* x, const float* base, uint64_t count) {
  Group& of = *groups_[group];
  std::lock_guard lock(of.mutex);
  if (of.counted + count > most_counted_) {
    AddGroup(&of);
    std::ranges::fill(of.counts, 0);
    of.counted = 0;
  }
  of.counted += count;
  kernels::MagnitudeKeyCounts(x, base, count, of.counts.data());
}

void KeyCounts::AddGroup(Group* group) {
  std::lock_guard lock(mutex_);
  counts_.resize(kernels::kNumKeys);
  const uint32_t* from = group->counts.data();
  uint64_t* to = counts_.data();
  for (uint32_t key = 0; key < kernels::kNumKeys; ++key) to[key] += from[key];
}

void KeyCounts::AddUp() {
  for (const auto& group : groups_) AddGroup(group.get());
  runs_.resize(kernels::kNumKeys / kRun);
  for (size_t run = 0; run < runs_.size(); ++run) {
    const auto first = counts_.begin() + static_cast<int64_t>(run * kRun);
    runs_[run] = std::accumulate(first, first + kRun, uint64_t{0});
  }
  total_ = std::accumulate(runs_.begin(), runs_.end(), uint64_t{0});
}

uint64_t KeyCounts::Above(uint32_t key) const {
  uint64_t above = 0;
  uint32_t next = key + 1;
  for (; next % kRun != 0; ++next) above += counts_[next];
  return std::accumulate(runs_.begin() + next / kRun, runs_.end(), above);
}

uint32_t KeyCounts::KeyOfRank(uint64_t rank) const {
  SLUICE_CHECK(rank <= total_);
  uint64_t seen = 0;
  size_t run = runs_.size();
  while (seen + runs_[--run] < rank) seen += runs_[run];
  uint32_t key = static_cast<uint32_t>(run + 1) * kRun;
  while (seen < rank) seen += counts_[--key];
  return key;
}

double KeyCounts::VarianceOfShares(uint32_t key) const {
  double sum = 0, sum_of_squares = 0, groups = 0;
  for (const auto& group : groups_) {
    const std::vector<uint32_t>& counts = group->counts;
    const auto size = static_cast<double>(group->counted);
    if (size == 0) continue;
    const double share = static_cast<double>(std::accumulate(counts.begin() + key, counts.end(), uint64_t{0})) / size;
    sum += share;
    sum_of_squares += share * share;
    ++groups;
  }
  return groups < 2 ? 0 : std::max(0.0, (sum_of_squares - sum * sum / groups) / (groups - 1) / groups);
}

uint64_t KeyCounts::StateBytes(size_t num_groups) {
  return sizeof(KeyCounts) + num_groups * (sizeof(Group) + kernels::kNumKeys * sizeof(uint32_t)) +
         (kernels::kNumKeys + kernels::kNumKeys / kRun) * sizeof(uint64_t) + 1024;
}

}  // namespace sluice::merge
