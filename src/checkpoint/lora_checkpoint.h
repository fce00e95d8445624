// A checkpoint with a PEFT adapter (LoRA) applied to it: what merge_and_unload() gives, as nodes. docs/lora.md.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/model_ref.h"

namespace sluice::checkpoint {

// Names, shapes, config and side files are the base's. A tensor that the adapter changes is a plain float: the base's
// own where it is F32, F16 or BF16, else config.json's torch_dtype, BF16 where that names none. Every tensor of the
// adapter has a place in the base, or it is an error.
//
// `folder` holds adapter_config.json and adapter_model.safetensors or adapter_model.bin; `ref` is what the user wrote
// for the whole. kNotFound, kCorrupt (file, tensor, shapes), kUnsupported (DoRA and other variants, by name).
Result<std::shared_ptr<const Checkpoint>> ApplyLora(const std::string& ref, std::shared_ptr<const Checkpoint> base,
                                                    const std::string& folder, const OpenOptions& options);

// Whether the model's linear layers store their weights as [in, out], so that an adapter's product is transposed
// (GPT-2's Conv1D); by its config's model_type.
bool HasTransposedLayers(const Checkpoint& model);

// REF+LORA as two: the last + whose right side is there, else the last of all. Nullopt where there is none between two
// names.
struct LoraReference {
  std::string base, adapter;
};
std::optional<LoraReference> SplitLoraReference(const std::string& ref);

}  // namespace sluice::checkpoint
