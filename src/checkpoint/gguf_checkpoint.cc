#include "checkpoint/gguf_checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "checkpoint/architecture.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_nodes.h"

namespace sluice::checkpoint {
namespace {

using formats::GgufKey;
using formats::GgufTensor;

// Tensors that config.json holds as numbers (gguf_rope.cc).
bool IsRopeFactors(std::string_view name) {
  return name == "rope_freqs.weight" || name == "rope_factors_long.weight" || name == "rope_factors_short.weight";
}

std::vector<uint64_t> ShapeOf(const GgufTensor& tensor) {
  return std::vector<uint64_t>(std::make_reverse_iterator(tensor.dims.begin() + tensor.rank), tensor.dims.rend());
}

}  // namespace

Result<std::shared_ptr<const Checkpoint>> OpenGguf(const std::string& path, const OpenOptions& options) {
  return GgufCheckpoint::Open(path, options);
}

Result<std::shared_ptr<const Checkpoint>> GgufCheckpoint::Open(const std::string& path, const OpenOptions& options) {
  SLUICE_ASSIGN(GgufParts parts, GgufParts::Open(path, options));
  std::shared_ptr<GgufCheckpoint> opened(new GgufCheckpoint(std::move(parts)));
  opened->ref_ = path;
  opened->kind_ = "gguf";
  for (const auto& file : opened->parts_.files()) {
    const io::ByteSource& source = *file->source();
    opened->files_.push_back(
        {std::filesystem::path(source.name()).filename().string(), source.name(), source.size_bytes()});
  }
  SLUICE_ASSIGN(GgufModel model, ReadGgufModel(opened->parts_, &opened->problems_));
  SLUICE_TRY(opened->AddTensors(model));
  SLUICE_TRY(opened->AddTokenizer());
  opened->config_ = ModelConfig::FromJson(std::move(model.config));
  for (size_t i = 0; i < opened->files_.size(); ++i) {
    const uint64_t unused = opened->parts_.files()[i]->unused_bytes();
    if (unused == 0) continue;
    opened->problems_.push_back({Problem::Severity::kWarning, opened->files_[i].name, "",
                                 fmt::format("{} bytes belong to no tensor and are not padding", unused)});
  }
  return opened;
}

Result<void> GgufCheckpoint::AddTensors(const GgufModel& model) {
  head_dim_ = model.sizes.head_dim;
  std::vector<Place> places;
  for (const GgufParts::Tensor& tensor : parts_.tensors()) {
    if (!IsRopeFactors(tensor.info->name)) SLUICE_TRY(AddTensor(model, tensor, &places));
  }
  for (const uint32_t added : tensors_.Sort()) places_.push_back(places[added]);
  ReportMissing(model);
  return {};
}

Result<void> GgufCheckpoint::AddTensor(const GgufModel& model, const GgufParts::Tensor& part,
                                       std::vector<Place>* places) {
  const GgufTensor& tensor = *part.info;
  const auto fail = [&](ErrorCode code, std::string message) {
    return Fail(Error{code, std::move(message), {part.file->source()->name(), tensor.name}});
  };
  const std::string_view architecture = model.gguf->name;
  const std::optional<GgufName> parsed = ParseGgufName(tensor.name, *model.architecture);
  if (!parsed) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("is not a tensor of the {} architecture as it is known here, and leaving it out would "
                            "change the model",
                            architecture));
  }
  const TensorRule& rule = *parsed->rule;
  if (parsed->layer && *parsed->layer >= model.sizes.layers) {
    return fail(ErrorCode::kCorrupt, fmt::format("is of layer {}, but {}.block_count is {}; the file is damaged: fetch "
                                                 "it again",
                                                 *parsed->layer, architecture, model.sizes.layers));
  }
  const std::vector<uint64_t> shape = ShapeOf(tensor);
  const std::optional<std::vector<uint64_t>> expected = checkpoint::ShapeOf(rule, model.sizes);
  if (!expected || shape != *expected) {
    return fail(ErrorCode::kCorrupt,
                fmt::format("has shape {} (rows first), but the file's keys make it {}; the file is "
                            "damaged or was converted by a program that this version does not know",
                            ShapeText(shape), expected ? ShapeText(*expected) : "more than 2^64 numbers"));
  }
  if (tensor.encoding->decode == nullptr) {
    return fail(ErrorCode::kCorrupt,
                fmt::format("is of type {}, which no weight of a {} model has; the file is damaged: fetch it again",
                            tensor.encoding.name(), architecture));
  }
  Place place{part.file, tensor.offset, tensor.encoding, 0, false};
  if (model.gguf->permutes_heads && rule.step == Step::kQuery) place.num_heads = model.sizes.heads;
  if (model.gguf->permutes_heads && rule.step == Step::kKey) place.num_heads = model.sizes.kv_heads;
  if (IsBias(rule) && place.num_heads != 0 && tensor.encoding.is_block()) {
    return fail(ErrorCode::kUnsupported,
                fmt::format("is a permuted bias in blocks ({}), which is not supported yet", tensor.encoding.name()));
  }
  quant::Encoding encoding = tensor.encoding;
  if (model.architecture->traits.norms_add_one && IsNorm(rule)) {
    place.one_more = true;
    encoding = quant::F32();
  }
  tensors_.Add(NameOf(rule, parsed->layer.value_or(0)), encoding, shape, tensor.num_elements);
  places->push_back(place);
  return {};
}

