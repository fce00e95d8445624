#include "checkpoint/scaled_checkpoint.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "base/units.h"
#include "checkpoint/expected_tensors.h"
#include "checkpoint/scaled_node.h"
#include "checkpoint/wrapped_checkpoint.h"
#include "formats/recognise.h"

namespace sluice::checkpoint {
namespace {

using nlohmann::ordered_json;
using Severity = Problem::Severity;

constexpr const char* kKey = "quantization_config";
constexpr std::array<std::string_view, 2> kScaleEndings = {"_scale_inv", "_scale"};
constexpr std::array<std::string_view, 4> kMethods = {"fp8", "compressed-tensors", "modelopt", "fbgemm_fp8"};
// What these scale is computed when the model runs.
constexpr std::array<std::string_view, 6> kOtherScales = {".input_scale", ".activation_scale", ".output_scale",
                                                          ".q_scale",     ".k_scale",          ".v_scale"};
// Weights that are left in a form which is not decoded here show by these.
constexpr std::array<std::string_view, 7> kSignsOfOtherForms = {
    ".weight_scale", ".weight_scale_inv", ".weight_scale_2", ".weight_packed", ".qweight", "_blocks", ".absmax"};
constexpr uint64_t kUsualBlock = 128;

template <size_t kCount>
bool EndsInAny(std::string_view name, const std::array<std::string_view, kCount>& endings) {
  return std::any_of(endings.begin(), endings.end(), [&](std::string_view ending) { return name.ends_with(ending); });
}

bool IsFp8(quant::Encoding encoding) { return encoding.name() == "F8_E4M3" || encoding.name() == "F8_E5M2"; }

// The file that a stored tensor is in.
std::string FileOf(const Checkpoint& stored, size_t tensor) {
  graph::Graph graph;
  const auto* node = dynamic_cast<const graph::StoredNode*>(stored.MakeNode(tensor, &graph));
  return node == nullptr ? stored.ref() : node->source().name();
}

tl::unexpected<Error> Corrupt(const Checkpoint& stored, size_t tensor, std::string message) {
  return Fail(Error{ErrorCode::kCorrupt,
                    std::move(message),
                    {FileOf(stored, tensor), formats::Printable(stored.tensors()[tensor].name)}});
}

struct BlockSize {
  uint64_t rows = kUsualBlock, columns = kUsualBlock;
};

// [b, c] of quantization_config; nullopt where it is there and makes no sense.
std::optional<BlockSize> BlockSizeOf(const ordered_json& quantization) {
  ordered_json found = quantization.value("weight_block_size", ordered_json()), group_size;
  if (const auto groups = quantization.find("config_groups");
      found.is_null() && groups != quantization.end() && groups->is_object()) {
    for (const auto& group : *groups) {
      if (!group.is_object() || !group.contains("weights") || !group["weights"].is_object()) continue;
      found = group["weights"].value("block_structure", ordered_json());
      group_size = group["weights"].value("group_size", ordered_json());
      if (!found.is_null() || !group_size.is_null()) break;
    }
  }
  if (found.is_null() && !group_size.is_null()) found = ordered_json::array({1u, group_size});
  if (found.is_null()) return BlockSize{};
  if (!found.is_array() || found.size() != 2) return std::nullopt;
  for (const ordered_json& size : found) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() == 0) return std::nullopt;
  }
  return BlockSize{found[0].get<uint64_t>(), found[1].get<uint64_t>()};
}

// How `scales` lie over a weight that has elements; nullopt where they fit in no way.
std::optional<ScaleGrid> GridOf(const TensorInfo& weight, const TensorInfo& scales, BlockSize block) {
  const size_t rank = weight.shape.size();
  const uint64_t columns = rank == 0 ? 1 : weight.shape.back();
  if (scales.num_elements == 1) {
    const uint64_t rows = weight.num_elements / columns;
    return ScaleGrid{rows, columns, rows, columns};
  }
  if (rank < 2) return std::nullopt;
  const uint64_t rows = weight.shape[rank - 2];
  const ScaleGrid blocks = {rows, columns, std::min(block.rows, rows), std::min(block.columns, columns)};
  const ScaleGrid each_row = {rows, columns, 1, columns}, each_matrix = {rows, columns, rows, columns};
  const auto lead = weight.shape.first(rank - 2);
  if (scales.shape.size() + 1 == rank) {
    return std::ranges::equal(scales.shape, weight.shape.first(rank - 1)) ? std::optional(each_row) : std::nullopt;
  }
  if (scales.shape.size() != rank || !std::ranges::equal(scales.shape.first(rank - 2), lead)) return std::nullopt;
  for (const ScaleGrid& grid : {blocks, each_row, each_matrix}) {
    if (scales.shape[rank - 2] == grid.grid_rows() && scales.shape[rank - 1] == grid.grid_columns()) return grid;
  }
  return std::nullopt;
}

