// A reference to a model as people write it, and the table of openers that turns it into a checkpoint.
//
// The table is filled by cli/, so that rooms above (merge's recipes) are opened through the same call without being
// included from here. docs of the forms: README, "Naming a model".
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/memory_budget.h"
#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "io/byte_source.h"

namespace sluice::checkpoint {

struct OpenOptions;

// Returns nullopt where `ref` is not of its kind.
using Opener =
    std::function<std::optional<Result<std::shared_ptr<const Checkpoint>>>(const std::string& ref, const OpenOptions&)>;

struct OpenOptions {
  io::SourceFactory open_source = io::OpenFile;
  std::vector<Opener> openers;            // asked in order, before the built-in folder, safetensors and GGUF
  std::optional<uint64_t> seed;           // --seed: for references that are recipes
  std::optional<std::string> arithmetic;  // --arithmetic
  quant::Encoding lora_merge_dtype = {};  // --lora-merge-dtype, for recipes in mergekit's arithmetic; may be invalid
  // What REF of REF+LORA is cast to before the adapter is applied: set by recipes for their models. Invalid: each
  // tensor stays as it is stored.
  quant::Encoding adapted_dtype = {};
};

// kNotFound, kCorrupt (with file, tensor, byte), kUnsupported (remote, kinds of LoRA: named).
Result<std::shared_ptr<const Checkpoint>> OpenCheckpoint(const std::string& ref, const OpenOptions& options);

// Where a reference's files are: itself where there is such a path, else the snapshot in the hub cache. kNotFound as
// OpenCheckpoint, kUsage for a recipe and what else has no files of its own. Opens nothing.
Result<std::string> LocalPathOf(const std::string& ref);

// The built-in kinds.
Result<std::shared_ptr<const Checkpoint>> OpenFolder(const std::string& path, const OpenOptions& options);
Result<std::shared_ptr<const Checkpoint>> OpenSafetensorsFile(const std::string& path, const OpenOptions& options);
Result<std::shared_ptr<const Checkpoint>> OpenTorchFile(const std::string& path, const OpenOptions& options);
Result<std::shared_ptr<const Checkpoint>> OpenIndex(const std::string& path, const OpenOptions& options);
Result<std::shared_ptr<const Checkpoint>> OpenGguf(const std::string& path, const OpenOptions& options);

}  // namespace sluice::checkpoint
