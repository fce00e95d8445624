#include "checkpoint/gguf_export.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include <fmt/format.h>

#include "base/check.h"
#include "base/units.h"
#include "checkpoint/architecture.h"
#include "checkpoint/canonical_config.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/gguf_keys.h"
#include "checkpoint/gguf_names.h"
#include "checkpoint/gguf_nodes.h"
#include "checkpoint/model_ref.h"

namespace sluice::checkpoint {
namespace {

using formats::GgufHeader;
using nlohmann::ordered_json;

// A file of which only the header is there yet.
class HeaderSource final : public io::ByteSource {
 public:
  HeaderSource(std::shared_ptr<const std::string> header, uint64_t size_bytes)
      : header_(std::move(header)), size_bytes_(size_bytes) {}
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return size_bytes_; }
  io::SourceId id() const override { return {}; }
  Result<void> Read(uint64_t offset, std::span<uint8_t> out) const override {
    SLUICE_CHECK(offset <= size_bytes_ && out.size() <= size_bytes_ - offset);
    std::ranges::fill(out, 0);  // the reader's window reaches beyond the header
    if (offset < header_->size()) {
      const std::string_view there = std::string_view(*header_).substr(offset, out.size());
      std::ranges::copy(there, out.begin());
    }
    return {};
  }

 private:
  const std::string name_ = "the GGUF file to be written";
  const std::shared_ptr<const std::string> header_;
  const uint64_t size_bytes_;
};

// general.file_type: what most of the numbers are stored in, in llama.cpp's words.
std::optional<uint32_t> FileType(quant::Encoding encoding) {
  if (encoding == quant::F32()) return 0;
  if (encoding == quant::F16()) return 1;
  if (encoding == quant::BF16()) return 32;
  if (encoding.name() == "Q8_0") return 7;
  return std::nullopt;
}

}  // namespace

class GgufExport::Maker {
 public:
  Maker(std::shared_ptr<const Checkpoint> model, quant::Encoding encoding, GgufHeader header)
      : model_(*model), wanted_(encoding), header_(std::move(header)), result_(new GgufExport) {
    result_->model_ = std::move(model);
  }

  Result<std::shared_ptr<const GgufExport>> Make() {
    SLUICE_TRY(FindArchitecture());
    SLUICE_TRY(PlaceTensors());
    SLUICE_TRY(CheckLeftOver());
    SLUICE_TRY(AddKeys());
    for (const Placed& placed : placed_) {
      header_.AddTensor(placed.gguf_name, placed.tensor.encoding, model_.tensors()[placed.tensor.source].shape);
    }
    result_->header_ = std::make_shared<const std::string>(header_.Finish());
    header_ = {};
    SLUICE_TRY(ReadBack());
    CompareConfigs();
    return std::shared_ptr<const GgufExport>(std::move(result_));
  }

 private:
  struct Placed {
    std::string gguf_name, read_name;
    Tensor tensor;
  };

  tl::unexpected<Error> Wrong(ErrorCode code, std::string tensor, std::string message) const {
    return Fail(Error{code, std::move(message), {model_.ref(), std::move(tensor)}});
  }

  Result<void> FindArchitecture() {
    if (model_.config() == nullptr) {
      return FailIn(ErrorCode::kUnsupported, model_.ref(),
                    "has no config.json, and a GGUF file is of a known architecture");
    }
    architecture_ = ArchitectureOf(*model_.config());
    gguf_ = architecture_ == nullptr ? nullptr : GgufArchitectureFor(*architecture_);
    if (gguf_ == nullptr) {
      return FailIn(ErrorCode::kUnsupported, model_.ref(),
                    fmt::format("the architecture {} cannot be written as GGUF yet", model_.config()->architecture()));
    }
    reads_as_ = ArchitectureByName(gguf_->hugging_face);
    const auto sizes = SizesOf(*model_.config());
    if (!sizes) {
      return FailIn(ErrorCode::kCorrupt, model_.ref(),
                    fmt::format("config.json does not give the sizes of a {}", architecture_->name));
    }
    sizes_ = *sizes;
    if (sizes_.layers > model_.tensors().size()) {
      return FailIn(ErrorCode::kCorrupt, model_.ref(),
                    fmt::format("config.json says {} layers, more than there are tensors", sizes_.layers));
    }
    result_->head_dim_ = sizes_.head_dim;
    return {};
  }

