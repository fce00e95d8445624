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

uint64_t ChunkElements(quant::Encoding encoding) {
  const uint64_t blocks = checkpoint::kChunkBytes / encoding.BytesOf(encoding->block_elements);
  SLUICE_CHECK(blocks * encoding.BytesOf(encoding->block_elements) == checkpoint::kChunkBytes);
  return blocks * encoding->block_elements;
}

// Chosen chunks of a tensor, one behind the other.
class ChunksNode final : public graph::Node {
 public:
  ChunksNode(const graph::Node* input, uint64_t num_elements, uint64_t chunk_elements, std::vector<uint64_t> chunks)
      : Node(fmt::format("chunks of {}: {}", chunk_elements, fmt::join(chunks, " ")), input->encoding(), num_elements,
             {input}),
        chunk_elements_(chunk_elements),
        chunks_(std::move(chunks)) {}

  void Needs(Range out, graph::NeedList* needs) const override {
    for (uint64_t at = out.begin; at < out.end;) {
      const uint64_t within = at % chunk_elements_, length = std::min(chunk_elements_ - within, out.end - at);
      const uint64_t begin = chunks_[at / chunk_elements_] * chunk_elements_ + within;
      needs->Add(0, {begin, begin + length});
      at += length;
    }
  }
  uint64_t MostNeeds() const override { return graph::kPieceElements / chunk_elements_ + 2; }
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
  uint64_t chunk_elements_;
  std::vector<uint64_t> chunks_;
};

}  // namespace

SampledCheckpoint::SampledCheckpoint(std::shared_ptr<const checkpoint::Checkpoint> inner,
                                     std::vector<ChunkSample> samples)
    : WrappedCheckpoint(std::move(inner)), samples_(std::move(samples)) {
  for (const ChunkSample& sample : samples_) {
    const checkpoint::TensorInfo tensor = inner_->tensors()[sample.tensor];
    const uint64_t chunk = ChunkElements(tensor.encoding);
    uint64_t elements = 0;
    for (const uint64_t i : sample.chunks) elements += std::min(tensor.num_elements - i * chunk, chunk);
    const uint64_t shape[] = {elements};
    tensors_.Add(tensor.name, tensor.encoding, shape, elements);
  }
  tensors_.Sort();  // nothing moves: the other's order is that of names
}

const graph::Node* SampledCheckpoint::MakeNode(size_t i, graph::Graph* graph) const {
  const ChunkSample& sample = samples_[i];
  const graph::Node* whole = inner_->MakeNode(sample.tensor, graph);
  return graph->Add(
      std::make_unique<ChunksNode>(whole, tensors_[i].num_elements, ChunkElements(whole->encoding()), sample.chunks));
}

uint64_t CountChunks(const checkpoint::TensorInfo& tensor) {
  return (tensor.size_bytes() + checkpoint::kChunkBytes - 1) / checkpoint::kChunkBytes;
}

std::vector<ChunkSample> DrawChunks(const checkpoint::Catalogue& tensors, double share, uint64_t nonce) {
  std::mt19937_64 generator(nonce);
  std::vector<std::pair<uint32_t, uint64_t>> all;  // of a model of 1 TB a million
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    for (uint64_t chunk = 0; chunk < CountChunks(tensors[i]); ++chunk) all.emplace_back(i, chunk);
  }
  std::vector<ChunkSample> samples;
  const auto take = [&](const std::pair<uint32_t, uint64_t>& one) {
    if (samples.empty() || samples.back().tensor != one.first) samples.push_back({one.first, {}});
    samples.back().chunks.push_back(one.second);
  };
  const double limit = share * 18446744073709551616.0;  // 2^64
  for (const auto& one : all) {
    if (static_cast<double>(generator()) < limit) take(one);
  }
  if (samples.empty() && !all.empty()) take(all[generator() % all.size()]);
  return samples;
}

}  // namespace sluice::verify
