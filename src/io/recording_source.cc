#include "io/recording_source.h"

#include <algorithm>
#include <map>

namespace sluice::io {

Result<void> RecordingSource::Read(uint64_t offset, std::span<uint8_t> out) const {
  {
    std::lock_guard lock(mutex_);
    reads_.push_back({offset, out.size()});
  }
  return inner_->Read(offset, out);
}

std::vector<RecordedRead> RecordingSource::reads() const {
  std::lock_guard lock(mutex_);
  return reads_;
}

void RecordingSource::Clear() {
  std::lock_guard lock(mutex_);
  reads_.clear();
}

std::vector<std::pair<int, uint64_t>> RecordingSource::TimesRead(uint64_t begin, uint64_t end) const {
  std::map<uint64_t, int> steps{{begin, 0}, {end, 0}};  // change of the depth at each offset
  for (const RecordedRead& read : reads()) {
    const uint64_t from = std::max(begin, read.offset), to = std::min(end, read.offset + read.size_bytes);
    if (from >= to) continue;
    ++steps[from];
    --steps[to];
  }
  std::map<int, uint64_t> bytes_by_times;
  int depth = 0;
  for (auto step = steps.begin(); step != steps.end(); ++step) {
    depth += step->second;
    const auto next = std::next(step);
    if (next != steps.end() && next->first > step->first) bytes_by_times[depth] += next->first - step->first;
  }
  return {bytes_by_times.begin(), bytes_by_times.end()};
}

}  // namespace sluice::io