  // In the model's order: what is before the layers, layer by layer, what is behind them.
  Result<void> PlaceTensors() {
    used_.resize(model_.tensors().size());
    bool layers_done = false;
    for (const TensorRule& rule : reads_as_->tensors) {
      if (!IsPerLayer(rule)) {
        SLUICE_TRY(Place(rule, 0));
        continue;
      }
      if (layers_done) continue;
      layers_done = true;
      for (uint64_t layer = 0; layer < sizes_.layers; ++layer) {
        for (const TensorRule& of_layer : reads_as_->tensors) {
          if (IsPerLayer(of_layer)) SLUICE_TRY(Place(of_layer, layer));
        }
      }
    }
    return {};
  }

  // `read`: as the tensor is called when the file is read.
  Result<void> Place(const TensorRule& read, uint64_t layer) {
    const auto own = std::ranges::find_if(architecture_->tensors, [&](const TensorRule& rule) {
      return rule.step == read.step && IsBias(rule) == IsBias(read);
    });
    if (own == architecture_->tensors.end()) return {};
    const TensorRule& rule = *own;
    const std::string name = NameOf(rule, layer);
    const auto source = model_.tensors().Find(name);
    if (!source) {
      if (!IsWanted(rule, sizes_)) return {};
      return Wrong(ErrorCode::kCorrupt, name, "is missing, and the model is nothing without it");
    }
    used_[*source] = true;
    if (rule.when == When::kUntied && sizes_.tied) {
      result_->notes_.push_back(fmt::format("{} is left out: config.json ties it to the embedding", name));
      return {};
    }
    const TensorInfo info = model_.tensors()[*source];
    const auto expected = ShapeOf(rule, sizes_);
    if (!expected || !std::ranges::equal(info.shape, *expected)) {
      return Wrong(ErrorCode::kCorrupt, name,
                   fmt::format("has shape {}, but config.json makes it {}", ShapeText(info.shape),
                               expected ? ShapeText(*expected) : "more than 2^64 numbers"));
    }
    Placed placed{GgufNameOf(read, layer), NameOf(read, layer), {.source = *source, .encoding = {}}};
    SLUICE_ASSIGN(placed.tensor.encoding, EncodingOf(rule, info));
    if (gguf_->permutes_heads && rule.step == Step::kQuery) placed.tensor.num_heads = sizes_.heads;
    if (gguf_->permutes_heads && rule.step == Step::kKey) placed.tensor.num_heads = sizes_.kv_heads;
    placed.tensor.one_more = architecture_->traits.norms_add_one && IsNorm(rule);
    placed_.push_back(std::move(placed));
    return {};
  }

  Result<quant::Encoding> EncodingOf(const TensorRule& rule, const TensorInfo& tensor) {
    const quant::Encoding stored = tensor.encoding;
    quant::Encoding encoding = rule.columns == Dim::kNone ? quant::F32() : wanted_.valid() ? wanted_ : stored;
    if (encoding.is_block() && tensor.shape.back() % encoding->block_elements != 0) {
      if (num_narrow_++ == 0) first_narrow_ = tensor.name;
      encoding = quant::F16();
    }
    if (encoding->ggml_type < 0 || !stored->is_float || !graph::Graph::CanCast(stored, encoding)) {
      return Wrong(
          ErrorCode::kUnsupported, std::string(tensor.name),
          fmt::format("is stored as {}, which GGUF has no type for; give --dtype float32, float16, bfloat16 or "
                      "q8_0",
                      stored.name()));
    }
    return encoding;
  }

  Result<void> CheckLeftOver() {
    for (size_t i = 0; i < used_.size(); ++i) {
      const std::string name(model_.tensors()[i].name);
      if (used_[i] || name.ends_with(".rotary_emb.inv_freq")) continue;
      return Wrong(ErrorCode::kUnsupported, name,
                   fmt::format("is no tensor of a {} as it is known here, and leaving it out would change the model",
                               architecture_->name));
    }
    if (num_narrow_ > 0) {
      result_->notes_.push_back(
          fmt::format("{} tensors have rows that are no whole number of blocks, and are F16: {}{}", num_narrow_,
                      first_narrow_, num_narrow_ > 1 ? ", ..." : ""));
    }
    return {};
  }

  Result<void> AddKeys() {
    const ordered_json config = CompleteConfig(model_.config()->json());
    header_.Add("general.architecture", gguf_->name);
    header_.Add("general.type", "model");
    header_.Add("general.name", NameOfModel());
    AddStorage();
    SLUICE_TRY(AddSizes(config));
    for (const auto& [key, name] : {std::pair{"attn_logit_softcapping", architecture_->traits.attention_softcap_key},
                                    std::pair{"final_logit_softcapping", architecture_->traits.final_softcap_key}}) {
      const auto cap = name.empty() ? std::nullopt : model_.config()->GetNumber(name);
      if (cap) header_.Add(Key(key), static_cast<float>(*cap));
    }
    if (const auto window = WindowOf(config)) SLUICE_TRY(AddSize("attention.sliding_window", *window));
    auto rope = AddRopeKeys(config, rotary_dim_, gguf_->name, &header_);
    if (!rope) return Fail(std::move(rope).error().In("config.json").In(model_.ref()));
    return {};
  }

