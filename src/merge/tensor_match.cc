#include "merge/tensor_match.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"

namespace sluice::merge {
namespace {

using checkpoint::Checkpoint;
using checkpoint::ShapeText;
using checkpoint::TensorInfo;

constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr size_t kNamed = 3;  // tensors told by name in one message

// Computed from the config by whoever loads the model; some old checkpoints store it, most do not.
bool IsBuffer(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

bool IsTied(const Checkpoint& model) { return model.config() != nullptr && model.config()->TiedEmbeddings(); }
bool HasHead(const Checkpoint& model) { return model.tensors().Find(kHead).has_value(); }
// Whether the model's head holds numbers of its own.
bool HasOwnHead(const Checkpoint& model) { return HasHead(model) && !IsTied(model); }

bool CanMerge(quant::Encoding encoding) { return encoding->is_float && graph::Graph::CanCast(encoding, quant::F32()); }

// Counts what is alike, keeps the first few.
struct Tally {
  std::vector<std::string> first;
  uint64_t count = 0;
  void Add(std::string text) {
    if (++count <= kNamed) first.push_back(std::move(text));
  }
  std::string Text() const {
    std::string text = fmt::format("{}", fmt::join(first, "; "));
    if (count > first.size()) text += fmt::format("; and {} more", count - first.size());
    return text;
  }
};

struct ModelTally {
  Tally missing, shape, vocabulary, encoding, parameters, tied_head;
};

class Matcher {
 public:
  Matcher(const MergedModel& owner, std::span<const MergedModel> models, const Method& method, quant::Encoding output,
          Diagnostics* diagnostics)
      : owner_(owner),
        models_(models),
        method_(method),
        output_(output),
        diagnostics_(diagnostics),
        owner_is_tied_(!HasOwnHead(*owner.checkpoint)),
        tallies_(models.size()) {}

  TensorMatch Match() {
    for (const MergedModel& model : models_) CheckArchitecture(model);
    for (const MergedModel& model : models_) CheckHead(model);
    const checkpoint::Catalogue& tensors = owner_.checkpoint->tensors();
    for (uint32_t i = 0; i < tensors.size(); ++i) AddTensor(i, tensors[i]);
    // The owner's order is that of names, so nothing moves.
    const std::vector<uint32_t> order = match_.catalogue.Sort();
    for (uint32_t i = 0; i < order.size(); ++i) SLUICE_CHECK(order[i] == i);
    for (size_t m = 0; m < models_.size(); ++m) Report(models_[m], tallies_[m]);
    ReportOwner();
    for (const MergedModel& model : models_) WarnOfExtras(model);
    return std::move(match_);
  }

 private:
  void CheckArchitecture(const MergedModel& model) {
    if (model.checkpoint->config() == nullptr || owner_.checkpoint->config() == nullptr) return;
    const std::string theirs = model.checkpoint->config()->architecture();
    const std::string ours = owner_.checkpoint->config()->architecture();
    if (theirs.empty() || ours.empty() || theirs == ours) return;
    diagnostics_->AddError(model.mark, fmt::format("'{}' is a {}, '{}' a {}: different architectures do not merge",
                                                   model.reference, theirs, owner_.reference, ours));
  }

  void CheckHead(const MergedModel& model) {
    if (!owner_is_tied_ || !HasOwnHead(*model.checkpoint)) return;
    diagnostics_->AddError(
        model.mark,
        fmt::format("'{}' has a head of its own (lm_head.weight), '{}' one that is tied to its embedding: merging "
                    "the two is not supported yet",
                    model.reference, owner_.reference));
  }

  void AddTensor(uint32_t i, const TensorInfo& tensor) {
    if (owner_is_tied_ && tensor.name == kHead) {
      diagnostics_->AddNote(owner_.mark,
                            fmt::format("'{}' stores lm_head.weight beside the embedding that it is tied to: "
                                        "the copy is left out",
                                        owner_.reference));
      return;
    }
    const bool carried = !tensor.encoding->is_float || IsBuffer(tensor.name);
    quant::Encoding encoding = tensor.encoding;
    if (!carried) {
      if (!CanMerge(tensor.encoding)) unreadable_.Add(fmt::format("{} is {}", tensor.name, tensor.encoding.name()));
      if (output_.valid()) encoding = output_;
      if (encoding.is_block() || !graph::Graph::CanCast(quant::F32(), encoding)) {
        unwritable_.Add(fmt::format("{} is {}", tensor.name, encoding.name()));
        encoding = quant::F32();
      }
    }
    match_.catalogue.Add(tensor.name, encoding, tensor.shape, tensor.num_elements);
    match_.places.push_back(i);
    for (size_t m = 0; m < models_.size(); ++m) {
      match_.places.push_back(carried ? TensorMatch::kCarried : PlaceIn(models_[m], tensor, &tallies_[m]));
    }
  }

  uint32_t PlaceIn(const MergedModel& model, const TensorInfo& wanted, ModelTally* tally) {
    const checkpoint::Catalogue& tensors = model.checkpoint->tensors();
    std::optional<size_t> place = tensors.Find(wanted.name);
    if (!place && wanted.name == kHead && IsTied(*model.checkpoint)) {
      place = tensors.Find(kEmbedding);
      if (place) tally->tied_head.Add(std::string(wanted.name));
    }
    if (!place) {
      tally->missing.Add(std::string(wanted.name));
      return 0;
    }
    const TensorInfo found = tensors[*place];
    if (!std::ranges::equal(found.shape, wanted.shape)) {
      const bool rows_differ = found.shape.size() == 2 && wanted.shape.size() == 2 && found.shape[1] == wanted.shape[1];
      const bool by_token = wanted.name == kHead || wanted.name == kEmbedding;
      (rows_differ && by_token ? tally->vocabulary : tally->shape)
          .Add(fmt::format("{} is {} there and {} in '{}'", wanted.name, ShapeText(found.shape),
                           ShapeText(wanted.shape), owner_.reference));
    } else if (!CanMerge(found.encoding)) {
      if (model.checkpoint == owner_.checkpoint) return 0;  // told of as the owner's
      tally->encoding.Add(fmt::format("{} is {}", wanted.name, found.encoding.name()));
    } else if (method_.check_tensor && std::ranges::none_of(model.parameters, [](double v) { return std::isnan(v); })) {
      const std::string problem = method_.check_tensor(model.parameters, wanted.num_elements);
      if (!problem.empty()) tally->parameters.Add(fmt::format("{}: {}", wanted.name, problem));
    }
    return static_cast<uint32_t>(*place);
  }

  void Report(const MergedModel& model, const ModelTally& tally) {
    const auto error = [&](const Tally& what, std::string_view words, std::string_view end = "") {
      if (what.count > 0) {
        diagnostics_->AddError(model.mark, fmt::format("'{}' {}{}{}", model.reference, words, what.Text(), end));
      }
    };
    error(tally.missing, "lacks tensors that are to be merged: ");
    error(tally.shape, "has tensors of another shape: ");
    error(tally.vocabulary, "has another vocabulary: ", "; rules for tokenizers that differ are not supported yet");
    error(tally.encoding, "stores tensors in a way that cannot be merged yet: ");
    error(tally.parameters, "cannot be trimmed so: ");
    if (tally.tied_head.count > 0) {
      diagnostics_->AddNote(model.mark,
                            fmt::format("'{}' is tied: its embedding is merged as its head", model.reference));
    }
  }

  void ReportOwner() {
    if (unreadable_.count > 0) {
      diagnostics_->AddError(owner_.mark, fmt::format("'{}' stores tensors in a way that cannot be merged yet: {}",
                                                      owner_.reference, unreadable_.Text()));
    } else if (unwritable_.count > 0) {
      diagnostics_->AddError(owner_.mark,
                             fmt::format("the result cannot be stored as '{}' is ({}): say dtype: bfloat16, "
                                         "float16 or float32",
                                         owner_.reference, unwritable_.Text()));
    }
  }

  // Never dropped without a word.
  void WarnOfExtras(const MergedModel& model) {
    if (model.checkpoint == owner_.checkpoint) return;
    Tally extras;
    const checkpoint::Catalogue& tensors = model.checkpoint->tensors();
    for (size_t i = 0; i < tensors.size(); ++i) {
      const TensorInfo tensor = tensors[i];
      if (IsBuffer(tensor.name) || (tensor.name == kHead && owner_is_tied_)) continue;
      if (!owner_.checkpoint->tensors().Find(tensor.name)) extras.Add(std::string(tensor.name));
    }
    if (extras.count > 0) {
      diagnostics_->AddWarning(model.mark, fmt::format("tensors of '{}' that '{}' lacks are left out: {}",
                                                       model.reference, owner_.reference, extras.Text()));
    }
  }

  const MergedModel& owner_;
  const std::span<const MergedModel> models_;
  const Method& method_;
  const quant::Encoding output_;
  Diagnostics* const diagnostics_;
  const bool owner_is_tied_;
  std::vector<ModelTally> tallies_;
  Tally unreadable_, unwritable_;
  TensorMatch match_;
};

}  // namespace

TensorMatch MatchTensors(const MergedModel& owner, std::span<const MergedModel> models, const Method& method,
                         quant::Encoding output, Diagnostics* diagnostics) {
  return Matcher(owner, models, method, output, diagnostics).Match();
}

}  // namespace sluice::merge
