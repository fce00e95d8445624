#include "verify/sampled_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <random>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "checkpoint/digest_tree.h"

namespace sluice::verify {
namespace {

using graph::Range;

// Chosen blocks of a tensor, one behind the other.
class BlocksNode final : public graph::Node {
 public:
  BlocksNode(const graph::Node* input, uint64_t num_elements, const TensorSample& sample)
      : Node(fmt::format("blocks of {}: {}", sample.block_elements, fmt::join(sample.blocks, " ")), input->encoding(),
             num_elements, {input}),
        block_elements_(sample.block_elements),
        blocks_(sample.blocks) {}

  void Needs(Range out, graph::NeedList* needs) const override {
    for (uint64_t at = out.begin; at < out.end;) {
      const uint64_t within = at % block_elements_, length = std::min(block_elements_ - within, out.end - at);
      const uint64_t begin = blocks_[at / block_elements_] * block_elements_ + within;
      needs->Add(0, {begin, begin + length});
      at += length;
    }
  }
  uint64_t MostNeeds() const override { return graph::kPieceElements / block_elements_ + 2; }
  void Compute(const graph::ComputeArgs& args) const override {
    uint8_t* out = args.out;
    for (const graph::View& view : args.in) {
      const uint64_t size_bytes = encoding().BytesOf(view.range.size());
      std::memcpy(out, view.data, size_bytes);
      out += size_bytes;
    }
  }
  double NanosecondsPerElement() const override { return 0.1; }

 private:
  uint64_t block_elements_;
  std::vector<uint64_t> blocks_;
};

}  // namespace

SampledCheckpoint::SampledCheckpoint(std::shared_ptr<const checkpoint::Checkpoint> inner,
                                     std::vector<TensorSample> samples)
    : WrappedCheckpoint(std::move(inner)) {
  for (const TensorSample& sample : samples) {
    const checkpoint::TensorInfo tensor = ModelOf(sample).tensors()[sample.tensor];
    SLUICE_CHECK(!sample.blocks.empty() && sample.block_elements % tensor.encoding->block_elements == 0);
    uint64_t elements = 0;
    for (const uint64_t block : sample.blocks) {
      const uint64_t begin = block * sample.block_elements;
      SLUICE_CHECK(begin < tensor.num_elements);
      elements += std::min(tensor.num_elements - begin, sample.block_elements);
    }
    const uint64_t shape[] = {elements};
    tensors_.Add(sample.name.empty() ? tensor.name : std::string_view(sample.name), tensor.encoding, shape, elements);
  }
  samples_.reserve(samples.size());
  for (const uint32_t added : tensors_.Sort()) samples_.push_back(std::move(samples[added]));
}

const graph::Node* SampledCheckpoint::MakeNode(size_t i, graph::Graph* graph) const {
  const graph::Node* whole = ModelOf(samples_[i]).MakeNode(samples_[i].tensor, graph);
  return graph->Add(std::make_unique<BlocksNode>(whole, tensors_[i].num_elements, samples_[i]));
}

uint64_t ChunkElements(quant::Encoding encoding) {
  const uint64_t blocks = checkpoint::kChunkBytes / encoding.BytesOf(encoding->block_elements);
  SLUICE_CHECK(blocks * encoding.BytesOf(encoding->block_elements) == checkpoint::kChunkBytes);
  return blocks * encoding->block_elements;
}

uint64_t CountChunks(const checkpoint::TensorInfo& tensor) {
  return (tensor.size_bytes() + checkpoint::kChunkBytes - 1) / checkpoint::kChunkBytes;
}

std::vector<TensorSample> DrawChunks(const checkpoint::Catalogue& tensors, double share, uint64_t nonce) {
  std::mt19937_64 generator(nonce);
  std::vector<std::pair<uint32_t, uint64_t>> all;  // of a model of 1 TB a million
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    for (uint64_t chunk = 0; chunk < CountChunks(tensors[i]); ++chunk) all.emplace_back(i, chunk);
  }
  std::vector<TensorSample> samples;
  const auto take = [&](const std::pair<uint32_t, uint64_t>& one) {
    if (samples.empty() || samples.back().tensor != one.first) {
      samples.push_back({one.first, ChunkElements(tensors[one.first].encoding), {}});
    }
    samples.back().blocks.push_back(one.second);
  };
  const double limit = share * 18446744073709551616.0;  // 2^64
  for (const auto& one : all) {
    if (static_cast<double>(generator()) < limit) take(one);
  }
  if (samples.empty() && !all.empty()) take(all[generator() % all.size()]);
  return samples;
}

}  // namespace sluice::verify