  // As far as layers have it, and what reads the file knows of it.
  std::optional<uint64_t> WindowOf(const ordered_json& config) const {
    const Windows windows = reads_as_->traits.windows;
    const ordered_json types = config.value("layer_types", ordered_json::array());
    const bool slides = windows == Windows::kEvery || (windows == Windows::kLayerTypes &&
                                                       std::ranges::find(types, "sliding_attention") != types.end());
    return slides ? model_.config()->GetInt("sliding_window") : std::nullopt;
  }

  // Of its folder or file: "Llama-3.1-8B", of "models/Llama-3.1-8B/".
  std::string NameOfModel() const {
    std::filesystem::path path = std::filesystem::path(model_.ref()).lexically_normal();
    if (!path.has_filename()) path = path.parent_path();
    const auto extension = path.extension();
    for (const char* known : {".gguf", ".safetensors", ".bin", ".yml", ".yaml", ".json"}) {
      if (extension == known) return path.stem().string();
    }
    return path.filename().string();
  }

  void AddStorage() {
    uint64_t most = 0;
    quant::Encoding usual;
    bool blocks = false;
    for (const quant::Encoding encoding : quant::AllEncodings()) {
      uint64_t elements = 0;
      for (const Placed& placed : placed_) {
        if (placed.tensor.encoding == encoding) elements += model_.tensors()[placed.tensor.source].num_elements;
      }
      blocks |= elements > 0 && encoding.is_block();
      if (elements > most) most = elements, usual = encoding;
    }
    if (const auto type = usual.valid() ? FileType(usual) : std::nullopt) header_.Add("general.file_type", *type);
    if (blocks) header_.Add("general.quantization_version", uint32_t{2});
  }

  Result<void> AddSizes(const ordered_json& config) {
    const ModelConfig& given = *model_.config();
    SLUICE_TRY(AddSize("context_length", given.GetInt("max_position_embeddings").value_or(0)));
    SLUICE_TRY(AddSize("embedding_length", sizes_.hidden));
    SLUICE_TRY(AddSize("block_count", sizes_.layers));
    SLUICE_TRY(AddSize("feed_forward_length", sizes_.ffn));
    SLUICE_TRY(AddSize("attention.head_count", sizes_.heads));
    SLUICE_TRY(AddSize("attention.head_count_kv", sizes_.kv_heads));
    SLUICE_TRY(AddSize("attention.key_length", sizes_.head_dim));
    SLUICE_TRY(AddSize("attention.value_length", sizes_.head_dim));
    SLUICE_TRY(AddSize("vocab_size", sizes_.vocab));
    const auto eps = given.GetNumber("rms_norm_eps");
    if (!eps) return FailIn(ErrorCode::kCorrupt, model_.ref(), "config.json has no rms_norm_eps");
    header_.Add(Key("attention.layer_norm_rms_epsilon"), static_cast<float>(*eps));
    double part = 1;
    if (architecture_->traits.partial_rotary) {
      part = config.at("rope_parameters").value("partial_rotary_factor", config.value("partial_rotary_factor", 1.0));
    }
    rotary_dim_ = static_cast<uint64_t>(static_cast<double>(sizes_.head_dim) * part);
    return {};
  }

  std::string Key(std::string_view name) const { return fmt::format("{}.{}", gguf_->name, name); }

  Result<void> AddSize(std::string_view key, uint64_t value) {
    if (value == 0 || value > UINT32_MAX) {
      return FailIn(ErrorCode::kCorrupt, model_.ref(),
                    fmt::format("config.json makes {} {}, not 1 to 2^32 - 1", Key(key), value));
    }
    header_.Add(Key(key), static_cast<uint32_t>(value));
    return {};
  }

