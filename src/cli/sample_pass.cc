#include "cli/sample_pass.h"

#include <array>
#include <map>
#include <string_view>
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

using Model = std::shared_ptr<const checkpoint::Checkpoint>;

// Whose tensor a pair has on a side: of a head beside its embedding both are one model's.
const Model& ModelOf(const verify::TensorPair& pair, int side, const Model& a, const Model& b) {
  return pair.tied ? (pair.head_in_a ? a : b) : side == 0 ? a : b;
}

verify::BlockSample DrawOf(const Model& a, const Model& b, const std::vector<verify::TensorPair>& pairs,
                           const verify::Nonce& nonce, const verify::SampleAim& aim) {
  std::vector<verify::Stratum> strata;
  strata.reserve(pairs.size());
  for (const verify::TensorPair& pair : pairs) {
    strata.push_back({pair.name, ModelOf(pair, 0, a, b)->tensors()[pair.a].num_elements});
  }
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
    if (pairs[i].tied) return std::nullopt;
    const verify::BlockSample::Drawn& own = fingerprint.sample.strata[is_a ? pairs[i].a : pairs[i].b];
    if (own.blocks != sample.strata[i].blocks) return std::nullopt;
    blocks += own.blocks.size();
  }
  if (blocks != fingerprint.sample.num_drawn) return std::nullopt;
  return fingerprint;
}

// Of a head and an embedding that a fingerprint has: the drawn blocks of the head, by their places, of which it has the
// embedding's too, and they are not the same.
std::vector<size_t> BlocksThatAreNoCopy(const verify::Fingerprint& fingerprint, uint32_t head, uint32_t embedding) {
  const auto& drawn = fingerprint.sample.strata[head].blocks;
  const auto& others = fingerprint.sample.strata[embedding].blocks;
  std::vector<size_t> places;
  for (size_t i = 0, j = 0; i < drawn.size() && j < others.size();) {
    if (drawn[i] == others[j] && fingerprint.prints[head][i].stored != fingerprint.prints[embedding][j].stored) {
      places.push_back(i);
    }
    drawn[i] < others[j] ? ++i : ++j;
  }
  return places;
}

// Of a name that is there.
uint32_t PlaceOf(const checkpoint::Catalogue& tensors, std::string_view name) {
  const auto place = tensors.Find(name);
  SLUICE_CHECK(place);
  return static_cast<uint32_t>(*place);
}

bool HasFacts(const checkpoint::Checkpoint& model, size_t tensor) {
  graph::Graph graph;
  return !stream::CollectFacts(std::array{model.MakeNode(tensor, &graph)}).empty();
}

}  // namespace

Result<verify::Nonce> SampleOptions::MakeNonce() const {
  return nonce.empty() ? verify::RandomNonce() : verify::ParseNonce(nonce);
}

