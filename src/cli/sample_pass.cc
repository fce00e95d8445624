#include "cli/sample_pass.h"

#include <array>
#include <utility>
#include <vector>

#include "base/check.h"
#include "cli/run_pass.h"
#include "stream/checkpoint_groups.h"
#include "stream/planner.h"
#include "verify/block_sink.h"
#include "verify/sampled_checkpoint.h"

namespace sluice::cli {
namespace {

using verify::kSampleBlockElements;
using verify::SampledCheckpoint;
using verify::SampledTensor;
using verify::TensorSample;

// Reading at random costs a few times what reading in a row does: a sample of a quarter saves nothing.
constexpr uint64_t kLeastSaving = 4;

verify::BlockSample DrawOf(const checkpoint::Catalogue& a, const std::vector<verify::TensorPair>& pairs,
                           const verify::Nonce& nonce, const verify::SampleAim& aim) {
  std::vector<verify::Stratum> strata;
  strata.reserve(pairs.size());
  for (const verify::TensorPair& pair : pairs) strata.push_back({pair.name, a[pair.a].num_elements});
  return verify::DrawBlocks(strata, nonce, aim);
}

// With room for what is found of each drawn block.
SampledTensor TensorOf(const std::string& name, const checkpoint::TensorInfo& a, const checkpoint::TensorInfo& b,
                       const verify::BlockSample::Drawn& drawn) {
  SampledTensor tensor;
  tensor.name = name;
  tensor.encoding_a = a.encoding.name();
  tensor.encoding_b = b.encoding.name();
  tensor.shape.assign(a.shape.begin(), a.shape.end());
  tensor.num_elements = a.num_elements;
  tensor.num_blocks = drawn.num_blocks;
  tensor.drawn = drawn.blocks;
  tensor.blocks.resize(drawn.blocks.size());
  return tensor;
}

// Room for the prints of one side's drawn blocks, if a fingerprint of it alone has the same.
Result<std::optional<verify::Fingerprint>> BeginKept(const checkpoint::Checkpoint& model,
                                                     const std::vector<verify::TensorPair>& pairs, bool is_a,
                                                     const verify::BlockSample& sample, const verify::Nonce& nonce,
                                                     const verify::SampleAim& aim) {
  SLUICE_ASSIGN(verify::Fingerprint fingerprint, verify::BeginFingerprint(model, nonce, aim));
  uint64_t blocks = 0;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const verify::BlockSample::Drawn& own = fingerprint.sample.strata[is_a ? pairs[i].a : pairs[i].b];
    if (pairs[i].tied || own.blocks != sample.strata[i].blocks) return std::nullopt;
    blocks += own.blocks.size();
  }
  if (blocks != fingerprint.sample.num_drawn) return std::nullopt;
  return fingerprint;
}

bool HasFacts(const checkpoint::Checkpoint& model, size_t tensor) {
  graph::Graph graph;
  return !stream::CollectFacts(std::array{model.MakeNode(tensor, &graph)}).empty();
}

}  // namespace

Result<verify::Nonce> SampleOptions::MakeNonce() const {
  return nonce.empty() ? verify::RandomNonce() : verify::ParseNonce(nonce);
}

bool IsWorthSampling(const checkpoint::Checkpoint& a, const checkpoint::Checkpoint& b, const verify::SampleAim& aim) {
  const std::vector<verify::TensorPair> pairs = verify::PairTensors(a.tensors(), b.tensors());
  const verify::BlockSample sample = DrawOf(a.tensors(), pairs, verify::Nonce(16), aim);
  if (sample.num_drawn * kLeastSaving >= sample.num_blocks) return false;
  for (const verify::TensorPair& pair : pairs) {
    if (HasFacts(a, pair.a) || HasFacts(b, pair.b)) return false;
  }
  return true;
}

