#include "verify/testing/memory_checkpoint.h"

#include "base/check.h"
#include "io/memory_source.h"

namespace sluice::tests {
namespace {

class MemoryCheckpoint final : public checkpoint::Checkpoint {
 public:
  MemoryCheckpoint(std::string ref, std::vector<MemoryTensor> tensors, const std::string& config) {
    ref_ = std::move(ref);
    kind_ = "memory";
    std::vector<std::shared_ptr<const io::ByteSource>> sources;
    for (MemoryTensor& tensor : tensors) {
      const quant::Encoding encoding = quant::EncodingByName(tensor.encoding);
      SLUICE_CHECK(encoding.valid());
      uint64_t num_elements = 1;
      for (const uint64_t dim : tensor.shape) num_elements *= dim;
      SLUICE_CHECK(encoding.BytesOf(num_elements) == tensor.bytes.size());
      tensors_.Add(tensor.name, encoding, tensor.shape, num_elements);
      sources.push_back(std::make_shared<io::MemorySource>(tensor.name, std::move(tensor.bytes)));
    }
    for (const uint32_t added : tensors_.Sort()) sources_.push_back(sources[added]);
    if (!config.empty()) {
      auto parsed = checkpoint::ModelConfig::Parse(config, "config.json");
      SLUICE_CHECK(parsed.has_value());
      config_ = std::move(*parsed);
    }
  }
  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override {
    return graph->AddStored(sources_[i], 0, tensors_[i].encoding, tensors_[i].num_elements);
  }

 private:
  std::vector<std::shared_ptr<const io::ByteSource>> sources_;
};

}  // namespace

MemoryTensor EncodedTensor(std::string name, const std::string& encoding, std::vector<uint64_t> shape,
                           const std::vector<float>& values) {
  const quant::Encoding target = quant::EncodingByName(encoding);
  SLUICE_CHECK(target.valid() && target->encode != nullptr);
  std::vector<uint8_t> bytes(target.BytesOf(values.size()));
  target->encode(values.data(), values.size(), bytes.data());
  return {std::move(name), encoding, std::move(shape), std::move(bytes)};
}

std::shared_ptr<const checkpoint::Checkpoint> MakeMemoryCheckpoint(std::string ref, std::vector<MemoryTensor> tensors,
                                                                   const std::string& config) {
  return std::make_shared<MemoryCheckpoint>(std::move(ref), std::move(tensors), config);
}

}  // namespace sluice::tests