bool IsWorthSampling(const Model& a, const Model& b, const verify::SampleAim& aim) {
  const std::vector<verify::TensorPair> pairs = verify::PairTensors(a->tensors(), b->tensors());
  const verify::BlockSample sample = DrawOf(a, b, pairs, verify::Nonce(16), aim);
  if (sample.num_drawn * kLeastSaving >= sample.num_blocks) return false;
  for (const verify::TensorPair& pair : pairs) {
    if (HasFacts(*ModelOf(pair, 0, a, b), pair.a) || HasFacts(*ModelOf(pair, 1, a, b), pair.b)) return false;
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
  const verify::BlockSample sample = DrawOf(a, b, pairs, nonce, options.aim);
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
    const Model &first = ModelOf(pairs[i], 0, a, b), &second = ModelOf(pairs[i], 1, a, b);
    of_a.push_back({pairs[i].a, kSampleBlockElements, drawn.blocks, pairs[i].name, first});
    of_b.push_back({pairs[i].b, kSampleBlockElements, drawn.blocks, pairs[i].name, second});
    tensors.push_back(TensorOf(pairs[i].name, first->tensors()[pairs[i].a], second->tensors()[pairs[i].b], drawn));
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
  std::vector<uint32_t> of_file;                         // by group: the fingerprint's tensor
  std::map<std::string, size_t, std::less<>> groups_of;  // by name of the tensor
  struct OwnHead {
    size_t head, embedding;  // groups
  };
  std::vector<OwnHead> heads;                         // that the model alone has
  std::vector<std::pair<size_t, size_t>> not_copied;  // group and block, of a head that the fingerprint alone has
  for (const verify::TensorPair& pair : pairs) {
    uint32_t a = pair.a, b = pair.b;
    // The fingerprint's head meets the model's embedding, as blocks of both are not to be had of its own. The model's
    // head lies at the blocks that are read of its embedding.
    if (pair.tied && pair.head_in_a) b = PlaceOf(model->tensors(), fingerprint.tensors[pair.b].name);
    if (pair.tied && !pair.head_in_a) {
      a = PlaceOf(fingerprint.tensors, model->tensors()[pair.b].name);
      b = pair.a;
    }
    const verify::BlockSample::Drawn& drawn = fingerprint.sample.strata[a];
    if (drawn.blocks.empty()) continue;
    const bool is_own_head = pair.tied && !pair.head_in_a;
    // Where the model's embedding is another too, the fingerprint's head may still have been a copy of its own.
    std::vector<size_t> no_copy;
    if (pair.tied && pair.head_in_a) no_copy = BlocksThatAreNoCopy(fingerprint, pair.a, pair.b);
    const bool is_tied = is_own_head || !no_copy.empty();
    if (is_own_head) heads.push_back({tensors.size(), pair.b});
    for (const size_t block : no_copy) not_copied.emplace_back(tensors.size(), block);
    groups_of[pair.name] = tensors.size();
    samples.push_back({b, kSampleBlockElements, drawn.blocks, pair.name});
    tensors.push_back(
        TensorOf(pair.name, is_own_head ? model->tensors()[b] : fingerprint.tensors[a], model->tensors()[b], drawn));
    tensors.back().tied = is_tied;
    of_file.push_back(a);
  }
  std::vector<std::vector<verify::BlockPrint>> kept(tensors.size());  // of heads and embeddings that meet
  uint64_t kept_blocks = 0;
  for (OwnHead& own : heads) {
    own.embedding = groups_of.find(model->tensors()[own.embedding].name)->second;
    for (const size_t group : {own.head, own.embedding}) kept[group].resize(tensors[group].blocks.size());
    kept_blocks += 2 * tensors[own.head].blocks.size();
  }
  uint64_t bytes_read = 0;
  if (!tensors.empty()) {
    const SampledCheckpoint sampled(model, std::move(samples));
    const stream::CheckpointGroups groups(sampled);
    verify::BlockSink sink(
        {&sampled.tensors()},
        fingerprint.sample.num_drawn * sizeof(verify::BlockComparison) + kept_blocks * sizeof(verify::BlockPrint),
        [&](uint32_t group, uint64_t block, uint64_t elements, std::span<const uint8_t* const> bytes) {
          const quant::Encoding encoding = sampled.tensors()[group].encoding;
          const verify::BlockPrint print = verify::PrintBlock(encoding, bytes[0], elements);
          if (!kept[group].empty()) kept[group][block] = print;
          tensors[group].blocks[block] = verify::ComparePrints(
              fingerprint.tensors[of_file[group]].encoding, fingerprint.prints[of_file[group]][block], encoding, print);
        });
    SLUICE_ASSIGN(const PassReport pass, RunPass(session, groups, std::array<stream::Sink*, 1>{&sink}, "fingerprint"));
    if (!pass.ran) return std::nullopt;
    bytes_read = pass.stats.payload_bytes;
  }
  for (const OwnHead& own : heads) {
    const quant::Encoding encoding = model->tensors()[PlaceOf(model->tensors(), tensors[own.head].name)].encoding;
    for (size_t i = 0; i < kept[own.head].size(); ++i) {
      tensors[own.head].blocks[i] =
          verify::ComparePrints(encoding, kept[own.embedding][i], encoding, kept[own.head][i]);
    }
  }
  // Whatever the model's embedding has there.
  for (const auto& [group, block] : not_copied) tensors[group].blocks[block].state = verify::BlockState::kChanged;
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
