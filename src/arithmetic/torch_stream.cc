#include "arithmetic/torch_stream.h"

#include <algorithm>
#include <optional>

#include "base/units.h"
#include "graph/node.h"

namespace sluice::arithmetic {
namespace {

constexpr uint64_t kRecent = 32, kMilestones = 16;
static_assert((kRecent + kMilestones) * (sizeof(TorchGenerator) + 64) <= TorchStream::kMaxBytes);

}  // namespace

TorchStream::TorchStream(uint32_t seed, uint64_t first, uint64_t count)
    : seed_(seed),
      first_(first),
      spacing_(std::max<uint64_t>(1, CeilDiv(CeilDiv(count, graph::kBlockElements), kMilestones)) *
               graph::kBlockElements) {}

void TorchStream::Read(uint64_t begin, uint64_t count, uint32_t* words) const {
  const uint64_t place = first_ + begin;
  std::optional<TorchGenerator> generator;
  {
    std::lock_guard lock(mutex_);
    const auto consider = [&](const TorchGenerator& known) {
      if (known.position() <= place && (!generator || known.position() > generator->position())) generator = known;
    };
    for (auto known = recent_.begin(); known != recent_.end(); ++known) {
      if (known->position() != place) continue;
      generator = std::move(*known);  // its reader goes on
      recent_.erase(known);
      break;
    }
    if (!generator) {
      for (const TorchGenerator& known : recent_) consider(known);
      if (auto after = milestones_.upper_bound(begin / spacing_); after != milestones_.begin()) {
        consider(std::prev(after)->second);
      }
    }
    if (!generator) generator = milestones_.try_emplace(0, TorchGenerator::At(seed_, first_)).first->second;
  }
  generator->Skip(place - generator->position());
  const std::optional<TorchGenerator> here =
      begin % graph::kBlockElements == 0 ? std::optional<TorchGenerator>(*generator) : std::nullopt;
  generator->Fill(words, count);

  std::lock_guard lock(mutex_);
  if (here && begin % spacing_ == 0) milestones_.try_emplace(begin / spacing_, *here);
  if (here) recent_.push_front(*here);
  recent_.push_front(*generator);
  while (recent_.size() > kRecent) recent_.pop_back();
}

}  // namespace sluice::arithmetic
