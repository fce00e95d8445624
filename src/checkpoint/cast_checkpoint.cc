// A checkpoint whose float tensors are another's, cast as they are read.
#include <fmt/format.h>

#include "base/check.h"
#include "checkpoint/wrapped_checkpoint.h"

namespace sluice::checkpoint {
namespace {

using nlohmann::ordered_json;

class CastCheckpoint final : public WrappedCheckpoint {
 public:
  CastCheckpoint(std::shared_ptr<const Checkpoint> inner, quant::Encoding encoding)
      : WrappedCheckpoint(std::move(inner)) {
    const Catalogue& tensors = inner_->tensors();
    for (size_t i = 0; i < tensors.size(); ++i) {
      const TensorInfo tensor = tensors[i];
      tensors_.Add(tensor.name, tensor.encoding->is_float ? encoding : tensor.encoding, tensor.shape,
                   tensor.num_elements);
    }
    tensors_.Sort();  // the names are sorted already: no tensor changes its place
    if (inner_->config() != nullptr) config_ = WithDtype(*inner_->config(), encoding);
  }

  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override {
    return graph->AddCast(inner_->MakeNode(i, graph), tensors_[i].encoding);
  }

 private:
  // The key that is there says it, of transformers 4 or 5; where there is none, the older one, which both read.
  static std::shared_ptr<const ModelConfig> WithDtype(const ModelConfig& config, quant::Encoding encoding) {
    ordered_json json = config.json();
    const std::string name(quant::DtypeName(encoding));
    if (!json.contains("torch_dtype") && !json.contains("dtype")) json["torch_dtype"] = name;
    const auto replace = [&](ordered_json* object) {
      for (const char* key : {"torch_dtype", "dtype"}) {
        if (object->contains(key)) (*object)[key] = name;
      }
    };
    replace(&json);
    if (json.contains("text_config") && json["text_config"].is_object()) replace(&json["text_config"]);
    return ModelConfig::FromJson(std::move(json));
  }
};

}  // namespace

Result<std::shared_ptr<const Checkpoint>> CastTo(std::shared_ptr<const Checkpoint> inner, quant::Encoding encoding) {
  SLUICE_CHECK(encoding->is_float && !encoding.is_block());
  const Catalogue& tensors = inner->tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const quant::Encoding from = tensors[i].encoding;
    if (!from->is_float || graph::Graph::CanCast(from, encoding)) continue;
    return Fail(Error{
        ErrorCode::kUnsupported,
        fmt::format("arithmetic on {} is not supported yet, so the tensor cannot be cast to {}; leave --dtype out, or "
                    "convert the model with another tool first",
                    from.name(), encoding.name()),
        {inner->ref(), std::string(tensors[i].name)}});
  }
  return std::make_shared<CastCheckpoint>(std::move(inner), encoding);
}

}  // namespace sluice::checkpoint
