// Method: a way of merging, as data. Its metadata drives validation, help, the documentation and the contract test; its
// Build makes the node of one tensor. One file in methods/ adds one (methods/NAME.cc, found by the build).
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace sluice::merge {

enum class Arithmetic {
  kExact,     // inputs as stored, everything in f32, one rounding
  kMergekit,  // as mergekit 0.1.4 computes on a CPU: docs/mergekit_arithmetic.md
};

enum class ParameterScope {
  kModel,   // of each model; the recipe's top level gives what a model leaves out
  kRecipe,  // of the whole recipe, at its top level only
};

enum class ParameterType {
  kNumber,
  kBool,           // true, false, 1, 0
  kBoolOrDensity,  // the same, or the word "density"
};

struct ParameterInfo {
  std::string_view name;
  ParameterScope scope = ParameterScope::kModel;
  ParameterType type = ParameterType::kNumber;
  double min = -std::numeric_limits<float>::max();  // arithmetic is in f32
  double max = std::numeric_limits<float>::max();
  std::optional<double> default_value = std::nullopt;  // none: required; booleans are 0 and 1
  bool used = true;                                    // false: accepted with a note, changes no number
  std::string_view help;
};

// The word "density" as a value of a kBoolOrDensity.
constexpr double kDensityWord = 2;

// Values of a method's parameters, in the order of its metadata; those of the other scope hold their defaults.
using ParameterValues = std::vector<double>;

struct ModelInput {
  const graph::Node* node;  // F32, of the base's number of elements
  const ParameterValues* parameters;
  uint64_t first_draw = 0;  // kMergekit: where this tensor's and model's draws begin in torch's stream
};

struct BuildArgs {
  graph::Graph* graph;
  std::string_view tensor_name;        // the output's
  std::span<const uint64_t> shape;     // the output's, and every input's
  const graph::Node* base;             // F32; null where the method uses none
  std::span<const ModelInput> models;  // in recipe order, without a base that the method uses
  const ParameterValues* parameters;   // of the recipe
  uint64_t seed;
  quant::Encoding working = {};  // kMergekit: what is computed in; the inputs' values are exact in it
};

struct Method {
  std::string_view name;
  std::string_view summary;      // one line
  std::string_view formula;      // plain text, a few lines
  std::string_view paper;        // authors, title, identifier, equation
  std::string_view differences;  // from mergekit, deliberate ones
  std::vector<ParameterInfo> parameters;
  bool needs_base = false;
  bool takes_base = false;                  // without needing one: where a recipe names it, it is not one of the models
  uint32_t min_models = 1, max_models = 0;  // beside a base that is used; 0: any number
  // Working memory: bytes for each element under way and each input (a worker has kPieceElements under way).
  uint32_t bytes_per_element = 4;

  // The tensor's node, F32. Cheap, no I/O, thread-safe.
  const graph::Node* (*build)(const BuildArgs& args) = nullptr;
  // The same in Arithmetic::kMergekit: values that are exact in args.working. Null: refused in that arithmetic.
  const graph::Node* (*build_as_mergekit)(const BuildArgs& args) = nullptr;
  // kMergekit: how many words of torch's stream a model draws for a tensor. Null: none.
  uint64_t (*num_draws)(const ParameterValues& model, uint64_t num_elements) = nullptr;
  // kMergekit: where the recipe names no dtype, models are computed in the base's (else in what torch promotes to).
  bool casts_to_base = false;
  // kMergekit: where the recipe names no dtype, all models must be of one type: steps are rounded to several otherwise.
  bool takes_one_type = false;
  // kMergekit: what is written is F32, whatever it was computed in, unless the recipe names an out_dtype.
  bool makes_f32 = false;
  // What is wrong with merging a tensor of num_elements by a model's parameters, or empty. Null: nothing can be.
  std::string (*check_tensor)(const ParameterValues& model, uint64_t num_elements) = nullptr;
  // kMergekit: the same of what that arithmetic alone cannot do with a tensor of this shape. Null: nothing.
  std::string (*check_as_mergekit)(const ParameterValues& model, std::span<const uint64_t> shape) = nullptr;
  // What is wrong with the values of all models together, or empty. Null: nothing can be.
  std::string (*check_models)(std::span<const ParameterValues> models, const ParameterValues& recipe) = nullptr;

  const ParameterInfo* Find(std::string_view parameter) const;
  size_t Index(std::string_view parameter) const;  // CHECKs that there is one
  double Get(const ParameterValues& values, std::string_view parameter) const { return values[Index(parameter)]; }
};

// All methods of the build, by name.
std::span<const Method* const> AllMethods();
// Null where there is none.
const Method* FindMethod(std::string_view name);
// mergekit's methods that this version does not do.
std::span<const std::string_view> UnsupportedMethods();

// The page of docs/methods/NAME.md.
std::string MethodPage(const Method& method);

}  // namespace sluice::merge