Result<std::optional<verify::SampleResult>> CompareSamples(Session& session,
                                                           const std::shared_ptr<const checkpoint::Checkpoint>& a,
                                                           const std::shared_ptr<const checkpoint::Checkpoint>& b,
                                                           const SampleOptions& options, KeptPrints* kept) {
  SLUICE_TRY(verify::CheckAim(options.aim));
  SLUICE_ASSIGN(const verify::Nonce nonce, options.MakeNonce());
  const std::vector<verify::TensorPair> pairs = verify::PairTensors(a->tensors(), b->tensors());
  const verify::BlockSample sample = DrawOf(a->tensors(), pairs, nonce, options.aim);
  KeptPrints prints;
  if (kept != nullptr) {
    SLUICE_ASSIGN(prints[0], BeginKept(*a, pairs, true, sample, nonce, options.aim));
    SLUICE_ASSIGN(prints[1], BeginKept(*b, pairs, false, sample, nonce, options.aim));
  }

  // Tensors without elements have no blocks, and no group.
  std::vector<TensorSample> of_a, of_b;
  std::vector<SampledTensor> tensors;
  std::vector<std::array<uint32_t, 2>> places;  // by group: in the catalogues
  std::vector<std::vector<stream::LockstepGroups::Member>> members;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const verify::BlockSample::Drawn& drawn = sample.strata[i];
    if (drawn.blocks.empty()) continue;
    of_a.push_back({pairs[i].a, kSampleBlockElements, drawn.blocks, pairs[i].name});
    of_b.push_back({pairs[i].b, kSampleBlockElements, drawn.blocks, pairs[i].name});
    tensors.push_back(TensorOf(pairs[i].name, a->tensors()[pairs[i].a], b->tensors()[pairs[i].b], drawn));
    tensors.back().tied = pairs[i].tied;
    places.push_back({pairs[i].a, pairs[i].b});
  }
  uint64_t bytes_read = 0;
  if (!tensors.empty()) {
    const SampledCheckpoint sampled_a(a, std::move(of_a)), sampled_b(b, std::move(of_b));
    for (uint32_t i = 0; i < tensors.size(); ++i) members.push_back({{&sampled_a, i}, {&sampled_b, i}});
    const stream::LockstepGroups groups(std::move(members));
    const checkpoint::Catalogue &catalogue_a = sampled_a.tensors(), &catalogue_b = sampled_b.tensors();
    const uint64_t block_bytes =
        sizeof(verify::BlockComparison) + sizeof(verify::BlockPrint) * ((prints[0] ? 1 : 0) + (prints[1] ? 1 : 0));
    verify::BlockSink sink(
        {&catalogue_a, &catalogue_b}, sample.num_drawn * block_bytes,
        [&](uint32_t group, uint64_t block, uint64_t elements, std::span<const uint8_t* const> bytes) {
          const std::array encodings = {catalogue_a[group].encoding, catalogue_b[group].encoding};
          tensors[group].blocks[block] = verify::CompareBlock(encodings[0], bytes[0], encodings[1], bytes[1], elements);
          for (size_t side = 0; side < 2; ++side) {
            if (!prints[side]) continue;
            prints[side]->prints[places[group][side]][block] =
                verify::PrintBlock(encodings[side], bytes[side], elements);
          }
        });
    SLUICE_ASSIGN(const PassReport pass, RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, "fingerprint"));
    if (!pass.ran) return std::nullopt;
    bytes_read = pass.stats.payload_bytes;
  }
  const checkpoint::ModelConfig* config = a->config() != nullptr ? a->config() : b->config();
  verify::SampleResult result = verify::SummariseSample(tensors, sample, nonce, options.aim, config);
  result.bytes_read = bytes_read;
  if (kept != nullptr) *kept = std::move(prints);
  return result;
}

