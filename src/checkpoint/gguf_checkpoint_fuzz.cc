// Any bytes as a GGUF model: opens or is refused, and then every tensor has a node whose needs lie inside the file.
#include <algorithm>
#include <string>

#include "base/check.h"
#include "checkpoint/gguf_checkpoint.h"

namespace sluice::checkpoint {
namespace {

class FuzzSource final : public io::ByteSource {
 public:
  FuzzSource(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return size_; }
  io::SourceId id() const override { return {}; }
  Result<void> Read(uint64_t offset, std::span<uint8_t> out) const override {
    SLUICE_CHECK(offset <= size_ && out.size() <= size_ - offset);
    std::copy_n(data_ + offset, out.size(), out.data());
    return {};
  }

 private:
  const std::string name_ = "fuzz.gguf";
  const uint8_t* data_;
  size_t size_;
};

void Use(const Checkpoint& model, uint64_t size_bytes) {
  (void)model.config()->Pretty();
  graph::Graph graph;
  for (size_t i = 0; i < model.tensors().size(); ++i) {
    const TensorInfo tensor = model.tensors()[i];
    SLUICE_CHECK(model.tensors().Find(tensor.name) == i);
    const graph::Node* node = model.MakeNode(i, &graph);
    SLUICE_CHECK(node->num_elements() == tensor.num_elements && node->encoding() == tensor.encoding);
    if (node->inputs().empty()) continue;
    graph::NeedList needs;
    node->Needs({0, tensor.num_elements}, &needs);
    const auto& stored = dynamic_cast<const graph::StoredNode&>(*node->inputs()[0]);
    uint64_t elements = 0;
    for (const graph::Need& need : needs.needs()) {
      SLUICE_CHECK(stored.BytesOf(need.range).end <= size_bytes);
      elements += need.range.size();
    }
    SLUICE_CHECK(elements == tensor.num_elements);
  }
}

}  // namespace
}  // namespace sluice::checkpoint

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  checkpoint::OpenOptions options;
  options.open_source = [&](const std::string&) -> Result<std::shared_ptr<const io::ByteSource>> {
    return std::make_shared<checkpoint::FuzzSource>(data, size);
  };
  const auto model = checkpoint::OpenGguf("fuzz.gguf", options);
  if (model) checkpoint::Use(**model, size);
  return 0;
}
