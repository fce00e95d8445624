// ExpectedModel: the tensors that a config of a known architecture asks for, whether the forward pass runs it or not;
// and what is there against it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/architecture.h"
#include "checkpoint/catalogue.h"
#include "checkpoint/model_config.h"

namespace sluice::checkpoint {

struct Problem;

// Tensors that differ in the numbers of their layers and of their experts (or heads) alone.
struct ExpectedTensor {
  enum class Presence {
    kWanted,
    kTied,      // the input embedding under another name: stored or not
    kOptional,  // stored by some
    kUnwanted   // another config of the architecture has it
  };

  // Without the prefix of the model's class, where it has one; "*" for the layer's number, a second "*" for that of the
  // expert.
  std::string name;
  bool has_prefix = false;
  Part part = Part::kOther;
  std::optional<std::vector<uint64_t>> shape;  // nullopt: more than 64 bits can count
  uint64_t layers = 1, copies = 1;             // so many numbers for either "*"
  std::vector<bool> in_layer;                  // empty: in all of them
  Presence presence = Presence::kWanted;

  // nullopt: more than 64 bits can count.
  std::optional<uint64_t> Elements() const;  // of all of them together
  std::string NameOf(std::string_view prefix, uint64_t layer, uint64_t copy) const;
};

struct ExpectedModel {
  const Architecture* architecture = nullptr;
  uint64_t layers = 0;
  std::vector<ExpectedTensor> tensors;
};

// Of its classes, each once, that of the config's first: files of one class are read as another's. At least one.
std::vector<std::string_view> PrefixesOf(const Architecture& architecture, const ModelConfig* config);

// nullopt: the architecture is not known, or the config does not give its sizes. Memory: by the architecture's table,
// and kMaxLayers bits for a rule.
std::optional<ExpectedModel> Expect(const ModelConfig& config);

// The parts of the tensors of all its configs and classes, by their names with "*" for every number.
std::map<std::string, Part, std::less<>> PartsByPattern(const Architecture& architecture);
// The name with "*" in place of each of its components that is a number.
std::string NumberPattern(std::string_view name);

// Compares what the config predicts with what is there, and appends what differs: tensors missing, of another shape, or
// not known to the architecture, one problem for each kind; a note for a head that is tied. Nothing for unknown
// architectures and for quantised checkpoints. O(tensors log tensors), whatever the config says.
void CompareWithConfig(const ModelConfig& config, const Catalogue& tensors, const std::string& file,
                       std::vector<Problem>* problems);

}  // namespace sluice::checkpoint
