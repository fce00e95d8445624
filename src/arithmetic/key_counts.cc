#include "arithmetic/key_counts.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace sluice::arithmetic {

KeyCounts::KeyCounts(size_t num_groups, std::shared_ptr<FoldMemory> memory, uint64_t most_counted)
    : memory_(std::move(memory)), most_counted_(most_counted), runs_(kernels::kNumKeys / kRun) {
  SLUICE_CHECK(num_groups >= 1 && num_groups <= kMostGroups);
  for (size_t i = 0; i < num_groups; ++i) groups_.push_back(std::make_unique<Group>());
}

void KeyCounts::Count(size_t group, const float* x, const float* base, uint64_t count, float* magnitudes) {
  Group& of = *groups_[group];
  std::lock_guard lock(of.mutex);
  if (!of.counts) {
    of.counts = FoldNumbers<uint32_t>(memory_.get());
    of.counts.Clear();
  }
  if (of.counted + count > most_counted_) {
    AddGroup(of);
    of.counts.Clear();
    of.counted = 0;
  }
  of.counted += count;
  kernels::MagnitudeKeyCounts(x, base, count, of.counts.data(), magnitudes);
}

void KeyCounts::AddGroup(const Group& group) {
  std::lock_guard lock(mutex_);
  for (FoldNumbers<uint64_t>& counts : counts_) {
    if (!counts) counts = FoldNumbers<uint64_t>(memory_.get());
  }
  for (size_t run = 0; run < runs_.size(); ++run) {
    const uint32_t* from = group.counts.data() + run * kRun;
    const uint64_t in_run = std::accumulate(from, from + kRun, uint64_t{0});
    if (in_run == 0) continue;
    uint64_t* to = &At(static_cast<uint32_t>(run * kRun));
    if (runs_[run] == 0) std::fill_n(to, kRun, 0);
    for (uint32_t i = 0; i < kRun; ++i) to[i] += from[i];
    runs_[run] += in_run;
  }
}

void KeyCounts::AddUp() {
  for (const auto& group : groups_) {
    if (group->counts) AddGroup(*group);
  }
  total_ = std::accumulate(runs_.begin(), runs_.end(), uint64_t{0});
}

void KeyCounts::FreeGroups() {
  for (const auto& group : groups_) group->counts = {};
}

uint64_t KeyCounts::Above(uint32_t key) const {
  uint64_t above = 0;
  uint32_t next = key + 1;
  for (; next % kRun != 0; ++next) above += (*this)[next];
  return std::accumulate(runs_.begin() + next / kRun, runs_.end(), above);
}

uint32_t KeyCounts::KeyOfRank(uint64_t rank) const {
  SLUICE_CHECK(rank >= 1 && rank <= total_);
  uint64_t seen = 0;
  size_t run = runs_.size();
  while (seen + runs_[--run] < rank) seen += runs_[run];
  uint32_t key = static_cast<uint32_t>(run + 1) * kRun;
  while (seen < rank) seen += At(--key);
  return key;
}

double KeyCounts::VarianceOfShares(uint32_t key) const {
  double sum = 0, sum_of_squares = 0, groups = 0;
  for (const auto& group : groups_) {
    const auto size = static_cast<double>(group->counted);
    if (size == 0) continue;
    const uint32_t* counts = group->counts.data();
    const double share =
        static_cast<double>(std::accumulate(counts + key, counts + kernels::kNumKeys, uint64_t{0})) / size;
    sum += share;
    sum_of_squares += share * share;
    ++groups;
  }
  return groups < 2 ? 0 : std::max(0.0, (sum_of_squares - sum * sum / groups) / (groups - 1) / groups);
}

uint64_t KeyCounts::StateBytes(size_t num_groups) {
  return sizeof(KeyCounts) + num_groups * sizeof(Group) +
         (num_groups + kernels::kNumKeys / kPartKeys) * FoldMemory::kPartBytes +
         kernels::kNumKeys / kRun * sizeof(uint64_t) + 1024;
}

}  // namespace sluice::arithmetic