  // The header is read as any file's is: what it says is what people will get.
  Result<void> ReadBack() {
    uint64_t size_bytes = result_->header_->size();
    for (const Placed& placed : placed_) {
      size_bytes += RoundUp(placed.tensor.encoding.BytesOf(model_.tensors()[placed.tensor.source].num_elements),
                            GgufHeader::kAlignment);
    }
    OpenOptions options;
    options.open_source = [&](const std::string&) -> Result<std::shared_ptr<const io::ByteSource>> {
      return std::make_shared<HeaderSource>(result_->header_, size_bytes);
    };
    SLUICE_ASSIGN(result_->as_read_, OpenGguf("the GGUF file to be written", options));
    for (const Problem& problem : result_->as_read_->problems()) {
      if (problem.severity != Problem::Severity::kNote) result_->notes_.push_back(problem.message);
    }
    const Catalogue& tensors = result_->as_read_->tensors();
    SLUICE_CHECK(tensors.size() == placed_.size());
    result_->tensors_.resize(tensors.size());
    for (const Placed& placed : placed_) {
      const auto index = tensors.Find(placed.read_name);
      SLUICE_CHECK(index && tensors[*index].encoding == placed.tensor.encoding);
      result_->tensors_[*index] = placed.tensor;
      result_->order_.push_back(static_cast<uint32_t>(*index));
    }
    return {};
  }

  // Keys that change what the model computes and that the file says otherwise, or not.
  void CompareConfigs() {
    constexpr std::string_view kExpected[] = {"architectures", "model_type", "vocab_size", "auto_map"};
    const ordered_json given = CompleteConfig(model_.config()->json());
    const ordered_json read = CompleteConfig(result_->as_read_->config()->json());
    std::string lost;
    for (const auto& [key, value] : given.items()) {
      if (std::ranges::find(kExpected, key) != std::end(kExpected)) continue;
      const auto there = read.find(key);
      if (there != read.end() && CanonicalJson(*there) == CanonicalJson(value)) continue;
      lost += fmt::format("{}{} {}", lost.empty() ? "" : ", ", key, CanonicalJson(value));
      if (there != read.end()) lost += fmt::format(" becomes {}", CanonicalJson(*there));
    }
    if (!lost.empty()) result_->notes_.push_back("GGUF does not keep all of config.json: " + lost);
  }

  const Checkpoint& model_;
  const quant::Encoding wanted_;
  GgufHeader header_;
  std::shared_ptr<GgufExport> result_;
  const Architecture* architecture_ = nullptr;
  const GgufArchitecture* gguf_ = nullptr;
  const Architecture* reads_as_ = nullptr;  // what the file will be taken for
  ModelSizes sizes_;
  uint64_t rotary_dim_ = 0, num_narrow_ = 0;
  std::string first_narrow_;
  std::vector<bool> used_;
  std::vector<Placed> placed_;  // in the file's order
};

Result<std::shared_ptr<const GgufExport>> GgufExport::Make(std::shared_ptr<const Checkpoint> model,
                                                           quant::Encoding encoding, GgufHeader header) {
  return Maker(std::move(model), encoding, std::move(header)).Make();
}

ShardPlan GgufExport::Plan(std::string file_name) const {
  ShardPlan plan;
  plan.one_file = true;
  plan.alignment = GgufHeader::kAlignment;
  plan.header = header_;
  plan.order = order_;
  plan.shards.push_back({std::move(file_name), 0, static_cast<uint32_t>(order_.size()), header_->size(), 0});
  for (const uint32_t i : order_) {
    const TensorInfo tensor = as_read_->tensors()[i];
    plan.tensor_bytes += tensor.size_bytes();
    plan.total_elements += tensor.num_elements;
    plan.shards[0].data_bytes += RoundUp(tensor.size_bytes(), plan.alignment);
  }
  return plan;
}

const graph::Node* GgufExport::MakeReadNode(size_t i, graph::Graph* graph) const {
  const Tensor& tensor = tensors_[i];
  if (tensor.one_more) return graph->Add(std::make_unique<AddNode>(MakeStoredNode(i, graph), -1));
  return graph->AddCast(model_->MakeNode(tensor.source, graph), tensor.encoding);
}

const graph::Node* GgufExport::MakeStoredNode(size_t i, graph::Graph* graph) const {
  const Tensor& tensor = tensors_[i];
  const graph::Node* cast = graph->AddCast(model_->MakeNode(tensor.source, graph), tensor.encoding);
  if (tensor.one_more) return graph->Add(std::make_unique<AddNode>(cast, 1));
  if (tensor.num_heads == 0) return cast;
  const TensorInfo info = as_read_->tensors()[i];
  return graph->Add(std::make_unique<graph::RowGatherNode>(
      fmt::format("gguf heads {} {}", tensor.num_heads, head_dim_), cast, info.shape.size() == 2 ? info.shape[1] : 1,
      std::make_shared<GgufHeadRows>(tensor.num_heads, head_dim_)));
}

}  // namespace sluice::checkpoint
