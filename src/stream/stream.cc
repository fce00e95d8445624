#include "stream/stream.h"

#include <numeric>

#include "stream/engine.h"
#include "stream/planner.h"

namespace sluice::stream {

Result<std::unique_ptr<Stream>> Stream::Open(const GroupSource& groups, const StreamOptions& options) {
  SLUICE_ASSIGN(Planned planned, MakePlan(groups, options));
  std::vector<MemoryLease> leases;
  for (const auto& [bytes, what] :
       {std::pair{planned.plan.arena_bytes, "tiles"},
        std::pair{planned.plan.scratch_bytes + planned.plan.fact_bytes, "scratch and facts"}}) {
    SLUICE_ASSIGN(MemoryLease lease, options.budget->Lease(bytes, what));
    leases.push_back(std::move(lease));
  }
  SLUICE_ASSIGN(std::unique_ptr<Arena> arena, Arena::Make(planned.layout.num_slots, planned.layout.slot_bytes));
  std::unique_ptr<Arena> kept;
  if (planned.layout.kept_blocks > 0) {
    SLUICE_ASSIGN(kept, Arena::Make(planned.layout.kept_blocks, graph::kKeptBlockBytes));
  }
  SLUICE_ASSIGN(std::unique_ptr<io::BlockReader> reader, io::MakeBlockReader(options.reader));
  return std::unique_ptr<Stream>(std::make_unique<Engine>(groups, options, std::move(planned), std::move(arena),
                                                          std::move(kept), std::move(reader), std::move(leases)));
}

void Stream::EnqueueAll() {
  std::vector<uint32_t> all(num_groups());
  std::iota(all.begin(), all.end(), 0);
  Enqueue(all);
}

}  // namespace sluice::stream