// One problem for all tensors that are not there. Biases that a model may have or not are not missed.
void GgufCheckpoint::ReportMissing(const GgufModel& model) {
  uint64_t num_missing = 0;
  std::string first_missing;
  for (const bool per_layer : {false, true}) {
    for (uint64_t layer = 0; layer < (per_layer ? model.sizes.layers : 1); ++layer) {
      for (const TensorRule& rule : model.architecture->tensors) {
        const bool optional = rule.when == When::kAttentionBias || rule.when == When::kMlpBias;
        if (IsPerLayer(rule) != per_layer || optional || !IsWanted(rule, model.sizes)) continue;
        if (tensors_.Find(NameOf(rule, layer))) continue;
        if (num_missing++ == 0) first_missing = GgufNameOf(rule, layer);
      }
    }
  }
  if (num_missing > 0) {
    problems_.push_back({Problem::Severity::kError, files_[0].name, first_missing,
                         fmt::format("{} tensors that the keys ask for are missing, this one first", num_missing)});
  }
}

// docs/formats/gguf.md, "The tokenizer's bytes".
Result<void> GgufCheckpoint::AddTokenizer() {
  std::vector<const GgufKey*> keys;
  uint64_t size_bytes = 0;
  for (const GgufKey& key : file().keys()) {
    if (!key.name.starts_with("tokenizer.")) continue;
    keys.push_back(&key);
    size_bytes += sizeof(uint64_t) + key.name.size() + sizeof(uint32_t) + key.size_bytes;
  }
  if (size_bytes > formats::kMaxGgufValueBytes) {
    return Fail(Error{ErrorCode::kUnsupported,
                      fmt::format("the tokenizer's keys take {} bytes; more than {} are not supported yet", size_bytes,
                                  formats::kMaxGgufValueBytes),
                      {file().source()->name()}});
  }
  std::sort(keys.begin(), keys.end(), [](const GgufKey* a, const GgufKey* b) { return a->name < b->name; });
  embedded_tokenizer_.reserve(size_bytes);
  const auto append = [&](auto value) {
    embedded_tokenizer_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  for (const GgufKey* key : keys) {
    append(static_cast<uint64_t>(key->name.size()));
    embedded_tokenizer_ += key->name;
    append(static_cast<uint32_t>(key->type));
    SLUICE_TRY(file().ReadValue(*key, &embedded_tokenizer_));
  }
  return {};
}

const graph::Node* GgufCheckpoint::MakeNode(size_t i, graph::Graph* graph) const {
  const TensorInfo tensor = tensors_[i];
  const graph::Node* stored =
      graph->AddStored(places_[i].file->source(), places_[i].offset, places_[i].stored, tensor.num_elements);
  if (places_[i].one_more) return graph->Add(std::make_unique<AddNode>(stored, -1));
  const uint64_t num_heads = places_[i].num_heads;
  if (num_heads == 0) return stored;
  const uint64_t columns = tensor.shape.size() == 2 ? tensor.shape[1] : 1;
  return graph->Add(std::make_unique<graph::RowGatherNode>(fmt::format("llama heads {} {}", num_heads, head_dim_),
                                                           stored, columns,
                                                           std::make_shared<LlamaHeadRows>(num_heads, head_dim_)));
}

}  // namespace sluice::checkpoint