Result<std::optional<TakenFingerprint>> TakeFingerprint(Session& session,
                                                        const std::shared_ptr<const checkpoint::Checkpoint>& model,
                                                        const SampleOptions& options) {
  SLUICE_TRY(verify::CheckAim(options.aim));
  SLUICE_ASSIGN(const verify::Nonce nonce, options.MakeNonce());
  TakenFingerprint taken;
  SLUICE_ASSIGN(taken.fingerprint, verify::BeginFingerprint(*model, nonce, options.aim));
  verify::Fingerprint& fingerprint = taken.fingerprint;
  std::vector<TensorSample> samples;
  for (uint32_t i = 0; i < fingerprint.tensors.size(); ++i) {
    const std::vector<uint64_t>& blocks = fingerprint.sample.strata[i].blocks;
    if (!blocks.empty()) samples.push_back({i, kSampleBlockElements, blocks});
  }
  if (samples.empty()) return taken;
  const SampledCheckpoint sampled(model, std::move(samples));
  const stream::CheckpointGroups groups(sampled);
  verify::BlockSink sink({&sampled.tensors()}, fingerprint.sample.num_drawn * sizeof(verify::BlockPrint),
                         [&](uint32_t group, uint64_t block, uint64_t elements, std::span<const uint8_t* const> bytes) {
                           fingerprint.prints[sampled.sample(group).tensor][block] =
                               verify::PrintBlock(sampled.tensors()[group].encoding, bytes[0], elements);
                         });
  SLUICE_ASSIGN(const PassReport pass, RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, "fingerprint"));
  if (!pass.ran) return std::nullopt;
  taken.bytes_read = pass.stats.payload_bytes;
  return taken;
}

Result<std::optional<verify::SampleResult>> CompareWithFingerprint(
    Session& session, const verify::Fingerprint& fingerprint, const std::string& file,
    const std::shared_ptr<const checkpoint::Checkpoint>& model) {
  const std::vector<verify::TensorPair> pairs = verify::PairTensors(fingerprint.tensors, model->tensors());
  std::vector<TensorSample> samples;
  std::vector<SampledTensor> tensors;
  std::vector<uint32_t> of_file;  // by group: the fingerprint's tensor
  for (const verify::TensorPair& pair : pairs) {
    const verify::BlockSample::Drawn& drawn = fingerprint.sample.strata[pair.a];
    if (drawn.blocks.empty()) continue;
    samples.push_back({pair.b, kSampleBlockElements, drawn.blocks, pair.name});
    tensors.push_back(TensorOf(pair.name, fingerprint.tensors[pair.a], model->tensors()[pair.b], drawn));
    tensors.back().tied = pair.tied;
    of_file.push_back(pair.a);
  }
  uint64_t bytes_read = 0;
  if (!tensors.empty()) {
    const SampledCheckpoint sampled(model, std::move(samples));
    const stream::CheckpointGroups groups(sampled);
    verify::BlockSink sink(
        {&sampled.tensors()}, fingerprint.sample.num_drawn * sizeof(verify::BlockComparison),
        [&](uint32_t group, uint64_t block, uint64_t elements, std::span<const uint8_t* const> bytes) {
          const quant::Encoding encoding = sampled.tensors()[group].encoding;
          tensors[group].blocks[block] = verify::ComparePrints(fingerprint.tensors[of_file[group]].encoding,
                                                               fingerprint.prints[of_file[group]][block], encoding,
                                                               verify::PrintBlock(encoding, bytes[0], elements));
        });
    SLUICE_ASSIGN(const PassReport pass, RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, "fingerprint"));
    if (!pass.ran) return std::nullopt;
    bytes_read = pass.stats.payload_bytes;
  }
  verify::SampleResult result =
      verify::SummariseSample(tensors, fingerprint.sample, fingerprint.nonce, fingerprint.aim, model->config());
  result.against = file;
  result.bytes_read = bytes_read;
  return result;
}

std::vector<SampledTensor> TensorsOf(const verify::Fingerprint& fingerprint) {
  std::vector<SampledTensor> tensors;
  for (size_t i = 0; i < fingerprint.tensors.size(); ++i) {
    const checkpoint::TensorInfo info = fingerprint.tensors[i];
    SampledTensor tensor = TensorOf(std::string(info.name), info, info, fingerprint.sample.strata[i]);
    for (size_t block = 0; block < tensor.blocks.size(); ++block) {
      const verify::BlockPrint& print = fingerprint.prints[i][block];
      tensor.blocks[block].elements = print.elements;
      tensor.blocks[block].has_numbers_a = print.has_numbers;
      tensor.blocks[block].a = print.moments;
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace sluice::cli
