#include "merge/merge_plan.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "graph/graph.h"

namespace sluice::merge {
namespace {

using checkpoint::Catalogue;
using checkpoint::Checkpoint;
using checkpoint::ShapeText;
using checkpoint::TensorInfo;

constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr size_t kNamed = 3;  // tensors told by name in one message

// Computed from the config by whoever loads the model; some old checkpoints store it, most do not.
bool IsBuffer(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

// GPT-NeoX calls its head embed_out.
bool IsEmbedding(std::string_view name) {
  if (name.find("embed_out") != std::string_view::npos) return false;
  return name.find("emb") != std::string_view::npos || name.find("wte.") != std::string_view::npos ||
         name.find("wpe.") != std::string_view::npos;
}

bool IsTied(const Checkpoint& model) { return model.config() != nullptr && model.config()->TiedEmbeddings(); }

bool CanMerge(quant::Encoding encoding) { return encoding->is_float && graph::Graph::CanCast(encoding, quant::F32()); }

std::string WithLayer(std::string_view name, const LayerNumber& place, uint64_t layer) {
  return fmt::format("{}{}{}", name.substr(0, place.begin), layer, name.substr(place.end));
}

double GradientOf(const PlannedSlice& slice, std::string_view name, uint64_t layer) {
  if (!LayerNumberOf(name)) return 0;
  return slice.layers > 1 ? static_cast<double>(layer) / static_cast<double>(slice.layers - 1) : 1;
}

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

struct SourceTally {
  Tally missing, shape, vocabulary, cut, encoding, parameters, unset, tied_head, extra;
  std::string_view unset_name;
};

class Planner {
 public:
  Planner(std::vector<PlannedSlice> slices, const Method& method, quant::Encoding output,
          const VocabularyPlan* vocabulary, bool cuts_vocabulary, bool wants_head, Diagnostics* diagnostics)
      : method_(method),
        output_(output),
        vocabulary_(vocabulary),
        cuts_vocabulary_(cuts_vocabulary),
        wants_head_(wants_head),
        diagnostics_(diagnostics) {
    plan_.slices = std::move(slices);
    for (PlannedSlice& slice : plan_.slices) {
      is_whole_ |= slice.layers == 0;
      tallies_.emplace_back(slice.sources.size());
    }
    SLUICE_CHECK(!is_whole_ || plan_.slices.size() == 1);
    if (is_whole_) plan_.slices[0].layers = CountLayers(Owner(0).checkpoint->tensors());
  }

  MergePlan Plan() {
    for (const PlannedSlice& slice : plan_.slices) {
      for (const PlannedSource& source : slice.sources) {
        CheckArchitecture(source);
        CheckDecoded(source);
      }
    }
    const auto& last = plan_.slices.back();
    owner_head_is_tied_ = !HasOwnHead(*Owner(plan_.slices.size() - 1).checkpoint);
    adds_head_ =
        owner_head_is_tied_ && (wants_head_ || std::ranges::any_of(last.sources, [](const PlannedSource& source) {
                                  return HasOwnHead(*source.checkpoint);
                                }));
    for (uint32_t s = 0; s < plan_.slices.size(); ++s) AddSlice(s);
    if (adds_head_) AddHead();
    Sort();
    for (uint32_t s = 0; s < plan_.slices.size(); ++s) {
      CheckModels(s);
      FindExtras(s);
      for (size_t k = 0; k < plan_.slices[s].sources.size(); ++k)
        Report(plan_.slices[s].sources[k], Owner(s), tallies_[s][k]);
    }
    ReportResult();
    return std::move(plan_);
  }

 private:
  const PlannedSource& Owner(size_t slice) const { return plan_.slices[slice].sources[plan_.slices[slice].owner]; }

  void CheckArchitecture(const PlannedSource& source) {
    const PlannedSource& owner = Owner(0);
    if (source.checkpoint->config() == nullptr || owner.checkpoint->config() == nullptr) return;
    const std::string theirs = source.checkpoint->config()->architecture();
    const std::string ours = owner.checkpoint->config()->architecture();
    if (theirs.empty() || ours.empty() || theirs == ours) return;
    diagnostics_->AddError(source.mark, fmt::format("'{}' is a {}, '{}' a {}: different architectures do not merge",
                                                    source.reference, theirs, owner.reference, ours));
  }

  // Weights as integers and scales are numbers of the model only together: merged one by one they are nothing. (What is
  // decoded has no quantization_config any more; what has one over plain floats was left behind by training.)
  void CheckDecoded(const PlannedSource& source) {
    if (source.checkpoint->config() == nullptr) return;
    const nlohmann::ordered_json& config = source.checkpoint->config()->json();
    const auto found = config.find("quantization_config");
    if (found == config.end() || found->is_null()) return;
    const Catalogue& tensors = source.checkpoint->tensors();
    for (size_t i = 0; i < tensors.size(); ++i) {
      const TensorInfo tensor = tensors[i];
      constexpr int kFewestBits = 8;  // of a significand that is no quantisation: BF16's
      const bool is_plain = tensor.encoding->is_float ? tensor.encoding->significand_bits >= kFewestBits
                                                      : tensor.encoding.BytesOf(1) > sizeof(uint32_t);
      if (is_plain) continue;
      diagnostics_->AddError(
          source.mark,
          fmt::format("'{}' is quantised in a form that is not decoded yet ({} is {}; its config.json has a "
                      "quantization_config): merge the model that it was made from",
                      source.reference, tensor.name, tensor.encoding.name()));
      return;
    }
  }

  // Whether tensors of no layer come from this slice.
  bool HasLoose(uint32_t slice, std::string_view name) const {
    return slice == (IsEmbedding(name) ? 0 : plan_.slices.size() - 1);
  }

  void AddSlice(uint32_t s) {
    const PlannedSlice& slice = plan_.slices[s];
    const PlannedSource& owner = Owner(s);
    const Catalogue& tensors = owner.checkpoint->tensors();
    std::vector<bool> has_layer(is_whole_ ? 0 : slice.layers);
    for (uint32_t i = 0; i < tensors.size(); ++i) {
      const TensorInfo tensor = tensors[i];
      const std::optional<LayerNumber> number = LayerNumberOf(tensor.name);
      if (!number) {
        if (HasLoose(s, tensor.name)) AddTensor(s, 0, i, tensor, std::string(tensor.name));
        continue;
      }
      if (number->number < owner.first_layer || number->number - owner.first_layer >= slice.layers) continue;
      const auto layer = static_cast<uint32_t>(number->number - owner.first_layer);
      if (!is_whole_) has_layer[layer] = true;
      AddTensor(s, layer, i, tensor, WithLayer(tensor.name, *number, slice.first_layer + layer));
    }
    if (is_whole_) return;
    const auto lacking = std::ranges::find(has_layer, false);
    if (lacking == has_layer.end()) return;
    diagnostics_->AddError(
        owner.mark, fmt::format("'{}' has {} layers, there is no layer {}", owner.reference, CountLayers(tensors),
                                owner.first_layer + (lacking - has_layer.begin())));
  }

  void AddTensor(uint32_t s, uint32_t layer, uint32_t i, const TensorInfo& tensor, const std::string& name) {
    if (owner_head_is_tied_ && tensor.name == kHead) {
      if (adds_head_) return;
      diagnostics_->AddNote(Owner(s).mark,
                            fmt::format("'{}' stores lm_head.weight beside the embedding that it is tied to: "
                                        "the copy is left out",
                                        Owner(s).reference));
      return;
    }
    const bool is_carried = !tensor.encoding->is_float || IsBuffer(tensor.name);
    std::vector<uint32_t> places(plan_.slices[s].sources.size(), MergePlan::kNone);
    places[plan_.slices[s].owner] = i;
    quant::Encoding encoding = tensor.encoding;
    std::vector<uint64_t> shape(tensor.shape.begin(), tensor.shape.end());
    if (!is_carried) {
      encoding = OutputEncoding(tensor);
      Place(s, layer, tensor.name, &shape, &places);
    }
    Append(name, encoding, shape, {s, layer, 0, is_carried}, places);
  }

  // Of models whose owner ties its head: the head that others have, the embedding where they are tied too.
  void AddHead() {
    const auto s = static_cast<uint32_t>(plan_.slices.size() - 1);
    const PlannedSlice& slice = plan_.slices[s];
    const auto own =
        std::ranges::find_if(slice.sources, [](const PlannedSource& source) { return HasOwnHead(*source.checkpoint); });
    const bool has_own = own != slice.sources.end();
    const Catalogue& tensors = (has_own ? *own : Owner(s)).checkpoint->tensors();
    const std::optional<size_t> place = tensors.Find(has_own ? kHead : kEmbedding);
    if (!place) return tallies_[s][slice.owner].missing.Add(std::string(kHead));
    const TensorInfo head = tensors[*place];
    std::vector<uint64_t> shape(head.shape.begin(), head.shape.end());
    std::vector<uint32_t> places(slice.sources.size(), MergePlan::kNone);
    Place(s, 0, kHead, &shape, &places);
    if (has_own) {
      diagnostics_->AddNote(own->mark,
                            fmt::format("'{}' has a head of its own: the result has one too", own->reference));
    }
    Append(std::string(kHead), OutputEncoding(head), shape, {s, 0, 0, false}, places);
  }

  void Append(const std::string& name, quant::Encoding encoding, const std::vector<uint64_t>& shape,
              MergePlan::Tensor tensor, const std::vector<uint32_t>& places) {
    uint64_t elements = 1;
    for (const uint64_t dimension : shape) elements *= dimension;  // no more than the owner's, which was checked
    tensor.first_place = plan_.places.size();
    plan_.places.insert(plan_.places.end(), places.begin(), places.end());
    plan_.tensors.push_back(tensor);
    plan_.catalogue.Add(name, encoding, shape, elements);
  }

  void Sort() {
    const std::vector<uint32_t> order = plan_.catalogue.Sort();
    std::vector<MergePlan::Tensor> tensors;
    for (const uint32_t i : order) tensors.push_back(plan_.tensors[i]);
    plan_.tensors = std::move(tensors);
  }

  quant::Encoding OutputEncoding(const TensorInfo& tensor) {
    if (!CanMerge(tensor.encoding)) unreadable_.Add(fmt::format("{} is {}", tensor.name, tensor.encoding.name()));
    const quant::Encoding encoding = output_.valid() ? output_ : tensor.encoding;
    if (!encoding.is_block() && graph::Graph::CanCast(quant::F32(), encoding)) return encoding;
    unwritable_.Add(fmt::format("{} is {}", tensor.name, encoding.name()));
    return quant::F32();
  }

  // Finds the tensor in every source. `name` is the owner's.
  void Place(uint32_t s, uint32_t layer, std::string_view name, std::vector<uint64_t>* shape,
             std::vector<uint32_t>* places) {
    const PlannedSlice& slice = plan_.slices[s];
    const std::optional<LayerNumber> number = LayerNumberOf(name);
    for (size_t k = 0; k < slice.sources.size(); ++k) {
      const Catalogue& tensors = slice.sources[k].checkpoint->tensors();
      const std::string wanted =
          number ? WithLayer(name, *number, slice.sources[k].first_layer + layer) : std::string(name);
      std::optional<size_t> place = tensors.Find(wanted);
      if (name == kHead && IsTied(*slice.sources[k].checkpoint)) {
        place = tensors.Find(kEmbedding);
        if (place) tallies_[s][k].tied_head.Add(wanted);
      }
      if (place) {
        (*places)[k] = static_cast<uint32_t>(*place);
      } else {
        tallies_[s][k].missing.Add(wanted);
      }
    }
    CheckShapes(s, name, shape, *places);
    for (size_t k = 0; k < slice.sources.size(); ++k) {
      if ((*places)[k] == MergePlan::kNone) continue;
      const TensorInfo found = slice.sources[k].checkpoint->tensors()[(*places)[k]];
      if (!CanMerge(found.encoding)) {
        if (k != slice.owner) tallies_[s][k].encoding.Add(fmt::format("{} is {}", found.name, found.encoding.name()));
      } else {
        CheckParameters(s, k, layer, found, *shape);
      }
    }
  }

  void CheckShapes(uint32_t s, std::string_view name, std::vector<uint64_t>* shape,
                   const std::vector<uint32_t>& places) {
    const PlannedSlice& slice = plan_.slices[s];
    const bool is_by_token = shape->size() == 2 && IsByToken(name);
    const auto shape_of = [&](size_t k) { return slice.sources[k].checkpoint->tensors()[places[k]].shape; };
    const auto differs_in_rows = [&](std::span<const uint64_t> other) {
      return is_by_token && other.size() == 2 && other[1] == (*shape)[1] && other[0] != (*shape)[0];
    };
    const std::vector<uint64_t> wanted = *shape;
    if (cuts_vocabulary_ && !method_.needs_base) {
      for (size_t k = 0; k < slice.sources.size(); ++k) {
        if (places[k] != MergePlan::kNone && differs_in_rows(shape_of(k)))
          (*shape)[0] = std::min((*shape)[0], shape_of(k)[0]);
      }
    }
    for (size_t k = 0; k < slice.sources.size(); ++k) {
      SourceTally& tally = tallies_[s][k];
      if (places[k] == MergePlan::kNone || std::ranges::equal(shape_of(k), *shape)) continue;
      if (vocabulary_ && differs_in_rows(shape_of(k))) continue;
      const std::string text = fmt::format("{} is {} there and {} in '{}'", name, ShapeText(shape_of(k)),
                                           ShapeText(wanted), Owner(s).reference);
      const bool is_vocabulary = differs_in_rows(shape_of(k));
      if (cuts_vocabulary_ && is_vocabulary && shape_of(k)[0] > (*shape)[0]) {
        tally.cut.Add(fmt::format("{} from {} to {} rows", name, shape_of(k)[0], (*shape)[0]));
      } else {
        (is_vocabulary ? tally.vocabulary : tally.shape).Add(text);
      }
    }
    if (vocabulary_ && is_by_token) (*shape)[0] = vocabulary_->rows();
  }

  // Once for each slice and source where no parameter differs by tensor.
  void CheckParameters(uint32_t s, size_t k, uint32_t layer, const TensorInfo& tensor,
                       const std::vector<uint64_t>& shape) {
    const PlannedSlice& slice = plan_.slices[s];
    if (slice.sources[k].is_base) return;
    SourceTally& tally = tallies_[s][k];
    std::string_view missing;
    const double t = GradientOf(slice, tensor.name, layer);
    const ParameterValues values = slice.parameters.OfModel(k, tensor.name, t, &missing);
    if (!missing.empty()) {
      tally.unset_name = missing;
      tally.unset.Add(std::string(tensor.name));
    }
    if (!method_.check_tensor || std::ranges::any_of(values, [](double v) { return std::isnan(v); })) return;
    uint64_t elements = 1;
    for (const uint64_t dimension : shape) elements *= dimension;
    const std::string problem = method_.check_tensor(values, elements);
    if (!problem.empty()) tally.parameters.Add(fmt::format("{}: {}", tensor.name, problem));
  }

  // The values of all sources together, and those of the recipe's scope: for every tensor where they differ.
  void CheckModels(uint32_t s) {
    const PlannedSlice& slice = plan_.slices[s];
    std::string last_problem;
    for (size_t i = 0; i < plan_.tensors.size(); ++i) {
      const MergePlan::Tensor& tensor = plan_.tensors[i];
      if (tensor.slice != s || tensor.is_carried) continue;
      const uint32_t* places = &plan_.places[tensor.first_place];
      const std::string_view name = plan_.catalogue[i].name;
      std::string_view missing;
      const double t = plan_.GradientAt(name, tensor);
      const ParameterValues recipe = slice.parameters.OfRecipe(name, t, &missing);
      std::string problem;
      if (!missing.empty()) {
        problem = fmt::format("{} needs {} under parameters{}", method_.name, missing,
                              slice.parameters.are_constant() ? "" : fmt::format(", of {} too", name));
      } else if (method_.check_models) {
        problem = ProblemOf(slice, places, t, recipe);
      }
      if (!problem.empty() && problem != last_problem) diagnostics_->AddError(slice.mark, problem);
      last_problem = problem;
      if (slice.parameters.are_constant() || diagnostics_->all().size() > 1000) return;
    }
  }

  std::string ProblemOf(const PlannedSlice& slice, const uint32_t* places, double t, const ParameterValues& recipe) {
    std::vector<ParameterValues> values;
    for (size_t k = 0; k < slice.sources.size(); ++k) {
      if (slice.sources[k].is_base) continue;
      if (places[k] == MergePlan::kNone) return {};
      std::string_view missing;
      values.push_back(
          slice.parameters.OfModel(k, slice.sources[k].checkpoint->tensors()[places[k]].name, t, &missing));
      if (std::ranges::any_of(values.back(), [](double v) { return std::isnan(v); })) return {};
    }
    if (values.empty() || std::ranges::any_of(recipe, [](double v) { return std::isnan(v); })) return {};
    return method_.check_models(values, recipe);
  }

  void Report(const PlannedSource& source, const PlannedSource& owner, const SourceTally& tally) {
    const auto error = [&](const Tally& what, std::string_view words, std::string_view end = "") {
      if (what.count > 0) {
        diagnostics_->AddError(source.mark, fmt::format("'{}' {}{}{}", source.reference, words, what.Text(), end));
      }
    };
    error(tally.missing, "lacks tensors that are to be merged: ");
    error(tally.shape, "has tensors of another shape: ");
    error(tally.vocabulary,
          "has another vocabulary: ", "; say which tokens the result has, tokenizer_source: union for instance");
    error(tally.encoding, "stores tensors in a way that cannot be merged yet: ");
    error(tally.parameters, "cannot be trimmed so: ");
    if (tally.unset.count > 0) ReportUnset(source, tally);
    if (tally.cut.count > 0) {
      diagnostics_->AddWarning(source.mark, fmt::format("'{}' has another vocabulary: as mergekit does, what it has "
                                                        "more is cut off: {}",
                                                        source.reference, tally.cut.Text()));
    }
    if (tally.tied_head.count > 0) {
      diagnostics_->AddNote(source.mark,
                            fmt::format("'{}' is tied: its embedding is merged as its head", source.reference));
    }
    if (tally.extra.count > 0) {  // never dropped without a word
      diagnostics_->AddWarning(source.mark, fmt::format("tensors of '{}' that '{}' lacks are left out: {}",
                                                        source.reference, owner.reference, tally.extra.Text()));
    }
  }

  void ReportUnset(const PlannedSource& source, const SourceTally& tally) {
    if (source.is_unlisted) {
      diagnostics_->AddError(
          source.mark, fmt::format("base_model '{}' is not among the models, and {} merges it with them: list it with "
                                   "a {}, or leave base_model out",
                                   source.reference, method_.name, tally.unset_name));
      return;
    }
    const bool is_for_all =
        std::ranges::all_of(plan_.slices, [](const PlannedSlice& slice) { return slice.parameters.are_constant(); });
    diagnostics_->AddError(
        source.mark,
        is_for_all ? fmt::format("'{}' has no {}: give it one, or one for all under the top level's parameters",
                                 source.reference, tally.unset_name)
                   : fmt::format("'{}' has no {} for {}: no filter matches; end the list with one without a filter, or "
                                 "give one for all under the top level's parameters",
                                 source.reference, tally.unset_name, tally.unset.Text()));
  }

  void ReportResult() {
    const PlannedSource& owner = Owner(0);
    if (unreadable_.count > 0) {
      diagnostics_->AddError(owner.mark, fmt::format("'{}' stores tensors in a way that cannot be merged yet: {}",
                                                     owner.reference, unreadable_.Text()));
    } else if (unwritable_.count > 0) {
      diagnostics_->AddError(owner.mark,
                             fmt::format("the result cannot be stored as '{}' is ({}): say dtype: bfloat16, "
                                         "float16 or float32",
                                         owner.reference, unwritable_.Text()));
    }
  }

  void FindExtras(uint32_t s) {
    const PlannedSlice& slice = plan_.slices[s];
    const Catalogue& owned = Owner(s).checkpoint->tensors();
    for (size_t k = 0; k < slice.sources.size(); ++k) {
      if (slice.sources[k].checkpoint == Owner(s).checkpoint) continue;
      const Catalogue& tensors = slice.sources[k].checkpoint->tensors();
      for (size_t i = 0; i < tensors.size(); ++i) {
        const std::string_view name = tensors[i].name;
        if (IsBuffer(name) || (name == kHead && owner_head_is_tied_)) continue;
        const std::optional<LayerNumber> number = LayerNumberOf(name);
        if (!number ? !HasLoose(s, name) : !is_whole_ && !IsIn(slice, k, number->number)) continue;
        const bool is_owned =
            number && !is_whole_
                ? owned
                      .Find(WithLayer(name, *number,
                                      number->number - slice.sources[k].first_layer + Owner(s).first_layer))
                      .has_value()
                : owned.Find(name).has_value();
        if (!is_owned) tallies_[s][k].extra.Add(std::string(name));
      }
    }
  }

  static bool IsIn(const PlannedSlice& slice, size_t k, uint64_t layer) {
    return layer >= slice.sources[k].first_layer && layer - slice.sources[k].first_layer < slice.layers;
  }

  const Method& method_;
  const quant::Encoding output_;
  const VocabularyPlan* const vocabulary_;
  const bool cuts_vocabulary_, wants_head_;
  Diagnostics* const diagnostics_;
  bool is_whole_ = false;                          // one slice, of all layers
  bool owner_head_is_tied_ = false;                // of the last slice's owner
  bool adds_head_ = false;                         // where it is, the result has a head nonetheless
  std::vector<std::vector<SourceTally>> tallies_;  // of each slice's sources
  Tally unreadable_, unwritable_;
  MergePlan plan_;
};

}  // namespace

bool HasOwnHead(const Checkpoint& model) { return model.tensors().Find(kHead).has_value() && !IsTied(model); }

std::optional<LayerNumber> LayerNumberOf(std::string_view tensor) {
  for (size_t dot = tensor.find('.'); dot != std::string_view::npos;) {
    const size_t next = tensor.find('.', dot + 1);
    if (next == std::string_view::npos) break;
    LayerNumber found{dot + 1, next, 0};
    const auto [end, error] = std::from_chars(tensor.data() + found.begin, tensor.data() + found.end, found.number);
    if (error == std::errc() && end == tensor.data() + found.end && found.number < kMaxLayers) return found;
    dot = next;
  }
  return std::nullopt;
}

uint64_t CountLayers(const Catalogue& tensors) {
  uint64_t layers = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (const auto number = LayerNumberOf(tensors[i].name)) layers = std::max(layers, number->number + 1);
  }
  return layers;
}

double MergePlan::GradientAt(std::string_view name, const Tensor& tensor) const {
  return GradientOf(slices[tensor.slice], name, tensor.layer);
}

MergePlan PlanMerge(std::vector<PlannedSlice> slices, const Method& method, quant::Encoding output,
                    const VocabularyPlan* vocabulary, bool cuts_vocabulary, bool wants_head, Diagnostics* diagnostics) {
  return Planner(std::move(slices), method, output, vocabulary, cuts_vocabulary, wants_head, diagnostics).Plan();
}

}  // namespace sluice::merge
