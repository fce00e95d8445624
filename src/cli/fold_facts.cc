#include "cli/fold_facts.h"

#include <array>

#include "stream/checkpoint_groups.h"
#include "stream/digest_sink.h"
#include "verify/sampled_checkpoint.h"

namespace sluice::cli {

Result<PassReport> FoldFacts(Session& session, const std::shared_ptr<const checkpoint::Checkpoint>& checkpoint,
                             const std::vector<uint32_t>& tensors, const std::string& what) {
  std::vector<verify::TensorSample> first_chunks;
  for (const uint32_t tensor : tensors) {
    first_chunks.push_back({tensor, verify::ChunkElements(checkpoint->tensors()[tensor].encoding), {0}});
  }
  const verify::SampledCheckpoint sampled(checkpoint, std::move(first_chunks));
  const stream::CheckpointGroups groups(sampled);
  stream::DigestSink sink(sampled.tensors());
  return RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, what);
}

}  // namespace sluice::cli