class ScaledCheckpoint final : public WrappedCheckpoint {
 public:
  // A tensor of `inner`, alone or with its scales.
  struct Part {
    size_t tensor;
    std::optional<size_t> scales;
    ScaleGrid grid = {};
  };

  ScaledCheckpoint(std::shared_ptr<const Checkpoint> inner, const std::vector<Part>& parts, quant::Encoding encoding)
      : WrappedCheckpoint(std::move(inner)) {
    for (const Part& part : parts) {
      const TensorInfo tensor = inner_->tensors()[part.tensor];
      tensors_.Add(tensor.name, part.scales ? encoding : tensor.encoding, tensor.shape, tensor.num_elements);
    }
    for (const uint32_t i : tensors_.Sort()) parts_.push_back(parts[i]);
  }

  const graph::Node* MakeNode(size_t i, graph::Graph* graph) const override {
    const Part& part = parts_[i];
    const graph::Node* const stored = inner_->MakeNode(part.tensor, graph);
    if (!part.scales) return stored;
    const quant::Encoding encoding = tensors_[i].encoding;
    if (stored->num_elements() == 0) return graph->AddCast(stored, encoding);
    return graph->Add(std::make_unique<ScaledNode>(stored, inner_->MakeNode(*part.scales, graph), part.grid, encoding));
  }

  void AddProblem(Severity severity, std::string file, std::string tensor, std::string message) {
    problems_.push_back({severity, std::move(file), std::move(tensor), std::move(message)});
  }
  // config.json without quantization_config, and with a dtype that a model can have.
  void MakeConfigPlain(quant::Encoding encoding) {
    if (config_ == nullptr) return;
    ordered_json json = config_->json();
    const auto plain = [&](ordered_json* object) {
      object->erase(kKey);
      for (const char* key : {"torch_dtype", "dtype"}) {
        const auto dtype = object->find(key);
        if (dtype == object->end() || !dtype->is_string()) continue;
        if (!quant::FloatByDtypeName(dtype->get<std::string>()).valid()) *dtype = quant::DtypeName(encoding);
      }
    };
    plain(&json);
    if (json.contains("text_config") && json["text_config"].is_object()) plain(&json["text_config"]);
    config_ = ModelConfig::FromJson(std::move(json));
  }
  void Compare(const std::string& file) {
    if (config_ != nullptr) CompareWithConfig(*config_, tensors_, file, &problems_);
  }

 private:
  std::vector<Part> parts_;  // in the catalogue's order
};

// quantization_config, of the model or of its text part; null where there is none.
ordered_json QuantizationOf(const ModelConfig* config) {
  if (config == nullptr) return nullptr;
  const ordered_json& json = config->json();
  if (json.contains(kKey)) return json[kKey];
  const auto text = json.find("text_config");
  return text != json.end() && text->is_object() && text->contains(kKey) ? (*text)[kKey] : ordered_json();
}

// For a message: config.json is anybody's text.
std::string MethodOf(const ordered_json& quantization) {
  if (!quantization.is_object()) return "";
  const auto method = quantization.find("quant_method");
  return method != quantization.end() && method->is_string() ? formats::Printable(method->get<std::string>()) : "";
}

}  // namespace

