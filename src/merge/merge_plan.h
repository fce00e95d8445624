// MergePlan: which tensor of which parent goes into which tensor of a merge, with which parameters, and what stands in
// the way.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "merge/diagnostics.h"
#include "merge/method.h"
#include "merge/recipe.h"
#include "merge/vocabulary_plan.h"

namespace sluice::merge {

// A source of a slice, opened.
struct PlannedSource {
  std::string reference;
  Mark mark;
  std::shared_ptr<const checkpoint::Checkpoint> checkpoint;
  size_t parent = 0;         // its index in Parents::all
  uint64_t first_layer = 0;  // of the slice; the others follow
  bool is_base = false;      // what the method takes differences from
  bool is_unlisted = false;  // base_model, of a recipe that does not list it
};

struct PlannedSlice {
  Mark mark;                           // for what is wrong with all of them together
  std::vector<PlannedSource> sources;  // in recipe order, an unlisted base last
  size_t owner = 0;                    // the source whose names, shapes and encodings the result has
  uint64_t first_layer = 0;            // of the result
  uint64_t layers = 0;
  SliceParameters parameters;
  std::vector<std::shared_ptr<const TokenRows>> token_rows;  // of each source; empty without a vocabulary
};

struct MergePlan {
  std::vector<PlannedSlice> slices;
  checkpoint::Catalogue catalogue;  // of the result, sorted by name
  struct Tensor {
    uint32_t slice = 0;
    uint32_t layer = 0;        // counted from the slice's first; 0 for what is of no layer
    uint64_t first_place = 0;  // in `places`, one for each source of the slice: the tensor's index there
    bool is_carried = false;   // not merged, but taken from the owner as it is stored
  };
  std::vector<Tensor> tensors;
  std::vector<uint32_t> places;  // kNone: there is none (an error says so), or nobody needs it
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  // Where a tensor's layer stands in its slice, from 0 to 1: what a gradient is read at. `name`: the result's.
  double GradientAt(std::string_view name, const Tensor& tensor) const;
};

// The result's tensors are those of the owner of each slice: of its base, else of its first source. Layers are told by
// the first number between dots in a name; what is of no layer belongs to the first slice where it is an embedding,
// else to the last.
//   - a float tensor must be in every source, of the same shape; of the encoding `output`, or the owner's where that is
//   invalid
//   - other tensors, and rotary buffers, are carried from the owner; a model whose weights are quantised in a form that
//   is not decoded is an error
//   - tensors that the owner lacks are left out, with a warning
//   - a tied model's head is its embedding; where all of the last slice are tied the result has a head of its own only
//   if `wants_head`: its config ties none
//   - where there is a `vocabulary`, embeddings and heads have its rows
//   - where `cuts_vocabulary`, embeddings and heads of different vocabularies lose their last rows, as mergekit has it:
//   to the base's rows where the method needs one, else to the fewest; with a warning
// Adds an error at the source's place for what does not fit, a few tensors of each kind by name. Memory: 4 bytes for
// each tensor and source.
// slices: all set; one alone may have no `layers` (0): it is of all layers, and each source's names are the result's.
MergePlan PlanMerge(std::vector<PlannedSlice> slices, const Method& method, quant::Encoding output,
                    const VocabularyPlan* vocabulary, bool cuts_vocabulary, bool wants_head, Diagnostics* diagnostics);

// Whether the model's head (lm_head.weight) holds numbers of its own: it is stored, and not tied to the embedding.
bool HasOwnHead(const checkpoint::Checkpoint& model);

// The layer that a tensor's name tells: where its number stands in the name, and the number, below kMaxLayers.
struct LayerNumber {
  size_t begin = 0, end = 0;
  uint64_t number = 0;
};
std::optional<LayerNumber> LayerNumberOf(std::string_view tensor);
// One more than the highest.
uint64_t CountLayers(const checkpoint::Catalogue& tensors);

}  // namespace sluice::merge