Result<std::shared_ptr<const Checkpoint>> DecodeScaled(std::shared_ptr<const Checkpoint> stored,
                                                       const std::string& file, bool is_whole) {
  const Catalogue& tensors = stored->tensors();
  const ordered_json quantization = QuantizationOf(stored->config());
  const std::string method = MethodOf(quantization);

  // Weights and their scales, by name.
  std::vector<std::optional<size_t>> scales_of(tensors.size());
  std::vector<bool> left_out(tensors.size());
  uint64_t num_scaled = 0, num_others = 0;
  std::optional<size_t> without;  // the first FP8 weight that has no scales
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo weight = tensors[i];
    if (!IsFp8(weight.encoding)) continue;
    for (const std::string_view ending : kScaleEndings) {
      if (!scales_of[i]) scales_of[i] = tensors.Find(fmt::format("{}{}", weight.name, ending));
    }
    if (!scales_of[i]) {
      if (!without && weight.name.ends_with(".weight")) without = i;
      continue;
    }
    left_out[*scales_of[i]] = true;
    ++num_scaled;
  }

  if (num_scaled == 0 && quantization.is_null()) return stored;
  const bool known = quantization.is_null() || std::find(kMethods.begin(), kMethods.end(), method) != kMethods.end();
  if (without && known) {
    if (is_whole) {
      return Corrupt(*stored, *without,
                     fmt::format("is {} and has no scales beside it (weight_scale_inv or weight_scale), without which "
                                 "its numbers mean nothing: fetch all files of the model again",
                                 tensors[*without].encoding.name()));
    }
  }
  std::vector<ScaledCheckpoint::Part> parts;
  if (num_scaled == 0 || !known) {
    for (size_t i = 0; i < tensors.size(); ++i) parts.push_back({i, std::nullopt});
    auto as_stored = std::make_shared<ScaledCheckpoint>(stored, parts, quant::BF16());
    as_stored->AddProblem(Severity::kWarning, "config.json", "",
                          fmt::format("{} names {}: weights in this form are not decoded; they are seen as they are "
                                      "stored, and are not the model's numbers",
                                      kKey, method.empty() ? "no quant_method" : method));
    return as_stored;
  }

  const std::optional<BlockSize> block = quantization.is_object() ? BlockSizeOf(quantization) : BlockSize{};
  if (!block) {
    return Fail(Error{ErrorCode::kCorrupt,
                      fmt::format("{}: the size of a block of scales is not two whole numbers over 0", kKey),
                      {stored->ref(), "config.json"}});
  }
  quant::Encoding encoding =
      quant::FloatByDtypeName(stored->config() == nullptr ? "" : stored->config()->GetString("torch_dtype"));
  if (!encoding.valid()) encoding = quant::BF16();

  std::string other_form;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (left_out[i]) continue;
    const TensorInfo tensor = tensors[i];
    if (EndsInAny(tensor.name, kOtherScales) && tensor.encoding->is_float) {
      ++num_others;
      continue;
    }
    if (!scales_of[i]) {
      const bool is_other = EndsInAny(tensor.name, kSignsOfOtherForms) || (without && i == *without);
      if (is_other && other_form.empty()) other_form = tensor.name;
      parts.push_back({i, std::nullopt});
      continue;
    }
    const TensorInfo scales = tensors[*scales_of[i]];
    if (!scales.encoding->is_float || scales.encoding->decode == nullptr || scales.encoding.is_block()) {
      return Corrupt(*stored, *scales_of[i],
                     fmt::format("scales are stored as {}, which is no float that a weight could be multiplied by",
                                 scales.encoding.name()));
    }
    const auto grid = tensor.num_elements == 0 ? ScaleGrid{} : GridOf(tensor, scales, *block);
    if (!grid) {
      return Corrupt(*stored, *scales_of[i],
                     fmt::format("scales of shape {} fit no way of scaling a weight of {}: one number, one a row, or "
                                 "one a block of {} by {}; the files are of two versions, or quantization_config is "
                                 "another model's: fetch them again",
                                 ShapeText(scales.shape), ShapeText(tensor.shape), block->rows, block->columns));
    }
    parts.push_back({i, scales_of[i], *grid});
  }

  auto scaled = std::make_shared<ScaledCheckpoint>(stored, parts, encoding);
  scaled->AddProblem(
      Severity::kNote, "config.json", "",
      fmt::format("{} weights in FP8 are decoded with their scales to {}; {}{} left out", FormatCount(num_scaled),
                  encoding.name(), kKey,
                  num_others == 0 ? std::string(" is")
                                  : fmt::format(" and {} scales of activations are", FormatCount(num_others))));
  if (other_form.empty()) {
    scaled->MakeConfigPlain(encoding);
    if (is_whole) scaled->Compare(file);
  } else {
    scaled->AddProblem(Severity::kWarning, "config.json", other_form,
                       fmt::format("{} ({}) has weights in a form that is not decoded, too; {} stays in the config",
                                   kKey, method.empty() ? "no quant_method" : method, kKey));
  }
  return scaled;
}

}  // namespace sluice::checkpoint
